package mfa

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/tenantdb"
)

const factorsSQL = `SELECT factor_id, kind, secret, hardware, counter, created_at, confirmed_at, used_at, version, mark FROM avouch.factor
  WHERE tenant_id = $1 AND person_id = $2 AND confirmed_at IS NOT NULL ORDER BY factor_id`

func factorsOf(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]stored, error) {
	rows, err := tx.Query(ctx, factorsSQL, tx.Tenant(), p)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f stored, err error) {
		var used *time.Time
		err = row.Scan(&f.ID, &f.Kind, &f.sealed, &f.Hardware, &f.counter, &f.CreatedAt, &f.ConfirmedAt, &used, &f.Version, &f.mark)
		if used != nil {
			f.UsedAt = *used
		}
		return f, err
	})
}

const insertFactorSQL = `INSERT INTO avouch.factor (tenant_id, factor_id, person_id, kind, secret, credential, hardware, counter, created_at, confirmed_at, mark)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

func insertFactor(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, f stored, credential []byte) error {
	_, err := tx.Exec(ctx, insertFactorSQL, tx.Tenant(), f.ID, p, f.Kind, f.sealed, credential, f.Hardware, f.counter, f.CreatedAt, f.ConfirmedAt, f.mark)
	return err
}

const (
	// A code counts after the last step that was accepted, and never again, on whichever server.
	useStepSQL = `UPDATE avouch.factor SET counter = $3, used_at = $4, mark = $5 WHERE tenant_id = $1 AND factor_id = $2 AND counter < $3`
	// A passkey that counts goes forward; one that does not stays at 0.
	useCountSQL = `UPDATE avouch.factor SET counter = $3, used_at = $4 WHERE tenant_id = $1 AND factor_id = $2 AND (counter < $3 OR counter = 0 AND $3 = 0)`
	useSQL      = `UPDATE avouch.factor SET used_at = $3 WHERE tenant_id = $1 AND factor_id = $2`
)

func useStep(ctx context.Context, tx *tenantdb.Tx, f *stored, step int64, now time.Time) (bool, error) {
	n, err := tx.Exec(ctx, useStepSQL, tx.Tenant(), f.ID, step, now, f.mark)
	return n == 1, err
}

func useCount(ctx context.Context, tx *tenantdb.Tx, f ID, count int64, now time.Time) (bool, error) {
	n, err := tx.Exec(ctx, useCountSQL, tx.Tenant(), f, count, now)
	return n == 1, err
}

func use(ctx context.Context, tx *tenantdb.Tx, f ID, now time.Time) (bool, error) {
	n, err := tx.Exec(ctx, useSQL, tx.Tenant(), f, now)
	return n == 1, err
}

const renameSQL = `UPDATE avouch.factor SET secret = $3, version = version + 1 WHERE tenant_id = $1 AND factor_id = $2 AND version = $4`

func rename(ctx context.Context, tx *tenantdb.Tx, f stored) error {
	n, err := tx.Exec(ctx, renameSQL, tx.Tenant(), f.ID, f.sealed, f.Version)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows", n)
	}
	return err
}

const (
	removeFactorSQL  = `DELETE FROM avouch.factor WHERE tenant_id = $1 AND factor_id = $2`
	removeFactorsSQL = `DELETE FROM avouch.factor WHERE tenant_id = $1 AND person_id = $2`
	removeCodesSQL   = `DELETE FROM avouch.recovery_code WHERE tenant_id = $1 AND person_id = $2`
	endEnrolmentsSQL = `DELETE FROM avouch.attempt WHERE tenant_id = $1 AND person_id = $2 AND purpose = 'enrol'`
)

func removeFactor(ctx context.Context, tx *tenantdb.Tx, f ID) error {
	_, err := tx.Exec(ctx, removeFactorSQL, tx.Tenant(), f)
	return err
}

func removeCodes(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) (int64, error) {
	return tx.Exec(ctx, removeCodesSQL, tx.Tenant(), p)
}

// removeAll takes away all that a person could prove, and what is under way.
func removeAll(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) (factors int, err error) {
	n, err := tx.Exec(ctx, removeFactorsSQL, tx.Tenant(), p)
	if err == nil {
		_, err = removeCodes(ctx, tx, p)
	}
	if err == nil {
		_, err = tx.Exec(ctx, endEnrolmentsSQL, tx.Tenant(), p)
	}
	return int(n), err
}

const (
	unusedCodesSQL = `SELECT count(*) FROM avouch.recovery_code WHERE tenant_id = $1 AND person_id = $2 AND used_at IS NULL`
	insertCodesSQL = `INSERT INTO avouch.recovery_code (tenant_id, person_id, digest) SELECT $1, $2, d FROM unnest($3::bytea[]) d`
	useCodeSQL     = `UPDATE avouch.recovery_code SET used_at = $4 WHERE tenant_id = $1 AND person_id = $2 AND digest = $3 AND used_at IS NULL`
)

func unusedCodes(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (n int, err error) {
	err = tx.QueryRow(ctx, unusedCodesSQL, tx.Tenant(), p).Scan(&n)
	return n, err
}

func insertCodes(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, digests [][]byte) error {
	_, err := tx.Exec(ctx, insertCodesSQL, tx.Tenant(), p, digests)
	return err
}

func useCode(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, digest [32]byte, now time.Time) (bool, error) {
	n, err := tx.Exec(ctx, useCodeSQL, tx.Tenant(), p, digest[:], now)
	return n == 1, err
}

const (
	spendSQL    = `INSERT INTO avouch.spent (tenant_id, kind, value, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	giveBackSQL = `DELETE FROM avouch.spent WHERE tenant_id = $1 AND kind = $2 AND value =
  (SELECT value FROM avouch.spent WHERE tenant_id = $1 AND kind = $2 AND value = ANY($3) LIMIT 1)`
)

