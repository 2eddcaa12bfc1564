package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/tenantdb"
)

const ownSQL = `SELECT name, risk, description, false FROM avouch.scope WHERE tenant_id = $1 ORDER BY name COLLATE "C"`

// Load reads the catalogue of the transaction's organisation.
func Load(ctx context.Context, tx *tenantdb.ReadTx) (Catalogue, error) {
	rows, err := tx.Query(ctx, ownSQL, tx.Tenant())
	if err != nil {
		return Catalogue{}, fmt.Errorf("policy.Load: %w", err)
	}
	own, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Scope])
	if err != nil {
		return Catalogue{}, fmt.Errorf("policy.Load: %w", err)
	}
	return newCatalogue(own), nil
}

const insertScopeSQL = `INSERT INTO avouch.scope (tenant_id, name, risk, description, created_at) VALUES ($1, $2, $3, $4, $5)`

func insertScope(ctx context.Context, tx *tenantdb.Tx, s Scope, at time.Time) error {
	_, err := tx.Exec(ctx, insertScopeSQL, tx.Tenant(), s.Name, s.Risk, s.Description, at.UTC().Truncate(time.Microsecond))
	return err
}
