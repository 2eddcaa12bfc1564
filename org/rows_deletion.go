package org

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// lastOfDeletion is the newest entry about the deletion of the transaction's organisation; the zero value if there is none, or none that
// we wrote.
func lastOfDeletion(ctx context.Context, tx *tenantdb.ReadTx) (e audit.Entry, err error) {
	var body []byte
	err = tx.QueryRow(ctx, `SELECT body FROM avouch.audit_entry WHERE tenant_id = $1 AND about = $1 ORDER BY seq DESC LIMIT 1`, tx.Tenant()).Scan(&body)
	if none(err) {
		return audit.Entry{}, nil
	}
	if err != nil {
		return audit.Entry{}, fmt.Errorf("org: deletion: %w", err)
	}
	if e, err = audit.Decode(body); err != nil {
		return audit.Entry{}, nil
	}
	return e, nil
}

const ownersSinceSQL = `SELECT person_id FROM avouch.person
WHERE tenant_id = $1 AND 'owner' = ANY (roles) AND suspended_at IS NULL AND removed_at IS NULL AND (owner_since IS NULL OR owner_since <= $2) ORDER BY person_id`

// ownersSince are the owners who can act, of those who are owners since before.
func ownersSince(ctx context.Context, tx *tenantdb.ReadTx, before time.Time) ([]PersonID, error) {
	return all(ctx, tx, func(scan func(...any) error) (p PersonID, err error) { return p, scan(&p) }, ownersSinceSQL, tx.Tenant(), before)
}

const ownedUntilSQL = `SELECT max(owner_until) FROM avouch.person WHERE tenant_id = $1 AND ('owner' <> ALL (roles) OR suspended_at IS NOT NULL OR removed_at IS NOT NULL)`

// ownedUntil is when the last of those who are owners no more, or cannot act, ceased to be one who can; zero if none ever did.
func ownedUntil(ctx context.Context, tx *tenantdb.ReadTx) (time.Time, error) {
	var at *time.Time
	if err := tx.QueryRow(ctx, ownedUntilSQL, tx.Tenant()).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("org: owners of before: %w", err)
	}
	return orZero(at), nil
}

const ownersOfLateSQL = `SELECT person_id FROM avouch.person
WHERE tenant_id = $1 AND removed_at IS NULL AND ('owner' = ANY (roles) AND suspended_at IS NULL OR owner_until > $2) ORDER BY person_id`

// ownersOfLate are the owners who can act, and those who ceased to be one after before and are members still.
func ownersOfLate(ctx context.Context, tx *tenantdb.ReadTx, before time.Time) ([]PersonID, error) {
	return all(ctx, tx, func(scan func(...any) error) (p PersonID, err error) { return p, scan(&p) }, ownersOfLateSQL, tx.Tenant(), before)
}
