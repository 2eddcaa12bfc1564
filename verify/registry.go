package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

// registry remembers what decisions are made from, each tenant's at one epoch. It is never asked whether it is fresh:
// the append compares the epoch and refuses a decision made at an old one.
type registry struct {
	db *tenantdb.DB
	// keys reads the signing keys anew. One that is revoked moves every tenant's epoch, so that what is remembered of a
	// tenant at an epoch vouches for the keys too: they were read after the epoch was.
	keys  func(context.Context) error
	mu    sync.RWMutex
	rooms map[tenantdb.TenantID]*memory
	once  singleflight.Group
}

// memory is one tenant at one epoch. Its maps only grow; another epoch is another memory.
type memory struct {
	state  *tenantState
	mu     sync.RWMutex
	agents map[agent.ID]*agentState
	keys   map[string]*apikey.Use
}

// The bounds of what is remembered. What falls out is read again.
const (
	mostTenants = 20_000
	mostThings  = 50_000
)

// loadPatience bounds a read that others wait for too, as the door bounds the wait for an answer to a commit.
const loadPatience = 6 * time.Second

func newRegistry(db *tenantdb.DB, keys func(context.Context) error) *registry {
	return &registry{db: db, keys: keys, rooms: map[tenantdb.TenantID]*memory{}}
}

func (r *registry) get(t tenantdb.TenantID) *memory {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.rooms[t]
}

// drop forgets a tenant whose epoch has moved on, unless that has been noticed already.
func (r *registry) drop(current tenantdb.Head) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.rooms[current.Tenant]; m != nil && m.state.head.Epoch != current.Epoch {
		delete(r.rooms, current.Tenant)
	}
}

// agent is a tenant and one of its agents, both at one epoch. Either may be nil: there is none. An agent that is not
// remembered is always asked for: it may have been registered a moment ago, which moves no epoch.
func (r *registry) agent(ctx context.Context, t tenantdb.TenantID, id agent.ID) (*tenantState, *agentState, error) {
	if m := r.get(t); m != nil {
		m.mu.RLock()
		a := m.agents[id]
		m.mu.RUnlock()
		if a != nil {
			return m.state, a, nil
		}
	}
	return load(ctx, r, t, "agent "+id.String(), func(tx *tenantdb.ReadTx) (*agentState, error) {
		return loadAgent(ctx, tx, t, id)
	}, func(m *memory, a *agentState) { m.agents[id] = a })
}

// key is a tenant and one of its keys, both at one epoch.
func (r *registry) key(ctx context.Context, t tenantdb.TenantID, id string) (*tenantState, *apikey.Use, error) {
	if m := r.get(t); m != nil {
		m.mu.RLock()
		k := m.keys[id]
		m.mu.RUnlock()
		if k != nil {
			return m.state, k, nil
		}
	}
	return r.loadKey(ctx, t, id)
}

// keyAnew is key, read by nobody who began before now: memory, and a read that others wait for, may refuse a key that was
// enabled a moment ago.
func (r *registry) keyAnew(ctx context.Context, t tenantdb.TenantID, id string) (*tenantState, *apikey.Use, error) {
	r.once.Forget(flight(t, "key "+id))
	return r.loadKey(ctx, t, id)
}

func (r *registry) loadKey(ctx context.Context, t tenantdb.TenantID, id string) (*tenantState, *apikey.Use, error) {
	return load(ctx, r, t, "key "+id, func(tx *tenantdb.ReadTx) (*apikey.Use, error) {
		return apikey.LoadUse(ctx, tx, id)
	}, func(m *memory, k *apikey.Use) { m.keys[id] = k })
}

type loaded[T any] struct {
	state *tenantState
	thing *T
}

func flight(t tenantdb.TenantID, name string) string { return t.String() + " " + name }

// load reads a tenant and one thing of it at one instant, once for all who wait for it, and remembers them. Whoever waits
// goes when its own time is over.
func load[T any](ctx context.Context, r *registry, t tenantdb.TenantID, name string, read func(*tenantdb.ReadTx) (*T, error), keep func(*memory, *T)) (*tenantState, *T, error) {
	coming := r.once.DoChan(flight(t, name), func() (any, error) {
		var l loaded[T]
		// Others wait for this read too: it must not end with the one who came first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadPatience)
		defer cancel()
		err := r.db.ReadFresh(ctx, tenantdb.System(t, "verify"), func(tx *tenantdb.ReadTx) (err error) {
			if l.state, err = loadTenant(ctx, tx, t); err != nil || l.state == nil {
				return err
			}
			l.state.builtIn = policy.BuiltIn
			l.thing, err = read(tx)
			return err
		})
		if err != nil {
			return l, fmt.Errorf("verify.registry: %w", err)
		}
		if l.thing == nil {
			return l, nil
		}
		if m := r.get(t); m == nil || m.state.head.Epoch != l.state.head.Epoch {
			if err := r.keys(ctx); err != nil {
				return loaded[T]{}, fmt.Errorf("verify.registry: signing keys: %w", err)
			}
		}
		r.keep(l.state, func(m *memory) { keep(m, l.thing) })
		return l, nil
	})
	select {
	case got := <-coming:
		l := got.Val.(loaded[T])
		return l.state, l.thing, got.Err
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("verify.registry: %w", context.Cause(ctx))
	}
}

func (r *registry) keep(s *tenantState, put func(*memory)) {
	r.mu.Lock()
	m := r.rooms[s.head.Tenant]
	if m == nil || m.state.head.Epoch != s.head.Epoch {
		if len(r.rooms) >= mostTenants {
			clear(r.rooms)
		}
		m = &memory{state: s, agents: map[agent.ID]*agentState{}, keys: map[string]*apikey.Use{}}
		r.rooms[s.head.Tenant] = m
	}
	r.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.agents)+len(m.keys) >= mostThings {
		clear(m.agents)
		clear(m.keys)
	}
	put(m)
}
