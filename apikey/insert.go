package apikey

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// minted is a new key with what is kept of it: the digest, and for one that was made elsewhere the finder.
type minted struct {
	Key
	digest, finder [32]byte
}

// issuedAtNS is when the key was made, as its digest has it.
func (k Key) issuedAtNS() int64 { return k.CreatedAt.UnixMicro() * int64(time.Microsecond) }

// What is inserted comes as JSON: of any number of keys it is one statement.
const (
	insertColumns = `key_id, kind, live, name, hint, scopes, resources, owners, metadata, monthly_quota, created_at, expires_at,
   owner, not_before, max_uses, rate_limits, allowed_cidrs, shares, replaces, first_id, leaked_at, made_by, life_us, person`

	insertSQL = `INSERT INTO avouch.api_key
  (tenant_id, ` + insertColumns + `)
SELECT $1, ` + insertColumns + ` FROM jsonb_populate_recordset(NULL::avouch.api_key, $2)`

	insertVerifiersSQL = `INSERT INTO avouch.api_key_verifier (tenant_id, key_id, digest, issued_at_ns, tenant_version, platform_version)
SELECT $1, v.*, $5, $6 FROM unnest($2::text[], $3::bytea[], $4::bigint[]) v`

	insertFindersSQL = `INSERT INTO avouch.api_key_finder (tenant_id, finder, key_id, tenant_version, platform_version)
SELECT $1, f.*, $4, $5 FROM unnest($2::bytea[], $3::text[]) f`

	insertCountersSQL = `INSERT INTO avouch.counter (tenant_id, subject) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING`
)

func columnsOf(k Key) map[string]any {
	var life *int64
	if k.uncut != nil {
		life = new(k.uncut.Microseconds())
	}
	return map[string]any{
		"key_id": k.ID, "kind": k.Kind, "live": k.Live, "name": k.Name, "hint": k.Hint, "scopes": orEmpty(k.Scopes), "resources": orEmpty(k.Resources),
		"owners": orEmpty(k.Owners), "metadata": metadata(k), "monthly_quota": k.MonthlyQuota, "created_at": k.CreatedAt, "expires_at": orNull(k.ExpiresAt),
		"owner": k.GivenTo, "not_before": orNull(k.NotBefore), "max_uses": k.MaxUses, "rate_limits": orEmpty(k.RateLimits),
		"allowed_cidrs": orEmpty(k.AllowedCIDRs), "shares": orEmpty(k.Shares), "replaces": named(k.Replaces), "first_id": named(k.first),
		"leaked_at": orNull(k.LeakedAt), "made_by": named(k.MadeBy), "life_us": life, "person": person(k.Person),
	}
}

// insert stores new keys with their digests, which were all made with the same secrets, and makes the counters that they spend.
func insert(ctx context.Context, tx *tenantdb.Tx, v keyVersions, keys ...minted) error {
	var rows []map[string]any
	var ids, counters []string
	var digests, finders [][]byte
	var issued []int64
	for _, k := range keys {
		if k.finder != [32]byte{} {
			finders = append(finders, k.finder[:])
		}
		rows, ids, digests, issued = append(rows, columnsOf(k.Key)), append(ids, k.ID), append(digests, k.digest[:]), append(issued, k.issuedAtNS())
		if k.Kind == Service { // others spend their organisation's quota
			counters = append(counters, "key:"+k.Family())
		}
		counters = append(counters, subjects(k.metered())...)
	}
	if _, err := tx.Exec(ctx, insertSQL, tx.Tenant(), rows); err != nil {
		return fmt.Errorf("apikey: insert: %w", err)
	}
	if _, err := tx.Exec(ctx, insertVerifiersSQL, tx.Tenant(), ids, digests, issued, v.tenant, v.platform); err != nil {
		return fmt.Errorf("apikey: insert verifiers: %w", err)
	}
	if len(finders) > 0 { // imported ones, all of them
		if _, err := tx.Exec(ctx, insertFindersSQL, tx.Tenant(), finders, ids, v.tenant, v.platform); err != nil {
			return fmt.Errorf("apikey: insert finders: %w", err)
		}
	}
	return count(ctx, tx, counters)
}

// count makes counters, but those that are there.
func count(ctx context.Context, tx *tenantdb.Tx, subjects []string) error {
	if len(subjects) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, insertCountersSQL, tx.Tenant(), subjects); err != nil {
		return fmt.Errorf("apikey: insert counters: %w", err)
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
