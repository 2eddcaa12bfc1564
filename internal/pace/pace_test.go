package pace

import (
	"net/netip"
	"testing"
	"time"
)

// admitted is how many of so many tries at once an address gets.
func admitted(p *Pace, address string, now time.Time, tries int) (n int) {
	for range tries {
		if p.Take(netip.MustParseAddr(address), now) == 0 {
			n++
		}
	}
	return n
}

func TestPace(t *testing.T) {
	t.Parallel()
	p, now := New(6, time.Hour), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
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
	if wait := p.Take(netip.MustParseAddr("192.0.2.1"), now); wait != 10*time.Minute {
		t.Errorf("there is one again in %s", wait)
	}
	if p.Left(netip.MustParseAddr("192.0.2.1"), now) || !p.Left(netip.MustParseAddr("192.0.2.9"), now) || !p.Left(netip.MustParseAddr("192.0.2.1"), now.Add(10*time.Minute)) {
		t.Error("what is left is said wrongly")
	}
	if n := admitted(New(-1, time.Hour), "192.0.2.1", now, 1000); n != 1000 {
		t.Errorf("without a limit %d of 1000", n)
	}
	if p.Take(netip.Addr{}, now) != 0 {
		t.Error("who comes by a socket has none")
	}
}

// Many addresses do not take memory without bound: beyond it they share, and who was known before is not forgotten.
func TestPaceIsBounded(t *testing.T) {
	t.Parallel()
	p, now := New(2, time.Hour), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	admitted(p, "192.0.2.1", now, 2)
	through := 0
	for i := range 3 * mostAddresses {
		if p.Take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now) == 0 {
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
