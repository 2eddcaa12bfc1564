package tenantdb

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/avouch-dev/avouch/audit"
)

// Group makes many small changes of one tenant with one commit, where each alone would hold the head through a commit of
// its own: token issue is the case. What waits while a commit is under way goes together in the next.
type Group[T any] struct {
	db *DB
	// change makes the changes of all items and returns an event for each; items that it refuses it gives an error
	// instead, and they must not have changed anything.
	change  func(tx *Tx, items []T) ([]audit.Event, []error, error)
	mu      sync.Mutex
	waiting map[TenantID][]member[T]
}

type member[T any] struct {
	caller  Caller
	item    T
	outcome chan error
}

const groupSize = 128

// NewGroup makes a group. change is called with the items of one tenant, in the order in which they came.
func NewGroup[T any](db *DB, change func(tx *Tx, items []T) ([]audit.Event, []error, error)) *Group[T] {
	return &Group[T]{db: db, change: change, waiting: map[TenantID][]member[T]{}}
}

// Do makes the item's change with those of others, as DB.Change would alone. The outcome is the item's own. If ctx ends
// while the item waits, it is taken back; once its commit is under way Do waits for the outcome, which is bounded by the
// database's patience and not by ctx: nobody could tell the caller what became of it.
func (g *Group[T]) Do(ctx context.Context, c Caller, it T) error {
	if g.db.closed.Load() {
		return unavailable(errStopping)
	}
	m := member[T]{c, it, make(chan error, 1)}
	g.mu.Lock()
	queue, running := g.waiting[c.Tenant()]
	if len(queue) >= queueLength {
		g.mu.Unlock()
		return unavailable(errors.New("group full"))
	}
	g.waiting[c.Tenant()] = append(queue, m)
	g.mu.Unlock()
	if !running {
		go g.run(c.Tenant())
	}
	select {
	case err := <-m.outcome:
		return err
	case <-ctx.Done():
		if g.takeBack(m) {
			return unavailable(context.Cause(ctx))
		}
		return <-m.outcome
	}
}

// takeBack reports whether the item still waited, and does no longer.
func (g *Group[T]) takeBack(m member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	queue := g.waiting[m.caller.Tenant()]
	i := slices.IndexFunc(queue, func(o member[T]) bool { return o.outcome == m.outcome })
	if i < 0 {
		return false
	}
	g.waiting[m.caller.Tenant()] = slices.Delete(queue, i, i+1)
	return true
}

// run commits the tenant's items until none waits.
func (g *Group[T]) run(t TenantID) {
	for {
		g.mu.Lock()
		members := g.waiting[t]
		if len(members) == 0 {
			delete(g.waiting, t)
			g.mu.Unlock()
			return
		}
		n := min(len(members), groupSize)
		g.waiting[t] = append([]member[T](nil), members[n:]...)
		members = members[:n]
		g.mu.Unlock()
		g.commit(members)
	}
}

func (g *Group[T]) commit(members []member[T]) {
	ctx, cancel := context.WithTimeout(context.Background(), g.db.patience)
	defer cancel()
	var each []error
	err := g.db.changeMany(ctx, members[0].caller, func(tx *Tx) ([]callerEvent, error) {
		items := make([]T, len(members))
		for i, m := range members {
			items[i] = m.item
		}
		events, refused, err := g.change(tx, items)
		each = refused
		if err != nil {
			return nil, err
		}
		var out []callerEvent
		for i, ev := range events {
			if refused[i] == nil {
				out = append(out, callerEvent{members[i].caller, ev})
			}
		}
		return out, nil
	})
	for i, m := range members {
		if err == nil && i < len(each) {
			m.outcome <- each[i]
		} else {
			m.outcome <- err
		}
	}
}
