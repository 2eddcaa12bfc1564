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

// mendKMS is a step of Avouch itself, which goes also while the organisation is closed.
func (r *Room) mendKMS(ctx context.Context, t tenantdb.TenantID, fn func(*tenantdb.Tx) (audit.Event, error)) error {
	return r.cfg.DB.Change(ctx, tenantdb.System(t, "kms").Keyless(), fn)
}

// abandonKMS forgets a setting that the key store does not name.
func (r *Room) abandonKMS(ctx context.Context, t tenantdb.TenantID, k kmsRow) error {
	return r.mendKMS(ctx, t, func(tx *tenantdb.Tx) (audit.Event, error) {
		return k.event("organisation.kms_abandoned", tx.Tenant()), dropOneKMS(ctx, tx, k.ID)
	})
}

// keepKMS takes back that the keys leave a setting: they could not, and it is not tried again by itself.
func (r *Room) keepKMS(ctx context.Context, t tenantdb.TenantID, k kmsRow) error {
	own, err := r.cfg.Ring.OwnSetting(ctx, t)
	if err == nil && own != keyring.SettingID(k.ID) {
		err = errors.New("org: the keys have left")
	}
	if err == nil {
		k, err = r.markKMS(ctx, t, k, time.Time{})
	}
	if err != nil {
		return err
	}
	return r.mendKMS(ctx, t, func(tx *tenantdb.Tx) (audit.Event, error) {
		return k.event("organisation.kms_kept", tx.Tenant()), replaceKMS(ctx, tx, k)
	})
}

// replaceKMS puts the next version of a setting into the place of the one before, and the first into that of none. What else is there
// then came back with a database of before, and the key store does not name it.
func replaceKMS(ctx context.Context, tx *tenantdb.Tx, k kmsRow) error {
	now, err := loadKMS(ctx, &tx.ReadTx, k.ID)
	if k.version == 1 && problem.Is(err, problem.Missing) {
		err = dropKMS(ctx, tx, k.ID)
	}
	if err != nil {
		return err
	}
	if now.version != k.version-1 {
		return problem.New(problem.Conflict, "Somebody else has changed it a moment ago.")
	}
	return saveKMS(ctx, tx, k)
}

// RepairKMS takes other settings for the key management that an organisation has, while it is closed: an address that has changed, a
// credential that ended; or the settings again, where the database was restored to one of before them. It is the operator's, since
// nobody of a closed organisation can prove who they are, and it needs no break-glass: what is given must open what lies there, which
// takes the organisation's own key management, and the operator sees nothing by it. by is a system caller of the organisation.
func (r *Room) RepairKMS(ctx context.Context, by tenantdb.Caller, settings KMS) (s KMSState, err error) {
	if by.Actor().Kind != audit.ActorSystem {
		return s, problem.New(problem.Denied, "Only the operator does this with organisations.")
	}
	by = by.Keyless()
	own, err := r.cfg.Ring.OwnSetting(ctx, by.Tenant())
	if err != nil {
		return s, fmt.Errorf("org.RepairKMS: %w", err)
	}
	if own == (keyring.SettingID{}) {
		return s, problem.New(problem.Missing, "The organisation has no key management of its own.")
	}
	w, err := r.cfg.OpenKMS(settings)
	if err != nil {
		return s, fmt.Errorf("org.RepairKMS: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	d, err := w.Describe(asking)
	if err == nil {
		err = r.cfg.Ring.Opens(asking, by.Tenant(), w)
	}
	if err != nil {
		return s, fmt.Errorf("org.RepairKMS: %w", tried(err))
	}
	k, err := r.repairedKMS(ctx, by, kmsID(own), settings, d.KeyID)
	if err == nil {
		err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
			if err := replaceKMS(ctx, tx, k); err != nil {
				return audit.Event{}, err
			}
			return k.event("organisation.kms_repaired", tx.Tenant()), r.tellOfKMS(ctx, tx, "repaired")
		})
	}
	if err != nil {
		return s, fmt.Errorf("org.RepairKMS: %w", err)
	}
	r.cfg.Ring.ForgetOwner(by.Tenant())
	return r.GetKMS(ctx, by)
}

// repairedKMS is the next version of a setting; the first, if there is none. Keys that were leaving it stay.
func (r *Room) repairedKMS(ctx context.Context, c tenantdb.Caller, setting kmsID, settings KMS, keyID string) (k kmsRow, err error) {
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		k, err = loadKMS(ctx, tx, setting)
		return err
	})
	if problem.Is(err, problem.Missing) {
		k, err = kmsRow{ID: setting, Kind: settings.Kind, KeyID: keyID, SetBy: by(c.Actor()), SetAt: r.instant(), state: kmsCurrent}, nil
	}
	if err == nil && k.Kind != settings.Kind {
		err = problem.New(problem.Conflict, "The organisation's key management is of the kind %s.", k.Kind)
	}
	if err != nil {
		return k, err
	}
	if k.state == kmsLeaving {
		k.state = kmsCurrent
	}
	k.version++
	return k, r.sealKMS(ctx, c.Tenant(), &k, settings.kept())
}

// SettleKMS moves on what a process that ended left half way, and brings under the organisation's own key what is not yet. by is Avouch
// itself. What it goes by is what the key store names: a row alone moves no key.
func (r *Room) SettleKMS(ctx context.Context, by tenantdb.Caller) error {
	var rows []kmsRow
	err := r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) (err error) {
		rows, err = kmsRows(ctx, tx)
		return err
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	own, err := r.cfg.Ring.OwnSetting(ctx, by.Tenant())
	for _, k := range rows {
		if err == nil {
			err = r.settleOne(ctx, by, k, own)
		}
	}
	if err != nil {
		return fmt.Errorf("org.SettleKMS: %w", err)
	}
	return nil
}

func (r *Room) settleOne(ctx context.Context, by tenantdb.Caller, k kmsRow, own keyring.SettingID) error {
	named := keyring.SettingID(k.ID) == own
	asking, cancel := context.WithTimeout(ctx, kmsPatience)
	defer cancel()
	switch {
	case k.state == kmsLeaving:
		return r.settleLeaving(ctx, by, k, own)
	case k.state == kmsBegun && r.cfg.Now().Sub(k.SetAt) < kmsAbandoned: // somebody may be at it
		return nil
	case k.state == kmsBegun && !named:
		return r.abandonKMS(ctx, by.Tenant(), k)
	case !named: // stays: so may the key store be put back that names it
		return nil
	}
	if err := r.cfg.Ring.Gather(asking, by.Tenant(), own); err != nil || k.state == kmsCurrent {
		return err
	}
	return r.finishKMS(ctx, by, k)
}

// settleLeaving goes on with a removal for as long as it is the owner's word of a moment ago.
func (r *Room) settleLeaving(ctx context.Context, by tenantdb.Caller, k kmsRow, own keyring.SettingID) error {
	switch own {
	case keyring.SettingID{}: // it was done, and not said
		return r.removedKMS(ctx, by, k)
	case keyring.SettingID(k.ID):
	default:
		return r.abandonKMS(ctx, by.Tenant(), k)
	}
	kept, err := r.readKMS(ctx, by.Tenant(), k)
	if err != nil {
		return err
	}
	switch since := r.cfg.Now().Sub(kept.Leaving); {
	case since >= kmsLeaves: // or no owner said so
		return r.keepKMS(ctx, by.Tenant(), k)
	case since < kmsAbandoned: // somebody may be at it
		return nil
	}
	return r.leaveKMS(ctx, by, k)
}
