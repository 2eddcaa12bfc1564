package password

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

// endpoint answers as one of the range protocol does, with padding, for the passwords that it counts, and remembers the requests.
type endpoint struct {
	*httptest.Server
	asked atomic.Pointer[http.Request]
}

func newEndpoint(t *testing.T, counts map[string]int) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Store(r)
		prefix := strings.TrimPrefix(r.URL.Path, "/range/")
		for i := range 800 {
			fmt.Fprintf(w, "%035X:%d\r\n", i, i%3)
		}
		for p, count := range counts {
			if name := digits(p); name[:5] == prefix {
				fmt.Fprintf(w, "%s:%d\r\n", name[5:], count)
			}
		}
		fmt.Fprint(w, "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:1")
	}))
	t.Cleanup(e.Close)
	return e
}

func digits(p string) string {
	d := sha1Of([]byte(p))
	return strings.ToUpper(hex.EncodeToString(d[:]))
}

func known(t *testing.T, b *Breached, plain string) bool {
	t.Helper()
	yes, err := b.Known(t.Context(), secret.Text(plain))
	must(t, err)
	return yes
}

func lists(t *testing.T, cfg BreachedConfig) *Breached {
	t.Helper()
	b, err := OpenBreached(cfg)
	must(t, err)
	if b.ranges != nil && cfg.Transport == nil {
		b.ranges.patience = time.Minute // a machine may stand still for seconds
	}
	return b
}

const (
	snail = "the snail wore a hat"
	plum  = "ripe plum 42 canoe"
)

// TestRangeProtocol: the endpoint is told five digits and nothing else, asked to pad, and a line of padding is none.
func TestRangeProtocol(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, map[string]int{horse: 5, snail: 0})
	b := lists(t, BreachedConfig{URL: e.URL + "/range/", Required: true})
	if !known(t, b, horse) || known(t, b, plum) || known(t, b, snail) || b.Failed() != 0 {
		t.Error("the endpoint is misread")
	}
	r := e.asked.Load()
	if r.Method != http.MethodGet || r.URL.String() != "/range/"+digits(snail)[:5] || r.Header.Get("Add-Padding") != "true" || r.Header.Get("User-Agent") != "avouch" || r.ContentLength > 0 {
		t.Errorf("it was asked %s %s, %v", r.Method, r.URL, r.Header)
	}
	for name := range r.Header {
		if name != "Add-Padding" && name != "User-Agent" && name != "Accept-Encoding" {
			t.Errorf("it was told %s", name)
		}
	}
	if known(t, b, "Password1234!") != true || e.asked.Load() != r {
		t.Error("it is asked of what is known here")
	}
	if yes := known(t, b, "пять старых велосипедов"); yes || e.asked.Load() == r {
		t.Error("it is not asked again")
	}
}

// TestEndpointFails: whatever is wrong with an endpoint, the rest decides, the failure is counted and logged without the prefix; or
// nothing is taken, if the operator wants that.
func TestEndpointFails(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	prefix, rest := digits(plum)[:5], digits(plum)[5:]
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	answers := map[string]http.HandlerFunc{
		"an error":        func(w http.ResponseWriter, _ *http.Request) { http.Error(w, rest+":1", http.StatusTooManyRequests) },
		"a page":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>\n"+rest+":1") },
		"nothing":         func(http.ResponseWriter, *http.Request) {},
		"a redirect":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) },
		"half a line":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%035X:1\n%s", 1, rest[:20]) },
		"an endless body": func(w http.ResponseWriter, _ *http.Request) { endless(w) },
		"a broken body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4000")
			fmt.Fprintf(w, "%035X:1\n", 1)
		},
	}
	urls := map[string]string{"nobody": closed.URL}
	for what, answer := range answers {
		s := httptest.NewServer(answer)
		defer s.Close()
		urls[what] = s.URL
	}
	for what, address := range urls {
		var logged bytes.Buffer
		cfg := BreachedConfig{URL: address + "/range", Log: slog.New(slog.NewTextHandler(&logged, nil))}
		b := lists(t, cfg)
		if known(t, b, plum) || b.Failed() != 1 || !strings.Contains(logged.String(), "level=WARN") {
			t.Errorf("%s: %d failures, logged %s", what, b.Failed(), logged.String())
		}
		cfg.Required = true
		err := New(Config{Breached: lists(t, cfg)}).Check(t.Context(), secret.Text(plum))
		e := problem.Of(err)
		if e == nil || e.Kind != problem.Unavailable || e.RetryAfter == 0 {
			t.Errorf("%s, and it is required: %v", what, err)
		}
		for _, text := range []string{logged.String(), fmt.Sprint(err)} {
			if strings.Contains(text, prefix) || strings.Contains(text, rest[:20]) {
				t.Errorf("%s: the prefix is told: %s", what, text)
			}
		}
		if !known(t, lists(t, cfg), "Password1234!") {
			t.Errorf("%s: the built-in list does not decide", what)
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect is followed")
	}
}

