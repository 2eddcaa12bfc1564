package agent

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TokenStatus is what has become of a token by itself; its agent's state comes on top.
type TokenStatus string

// The states of a token.
const (
	TokenLive    TokenStatus = "live"
	TokenRevoked TokenStatus = "revoked"
	TokenExpired TokenStatus = "expired"
)

// Record is what is kept of a token: never the token.
type Record struct {
	JTI       TokenID
	IssuedAt  time.Time
	Expires   time.Time
	Resources []string
	MaxUses   int64 // 0 is without limit
	Used      int64 // counted only with a limit
	RevokedAt *time.Time
}

// Status is the token's state at an instant.
func (t *Record) Status(now time.Time) TokenStatus {
	switch {
	case t.RevokedAt != nil:
		return TokenRevoked
	case !now.Before(t.Expires):
		return TokenExpired
	}
	return TokenLive
}

func missingToken() error { return problem.New(problem.Missing, "The agent has no such token.") }

// Tokens reads the newest records of an agent's tokens that were made before one, nil for the newest of all.
func (r *Room) Tokens(ctx context.Context, c tenantdb.Caller, agent ID, before *TokenID, status TokenStatus, most int) (all []Record, err error) {
	if err := may(c, mayRead); err != nil {
		return nil, err
	}
	err = r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if _, err = loadAgent(ctx, tx, agent); err == nil {
			all, err = listTokens(ctx, tx, agent, before, status, r.now(), most)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agent.Tokens: %w", err)
	}
	return all, nil
}

// RevokeToken ends one token. An expired one can be revoked too, as long as there is a record of it: whoever fears for a
// token should not have to look at the clock.
func (r *Room) RevokeToken(ctx context.Context, c tenantdb.Caller, agent ID, jti TokenID) (t Record, err error) {
	if err := may(c, mayWrite); err != nil {
		return Record{}, err
	}
	err = r.db.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		a, err := loadAgent(ctx, &tx.ReadTx, agent)
		if err != nil {
			return audit.Event{}, err
		}
		if t, err = loadToken(ctx, &tx.ReadTx, agent, jti); err != nil {
			return audit.Event{}, err
		}
		switch {
		case a.RevokedAt != nil:
			return audit.Event{}, revokedForGood()
		case t.RevokedAt != nil:
			return audit.Event{}, problem.New(problem.Conflict, "The token is revoked already.")
		}
		now := stamp(r.now())
		t.RevokedAt = &now
		return about(agent, "token.revoked", true, audit.Field{Name: "jti", Value: jti.String()}), revokeToken(ctx, tx, agent, jti, now)
	})
	if err != nil {
		return Record{}, fmt.Errorf("agent.RevokeToken: %w", err)
	}
	return t, nil
}

// What is purged, and how much at once: a head is locked while it happens.
const (
	purgeChunk = 500
	// purgeAfter is how long after its expiry a token's record goes at the earliest: more than clocks differ, so that no
	// server takes a revoked token for one that it never heard of.
	purgeAfter = time.Hour
)

// Purge deletes the records of tokens that expired long ago, with their counters, for the caller's tenant: a daily job of
// the server's, through tenantdb.Each. It returns how many there were.
func (r *Room) Purge(ctx context.Context, c tenantdb.Caller) (total int64, err error) {
	limit := r.now().Add(-purgeAfter)
	made := id.At[tokenKind](limit.Add(-MaxLifetime)) // all of these have expired, so no scan under the lock passes over live ones
	for {
		var n int64
		err := r.db.Change(ctx, c, func(tx *tenantdb.Tx) (_ audit.Event, err error) {
			if n, err = purgeTokens(ctx, tx, made, limit, purgeChunk); err != nil || n == 0 {
				return audit.Event{}, err
			}
			return audit.Event{Type: "tokens.purged", Public: []audit.Field{{Name: "count", Value: strconv.FormatInt(n, 10)}}}, nil
		})
		if err != nil {
			return total, fmt.Errorf("agent.Purge: %w", err)
		}
		if total += n; n < purgeChunk {
			return total, nil
		}
	}
}
