package devpg

import (
	"testing"
	"time"
)

// BenchmarkStart is the start and the stop of a cluster that exists.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	c := begun(b, Config{Dir: dir})
	must(b, c.Stop(b.Context()))
	var starting time.Duration
	for b.Loop() {
		began := time.Now()
		c, err := Start(b.Context(), Config{Dir: dir})
		must(b, err)
		starting += time.Since(began)
		must(b, c.Stop(b.Context()))
	}
	b.ReportMetric(float64(starting.Milliseconds())/float64(b.N), "ms-to-start")
}
