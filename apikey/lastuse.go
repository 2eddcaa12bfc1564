package apikey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// LastUse is when, from where and with what a key was used last.
type LastUse struct {
	At      time.Time  `json:"-"`
	Address netip.Addr `json:"address,omitzero"`
	Agent   string     `json:"agent,omitempty"` // the client's User-Agent, or what it calls itself
}

// uses gathers what keys were used for since it was last written down.
type uses struct {
	mu   sync.Mutex
	keys map[Identity]*since
}

// since is how often a key was used, and its last use.
type since struct {
	LastUse
	first   time.Time
	times   int64 // but for those that have an entry of their own
	refused int64
}

const (
	mostUsed  = 100_000 // keys, between two Flushes
	mostAgent = 256     // bytes
)

// Used notes a use of a key, for Flush to write down. recorded says that the log has an entry of it.
func (r *Room) Used(who Identity, u LastUse, recorded bool) {
	if len(u.Agent) > mostAgent {
		u.Agent = strings.ToValidUTF8(u.Agent[:mostAgent], "")
	}
	r.uses.note(who, func(s *since) {
		if s.first.IsZero() {
			s.first = u.At
		}
		if s.LastUse = u; !recorded {
			s.times++
		}
	})
}

// Tried notes that a key was presented which is revoked.
func (r *Room) Tried(who Identity) { r.uses.note(who, func(s *since) { s.refused++ }) }

func (u *uses) note(who Identity, fn func(*since)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.keys[who]
	if s == nil {
		if len(u.keys) >= mostUsed {
			return
		}
		s = &since{}
		u.keys[who] = s
	}
	fn(s)
}

// Flush writes down when keys were used last, and in their organisations' logs how often they were used for what has no
// entry of its own. What could not be written stays for the next time.
func (r *Room) Flush(ctx context.Context) error {
	r.uses.mu.Lock()
	taken := r.uses.keys
	r.uses.keys = map[Identity]*since{}
	r.uses.mu.Unlock()
	by := map[tenantdb.TenantID]map[string]*since{}
	for who, s := range taken {
		if by[who.Tenant] == nil {
			by[who.Tenant] = map[string]*since{}
		}
		by[who.Tenant][who.KeyID] = s
	}
	var failed error
	for t, keys := range by {
		if err := r.flush(ctx, t, keys); err != nil {
			if !problem.Is(err, problem.TenantKey) { // closed by its own key management, which is no failure
				failed = errors.Join(failed, err)
			}
			r.keepUses(t, keys)
		}
	}
	return failed
}

// keepUses puts back what could not be written, under what came since.
func (r *Room) keepUses(t tenantdb.TenantID, keys map[string]*since) {
	for id, before := range keys {
		r.uses.note(Identity{t, id}, func(s *since) {
			if !before.first.IsZero() {
				s.first = before.first
			}
			if s.At.IsZero() {
				s.LastUse = before.LastUse
			}
			s.times, s.refused = s.times+before.times, s.refused+before.refused
		})
	}
}

func (r *Room) flush(ctx context.Context, t tenantdb.TenantID, keys map[string]*since) error {
	c := tenantdb.System(t, "keys")
	err := r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		for id, s := range keys {
			sealed, err := r.sealed(ctx, t, id, s.LastUse)
			if err != nil {
				return err
			}
			if err := saveUse(ctx, tx, id, s, sealed); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("apikey.Flush: %w", err)
	}
	for _, s := range keys {
		s.refused = 0 // is written, whatever becomes of the entries
	}
	for id, s := range keys {
		if s.times == 0 {
			continue
		}
		if _, err := r.cfg.DB.Record(ctx, c, audit.Event{
			Type: "key.used", Target: audit.Target{Kind: "key", ID: id}, Public: []audit.Field{
				{Name: "times", Value: fmt.Sprint(s.times)}, {Name: "since", Value: stamp(s.first)}, {Name: "until", Value: stamp(s.At)},
			},
		}); err != nil {
			return fmt.Errorf("apikey.Flush: %w", err)
		}
		s.times = 0 // is written, whatever becomes of the others
	}
	return nil
}

func (r *Room) sealed(ctx context.Context, t tenantdb.TenantID, id string, u LastUse) ([]byte, error) {
	if u.At.IsZero() {
		return nil, nil
	}
	plain, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	return r.cfg.Ring.Seal(ctx, t, id, useField, 0, plain)
}

// useField names what is sealed of a last use.
const useField = "last use"

// opened is a last use as it was stored, without what cannot be opened any more.
func (r *Room) opened(ctx context.Context, t tenantdb.TenantID, id string, at time.Time, sealed []byte) LastUse {
	u := LastUse{At: at}
	if plain, err := r.cfg.Ring.Open(ctx, t, id, useField, 0, sealed); err == nil {
		if json.Unmarshal(plain, &u) != nil {
			return LastUse{At: at}
		}
	}
	return u
}
