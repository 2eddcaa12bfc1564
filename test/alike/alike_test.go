package alike

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWelch holds the t of two small samples to what it is by hand: means 3 and 5, variances 2.5 and 10, five of each.
func TestWelch(t *testing.T) {
	t.Parallel()
	if got, want := welch([]float64{1, 2, 3, 4, 5}, []float64{1, 3, 5, 7, 9}), -2/math.Sqrt(2.5); math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
}

// noisy are lengths of calls on a busy machine: one in twenty takes ten times as long.
func noisy(r *rand.Rand, n int, more float64) (s []float64) {
	for range n {
		v := 300_000*(1+0.1*r.NormFloat64()) + more
		if r.IntN(20) == 0 {
			v *= 10
		}
		s = append(s, v)
	}
	return s
}

// TestCompare: of 5,000 calls of each kind, what is alike is found to be, and three hundredths more are seen through the noise.
func TestCompare(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	wrong := 0
	for range 100 {
		if d := Compare([][]float64{noisy(r, 5000, 0), noisy(r, 5000, 0), noisy(r, 5000, 0)}); !d.Alike() {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("what is alike was told apart %d times of 100", wrong)
	}
	for _, more := range []float64{9_000, -9_000} {
		if d := Compare([][]float64{noisy(r, 5000, 0), noisy(r, 5000, 0), noisy(r, 5000, more)}); d.Alike() {
			t.Errorf("with %v ns more: %+v", more, d)
		}
	}
	if d := Compare([][]float64{{1, 1, 1, 1.001}, {1.06, 1.06, 1.06, 1.061}}); d.Alike() || d.Apart < 0.059 || d.Apart > 0.061 {
		t.Errorf("medians that are 6 %% apart: %+v", d)
	}
}

// TestAlike: one bound that is passed is enough.
func TestAlike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d     Difference
		alike bool
	}{
		{Difference{T: 4.4, Apart: 0.049}, true}, {Difference{T: 4.6, Apart: 0.01}, false}, {Difference{T: 1, Apart: 0.06}, false},
	} {
		if c.d.Alike() != c.alike {
			t.Errorf("%+v: alike %t", c.d, c.d.Alike())
		}
	}
}

// TestTime: each kind is called so often, with each number once, and what makes a call ready is not timed.
func TestTime(t *testing.T) {
	t.Parallel()
	var ready, calls []int
	kind := func(k int) Kind {
		return func(n int) func() {
			ready = append(ready, 10*n+k)
			time.Sleep(10 * time.Millisecond)
			return func() { calls = append(calls, 10*n+k) }
		}
	}
	took := Time(4, kind(0), kind(1), kind(2))
	if !slices.Equal(calls, ready) {
		t.Errorf("made ready %v, called %v", ready, calls)
	}
	slices.Sort(calls)
	if len(took) != 3 || len(took[2]) != 4 || !slices.Equal(calls, []int{0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32}) || median(took[1]) > float64(5*time.Millisecond) {
		t.Errorf("%v, %v", took, calls)
	}
	nothing := func(int) func() { return func() {} }
	if d := Same(1000, nothing, nothing); d.Found == "" {
		t.Error("nothing is said of what was found")
	}
}

// TestUntil: what is looked for may be found late, and whoever looks for the other finds it at once.
func TestUntil(t *testing.T) {
	t.Parallel()
	slow := func(d time.Duration) Kind { return func(int) func() { return func() { time.Sleep(d) } } }
	if d := Apart(20, slow(time.Millisecond), slow(3*time.Millisecond)); d.Alike() || !strings.HasPrefix(d.Found, "try 1, ") {
		t.Errorf("three times as long: %s", d.Found)
	}
	calls := 0
	late := func(int) func() {
		return func() {
			if calls++; calls > 2*20 { // the third time it has become slower
				time.Sleep(3 * time.Millisecond)
			} else {
				time.Sleep(time.Millisecond)
			}
		}
	}
	if d := Apart(20, slow(time.Millisecond), late); d.Alike() {
		t.Errorf("slower the third time: %s", d.Found)
	}
}
