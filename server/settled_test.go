package server

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// TestSettled: what waits for the first turn of what runs in the background waits for all of it, also for what fails.
func TestSettled(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	s, held, settled := &Server{log: slog.New(slog.DiscardHandler)}, make(chan struct{}), make(chan struct{})
	s.every(ctx, "quick", time.Hour, func(context.Context) error { return errors.New("not now") })
	s.every(ctx, "slow", time.Hour, func(context.Context) error { <-held; return nil })
	go func() { s.Settled(); close(settled) }()
	select {
	case <-settled:
		t.Error("settled before all had their turn")
	case <-time.After(50 * time.Millisecond):
	}
	close(held)
	<-settled
	stop()
	s.work.Wait()
}
