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

// Rules are the rules of the transaction's organisation.
func (r *Room) Rules(ctx context.Context, tx *tenantdb.ReadTx) (Rules, error) {
	rules, _, err := loadRules(ctx, tx)
	return rules, err
}
