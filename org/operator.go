package org

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Suspend stops an organisation: its keys authenticate nobody and its agents are verified by nobody, from the moment that
// this returns. by is the operator: a system caller of that organisation. The reason is for the organisation to read, and may
// be empty.
func (r *Room) Suspend(ctx context.Context, by tenantdb.Caller, reason string) error {
	return r.suspension(ctx, by, "organisation.suspended", reason, r.instant())
}

// Resume undoes Suspend.
func (r *Room) Resume(ctx context.Context, by tenantdb.Caller, reason string) error {
	return r.suspension(ctx, by, "organisation.resumed", reason, time.Time{})
}

func (r *Room) suspension(ctx context.Context, by tenantdb.Caller, typ, reason string, at time.Time) error {
	if by.Tenant() == tenantdb.Platform {
		return problem.New(problem.Invalid, "The installation's own organisation cannot be suspended.")
	}
	return r.operate(ctx, by, typ, reason, func(_ *tenantdb.Tx, o *Organisation) ([]audit.Field, bool, error) {
		if !o.DeletedAt.IsZero() {
			return nil, false, problem.New(problem.Conflict, "The organisation is deleted: it can be restored until its keys are destroyed.")
		}
		changed := o.SuspendedAt.IsZero() != at.IsZero()
		o.SuspendedAt = at
		return nil, changed, nil
	})
}

// SetQuota sets how many verifications a month an organisation's owner keys have; nil is unlimited. It holds for every
// verification that is sent after it returns, on every server. by is as in Suspend.
func (r *Room) SetQuota(ctx context.Context, by tenantdb.Caller, monthly *int64) error {
	switch {
	case by.Tenant() == tenantdb.Platform:
		return problem.New(problem.Invalid, "The installation's own organisation verifies nothing, and has no quota.")
	case monthly != nil && *monthly < 0:
		return problem.New(problem.Invalid, "The quota is below zero.")
	}
	return r.operate(ctx, by, "organisation.quota_changed", "", func(_ *tenantdb.Tx, o *Organisation) ([]audit.Field, bool, error) {
		before, after := quota(o.MonthlyQuota), quota(monthly)
		o.MonthlyQuota = monthly
		return []audit.Field{{Name: "monthly_quota", Value: after}, {Name: "before", Value: before}}, after != before, nil
	})
}

// operate makes an operator's change, which alters decisions, unless it changes nothing.
func (r *Room) operate(ctx context.Context, by tenantdb.Caller, typ, reason string, change func(*tenantdb.Tx, *Organisation) (public []audit.Field, changed bool, err error)) error {
	switch {
	case by.Actor().Kind != audit.ActorSystem:
		return problem.New(problem.Denied, "Only the operator does this with organisations.")
	case len(reason) > 1000:
		return problem.New(problem.Invalid, "The reason is longer than 1000 bytes.")
	}
	_, err := r.cfg.DB.Head(ctx, by.Tenant()) // an id that was mistyped is missing, and not a fault of the key store
	if err == nil {
		err = r.cfg.Ring.Prepare(ctx, by.Tenant(), audit.SubjectID{})
	}
	if errors.Is(err, keyring.ErrDestroyed) {
		return problem.New(problem.Conflict, "The organisation's keys are destroyed: nothing brings it back.")
	}
	if err == nil {
		err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
			o, err := load(ctx, &tx.ReadTx, r.month())
			if err != nil {
				return audit.Event{}, err
			}
			public, changed, err := change(tx, &o)
			if err != nil || !changed {
				return audit.Event{}, err
			}
			e := audit.Event{Type: typ, Target: audit.Target{Kind: "organisation", ID: o.ID.String()}, Public: public, Alters: true}
			if typ == wasRestored {
				e.Target = deletionTarget(o.ID) // so that it is found as the newest about that
			}
			if reason != "" {
				e.Private = []audit.Field{{Name: "reason", Value: reason}}
			}
			o.Version++
			return e, update(ctx, tx, o)
		})
	}
	if err != nil {
		return fmt.Errorf("org.operate: %w", err)
	}
	return nil
}

// Each gives every organisation but the installation's own to fn, as it stands, without where its notices go.
func (r *Room) Each(ctx context.Context, fn func(Organisation) error) error {
	err := r.cfg.DB.Each(ctx, "operator", func(c tenantdb.Caller) error {
		if c.Tenant() == tenantdb.Platform {
			return nil
		}
		var o Organisation
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			o, err = load(ctx, tx, r.month())
			return err
		})
		if err != nil {
			return err
		}
		return fn(o)
	})
	if err != nil {
		return fmt.Errorf("org.Each: %w", err)
	}
	return nil
}
