package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/avouch-dev/avouch/server"
)

// A server that keeps few megabytes and makes a hundred of garbage a second would be collected many times a second, for a
// tenth of its processor time; one that has little to do would hold on to what it could give back. So a collection is to come
// about once a pause: if it came much sooner, the heap may grow by twice as much before the next, to roomyHeap or by as much as
// it keeps; if much later, by half.
const (
	pause     = time.Second
	roomyHeap = 32 << 20
	mostGC    = 600 // percent: bounds what a heap that grows all at once may come to before the next collection
)

// collectLess gives back what only the start needed, a fifth of all, and has the collector heed that from now on, unless GOGC says
// what it is to do. The server's first look at all that it has is of the start too.
func collectLess(s *server.Server) {
	debug.FreeOSMemory()
	if os.Getenv("GOGC") == "" {
		afterCollection(time.Now(), 0)
	}
	s.Settled()
	debug.FreeOSMemory()
}

// afterCollection runs at each end of a collection: the cleanup of what that found unused. At the one before, the heap was given
// so many bytes to grow by.
func afterCollection(before time.Time, room uint64) {
	now, live := time.Now(), []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	room = roomFor(live[0].Value.Uint64(), room, now.Sub(before))
	// First, so that a collection that begins meanwhile may see it.
	runtime.AddCleanup(new([16]byte), func(struct{}) { afterCollection(now, room) }, struct{}{})
	debug.SetGCPercent(int(min(100*room/max(live[0].Value.Uint64(), 1), mostGC)))
}

// roomFor is by how many bytes a heap may grow of which so many are live: it had room for some, which lasted so long.
func roomFor(live, room uint64, lasted time.Duration) uint64 {
	switch {
	case lasted < pause/2:
		room *= 2
	case lasted > 2*pause:
		room /= 2
	}
	return max(min(room, roomyHeap-min(live, roomyHeap)), live)
}
