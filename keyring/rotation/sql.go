package rotation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/migrations"
	"github.com/avouch-dev/avouch/tenantdb"
)

const runColumns = `rotation_id, wrap, subjects, asked_by, begun_at, made_at, pass_at, place, after, found, failed, rows, keys, clean_at, looked_at, due_at, ending_at, finished_at`

func scanRun(row pgx.CollectableRow) (n Run, err error) {
	var made, pass, clean, looked, ending, finished *time.Time
	err = row.Scan(&n.ID, &n.Wrap, &n.Subjects, &n.AskedBy, &n.BegunAt, &made, &pass, &n.place, &n.after, &n.found, &n.Failed, &n.Rows, &n.Keys,
		&clean, &looked, &n.DueAt, &ending, &finished)
	n.MadeAt, n.passAt, n.CleanAt, n.lookedAt, n.endingAt, n.FinishedAt = orZero(made), orZero(pass), orZero(clean), orZero(looked), orZero(ending), orZero(finished)
	return n, err
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

const runsSQL = `SELECT ` + runColumns + ` FROM avouch.key_rotation WHERE tenant_id = $1 ORDER BY begun_at DESC, rotation_id DESC`

func readRuns(ctx context.Context, tx *tenantdb.ReadTx) ([]Run, error) {
	rows, err := tx.Query(ctx, runsSQL, tx.Tenant())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRun)
}

const deletedSQL = `SELECT deleted_at IS NOT NULL FROM avouch.organisation WHERE tenant_id = $1`

func deleted(ctx context.Context, tx *tenantdb.ReadTx) (is bool, err error) {
	return is, tx.QueryRow(ctx, deletedSQL, tx.Tenant()).Scan(&is)
}

const insertSQL = `INSERT INTO avouch.key_rotation (tenant_id, rotation_id, wrap, subjects, asked_by, begun_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`

// Runs that ended are kept for so long: what they did is in the log.
const forgetSQL = `DELETE FROM avouch.key_rotation WHERE tenant_id = $1 AND finished_at < $2`

func insertRun(ctx context.Context, tx *tenantdb.Tx, n Run) error {
	if _, err := tx.Exec(ctx, forgetSQL, tx.Tenant(), n.BegunAt.Add(-remembered)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertSQL, tx.Tenant(), n.ID, n.Wrap, n.Subjects, n.AskedBy, n.BegunAt)
	return err
}

// standingSQL is what the schedule looks at for each organisation.
const standingSQL = `SELECT o.created_at, o.deleted_at IS NOT NULL,
  (SELECT max(r.begun_at) FROM avouch.key_rotation r WHERE r.tenant_id = o.tenant_id),
  EXISTS (SELECT FROM avouch.key_rotation r WHERE r.tenant_id = o.tenant_id AND r.finished_at IS NULL AND r.ending_at IS NULL AND r.clean_at IS NULL
    AND (r.made_at IS NULL OR r.failed = 0 OR r.begun_at > $3)),
  EXISTS (SELECT FROM avouch.key_rotation r WHERE r.tenant_id = o.tenant_id AND r.finished_at IS NULL AND r.due_at <= $2)
FROM avouch.organisation o WHERE o.tenant_id = $1`

type standing struct {
	since            time.Time // when the newest key was made
	gone, under, due bool      // the organisation is deleted; its values are being wrapped, by a run that is not stuck; something is to be done
}

func readStanding(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller, now time.Time) (s standing, err error) {
	var begun *time.Time
	err = db.ReadRow(ctx, c, standingSQL, []any{c.Tenant(), now, now.Add(-again)}, func(row pgx.Row) error {
		return row.Scan(&s.since, &s.gone, &begun, &s.under, &s.due)
	})
	if begun != nil {
		s.since = *begun
	}
	return s, err
}

// claimSQL gives a worker the run that comes first of those that are due, if nobody else works for the organisation. What is still being
// wrapped comes before what is kept. Of two who claim at once, the second sees the first one's lease in the row itself. A server that is older than the schema may not know all columns, and leaves it to others.
const claimSQL = `UPDATE avouch.key_rotation r SET worker = $2, leased_until = now() + $3::interval
WHERE r.tenant_id = $1 AND r.due_at <= $4 AND (SELECT version FROM avouch.schema_version) <= $5
  AND r.rotation_id = (SELECT f.rotation_id FROM avouch.key_rotation f WHERE f.tenant_id = $1 AND f.finished_at IS NULL AND f.due_at <= $4
    ORDER BY f.clean_at IS NOT NULL, f.due_at, f.rotation_id LIMIT 1)
  AND NOT EXISTS (SELECT FROM avouch.key_rotation o WHERE o.tenant_id = $1 AND o.worker <> $2 AND o.leased_until > now())
  AND (r.worker IS NULL OR r.worker = $2 OR r.leased_until <= now())
RETURNING ` + runColumns

func claim(ctx context.Context, tx *tenantdb.Tx, worker ID, lease time.Duration, now time.Time) (n Run, mine bool, err error) {
	files, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return n, false, err
	}
	rows, err := tx.Query(ctx, claimSQL, tx.Tenant(), worker, lease, now, len(files))
	if err != nil {
		return n, false, err
	}
	n, err = pgx.CollectExactlyOneRow(rows, scanRun)
	if errors.Is(err, pgx.ErrNoRows) {
		return n, false, nil
	}
	return n, err == nil, err
}

