package org

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

const kmsColumns = `setting_id, kind, key_id, settings, state, set_by, set_at, version`

func scanKMS(scan func(...any) error) (k kmsRow, err error) {
	err = scan(&k.ID, &k.Kind, &k.KeyID, &k.sealed, &k.state, &k.SetBy, &k.SetAt, &k.version)
	if none(err) {
		return k, problem.New(problem.Missing, "The organisation has no such key management of its own.")
	}
	return k, err
}

// kmsRows are the settings of the transaction's organisation, the newest last.
func kmsRows(ctx context.Context, tx *tenantdb.ReadTx) ([]kmsRow, error) {
	return all(ctx, tx, scanKMS, `SELECT `+kmsColumns+` FROM avouch.own_kms WHERE tenant_id = $1 ORDER BY setting_id`, tx.Tenant())
}

func loadKMS(ctx context.Context, tx *tenantdb.ReadTx, id kmsID) (kmsRow, error) {
	return scanKMS(tx.QueryRow(ctx, `SELECT `+kmsColumns+` FROM avouch.own_kms WHERE tenant_id = $1 AND setting_id = $2`, tx.Tenant(), id).Scan)
}

const upsertKMSSQL = `INSERT INTO avouch.own_kms (tenant_id, ` + kmsColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, setting_id) DO UPDATE SET settings = EXCLUDED.settings, state = EXCLUDED.state, version = EXCLUDED.version`

func saveKMS(ctx context.Context, tx *tenantdb.Tx, k kmsRow) error {
	if _, err := tx.Exec(ctx, upsertKMSSQL, tx.Tenant(), k.ID, k.Kind, k.KeyID, k.sealed, k.state, k.SetBy, k.SetAt, k.version); err != nil {
		return fmt.Errorf("org: save key management: %w", err)
	}
	return nil
}

// dropKMS forgets the settings but one; all, if that is zero.
func dropKMS(ctx context.Context, tx *tenantdb.Tx, but kmsID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.own_kms WHERE tenant_id = $1 AND setting_id <> $2`, tx.Tenant(), but); err != nil {
		return fmt.Errorf("org: forget key management: %w", err)
	}
	return nil
}

func dropOneKMS(ctx context.Context, tx *tenantdb.Tx, id kmsID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.own_kms WHERE tenant_id = $1 AND setting_id = $2`, tx.Tenant(), id); err != nil {
		return fmt.Errorf("org: forget key management: %w", err)
	}
	return nil
}
