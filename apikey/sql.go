package apikey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const columns = `k.key_id, k.kind, k.live, k.name, k.hint, k.scopes, k.resources, k.owners, k.metadata, k.monthly_quota,
  k.created_at, k.expires_at, k.disabled_at, k.revoked_at, k.version, k.owner, k.not_before, k.max_uses, k.rate_limits, k.allowed_cidrs, k.shares,
  coalesce(k.replaces, ''), coalesce(k.replaced_by, ''), coalesce(k.first_id, ''), k.leaked_at, coalesce(k.noticed, 0),
  coalesce(k.made_by, ''), k.life_us, coalesce(k.person, '00000000-0000-0000-0000-000000000000'),
  CASE WHEN k.person IS NOT NULL THEN (SELECT o.rules -> 'addresses' FROM avouch.organisation o WHERE o.tenant_id = k.tenant_id) END`

const loadSQL = `SELECT ` + columns + ` FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = $2`

func scan(row pgx.Row, more ...any) (k Key, err error) {
	var expires, disabled, revoked, begins, leaked *time.Time
	var life *int64
	err = row.Scan(append([]any{&k.ID, &k.Kind, &k.Live, &k.Name, &k.Hint, &k.Scopes, &k.Resources, &k.Owners, &k.Metadata, &k.MonthlyQuota,
		&k.CreatedAt, &expires, &disabled, &revoked, &k.Version, &k.GivenTo, &begins, &k.MaxUses, &k.RateLimits, &k.AllowedCIDRs, &k.Shares,
		&k.Replaces, &k.ReplacedBy, &k.first, &leaked, &k.Noticed, &k.MadeBy, &life, &k.Person, &k.peoples}, more...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, problem.New(problem.Missing, "There is no such key.")
	}
	k.ExpiresAt, k.DisabledAt, k.RevokedAt = orZero(expires), orZero(disabled), orZero(revoked)
	k.NotBefore, k.LeakedAt = orZero(begins), orZero(leaked)
	if life != nil {
		k.uncut = new(time.Duration(*life) * time.Microsecond)
	}
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

// newestOf are the newest generations, whose limits hold, of families.
const newestOf = ` FROM avouch.api_key n WHERE n.tenant_id = k.tenant_id AND n.replaced_by IS NULL AND n.family = ANY`

const presentSQL = `SELECT ` + columns + `, o.suspended_at IS NOT NULL,
  EXISTS (SELECT FROM avouch.api_identity i WHERE i.tenant_id = k.tenant_id AND i.owner = k.owner AND i.rate_limits <> '[]')
  OR EXISTS (SELECT` + newestOf + ` (k.shares || k.family) AND (n.max_uses IS NOT NULL OR n.rate_limits <> '[]'))
FROM avouch.api_key k JOIN avouch.organisation o USING (tenant_id) WHERE k.tenant_id = $1 AND k.key_id = $2`

// standing is a key, whether its organisation is suspended, and whether its uses are counted.
type standing struct {
	Key
	suspended  bool
	metersSome bool
}

func present(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller, id string) (s standing, err error) {
	err = db.ReadRow(ctx, c, presentSQL, []any{c.Tenant(), id}, func(row pgx.Row) error {
		s.Key, err = scan(row, &s.suspended, &s.metersSome)
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
const listSQL = `SELECT ` + knownColumns + knownFrom + `
WHERE k.tenant_id = $1 AND ($2 = '' OR k.kind = $2) AND ($3 = '' OR $3 = CASE
    WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.disabled_at IS NOT NULL THEN 'disabled' WHEN k.expires_at <= $4 THEN 'expired'
    WHEN k.not_before > $4 THEN 'pending' ELSE 'active' END)
  AND ($8 = '' OR k.owner = $8) AND ($9 = '' OR k.made_by = $9) AND ($10::uuid IS NULL OR k.person = $10)
  AND ($5::timestamptz IS NULL OR (k.created_at, k.key_id) < ($5, $6))
ORDER BY k.created_at DESC, k.key_id DESC LIMIT $7`

func list(ctx context.Context, tx *tenantdb.ReadTx, f Filter, now time.Time, after *Position, limit int) ([]known, error) {
	var from *time.Time
	id := ""
	if after != nil {
		from, id = &after.CreatedAt, after.ID
	}
	rows, err := tx.Query(ctx, listSQL, tx.Tenant(), string(f.Kind), string(f.Status), now, from, id, limit, f.Owner, f.MadeBy, person(f.Person))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (known, error) { return scanKnown(row) })
}

const updateSQL = `UPDATE avouch.api_key SET name = $3, resources = $4, owners = $5, metadata = $6, monthly_quota = $7,
  disabled_at = $8, revoked_at = $9, version = $10, max_uses = $11, rate_limits = $12, allowed_cidrs = $13, expires_at = $14,
  replaced_by = nullif($15, ''), leaked_at = $16, noticed = nullif($17, 0)
WHERE tenant_id = $1 AND key_id = $2`

func update(ctx context.Context, tx *tenantdb.Tx, k Key) error {
	n, err := tx.Exec(ctx, updateSQL, tx.Tenant(), k.ID, k.Name, orEmpty(k.Resources), orEmpty(k.Owners), metadata(k), k.MonthlyQuota,
		orNull(k.DisabledAt), orNull(k.RevokedAt), k.Version, k.MaxUses, orEmpty(k.RateLimits), orEmpty(k.AllowedCIDRs), orNull(k.ExpiresAt),
		k.ReplacedBy, orNull(k.LeakedAt), k.Noticed)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows", n)
	}
	if err != nil {
		return fmt.Errorf("apikey: update: %w", err)
	}
	return count(ctx, tx, subjects(k.metered()))
}

// useSQL says beside a key whether others decide what it spends: its successor, or keys that made it and have limits.
const useSQL = `SELECT ` + columns + `, k.replaced_by IS NOT NULL OR EXISTS (SELECT` + newestOf + ` (k.shares)
  AND (n.max_uses IS NOT NULL OR n.rate_limits <> '[]' OR n.monthly_quota IS NOT NULL))
FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = $2`

const metersSQL = `SELECT n.family, n.max_uses, n.rate_limits, n.monthly_quota
FROM avouch.api_key k CROSS JOIN LATERAL (SELECT *` + newestOf + ` (k.shares || k.family)) n WHERE k.tenant_id = $1 AND k.key_id = $2 ORDER BY n.family`

const identityRatesSQL = `SELECT rate_limits FROM avouch.api_identity WHERE tenant_id = $1 AND owner = $2`

// LoadUse is what decides about the use of a key, nil if there is none.
func LoadUse(ctx context.Context, tx *tenantdb.ReadTx, id string) (*Use, error) {
	var others bool
	k, err := scan(tx.QueryRow(ctx, useSQL, tx.Tenant(), id), &others)
	if problem.Is(err, problem.Missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("apikey.LoadUse: %w", err)
	}
	families := []metered{k.metered()}
	if others {
		rows, err := tx.Query(ctx, metersSQL, tx.Tenant(), id)
		if err != nil {
			return nil, fmt.Errorf("apikey.LoadUse: %w", err)
		}
		families, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m metered, err error) {
			return m, row.Scan(&m.family, &m.uses, &m.rates, &m.quota)
		})
		if err != nil {
			return nil, fmt.Errorf("apikey.LoadUse: %w", err)
		}
	}
	u := &Use{Key: k, Quotas: k.quotas(families)}
	if k.GivenTo != "" {
		m := metered{family: identityFamily(k.GivenTo)}
		if err := tx.QueryRow(ctx, identityRatesSQL, tx.Tenant(), k.GivenTo).Scan(&m.rates); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("apikey.LoadUse: %w", err)
		}
		families = append(families, m)
	}
	u.Meters = k.metersOf(families)
	return u, nil
}

