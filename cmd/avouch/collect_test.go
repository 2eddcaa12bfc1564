package main

import (
	"testing"
	"time"
)

func TestCollectLess(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, c := range []struct {
		live, room uint64
		lasted     time.Duration
		want       uint64
	}{
		{4 * mb, 0, 0, 4 * mb}, {4 * mb, 6 * mb, pause, 6 * mb}, // at first, and as it should be
		{4 * mb, 6 * mb, pause / 4, 12 * mb}, {4 * mb, 6 * mb, 3 * pause, 4 * mb}, {4 * mb, 40 * mb, 3 * pause, 20 * mb}, // busy, idle
		{8 * mb, 20 * mb, 0, 24 * mb}, {30 * mb, 30 * mb, 0, 30 * mb}, {roomyHeap, roomyHeap, 0, roomyHeap}, {1 << 40, 0, 0, 1 << 40}, // the most
	} {
		if got := roomFor(c.live, c.room, c.lasted); got != c.want {
			t.Errorf("%d bytes live, room for %d lasted %v: now %d, want %d", c.live, c.room, c.lasted, got, c.want)
		}
	}
}

// A server that makes garbage all the time is soon collected no more than four times a pause, which GOGC alone would not do.
func TestCollectionsGrowRare(t *testing.T) {
	t.Parallel()
	const live, perSecond = 5 << 20, 80 << 20
	room, lasted := roomFor(live, 0, 0), time.Duration(0)
	for range 5 {
		lasted = time.Duration(float64(room) / perSecond * float64(time.Second))
		room = roomFor(live, room, lasted)
	}
	if lasted < pause/4 {
		t.Errorf("a collection after each %v", lasted)
	}
}
