package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// idempotency keeps answers to creates in the database, sealed under the organisation's key: some show a secret once.
type idempotency struct {
	db   *tenantdb.DB
	ring *keyring.Ring
}

// lease is how long an attempt without an answer is said to run. It is longer than any operation may take: after it, the
// attempt's server has died, or could not tell what it had done. Its key is not given to another for that.
const lease = 2 * time.Minute

// kept is how long an answer may be asked for again.
const kept = 24 * time.Hour

func actorOf(c tenantdb.Caller) string { return string(c.Actor().Kind) + ":" + c.Actor().ID }

func fingerprint(at web.Attempt) []byte {
	sum := sha256.Sum256(append([]byte(at.Operation+"\x00"), at.Digest[:]...))
	return sum[:]
}

// Begin claims the key.
func (s *idempotency) Begin(ctx context.Context, c tenantdb.Caller, at web.Attempt) (web.Claim, error) {
	found, mine, err := claim(ctx, s.db, c, at)
	if err != nil {
		return web.Claim{}, fmt.Errorf("server.idempotency: %w", err)
	}
	switch {
	case mine:
		return web.Claim{State: web.Claimed}, nil
	case string(found.request) != string(fingerprint(at)):
		return web.Claim{State: web.Other}, nil
	case found.answer == nil && time.Since(found.at) > lease:
		return web.Claim{State: web.Lost}, nil
	case found.answer == nil:
		return web.Claim{State: web.Running, RetryAfter: max(time.Second, lease-time.Since(found.at))}, nil
	}
	plain, err := s.ring.Open(ctx, c.Tenant(), item(c, at), "answer", 1, found.answer)
	if err != nil {
		return web.Claim{}, fmt.Errorf("server.idempotency: %w", err)
	}
	return web.Claim{State: web.Answered, Response: plain}, nil
}

// Finish keeps the answer.
func (s *idempotency) Finish(ctx context.Context, c tenantdb.Caller, at web.Attempt, response []byte) error {
	sealed, err := s.ring.Seal(ctx, c.Tenant(), item(c, at), "answer", 1, response)
	if err != nil {
		return fmt.Errorf("server.idempotency: %w", err)
	}
	return finish(ctx, s.db, c, at, sealed)
}

// Release gives the key back.
func (s *idempotency) Release(ctx context.Context, c tenantdb.Caller, at web.Attempt) error {
	return release(ctx, s.db, c, at)
}

// item names an answer for the seal, so that a row moved to another key fails to open.
func item(c tenantdb.Caller, at web.Attempt) string {
	h := sha256.New()
	for _, part := range []string{actorOf(c), at.Key} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return fmt.Sprintf("idempotency:%x", h.Sum(nil))
}
