package keyring

import (
	"testing"
	"time"
	"unsafe"
)

// slept is a time on a machine that was suspended for so long: the clock that nobody sets stood still meanwhile.
func slept(t *testing.T, now time.Time, d time.Duration) time.Time {
	t.Helper()
	later := now.Add(d)
	*(*int64)(unsafe.Add(unsafe.Pointer(&later), 8)) -= int64(d) // time.Time's second word, which has no setter
	if later.Sub(now) != 0 || later.Round(0).Sub(now.Round(0)) != d {
		t.Fatalf("time.Time is made otherwise now: %s, %s", later.Sub(now), later.Round(0).Sub(now.Round(0)))
	}
	return later
}

// TestSuspended: a machine that wakes up does not go on with what was left of an organisation's lease, nor of a key in memory; nor does one
// whose clock is set back get more.
func TestSuspended(t *testing.T) {
	t.Parallel()
	kms, c := newCustomer(t), &clock{at: time.Now()}
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	handOver(t, r, id, kms)
	sealed, fields := sealedOf(t, r, id)
	opens(t, r, id, sealed, fields)

	sleep := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at = slept(t, c.at, time.Hour)
	}
	sleep()
	asked := kms.asked.Load()
	opens(t, r, id, sealed, fields)
	if kms.asked.Load() == asked {
		t.Error("after an hour the organisation's key management is not asked")
	}
	settled(r, id)
	kms.revoke(ErrRefused)
	sleep()
	closedFor(t, r, id, sealed, fields)

	cached, now := newCache[int, int](2, keyLife), time.Now()
	cached.put(1, timed[int]{1, now}, cached.mark())
	if _, ok := cached.get(1, slept(t, now, -time.Hour)); !ok {
		t.Error("a clock that is set back ends what is in memory")
	}
	if _, ok := cached.get(1, slept(t, now, -time.Hour).Add(keyLife)); ok {
		t.Error("a clock that is set back makes it last")
	}
	if _, ok := cached.get(1, slept(t, now, keyLife)); ok {
		t.Error("a key in memory outlives a suspension")
	}
	cached.sweep(slept(t, now, keyLife))
	if len(cached.young) != 0 {
		t.Error("a key stays in memory after a suspension")
	}
}
