package password

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"pgregory.net/rapid"
)

// TestKnownDevicesGoFirst: strangers who came before wait behind them, and each queue is served in its order.
func TestKnownDevicesGoFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPermits(1, time.Minute)
		must(t, p.take(t.Context(), Stranger))
		var order []string
		var all sync.WaitGroup
		for _, w := range []struct {
			name string
			from From
		}{{"s1", Stranger}, {"s2", Stranger}, {"k1", KnownDevice}, {"k2", KnownDevice}} {
			all.Go(func() {
				must(t, p.take(t.Context(), w.from))
				order = append(order, w.name)
				p.give()
			})
			synctest.Wait()
		}
		if waiting, _ := p.counts(); waiting != 4 {
			t.Errorf("%d wait", waiting)
		}
		p.give()
		all.Wait()
		if want := []string{"k1", "k2", "s1", "s2"}; !slices.Equal(order, want) {
			t.Errorf("they were served as %v, want %v", order, want)
		}
	})
}

// TestWaitIsBounded: nobody waits longer than the patience, but the known device that is next, which waits twice as long; and of
// those who could not be served nobody waits at all.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPermits(2, DefaultPatience)
		must(t, p.take(t.Context(), Stranger))
		must(t, p.take(t.Context(), Stranger))
		begun := time.Now()
		var all sync.WaitGroup
		for range 2 * queuedPerPermit {
			all.Go(func() { refused(t, p.take(t.Context(), Stranger)) })
		}
		synctest.Wait()
		refused(t, p.take(t.Context(), Stranger)) // at once
		if took := time.Since(begun); took != 0 {
			t.Errorf("who found the queue full waited %v", took)
		}
		next := make(chan time.Duration, 1)
		go func() { // whose queue is another
			refused(t, p.take(t.Context(), KnownDevice))
			next <- time.Since(begun)
		}()
		synctest.Wait()
		all.Go(func() { refused(t, p.take(t.Context(), KnownDevice)) })
		all.Wait()
		if took := time.Since(begun); took != DefaultPatience || took >= 2*time.Second {
			t.Errorf("they waited %v", took)
		}
		if took := <-next; took != 2*DefaultPatience {
			t.Errorf("the known device that was next waited %v", took)
		}
		if waiting, n := p.counts(); waiting != 0 || n != 2*queuedPerPermit+3 {
			t.Errorf("%d wait, %d were refused", waiting, n)
		}
		p.give()
		must(t, p.take(t.Context(), Stranger))
	})
}

func refused(t *testing.T, err error) {
	t.Helper()
	if e := problem.Of(err); e == nil || e.Kind != problem.Unavailable || e.HTTPStatus() != 503 || e.RetryAfter < time.Second {
		t.Errorf("the refusal is %v", err)
	}
}

// TestWhoGoesLeavesTheQueue: a permit never goes to somebody who has gone.
func TestWhoGoesLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPermits(1, time.Minute)
		must(t, p.take(t.Context(), Stranger))
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- p.take(ctx, KnownDevice) }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("who went was told %v", err)
		}
		if waiting, n := p.counts(); waiting != 0 || n != 0 {
			t.Errorf("%d wait, %d were refused", waiting, n)
		}
		if err := p.take(ctx, Stranger); !errors.Is(err, context.Canceled) {
			t.Errorf("who had gone before was told %v", err)
		}
		p.give()
		must(t, p.take(t.Context(), Stranger))
	})
}

// TestPermitsAddUp: whatever comes, waits, goes and gives back, there are never more hashes than permits, and in the end all are
// free.
func TestPermitsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "permits")
		type call struct {
			from              From
			after, goes, busy time.Duration
		}
		ms := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(0, 40).Draw(t, "ms")) * time.Millisecond
		})
		calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
			return call{From(rapid.IntRange(0, 1).Draw(t, "from")), ms.Draw(t, "after"), ms.Draw(t, "goes"), ms.Draw(t, "busy")}
		}), 0, 40).Draw(rt, "calls")
		synctest.Test(t, func(t *testing.T) {
			p := newPermits(n, 20*time.Millisecond)
			var mu sync.Mutex
			var all sync.WaitGroup
			working, most := 0, 0
			add := func(by int) {
				mu.Lock()
				defer mu.Unlock()
				working += by
				most = max(most, working)
			}
			for _, c := range calls {
				all.Go(func() {
					time.Sleep(c.after)
					ctx, cancel := context.WithTimeout(t.Context(), c.goes)
					defer cancel()
					if p.take(ctx, c.from) != nil {
						return
					}
					add(1)
					time.Sleep(c.busy)
					add(-1)
					p.give()
				})
			}
			all.Wait()
			if waiting, _ := p.counts(); most > n || p.free != n || waiting != 0 {
				t.Errorf("%d worked with %d permits; at the end %d are free, and %d wait", most, n, p.free, waiting)
			}
		})
	})
}
