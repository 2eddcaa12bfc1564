package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// A claim takes the row if there is none, or if it is to be forgotten, which it is after a day. One without an answer stays
// as long: what it stands for may have been done.
const claimSQL = `
INSERT INTO avouch.idempotency AS i (tenant_id, actor, key, request) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, actor, key) DO UPDATE SET request = excluded.request, answer = NULL, created_at = now()
WHERE i.created_at < now() - $5::interval
RETURNING true`

const claimedSQL = `SELECT request, answer, created_at FROM avouch.idempotency WHERE tenant_id = $1 AND actor = $2 AND key = $3`

const finishSQL = `UPDATE avouch.idempotency SET answer = $5 WHERE tenant_id = $1 AND actor = $2 AND key = $3 AND request = $4`

const releaseSQL = `DELETE FROM avouch.idempotency WHERE tenant_id = $1 AND actor = $2 AND key = $3 AND request = $4 AND answer IS NULL`

const forgetSQL = `DELETE FROM avouch.idempotency WHERE tenant_id = $1 AND created_at < now() - $2::interval`

type claimed struct {
	request, answer []byte
	at              time.Time
}

// claim is one step for all servers: the row belongs to whoever inserted it.
func claim(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller, at web.Attempt, request []byte) (found claimed, mine bool, err error) {
	err = db.Note(ctx, c, func(tx *tenantdb.Tx) error {
		err := tx.QueryRow(ctx, claimSQL, c.Tenant(), actorOf(c), at.Key, request, kept).Scan(&mine)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return tx.QueryRow(ctx, claimedSQL, c.Tenant(), actorOf(c), at.Key).Scan(&found.request, &found.answer, &found.at)
	})
	return found, mine, err
}

func finish(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller, at web.Attempt, request, sealed []byte) error {
	return db.Note(ctx, c, func(tx *tenantdb.Tx) error {
		n, err := tx.Exec(ctx, finishSQL, c.Tenant(), actorOf(c), at.Key, request, sealed)
		if err == nil && n != 1 {
			err = errors.New("the key is held by another attempt")
		}
		if err != nil {
			return fmt.Errorf("server.idempotency: %w", err)
		}
		return nil
	})
}

func release(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller, at web.Attempt, request []byte) error {
	return db.Note(ctx, c, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(ctx, releaseSQL, c.Tenant(), actorOf(c), at.Key, request)
		return err
	})
}

func forgetAnswers(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller) error {
	return db.Note(ctx, c, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(ctx, forgetSQL, c.Tenant(), kept)
		return err
	})
}

const forgetSpentSQL = `DELETE FROM avouch.spent WHERE tenant_id = $1 AND expires_at < now() - interval '1 day'`

// forgetSpent forgets values that could not count again anyway.
func forgetSpent(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller) error {
	return db.Note(ctx, c, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(ctx, forgetSpentSQL, c.Tenant())
		return err
	})
}

// sealedAnswers are answers as the rotation of keys wraps them anew.
func sealedAnswers() keyring.SealedColumn {
	return keyring.SealedColumn{
		Table: "idempotency", Column: "answer", Key: []keyring.KeyPart{{Column: "actor", Type: "text"}, {Column: "key", Type: "text"}},
		Item: func(key []string) string { return answerItem(key[0], key[1]) },
	}
}
