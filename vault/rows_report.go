package vault

import (
	"context"

	"github.com/avouch-dev/avouch/tenantdb"
)

// readChangesBy are the entries of what a person did to items and not with them, the newest first, from behind a number unless that is 0.
func readChangesBy(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, before int64, most int) ([]row, error) {
	return collect(ctx, tx, scanRow, `SELECT e.seq, e.body, NULL::bytea FROM avouch.audit_entry e
WHERE e.tenant_id = $1 AND e.person = $2 AND get_byte(uuid_send(e.about), 6) >> 4 <> 8 AND ($3::bigint = 0 OR e.seq < $3) ORDER BY e.seq DESC LIMIT $4`, tx.Tenant(), p, before, most)
}

// The log is not looked up by keys. What they did is found by what it was about: the entries of items that they were granted, or that are
// there, are read where their bytes name the key.
const named = ` AND e.person IS NULL AND EXISTS (SELECT FROM unnest($2::text[]) k WHERE position(convert_to(k, 'UTF8') IN e.body) > 0)`

// readUsesByKeys are entries that may be uses by some keys, the newest first.
func readUsesByKeys(ctx context.Context, tx *tenantdb.ReadTx, about [][16]byte, keys []string, most int) ([]row, error) {
	return collect(ctx, tx, scanRow, `SELECT e.seq, e.body, e.sealed FROM avouch.audit_entry e WHERE e.tenant_id = $1 AND e.about = ANY ($3)`+named+` ORDER BY e.seq DESC LIMIT $4`,
		tx.Tenant(), keys, about, most)
}

// readChangesByKeys are entries that may be changes by some keys of items that are there.
func readChangesByKeys(ctx context.Context, tx *tenantdb.ReadTx, keys []string) ([]row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	return collect(ctx, tx, scanRow, `SELECT e.seq, e.body, NULL::bytea FROM avouch.vault_item i JOIN avouch.audit_entry e ON e.tenant_id = i.tenant_id AND e.about = i.item_id
WHERE i.tenant_id = $1`+named, tx.Tenant(), keys)
}
