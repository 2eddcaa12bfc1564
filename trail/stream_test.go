package trail

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// event is one server-sent event.
type event struct{ id, name, data string }

// events reads a stream. Comments come as events of the name ":".
func events(t testing.TB, body io.Reader) func() (event, error) {
	lines := bufio.NewReader(body)
	return func() (e event, err error) {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return e, err
			}
			line = strings.TrimSuffix(line, "\n")
			field, value, _ := strings.Cut(line, ": ")
			switch {
			case line == "" && e != (event{}):
				return e, nil
			case strings.HasPrefix(line, ":"):
				e.name = ":"
			case field == "id":
				e.id = value
			case field == "event":
				e.name = value
			case field == "data":
				e.data = value
			case field == "retry" || line == "":
			default:
				t.Errorf("a line that is none of an event: %q", line)
			}
		}
	}
}

// server serves the room's routes on a real connection, to one caller.
func (s *scene) server(t testing.TB, c tenantdb.Caller) *httptest.Server {
	server := httptest.NewServer(s.api(c))
	t.Cleanup(server.Close)
	return server
}

// follow opens a stream. It ends when the test does.
func follow(t testing.TB, server *httptest.Server, query, last string) (*http.Response, func() (event, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1/audit/stream"+query, nil)
	must(t, err)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultClient.Do(req)
	must(t, err)
	t.Cleanup(func() { cancel(); answer.Body.Close() })
	return answer, events(t, answer.Body)
}

func quick(c *Config) {
	c.Streams = Streams{Poll: 10 * time.Millisecond, Beat: 100 * time.Millisecond, PerTenant: 3}
}

// TestStreamFollows opens a stream from a number, breaks it, and resumes: every entry comes once, in order.
func TestStreamFollows(t *testing.T) {
	t.Parallel()
	s := enter(t, quick)
	s.fill(t, s.acme, 250)
	server := s.server(t, s.Caller(s.acme, "audit:read"))
	answer, next := follow(t, server, "?from=10", "")
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" || answer.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	want := int64(10)
	take := func(next func() (event, error), until int64) {
		t.Helper()
		for want < until {
			e, err := next()
			must(t, err)
			if e.name == ":" {
				continue
			}
			var body Entry
			must(t, json.Unmarshal([]byte(e.data), &body))
			if e.name != "entry" || e.id != fmt.Sprint(want) || body.Seq != want {
				t.Fatalf("want entry %d, got %+v", want, e)
			}
			if n, err := strconv.Atoi(body.Public["n"]); err == nil && n%3 == 0 && body.Private["who"] == "" {
				t.Errorf("entry %d lacks its private fields: %+v", want, body)
			}
			want++
		}
	}
	take(next, 251)
	s.fill(t, s.acme, 20)
	take(next, 260)
	answer.Body.Close()
	_, next = follow(t, server, "?from=3", fmt.Sprint(want-1)) // a browser keeps the query and adds the header
	take(next, s.size(t, s.acme))
	if got := len(s.OfType(t, s.acme, "log.read")); got != 2 {
		t.Errorf("%d entries say that the log was read, for two streams", got)
	}
	if e := s.OfType(t, s.acme, "log.read")[1]; e.Field("what") != sawStream || e.Field("from") != "260" {
		t.Errorf("recorded as %+v", e)
	}
}

// TestStreamFromNow shows what comes from now on only, and nothing of another organisation's.
func TestStreamFromNow(t *testing.T) {
	t.Parallel()
	s := enter(t, quick)
	s.fill(t, s.acme, 20)
	_, next := follow(t, s.server(t, s.Caller(s.acme, "*")), "", "")
	s.fill(t, s.other, 20)
	_, err := s.DB.Record(t.Context(), s.Caller(s.acme), audit.Event{Type: "the.last"})
	must(t, err)
	for want := int64(21); ; {
		e, err := next()
		must(t, err)
		if e.name == ":" {
			continue
		}
		var body Entry
		must(t, json.Unmarshal([]byte(e.data), &body))
		if body.Seq != want {
			t.Errorf("entry %d instead of %d", body.Seq, want)
		}
		if want++; body.Type == "the.last" {
			return
		}
	}
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	s := enter(t, quick)
	server := s.server(t, s.Caller(s.acme, "audit:read"))
	for _, c := range []struct {
		query, last string
		status      int
	}{{"?from=-1", "", 400}, {"?from=x", "", 400}, {"", "x", 400}, {"", "-1", 400}, {"", "+1", 400}, {"", "99999999999999999999", 400}, {"", "1099511627777", 400}, {"", "1000", 409}, {"?from=1000", "", 409}} {
		if answer, _ := follow(t, server, c.query, c.last); answer.StatusCode != c.status {
			t.Errorf("%q %q: %d, want %d", c.query, c.last, answer.StatusCode, c.status)
		}
	}
	if n := len(s.OfType(t, s.acme, "log.read")); n != 0 {
		t.Errorf("%d refused streams were recorded as reads", n)
	}
}

// TestStreamBeats waits for signs of life, and for the bound on streams of one organisation.
func TestStreamBeats(t *testing.T) {
	t.Parallel()
	s := enter(t, quick)
	server := s.server(t, s.Caller(s.acme, "audit:read"))
	var first *http.Response
	for i := range 3 {
		answer, next := follow(t, server, "", "")
		if i == 0 {
			first = answer
		}
		for beats := 0; beats < 2; {
			e, err := next()
			must(t, err)
			if e.name == ":" {
				beats++
			}
		}
	}
	if answer, _ := follow(t, server, "", ""); answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("a fourth stream: %d", answer.StatusCode)
	}
	if answer, _ := follow(t, s.server(t, s.Caller(s.other, "audit:read")), "", ""); answer.StatusCode != 200 {
		t.Errorf("another organisation's stream: %d", answer.StatusCode)
	}
	first.Body.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if answer, _ := follow(t, server, "", ""); answer.StatusCode == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a slot whose reader has gone is not free again")
		}
	}
}

