package main

import "testing"

func TestCollectLess(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{ // bytes, and by how many percent they may grow
		0: mostGC, 1 << 20: mostGC, 8 << 20: 500, 16 << 20: 200, roomyHeap / 2: 100, roomyHeap: leastGC, 1 << 40: leastGC,
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d", live, got, want)
		}
	}
}