// lineageSQL climbs from a key to those that made it.
const lineageSQL = `
WITH RECURSIVE up AS (
  SELECT k.family, k.made_by FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = $2
  UNION
  SELECT m.family, m.made_by FROM up JOIN avouch.api_key m ON m.tenant_id = $1 AND m.key_id = up.made_by
)
SELECT array_agg(DISTINCT family) FROM up`

// lineage is a key's family, and those of the key that made it, of the one that made that, and so on.
func lineage(ctx context.Context, tx *tenantdb.ReadTx, k Key) (families []string, err error) {
	if k.MadeBy == "" {
		return []string{k.Family()}, nil
	}
	if err := tx.QueryRow(ctx, lineageSQL, tx.Tenant(), k.ID).Scan(&families); err != nil {
		return nil, fmt.Errorf("apikey: lineage: %w", err)
	}
	return families, nil
}

// lineSQL is what came from a key: what it and its earlier generations made, and so on down, beside these generations. Successors
// have their predecessors' maker, so they are found beside them. Data keys, which most are, make none.
const lineSQL = `
WITH RECURSIVE line AS (
  SELECT g.key_id, g.family, g.kind, g.revoked_at, g.expires_at FROM avouch.api_key g WHERE g.tenant_id = $1 AND g.family = $2 AND g.created_at <= $3
  UNION
  SELECT c.key_id, c.family, c.kind, c.revoked_at, c.expires_at FROM line JOIN avouch.api_key c ON c.tenant_id = $1 AND c.made_by = line.key_id WHERE line.kind <> 'data'
)`

