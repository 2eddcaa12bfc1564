package password

import (
	"context"
	"slices"
	"sync"
	"time"
)

// From says who asks for a hash: of those who wait, known devices go first.
type From int

// The two queues.
const (
	Stranger    From = iota // anybody: a crowd of guessers stands here
	KnownDevice             // a device that its person has signed in from before, or somebody with a session
)

const (
	queuedPerPermit = 16 // in each queue; more could not be served in time anyway
	comeBack        = 3 * time.Second
)

// permits bound how many hashes are made at once, and so the memory that they take.
type permits struct {
	patience time.Duration
	most     int // in each queue

	mu      sync.Mutex
	free    int
	queues  [2][]*waiter // by From
	refused uint64
}

// waiter is somebody in a queue. granted is closed when it has a permit.
type waiter struct{ granted chan struct{} }

func newPermits(n int, patience time.Duration) *permits {
	return &permits{free: n, most: n * queuedPerPermit, patience: patience}
}

// take waits for a permit. Its error is problem.Unavailable, or that of ctx; then there is none to give back.
func (p *permits) take(ctx context.Context, from From) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := p.enter(from)
	if w == nil || err != nil {
		return err
	}
	patience := time.NewTimer(p.patience)
	defer patience.Stop()
	for longer := from == KnownDevice; ; longer = false {
		select {
		case <-w.granted:
			return nil
		case <-patience.C:
			if longer && p.next(w) {
				patience.Reset(p.patience)
				continue
			}
			if p.leave(w, from) {
				return p.refuse()
			}
			return nil // it came at the last moment
		case <-ctx.Done():
			if !p.leave(w, from) {
				p.give()
			}
			return ctx.Err()
		}
	}
}

// next reports whether the next permit goes to a known device: where one hash takes longer than anybody's patience, as on a machine
// that a crowd slows down, it would never have one.
func (p *permits) next(w *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queues[KnownDevice]) > 0 && p.queues[KnownDevice][0] == w
}

// enter takes a free permit, or a place in a queue.
func (p *permits) enter(from From) (*waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.free > 0: // nobody waits then
		p.free--
		return nil, nil
	case len(p.queues[from]) >= p.most:
		p.refused++
		return nil, busy()
	}
	w := &waiter{make(chan struct{})}
	p.queues[from] = append(p.queues[from], w)
	return w, nil
}

// leave gives up a place; false if the permit was granted already.
func (p *permits) leave(w *waiter, from From) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queues[from], w)
	if i < 0 {
		return false
	}
	p.queues[from] = slices.Delete(p.queues[from], i, i+1)
	return true
}

func (p *permits) refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused++
	return busy()
}

// give hands a permit to whoever is next.
func (p *permits) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, from := range []From{KnownDevice, Stranger} {
		if q := p.queues[from]; len(q) > 0 {
			close(q[0].granted)
			p.queues[from] = slices.Delete(q, 0, 1)
			return
		}
	}
	p.free++
}

func (p *permits) counts() (waiting int, refused uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queues[Stranger]) + len(p.queues[KnownDevice]), p.refused
}
