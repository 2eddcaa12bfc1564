package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// record is a session as it is stored.
type record struct {
	Session
	digest      []byte
	generation  uint32
	rotatedAt   time.Time
	client      []byte
	description []byte
	endedAt     time.Time
	endedWhy    string
	suspended   bool     // its organisation
	held        []string // what the person could do when proved last, sorted
	mac         []byte
}

const (
	columns = `s.session_id, s.person_id, s.kind, s.digest, s.generation, s.rotated_at, s.client, s.description, s.methods, s.via,
  s.created_at, s.proved_at, s.held, s.expires_at, s.idle_seconds, s.ended_at, coalesce(s.ended_why, ''), greatest(u.seen_at, s.created_at), o.suspended_at IS NOT NULL, s.mac`

	from = ` FROM avouch.session s JOIN avouch.organisation o ON o.tenant_id = s.tenant_id
LEFT JOIN avouch.session_use u ON (u.tenant_id, u.session_id) = (s.tenant_id, s.session_id) `
)

func scan(row pgx.Row) (s record, err error) {
	var rotated, ended *time.Time
	var via *[16]byte
	var idle int32
	err = row.Scan(&s.ID, &s.Person, &s.Kind, &s.digest, &s.generation, &rotated, &s.client, &s.description, &s.Methods, &via,
		&s.CreatedAt, &s.ProvedAt, &s.held, &s.ExpiresAt, &idle, &ended, &s.endedWhy, &s.SeenAt, &s.suspended, &s.mac)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, problem.New(problem.Missing, "There is no such session.")
	}
	if err != nil {
		return s, fmt.Errorf("session: scan: %w", err)
	}
	s.Idle = time.Duration(idle) * time.Second
	if rotated != nil {
		s.rotatedAt = *rotated
	}
	if ended != nil {
		s.endedAt = *ended
	}
	if via != nil {
		s.Via = *via
	}
	return s, nil
}

func load(ctx context.Context, tx *tenantdb.ReadTx, id ID) (record, error) {
	return scan(tx.QueryRow(ctx, `SELECT `+columns+from+`WHERE s.tenant_id = $1 AND s.session_id = $2`, tx.Tenant(), id))
}

