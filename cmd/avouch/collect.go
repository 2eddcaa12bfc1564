package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// A server that keeps few megabytes and makes a hundred of garbage a second would be collected many times a second, for a
// tenth of its processor time. So a small heap may grow to roomyHeap, and a larger one by as much again as it keeps. mostGC
// bounds what a heap that grows all at once may come to before the next collection sets its percentage right.
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

// gcPercent lets a heap of which so many bytes are live grow to roomyHeap, within leastGC and mostGC.
func gcPercent(live uint64) int {
	return int(min(max(roomyHeap*100/max(live, 1), leastGC+100)-100, mostGC))
}
