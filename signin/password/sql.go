package password

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const loadSQL = `SELECT hash, changed_at, version FROM avouch.password WHERE tenant_id = $1 AND person_id = $2`

func load(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (s Stored, err error) {
	s.hash.tenant, s.hash.person = tx.Tenant(), p
	err = tx.QueryRow(ctx, loadSQL, tx.Tenant(), p).Scan(&s.hash.sealed, &s.ChangedAt, &s.version)
	if errors.Is(err, pgx.ErrNoRows) {
		return Stored{}, nil
	}
	return s, err
}

const storeSQL = `INSERT INTO avouch.password AS p (tenant_id, person_id, hash, changed_at) VALUES ($1, $2, $3, $4)
  ON CONFLICT (tenant_id, person_id) DO UPDATE SET hash = excluded.hash, changed_at = excluded.changed_at, version = p.version + 1`

func store(ctx context.Context, tx *tenantdb.Tx, h Hash, at time.Time) error {
	_, err := tx.Exec(ctx, storeSQL, h.tenant, h.person, h.sealed, at)
	return err
}

const upgradeSQL = `UPDATE avouch.password SET hash = $4, version = version + 1 WHERE tenant_id = $1 AND person_id = $2 AND version = $3`

func upgrade(ctx context.Context, tx *tenantdb.Tx, h Hash, version int64) (bool, error) {
	n, err := tx.Exec(ctx, upgradeSQL, h.tenant, h.person, version, h.sealed)
	return n == 1, err
}

const endSQL = `DELETE FROM avouch.password WHERE tenant_id = $1 AND person_id = $2`

func end(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) (int, error) {
	n, err := tx.Exec(ctx, endSQL, tx.Tenant(), p)
	return int(n), err
}

// Sealed are the columns that the rotation of keys wraps anew.
func Sealed() []keyring.SealedColumn {
	return []keyring.SealedColumn{{
		Table: "password", Column: "hash", Key: []keyring.KeyPart{{Column: "person_id", Type: "uuid"}}, Item: func(key []string) string { return key[0] },
	}}
}
