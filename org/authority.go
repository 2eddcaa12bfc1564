package org

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// authority is what a caller holds while the head is locked: somebody who was demoted, suspended, removed or signed out since their
// request came gives nothing away.
type authority struct {
	caller tenantdb.Caller
	held   []string // what can be handed on; never what break-glass lends
	system bool
}

func (r *Room) authority(ctx context.Context, tx *tenantdb.ReadTx) (authority, error) {
	a := authority{caller: tx.Caller(), held: tx.Caller().Scopes()}
	person, isPerson := a.caller.Person()
	switch {
	case a.caller.Actor().Kind == audit.ActorSystem:
		a.system = true
	case isPerson:
		s, err := standing(ctx, tx, person.ID)
		if problem.Is(err, problem.Missing) || err == nil && !s.Active {
			return a, problem.New(problem.Denied, "Your account is not active any more.")
		}
		if err != nil {
			return a, err
		}
		if err := r.lasts(ctx, tx, person); err != nil {
			return a, err
		}
		a.held = common(a.held, s.Capabilities)
	case a.caller.Actor().Kind == audit.ActorKey && r.cfg.KeyHolds != nil:
		now, err := r.cfg.KeyHolds(ctx, tx, a.caller.Actor().ID)
		if err != nil {
			return a, err
		}
		a.held = common(a.held, now)
	}
	return a, nil
}

// lasts refuses a session that was ended while its request was under way.
func (r *Room) lasts(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.Person) error {
	if r.cfg.Lasts == nil || p.Session == "" {
		return nil
	}
	lasts, err := r.cfg.Lasts(ctx, tx, p.Session)
	if err == nil && !lasts {
		err = problem.New(problem.Denied, "You have been signed out.")
	}
	return err
}

// common is what both lists of capabilities allow.
func common(a, b []string) []string {
	switch {
	case slices.Contains(a, tenantdb.Everything):
		return b
	case slices.Contains(b, tenantdb.Everything):
		return a
	}
	return intersection(a, b)
}

func (a authority) holds(capability string) bool {
	return a.system || slices.Contains(a.held, capability) || slices.Contains(a.held, tenantdb.Everything)
}

// may adds what break-glass lends.
func (a authority) may(capability string) bool {
	p, _ := a.caller.Person()
	return a.holds(capability) || slices.Contains(p.Lent, capability)
}

func (a authority) owns() bool { return a.holds(tenantdb.Everything) }

func (a authority) is(p PersonID) bool {
	me, ok := a.caller.Person()
	return ok && me.ID == p
}

// covers refuses what decides about somebody, or something, that may do more.
func (a authority) covers(capabilities []string) error {
	for _, c := range capabilities {
		switch {
		case a.holds(c):
		case c == tenantdb.Everything:
			return problem.New(problem.Denied, "Only an owner decides about owners.")
		default:
			return problem.New(problem.Denied, "You lack the capability %s, and cannot decide about who has it.", c)
		}
	}
	return nil
}

// gives refuses to give what the caller does not hold.
func (a authority) gives(capabilities []string) error {
	for _, c := range capabilities {
		switch {
		case a.holds(c):
		case c == tenantdb.Everything:
			return problem.New(problem.Denied, "An owner is made by an owner, and nobody else.")
		default:
			return problem.New(problem.Denied, "You lack the capability %s, and cannot give it.", c)
		}
	}
	return nil
}

// fresh refuses a person whose last proof is old: what is dangerous wants to know that it is still them.
func (a authority) fresh(now time.Time) error {
	if p, ok := a.caller.Person(); ok && !a.system {
		return p.Fresh(now)
	}
	return nil
}

// ownerInPerson is an owner who has signed in and proved themselves a moment ago, or the operator. A key cannot: whoever finds
// one must not be able to end an organisation.
func (a authority) ownerInPerson(now time.Time) error {
	if a.system {
		return nil
	}
	if _, ok := a.caller.Person(); !ok || !a.owns() {
		return problem.New(problem.Denied, "Only an owner who has signed in can do this.")
	}
	return a.fresh(now)
}

// by is the actor as tables keep it.
func (a authority) by() string { return by(a.caller.Actor()) }

func by(actor audit.Actor) string { return string(actor.Kind) + ":" + actor.ID }

// holdsNow is what an actor of a table holds at this moment; nothing if they are not active any more.
func (r *Room) holdsNow(ctx context.Context, tx *tenantdb.ReadTx, actor string) ([]string, error) {
	kind, name, _ := strings.Cut(actor, ":")
	switch audit.ActorKind(kind) {
	case audit.ActorSystem:
		return []string{tenantdb.Everything}, nil
	case audit.ActorKey:
		if r.cfg.KeyHolds == nil {
			return nil, nil
		}
		held, err := r.cfg.KeyHolds(ctx, tx, name)
		if problem.Of(err) != nil && problem.Of(err).Kind != problem.Internal {
			return nil, nil
		}
		return held, err
	case audit.ActorPerson:
		var p PersonID
		if err := p.UnmarshalText([]byte(name)); err != nil {
			return nil, nil
		}
		s, err := standing(ctx, tx, p)
		if problem.Is(err, problem.Missing) || err == nil && !s.Active {
			return nil, nil
		}
		return s.Capabilities, err
	}
	return nil, nil
}

// change runs one change of whoever may do it.
func (r *Room) change(ctx context.Context, c tenantdb.Caller, capability string, fn func(*tenantdb.Tx, authority) (audit.Event, error)) error {
	if err := need(c, capability); err != nil {
		return err
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return fmt.Errorf("org.change: %w", err)
	}
	return r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		a, err := r.authority(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if !a.may(capability) {
			return audit.Event{}, problem.New(problem.Denied, "This needs the capability %s.", capability)
		}
		return fn(tx, a)
	})
}
