package policy

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const ownSQL = `SELECT name, risk, description, false FROM avouch.scope WHERE tenant_id = $1 ORDER BY name COLLATE "C"`

// Load reads the catalogue of the transaction's organisation.
func Load(ctx context.Context, tx *tenantdb.ReadTx) (Catalogue, error) {
	rows, err := tx.Query(ctx, ownSQL, tx.Tenant())
	if err != nil {
		return Catalogue{}, fmt.Errorf("policy.Load: %w", err)
	}
	own, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Scope])
	if err != nil {
		return Catalogue{}, fmt.Errorf("policy.Load: %w", err)
	}
	return newCatalogue(own), nil
}

const insertScopeSQL = `INSERT INTO avouch.scope (tenant_id, name, risk, description, created_at) VALUES ($1, $2, $3, $4, $5)`

func insertScope(ctx context.Context, tx *tenantdb.Tx, s Scope, at time.Time) error {
	_, err := tx.Exec(ctx, insertScopeSQL, tx.Tenant(), s.Name, s.Risk, s.Description, at.UTC().Truncate(time.Microsecond))
	return err
}

const useColumns = `use_id, person_id, coalesce(operator, ''), capabilities, life_seconds, approval, asked_at, due_at, coalesce(decided_by, ''), decided_at,
  opened_at, expires_at, closed_at, coalesce(outcome, ''), coalesce(reviewed_by, ''), reviewed_at, reason, remark`

func scanUse(r pgx.CollectableRow) (Use, error) {
	var u Use
	var person *tenantdb.PersonID
	var seconds int64
	var decided, opened, expires, closed, reviewed *time.Time
	err := r.Scan(&u.ID, &person, &u.Operator, &u.Capabilities, &seconds, &u.Approval, &u.AskedAt, &u.DueAt, &u.DecidedBy, &decided,
		&opened, &expires, &closed, &u.Outcome, &u.ReviewedBy, &reviewed, &u.reason, &u.remark)
	if person != nil {
		u.Person = *person
	}
	u.Life = time.Duration(seconds) * time.Second
	for to, from := range map[*time.Time]*time.Time{&u.DecidedAt: decided, &u.OpenedAt: opened, &u.ExpiresAt: expires, &u.ClosedAt: closed, &u.ReviewedAt: reviewed} {
		if from != nil {
			*to = from.UTC()
		}
	}
	u.AskedAt, u.DueAt = u.AskedAt.UTC(), u.DueAt.UTC()
	return u, err
}

func queryUses(ctx context.Context, tx *tenantdb.ReadTx, sql string, args ...any) ([]Use, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanUse)
}

const lentSQL = `SELECT unnest(capabilities) FROM avouch.break_glass
  WHERE tenant_id = $1 AND person_id = $2 AND closed_at IS NULL AND opened_at <= $3 AND opened_at <= $4 AND expires_at > $4`

