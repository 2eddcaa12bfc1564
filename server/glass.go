package server

import (
	"context"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// openGlass makes break-glass, from what other rooms know.
func (s *Server) openGlass() {
	s.Glass = policy.NewGlass(policy.GlassConfig{
		DB: s.DB, Ring: s.Ring, Rules: glassRules{s.Org}, Log: glassLog{s.Trail}, Client: s.outbound, URL: s.URL(), Now: s.now,
	})
}

// settleGlass does what time does to uses of break-glass, in every organisation.
func (s *Server) settleGlass(ctx context.Context) error {
	return s.forEach(ctx, "break-glass", func(c tenantdb.Caller) error { return s.Glass.Settle(ctx, c) })
}

// remindOfGlass tells owners of uses that nobody has reviewed.
func (s *Server) remindOfGlass(ctx context.Context) error {
	return s.forEach(ctx, "break-glass", func(c tenantdb.Caller) error {
		_, err := s.Glass.Remind(ctx, c)
		return err
	})
}

// glassRules tells break-glass what the organisations' rules are.
type glassRules struct{ org *org.Room }

// GlassRules is for policy.Organisations.
func (g glassRules) GlassRules(ctx context.Context, tx *tenantdb.ReadTx) (policy.GlassRules, error) {
	r, err := g.org.Rules(ctx, tx)
	b := r.BreakGlass
	return policy.GlassRules{Approval: b.Approval, Delay: b.Delay, MaxLife: b.MaxLife, Capabilities: b.Capabilities, HookURL: b.HookURL}, err
}

// Owners is for policy.Organisations.
func (g glassRules) Owners(ctx context.Context, tx *tenantdb.ReadTx) ([]tenantdb.PersonID, error) {
	return g.org.Owners(ctx, tx)
}

// StillHolds is for policy.Organisations.
func (g glassRules) StillHolds(ctx context.Context, tx *tenantdb.ReadTx, capability string) error {
	return g.org.StillHolds(ctx, tx, capability)
}

// glassLog reads the log by the room of the log, which allows it and records it.
type glassLog struct{ trail *trail.Room }

// Slice is a part of the log.
func (l glassLog) Slice(ctx context.Context, c tenantdb.Caller, s policy.Slice) (found []policy.SliceEntry, next *int64, err error) {
	page, err := l.trail.Entries(ctx, c, trail.Query{Oldest: true, Actor: s.Actor, Since: s.Since, Until: s.Until, After: s.After, Limit: s.Limit})
	if err != nil {
		return nil, nil, err
	}
	for i := range page.Entries {
		e := &page.Entries[i]
		one := policy.SliceEntry{
			Seq: e.Seq, ID: e.ID, Time: e.Time, Type: e.Type, Request: e.Request, How: e.How, Outcome: e.Outcome, Public: e.Public, Private: e.Private,
		}
		if e.Target != nil {
			one.Target = e.Target.Kind + " " + e.Target.ID
		}
		found = append(found, one)
	}
	if page.More {
		next = &page.Last
	}
	return found, next, nil
}