// spend reports whether the value was spent just now, for the first time.
func spend(ctx context.Context, tx *tenantdb.Tx, kind string, value [32]byte, until time.Time) (bool, error) {
	n, err := tx.Exec(ctx, spendSQL, tx.Tenant(), kind, value[:], until)
	return n == 1, err
}

const spentUntilSQL = `SELECT count(*) FROM avouch.spent WHERE tenant_id = $1 AND kind = $2 AND expires_at = $3`

// spentUntil counts values of a kind by when they expire.
func spentUntil(ctx context.Context, tx *tenantdb.ReadTx, kind string, until time.Time) (n int, err error) {
	err = tx.QueryRow(ctx, spentUntilSQL, tx.Tenant(), kind, until).Scan(&n)
	return n, err
}

func giveBack(ctx context.Context, tx *tenantdb.Tx, kind string, values [][]byte) error {
	_, err := tx.Exec(ctx, giveBackSQL, tx.Tenant(), kind, values)
	return err
}

const lookupPasskeySQL = `SELECT tenant_id, person_id, factor_id FROM avouch.lookup_passkey($1)`

// lookupPasskey finds who has a credential, in any organisation.
func lookupPasskey(ctx context.Context, tx *tenantdb.ReadTx, credential [32]byte) ([]Owner, error) {
	rows, err := tx.Query(ctx, lookupPasskeySQL, credential[:])
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Owner])
}

const (
	insertEnrolmentSQL = `INSERT INTO avouch.attempt (tenant_id, digest, person_id, purpose, state, sends, sent_at, created_at, expires_at)
VALUES ($1, $2, $3, 'enrol', $4, $5, $6, $7, $8)`
	clearEnrolmentsSQL = `DELETE FROM avouch.attempt WHERE tenant_id = $1 AND person_id = $2 AND purpose = 'enrol' AND expires_at <= $3`
	// What has proofs is a sign-in that waits for a first factor: whoever has the password makes any number of these.
	countEnrolmentsSQL = `SELECT count(*) FROM avouch.attempt WHERE tenant_id = $1 AND person_id = $2 AND purpose = 'enrol' AND proofs = '{}'`
	tryEnrolmentSQL    = `UPDATE avouch.attempt SET tries = tries + 1
WHERE tenant_id = $1 AND digest = $2 AND person_id = $3 AND purpose = 'enrol' AND expires_at > $4 AND tries < $5 RETURNING state, sends, sent_at`
	sendEnrolmentSQL = `UPDATE avouch.attempt SET sends = sends + 1, sent_at = $4
WHERE tenant_id = $1 AND digest = $2 AND person_id = $3 AND purpose = 'enrol' AND sends = $5`
	findEnrolmentSQL = `SELECT state, sends, sent_at FROM avouch.attempt
WHERE tenant_id = $1 AND digest = $2 AND person_id = $3 AND purpose = 'enrol' AND expires_at > $4`
	endEnrolmentSQL = `DELETE FROM avouch.attempt WHERE tenant_id = $1 AND digest = $2 AND person_id = $3 AND purpose = 'enrol'`
)

// clearEnrolments takes away those of the person that have expired, and says how many wait.
func clearEnrolments(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, now time.Time) (waiting int, err error) {
	if _, err = tx.Exec(ctx, clearEnrolmentsSQL, tx.Tenant(), p, now); err == nil {
		err = tx.QueryRow(ctx, countEnrolmentsSQL, tx.Tenant(), p).Scan(&waiting)
	}
	return waiting, err
}

func insertEnrolment(ctx context.Context, tx *tenantdb.Tx, e enrolment, sealed []byte) error {
	var sent *time.Time
	if e.sends > 0 {
		sent = &e.sentAt
	}
	_, err := tx.Exec(ctx, insertEnrolmentSQL, tx.Tenant(), e.digest[:], e.Person, sealed, e.sends, sent, e.Begun, e.Begun.Add(CodeLife))
	return err
}

func (e *enrolment) scan(row pgx.Row) (sealed []byte, err error) {
	var sent *time.Time
	err = row.Scan(&sealed, &e.sends, &sent)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noEnrolment()
	}
	if sent != nil {
		e.sentAt = *sent
	}
	return sealed, err
}

// tryEnrolment takes one of an enrolment's tries.
func tryEnrolment(ctx context.Context, tx *tenantdb.Tx, e *enrolment, now time.Time) ([]byte, error) {
	return e.scan(tx.QueryRow(ctx, tryEnrolmentSQL, tx.Tenant(), e.digest[:], e.Person, now, MaxTries))
}

func findEnrolment(ctx context.Context, tx *tenantdb.ReadTx, e *enrolment, now time.Time) ([]byte, error) {
	return e.scan(tx.QueryRow(ctx, findEnrolmentSQL, tx.Tenant(), e.digest[:], e.Person, now))
}

// sendEnrolment counts a sending, unless another was counted since.
func sendEnrolment(ctx context.Context, tx *tenantdb.Tx, e enrolment, now time.Time) (bool, error) {
	n, err := tx.Exec(ctx, sendEnrolmentSQL, tx.Tenant(), e.digest[:], e.Person, now, e.sends)
	return n == 1, err
}

// endEnrolment reports whether it was there: it counts once.
func endEnrolment(ctx context.Context, tx *tenantdb.Tx, e enrolment) (bool, error) {
	n, err := tx.Exec(ctx, endEnrolmentSQL, tx.Tenant(), e.digest[:], e.Person)
	return n == 1, err
}
