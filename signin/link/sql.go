package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/tenantdb"
)

type row struct {
	id               ID
	digest           []byte
	purpose          Purpose
	subject          [16]byte
	data             []byte
	created, expires time.Time
}

const insertSQL = `INSERT INTO avouch.link (tenant_id, link_id, digest, purpose, subject, data, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

func insert(ctx context.Context, tx *tenantdb.Tx, r row) error {
	_, err := tx.Exec(ctx, insertSQL, tx.Tenant(), r.id, r.digest, r.purpose, r.subject, r.data, r.created, r.expires)
	return err
}

const endSQL = `UPDATE avouch.link SET expires_at = $4 WHERE tenant_id = $1 AND subject = $2 AND purpose = $3 AND spent_at IS NULL AND expires_at > $4`

func end(ctx context.Context, tx *tenantdb.Tx, p Purpose, subject [16]byte, at time.Time) error {
	_, err := tx.Exec(ctx, endSQL, tx.Tenant(), subject, p, at)
	return err
}

const lookupSQL = `SELECT coalesce(avouch.lookup_link($1, $2), '00000000-0000-0000-0000-000000000000')`

func lookup(ctx context.Context, db *tenantdb.DB, digest []byte, p Purpose) (t tenantdb.TenantID, err error) {
	return t, db.Lookup(ctx, lookupSQL, []any{digest, string(p)}, &t)
}

const findSQL = `SELECT link_id, subject, data FROM avouch.link WHERE tenant_id = $1 AND digest = $2 AND purpose = $3 AND spent_at IS NULL AND expires_at > $4`

func find(ctx context.Context, tx *tenantdb.ReadTx, digest []byte, p Purpose, at time.Time) (Found, error) {
	return scan(tx.QueryRow(ctx, findSQL, tx.Tenant(), digest, p, at))
}

const spendSQL = `UPDATE avouch.link SET spent_at = $4 WHERE tenant_id = $1 AND digest = $2 AND purpose = $3 AND spent_at IS NULL AND expires_at > $4
RETURNING link_id, subject, data`

func spend(ctx context.Context, tx *tenantdb.Tx, digest []byte, p Purpose, at time.Time) (Found, error) {
	return scan(tx.QueryRow(ctx, spendSQL, tx.Tenant(), digest, p, at))
}

func scan(r pgx.Row) (f Found, err error) {
	err = r.Scan(&f.ID, &f.Subject, &f.Data)
	if errors.Is(err, pgx.ErrNoRows) {
		return Found{}, Refused()
	}
	if err != nil {
		return Found{}, fmt.Errorf("link: %w", err)
	}
	return f, nil
}

const dataSQL = `SELECT data FROM avouch.link WHERE tenant_id = $1 AND link_id = $2`

func loadData(ctx context.Context, tx *tenantdb.ReadTx, link ID) (data []byte, err error) {
	err = tx.QueryRow(ctx, dataSQL, tx.Tenant(), link).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, Refused()
	}
	return data, err
}
