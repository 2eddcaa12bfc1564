package apikey

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Identity is whose key a secret is. It never changes, and says nothing of whether the key works.
type Identity struct {
	Tenant tenantdb.TenantID
	KeyID  string
}

// Refused is the answer to every key that does not authenticate, whatever the reason.
func Refused() error {
	return problem.New(problem.Unauthenticated, "The API key or token proves nothing: it is missing, damaged, unknown, or no longer in force.")
}

// FromHeader is the key of a request: from Authorization: Bearer, or from X-API-Key. Two different ones are none, since
// nobody can say which is meant.
func FromHeader(h http.Header) string {
	found := ""
	for _, v := range h.Values("Authorization") {
		scheme, value, _ := strings.Cut(v, " ")
		if value = strings.TrimSpace(value); !strings.EqualFold(scheme, "Bearer") || found != "" && found != value {
			return ""
		}
		found = value
	}
	for _, v := range h.Values("X-API-Key") {
		if v = strings.TrimSpace(v); found != "" && found != v {
			return ""
		}
		found = v
	}
	return found
}

// Identify says whose key it is, if it is one. Whether the key works must be asked of the database each time
// (Authenticate does; the verify room reads it with everything else that it decides from).
//
// Outcomes are remembered. That a key is unknown may be: a key becomes known only by being minted, so the text that was
// refused would have to come out of 320 random bits later. Imported keys, which exist before they are known, have another
// form and must not come through here.
func (r *Room) Identify(ctx context.Context, raw string) (Identity, error) {
	return r.identify(ctx, raw, func() error { return nil }, func() {})
}

// IdentifyFrom is Identify for a key that came from an address. One that has sent so many unknown keys in a minute has no
// more looked up: problem.TooMany. Known keys go on working from there.
func (r *Room) IdentifyFrom(ctx context.Context, raw string, from netip.Addr) (Identity, error) {
	return r.identify(ctx, raw, func() error {
		if r.strangers.Left(from, r.cfg.Now()) {
			return nil
		}
		busy := problem.New(problem.TooMany, "Too many unknown keys came from your address. Try again later.")
		busy.RetryAfter = time.Minute
		return busy
	}, func() { r.strangers.Take(from, r.cfg.Now()) })
}

// identify asks before it looks a key up, and tells of one that is not there.
func (r *Room) identify(ctx context.Context, raw string, ask func() error, unknown func()) (Identity, error) {
	p, err := Parse(raw)
	if err != nil {
		return Identity{}, Refused()
	}
	h0, now := sha256.Sum256([]byte(raw)), r.cfg.Now()
	if who, ok := r.known.get(h0, now); ok {
		return who, nil
	}
	if _, ok := r.unknown.get(h0, now); ok {
		return Identity{}, Refused()
	}
	if !r.known.had(h0) { // one that was good a while ago is not what the limit is for
		if err := ask(); err != nil {
			return Identity{}, err
		}
	}
	v, err := r.lookup(ctx, p.ID)
	if err != nil {
		return Identity{}, unavailable(err)
	}
	switch ok, err := r.matches(ctx, p.ID, h0, v); {
	case err != nil:
		return Identity{}, unavailable(err)
	case !ok:
		unknown()
		r.unknown.put(h0, struct{}{}, now)
		return Identity{}, Refused()
	}
	who := Identity{v.tenant, p.ID}
	r.renew(ctx, p.ID, h0, v, false)
	r.known.put(h0, who, now)
	return who, nil
}

func unavailable(err error) error {
	return problem.New(problem.Unavailable, "Keys cannot be checked now. Try again shortly.").Because(err)
}

// matches compares digests. To refuse takes one time, whatever the reason (keyring.PretendRead). An id that nobody has, v is nil,
// is digested with a secret that nobody has.
func (r *Room) matches(ctx context.Context, id string, h0 [32]byte, v *verifier) (bool, error) {
	ring := r.cfg.Ring
	if v != nil && ring.Retired(v.versions.platform) {
		v = nil // nobody can prove such a key any more
	}
	if v == nil && r.cfg.Unhidden {
		return false, nil
	}
	if v == nil {
		return false, ring.PretendDigest(ctx, id, h0)
	}
	inMemory := ring.InMemory(v.tenant, v.versions.tenant)
	digest, err := ring.KeyDigest(ctx, v.tenant, id, v.issuedAtNS, h0, v.versions.tenant, v.versions.platform)
	switch {
	case errors.Is(err, keyring.ErrDestroyed): // with the organisation's secret, all its keys are gone
		return r.matches(ctx, id, h0, nil)
	case err != nil:
		return false, fmt.Errorf("apikey.matches: %w", err)
	case subtle.ConstantTimeCompare(digest[:], v.digest[:]) == 1:
		return true, nil
	case inMemory:
		return false, ring.PretendRead(ctx)
	}
	return false, nil
}

// readPatience bounds a read that others with the same key wait for too.
const readPatience = 3 * time.Second

// Authenticate says who sends a request and what they may do, from what the database says of the key and its organisation
// at this moment. A real key that is refused is recorded in its organisation's log; all other refusals are the server's
// to count. To the outside all refusals are Refused.
func (r *Room) Authenticate(ctx context.Context, raw string, meta web.RequestMeta) (tenantdb.Caller, error) {
	who, err := r.IdentifyFrom(ctx, raw, meta.Address)
	if err != nil {
		return tenantdb.Caller{}, err
	}
	spec := tenantdb.CallerSpec{
		Tenant: who.Tenant, Actor: audit.Actor{Kind: audit.ActorKey, ID: who.KeyID}, How: "api-key",
		RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address,
	}
	reason := ""
	caller := tenantdb.NewCaller(spec)
	// Requests with one key share a read, but none that began before they came.
	k, err := r.present.Begin(ctx, who, func(ctx context.Context) (standing, error) { return present(ctx, r.cfg.DB, caller, who.KeyID) }).Wait(ctx)
	spec.Scopes, spec.Metered = k.Scopes, k.metersSome
	switch s := k.Status(r.cfg.Now()); {
	case s != Active:
		reason = string(s)
	case k.suspended:
		reason = "organisation_suspended"
	case k.Kind == Data:
		reason = "data_key"
	case !k.AllowedFrom(meta.Address):
		reason = "address"
	}
	switch {
	case problem.Is(err, problem.Missing):
		return tenantdb.Caller{}, Refused() // the row is gone, as after a restore; the digest was in memory
	case err != nil:
		return tenantdb.Caller{}, unavailable(err)
	case reason != "":
		spec.Scopes = nil
		if reason == string(Revoked) {
			r.uses.note(who, func(s *since) { s.refused++ })
		}
		return tenantdb.Caller{}, r.refuse(ctx, tenantdb.NewCaller(spec), who, reason)
	}
	return tenantdb.NewCaller(spec), nil
}

// refuse records that a real key was used that does not work.
func (r *Room) refuse(ctx context.Context, c tenantdb.Caller, who Identity, reason string) error {
	ev := audit.Event{
		Type: "key.refused", Target: audit.Target{Kind: "key", ID: who.KeyID}, Outcome: audit.Denied,
		Public: []audit.Field{{Name: "reason", Value: reason}},
	}
	if c.Address().IsValid() { // whoever has a key that was stopped is worth finding
		ev.Private = []audit.Field{{Name: "address", Value: c.Address().String()}}
	}
	if err := r.cfg.Refused(ctx, c, ev); err != nil {
		return fmt.Errorf("apikey.Authenticate: %w", err)
	}
	return Refused()
}
