package rotation

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	atOnce    = 2  // organisations that one server rotates side by side
	mostBegun = 25 // rotations that one Tick begins
)

// Tick begins the rotations whose time has come and goes on with those that are due, of all organisations. It is safe to call on every
// server, every minute or so. What fails for one organisation is said in the log, is tried again at the next, and costs no other.
func (r *Room) Tick(ctx context.Context) error {
	if err := r.cfg.DB.ClockAgrees(ctx); err != nil { // it is said once
		return wrapped("Tick", err)
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	slots := make(chan struct{}, atOnce)
	var begun atomic.Int64
	err := r.cfg.DB.Each(ctx, "rotation", func(c tenantdb.Caller) error {
		s, err := readStanding(ctx, r.cfg.DB, c, r.instant())
		if err != nil {
			r.failed(ctx, c, err)
			return ctx.Err()
		}
		begin := r.overdue(c.Tenant(), s) && begun.Load() < mostBegun
		if !begin && !s.due {
			return nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wait.Go(func() {
			defer func() { <-slots }()
			if begin && !r.begins(ctx, c) {
				return
			}
			if begin {
				begun.Add(1)
			}
			r.turn(ctx, c)
		})
		return nil
	})
	return wrapped("Tick", err)
}

// begins does not count what cannot begin: who is broken is in nobody's way.
func (r *Room) begins(ctx context.Context, c tenantdb.Caller) bool {
	_, err := r.Begin(ctx, c)
	if err != nil {
		r.failed(ctx, c, err)
	}
	return err == nil
}

// turn goes on for one organisation until there is nothing to do now.
func (r *Room) turn(ctx context.Context, c tenantdb.Caller) {
	for did := true; did; {
		var err error
		if _, did, err = r.Work(ctx, c, nil); err != nil {
			r.failed(ctx, c, err)
			return
		}
	}
}

func (r *Room) failed(ctx context.Context, c tenantdb.Caller, err error) {
	if ctx.Err() == nil && !problem.Is(err, problem.TenantKey) { // closed by itself: that is said elsewhere, and it goes on when it is open
		r.cfg.Log.ErrorContext(ctx, "the rotation of an organisation's keys has stopped, and is gone on with later", "tenant", c.Tenant(), "error", err)
	}
}

// overdue says whether it is time for the next rotation. Organisations that were made at one time do not come at one time: each has an
// instant of its own in the last tenth of the time, the same on all servers.
func (r *Room) overdue(t tenantdb.TenantID, s standing) bool {
	if r.cfg.Every == 0 || s.gone || s.under {
		return false
	}
	early := time.Duration(float64(binary.BigEndian.Uint32(t[12:])) / (1 << 32) * float64(r.cfg.Every/10))
	return !r.instant().Before(s.since.Add(r.cfg.Every - early))
}