const saveSQL = `UPDATE avouch.key_rotation SET made_at = $4, pass_at = $5, place = $6, after = $7, found = $8, failed = $9, rows = $10, keys = $11,
  clean_at = $12, looked_at = $13, due_at = $14, ending_at = $15, leased_until = now() + $16::interval
WHERE tenant_id = $1 AND rotation_id = $2 AND worker = $3`

// save keeps how far a run is, as long as it is this worker's.
func save(ctx context.Context, tx *tenantdb.Tx, n Run, worker ID, lease time.Duration) error {
	after := n.after
	if after == nil {
		after = []string{}
	}
	done, err := tx.Exec(ctx, saveSQL, tx.Tenant(), n.ID, worker, orNull(n.MadeAt), orNull(n.passAt), n.place, after, n.found, n.Failed, n.Rows, n.Keys,
		orNull(n.CleanAt), orNull(n.lookedAt), n.DueAt, orNull(n.endingAt), lease)
	if err == nil && done != 1 {
		err = errTaken
	}
	return err
}

const leaveSQL = `UPDATE avouch.key_rotation SET finished_at = $4, worker = NULL, leased_until = NULL WHERE tenant_id = $1 AND rotation_id = $2 AND worker = $3`

func leave(ctx context.Context, tx *tenantdb.Tx, n Run, worker ID) error {
	_, err := tx.Exec(ctx, leaveSQL, tx.Tenant(), n.ID, worker, orNull(n.FinishedAt))
	return err
}

// value is a value that Seal made, and where it is.
type value struct {
	key    []string
	sealed []byte
}

func name(s string) string { return pgx.Identifier{s}.Sanitize() }

// chunkSQL finds values that do not begin as those under the newest version do, in the order of their keys.
func chunkSQL(col keyring.SealedColumn, after bool) string {
	var texts, names, from []string
	for i, k := range col.Key {
		texts, names = append(texts, "t."+name(k.Column)+"::text"), append(names, "t."+name(k.Column))
		from = append(from, fmt.Sprintf("$%d::text::%s", i+4, name(k.Type)))
	}
	value := "t." + name(col.Column)
	sql := `SELECT ` + strings.Join(append(texts, value), ", ") + ` FROM avouch.` + name(col.Table) +
		` t WHERE t.tenant_id = $1 AND substring(` + value + ` FROM 1 FOR length($2::bytea)) <> $2::bytea`
	if after {
		sql += ` AND (` + strings.Join(names, ", ") + `) > (` + strings.Join(from, ", ") + `)`
	}
	sql += ` ORDER BY ` + strings.Join(append([]string{"t.tenant_id"}, names...), ", ")
	return sql + ` LIMIT $3`
}

func readChunk(ctx context.Context, tx *tenantdb.ReadTx, col keyring.SealedColumn, newest []byte, after []string, most int) ([]value, error) {
	args := []any{tx.Tenant(), newest, most}
	for _, k := range after {
		args = append(args, k)
	}
	rows, err := tx.Query(ctx, chunkSQL(col, len(after) > 0), args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v value, err error) {
		v.key = make([]string, len(col.Key))
		into := make([]any, 0, len(col.Key)+1)
		for i := range v.key {
			into = append(into, &v.key[i])
		}
		return v, row.Scan(append(into, &v.sealed)...)
	})
}

// swapSQL puts values in the place of others, where those still are: what somebody has written meanwhile stays. It waits for no row,
// since it holds the head. Rows are found by their key one by one, and then by their place: as a join, it would read the whole table
// for each chunk where the database knows little of how large that is.
func swapSQL(col keyring.SealedColumn) string {
	params, names, same := []string{"$2::bytea[]", "$3::bytea[]"}, []string{"old", "new"}, []string{"t.tenant_id = $1"}
	for i, k := range col.Key {
		params, names = append(params, fmt.Sprintf("$%d::text[]", i+4)), append(names, fmt.Sprintf("k%d", i))
		same = append(same, fmt.Sprintf("t.%s = n.k%d::%s", name(k.Column), i, name(k.Type)))
	}
	table, value := `avouch.`+name(col.Table)+` t`, name(col.Column)
	return `WITH f AS MATERIALIZED (SELECT n.new, (SELECT t.ctid FROM ` + table + ` WHERE ` + strings.Join(same, " AND ") + ` AND t.` + value + ` = n.old FOR UPDATE SKIP LOCKED) AS place
  FROM unnest(` + strings.Join(params, ", ") + `) n(` + strings.Join(names, ", ") + `))
UPDATE ` + table + ` SET ` + value + ` = f.new FROM f WHERE t.tenant_id = $1 AND t.ctid = ANY (ARRAY(SELECT f.place FROM f WHERE f.place IS NOT NULL)) AND t.ctid = f.place`
}

// swap says how many it put there.
func swap(ctx context.Context, tx *tenantdb.Tx, col keyring.SealedColumn, was, is []value) (int64, error) {
	olds, news, keys := make([][]byte, len(was)), make([][]byte, len(was)), make([][]string, len(col.Key))
	for i := range was {
		olds[i], news[i] = was[i].sealed, is[i].sealed
		for k := range keys {
			keys[k] = append(keys[k], was[i].key[k])
		}
	}
	args := []any{tx.Tenant(), olds, news}
	for _, k := range keys {
		args = append(args, k)
	}
	return tx.Exec(ctx, swapSQL(col), args...)
}

type rotationKind struct{}

// ID names a rotation.
type ID = id.ID[rotationKind]