// TestStreamEndsWithItsRight takes the right away while a stream is open, and lets another reach the end of its life.
func TestStreamEndsWithItsRight(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	s := enter(t, quick, func(c *Config) {
		c.Recheck = func(context.Context, tenantdb.Caller) error {
			if revoked.Load() {
				return errors.New("revoked")
			}
			return nil
		}
	})
	_, next := follow(t, s.server(t, s.Caller(s.acme, "audit:read")), "", "")
	for range 3 {
		if _, err := next(); err != nil {
			t.Fatal(err)
		}
	}
	revoked.Store(true)
	for {
		e, err := next()
		must(t, err)
		if e.name == "end" {
			break
		}
	}
	if _, err := next(); err != io.EOF {
		t.Errorf("after its end: %v", err)
	}
	short := enter(t, quick, func(c *Config) { c.Streams.Life = 200 * time.Millisecond })
	_, next = follow(t, short.server(t, short.Caller(short.acme, "audit:read")), "", "")
	for {
		if _, err := next(); err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			return
		}
	}
}

// TestStreamShowsNothingAfterItsRight takes the right away as a revocation does, and appends an entry after that. Beats
// are too far apart to help.
func TestStreamShowsNothingAfterItsRight(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	var asked atomic.Int64
	s := enter(t, quick, func(c *Config) {
		c.Streams.Beat = time.Hour
		c.Recheck = func(context.Context, tenantdb.Caller) error {
			if asked.Add(1); revoked.Load() {
				return errors.New("revoked")
			}
			return nil
		}
	})
	_, next := follow(t, s.server(t, s.Caller(s.acme, "audit:read")), "", "")
	for n := range 20 {
		_, err := s.DB.Record(t.Context(), s.Caller(s.acme), audit.Event{Type: "before.it"})
		must(t, err)
		for {
			e, err := next()
			must(t, err)
			if strings.Contains(e.data, "before.it") {
				break
			}
			if e.name == "end" {
				t.Fatalf("it ended after %d entries", n)
			}
		}
	}
	if n := asked.Load(); n < 1 || n > 3 { // once, and again if the scene changed anything meanwhile
		t.Errorf("the right was asked for %d times, while nothing changed", n)
	}
	revoked.Store(true)
	revoke := audit.Event{Type: "key.revoked", Alters: true}
	must(t, s.DB.Change(t.Context(), s.Caller(s.acme), func(*tenantdb.Tx) (audit.Event, error) { return revoke, nil }))
	_, err := s.DB.Record(t.Context(), s.Caller(s.acme), audit.Event{Type: "after.it", Private: []audit.Field{{Name: "who", Value: "Ada"}}})
	must(t, err)
	if e, err := next(); err != nil || e.name != "end" {
		t.Errorf("after the right was gone: %+v, %v", e, err)
	}
	if e, err := next(); err != io.EOF {
		t.Errorf("after the end: %+v, %v", e, err)
	}
}

// TestSlowReaderIsCutOff opens a stream of a long log and does not read it.
func TestSlowReaderIsCutOff(t *testing.T) {
	t.Parallel()
	s := enter(t, quick, func(c *Config) { c.Streams.Patience = 300 * time.Millisecond })
	s.fill(t, s.acme, 12_000) // some 8 MB as events: more than the buffers of a connection hold
	server := s.server(t, s.Caller(s.acme, "audit:read"))
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	must(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	fmt.Fprintf(conn, "GET /api/v1/audit/stream?from=0 HTTP/1.1\r\nHost: avouch.test\r\n\r\n")
	taken := func() int {
		s.room.streams.mu.Lock()
		defer s.room.streams.mu.Unlock()
		return s.room.streams.sum
	}
	wait := func(want int, says string) {
		for deadline := time.Now().Add(30 * time.Second); taken() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(says)
			}
		}
	}
	wait(1, "the stream did not begin")
	wait(0, "the stream goes on for a reader that stands still")
}

// TestStreamHoldsNoTransaction looks at the database while streams stand open.
func TestStreamHoldsNoTransaction(t *testing.T) {
	t.Parallel()
	s := enter(t, quick)
	server := s.server(t, s.Caller(s.acme, "audit:read"))
	for range 3 {
		_, next := follow(t, server, "", "")
		go func() {
			for {
				if _, err := next(); err != nil {
					return
				}
			}
		}()
	}
	for range 10 {
		time.Sleep(50 * time.Millisecond)
		old := s.Text(t, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
			AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '1 second'`)
		if old != "0" {
			t.Errorf("%s transactions are older than a second", old)
		}
	}
}

// FuzzStart reads what a client sends as the place to resume from.
func FuzzStart(f *testing.F) {
	for _, seed := range []string{"", "0", "17", "-1", "+1", "007", "1e3", "99999999999999999999", " 1", "1099511627776", "1099511627777"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, last, from string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header["Last-Event-Id"] = []string{last}
		req.URL.RawQuery = "from=" + from
		n, err := startOf(req)
		if err == nil && (n < -1 || n > audit.MaxSize+1) {
			t.Errorf("%q and %q start at %d", last, from, n)
		}
		if err == nil && last != "" && fmt.Sprint(n-1) != last {
			t.Errorf("%q was read as %d", last, n)
		}
	})
}