// endLineSQL ends keys of a line, those first that could make more.
const endLineSQL = lineSQL + `, ended AS (
  UPDATE avouch.api_key k SET revoked_at = $4, version = k.version + 1 WHERE k.tenant_id = $1 AND k.key_id IN (
    SELECT key_id FROM line WHERE revoked_at IS NULL AND family <> $2 ORDER BY kind = 'data' LIMIT $5) RETURNING k.key_id
) SELECT coalesce(array_agg(key_id ORDER BY key_id), '{}') FROM ended`

// lineLeftSQL counts the keys of a line that are in force. Nothing but the limit looks at its rows, so it ends the recursion.
const lineLeftSQL = lineSQL + `
SELECT count(*) FROM (SELECT FROM line WHERE revoked_at IS NULL AND family <> $2 AND (expires_at IS NULL OR expires_at > $4) LIMIT $5) l`

// ofLine asks about what came from a key, for at most so many keys: which ended, or how many are left.
func ofLine(ctx context.Context, tx *tenantdb.Tx, sql string, k Key, now time.Time, most int, into any) error {
	if err := tx.QueryRow(ctx, sql, tx.Tenant(), k.Family(), k.CreatedAt, now, most).Scan(into); err != nil {
		return fmt.Errorf("apikey: of line: %w", err)
	}
	return nil
}

// verifier is what a presented key is compared with.
type verifier struct {
	tenant     tenantdb.TenantID
	digest     [32]byte
	issuedAtNS int64
	versions   keyVersions
}

// lookupSQL answers with a row also for an id that nobody has: a row takes longer than none, and others can measure that.
const lookupSQL = `
SELECT coalesce(k.tenant_id, '00000000-0000-0000-0000-000000000000'), coalesce(k.digest, sha256('')), coalesce(k.issued_at_ns, 0),
  coalesce(k.tenant_version, 0), coalesce(k.platform_version, 0)
FROM (SELECT) one LEFT JOIN avouch.lookup_key($1) k ON true`

// lookup finds the verifier of an id; nil is none.
func (r *Room) lookup(ctx context.Context, id string) (*verifier, error) {
	var v verifier
	var digest []byte
	err := r.cfg.DB.Lookup(ctx, lookupSQL, []any{id}, &v.tenant, &digest, &v.issuedAtNS, &v.versions.tenant, &v.versions.platform)
	if err != nil {
		return nil, fmt.Errorf("apikey: look up: %w", err)
	}
	if copy(v.digest[:], digest) != len(v.digest) {
		return nil, errors.New("apikey: look up: a digest is too short")
	}
	if v.versions.tenant == 0 { // no secret has this version
		return nil, nil
	}
	return &v, nil
}

