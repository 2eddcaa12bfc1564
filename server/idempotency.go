package server

import (
	"bytes"
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

// fingerprint is what "the same request" is known by in the database. Its body may hold a secret, and a short one could be found by who has
// a hash of it: so it is made with the organisation's key. When that is renewed, a retry from before finds another request.
func (s *idempotency) fingerprint(ctx context.Context, t tenantdb.TenantID, at web.Attempt) ([]byte, error) {
	sum, err := s.ring.Derive(ctx, t, "idempotency/v1", append([]byte(at.Operation+"\x00"), at.Digest[:]...))
	if err != nil {
		return nil, fmt.Errorf("server.idempotency: %w", err)
	}
	return sum[:], nil
}

// Begin claims the key.
func (s *idempotency) Begin(ctx context.Context, c tenantdb.Caller, at web.Attempt) (web.Claim, error) {
	request, err := s.fingerprint(ctx, c.Tenant(), at)
	if err != nil {
		return web.Claim{}, err
	}
	found, mine, err := claim(ctx, s.db, c, at, request)
	if err != nil {
		return web.Claim{}, fmt.Errorf("server.idempotency: %w", err)
	}
	switch {
	case mine:
		return web.Claim{State: web.Claimed}, nil
	case !bytes.Equal(found.request, request):
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
	request, err := s.fingerprint(ctx, c.Tenant(), at)
	if err != nil {
		return err
	}
	sealed, err := s.ring.Seal(ctx, c.Tenant(), item(c, at), "answer", 1, response)
	if err != nil {
		return fmt.Errorf("server.idempotency: %w", err)
	}
	return finish(ctx, s.db, c, at, request, sealed)
}

// Release gives the key back.
func (s *idempotency) Release(ctx context.Context, c tenantdb.Caller, at web.Attempt) error {
	request, err := s.fingerprint(ctx, c.Tenant(), at)
	if err != nil {
		return err
	}
	return release(ctx, s.db, c, at, request)
}

// item names an answer for the seal, so that a row moved to another key fails to open.
func item(c tenantdb.Caller, at web.Attempt) string { return answerItem(actorOf(c), at.Key) }

func answerItem(actor, key string) string {
	h := sha256.New()
	for _, part := range []string{actor, key} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return fmt.Sprintf("idempotency:%x", h.Sum(nil))
}
