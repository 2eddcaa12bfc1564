package tenantdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Each calls fn for every tenant, in tenant order, with a system caller bound to it. It holds no connection while fn
// runs, and stops at the first error.
func (db *DB) Each(ctx context.Context, part string, fn func(Caller) error) error {
	var after TenantID
	for {
		page, err := db.tenants(ctx, after, 500)
		if err != nil {
			return fmt.Errorf("tenantdb.Each: %w", err)
		}
		for _, t := range page {
			if err := fn(System(t, part)); err != nil {
				return err
			}
			after = t
		}
		if len(page) < 500 {
			return nil
		}
	}
}

func (db *DB) tenants(ctx context.Context, after TenantID, most int) ([]TenantID, error) {
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return nil, unreachable(err)
	}
	defer release()
	rows, err := conn.Query(ctx, tenantsSQL, after, most)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[TenantID])
}

// Lookup runs one of the named look-ups that are made before the tenant is known (docs/threat-model.md lists them).
func (db *DB) Lookup(ctx context.Context, sql string, args []any, into ...any) error {
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, db.patience)
	defer cancel()
	return conn.QueryRow(ctx, sql, args...).Scan(into...)
}

// freeHeads are those of the tenants whose heads nobody holds at this moment. The lane asks, on its own connection: on
// those of the waiting it would wait for what it wants to leave beside.
func (db *DB) freeHeads(ctx context.Context, tenants []TenantID) []TenantID {
	ctx, cancel := context.WithTimeout(ctx, db.patience)
	defer cancel()
	conn, release, err := db.acquire(ctx, db.lanes)
	if err != nil {
		return nil
	}
	defer release()
	rows, err := conn.Query(ctx, freeHeadsSQL, tenants)
	if err != nil {
		return nil
	}
	free, err := pgx.CollectRows(rows, pgx.RowTo[TenantID])
	if err != nil {
		return nil
	}
	return free
}
