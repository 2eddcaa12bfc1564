package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// begin is one cold start: from exec to the ready line, the schema in place.
type begin struct {
	Ready  float64 `json:"ready_ms"`
	Memory int64   `json:"idle_memory_bytes"`
}

// disk is what fdatasync took in one round.
type disk struct {
	Round     int     `json:"round"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
}

// measure fills the book: cold starts, then the rounds.
func (s *stage) measure(ctx context.Context, b *book) error {
	if err := s.coldStarts(ctx, b); err != nil {
		return err
	}
	if err := s.restart(ctx); err != nil {
		return err
	}
	var plan []cell
	for _, c := range cells() {
		if s.only.MatchString(c.name) {
			plan = append(plan, c)
		}
	}
	for round := 1; round <= s.rounds; round++ {
		d, err := s.disk(round)
		if err != nil {
			return err
		}
		b.Disk = append(b.Disk, d)
		s.say("round %d of %d: fdatasync p50 %.3f ms, p99 %.3f ms", round, s.rounds, d.P50, d.P99)
		if s.only.MatchString(cellSQL) {
			took, err := s.sqlKeys(ctx, round)
			if err != nil {
				return err
			}
			b.SQLKeys = append(b.SQLKeys, took...)
			for _, k := range took {
				s.say("  %-40s p50 %7.1f us, %.2f times a bare sha512", cellSQL+" "+k.Kind, k.Verify, k.Verify/k.Bare)
			}
		}
		for _, c := range plan {
			r, err := s.even(ctx, c)
			if err != nil {
				return err
			}
			r.Round = round
			b.Results = append(b.Results, r)
			s.say("  %-40s %9.0f/s  p50 %7.2f  p99 %7.2f ms  cpu %5.0f + %4.0f us  %s",
				c.key(), r.PerSecond, r.P50, r.P99, r.ServerCPU, r.PostgresCPU, r.Wrong)
		}
	}
	return nil
}

// settle is how long a server that has just started is left alone before its idle memory is read.
const settle = 700 * time.Millisecond

func (s *stage) coldStarts(ctx context.Context, b *book) error {
	for range s.starts {
		if err := s.restart(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bench.measure: %w", ctx.Err())
		case <-time.After(settle):
		}
		b.Starts = append(b.Starts, begin{float64(s.serve.took.Microseconds()) / 1000, memory(s.serve.pid())})
	}
	return nil
}

func (s *stage) disk(round int) (d disk, err error) {
	h, err := fdatasync(s.temp, min(s.cell, time.Second))
	if err != nil {
		return d, err
	}
	ms := func(q float64) float64 { return float64(h.quantile(q).Microseconds()) / 1000 }
	return disk{round, 1e6 / float64(max(1, h.mean().Microseconds())), ms(0.5), ms(0.99)}, nil
}

// profiled are the cells whose profiles are worth reading.
func profiled(c cell) bool {
	switch c.name {
	case cellDifferent, cellNew, cellDeny, cellCrowd, cellIssue, cellCode:
		return c.conns == 64
	}
	return false
}

// profiles runs cells again with the server's profiler on, which costs a little, so these runs are not in the book.
func (s *stage) profiles(ctx context.Context) error {
	if err := os.MkdirAll(s.profile, 0o755); err != nil {
		return fmt.Errorf("bench.profiles: %w", err)
	}
	var err error
	if s.pprof, err = freeAddress(); err != nil {
		return err
	}
	for _, c := range cells() {
		if !profiled(c) || !s.only.MatchString(c.name) {
			continue
		}
		c.fresh = true // so that the profile of allocations is of this cell alone
		seconds := max(1, int((s.warm + s.cell).Seconds()))
		cpu := fmt.Sprintf("profile?seconds=%d", seconds)
		taken := make(chan error, 1)
		c.beside = func(*scene) chore {
			return func(ctx context.Context, _ string, _ map[string]float64) error {
				taken <- s.take(context.WithoutCancel(ctx), c, cpu, "cpu")
				<-ctx.Done()
				return ctx.Err()
			}
		}
		if _, err := s.run(ctx, c); err != nil {
			return err
		}
		if err := <-taken; err != nil {
			return err
		}
		if err := s.take(ctx, c, "allocs", "allocs"); err != nil {
			return err
		}
	}
	s.pprof = ""
	s.say("profiles are in %s: go tool pprof -top FILE", s.profile)
	return nil
}

// take saves one profile.
func (s *stage) take(ctx context.Context, c cell, what, kind string) error {
	f, err := os.Create(filepath.Join(s.profile, profileName(c.key(), kind)))
	if err != nil {
		return fmt.Errorf("bench.take: %w", err)
	}
	if _, err := fetch(ctx, "http://"+s.pprof+"/debug/pprof/"+what, "", f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
