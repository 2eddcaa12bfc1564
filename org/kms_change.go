package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// kmsPatience bounds what a key management is asked while somebody waits.
const kmsPatience = 15 * time.Second

// kmsAbandoned is after how long keys that are on their way are moved on by whoever finds them.
const kmsAbandoned = 2 * time.Minute

// kmsLeaves is how long an owner's word that the keys are to be given back is acted on. Where it could not be done for longer, they stay:
// what an owner has given up must not happen by itself on a later day, nor because somebody put an old row back.
const kmsLeaves = 20 * time.Minute

// ownerAsks refuses who is no owner in person before anything is sent to an address that they name.
func (r *Room) ownerAsks(ctx context.Context, c tenantdb.Caller) error {
	if err := need(c, "organisation:write"); err != nil {
		return err
	}
	return r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		a, err := r.authority(ctx, tx)
		if err != nil {
			return err
		}
		return a.ownerInPerson(r.cfg.Now())
	})
}

// kmsChange is one step: of an owner in person, or of Avouch itself that goes on with what an owner began.
func (r *Room) kmsChange(ctx context.Context, c tenantdb.Caller, fn func(*tenantdb.Tx) (audit.Event, error)) error {
	return r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if err := a.ownerInPerson(r.cfg.Now()); err != nil {
			return audit.Event{}, err
		}
		return fn(tx)
	})
}

// SetKMS gives the keys of the caller's organisation under a key management of its own, or under another one, or under the same one
// with another credential. It is tried first. An owner does this, with a fresh proof; every owner is told.
func (r *Room) SetKMS(ctx context.Context, c tenantdb.Caller, settings KMS) (s KMSState, err error) {
	if c.Tenant() == tenantdb.Platform {
		return s, problem.New(problem.Invalid, "The installation's own keys are under the platform's key.")
	}
	if err := r.ownerAsks(ctx, c); err != nil {
		return s, fmt.Errorf("org.SetKMS: %w", err)
	}
	w, err := r.cfg.OpenKMS(settings)
	if err != nil {
		return s, fmt.Errorf("org.SetKMS: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	d, err := keyring.TestKMS(asking, c.Tenant(), w)
	if err != nil {
		return s, fmt.Errorf("org.SetKMS: %w", tried(err))
	}
	now := r.instant()
	k := kmsRow{ID: id.At[kmsKind](now), Kind: settings.Kind, KeyID: d.KeyID, SetBy: by(c.Actor()), SetAt: now, state: kmsBegun, version: 1}
	if err := r.sealKMS(ctx, c.Tenant(), &k, settings.kept()); err != nil {
		return s, fmt.Errorf("org.SetKMS: %w", err)
	}
	own, err := r.cfg.Ring.OwnSetting(ctx, c.Tenant())
	if err == nil {
		err = r.beginKMS(ctx, c, k, own)
	}
	if err != nil {
		return s, fmt.Errorf("org.SetKMS: %w", err)
	}
	// From here on it is done, also if the caller hangs up: what is left half way is moved on by SettleKMS.
	ctx = context.WithoutCancel(ctx)
	if err := r.moveKMS(ctx, c, k, w); err != nil {
		return s, fmt.Errorf("org.SetKMS: %w", err)
	}
	return r.GetKMS(ctx, c)
}

// beginKMS keeps a setting before the key store names it (own is what it names now). What somebody else began is moved on by SettleKMS, if
// the key store knows of it, and is otherwise nothing when it has been left alone for a while.
func (r *Room) beginKMS(ctx context.Context, c tenantdb.Caller, k kmsRow, own keyring.SettingID) error {
	return r.kmsChange(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		rows, err := kmsRows(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		for _, other := range rows {
			if other.state != kmsCurrent && keyring.SettingID(other.ID) != own && r.cfg.Now().Sub(other.SetAt) >= kmsAbandoned {
				if err := dropOneKMS(ctx, tx, other.ID); err != nil {
					return audit.Event{}, err
				}
				continue
			}
			if other.state != kmsCurrent {
				return audit.Event{}, problem.New(problem.Conflict, "The keys are on their way already. Try again in a few minutes.")
			}
		}
		return k.event("organisation.kms_begun", tx.Tenant()), saveKMS(ctx, tx, k)
	})
}

// moveKMS moves the keys, and forgets the setting if that cannot be done.
func (r *Room) moveKMS(ctx context.Context, c tenantdb.Caller, k kmsRow, w keyring.KeyWrapper) error {
	asking, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	if _, err := r.cfg.Ring.HandOver(asking, c.Tenant(), keyring.SettingID(k.ID), w); err != nil {
		own, bad := r.cfg.Ring.OwnSetting(ctx, c.Tenant())
		if bad == nil && own != keyring.SettingID(k.ID) {
			bad = r.abandonKMS(ctx, c.Tenant(), k)
		} else if bad == nil {
			bad = err
		}
		if bad != nil {
			return onTheWay(errors.Join(err, bad))
		}
		return tried(err)
	}
	return r.finishKMS(ctx, c, k)
}

// finishKMS says in the database what the key store says.
func (r *Room) finishKMS(ctx context.Context, c tenantdb.Caller, k kmsRow) error {
	return r.kmsChange(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		k.state = kmsCurrent
		if err := dropKMS(ctx, tx, k.ID); err != nil {
			return audit.Event{}, err
		}
		if err := saveKMS(ctx, tx, k); err != nil {
			return audit.Event{}, err
		}
		return k.event("organisation.kms_set", tx.Tenant()), r.tellOfKMS(ctx, tx, "set")
	})
}

// RemoveKMS gives the keys of the caller's organisation back to the platform. An owner does this, with a fresh proof, while the key
// management lets it; every owner is told.
func (r *Room) RemoveKMS(ctx context.Context, c tenantdb.Caller) (s KMSState, err error) {
	if err := r.ownerAsks(ctx, c); err != nil {
		return s, fmt.Errorf("org.RemoveKMS: %w", err)
	}
	k, err := r.leavingKMS(ctx, c)
	if err == nil {
		err = r.kmsChange(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
			return k.event("organisation.kms_leaving", tx.Tenant()), replaceKMS(ctx, tx, k)
		})
	}
	if err == nil {
		ctx = context.WithoutCancel(ctx)
		err = r.leaveKMS(ctx, c, k)
	}
	if err != nil {
		return s, fmt.Errorf("org.RemoveKMS: %w", err)
	}
	return r.GetKMS(ctx, c)
}

