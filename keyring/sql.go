package keyring

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// SigningTable is the records of signing keys in the database, as the platform's rows.
type SigningTable struct {
	db     *tenantdb.DB
	caller tenantdb.Caller
}

// NewSigningTable gives the records to whoever acts: the system, or the operator who revokes a key. The caller's tenant
// must be the platform.
func NewSigningTable(db *tenantdb.DB, c tenantdb.Caller) SigningTable { return SigningTable{db, c} }

const loadSigningKeysSQL = `SELECT kid, algorithm, use, public_key, private_key, created_at, signs_from, retires_at, revoked_at
FROM avouch.signing_key WHERE tenant_id = $1 ORDER BY signs_from, kid`

func loadSigningKeys(ctx context.Context, tx *tenantdb.ReadTx) ([]SigningKey, error) {
	rows, err := tx.Query(ctx, loadSigningKeysSQL, tx.Tenant())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k SigningKey, err error) {
		var created, signs, retires, revoked pgtype.Timestamptz
		err = row.Scan(&k.KID, &k.Algorithm, &k.Use, &k.Public, &k.Private, &created, &signs, &retires, &revoked)
		k.CreatedAt, k.SignsFrom, k.RetiresAt, k.RevokedAt = created.Time, signs.Time, retires.Time, revoked.Time
		for _, at := range []pgtype.Timestamptz{created, signs, retires, revoked} {
			if at.InfinityModifier != pgtype.Finite {
				k.damage = errEndless
			}
		}
		if revoked.Valid && !k.revoked() {
			k.RevokedAt = time.Unix(0, 0) // whenever it was
		}
		return k, err
	})
}

// What a record was made with never changes; created_at stays the first.
const putSigningKeySQL = `INSERT INTO avouch.signing_key
(tenant_id, kid, algorithm, use, public_key, private_key, created_at, signs_from, retires_at, revoked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant_id, kid) DO UPDATE SET private_key = EXCLUDED.private_key, signs_from = EXCLUDED.signs_from,
retires_at = EXCLUDED.retires_at, revoked_at = EXCLUDED.revoked_at`

func putSigningKey(ctx context.Context, tx *tenantdb.Tx, k SigningKey) error {
	_, err := tx.Exec(ctx, putSigningKeySQL, tx.Tenant(), k.KID, k.Algorithm, k.Use, k.Public, k.Private,
		k.CreatedAt, k.SignsFrom, orNull(k.RetiresAt), orNull(k.RevokedAt))
	return err
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Load reads all records.
func (s SigningTable) Load(ctx context.Context) (keys []SigningKey, err error) {
	err = s.db.ReadFresh(ctx, s.caller, func(tx *tenantdb.ReadTx) error {
		keys, err = loadSigningKeys(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("keyring.Load: %w", err)
	}
	return keys, nil
}

// Change decides and stores under the lock of the platform's log head, with the entry of the change.
func (s SigningTable) Change(ctx context.Context, decide func([]SigningKey) (SigningKey, audit.Event, bool)) error {
	err := s.db.Change(ctx, s.caller, func(tx *tenantdb.Tx) (audit.Event, error) {
		keys, err := loadSigningKeys(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		k, event, change := decide(keys)
		if !change {
			return audit.Event{}, nil
		}
		return event, putSigningKey(ctx, tx, k)
	})
	if err != nil {
		return fmt.Errorf("keyring.Change: %w", err)
	}
	return nil
}
