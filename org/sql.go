package org

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const loadSQL = `SELECT o.tenant_id, o.name, o.contact, o.created_at, o.suspended_at, extract(epoch FROM o.token_lifetime)::bigint, o.live_tokens, o.monthly_quota,
  CASE WHEN o.monthly_quota IS NULL THEN NULL WHEN c.period = $2 THEN c.used ELSE 0 END, o.badge, o.version, o.region, o.deleted_at, o.shredded_at
FROM avouch.organisation o LEFT JOIN avouch.counter c ON c.tenant_id = o.tenant_id AND c.subject = 'verify' WHERE o.tenant_id = $1`

func load(ctx context.Context, tx *tenantdb.ReadTx, month int32) (o Organisation, err error) {
	var suspended, deleted, shredded *time.Time
	var lifetime int64
	err = tx.QueryRow(ctx, loadSQL, tx.Tenant(), month).Scan(&o.ID, &o.Name, &o.contact, &o.CreatedAt, &suspended, &lifetime, &o.LiveTokens, &o.MonthlyQuota,
		&o.Used, &o.Badge, &o.Version, &o.Region, &deleted, &shredded)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, problem.New(problem.Missing, "There is no such organisation.")
	}
	if err != nil {
		return o, fmt.Errorf("org: load: %w", err)
	}
	o.TokenLifetime = time.Duration(lifetime) * time.Second
	o.SuspendedAt, o.DeletedAt, o.ShreddedAt = orZero(suspended), orZero(deleted), orZero(shredded)
	return o, nil
}

const regionSQL = `SELECT region FROM avouch.organisation WHERE tenant_id = $1`

func loadRegion(ctx context.Context, tx *tenantdb.ReadTx) (name string, err error) {
	if err := tx.QueryRow(ctx, regionSQL, tx.Tenant()).Scan(&name); err != nil {
		return "", fmt.Errorf("org: region: %w", err)
	}
	return name, nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

const insertSQL = `INSERT INTO avouch.organisation (tenant_id, name, contact, created_at, token_lifetime, live_tokens, monthly_quota, region)
VALUES ($1, $2, $3, $4, make_interval(secs => $5), $6, $7, $8)`

// An organisation's verifications of the month: the verify room spends from it.
const insertCounterSQL = `INSERT INTO avouch.counter (tenant_id, subject) VALUES ($1, 'verify')`

func insert(ctx context.Context, tx *tenantdb.Tx, o Organisation) error {
	if _, err := tx.Exec(ctx, insertSQL, o.ID, o.Name, o.contact, o.CreatedAt, o.TokenLifetime.Seconds(), o.LiveTokens, o.MonthlyQuota, o.Region); err != nil {
		return fmt.Errorf("org: insert: %w", err)
	}
	if _, err := tx.Exec(ctx, insertCounterSQL, o.ID); err != nil {
		return fmt.Errorf("org: insert counter: %w", err)
	}
	return nil
}

const updateSQL = `UPDATE avouch.organisation
SET name = $2, contact = $3, suspended_at = $4, token_lifetime = make_interval(secs => $5), live_tokens = $6, monthly_quota = $7, badge = $8, version = $9, region = $10,
  deleted_at = $11, shredded_at = $12
WHERE tenant_id = $1`

func update(ctx context.Context, tx *tenantdb.Tx, o Organisation) error {
	n, err := tx.Exec(ctx, updateSQL, o.ID, o.Name, o.contact, orNull(o.SuspendedAt), o.TokenLifetime.Seconds(), o.LiveTokens, o.MonthlyQuota, o.Badge, o.Version,
		o.Region, orNull(o.DeletedAt), orNull(o.ShreddedAt))
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows", n)
	}
	if err != nil {
		return fmt.Errorf("org: update: %w", err)
	}
	return nil
}

const loadIssuerSQL = `SELECT issuer FROM avouch.installation WHERE tenant_id = $1`

// loadIssuer is the installation's issuer; "" before its first start.
func loadIssuer(ctx context.Context, tx *tenantdb.ReadTx) (issuer string, err error) {
	err = tx.QueryRow(ctx, loadIssuerSQL, tx.Tenant()).Scan(&issuer)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return issuer, err
}

const insertIssuerSQL = `INSERT INTO avouch.installation (tenant_id, issuer) VALUES ($1, $2)`

func insertIssuer(ctx context.Context, tx *tenantdb.Tx, issuer string) error {
	_, err := tx.Exec(ctx, insertIssuerSQL, tx.Tenant(), issuer)
	return err
}

// none reports whether a query found nothing.
func none(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

// Sealed are the columns that the rotation of keys wraps anew.
func Sealed() []keyring.SealedColumn {
	return []keyring.SealedColumn{{Table: "organisation", Column: "contact", Item: func([]string) string { return contactItem }}}
}