// findPairsSQL hops along an index from one pair to the next: there are few, of any number of keys.
const findPairsSQL = `
WITH RECURSIVE pair AS (
  (SELECT tenant_version AS t, platform_version AS p FROM avouch.api_key_finder WHERE tenant_id = $1 ORDER BY 1, 2 LIMIT 1)
  UNION ALL
  SELECT n.* FROM pair CROSS JOIN LATERAL (SELECT f.tenant_version, f.platform_version FROM avouch.api_key_finder f
    WHERE f.tenant_id = $1 AND (f.tenant_version, f.platform_version) > (pair.t, pair.p) ORDER BY 1, 2 LIMIT 1) n)
SELECT t, p FROM pair`

func findPairs(ctx context.Context, tx *tenantdb.ReadTx) ([]keyVersions, error) {
	rows, err := tx.Query(ctx, findPairsSQL, tx.Tenant())
	if err != nil {
		return nil, fmt.Errorf("apikey: find pairs: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v keyVersions, err error) {
		err = row.Scan(&v.tenant, &v.platform)
		return v, err
	})
}

const findFindersSQL = `SELECT f.finder, f.key_id, k.expires_at FROM avouch.api_key_finder f JOIN avouch.api_key k USING (tenant_id, key_id)
WHERE f.tenant_id = $1 AND f.finder = ANY ($2)`

func findFinders(ctx context.Context, tx *tenantdb.ReadTx, finders [][]byte, each func(finder []byte, there Imported)) error {
	rows, err := tx.Query(ctx, findFindersSQL, tx.Tenant(), finders)
	if err != nil {
		return fmt.Errorf("apikey: find: %w", err)
	}
	var finder []byte
	var expires *time.Time
	there := Imported{There: true}
	_, err = pgx.ForEachRow(rows, []any{&finder, &there.KeyID, &expires}, func() error {
		there.ExpiresAt = orZero(expires)
		each(finder, there)
		return nil
	})
	if err != nil {
		return fmt.Errorf("apikey: find: %w", err)
	}
	return nil
}

const ownerColumns = `owner, max_keys, rate_limits, metadata, created_at, version`

func scanOwner(row pgx.Row) (o KeyOwner, err error) {
	err = row.Scan(&o.Owner, &o.MaxKeys, &o.RateLimits, &o.Metadata, &o.CreatedAt, &o.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, problem.New(problem.Missing, "Nothing is shared by keys of this owner.")
	}
	return o, err
}

func loadOwner(ctx context.Context, tx *tenantdb.ReadTx, owner string) (KeyOwner, error) {
	return scanOwner(tx.QueryRow(ctx, `SELECT `+ownerColumns+` FROM avouch.api_identity WHERE tenant_id = $1 AND owner = $2`, tx.Tenant(), owner))
}

