package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPeopleDocument pastes docs/people.md, and docs/sso.md behind it, into a shell beside a fresh `avouch dev`: every block of
// commands in its order, and what they print must be what the page shows. What the page calls by a name in capitals is put in, as a reader does: the link of a mail,
// the code of an authenticator app, the question that an approval system is sent.
func TestPeopleDocument(t *testing.T) {
	t.Parallel()
	needs(t, "bash", "curl", "openssl", "sed", "od")
	r := newPeopleReader(t)
	pages := contents(t, "../../docs/people.md") + contents(t, "../../docs/sso.md")
	blocks := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(pages, -1)
	run := 0
	for _, b := range blocks {
		switch b[1] {
		case "sh":
			r.shows(nil)
			r.run(b[2])
			run++
		case "json":
			r.shows(strings.Split(strings.TrimSpace(b[2]), "\n"))
		case "question":
			r.question(b[2])
		default:
			t.Errorf("the pages have a block of %q that this test does not know", b[1])
		}
	}
	if r.shows(nil); run < 20 {
		t.Errorf("the pages have %d blocks of commands only", run)
	}
}

// peopleReader is somebody who reads the page, with a shell, a mailbox, a telephone, and a system that approves.
type peopleReader struct {
	t       testing.TB
	url     string
	dir     string
	in      io.Writer
	out     *lockedBuffer
	ended   chan struct{}
	printed []string // by the last block, and not looked at yet
	seed    string
	step    int64
	mails   map[string]bool // that were read
	hook    string
	asked   chan *http.Request
	headers http.Header
}

// lockedBuffer is written by one and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newPeopleReader(t *testing.T) *peopleReader {
	t.Helper()
	r := &peopleReader{t: t, dir: t.TempDir(), out: &lockedBuffer{}, ended: make(chan struct{}), mails: map[string]bool{}, asked: make(chan *http.Request, 16)}
	cert, key, _ := selfSigned(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	must(t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case r.asked <- req:
		default:
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	r.hook = s.URL + "/avouch"
	_, started := dev(t, scratch(t), launch{env: []string{"AVOUCH_OUTBOUND_NETWORKS=127.0.0.0/8", "AVOUCH_OUTBOUND_CA_FILE=" + cert}})
	r.url = started.URL
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail")
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, r.out, r.out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "TMPDIR=" + os.TempDir()}
	r.in, err = cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	go func() { defer close(r.ended); _ = cmd.Wait() }() // how it ended is in what it printed
	return r
}

// run types a block, with what its names in capitals stand for, and keeps what it prints.
func (r *peopleReader) run(block string) {
	r.t.Helper()
	block = strings.NewReplacer("http://localhost:7070", r.url, "https://approvals.example/avouch", r.hook,
		"QUESTION_ID", r.headers.Get("webhook-id"), "QUESTION_TIMESTAMP", r.headers.Get("webhook-timestamp"), "QUESTION_SIGNATURE", r.headers.Get("webhook-signature")).Replace(block)
	done := fmt.Sprintf("-- done %d --", time.Now().UnixNano())
	var typed strings.Builder
	name := regexp.MustCompile(`LINK_TO_[A-Z]+|CODE_OF_THE_APP`)
	for line := range strings.Lines(block) { // one after the other: the mail that a line needs is sent by one before
		if name.MatchString(line) {
			r.enter(typed.String())
			typed.Reset()
		}
		typed.WriteString(name.ReplaceAllStringFunc(line, r.named))
	}
	r.enter(typed.String() + "echo '" + done + "'\n")
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(r.out.String(), done); time.Sleep(5 * time.Millisecond) {
		select {
		case <-r.ended:
			r.t.Fatalf("the shell ended with\n%s\nwhere it was given\n%s", r.out.String(), block)
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("this does not end, with %s:\n%s", r.out.String(), block)
		}
	}
	text, _, _ := strings.Cut(r.out.String(), done)
	r.out.mu.Lock()
	r.out.b.Reset()
	r.out.mu.Unlock()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			r.printed = append(r.printed, line)
		}
	}
	if found := regexp.MustCompile(`"secret":"([A-Z2-7 ]+)"`).FindStringSubmatch(text); found != nil {
		r.seed = found[1]
	}
}

func (r *peopleReader) enter(text string) {
	r.t.Helper()
	_, err := io.WriteString(r.in, text)
	must(r.t, err)
}