func endless(w http.ResponseWriter) {
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "%035X:1\n", i); err != nil {
			return
		}
	}
}

// TestEndpointIsBounded: an endpoint that says nothing is waited for three seconds, and a caller who goes is not held.
func TestEndpointIsBounded(t *testing.T) {
	t.Parallel()
	deadline := make(chan time.Duration, 1)
	silent := transport(func(r *http.Request) (*http.Response, error) {
		until, _ := r.Context().Deadline()
		deadline <- time.Until(until)
		return nil, context.DeadlineExceeded
	})
	b := lists(t, BreachedConfig{URL: "https://passwords.example/range", Transport: silent})
	if known(t, b, plum) || b.Failed() != 1 {
		t.Error("a silent endpoint knows a password")
	}
	if d := <-deadline; d > 3*time.Second {
		t.Errorf("it is waited for %v", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hangs := transport(func(r *http.Request) (*http.Response, error) {
		cancel()
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	b = lists(t, BreachedConfig{URL: "https://passwords.example/range", Transport: hangs})
	if _, err := b.Known(ctx, secret.Text(plum)); !errors.Is(err, context.Canceled) || b.Failed() != 0 {
		t.Errorf("who goes is told %v", err)
	}
}

type transport func(*http.Request) (*http.Response, error)

// RoundTrip answers.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// TestUnfitLists are refused at the start.
func TestUnfitLists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	must(t, os.WriteFile(text, []byte(strings.Repeat("not a filter file\n", 10)), 0o600))
	for why, cfg := range map[string]BreachedConfig{
		"in the clear": {URL: "http://passwords.example/range"}, "in the clear, like loopback": {URL: "http://127.0.0.1.example/range"}, "no address": {URL: "passwords.example"},
		"another scheme": {URL: "file:///etc/passwd"}, "an account": {URL: "https://ada:secret@passwords.example/range"}, "a query": {URL: "https://passwords.example/range?a=b"},
		"required and none": {Required: true}, "no file": {File: filepath.Join(dir, "none")}, "no filter file": {File: text}, "a directory": {File: dir}, "a device": {File: "/dev/zero"},
	} {
		if _, err := OpenBreached(cfg); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", why, err)
		}
	}
	for _, fit := range []string{"https://passwords.example/range", "http://127.0.0.1:8000/range", "http://[::1]/range", "http://localhost:80/"} {
		if _, err := OpenBreached(BreachedConfig{URL: fit}); err != nil {
			t.Errorf("%s: %v", fit, err)
		}
	}
}

func FuzzRangeAnswer(f *testing.F) {
	rest := digits(horse)[5:]
	f.Add([]byte(rest + ":3\r\n"))
	f.Add([]byte(fmt.Sprintf("%035X:0\r\n%s:0", 7, rest)))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := inAnswer(body, rest)
		if found && err != nil {
			t.Error("a faulty answer knows a password")
		}
		if found && !bytes.Contains(bytes.ToUpper(body), []byte(rest+":")) {
			t.Errorf("%q knows a password that it does not have", body)
		}
		if err == nil && bytes.HasSuffix(body, []byte("\n")) {
			more, err := inAnswer(append(body[:len(body):len(body)], rest+":1\n"...), rest)
			if len(body) < mostAnswer-50 && (!more || err != nil) {
				t.Errorf("behind %q a line is not found: %v", body, err)
			}
		}
	})
}
