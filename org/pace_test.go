package org

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// admitted is how many of so many tries at once an address gets.
func admitted(p *pace, address string, now time.Time, tries int) (n int) {
	for range tries {
		if p.admit(netip.MustParseAddr(address), now) == nil {
			n++
		}
	}
	return n
}

func TestPace(t *testing.T) {
	t.Parallel()
	p, now := newPace(6), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		after   time.Duration
		address string
		want    int
	}{
		{0, "192.0.2.1", 6}, {0, "::ffff:192.0.2.1", 0}, {0, "192.0.2.2", 6},
		{0, "2001:db8::1", 6}, {0, "2001:db8::ffff:1", 0}, {0, "2001:db8:0:1::1", 6}, // of one network, and of the next
		{9 * time.Minute, "192.0.2.1", 0}, {time.Minute, "192.0.2.1", 1}, {30 * time.Minute, "192.0.2.1", 3}, {24 * time.Hour, "192.0.2.1", 6},
	} {
		now = now.Add(step.after)
		if got := admitted(p, step.address, now, 20); got != step.want {
			t.Errorf("step %d: %s got %d, want %d", i, step.address, got, step.want)
		}
	}
	err := p.admit(netip.MustParseAddr("192.0.2.1"), now)
	if e := problem.Of(err); e == nil || e.Kind != problem.TooMany || e.RetryAfter != 10*time.Minute {
		t.Errorf("refused with %+v", e)
	}
	if n := admitted(newPace(-1), "192.0.2.1", now, 1000); n != 1000 {
		t.Errorf("without a limit %d of 1000", n)
	}
	if p.admit(netip.Addr{}, now) != nil {
		t.Error("who comes by a socket has none")
	}
}

// Many addresses do not take memory without bound: beyond it they share, and who was known before is not forgotten.
func TestPaceIsBounded(t *testing.T) {
	t.Parallel()
	p, now := newPace(2), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	admitted(p, "192.0.2.1", now, 2)
	through := 0
	for i := range 3 * mostAddresses {
		if p.admit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now) == nil {
			through++
		}
	}
	if len(p.by) > mostAddresses || through > mostAddresses+2 {
		t.Errorf("%d addresses are told apart, %d were admitted", len(p.by), through)
	}
	if n := admitted(p, "192.0.2.1", now, 1); n != 0 {
		t.Error("a flood of others gave an address its times again")
	}
	now = now.Add(time.Hour)
	if n := admitted(p, "203.0.113.1", now, 5); n != 2 || len(p.by) > 2 {
		t.Errorf("after an hour a new address gets %d, and %d are kept", n, len(p.by))
	}
}

// TestSignUpIsLimited: at once, through the route. What is refused makes nothing.
func TestSignUpIsLimited(t *testing.T) {
	t.Parallel()
	f := open(t)
	api := f.API(doortest.As(tenantdb.Caller{}))
	New(Config{DB: f.DB, Ring: f.Ring, FirstKey: f.keys, SignUp: true, SignUpsPerHour: 3}).Routes(api)
	var all sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for range 12 {
		all.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/organisations", strings.NewReader(`{"name":"Acme"}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", "the same") // means nothing here, as the description says
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			mu.Lock()
			defer mu.Unlock()
			switch seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); {
			case w.Code == http.StatusCreated:
				made++
			case w.Code == http.StatusTooManyRequests && err == nil && seconds > 1000 && seconds <= 1200:
				refused++
			default:
				t.Errorf("%d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
			}
		})
	}
	all.Wait()
	if n := f.Text(t, `SELECT count(*)::text FROM avouch.organisation`); made != 3 || refused != 9 || n != "3" {
		t.Errorf("%d made, %d refused, %s there", made, refused, n)
	}
	spec := httptest.NewRecorder()
	api.ServeHTTP(spec, httptest.NewRequest("GET", "/openapi.json", nil))
	if !strings.Contains(spec.Body.String(), "It takes no `Idempotency-Key`") {
		t.Errorf("the description does not say that a repeated sign-up is another: %.200s", spec.Body)
	}
}