func (r *peopleReader) named(name string) string {
	r.t.Helper()
	if name == "CODE_OF_THE_APP" {
		return r.code()
	}
	return r.link(strings.ToLower(strings.TrimPrefix(name, "LINK_TO_")) + "@example.com")
}

// code is one that did not count yet, as late as may be: a code counts a step early.
func (r *peopleReader) code() string {
	r.t.Helper()
	for r.step++; time.Now().Unix()/30+1 < r.step; time.Sleep(100 * time.Millisecond) {
	}
	r.step = max(r.step, time.Now().Unix()/30)
	return codeOf(r.t, r.seed, r.step)
}

// link waits for a mail to somebody that was not read yet and has a link, which must be good for a while.
func (r *peopleReader) link(to string) (link string) {
	r.t.Helper()
	page := func(path string) string { return string(want(r.t, 200, http.MethodGet, r.url+path, "", nil, nil).body) }
	eventually(r.t, "mail with a link to "+to, func() bool {
		for _, found := range regexp.MustCompile(`href="(/dev/inbox/\d+)"`).FindAllStringSubmatch(page("/dev/inbox"), -1) {
			text := html.UnescapeString(page(found[1]))
			in := regexp.MustCompile(`#link=(avl_[a-z2-7]+)`).FindStringSubmatch(text)
			if in == nil || r.mails[found[1]] || !strings.Contains(text, to) {
				continue
			}
			r.mails[found[1]] = true
			until, err := time.Parse("until "+time.RFC1123, regexp.MustCompile(`until \w+, [^\n<.]+ UTC`).FindString(text))
			if left := time.Until(until); err != nil || left < 20*time.Minute {
				r.t.Errorf("the link to %s is said to be good until %s: %v", to, until, err)
			}
			link = in[1]
			return true
		}
		return false
	})
	return link
}

// question waits for what the approval system is sent.
func (r *peopleReader) question(shown string) {
	r.t.Helper()
	select {
	case req := <-r.asked:
		body, err := io.ReadAll(req.Body)
		must(r.t, err)
		r.headers = req.Header
		must(r.t, os.WriteFile(filepath.Join(r.dir, "question.json"), body, 0o600))
		r.printed = []string{string(body)}
		r.shows([]string{strings.TrimSpace(shown)})
	case <-time.After(time.Minute):
		r.t.Fatal("the approval system was not asked")
	}
}

// shows compares what the last block printed with what the page shows; nil where it shows nothing, and nothing is expected.
func (r *peopleReader) shows(lines []string) {
	r.t.Helper()
	if lines == nil {
		if len(r.printed) > 0 {
			r.t.Errorf("the page does not show what its commands print: %s", r.printed)
		}
		r.printed = nil
		return
	}
	if len(lines) != len(r.printed) {
		r.t.Fatalf("the page shows %d lines, and %d were printed: %s", len(lines), len(r.printed), strings.Join(r.printed, "\n"))
	}
	for i, line := range lines {
		var shown, printed any
		if json.Unmarshal([]byte(line), &shown) != nil { // a part of an answer
			shown, printed = line+"...", r.printed[i]
		} else if err := json.Unmarshal([]byte(r.printed[i]), &printed); err != nil {
			r.t.Errorf("no JSON: %s", r.printed[i])
		}
		if where := differs(shown, printed); where != "" {
			r.t.Errorf("the page shows\n%s\nand printed is\n%s\nwhich differs in %s", line, r.printed[i], where)
		}
	}
	r.printed = nil
}

// differs says where what was printed is not as shown: a text that ends in ... may go on in any way, and members of an object may be
// left out.
func differs(shown, printed any) string {
	switch s := shown.(type) {
	case map[string]any:
		p, is := printed.(map[string]any)
		for name, v := range s {
			value, there := p[name]
			if where := differs(v, value); !is || !there || where != "" {
				return name + " " + where
			}
		}
		return ""
	case []any:
		p, is := printed.([]any)
		if !is || len(p) != len(s) {
			return fmt.Sprintf("[%d and not %d]", len(p), len(s))
		}
		for i := range s {
			if where := differs(s[i], p[i]); where != "" {
				return fmt.Sprintf("[%d] %s", i, where)
			}
		}
		return ""
	case string:
		p, is := printed.(string)
		if head, open := strings.CutSuffix(s, "..."); is && (p == s || open && strings.HasPrefix(p, head)) {
			return ""
		}
	default:
		if shown == printed {
			return ""
		}
	}
	return fmt.Sprintf("(%v and not %v)", printed, shown)
}
