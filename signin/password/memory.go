package password

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// mostHeld is how much free memory may stay with the process for the next hash. Where small things lie in the place of the last one, the
// next takes a new place of 64 MiB, and the old stays held: so twice that would be more than there is room for.
const mostHeld = 72 << 20

// collect frees the memory of hashes that are done. The collector by its own time would let so much pile up as there is in use. To
// give memory back to the system costs a quarter of a hash, so that is done where much is held only.
func collect() {
	runtime.GC()
	held := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	if metrics.Read(held); held[0].Value.Uint64() > mostHeld {
		debug.FreeOSMemory()
	}
}
