package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/avouch-dev/avouch/tenantdb"
)

// front keeps what strangers ask of the page /verified from costing much: it has nothing to do with decisions.
type front struct {
	now     func() time.Time
	inForce func(kid string) error
	limit   time.Duration // for asking, and again for making
	asking  chan struct{} // who asks the database whether a service shows itself
	making  chan struct{} // who reads its newest entries and signs
	once    singleflight.Group
	mu      sync.Mutex
	views   map[tenantdb.TenantID]view
}

// view is the page of a service as it was made.
type view struct {
	made  time.Time
	badge badge
	kid   string // that signed its statement; empty if there was nothing to state
	body  []byte
}

const (
	viewFor    = 30 * time.Second
	mostViews  = 1000 // a few kilobytes each
	mostAsking = 4    // connections of the pool that everything else reads by, too
	mostMaking = 2
	pageLimit  = 5 * time.Second
)

func newFront(now func() time.Time, inForce func(string) error) *front {
	return &front{
		now: now, inForce: inForce, limit: pageLimit,
		asking: make(chan struct{}, mostAsking), making: make(chan struct{}, mostMaking), views: map[tenantdb.TenantID]view{},
	}
}

// enter waits for one of a few places.
func enter(ctx context.Context, places chan struct{}) (leave func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("verify: too many ask for the page: %w", ctx.Err())
	}
}

// badge is the same work, and the same answer, for a service that does not exist and one that does not show itself.
func (f *front) badge(ctx context.Context, db *tenantdb.DB, t tenantdb.TenantID) (badge, bool, error) {
	leave, err := enter(ctx, f.asking)
	if err != nil {
		return badge{}, false, err
	}
	defer leave()
	return readBadge(ctx, db, t)
}

// page is the page that is remembered of a service with this badge, or a new one: made once for all who wait for it.
func (f *front) page(ctx context.Context, t tenantdb.TenantID, b badge, show func(context.Context) (view, error)) ([]byte, error) {
	if v, ok := f.remembered(t, b); ok {
		return v.body, nil
	}
	body, err, _ := f.once.Do(t.String()+" "+b.name, func() (any, error) {
		if v, ok := f.remembered(t, b); ok { // made while this one came here
			return v.body, nil
		}
		// Others wait for it too: it must not end with the one who came first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.limit)
		defer cancel()
		leave, err := enter(ctx, f.making)
		if err != nil {
			return []byte(nil), err
		}
		defer leave()
		v, err := show(ctx)
		if err == nil {
			f.keep(t, v)
		}
		return v.body, err
	})
	return body.([]byte), err
}

// remembered leaves out what was said under another name, or signed with a key that was revoked since.
func (f *front) remembered(t tenantdb.TenantID, b badge) (view, bool) {
	f.mu.Lock()
	v, ok := f.views[t]
	f.mu.Unlock()
	return v, ok && v.badge == b && f.fresh(v) && (v.kid == "" || f.inForce(v.kid) == nil)
}

func (f *front) fresh(v view) bool {
	age := f.now().Sub(v.made)
	return age >= 0 && age < viewFor
}

// keep makes room by what is too old, and if nothing is, by any one.
func (f *front) keep(t tenantdb.TenantID, v view) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, again := f.views[t]; !again && len(f.views) >= mostViews {
		for other, old := range f.views {
			if !f.fresh(old) {
				delete(f.views, other)
			}
		}
		for other := range f.views {
			if len(f.views) < mostViews {
				break
			}
			delete(f.views, other)
		}
	}
	f.views[t] = v
}
