package apikey

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/tenantdb"
)

// What a person makes with keys:write outlives their session, so it ends when they leave.

// EndOf revokes all keys of a person: those that they made or rotated, and all that came from these. It is part of a change of
// whoever removes the person, whose entry says how many.
func (r *Room) EndOf(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, _ string) (ended int, err error) {
	n, err := tx.Exec(ctx, endOfSQL, tx.Tenant(), p, r.instant())
	if err != nil {
		return 0, fmt.Errorf("apikey.EndOf: %w", err)
	}
	return int(n), nil
}

// KeysOf counts the keys of a person that are in force.
func (r *Room) KeysOf(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (n int, err error) {
	if err := tx.QueryRow(ctx, keysOfSQL, tx.Tenant(), p, r.cfg.Now()).Scan(&n); err != nil {
		return 0, fmt.Errorf("apikey.KeysOf: %w", err)
	}
	return n, nil
}

// Holds is what a key may do at this moment; nothing if it is not in force, or not there.
func (r *Room) Holds(ctx context.Context, tx *tenantdb.ReadTx, id string) ([]string, error) {
	u, err := LoadUse(ctx, tx, id)
	if err != nil {
		return nil, fmt.Errorf("apikey.Holds: %w", err)
	}
	if u == nil || u.Status(r.cfg.Now()) != Active || u.Kind == Data {
		return nil, nil
	}
	return u.Scopes, nil
}

const (
	endOfSQL = `UPDATE avouch.api_key SET revoked_at = $3, version = version + 1 WHERE tenant_id = $1 AND person = $2 AND revoked_at IS NULL`

	keysOfSQL = `SELECT count(*) FROM avouch.api_key WHERE tenant_id = $1 AND person = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)`
)

// person is who made a key, as a table keeps it.
func person(p tenantdb.PersonID) *tenantdb.PersonID {
	if p.IsZero() {
		return nil
	}
	return &p
}