// leavingKMS is the setting that the organisation's keys are under, as one that they leave from now on.
func (r *Room) leavingKMS(ctx context.Context, c tenantdb.Caller) (k kmsRow, err error) {
	own, err := r.cfg.Ring.OwnSetting(ctx, c.Tenant())
	if err == nil && own == (keyring.SettingID{}) {
		err = problem.New(problem.Missing, "Your organisation has no key management of its own.")
	}
	if err != nil {
		return k, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		rows, err := kmsRows(ctx, tx)
		if slices.ContainsFunc(rows, func(k kmsRow) bool { return k.state == kmsBegun }) {
			err = problem.New(problem.Conflict, "The keys are on their way there. Try again in a few minutes.")
		}
		if err == nil {
			k, err = loadKMS(ctx, tx, kmsID(own))
		}
		return err
	})
	if err != nil {
		return k, err
	}
	return r.markKMS(ctx, c.Tenant(), k, r.instant())
}

func (r *Room) leaveKMS(ctx context.Context, c tenantdb.Caller, k kmsRow) error {
	asking, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	if err := r.cfg.Ring.TakeBack(asking, c.Tenant()); err != nil {
		if bad := r.keepKMS(ctx, c.Tenant(), k); bad != nil {
			return onTheWay(errors.Join(err, bad))
		}
		return tried(err)
	}
	return r.removedKMS(ctx, c, k)
}

// removedKMS says in the database that the keys are the platform's.
func (r *Room) removedKMS(ctx context.Context, c tenantdb.Caller, k kmsRow) error {
	return r.kmsChange(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := dropOneKMS(ctx, tx, k.ID); err != nil {
			return audit.Event{}, err
		}
		return k.event("organisation.kms_removed", tx.Tenant()), r.tellOfKMS(ctx, tx, "removed")
	})
}

// CheckKMS tries the key management of the caller's organisation as it is set, with a key that is nobody's.
func (r *Room) CheckKMS(ctx context.Context, c tenantdb.Caller) (s KMSState, err error) {
	if err := need(c, "organisation:write"); err != nil {
		return s, err
	}
	if wait := r.kmsChecks.Take(c.Address(), r.cfg.Now()); wait > 0 {
		err := problem.New(problem.TooMany, "The key management was tried often enough for now.")
		err.RetryAfter = wait
		return s, err
	}
	if s, err = r.GetKMS(ctx, c); err != nil {
		return s, err
	}
	if s.Setting == (keyring.SettingID{}) {
		return s, problem.New(problem.Missing, "Your organisation has no key management of its own.")
	}
	asking, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	w, err := r.OwnKMS(asking, c.Tenant(), s.Setting)
	if err == nil {
		_, err = keyring.TestKMS(asking, c.Tenant(), w)
	}
	if err == nil {
		err = r.cfg.Ring.Opens(asking, c.Tenant(), w)
	}
	e := audit.Event{Type: "organisation.kms_checked", Target: audit.Target{Kind: "organisation", ID: c.Tenant().String()}}
	if err != nil {
		s.Why = keyring.WhyKMS(err)
		e.Public = []audit.Field{field("why", string(s.Why))}
	}
	if _, err := r.cfg.DB.Record(ctx, c, e); err != nil {
		return s, fmt.Errorf("org.CheckKMS: %w", err)
	}
	return s, nil
}
