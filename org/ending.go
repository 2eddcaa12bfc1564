package org

import (
	"context"
	"fmt"
	"github.com/avouch-dev/avouch/internal/mail"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
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

// Grace is how long an organisation that was deleted can be restored.
const Grace = 30 * 24 * time.Hour

// Delete ends an organisation: its people, keys and agents are refused from the moment that this returns. Every owner is told, and
// for as long as Grace the operator can restore it. confirm is its name, so that nobody deletes another one than they mean.
func (r *Room) Delete(ctx context.Context, c tenantdb.Caller, confirm, reason string) (o Organisation, err error) {
	if c.Tenant() == tenantdb.Platform {
		return o, problem.New(problem.Invalid, "The installation's own organisation cannot be deleted.")
	}
	if len(reason) > 1000 {
		return o, problem.New(problem.Invalid, "The reason is longer than 1000 bytes.")
	}
	err = r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if err := a.ownerInPerson(r.cfg.Now()); err != nil {
			return audit.Event{}, err
		}
		if o, err = load(ctx, &tx.ReadTx, r.month()); err != nil {
			return audit.Event{}, err
		}
		if !o.DeletedAt.IsZero() {
			return audit.Event{}, problem.New(problem.Conflict, "The organisation is deleted already.")
		}
		if confirm != o.Name {
			return audit.Event{}, problem.New(problem.Invalid, "`confirm` is not the organisation's name.")
		}
		if o.DeletedAt = r.instant(); o.SuspendedAt.IsZero() {
			o.SuspendedAt = o.DeletedAt
		}
		o.Version++
		e := audit.Event{
			Type: "organisation.deleted", Target: audit.Target{Kind: "organisation", ID: o.ID.String()}, Alters: true,
			Public: []audit.Field{field("keys_destroyed_after", o.DeletedAt.Add(Grace).Format(time.RFC3339))},
		}
		if reason != "" {
			e.Private = []audit.Field{field("reason", reason)}
		}
		if err := update(ctx, tx, o); err != nil {
			return audit.Event{}, err
		}
		return e, r.tellOwners(ctx, tx, mail.OrganisationDeleted, nil)
	})
	if err != nil {
		return Organisation{}, fmt.Errorf("org.Delete: %w", err)
	}
	return o, nil
}

// Restore undoes Delete, until the keys are destroyed. What others have taken since stays theirs (Config.Restored). by is as in
// Suspend.
func (r *Room) Restore(ctx context.Context, by tenantdb.Caller, reason string) error {
	return r.operate(ctx, by, "organisation.restored", reason, func(tx *tenantdb.Tx, o *Organisation) (public []audit.Field, _ bool, err error) {
		if !o.ShreddedAt.IsZero() {
			return nil, false, problem.New(problem.Conflict, "The organisation's keys are destroyed: nothing brings it back.")
		}
		changed := !o.DeletedAt.IsZero()
		if changed {
			if o.SuspendedAt.Equal(o.DeletedAt) { // else the operator suspended it before
				o.SuspendedAt = time.Time{}
			}
			o.DeletedAt = time.Time{}
			if r.cfg.Restored != nil {
				public, err = r.cfg.Restored(ctx, tx)
			}
		}
		return public, changed, err
	})
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

// Shred destroys the keys of an organisation that was deleted longer than Grace ago, and says whether it did. What was sealed
// under them opens no more, whatever is restored; the log, which holds hashes of it, can be verified as before. The entry comes
// first: whatever a crash then leaves, the next call goes on from there. by is as in Suspend.
func (r *Room) Shred(ctx context.Context, by tenantdb.Caller) (done bool, err error) {
	if by.Actor().Kind != audit.ActorSystem {
		return false, problem.New(problem.Denied, "Only the operator does this with organisations.")
	}
	over := func(o Organisation) bool {
		return by.Tenant() != tenantdb.Platform && !o.DeletedAt.IsZero() && r.cfg.Now().Sub(o.DeletedAt) >= Grace
	}
	var o Organisation
	err = r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error {
		o, err = load(ctx, tx, r.month())
		return err
	})
	if err == nil && over(o) && o.ShreddedAt.IsZero() {
		err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
			if o, err = load(ctx, &tx.ReadTx, r.month()); err != nil || !over(o) || !o.ShreddedAt.IsZero() {
				return audit.Event{}, err
			}
			o.ShreddedAt = r.instant()
			o.Version++
			return audit.Event{Type: "organisation.shredded", Target: audit.Target{Kind: "organisation", ID: o.ID.String()}, Alters: true}, update(ctx, tx, o)
		})
	}
	if err != nil || !over(o) {
		return false, err
	}
	for _, use := range []keyring.Use{keyring.UseWrap, keyring.UseAPIKey, keyring.UsePseudonym, keyring.UseSubjects, keyring.UsePII} {
		n, err := r.destroy(ctx, by.Tenant(), use)
		if err != nil {
			return false, fmt.Errorf("org.Shred: %w", err)
		}
		done = done || n > 0
	}
	return done, nil
}

// destroy ends all versions of a key, and says whether one was left. It goes over those that ended before, too: a crash may have
// left their bytes.
func (r *Room) destroy(ctx context.Context, t tenantdb.TenantID, use keyring.Use) (left int, err error) {
	live, last, err := r.cfg.Ring.Versions(t, use)
	if err != nil {
		return 0, err
	}
	for v := uint32(1); v <= last; v++ {
		if err := r.cfg.Ring.Destroy(ctx, t, use, v); err != nil {
			return 0, err
		}
	}
	return int(live), nil
}