func ofPerson(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]record, error) {
	rows, err := tx.Query(ctx, `SELECT `+columns+from+`WHERE s.tenant_id = $1 AND s.person_id = $2 AND s.ended_at IS NULL
ORDER BY greatest(u.seen_at, s.created_at) DESC, s.session_id DESC LIMIT 1000`, tx.Tenant(), p)
	if err != nil {
		return nil, fmt.Errorf("session: of person: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (record, error) { return scan(row) })
}

const insertSQL = `INSERT INTO avouch.session (tenant_id, session_id, person_id, kind, digest, generation, client, description, methods, via,
  created_at, proved_at, held, expires_at, idle_seconds, mac) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`

func insert(ctx context.Context, tx *tenantdb.Tx, s record) error {
	var via *[16]byte
	if s.Via != [16]byte{} {
		via = &s.Via
	}
	_, err := tx.Exec(ctx, insertSQL, tx.Tenant(), s.ID, s.Person, s.Kind, s.digest, s.client, s.description, s.Methods, via,
		s.CreatedAt, s.ProvedAt, s.held, s.ExpiresAt, int64(s.Idle/time.Second), s.mac)
	if err != nil {
		return fmt.Errorf("session: insert: %w", err)
	}
	return nil
}

// A family and its digest move on together, and only from where they were read: the head is locked, so nothing came between.
const rotateSQL = `UPDATE avouch.session SET digest = $3, generation = $4, rotated_at = $5, client = $6
WHERE tenant_id = $1 AND session_id = $2 AND generation = $4 - 1 AND ended_at IS NULL`

func rotate(ctx context.Context, tx *tenantdb.Tx, id ID, digest []byte, generation uint32, at time.Time, client []byte) error {
	return one(tx.Exec(ctx, rotateSQL, tx.Tenant(), id, digest, int64(generation), at, client))
}

const proveSQL = `UPDATE avouch.session SET methods = $3, proved_at = $4, held = $5, digest = $6, mac = $7 WHERE tenant_id = $1 AND session_id = $2 AND ended_at IS NULL`

func prove(ctx context.Context, tx *tenantdb.Tx, s record) error {
	return one(tx.Exec(ctx, proveSQL, tx.Tenant(), s.ID, s.Methods, s.ProvedAt, s.held, s.digest, s.mac))
}

// one insists that a change met its row.
func one(n int64, err error) error {
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows were changed instead of one", n)
	}
	if err != nil {
		return fmt.Errorf("session: change: %w", err)
	}
	return nil
}

const endSQL = `UPDATE avouch.session SET ended_at = $3, ended_why = $4 WHERE tenant_id = $1 AND session_id = ANY ($2) AND ended_at IS NULL`

func endRows(ctx context.Context, tx *tenantdb.Tx, ids []ID, at time.Time, why string) error {
	if _, err := tx.Exec(ctx, endSQL, tx.Tenant(), ids, at, why); err != nil {
		return fmt.Errorf("session: end: %w", err)
	}
	return nil
}

// What has been over for a while goes, but for the newest: by that one the account that was signed in to last is found.
const forgottenSQL = `
SELECT s.session_id FROM avouch.session s WHERE s.tenant_id = $1 AND s.person_id = $2 AND (s.ended_at < $3 OR s.expires_at < $3)
  AND s.created_at < (SELECT max(n.created_at) FROM avouch.session n WHERE n.tenant_id = $1 AND n.person_id = $2) LIMIT 100`

func forget(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, before time.Time) error {
	rows, err := tx.Query(ctx, forgottenSQL, tx.Tenant(), p, before)
	if err != nil {
		return fmt.Errorf("session: forgotten: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[ID])
	if err != nil || len(ids) == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.session_use WHERE tenant_id = $1 AND session_id = ANY ($2)`, tx.Tenant(), ids); err != nil {
		return fmt.Errorf("session: forget uses: %w", err)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.session WHERE tenant_id = $1 AND session_id = ANY ($2)`, tx.Tenant(), ids); err != nil {
		return fmt.Errorf("session: forget: %w", err)
	}
	return nil
}

// Servers' clocks differ: the later time stays.
const seenSQL = `INSERT INTO avouch.session_use AS u (tenant_id, session_id, seen_at) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, session_id) DO UPDATE SET seen_at = excluded.seen_at WHERE u.seen_at < excluded.seen_at`

func saveSeen(ctx context.Context, tx *tenantdb.Tx, id ID, at time.Time) error {
	if _, err := tx.Exec(ctx, seenSQL, tx.Tenant(), id, at); err != nil {
		return fmt.Errorf("session: seen: %w", err)
	}
	return nil
}

const (
	lookupSQL = `SELECT coalesce(l.tenant_id, '00000000-0000-0000-0000-000000000000'), coalesce(l.session_id, '00000000-0000-0000-0000-000000000000')
FROM (SELECT) one LEFT JOIN avouch.lookup_session($1) l ON true`

	lookupIDSQL = `SELECT coalesce(avouch.lookup_session_id($1), '00000000-0000-0000-0000-000000000000')`
)

// lookup finds whose session a cookie is; zero is nobody's.
func (r *Room) lookup(ctx context.Context, digest []byte) (t tenantdb.TenantID, id ID, err error) {
	if err = r.cfg.DB.Lookup(ctx, lookupSQL, []any{digest}, &t, &id); err != nil {
		return t, id, fmt.Errorf("session: look up: %w", err)
	}
	return t, id, nil
}

// lookupID finds whose session an id names; zero is nobody's.
func (r *Room) lookupID(ctx context.Context, id ID) (t tenantdb.TenantID, err error) {
	if err = r.cfg.DB.Lookup(ctx, lookupIDSQL, []any{id}, &t); err != nil {
		return t, fmt.Errorf("session: look up id: %w", err)
	}
	return t, nil
}

func knowsDevice(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, digests [][]byte, now time.Time) (n int, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FROM avouch.device WHERE tenant_id = $1 AND person_id = $2 AND digest = ANY ($3) AND expires_at > $4`,
		tx.Tenant(), p, digests, now).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("session: known device: %w", err)
	}
	return n, nil
}

const (
	saveDeviceSQL = `INSERT INTO avouch.device (tenant_id, person_id, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, person_id, digest) DO UPDATE SET expires_at = excluded.expires_at`

	trimDevicesSQL = `DELETE FROM avouch.device d WHERE d.tenant_id = $1 AND d.person_id = $2 AND (d.expires_at <= $3 OR d.digest IN (
  SELECT o.digest FROM avouch.device o WHERE o.tenant_id = $1 AND o.person_id = $2 ORDER BY o.expires_at DESC, o.digest OFFSET $4))`
)

func saveDevice(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, digest []byte, now, until time.Time, most int) error {
	if _, err := tx.Exec(ctx, saveDeviceSQL, tx.Tenant(), p, digest, now, until); err != nil {
		return fmt.Errorf("session: save device: %w", err)
	}
	if _, err := tx.Exec(ctx, trimDevicesSQL, tx.Tenant(), p, now, most); err != nil {
		return fmt.Errorf("session: trim devices: %w", err)
	}
	return nil
}

func deleteDevices(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) (int64, error) {
	n, err := tx.Exec(ctx, `DELETE FROM avouch.device WHERE tenant_id = $1 AND person_id = $2`, tx.Tenant(), p)
	if err != nil {
		return 0, fmt.Errorf("session: delete devices: %w", err)
	}
	return n, nil
}
