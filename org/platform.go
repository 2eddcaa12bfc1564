package org

import (
	"context"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// ErrKeyStore means that this server's key store does not belong to its database.
var ErrKeyStore = errors.New("the key store lacks the keys of this database's installation: is AVOUCH_KEY_STORE the right one, and mounted?")

// EnsurePlatform makes the installation's own organisation, if no server has before. Several may try at once: one makes it
// and the others find it.
func (r *Room) EnsurePlatform(ctx context.Context) error {
	there, err := r.platformExists(ctx)
	if err == nil && !there {
		// Keys are made only before the row is: with a row, missing keys are a loss and never a beginning.
		if err = r.cfg.Ring.CreateTenant(ctx, tenantdb.Platform); err == nil {
			err = r.makePlatform(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("org.EnsurePlatform: %w", err)
	}
	if _, _, err := r.cfg.Ring.CurrentKeyVersions(ctx, tenantdb.Platform); err != nil {
		return fmt.Errorf("org.EnsurePlatform: %w: %w", ErrKeyStore, err)
	}
	return nil
}

func (r *Room) platformExists(ctx context.Context) (bool, error) {
	err := r.cfg.DB.Read(ctx, tenantdb.System(tenantdb.Platform, "start"), func(tx *tenantdb.ReadTx) error {
		_, err := load(ctx, tx, r.month())
		return err
	})
	if problem.Is(err, problem.Missing) {
		return false, nil
	}
	return err == nil, err
}

func (r *Room) makePlatform(ctx context.Context) error {
	o := Organisation{ID: tenantdb.Platform, Name: "Avouch", CreatedAt: r.instant(), TokenLifetime: maxTokenLifetime, LiveTokens: 1, Version: 1}
	err := r.cfg.DB.Create(ctx, tenantdb.System(o.ID, "start"), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "organisation.created", Target: audit.Target{Kind: "organisation", ID: o.ID.String()}}, insert(ctx, tx, o)
	})
	if err == nil {
		return nil
	}
	// Another server may have been first: its head made ours fail, after it had committed.
	if there, readErr := r.platformExists(ctx); readErr != nil || !there {
		return errors.Join(err, readErr)
	}
	return nil
}

// ErrIssuer means that an installation is to be started under another name than it was begun with.
var ErrIssuer = errors.New("another issuer on the same data")

// FixIssuer writes down, at the first start, the name under which this installation issues tokens and DIDs, and refuses
// any other from then on: tokens, DIDs and what others have stored of them carry it.
func (r *Room) FixIssuer(ctx context.Context, issuer string) error {
	err := r.cfg.DB.Change(ctx, tenantdb.System(tenantdb.Platform, "start"), func(tx *tenantdb.Tx) (audit.Event, error) {
		fixed, err := loadIssuer(ctx, &tx.ReadTx)
		switch {
		case err != nil || fixed == issuer:
			return audit.Event{}, err
		case fixed != "":
			return audit.Event{}, fmt.Errorf("%w: this installation issues as %s, and was asked to start as %s. Set AVOUCH_PUBLIC_URL to the first; "+
				"tokens and DIDs that are in use carry it", ErrIssuer, fixed, issuer)
		}
		return audit.Event{
			Type: "installation.issuer_fixed", Target: audit.Target{Kind: "installation"}, Public: []audit.Field{{Name: "issuer", Value: issuer}},
		}, insertIssuer(ctx, tx, issuer)
	})
	if err != nil {
		return fmt.Errorf("org.FixIssuer: %w", err)
	}
	return nil
}
