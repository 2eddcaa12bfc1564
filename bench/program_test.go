package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := start(t.Context(), dir, "good", []string{"WHERE=127.0.0.1:4711"}, "/bin/sh", "-c", `echo "{\"url\":\"http://$WHERE\"}"; exec sleep 60`)
	if err != nil {
		t.Fatal(err)
	}
	if p.target.String() != "127.0.0.1:4711" || p.took <= 0 || memory(p.pid()) <= 0 {
		t.Errorf("at %v after %v with %d bytes", p.target, p.took, memory(p.pid()))
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if memory(p.pid()) != 0 {
		t.Error("it still runs")
	}
	for name, script := range map[string]string{
		"ends": "echo why >&2; exit 1", "talks": "echo why >&2; echo secret; exec sleep 60", "is nowhere": `echo why >&2; echo '{"url":"http://host/"}'`,
	} {
		_, err := start(t.Context(), dir, "bad", nil, "/bin/sh", "-c", script)
		if err == nil || !strings.Contains(err.Error(), "why") || strings.Contains(err.Error(), "secret") {
			t.Errorf("a program that %s: %v", name, err)
		}
	}
}

func TestEach(t *testing.T) {
	t.Parallel()
	var sum atomic.Int64
	err := each(t.Context(), 1000, func(_ context.Context, i int) error { sum.Add(int64(i)); return nil })
	if err != nil || sum.Load() != 499_500 {
		t.Error(sum.Load(), err)
	}
	broken := errors.New("broken")
	var calls atomic.Int64
	err = each(t.Context(), 1_000_000, func(_ context.Context, i int) error {
		calls.Add(1)
		if i == 40 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || calls.Load() > 100_000 {
		t.Error(calls.Load(), err)
	}
}

func TestClientSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			http.Error(w, `{"detail":"no"}`, http.StatusForbidden)
			return
		}
		w.Header().Set("ETag", `"7"`)
		_, _ = io.WriteString(w, `{"agent_id":"a","token":"t"}`)
	}))
	defer s.Close()
	c := newClient(s.URL)
	if a, err := c.register(t.Context(), "good", "n"); err != nil || a != (agent{"a", "t"}) {
		t.Error(a, err)
	}
	_, err := c.register(t.Context(), "bad-key", "n")
	if err == nil || !strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), `"no"`) || strings.Contains(err.Error(), "bad-key") {
		t.Error(err)
	}
}

func TestChore(t *testing.T) {
	t.Parallel()
	var pages atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pages.Add(1); r.URL.Query().Get("cursor") == "" {
			_, _ = io.WriteString(w, `{"entries":[{},{}],"next_cursor":"more/="}`)
			return
		}
		if r.URL.Query().Get("cursor") != "more/=" {
			t.Error(r.URL.String())
		}
		_, _ = io.WriteString(w, `{"entries":[{}]}`)
	}))
	defer s.Close()
	r := walks(&scene{}).run(t.Context(), s.URL)
	for pages.Load() < 10 {
		time.Sleep(time.Millisecond)
	}
	done, err := r.stop()
	if err != nil || done["pages"] < 9 || done["entries"] < 13 {
		t.Error(done, err)
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	defer closed.Close()
	if _, err := exports(&scene{neighbour: make([]neighbour, 1)}).run(t.Context(), closed.URL).wait(); err == nil {
		t.Error("a log that is not there was exported")
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	got, err := parseStat([]byte("42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 20 5 20 0 1 0 100 1 1\n"))
	if err != nil || got != (procTimes{7, 2 * time.Second, 250 * time.Millisecond}) {
		t.Error(got, err)
	}
	for _, bad := range []string{"", "42 (x) S 7", "42 (x) S x 42 42 0 -1 4194560 1 2 3 4 150 50 20 5 20", "42 (x) S 7 42 42 0 -1 4194560 1 2 3 4 150 x 20 5 20"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if got := statusBytes([]byte("Name:\tx\nVmRSS:\t  1234 kB\n"), "VmRSS"); got != 1234<<10 {
		t.Error(got)
	}
	self, err := procOf(os.Getpid())
	if err != nil || self.parent != os.Getppid() {
		t.Error(self, err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse(nil, io.Discard)
	if err != nil || o.rounds != 5 || o.out != "docs/measurements" || o.busy || !o.only.MatchString("anything") {
		t.Error(o, err)
	}
	if o, err = parse([]string{"-quick"}, io.Discard); err != nil || o.rounds != 1 || o.out != "" || !o.busy {
		t.Error(o, err)
	}
	if o, err = parse([]string{"-quick", "-out", "there"}, io.Discard); err != nil || o.out != "there" {
		t.Error(o, err)
	}
	for _, bad := range [][]string{{"-rounds", "0"}, {"-only", "("}, {"more"}, {"-cell", "0s"}, {"-nonsense"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	if err := command(t.Context(), []string{"-bin", "/nowhere/avouch"}, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
	if err := command(t.Context(), []string{"-h"}, nil, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
}
