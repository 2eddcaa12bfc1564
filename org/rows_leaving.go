package org

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// What a person has in this room's tables, by the word of the report: $3 is now where a row is kept.
const (
	endGroupsSQL      = `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND person_id = $2 AND $3::timestamptz IS NOT NULL`
	endInvitationsSQL = `UPDATE avouch.invitation SET revoked_at = $3 WHERE tenant_id = $1 AND invited_by = 'person:' || $2::uuid::text AND accepted_at IS NULL AND revoked_at IS NULL`
	endLinksSQL       = `UPDATE avouch.link SET spent_at = $3 WHERE tenant_id = $1 AND subject = $2 AND spent_at IS NULL`
)

func endOwn(ctx context.Context, tx *tenantdb.Tx, p PersonID, now time.Time) (map[string]int, error) {
	ended := map[string]int{}
	for name, sql := range map[string]string{"groups": endGroupsSQL, "invitations": endInvitationsSQL, "links": endLinksSQL} {
		n, err := tx.Exec(ctx, sql, tx.Tenant(), p, now)
		if err != nil {
			return nil, fmt.Errorf("org: end %s: %w", name, err)
		}
		ended[name] = int(n)
	}
	return ended, nil
}

const insertReportSQL = `INSERT INTO avouch.offboarding (tenant_id, person_id, removed_by, removed_at, request_id, ended) VALUES ($1, $2, $3, $4, $5, $6)`

func insertReport(ctx context.Context, tx *tenantdb.Tx, o Report) error {
	if _, err := tx.Exec(ctx, insertReportSQL, tx.Tenant(), o.Person, o.RemovedBy, o.RemovedAt, o.Request, o.Ended); err != nil {
		return fmt.Errorf("org: insert report: %w", err)
	}
	return nil
}

func loadReport(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (o Report, err error) {
	var ended []byte
	err = tx.QueryRow(ctx, `SELECT person_id, removed_by, removed_at, request_id, ended FROM avouch.offboarding WHERE tenant_id = $1 AND person_id = $2`,
		tx.Tenant(), p).Scan(&o.Person, &o.RemovedBy, &o.RemovedAt, &o.Request, &ended)
	if none(err) {
		return o, problem.New(problem.Missing, "Nobody of that name was removed.")
	}
	if err == nil {
		err = json.Unmarshal(ended, &o.Ended)
	}
	if err != nil {
		return Report{}, fmt.Errorf("org: report: %w", err)
	}
	return o, nil
}
