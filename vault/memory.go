package vault

import (
	"context"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/internal/fresh"
	"github.com/avouch-dev/avouch/tenantdb"
)

// memory remembers what codes are decided from, each organisation's at one epoch. It is never asked whether it is fresh: the append
// compares the epoch, and refuses what was decided at an old one.
type memory struct {
	db    *tenantdb.DB
	now   func() time.Time
	mu    sync.RWMutex
	rooms map[tenantdb.TenantID]*shelf
	reads *fresh.Reads[thing, *state]
}

type thing struct {
	tenant tenantdb.TenantID
	item   ID
}

// shelf is an organisation's items at one epoch.
type shelf struct {
	head  tenantdb.Head
	items map[ID]*state
}

// state is an item with whom it was granted to, at the epoch of its head.
type state struct {
	head     tenantdb.Head
	item     *Item // nil if there is none
	grants   []Grant
	to       map[Actor][]Grant // the same, by whom they were granted to: an item can have hundreds
	requests []Request
	until    time.Time // remembered no longer: the key that its secret is wrapped under is replaced some day, and then destroyed
}

// the bounds of what is remembered. What falls out is read again.
const (
	mostTenants = 5_000
	mostItems   = 10_000 // of one organisation
	patience    = 6 * time.Second
	remember    = time.Hour
)

func newMemory(db *tenantdb.DB, now func() time.Time) *memory {
	return &memory{db: db, now: now, rooms: map[tenantdb.TenantID]*shelf{}, reads: fresh.New[thing, *state](patience)}
}

// state is an item at some epoch: as it is remembered, unless it is to be read anew. That is a read which begins from now on: an item
// that was made a moment ago moved no epoch, and one that was granted on another server is not remembered so here.
func (m *memory) state(ctx context.Context, t tenantdb.TenantID, id ID, anew bool) (*state, error) {
	if !anew {
		m.mu.RLock()
		var s *state
		if r := m.rooms[t]; r != nil {
			s = r.items[id]
		}
		m.mu.RUnlock()
		if s != nil && m.now().Before(s.until) {
			return s, nil
		}
	}
	return m.reads.Begin(ctx, thing{t, id}, func(ctx context.Context) (*state, error) {
		s := &state{until: m.now().Add(remember)}
		err := m.db.ReadFresh(ctx, tenantdb.System(t, "vault"), func(tx *tenantdb.ReadTx) error { return s.load(ctx, tx, id) })
		if err == nil && s.item != nil {
			m.keep(s)
		}
		return s, err
	}).Wait(ctx)
}

func (s *state) load(ctx context.Context, tx *tenantdb.ReadTx, id ID) (err error) {
	if s.head, err = readHead(ctx, tx); err != nil {
		return err
	}
	if s.item, err = readItem(ctx, tx, id); err != nil || s.item == nil {
		return err
	}
	if err := vouched(ctx, tx, s.item); err != nil {
		return err
	}
	var bad map[ID]error
	if s.grants, s.requests, bad, err = granted(ctx, tx, *s.item); err != nil {
		return err
	}
	s.to = make(map[Actor][]Grant, len(s.grants))
	for _, g := range s.grants {
		s.to[g.To] = append(s.to[g.To], g)
	}
	return bad[id]
}

// grantsTo are the grants to somebody in groups.
func (s *state) grantsTo(a Actor, groups []string) []Grant {
	all := s.to[a]
	for _, g := range groups {
		all = append(all[:len(all):len(all)], s.to[Actor{AGroup, g}]...)
	}
	return all
}

func (m *memory) keep(s *state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rooms[s.head.Tenant]
	if r == nil || r.head.Epoch != s.head.Epoch {
		if len(m.rooms) >= mostTenants {
			clear(m.rooms)
		}
		r = &shelf{s.head, map[ID]*state{}}
		m.rooms[s.head.Tenant] = r
	}
	if len(r.items) >= mostItems {
		clear(r.items)
	}
	r.items[s.item.ID] = s
}
