package org

import (
	"context"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Owners are the owners who can act: other rooms tell them of what concerns everybody.
func (r *Room) Owners(ctx context.Context, tx *tenantdb.ReadTx) ([]PersonID, error) {
	return owners(ctx, tx)
}

// OwnersOfLate are these, and the members who were one until a few days ago: nobody is kept from hearing of something by being sent away
// first.
func (r *Room) OwnersOfLate(ctx context.Context, tx *tenantdb.ReadTx) ([]PersonID, error) {
	return ownersOfLate(ctx, tx, r.cfg.Now().Add(-ownersCount))
}

// MayDecide refuses a caller who may not decide about a person, for what other rooms let administrators do with people: it takes
// members:write, and all that the person may do.
func (r *Room) MayDecide(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) error {
	if err := need(tx.Caller(), "members:write"); err != nil {
		return err
	}
	a, err := r.authority(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := present(ctx, tx, p); err != nil {
		return err
	}
	s, err := standing(ctx, tx, p)
	if err != nil {
		return err
	}
	return a.covers(s.Capabilities)
}

// StillHolds refuses a caller who has lost a capability since their request came, whose key has ended, or who was signed out.
func (r *Room) StillHolds(ctx context.Context, tx *tenantdb.ReadTx, capability string) error {
	a, err := r.authority(ctx, tx)
	if err == nil && !a.holds(capability) {
		err = problem.New(problem.Denied, "This needs the capability %s.", capability)
	}
	return err
}

// KeepsWayIn refuses what leaves the organisation with one owner who has no way in, after it is done: by a change of owners, of rules of
// factors, or of who has which roles.
func (r *Room) KeepsWayIn(ctx context.Context, tx *tenantdb.ReadTx) error {
	all, err := owners(ctx, tx)
	if err != nil || len(all) != 1 || r.cfg.ShutOut == nil {
		return err
	}
	shut, err := r.cfg.ShutOut(ctx, tx, all[0])
	if err == nil && shut {
		err = problem.New(problem.Conflict, "That would leave one owner, who signs in by codes of the organisation's vault alone and could not get at them then: that owner adds another factor first, such as a passkey.")
	}
	return err
}

// Rules are the rules of the transaction's organisation.
func (r *Room) Rules(ctx context.Context, tx *tenantdb.ReadTx) (Rules, error) {
	rules, _, err := loadRules(ctx, tx)
	return rules, err
}
