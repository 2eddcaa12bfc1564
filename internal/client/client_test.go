package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

const testKey = "avk_test_planted_Secret0123456789"

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, base string) *Client {
	t.Helper()
	c, err := New(Config{URL: base, Key: secret.Text(testKey), Agent: "avouch/test", Timeout: time.Minute, Silence: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"https://avouch.example", "https://avouch.example:8443/", "https://avouch.example/under/a/path", "http://127.0.0.1:8080", "http://localhost:1",
		"http://[::1]:8080", "http://api.localhost", "http://127.9.9.9", "http://[::ffff:127.0.0.1]:1",
	} {
		if _, err := New(Config{URL: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "avouch.example", "127.0.0.1:8080", "ftp://avouch.example", "https://", "https://:443", "http://avouch.example", "http://10.0.0.1", "http://0.0.0.0",
		"http://127.0.0.1.example", "http://localhost.example", "https://user:planted@avouch.example", "https://avouch.example?key=planted",
		"https://avouch.example#planted", "https://avouch.example/?", "http://[::1%25eth0", "https://planted\x7f.example",
	} {
		_, err := New(Config{URL: bad})
		var s *Setting
		if !errors.As(err, &s) {
			t.Errorf("%q is accepted, or refused with %v", bad, err)
		} else if strings.Contains(s.Error(), "planted") {
			t.Errorf("%q: the error quotes it: %v", bad, err)
		}
	}
	for _, key := range []string{"two words", "line\nbreak", "ключ"} {
		if _, err := New(Config{URL: "https://avouch.example", Key: secret.Text(key)}); err == nil {
			t.Errorf("the key %q is accepted", key)
		}
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("ETag", `"7"`)
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]string{
			"method": r.Method, "uri": r.RequestURI, "body": string(body), "auth": r.Header.Get("Authorization"), "type": r.Header.Get("Content-Type"),
			"agent": r.UserAgent(), "match": r.Header.Get("If-Match"),
		})
	})
	a, err := newClient(t, s.URL+"/base/").Do(t.Context(), Call{
		Method: "PUT", Path: []string{"api", "v1", "a/b", "..", "ü"}, Query: url.Values{"q": {"x y"}}, Header: http.Header{"If-Match": {`"7"`}},
		Body: map[string]int{"n": 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := a.Into(&got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"method": "PUT", "uri": "/base/api/v1/a%2Fb/%2E%2E/%C3%BC?q=x+y", "body": `{"n":1}`, "auth": "Bearer " + testKey, "type": "application/json",
		"agent": "avouch/test", "match": `"7"`,
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s = %q; want %q", name, got[name], v)
		}
	}
	if a.Status != http.StatusCreated || a.Header.Get("ETag") != `"7"` {
		t.Errorf("status %d, header %v", a.Status, a.Header)
	}
	if err := a.Into(&[]int{}); err == nil || strings.Contains(err.Error(), testKey) {
		t.Errorf("an unexpected form: %v", err)
	}
	if _, err := newClient(t, s.URL).Do(t.Context(), Call{Path: []string{"api", "v1", "agents", "", "revoke"}}); err == nil {
		t.Error("an empty identifier leads to another operation")
	}
}

func TestNoRedirect(t *testing.T) {
	t.Parallel()
	reached := make(chan string, 1)
	other := serve(t, func(_ http.ResponseWriter, r *http.Request) { reached <- r.Header.Get("Authorization") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/planted?token=planted", status)
		})
		_, err := newClient(t, s.URL).Do(t.Context(), Call{Path: []string{"x"}})
		var p *Problem
		if !errors.As(err, &p) || p.Status != status || !strings.Contains(p.Detail, "Redirects are not followed") || strings.Contains(p.Error(), "planted") {
			t.Errorf("%d: %v", status, err)
		}
	}
	select {
	case <-reached:
		t.Error("a redirect was followed")
	default:
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		status  int
		media   string
		body    string
		kind    problem.Kind
		says    string
		known   bool
		passing bool
	}{
		{"document", 404, "application/problem+json", `{"type":"https://a.example/problems/missing","title":"None","status":404,"detail":"No such.","request_id":"r1"}`, problem.Missing, "None: No such.", true, false},
		{"another kind than the status", 400, "application/problem+json; charset=utf-8", `{"type":"/problems/too-many","title":"Slow"}`, problem.TooMany, "Slow", true, true},
		{"an unknown kind", 409, "application/problem+json", `{"type":"about:blank","title":"Odd","later":{"x":1}}`, problem.Conflict, "Odd", true, false},
		{"a page of a proxy", 502, "text/html", `<h1>planted</h1>`, problem.Internal, "502 Bad Gateway", false, true},
		{"a page for 404", 404, "text/html", ``, problem.Missing, "404 Not Found", false, false},
		{"half a document", 403, "application/problem+json", `{"type":`, problem.Denied, "403 Forbidden", false, false},
		{"a status of its own", 418, "text/plain", ``, problem.Invalid, "418", false, false},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.media)
			w.Header().Set("X-Request-Id", "r0")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		_, err := newClient(t, s.URL).Do(t.Context(), Call{Path: []string{"x"}})
		var p *Problem
		if !errors.As(err, &p) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p.Kind != c.kind || p.Status != c.status || !strings.Contains(p.Error(), c.says) || p.Known != c.known || p.Passing() != c.passing {
			t.Errorf("%s: %+v", c.name, p)
		}
		if p.RetryAfter != 7*time.Second || p.RequestID == "" || strings.Contains(p.Error(), "planted") {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := newClient(t, s.URL)
	for _, want := range []string{"broke before the answer was complete", "the connection was refused"} {
		_, err := c.Do(t.Context(), Call{Path: []string{"x"}})
		var u *Unreachable
		if !errors.As(err, &u) || u.Host != s.Listener.Addr().String() || !strings.Contains(u.Error(), want) {
			t.Errorf("%v; want that it says %q", err, want)
		}
		s.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, Call{Path: []string{"x"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestErrorsTellNoSecret(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("q") == "cut" {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, r.Header.Get("Authorization"), r.RequestURI)
	})
	c := newClient(t, s.URL)
	for _, q := range []url.Values{{"q": {"cut"}, "p": {"planted"}}, {"p": {"planted"}}} {
		_, err := c.Do(t.Context(), Call{Path: []string{"x"}, Query: q})
		if err == nil {
			t.Fatal("no error")
		}
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", c.cfg.Key)} {
			if strings.Contains(text, "planted") {
				t.Errorf("it tells: %s", text)
			}
		}
	}
}

func TestSlowServer(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	c := newClient(t, s.URL)
	c.cfg.Timeout = 50 * time.Millisecond
	start := time.Now()
	_, err := c.Do(t.Context(), Call{Path: []string{"x"}})
	var u *Unreachable
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	c := newClient(t, s.URL)
	if _, err := c.Do(t.Context(), Call{Path: []string{"x"}}); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("%v", err)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	slowly := 5 * time.Second // much, for the machine may stand still for a while
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slowly": // longer altogether than any single silence may be
			for range 6 {
				io.WriteString(w, "part ")
				w.(http.Flusher).Flush()
				time.Sleep(slowly / 4)
			}
		case "/silent":
			io.WriteString(w, "part ")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	c := newClient(t, s.URL)
	c.cfg.Silence = slowly
	read := func(path string) (string, error) {
		body, err := c.Download(t.Context(), Call{Path: []string{path}}, "*/*")
		if err != nil {
			return "", err
		}
		defer body.Close()
		b, err := io.ReadAll(body)
		return string(b), err
	}
	if got, err := read("slowly"); err != nil || got != strings.Repeat("part ", 6) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := read("silent"); err == nil || got != "part " || !strings.Contains(err.Error(), "silent") {
		t.Errorf("%q, %v", got, err)
	}
	var p *Problem
	if _, err := read("refused"); !errors.As(err, &p) {
		t.Errorf("%v", err)
	}
}
