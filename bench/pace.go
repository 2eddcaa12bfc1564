package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A virtual machine's host may give its processors to others, for a second or for an hour. What is measured then is the host,
// so each cell is measured while the machine is as fast as it has been, or again.

const (
	paceFor   = 30 * time.Millisecond
	slow      = 0.8  // of the best pace of this run
	stolen    = 0.03 // of the processors' time, by the host
	mostTries = 3
)

// pace is how many bytes a second all processors digest together, when nothing else runs.
func pace() float64 {
	var sum float64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			block, n, start := make([]byte, 64<<10), 0, time.Now()
			for time.Since(start) < paceFor {
				sha256.Sum256(block)
				n += len(block)
			}
			mu.Lock()
			defer mu.Unlock()
			sum += float64(n) / time.Since(start).Seconds()
		})
	}
	all.Wait()
	return sum
}

// processors is the time of all processors since they started, and what the host took of it. Both are 0 where /proc/stat is not.
type processors struct{ all, stolen uint64 }

func processorTimes() (p processors) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(b, []byte("\n"))
	for i, f := range strings.Fields(string(line)) {
		n, _ := strconv.ParseUint(f, 10, 64) // the first is "cpu"
		if i <= 8 {                          // guests' time is in their hosts' already
			p.all += n
		}
		if i == 8 {
			p.stolen = n
		}
	}
	return p
}

func (p processors) share(since processors) float64 {
	if p.all <= since.all {
		return 0
	}
	return float64(p.stolen-since.stolen) / float64(p.all-since.all)
}

// even measures a cell while the host leaves the machine alone: if it does not, it waits, for -wait in all, and measures again.
func (s *stage) even(ctx context.Context, c cell) (r result, err error) {
	for try := 1; ; try++ {
		before, err := s.rested(ctx)
		if err != nil {
			return r, err
		}
		start := processorTimes()
		if r, err = s.run(ctx, c); err != nil {
			return r, err
		}
		r.Tries, r.Stolen = try, processorTimes().share(start)
		r.Pace = min(before, s.relative(pace()))
		if s.quick || r.Pace >= slow && r.Stolen <= stolen || try == mostTries || s.waited >= s.wait {
			return r, nil
		}
	}
}

// rested waits until the machine is as fast as it has been, and says how fast that is, as a share of the best.
func (s *stage) rested(ctx context.Context) (float64, error) {
	for {
		p := s.relative(pace())
		if p >= slow || s.quick || s.waited >= s.wait {
			return p, nil
		}
		const nap = time.Second
		s.waited += nap
		select {
		case <-ctx.Done():
			return p, fmt.Errorf("bench.rested: %w", ctx.Err())
		case <-time.After(nap):
		}
	}
}

func (s *stage) relative(p float64) float64 {
	s.best = max(s.best, p)
	return p / s.best
}

// uneven says what the reader must know of cells during which the host was elsewhere.
func (b *book) uneven() string {
	var again, kept []string
	for _, r := range b.Results {
		name := fmt.Sprintf("%s c=%d, round %d", r.Cell, r.Conns, r.Round)
		if r.Tries > 1 {
			again = append(again, name)
		}
		if r.Tries > 0 && (r.Pace < slow || r.Stolen > stolen) {
			kept = append(kept, fmt.Sprintf("%s (pace %.2f, stolen %.0f %%)", name, r.Pace, 100*r.Stolen))
		}
	}
	if len(again)+len(kept) == 0 {
		return ""
	}
	text := fmt.Sprintf("The host took more than %.0f %% of the processors' time, or they were slower than %.1f of their best pace, in %d of %d measurements, which were made again",
		100*stolen, slow, len(again), len(b.Results))
	if len(kept) == 0 {
		return text + ".\n\n"
	}
	return text + fmt.Sprintf(" (up to %d times). **In %d it stayed so, and they count all the same**: %s.\n\n", mostTries, len(kept), strings.Join(kept, "; "))
}
