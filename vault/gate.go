package vault

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// gate lets one at a time do what takes hundreds of megabytes: a passphrase takes 256 MiB and a second or more, a picture nearly as much
// memory. The places in front of it are few for each organisation, so that none keeps the others out.
type gate struct {
	slot     chan struct{}
	patience time.Duration
	freed    func() // called with the slot in hand, when the work's memory is garbage

	mu     sync.Mutex
	inside map[tenantdb.TenantID]int // who works or waits
}

const (
	gatePatience = 15 * time.Second
	gatePlaces   = 2 // of an organisation: one works, one waits
	gateComeBack = 5 * time.Second
)

func newGate(patience time.Duration) *gate {
	return &gate{slot: make(chan struct{}, 1), patience: patience, freed: debug.FreeOSMemory, inside: map[tenantdb.TenantID]int{}}
}

// through does the work once nobody else does any. Its error is the work's, or that it was not begun: problem.Unavailable, with a time to
// come back, if too many others want it at once, or that of ctx.
func (g *gate) through(ctx context.Context, t tenantdb.TenantID, work func() error) error {
	if !g.enter(t) {
		return tooBusy()
	}
	if err := g.wait(ctx); err != nil {
		g.leave(t)
		return err
	}
	// The memory must be free before the next takes its own, or as much piles up as the collector lets; but who waits for this answer
	// need not wait for that.
	defer func() {
		go func() {
			g.freed()
			g.leave(t)
			<-g.slot
		}()
	}()
	return work()
}

func (g *gate) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	late := time.NewTimer(g.patience)
	defer late.Stop()
	select {
	case g.slot <- struct{}{}: // whoever waits longest is next
		return nil
	case <-late.C:
		return tooBusy()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) enter(t tenantdb.TenantID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[t] >= gatePlaces {
		return false
	}
	g.inside[t]++
	return true
}

func (g *gate) leave(t tenantdb.TenantID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[t]--; g.inside[t] == 0 {
		delete(g.inside, t)
	}
}

func tooBusy() error {
	p := problem.New(problem.Unavailable, "Too many passphrases and pictures are being worked on at this moment, so nothing was done. Try again in a few seconds.")
	p.RetryAfter, p.Busy = gateComeBack, true
	return p
}
