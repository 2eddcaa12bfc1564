package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 99, 100, 101, 1000, 12345} {
		h := newHistogram()
		var all []time.Duration
		var sum time.Duration
		for range n {
			// Half of them are beyond what is counted by microseconds.
			d := time.Duration(random.Int64N(2*fine)) * time.Microsecond
			all = append(all, d)
			sum += d
			h.add(d + time.Duration(random.Int64N(1000)))
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
			// By definition: the smallest latency that at least this share did not exceed.
			want := all[n-1]
			for i, d := range all {
				if float64(i+1) >= q*float64(n)-1e-6 {
					want = d
					break
				}
			}
			if got := h.quantile(q); got != want {
				t.Errorf("quantile %g of %d: %v, want %v", q, n, got, want)
			}
		}
		if got, want := h.mean(), (sum / time.Duration(n)).Truncate(time.Microsecond); got != want {
			t.Errorf("mean of %d: %v, want %v", n, got, want)
		}
	}
}

func TestHistogramOfNothing(t *testing.T) {
	t.Parallel()
	h := newHistogram()
	if h.quantile(0.5) != 0 || h.quantile(1) != 0 || h.mean() != 0 {
		t.Error("nothing has a latency")
	}
	h.add(-time.Second) // a clock that was set back
	if h.quantile(1) != 0 || h.n != 1 {
		t.Error("a negative latency is not 0")
	}
}
