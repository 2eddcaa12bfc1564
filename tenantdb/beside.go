package tenantdb

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// beside lets the items of a tenant whose head is held wait apart, so that one held head delays its own tenant and not
// the others. A group is the items that share tenants with each other; it has one statement under way at a time.
type beside struct {
	db     *DB
	mu     sync.Mutex
	groups []*group
	slots  chan struct{}
}

type group struct {
	tenants []TenantID
	pending []*item
}

const (
	besideConnections = 4
	groupLength       = 2048
)

func (b *beside) init(db *DB) {
	b.db = db
	b.slots = make(chan struct{}, besideConnections)
}

// divert takes out of a batch what belongs to a group that waits already.
func (b *beside) divert(batch []*item) []*item {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.groups) == 0 {
		return batch
	}
	return slices.DeleteFunc(batch, func(it *item) bool {
		g := b.find(it)
		if g == nil {
			return false
		}
		b.join(g, it)
		return true
	})
}

func (b *beside) find(it *item) *group {
	for _, g := range b.groups {
		if slices.ContainsFunc(g.tenants, it.touches) {
			return g
		}
	}
	return nil
}

func (b *beside) join(g *group, it *item) {
	if len(g.pending) >= groupLength {
		it.finish(unavailable(errors.New("too many wait for a held head")))
		return
	}
	g.pending = append(g.pending, it)
	for i := range it.drafts {
		if t := it.drafts[i].head.Tenant; !slices.Contains(g.tenants, t) {
			g.tenants = append(g.tenants, t)
		}
	}
}

// take lets an item whose tenant's head is held wait, in a group of its own if there is none.
func (b *beside) take(it *item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.find(it); g != nil {
		b.join(g, it)
		return
	}
	g := &group{}
	b.groups = append(b.groups, g)
	b.join(g, it)
	go b.run(g)
}

// run commits a group's items until none is left.
func (b *beside) run(g *group) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	var work batchWork
	for {
		b.mu.Lock()
		batch := g.pending
		g.pending = nil
		if len(batch) == 0 {
			b.groups = slices.DeleteFunc(b.groups, func(o *group) bool { return o == g })
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		err := b.db.commit(context.Background(), b.db.waiting, &work, batch)
		b.settle(g, batch, err)
	}
}

func (b *beside) settle(g *group, batch []*item, err error) {
	for _, it := range batch {
		switch {
		case errors.Is(err, errHeld):
			it.finish(unavailable(err))
		case errors.Is(it.err, errRetry):
			b.mu.Lock()
			b.join(g, it)
			b.mu.Unlock()
		default:
			it.finish(it.err)
		}
	}
}
