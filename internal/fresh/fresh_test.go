package fresh

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestReadBeginsAfterItWasAskedFor has callers come at random instants while the thing changes all the time: nobody may be
// told less than what it was when they asked.
func TestReadBeginsAfterItWasAskedFor(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		comes := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 30).Draw(rt, "milliseconds")
		keys := rapid.SliceOfN(rapid.IntRange(0, 1), len(comes), len(comes)).Draw(rt, "keys")
		synctest.Test(t, func(t *testing.T) {
			reads := New[int, time.Time](time.Second)
			running := [2]atomic.Int32{}
			for i, at := range comes {
				go func() {
					time.Sleep(time.Duration(at) * time.Millisecond)
					asked := time.Now()
					found, err := reads.Begin(t.Context(), keys[i], func(context.Context) (time.Time, error) {
						if running[keys[i]].Add(1) > 1 {
							t.Error("two reads of one thing at once")
						}
						defer running[keys[i]].Add(-1)
						was := time.Now()
						time.Sleep(7 * time.Millisecond)
						return was, nil
					}).Wait(t.Context())
					if err != nil || found.Before(asked) {
						t.Errorf("read at %v, asked at %v: %v", found, asked, err)
					}
					if waited := time.Since(asked); waited > 14*time.Millisecond {
						t.Errorf("waited %v, for more than two reads", waited)
					}
				}()
			}
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			if len(reads.coming)+len(reads.last) != 0 {
				t.Error("reads that are over are kept")
			}
		})
	})
}

func TestManyShareOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads, n := New[string, int](time.Second), 0
		read := func(context.Context) (int, error) { n++; time.Sleep(time.Millisecond); return n, nil }
		first := reads.Begin(t.Context(), "k", read)
		synctest.Wait() // it has begun
		for range 100 {
			go func() {
				if got, err := reads.Begin(t.Context(), "k", read).Wait(t.Context()); got != 2 || err != nil {
					t.Errorf("got %d, %v", got, err)
				}
			}()
		}
		if got, _ := first.Wait(t.Context()); got != 1 {
			t.Error(got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n != 2 {
			t.Errorf("%d reads", n)
		}
	})
}

func TestReadOutlivesWhoAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := New[string, int](time.Minute)
		gone, cancel := context.WithCancelCause(t.Context())
		r := reads.Begin(gone, "k", func(ctx context.Context) (int, error) {
			select {
			case <-time.After(time.Second):
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
		why := errors.New("hung up")
		cancel(why)
		if _, err := r.Wait(gone); !errors.Is(err, why) || r.Over() {
			t.Errorf("%v, over: %v", err, r.Over())
		}
		if got, err := r.Wait(t.Context()); got != 7 || err != nil || !r.Over() || r.Err() != nil {
			t.Errorf("got %d, %v", got, err)
		}
		late := reads.Begin(t.Context(), "k", func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		if _, err := late.Wait(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a read without end: %v", err)
		}
	})
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := New[string, int](time.Minute)
		r := reads.Begin(t.Context(), "k", func(context.Context) (int, error) { panic("of the read") })
		if _, err := r.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "of the read") {
			t.Error(err)
		}
		if got, err := reads.Begin(t.Context(), "k", func(context.Context) (int, error) { return 7, nil }).Wait(t.Context()); got != 7 || err != nil {
			t.Errorf("the next: %d, %v", got, err)
		}
	})
}
