package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// A server that keeps few megabytes and makes a hundred of garbage a second would be collected many times a second, for a
// tenth of its processor time. So the heap may always grow to roomyHeap; what it keeps beyond that, by as much again.
const (
	roomyHeap = 48 << 20
	leastGC   = 100 // percent
	mostGC    = 600
)

// collectLess has the collector heed that from now on, unless GOGC says what it is to do.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		afterCollection()
	}
}

// afterCollection runs at each end of a collection: the cleanup of what that found unused.
func afterCollection() {
	// First, so that a collection that begins meanwhile may see it.
	runtime.AddCleanup(new([16]byte), func(struct{}) { afterCollection() }, struct{}{})
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
}

// gcPercent lets a heap of which so much is live grow to roomyHeap at least.
func gcPercent(live uint64) int {
	return int(min(max(roomyHeap*100/max(live, 1), leastGC+100)-100, mostGC))
}
