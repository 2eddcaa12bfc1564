package signin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

const lookupPeopleSQL = `SELECT coalesce(array_agg(tenant_id), '{}'), coalesce(array_agg(person_id), '{}') FROM avouch.lookup_people($1, $2)`

// account is a person of an organisation.
type account struct {
	tenant tenantdb.TenantID
	person tenantdb.PersonID
}

// lookupPeople finds the accounts of an address, the one that was signed in to last before the others.
func lookupPeople(ctx context.Context, db *tenantdb.DB, address string, most int) ([]account, error) {
	var tenants []tenantdb.TenantID
	var people []tenantdb.PersonID
	if err := db.Lookup(ctx, lookupPeopleSQL, []any{address, most}, &tenants, &people); err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	found := make([]account, len(tenants))
	for i := range tenants {
		found[i] = account{tenants[i], people[i]}
	}
	return found, nil
}

const lookupAttemptSQL = `SELECT coalesce(avouch.lookup_attempt($1), '00000000-0000-0000-0000-000000000000')`

func lookupAttempt(ctx context.Context, db *tenantdb.DB, digest []byte) (t tenantdb.TenantID, err error) {
	return t, db.Lookup(ctx, lookupAttemptSQL, []any{digest}, &t)
}

const insertAttemptSQL = `INSERT INTO avouch.attempt (tenant_id, digest, person_id, session_id, purpose, proofs, state, via, until, proved_at, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

func insertAttempt(ctx context.Context, tx *tenantdb.Tx, a attempt) error {
	_, err := tx.Exec(ctx, insertAttemptSQL, tx.Tenant(), a.digest, orNull(a.person), orNull(a.session), a.purpose, a.proofs, a.sealed, orNull(a.via), whenOrNull(a.until),
		whenOrNull(a.provedAt), a.created, a.expires)
	return err
}

func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func whenOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// The row is locked, so that of two answers at once the second sees what the first has done.
const loadAttemptSQL = `SELECT person_id, session_id, purpose, proofs, state, tries, sends, sent_at, via, until, proved_at, created_at, expires_at
FROM avouch.attempt WHERE tenant_id = $1 AND digest = $2 FOR UPDATE`

func loadAttempt(ctx context.Context, tx *tenantdb.Tx, digest []byte) (a attempt, found bool, err error) {
	var person *tenantdb.PersonID
	var session, via *[16]byte
	var sent, until, proved *time.Time
	a.digest = digest
	err = tx.QueryRow(ctx, loadAttemptSQL, tx.Tenant(), digest).Scan(&person, &session, &a.purpose, &a.proofs, &a.sealed, &a.tries, &a.sends, &sent, &via, &until, &proved,
		&a.created, &a.expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return attempt{}, false, nil
	}
	if err != nil {
		return attempt{}, false, fmt.Errorf("signin: %w", err)
	}
	a.person, a.session, a.via = orZero(person), orZero(session), orZero(via)
	a.sent, a.until, a.provedAt = orZero(sent).UTC(), orZero(until).UTC(), orZero(proved).UTC()
	a.created, a.expires = a.created.UTC(), a.expires.UTC()
	return a, true, nil
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

const updateAttemptSQL = `UPDATE avouch.attempt SET proofs = $3, state = $4, tries = $5, sends = $6, sent_at = $7, expires_at = $8, purpose = $9
WHERE tenant_id = $1 AND digest = $2`

func updateAttempt(ctx context.Context, tx *tenantdb.Tx, a attempt) error {
	_, err := tx.Exec(ctx, updateAttemptSQL, tx.Tenant(), a.digest, a.proofs, a.sealed, a.tries, a.sends, whenOrNull(a.sent), a.expires, a.purpose)
	return err
}

const purgeAttemptsSQL = `DELETE FROM avouch.attempt WHERE tenant_id = $1 AND expires_at < $2 AND created_at < $2`

func purgeAttempts(ctx context.Context, tx *tenantdb.Tx, before time.Time) (int64, error) {
	return tx.Exec(ctx, purgeAttemptsSQL, tx.Tenant(), before)
}

const lockAttemptsSQL = `SELECT count(*) FROM (SELECT FROM avouch.attempt WHERE tenant_id = $1 AND person_id = $2 ORDER BY digest FOR UPDATE) locked`

// lockAttempts has the person's attempts wait for what the transaction does.
func lockAttempts(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) (err error) {
	var n int
	return tx.QueryRow(ctx, lockAttemptsSQL, tx.Tenant(), p).Scan(&n)
}

const endAttemptsSQL = `UPDATE avouch.attempt SET expires_at = $3 WHERE tenant_id = $1 AND person_id = $2 AND expires_at > $3`

func endAttempts(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, at time.Time) error {
	_, err := tx.Exec(ctx, endAttemptsSQL, tx.Tenant(), p, at)
	return err
}

const endArrivalsSQL = `UPDATE avouch.attempt SET expires_at = $5 WHERE tenant_id = $1 AND expires_at > $5
  AND ($2::uuid IS NULL OR person_id = $2) AND ($3::uuid IS NULL OR via = $3) AND ($4::uuid IS NULL OR via IS DISTINCT FROM $4)`

func endArrivals(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, via, notVia [16]byte, at time.Time) error {
	_, err := tx.Exec(ctx, endArrivalsSQL, tx.Tenant(), orNull(p), orNull(via), orNull(notVia), at)
	return err
}

const sessionPersonSQL = `SELECT person_id FROM avouch.session WHERE tenant_id = $1 AND session_id = $2`

// sessionPerson is whose session it is; nobody's if there is none.
func sessionPerson(ctx context.Context, tx *tenantdb.ReadTx, id session.ID) (p tenantdb.PersonID, err error) {
	err = tx.QueryRow(ctx, sessionPersonSQL, tx.Tenant(), id).Scan(&p)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, nil
	}
	return p, err
}

const sessionViaSQL = `SELECT via FROM avouch.session WHERE tenant_id = $1 AND session_id = $2`

// sessionVia is the connection by which a session began; zero if by none.
func sessionVia(ctx context.Context, tx *tenantdb.ReadTx, id session.ID) ([16]byte, error) {
	var via *[16]byte
	err := tx.QueryRow(ctx, sessionViaSQL, tx.Tenant(), id).Scan(&via)
	if errors.Is(err, pgx.ErrNoRows) {
		return [16]byte{}, nil
	}
	return orZero(via), err
}
