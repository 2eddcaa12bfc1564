// Package alike tells whether kinds of calls can be told apart by how long they take. Only tests import it.
package alike

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The bounds within which two kinds of calls are alike.
const (
	MostT     = 4.5  // of Welch's t, whatever its sign
	MostApart = 0.05 // of the medians, as a part of the smaller
)

// cut is the part of all calls of all kinds together that Welch's t is taken of once more, the fastest: what others on the
// machine do to a call makes it many times as long, and the t of all calls is blind to small differences then. The cut is one
// length of time for all kinds, so that none is made to look like another by it.
const cut = 0.9

// Difference is how far apart the kinds are that are furthest apart.
type Difference struct {
	T     float64 // Welch's t, of all calls or of the fastest nine tenths, whichever is larger
	Apart float64 // the larger median by the smaller, less 1
	Found string  // each pair, for a log
}

// Alike reports whether the kinds cannot be told apart.
func (d Difference) Alike() bool { return d.T < MostT && d.Apart < MostApart }

// Kind makes the call number n of its kind ready, which is not timed, and returns the call.
type Kind func(n int) func()

// Time times calls by the wall, so many of each kind, in nanoseconds. They are interleaved: each turn has one call of each kind, in
// an order that is drawn anew.
func Time(times int, kinds ...Kind) [][]float64 {
	took, order := make([][]float64, len(kinds)), make([]int, len(kinds))
	for i := range order {
		order[i] = i
	}
	for n := range times {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, k := range order {
			call := kinds[k](n)
			start := time.Now()
			call()
			took[k] = append(took[k], float64(time.Since(start)))
		}
	}
	return took
}

// Compare holds the first kind against each other one.
func Compare(took [][]float64) (d Difference) {
	all := slices.Concat(took...)
	slices.Sort(all)
	most := all[int(float64(len(all)-1)*cut)]
	fastest := func(s []float64) []float64 {
		return slices.DeleteFunc(slices.Clone(s), func(v float64) bool { return v > most })
	}
	d.Found = fmt.Sprintf("%d calls of each kind, the median %.0f us", len(took[0]), median(took[0])/1000)
	for i, other := range took[1:] {
		whole, t := welch(took[0], other), welch(fastest(took[0]), fastest(other))
		ratio := median(other) / median(took[0])
		d.T = max(d.T, math.Abs(whole), math.Abs(t))
		d.Apart = max(d.Apart, ratio-1, 1/ratio-1)
		d.Found += fmt.Sprintf("; 0 and %d: t %.1f of all, %.1f of the fastest nine tenths, medians %.3f", i+1, whole, t, ratio)
	}
	return d
}

// tries is how often is measured at most: a busy machine may find a difference where there is none, or hide one, and neither in all
// of them.
const tries = 5

// Same measures until the kinds are alike, five times at most, and says what it found in the last.
func Same(times int, kinds ...Kind) Difference { return until(true, times, kinds) }

// Apart measures until the kinds can be told apart, five times at most: the control of Same, with kinds that differ. Chance has five
// tries too, so the kinds are to differ by much more than the bounds.
func Apart(times int, kinds ...Kind) Difference { return until(false, times, kinds) }

func until(alike bool, times int, kinds []Kind) (d Difference) {
	for try := range tries {
		d = Compare(Time(times, kinds...))
		d.Found = fmt.Sprintf("try %d, %s", try+1, d.Found)
		if d.Alike() == alike {
			break
		}
	}
	return d
}

func median(s []float64) float64 {
	s = slices.Clone(s)
	slices.Sort(s)
	return s[len(s)/2]
}

// welch is Welch's t of two samples.
func welch(a, b []float64) float64 {
	ma, va := mean(a)
	mb, vb := mean(b)
	return (ma - mb) / math.Sqrt(va/float64(len(a))+vb/float64(len(b)))
}

func mean(s []float64) (mean, variance float64) {
	for _, v := range s {
		mean += v
	}
	mean /= float64(len(s))
	for _, v := range s {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(len(s)-1)
}
