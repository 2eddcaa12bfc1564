package org

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// loadRules are the rules, and the organisation's version.
func loadRules(ctx context.Context, tx *tenantdb.ReadTx) (r Rules, version int64, err error) {
	var b []byte
	if err = tx.QueryRow(ctx, `SELECT rules, version FROM avouch.organisation WHERE tenant_id = $1`, tx.Tenant()).Scan(&b, &version); err != nil {
		return Rules{}, 0, fmt.Errorf("org: rules: %w", err)
	}
	r, err = parseRules(b)
	return r, version, err
}

func saveRules(ctx context.Context, tx *tenantdb.Tx, r Rules, version int64) error {
	if _, err := tx.Exec(ctx, `UPDATE avouch.organisation SET rules = $2, version = $3 WHERE tenant_id = $1`, tx.Tenant(), r, version); err != nil {
		return fmt.Errorf("org: save rules: %w", err)
	}
	return nil
}

const pendingColumns = `change_id, body, asked_by, asked_at, due_at, ended_at, coalesce(outcome, '')`

func scanPending(scan func(...any) error) (p PendingChange, err error) {
	var body []byte
	var ended *time.Time
	err = scan(&p.ID, &body, &p.AskedBy, &p.AskedAt, &p.DueAt, &ended, &p.Outcome)
	if none(err) {
		return p, problem.New(problem.Missing, "There is no such change.")
	}
	if err == nil {
		err = json.Unmarshal(body, &p.body)
	}
	p.EndedAt = orZero(ended)
	return p, err
}

const listPendingSQL = `SELECT ` + pendingColumns + ` FROM avouch.pending_change WHERE tenant_id = $1 AND ended_at IS NULL ORDER BY change_id`

// waiting are the changes that are not applied yet.
func waiting(ctx context.Context, tx *tenantdb.ReadTx) ([]PendingChange, error) {
	return all(ctx, tx, scanPending, listPendingSQL, tx.Tenant())
}

func loadPending(ctx context.Context, tx *tenantdb.ReadTx, id ChangeID) (PendingChange, error) {
	return scanPending(tx.QueryRow(ctx, `SELECT `+pendingColumns+` FROM avouch.pending_change WHERE tenant_id = $1 AND change_id = $2`, tx.Tenant(), id).Scan)
}

func insertPending(ctx context.Context, tx *tenantdb.Tx, p PendingChange) error {
	_, err := tx.Exec(ctx, `INSERT INTO avouch.pending_change (tenant_id, change_id, body, asked_by, asked_at, due_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		tx.Tenant(), p.ID, p.body, p.AskedBy, p.AskedAt, p.DueAt)
	if err != nil {
		return fmt.Errorf("org: insert pending change: %w", err)
	}
	return nil
}

func endPending(ctx context.Context, tx *tenantdb.Tx, id ChangeID, at time.Time, outcome string) error {
	_, err := tx.Exec(ctx, `UPDATE avouch.pending_change SET ended_at = $3, outcome = $4 WHERE tenant_id = $1 AND change_id = $2 AND ended_at IS NULL`, tx.Tenant(), id, at, outcome)
	if err != nil {
		return fmt.Errorf("org: end pending change: %w", err)
	}
	return nil
}