func readLent(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, proved, now time.Time) ([]string, error) {
	rows, err := tx.Query(ctx, lentSQL, tx.Tenant(), p, proved, now)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const operatorOpenSQL = `SELECT ` + useColumns + ` FROM avouch.break_glass
  WHERE tenant_id = $1 AND operator = $2 AND closed_at IS NULL AND opened_at <= $3 AND expires_at > $3`

func operatorOpen(ctx context.Context, tx *tenantdb.ReadTx, operator string, now time.Time) ([]Use, error) {
	return queryUses(ctx, tx, operatorOpenSQL, tx.Tenant(), operator, now)
}

const closeAllSQL = `UPDATE avouch.break_glass SET closed_at = least($3, expires_at), outcome = CASE WHEN expires_at <= $3 THEN 'expired' ELSE 'ended' END, version = version + 1
  WHERE tenant_id = $1 AND person_id = $2 AND closed_at IS NULL`

func closeAll(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, now time.Time) (int64, error) {
	return tx.Exec(ctx, closeAllSQL, tx.Tenant(), p, now)
}

const useSQL = `SELECT ` + useColumns + ` FROM avouch.break_glass WHERE tenant_id = $1 AND use_id = $2`

func loadUse(ctx context.Context, tx *tenantdb.ReadTx, use UseID) (Use, error) {
	found, err := queryUses(ctx, tx, useSQL, tx.Tenant(), use)
	if err != nil {
		return Use{}, err
	}
	if len(found) == 0 {
		return Use{}, noUse()
	}
	return found[0], nil
}

// live are a person's or an operator's uses that are not closed, and how many it asked for since.
const liveSQL = `SELECT ` + useColumns + ` FROM avouch.break_glass
  WHERE tenant_id = $1 AND closed_at IS NULL AND (person_id = $2 OR operator = $3)`

const askedSinceSQL = `SELECT count(*) FROM avouch.break_glass WHERE tenant_id = $1 AND asked_at > $4 AND (person_id = $2 OR operator = $3)`

// readLive also says how often whoever opened u has asked since.
func readLive(ctx context.Context, tx *tenantdb.ReadTx, u *Use, since time.Time) (live []Use, asked int, err error) {
	args := []any{tx.Tenant(), none(u.Person), u.Operator, since}
	if err := tx.QueryRow(ctx, askedSinceSQL, args...).Scan(&asked); err != nil {
		return nil, 0, err
	}
	live, err = queryUses(ctx, tx, liveSQL, args[:3]...)
	return live, asked, err
}

// none is NULL for the zero person.
func none(p tenantdb.PersonID) *tenantdb.PersonID {
	if p.IsZero() {
		return nil
	}
	return &p
}

// null is NULL for a text or a time that is not there.
func null[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

const insertUseSQL = `INSERT INTO avouch.break_glass (tenant_id, use_id, person_id, operator, capabilities, reason, life_seconds, approval, asked_at, due_at, opened_at, expires_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

func insertUse(ctx context.Context, tx *tenantdb.Tx, u *Use) error {
	_, err := tx.Exec(ctx, insertUseSQL, tx.Tenant(), u.ID, none(u.Person), null(u.Operator), u.Capabilities, u.reason, int64(u.Life/time.Second), u.Approval, u.AskedAt, u.DueAt,
		null(u.OpenedAt), null(u.ExpiresAt))
	return err
}

const updateUseSQL = `UPDATE avouch.break_glass SET decided_by = $3, decided_at = $4, opened_at = $5, expires_at = $6, closed_at = $7, outcome = $8,
  reviewed_by = $9, reviewed_at = $10, remark = $11, version = version + 1 WHERE tenant_id = $1 AND use_id = $2`

func updateUse(ctx context.Context, tx *tenantdb.Tx, u *Use) error {
	_, err := tx.Exec(ctx, updateUseSQL, tx.Tenant(), u.ID, null(u.DecidedBy), null(u.DecidedAt), null(u.OpenedAt), null(u.ExpiresAt), null(u.ClosedAt), null(u.Outcome),
		null(u.ReviewedBy), null(u.ReviewedAt), u.remark)
	return err
}

const operatorUsesSQL = `SELECT ` + useColumns + ` FROM avouch.break_glass
  WHERE tenant_id = $1 AND operator IS NOT NULL AND (closed_at IS NULL OR reviewed_at IS NULL) ORDER BY use_id DESC LIMIT 200`

func operatorUses(ctx context.Context, tx *tenantdb.ReadTx) ([]Use, error) {
	return queryUses(ctx, tx, operatorUsesSQL, tx.Tenant())
}

const (
	dueRows   = `FROM avouch.break_glass WHERE tenant_id = $1 AND closed_at IS NULL AND CASE WHEN opened_at IS NULL THEN due_at ELSE expires_at END <= $2`
	anyDueSQL = `SELECT EXISTS (SELECT ` + dueRows + `)`
	duesSQL   = `SELECT ` + useColumns + ` ` + dueRows + ` ORDER BY use_id LIMIT 100`
)

func anyDue(ctx context.Context, tx *tenantdb.ReadTx, now time.Time) (there bool, err error) {
	err = tx.QueryRow(ctx, anyDueSQL, tx.Tenant(), now).Scan(&there)
	return there, err
}

func dueUses(ctx context.Context, tx *tenantdb.ReadTx, now time.Time) ([]Use, error) {
	return queryUses(ctx, tx, duesSQL, tx.Tenant(), now)
}

const personMadeSQL = `SELECT created_at FROM avouch.person WHERE tenant_id = $1 AND person_id = $2 AND removed_at IS NULL AND suspended_at IS NULL`

var errNobody = errors.New("the person is not active")

// personMade is when an active person's account was made; errNobody if there is none.
func personMade(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (at time.Time, err error) {
	err = tx.QueryRow(ctx, personMadeSQL, tx.Tenant(), p).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, errNobody
	}
	return at, err
}

const (
	sizeSQL  = `SELECT size FROM avouch.audit_head WHERE tenant_id = $1`
	probeSQL = `SELECT written_at FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= $2 ORDER BY seq LIMIT 1`
	// Actors and types stand in an entry's bytes as they are, so most entries need not be sent, nor decoded.
	namingSQL = `SELECT body FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= $2
  AND (position($3::bytea IN body) > 0 OR position($4::bytea IN body) > 0 OR position('role.'::bytea IN body) > 0 OR position('group.'::bytea IN body) > 0)
  ORDER BY seq LIMIT $5`
)

// mostNaming bounds what is looked at. Who has made so many entries in so short a time has somebody else approve, or another
// time: beyond it nobody knows.
const mostNaming = 20_000

// clocksApart is how far the time in an entry and that of its row may be apart.
const clocksApart = 2 * time.Minute

// entriesNaming are the entries since a time whose bytes name one of two people, a role or a group. It fails if there are too many.
func entriesNaming(ctx context.Context, tx *tenantdb.ReadTx, a, b tenantdb.PersonID, since time.Time) ([]audit.Entry, error) {
	var size int64
	if err := tx.QueryRow(ctx, sizeSQL, tx.Tenant()).Scan(&size); err != nil {
		return nil, err
	}
	var failed error
	from := sort.Search(int(size), func(i int) bool {
		var at time.Time
		if err := tx.QueryRow(ctx, probeSQL, tx.Tenant(), i).Scan(&at); err != nil && failed == nil {
			failed = err
		}
		return failed != nil || !at.Before(since.Add(-clocksApart))
	})
	if failed != nil {
		return nil, failed
	}
	rows, err := tx.Query(ctx, namingSQL, tx.Tenant(), from, []byte(a.String()), []byte(b.String()), mostNaming)
	if err != nil {
		return nil, err
	}
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, err
	}
	if len(bodies) == mostNaming {
		return nil, problem.New(problem.Conflict, "Too much was done since it was asked for to tell whether you may approve it: somebody else must.")
	}
	return decoded(bodies), nil
}

const upsertHookSQL = `INSERT INTO avouch.glass_hook (tenant_id, secret, set_by, set_at) VALUES ($1, $2, $3, $4)
  ON CONFLICT (tenant_id) DO UPDATE SET secret = $2, set_by = $3, set_at = $4`

func upsertHook(ctx context.Context, tx *tenantdb.Tx, sealed []byte, by tenantdb.PersonID, at time.Time) error {
	_, err := tx.Exec(ctx, upsertHookSQL, tx.Tenant(), sealed, by.String(), at)
	return err
}

const hookSQL = `SELECT secret, set_at FROM avouch.glass_hook WHERE tenant_id = $1`

// readHook gives nil if there is none.
func readHook(ctx context.Context, tx *tenantdb.ReadTx) (sealed []byte, at time.Time, err error) {
	err = tx.QueryRow(ctx, hookSQL, tx.Tenant()).Scan(&sealed, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, at, nil
	}
	return sealed, at, err
}

const tenantOfSQL = `SELECT avouch.lookup_break_glass($1)`

// tenantOf is whose use it is; zero if it is nobody's.
func tenantOf(ctx context.Context, db *tenantdb.DB, use UseID) (t tenantdb.TenantID, err error) {
	var found *tenantdb.TenantID
	if err = db.Lookup(ctx, tenantOfSQL, []any{use}, &found); err == nil && found != nil {
		t = *found
	}
	return t, err
}

const spendSQL = `INSERT INTO avouch.spent (tenant_id, kind, value, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

// spend reports whether a value was not spent before.
func spend(ctx context.Context, tx *tenantdb.Tx, kind string, value [32]byte, until time.Time) (bool, error) {
	n, err := tx.Exec(ctx, spendSQL, tx.Tenant(), kind, value[:], until)
	return n == 1, err
}

const listUsesSQL = `SELECT ` + useColumns + ` FROM avouch.break_glass
  WHERE tenant_id = $1 AND ($2::uuid IS NULL OR person_id = $2) AND ($3::uuid IS NULL OR use_id < $3)
    AND (NOT $4 OR opened_at IS NOT NULL AND reviewed_at IS NULL) ORDER BY use_id DESC LIMIT $5`

func listUses(ctx context.Context, tx *tenantdb.ReadTx, own tenantdb.PersonID, below UseID, unreviewed bool, most int) ([]Use, error) {
	return queryUses(ctx, tx, listUsesSQL, tx.Tenant(), none(own), null(below), unreviewed, most)
}

const opened = `FROM avouch.break_glass b LEFT JOIN avouch.glass_review r ON r.tenant_id = b.tenant_id AND r.week = date_trunc('week', b.opened_at AT TIME ZONE 'UTC')::date
  WHERE b.tenant_id = $1 AND b.opened_at IS NOT NULL`

const weeksSQL = `SELECT date_trunc('week', b.opened_at AT TIME ZONE 'UTC')::date, count(*), count(*) FILTER (WHERE b.reviewed_at IS NULL), coalesce(max(r.signed_by), ''), max(r.signed_at)
  ` + opened + ` AND b.opened_at < $2 GROUP BY 1 ORDER BY 1 DESC LIMIT $3`

func readWeeks(ctx context.Context, tx *tenantdb.ReadTx, below time.Time, most int) ([]Week, error) {
	rows, err := tx.Query(ctx, weeksSQL, tx.Tenant(), below, most)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (w Week, err error) {
		var signed *time.Time
		err = r.Scan(&w.Monday, &w.Uses, &w.Unreviewed, &w.SignedBy, &signed)
		if signed != nil {
			w.SignedAt = signed.UTC()
		}
		w.Monday = w.Monday.UTC()
		return w, err
	})
}

const openedByOthersSQL = `SELECT count(*) FROM avouch.break_glass
  WHERE tenant_id = $1 AND opened_at >= $2 AND opened_at < $3 AND person_id IS DISTINCT FROM $4`

func openedByOthers(ctx context.Context, tx *tenantdb.ReadTx, start time.Time, by tenantdb.PersonID) (n int, err error) {
	err = tx.QueryRow(ctx, openedByOthersSQL, tx.Tenant(), start, start.Add(week), by).Scan(&n)
	return n, err
}

const insertWeekSQL = `INSERT INTO avouch.glass_review (tenant_id, week, uses, text, signed_by, signed_at) VALUES ($1, $2, $3, $4, $5, $6)`

func insertWeek(ctx context.Context, tx *tenantdb.Tx, w *Week, text []byte) error {
	_, err := tx.Exec(ctx, insertWeekSQL, tx.Tenant(), w.Monday, w.Uses, text, w.SignedBy, w.SignedAt)
	return err
}

const oldestUnsignedSQL = `SELECT date_trunc('week', b.opened_at AT TIME ZONE 'UTC')::date, count(*) ` + opened + ` GROUP BY 1
  HAVING bool_or(b.reviewed_at IS NULL AND (b.expires_at <= $2 OR b.closed_at IS NOT NULL) OR r.week IS NULL AND b.opened_at < $3) ORDER BY 1 LIMIT 1`

// oldestUnsigned is the first week with a use that is over and not reviewed, or that has ended and is not signed off, and how many
// uses it has; 0 if there is none.
func oldestUnsigned(ctx context.Context, tx *tenantdb.ReadTx, now, thisWeek time.Time) (start time.Time, uses int, err error) {
	err = tx.QueryRow(ctx, oldestUnsignedSQL, tx.Tenant(), now, thisWeek).Scan(&start, &uses)
	if errors.Is(err, pgx.ErrNoRows) {
		return start, 0, nil
	}
	return start.UTC(), uses, err
}

// Sealed are the columns that the rotation of keys wraps anew.
func Sealed() []keyring.SealedColumn {
	return []keyring.SealedColumn{{Table: "glass_hook", Column: "secret", Item: func([]string) string { return hookItem }}}
}
