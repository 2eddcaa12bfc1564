package apikey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

const columns = `k.key_id, k.kind, k.live, k.name, k.hint, k.scopes, k.resources, k.owners, k.metadata, k.monthly_quota,
  k.created_at, k.expires_at, k.disabled_at, k.revoked_at, k.version`

const loadSQL = `SELECT ` + columns + ` FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = $2`

func scan(row pgx.Row, more ...any) (k Key, err error) {
	var expires, disabled, revoked *time.Time
	err = row.Scan(append([]any{&k.ID, &k.Kind, &k.Live, &k.Name, &k.Hint, &k.Scopes, &k.Resources, &k.Owners, &k.Metadata, &k.MonthlyQuota,
		&k.CreatedAt, &expires, &disabled, &revoked, &k.Version}, more...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, problem.New(problem.Missing, "There is no such key.")
	}
	k.ExpiresAt, k.DisabledAt, k.RevokedAt = orZero(expires), orZero(disabled), orZero(revoked)
	return k, err
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func load(ctx context.Context, tx *tenantdb.ReadTx, id string) (Key, error) {
	return scan(tx.QueryRow(ctx, loadSQL, tx.Tenant(), id))
}

const presentSQL = `SELECT ` + columns + `, o.suspended_at IS NOT NULL
FROM avouch.api_key k JOIN avouch.organisation o USING (tenant_id) WHERE k.tenant_id = $1 AND k.key_id = $2`

// standing is a key and whether its organisation is suspended.
type standing struct {
	Key
	suspended bool
}

func present(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller, id string) (s standing, err error) {
	err = db.ReadRow(ctx, c, presentSQL, []any{c.Tenant(), id}, func(row pgx.Row) error {
		s.Key, err = scan(row, &s.suspended)
		return err
	})
	return s, err
}

const newestSQL = `SELECT coalesce(max(created_at), 'epoch') FROM avouch.api_key WHERE tenant_id = $1`

func newest(ctx context.Context, tx *tenantdb.ReadTx) (at time.Time, err error) {
	err = tx.QueryRow(ctx, newestSQL, tx.Tenant()).Scan(&at)
	return at, err
}

// The states in listSQL are those of Key.Status.
const listSQL = `SELECT ` + columns + ` FROM avouch.api_key k
WHERE k.tenant_id = $1 AND ($2 = '' OR k.kind = $2) AND ($3 = '' OR $3 = CASE
    WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.disabled_at IS NOT NULL THEN 'disabled' WHEN k.expires_at <= $4 THEN 'expired' ELSE 'active' END)
  AND ($5::timestamptz IS NULL OR (k.created_at, k.key_id) < ($5, $6))
ORDER BY k.created_at DESC, k.key_id DESC LIMIT $7`

func list(ctx context.Context, tx *tenantdb.ReadTx, f Filter, now time.Time, after *Position, limit int) ([]Key, error) {
	var from *time.Time
	id := ""
	if after != nil {
		from, id = &after.CreatedAt, after.ID
	}
	rows, err := tx.Query(ctx, listSQL, tx.Tenant(), string(f.Kind), string(f.Status), now, from, id, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Key, error) { return scan(row) })
}

// verifier is what a presented key is compared with.
type verifier struct {
	tenant     tenantdb.TenantID
	digest     [32]byte
	issuedAtNS int64
	versions   keyVersions
}

const insertSQL = `INSERT INTO avouch.api_key
  (tenant_id, key_id, kind, live, name, hint, scopes, resources, owners, metadata, monthly_quota, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

const insertVerifierSQL = `INSERT INTO avouch.api_key_verifier (tenant_id, key_id, digest, issued_at_ns, tenant_version, platform_version)
VALUES ($1, $2, $3, $4, $5, $6)`

const insertCounterSQL = `INSERT INTO avouch.counter (tenant_id, subject) VALUES ($1, $2)`

func insert(ctx context.Context, tx *tenantdb.Tx, k Key, v verifier) error {
	if _, err := tx.Exec(ctx, insertSQL, tx.Tenant(), k.ID, k.Kind, k.Live, k.Name, k.Hint, k.Scopes, orEmpty(k.Resources), orEmpty(k.Owners),
		metadata(k), k.MonthlyQuota, k.CreatedAt, orNull(k.ExpiresAt)); err != nil {
		return fmt.Errorf("apikey: insert: %w", err)
	}
	if _, err := tx.Exec(ctx, insertVerifierSQL, tx.Tenant(), k.ID, v.digest[:], v.issuedAtNS, v.versions.tenant, v.versions.platform); err != nil {
		return fmt.Errorf("apikey: insert verifier: %w", err)
	}
	if k.Kind != Service {
		return nil // it spends its organisation's quota
	}
	if _, err := tx.Exec(ctx, insertCounterSQL, tx.Tenant(), "key:"+k.ID); err != nil {
		return fmt.Errorf("apikey: insert counter: %w", err)
	}
	return nil
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func metadata(k Key) map[string]any {
	if k.Metadata == nil {
		return map[string]any{}
	}
	return k.Metadata
}

const updateSQL = `UPDATE avouch.api_key SET name = $3, resources = $4, owners = $5, metadata = $6, monthly_quota = $7,
  disabled_at = $8, revoked_at = $9, version = $10
WHERE tenant_id = $1 AND key_id = $2`

func update(ctx context.Context, tx *tenantdb.Tx, k Key) error {
	n, err := tx.Exec(ctx, updateSQL, tx.Tenant(), k.ID, k.Name, orEmpty(k.Resources), orEmpty(k.Owners), metadata(k), k.MonthlyQuota,
		orNull(k.DisabledAt), orNull(k.RevokedAt), k.Version)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows", n)
	}
	if err != nil {
		return fmt.Errorf("apikey: update: %w", err)
	}
	return nil
}

// same reports whether an update would change nothing.
func same(a, b Key) bool {
	return a.Name == b.Name && slices.Equal(a.Resources, b.Resources) && slices.Equal(a.Owners, b.Owners) &&
		maps.EqualFunc(a.Metadata, b.Metadata, func(x, y any) bool { return reflect.DeepEqual(x, y) }) &&
		(a.MonthlyQuota == nil) == (b.MonthlyQuota == nil) && (a.MonthlyQuota == nil || *a.MonthlyQuota == *b.MonthlyQuota) &&
		a.DisabledAt.Equal(b.DisabledAt) && a.RevokedAt.Equal(b.RevokedAt)
}

const lookupSQL = `SELECT tenant_id, digest, issued_at_ns, tenant_version, platform_version FROM avouch.lookup_key($1)`

// lookup finds the verifier of an id; nil is none.
func (r *Room) lookup(ctx context.Context, id string) (*verifier, error) {
	var v verifier
	var digest []byte
	err := r.cfg.DB.Lookup(ctx, lookupSQL, []any{id}, &v.tenant, &digest, &v.issuedAtNS, &v.versions.tenant, &v.versions.platform)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("apikey: look up: %w", err)
	}
	if copy(v.digest[:], digest) != len(v.digest) {
		return nil, errors.New("apikey: look up: a digest is too short")
	}
	return &v, nil
}
