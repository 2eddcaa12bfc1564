package main

import (
	"slices"
	"time"
)

// fine is the latency below which a histogram counts by microseconds. What is slower is rare, and kept one by one.
const fine = 1 << 16

// histogram holds latencies, each rounded down to a microsecond and none lost.
type histogram struct {
	counts []uint32 // by microsecond, below fine
	slow   []int64  // microseconds, from fine on
	n      int
	sum    int64
	sorted bool
}

func newHistogram() *histogram { return &histogram{counts: make([]uint32, fine)} }

func (h *histogram) add(d time.Duration) {
	us := max(0, d.Microseconds())
	h.n++
	h.sum += us
	if us < fine {
		h.counts[us]++
		return
	}
	h.slow = append(h.slow, us)
	h.sorted = false
}

// quantile is the smallest latency that at least the share q of all did not exceed (nearest rank); 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(h.n, max(1, ceil(q*float64(h.n))))
	for us, c := range h.counts {
		if rank -= int(c); rank <= 0 {
			return time.Duration(us) * time.Microsecond
		}
	}
	if !h.sorted {
		slices.Sort(h.slow)
		h.sorted = true
	}
	return time.Duration(h.slow[rank-1]) * time.Microsecond
}

func (h *histogram) mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum/int64(h.n)) * time.Microsecond
}

// ceil rounds up, but for what floating point adds to a whole number: 0.99 * 100 is 99.
func ceil(x float64) int {
	n := int(x)
	if x-float64(n) > 1e-6 {
		n++
	}
	return n
}