func listOwners(ctx context.Context, tx *tenantdb.ReadTx, after string, limit int) ([]KeyOwner, error) {
	rows, err := tx.Query(ctx, `SELECT `+ownerColumns+` FROM avouch.api_identity WHERE tenant_id = $1 AND owner > $2 ORDER BY owner LIMIT $3`, tx.Tenant(), after, limit)
	if err != nil {
		return nil, fmt.Errorf("apikey: list owners: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (KeyOwner, error) { return scanOwner(row) })
}

const saveOwnerSQL = `
INSERT INTO avouch.api_identity (tenant_id, owner, max_keys, rate_limits, metadata, created_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, owner) DO UPDATE SET max_keys = excluded.max_keys, rate_limits = excluded.rate_limits, metadata = excluded.metadata, version = excluded.version`

func saveOwner(ctx context.Context, tx *tenantdb.Tx, o KeyOwner) error {
	meta := o.Metadata
	if meta == nil {
		meta = map[string]any{}
	}
	if _, err := tx.Exec(ctx, saveOwnerSQL, tx.Tenant(), o.Owner, o.MaxKeys, orEmpty(o.RateLimits), meta, o.CreatedAt, o.Version); err != nil {
		return fmt.Errorf("apikey: save owner: %w", err)
	}
	return count(ctx, tx, subjects(metered{family: identityFamily(o.Owner), rates: o.RateLimits}))
}

func deleteOwner(ctx context.Context, tx *tenantdb.Tx, owner string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.api_identity WHERE tenant_id = $1 AND owner = $2`, tx.Tenant(), owner); err != nil {
		return fmt.Errorf("apikey: delete owner: %w", err)
	}
	return nil
}

const countKeysSQL = `SELECT o.owner, i.max_keys, (SELECT count(DISTINCT k.family) FROM avouch.api_key k
  WHERE k.tenant_id = $1 AND k.owner = o.owner AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3))
FROM unnest($2::text[]) o(owner) LEFT JOIN avouch.api_identity i ON (i.tenant_id, i.owner) = ($1, o.owner) ORDER BY o.owner`

// countKeys tells of owners how many keys in force they have, and of those that have a limit of their own, which.
func countKeys(ctx context.Context, tx *tenantdb.ReadTx, owners []string, now time.Time, each func(owner string, has int, most *int) error) error {
	rows, err := tx.Query(ctx, countKeysSQL, tx.Tenant(), owners, now)
	if err != nil {
		return fmt.Errorf("apikey: count keys: %w", err)
	}
	var owner string
	var has int
	var most *int
	if _, err = pgx.ForEachRow(rows, []any{&owner, &most, &has}, func() error { return each(owner, has, most) }); err != nil {
		return fmt.Errorf("apikey: count keys: %w", err)
	}
	return nil
}

func readHead(ctx context.Context, tx *tenantdb.ReadTx) (tenantdb.Head, error) {
	h := tenantdb.Head{Tenant: tx.Tenant()}
	if err := tx.QueryRow(ctx, `SELECT log_id, epoch FROM avouch.audit_head WHERE tenant_id = $1`, h.Tenant).Scan(&h.Log, &h.Epoch); err != nil {
		return h, fmt.Errorf("apikey: head: %w", err)
	}
	return h, nil
}

// A key may have been used on another server since, and may not be there: after a restore to before it was made.
const saveUseSQL = `
INSERT INTO avouch.api_key_use AS u (tenant_id, key_id, used_at, client, refused)
SELECT $1, $2, $3::timestamptz, $4::bytea, $5::bigint FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = $2
ON CONFLICT (tenant_id, key_id) DO UPDATE SET refused = u.refused + excluded.refused,
  client = CASE WHEN excluded.used_at > u.used_at OR u.used_at IS NULL THEN excluded.client ELSE u.client END, used_at = greatest(u.used_at, excluded.used_at)`

func saveUse(ctx context.Context, tx *tenantdb.Tx, id string, s *since, client []byte) error {
	if _, err := tx.Exec(ctx, saveUseSQL, tx.Tenant(), id, orNull(s.At), client, s.refused); err != nil {
		return fmt.Errorf("apikey: save use: %w", err)
	}
	return nil
}

// known is a key with what is known of its use.
type known struct {
	Key
	usedAt   time.Time
	client   []byte // sealed
	refused  int64
	versions keyVersions
	left     *int64 // of its uses, and those of the keys that made it; nil is unlimited
}

const (
	knownColumns = columns + `, u.used_at, u.client, coalesce(u.refused, 0), v.tenant_version, v.platform_version,
  (SELECT min(greatest(m.most - coalesce(c.used, 0), 0)) FROM (SELECT 'uses:' || n.family AS subject, n.max_uses AS most` + newestOf + ` (k.shares || k.family)
    AND n.max_uses IS NOT NULL) m LEFT JOIN avouch.counter c ON c.tenant_id = k.tenant_id AND c.subject = m.subject)`

	knownFrom = ` FROM avouch.api_key k LEFT JOIN avouch.api_key_use u ON (u.tenant_id, u.key_id) = (k.tenant_id, k.key_id)
JOIN avouch.api_key_verifier v ON (v.tenant_id, v.key_id) = (k.tenant_id, k.key_id) `
)

func scanKnown(row pgx.Row) (k known, err error) {
	var at *time.Time
	k.Key, err = scan(row, &at, &k.client, &k.refused, &k.versions.tenant, &k.versions.platform, &k.left)
	k.usedAt = orZero(at)
	return k, err
}

func loadKnown(ctx context.Context, tx *tenantdb.ReadTx, id string) (known, error) {
	return scanKnown(tx.QueryRow(ctx, `SELECT `+knownColumns+knownFrom+`WHERE k.tenant_id = $1 AND k.key_id = $2`, tx.Tenant(), id))
}

const (
	renewSQL = `UPDATE avouch.api_key_verifier SET digest = $3, tenant_version = $4, platform_version = $5 WHERE tenant_id = $1 AND key_id = $2`

	renewFinderSQL = `UPDATE avouch.api_key_finder SET finder = $3, tenant_version = $4, platform_version = $5 WHERE tenant_id = $1 AND key_id = $2`
)

func saveRenewal(ctx context.Context, tx *tenantdb.Tx, id string, n renewal) error {
	if _, err := tx.Exec(ctx, renewSQL, tx.Tenant(), id, n.digest[:], n.versions.tenant, n.versions.platform); err != nil {
		return fmt.Errorf("apikey: renew: %w", err)
	}
	if n.finder == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, renewFinderSQL, tx.Tenant(), id, n.finder[:], n.versions.tenant, n.versions.platform); err != nil {
		return fmt.Errorf("apikey: renew finder: %w", err)
	}
	return nil
}

// endingSQL lists keys that end after $2 and of which their organisation is to be told: $3 are days before their end.
const endingSQL = `
SELECT k.key_id FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.revoked_at IS NULL AND k.replaced_by IS NULL AND k.expires_at > $2
  AND EXISTS (SELECT FROM unnest($3::integer[]) AS d(days) WHERE k.expires_at <= $2 + make_interval(days => d.days) AND (k.noticed IS NULL OR k.noticed > d.days))
ORDER BY k.expires_at, k.key_id LIMIT 100000`

func ending(ctx context.Context, tx *tenantdb.ReadTx, now time.Time, days []int) ([]string, error) {
	rows, err := tx.Query(ctx, endingSQL, tx.Tenant(), now, days)
	if err != nil {
		return nil, fmt.Errorf("apikey: ending: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func revokeAll(ctx context.Context, tx *tenantdb.Tx, now time.Time) (int64, error) {
	n, err := tx.Exec(ctx, `UPDATE avouch.api_key SET revoked_at = $2, version = version + 1 WHERE tenant_id = $1 AND revoked_at IS NULL`, tx.Tenant(), now)
	if err != nil {
		return 0, fmt.Errorf("apikey: revoke all: %w", err)
	}
	return n, nil
}

// Sealed are the columns that the rotation of keys wraps anew.
func Sealed() []keyring.SealedColumn {
	return []keyring.SealedColumn{{
		Table: "api_key_use", Column: "client", Key: []keyring.KeyPart{{Column: "key_id", Type: "text"}}, Item: func(key []string) string { return key[0] },
	}}
}

const peppersSQL = `SELECT v, count(*) FROM (
  SELECT platform_version AS v FROM avouch.api_key_verifier WHERE tenant_id = $1 UNION ALL SELECT platform_version FROM avouch.api_key_finder WHERE tenant_id = $1
) AS all_of_them GROUP BY v`

func countPeppers(ctx context.Context, tx *tenantdb.ReadTx) (map[uint32]int64, error) {
	rows, err := tx.Query(ctx, peppersSQL, tx.Tenant())
	if err != nil {
		return nil, err
	}
	counts := map[uint32]int64{}
	var version uint32
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&version, &n}, func() error {
		counts[version] = n
		return nil
	})
	return counts, err
}
