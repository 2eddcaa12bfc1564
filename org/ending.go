package org

import (
	"context"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Transfer makes another person an owner and the asker an admin, in one entry, and tells every owner.
func (r *Room) Transfer(ctx context.Context, c tenantdb.Caller, to PersonID) error {
	err := r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		me, ok := c.Person()
		if !ok || !a.owns() {
			return audit.Event{}, problem.New(problem.Denied, "Only an owner who has signed in can do this.")
		}
		if err := a.fresh(r.cfg.Now()); err != nil {
			return audit.Event{}, err
		}
		if me.ID == to {
			return audit.Event{}, problem.New(problem.Conflict, "You are an owner already.")
		}
		next, err := present(ctx, &tx.ReadTx, to)
		if err != nil {
			return audit.Event{}, err
		}
		if !next.SuspendedAt.IsZero() {
			return audit.Event{}, problem.New(problem.Conflict, "This person is suspended, and could not act as an owner.")
		}
		before, err := owners(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		mine, err := present(ctx, &tx.ReadTx, me.ID)
		if err != nil {
			return audit.Event{}, err
		}
		next.Roles = sorted(append(next.Roles, RoleOwner))
		mine.Roles = sorted(append(slices.DeleteFunc(mine.Roles, func(s string) bool { return s == RoleOwner }), RoleAdmin))
		for _, p := range []Person{next, mine} {
			p.Version++
			if err := updatePerson(ctx, tx, p); err != nil {
				return audit.Event{}, err
			}
		}
		if err := r.KeepsWayIn(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		ended, err := r.demote(ctx, tx, me.ID)
		if err != nil {
			return audit.Event{}, err
		}
		told := append(before, to)
		slices.SortFunc(told, func(a, b PersonID) int { return slices.Compare(a[:], b[:]) })
		e := audit.Event{
			Type: "organisation.transferred", Target: audit.Target{Kind: "organisation", ID: tx.Tenant().String()},
			Public: append([]audit.Field{field("from", me.ID.String()), field("to", to.String())}, ended...),
		}
		return e, tell(ctx, tx, slices.Compact(told), mail.Ownership, map[string]string{"from": me.ID.String(), "to": to.String()})
	})
	if err != nil {
		return fmt.Errorf("org.Transfer: %w", err)
	}
	return nil
}

// SetRegion says where an organisation's data may be sent; empty is anywhere. by is as in Suspend.
func (r *Room) SetRegion(ctx context.Context, by tenantdb.Caller, region string) error {
	if err := r.checkRegion(region); err != nil {
		return err
	}
	return r.operate(ctx, by, "organisation.region_changed", "", func(_ *tenantdb.Tx, o *Organisation) ([]audit.Field, bool, error) {
		before := o.Region
		o.Region = region
		return []audit.Field{field("region", region), field("before", before)}, before != region, nil
	})
}

// Region is the region of the transaction's organisation; empty if it has none.
func (r *Room) Region(ctx context.Context, tx *tenantdb.ReadTx) (string, error) {
	return loadRegion(ctx, tx)
}

// CheckMail refuses where nothing is mailed to the people of the transaction's organisation: who waits for a mail would wait in
// vain.
func (r *Room) CheckMail(ctx context.Context, tx *tenantdb.ReadTx) error {
	region, err := loadRegion(ctx, tx)
	if err == nil && !r.cfg.Mails(region) {
		err = unmailed()
	}
	return err
}

func unmailed() *problem.Error {
	return problem.New(problem.Invalid, "No mail is sent to people of this organisation: its region, or the installation if it is in none, has no mail server.")
}

func (r *Room) checkRegion(region string) error {
	if region == "" || slices.Contains(r.cfg.Regions, region) {
		return nil
	}
	return problem.New(problem.Invalid, "There is no region %q here.", region)
}
