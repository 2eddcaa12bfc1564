package org

import (
	"bytes"
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// RewrapKMS wraps the settings of all organisations' own key managements under the newest version of the installation's own key, and
// says what was not under it: they lie in the organisations' rows, and are sealed for none of them. What does not open stays as it is,
// and stops no other. The rotation of the installation's key asks for it.
func (r *Room) RewrapKMS(ctx context.Context) (found []keyring.Rewrapped, err error) {
	err = r.cfg.DB.Each(ctx, "kms", func(c tenantdb.Caller) error {
		c = c.Keyless()
		var rows []kmsRow
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			rows, err = kmsRows(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		for _, k := range rows {
			var one keyring.Rewrapped
			one.Under, _ = keyring.SealedUnder(k.sealed)
			again, err := r.rewrapOneKMS(ctx, c, k)
			if keyring.Unreadable(err) {
				one.Failed, again, err = c.Tenant().String()+", "+k.ID.String(), true, nil
			}
			if err != nil {
				return err
			}
			if again {
				found = append(found, one)
			}
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("org.RewrapKMS: %w", err)
	}
	return found, nil
}

func (r *Room) rewrapOneKMS(ctx context.Context, c tenantdb.Caller, k kmsRow) (again bool, err error) {
	sealed, again, err := r.cfg.Ring.RewrapSealed(ctx, tenantdb.Platform, kmsItem(c.Tenant(), k.ID), k.sealed)
	if err != nil || !again {
		return again, err
	}
	return true, r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		now, err := loadKMS(ctx, &tx.ReadTx, k.ID)
		switch {
		case problem.Is(err, problem.Missing): // it was taken away meanwhile
			return audit.Event{}, nil
		case err != nil:
			return audit.Event{}, err
		case !bytes.Equal(now.sealed, k.sealed): // it was set anew: the next look sees under what
			return audit.Event{}, nil
		}
		now.sealed = sealed
		return now.event("organisation.kms_rewrapped", c.Tenant()), saveKMS(ctx, tx, now)
	})
}
