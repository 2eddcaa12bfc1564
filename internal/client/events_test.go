package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

func collect(t *testing.T, r io.Reader) (all []Event, retry time.Duration, err error) {
	t.Helper()
	for e, fault := range events(r, func(d time.Duration) { retry = d }) {
		if fault != nil {
			return all, retry, fault
		}
		all = append(all, e)
	}
	return all, retry, nil
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stream string
		want         []Event
	}{
		{"empty", "", nil},
		{"one", "id: 4\nevent: entry\ndata: {}\n\n", []Event{{"4", "entry", []byte("{}")}}},
		{"no name", "data: x\n\n", []Event{{"", "message", []byte("x")}}},
		{"CR LF", "event: a\r\ndata: x\r\n\r\ndata: y\r\n\r\n", []Event{{"", "a", []byte("x")}, {"", "message", []byte("y")}}},
		{"CR", "data: x\r\rdata: y\r\r", []Event{{"", "message", []byte("x")}, {"", "message", []byte("y")}}},
		{"several lines", "data: a\ndata:\ndata: b\n\n", []Event{{"", "message", []byte("a\n\nb")}}},
		{"comments and strangers", ": beat\n\nfoo: bar\ndata: x\n\n", []Event{{"", "message", []byte("x")}}},
		{"without space", "data:x\nid:7\n\n", []Event{{"7", "message", []byte("x")}}},
		{"the id stays", "id: 7\ndata: x\n\ndata: y\n\n", []Event{{"7", "message", []byte("x")}, {"7", "message", []byte("y")}}},
		{"an id with NUL", "id: 7\ndata: x\n\nid: a\x00b\ndata: y\n\n", []Event{{"7", "message", []byte("x")}, {"7", "message", []byte("y")}}},
		{"byte order mark", "\ufeffdata: x\n\n", []Event{{"", "message", []byte("x")}}},
		{"no data, no event", "event: x\n\ndata: y\n\n", []Event{{"", "message", []byte("y")}}},
		{"empty data", "data\n\n", []Event{{"", "message", []byte("")}}},
		{"cut off", "data: x\n\ndata: half\n", []Event{{"", "message", []byte("x")}}},
		{"cut off in the name", "data: x\n\nda", []Event{{"", "message", []byte("x")}}},
	} {
		for how, r := range map[string]io.Reader{"whole": strings.NewReader(c.stream), "by bytes": iotest.OneByteReader(strings.NewReader(c.stream))} {
			got, _, err := collect(t, r)
			if err != nil || !slices.EqualFunc(got, c.want, func(a, b Event) bool { return a.ID == b.ID && a.Name == b.Name && string(a.Data) == string(b.Data) }) {
				t.Errorf("%s, %s: %q, %v; want %q", c.name, how, got, err, c.want)
			}
		}
	}
	if _, retry, _ := collect(t, strings.NewReader("retry: 250\nretry: x\nretry: -1\n\n")); retry != 250*time.Millisecond {
		t.Errorf("retry %v", retry)
	}
	if _, _, err := collect(t, iotest.TimeoutReader(strings.NewReader(strings.Repeat("data: x\n\n", 100000)))); err == nil {
		t.Error("an error of the connection is not told")
	}
	if _, _, err := collect(t, io.LimitReader(forever('x'), 2*maxLine)); err == nil {
		t.Error("an endless line is read")
	}
	if _, _, err := collect(t, strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 9))); err == nil {
		t.Error("an endless event is read")
	}
}

type forever byte

// Read is for io.Reader.
func (f forever) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(f)
	}
	return len(b), nil
}

func FuzzEvents(f *testing.F) {
	f.Add("id: 4\r\nevent: entry\r\ndata: {}\r\n\r\n: beat\n\n")
	f.Add("data: x\rdata: y\n\r\n\ndata")
	f.Add("\ufeffretry: 1\nid: \x00\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		whole, _, err := collect(t, strings.NewReader(stream))
		if err != nil {
			t.Skip("skipped: longer than a stream's lines may be")
		}
		// However the bytes come, and however lines end, the events are the same.
		parts, _, err := collect(t, iotest.OneByteReader(strings.NewReader(stream)))
		if err != nil || fmt.Sprint(parts) != fmt.Sprint(whole) {
			t.Errorf("byte by byte %q, %v; whole %q", parts, err, whole)
		}
		lf := strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
		same, _, err := collect(t, strings.NewReader(lf))
		if err != nil || fmt.Sprint(same) != fmt.Sprint(whole) {
			t.Errorf("with LF %q, %v; as it is %q", same, err, whole)
		}
	})
}

func TestFollowResumes(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		last := r.Header.Get("Last-Event-ID")
		send := func(format string, args ...any) {
			fmt.Fprintf(w, format, args...)
			w.(http.Flusher).Flush()
		}
		w.Header().Set("Content-Type", "text/event-stream")
		switch n.Add(1) {
		case 1:
			if last != "" || r.URL.Query().Get("from") != "0" {
				t.Errorf("the first connection: Last-Event-ID %q, %s", last, r.URL.RawQuery)
			}
			send("retry: 20\n\nid: 0\nevent: entry\ndata: a\n\nid: 1\nevent: entry\ndata: hal")
			panic(http.ErrAbortHandler)
		case 2:
			if last != "0" {
				t.Errorf("the second: %q", last)
			}
			send("id: 1\nevent: entry\ndata: b\n\n") // and the server ends the stream
		case 3:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"type":"/problems/unavailable","title":"Later"}`)
		case 4:
			if last != "1" {
				t.Errorf("the fourth: %q", last)
			}
			send("id: 2\nevent: entry\ndata: c\n\n")
			<-r.Context().Done()
		}
	})
	var got, broken []string
	c := newClient(t, s.URL)
	for e, err := range c.Follow(t.Context(), Call{Path: []string{"x"}, Query: map[string][]string{"from": {"0"}}}, func(err error, _ time.Duration) { broken = append(broken, err.Error()) }) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, string(e.Data)); len(got) == 3 {
			break
		}
	}
	if fmt.Sprint(got) != "[a b c]" {
		t.Errorf("events %v", got)
	}
	if len(broken) != 2 {
		t.Errorf("breaks told: %q", broken)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/no-stream":
			io.WriteString(w, "hello")
		case r.URL.Path == "/refused-later" && n.Add(1) == 1:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "retry: 10\n\ndata: x\n\n")
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	c := newClient(t, s.URL)
	for path, want := range map[string]int{"no-stream": 0, "refused": 0, "refused-later": 1} {
		events, failures := 0, 0
		for _, err := range c.Follow(t.Context(), Call{Path: []string{path}}, func(error, time.Duration) {}) {
			if err != nil {
				failures++
			} else {
				events++
			}
		}
		if events != want || failures != 1 {
			t.Errorf("%s: %d events, %d failures", path, events, failures)
		}
	}
	s.Close()
	for _, err := range c.Follow(t.Context(), Call{Path: []string{"x"}}, func(error, time.Duration) { t.Error("a first connection that fails is tried again") }) {
		var u *Unreachable
		if !errors.As(err, &u) {
			t.Error(err)
		}
	}
}

func TestSilentStream(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "retry: 10\nid: %d\ndata: x\n\n", n.Add(1))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c := newClient(t, s.URL)
	c.cfg.Silence = 2 * time.Second
	got := ""
	for e, err := range c.Follow(t.Context(), Call{Path: []string{"x"}}, func(err error, _ time.Duration) {
		if !strings.Contains(err.Error(), "silent") {
			t.Errorf("break: %v", err)
		}
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if got += e.ID; got == "12" {
			break
		}
	}
	if got != "12" {
		t.Errorf("ids %q", got)
	}
}
