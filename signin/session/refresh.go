package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// A refresh token is "avr_" and base64url of
//
//	session id (16) | generation (4, big endian) | secret (32)
//
// The secret is derived from the other two with the tenant's key (keyring.Derive), so that the same successor can be given again
// while its answer may have been lost, and an old token can be told from a made-up one, though only the present one's hash is stored.
const (
	refreshPrefix  = "avr_"
	refreshPurpose = "refresh token"
	refreshSize    = 16 + 4 + 32
	maxGeneration  = 1<<31 - 1

	// retryWithin is how long a lost answer may be asked for again.
	retryWithin = 10 * time.Second
)

var errRefresh = errors.New("not a refresh token")

// refresh is a refresh token taken apart. Nothing of it is proved.
type refresh struct {
	id         ID
	generation uint32
	secret     [32]byte
}

// parseRefresh reads the one form that a token has.
func parseRefresh(s string) (t refresh, err error) {
	text, ok := strings.CutPrefix(s, refreshPrefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(refreshSize) || strings.ContainsAny(text, "\r\n") {
		return t, errRefresh
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != refreshSize {
		return t, errRefresh
	}
	copy(t.id[:], b)
	t.generation = binary.BigEndian.Uint32(b[16:])
	copy(t.secret[:], b[20:])
	if t.generation < 1 || t.generation > maxGeneration {
		return refresh{}, errRefresh
	}
	return t, nil
}

func (t refresh) encode() string {
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(append(t.place(), t.secret[:]...))
}

// place is what the secret is derived from.
func (t refresh) place() []byte {
	b := make([]byte, 0, refreshSize)
	return binary.BigEndian.AppendUint32(append(b, t.id[:]...), t.generation)
}

// refreshToken is the token of a generation.
func (r *Room) refreshToken(ctx context.Context, t tenantdb.TenantID, id ID, generation uint32) (secret.String, error) {
	token := refresh{id: id, generation: generation}
	var err error
	if token.secret, err = r.cfg.Ring.Derive(ctx, t, refreshPurpose, token.place()); err != nil {
		return secret.String{}, fmt.Errorf("session: refresh token: %w", err)
	}
	return secret.Text(token.encode()), nil
}

// client is what a refresh token is bound to: the id that the client chose at its sign-in, and the program that sent the request.
func client(binding, userAgent string) []byte {
	b, u := sha256.Sum256([]byte(binding)), sha256.Sum256([]byte(userAgent))
	return append(b[:], u[:]...)
}

// outcome is what becomes of a refresh token that is presented.
type outcome int

const (
	unknown   outcome = iota // nothing is done
	successor                // the next generation begins
	again                    // the same successor once more: its answer may have been lost
	stolen                   // somebody else has it too: the family ends
)

// judge decides about a refresh token that was derived by us. It is the whole of the rule:
//
//   - the present generation, from the client that the family belongs to, is succeeded;
//   - the one before is answered with the same successor for ten seconds, to the same client and program, while nobody has used
//     the successor to refresh;
//   - any other older one, and one from another client, has been stolen, or its successor has: the family ends;
//   - one that is newer than the database, as after a restore, is nothing.
func (s *record) judge(t refresh, by []byte, now time.Time) outcome {
	const half = sha256.Size
	switch {
	case len(s.client) != 2*half || t.generation > s.generation:
		return unknown
	case t.generation == s.generation && subtle.ConstantTimeCompare(digestOf(t.encode()), s.digest) != 1:
		return unknown // the tenant's secret came back from elsewhere: what is stored decides
	case !bytes.Equal(s.client[:half], by[:half]):
		return stolen
	case t.generation == s.generation:
		return successor
	case t.generation == s.generation-1 && bytes.Equal(s.client, by) && now.Sub(s.rotatedAt) <= retryWithin:
		return again
	}
	return stolen
}

// Tokens are what a program sends and renews.
type Tokens struct {
	Access         secret.String
	AccessExpires  time.Time
	Refresh        secret.String
	RefreshExpires time.Time // if nothing is done with it
	Session        ID
}

// Tokens are the first of a session that Start made and whose transaction has committed; refresh is what Start gave.
func (r *Room) Tokens(ctx context.Context, t tenantdb.TenantID, id ID, refresh secret.String) (Tokens, error) {
	p, err := r.look(ctx, presented{tenant: t, id: id})
	if err != nil {
		return Tokens{}, fmt.Errorf("session.Tokens: %w", err)
	}
	if p.Kind != Program || p.reasonBut() != "" || p.over(p.st, r.cfg.Now()) {
		return Tokens{}, fmt.Errorf("session.Tokens: %w", Refused())
	}
	tokens, err := r.access(ctx, p)
	if err != nil {
		return Tokens{}, fmt.Errorf("session.Tokens: %w", err)
	}
	tokens.Refresh = refresh
	return tokens, nil
}

// reasonBut is reason where no request's address is known.
func (p *presence) reasonBut() string {
	open := *p
	open.st.Addresses = nil
	return open.reason(web.RequestMeta{})
}

// Renewal is a request for new tokens.
type Renewal struct {
	Token     secret.String
	ClientID  string // what the client chose at its sign-in; empty if nothing
	UserAgent string
}

// Refresh gives new tokens for a refresh token, which counts no more from then on. A token that was stolen ends its family before
// the answer. What is refused changes nothing else, and all refusals look alike.
func (r *Room) Refresh(ctx context.Context, meta web.RequestMeta, n Renewal) (Tokens, error) {
	token, err := parseRefresh(n.Token.Expose())
	if err != nil {
		return Tokens{}, Refused()
	}
	p, err := r.derivedHere(ctx, token)
	if err != nil {
		return Tokens{}, err
	}
	by, now := client(n.ClientID, n.UserAgent), r.instant()
	if p.Kind != Program || p.over(p.st, now) {
		return Tokens{}, Refused()
	}
	c := tenantdb.NewCaller(p.spec(meta, "refresh-token:"))
	verdict := p.judge(token, by, now)
	if verdict == unknown {
		return Tokens{}, Refused()
	}
	if reason := p.reason(meta); reason != "" && verdict != stolen {
		return Tokens{}, r.refuse(ctx, c, p.ID, reason)
	}
	if err := r.cfg.Ring.Prepare(ctx, p.tenant, p.Person); err != nil {
		return Tokens{}, unavailable(err)
	}
	var tokens Tokens
	if verdict != stolen { // signed before the family moves on: a client must not lose its family because nothing can be signed
		if tokens, err = r.access(ctx, p); err != nil {
			return Tokens{}, err
		}
		if tokens.Refresh, err = r.refreshToken(ctx, p.tenant, p.ID, token.generation+1); err != nil {
			return Tokens{}, unavailable(err)
		}
	}
	if verdict != again {
		if verdict, err = r.moveOn(ctx, c, token, by, tokens.Refresh); err != nil {
			return Tokens{}, fmt.Errorf("session.Refresh: %w", err)
		}
	}
	if verdict != successor && verdict != again {
		return Tokens{}, Refused()
	}
	return tokens, nil
}

// derivedHere finds the session that a refresh token names, if the token is one that was made for it: who made one up costs two
// reads, and no lock.
func (r *Room) derivedHere(ctx context.Context, token refresh) (presence, error) {
	t, err := r.lookupID(ctx, token.id)
	if err != nil {
		return presence{}, unavailable(err)
	}
	if t.IsZero() {
		return presence{}, Refused()
	}
	want, err := r.cfg.Ring.Derive(ctx, t, refreshPurpose, token.place())
	if err != nil {
		return presence{}, unavailable(err)
	}
	if subtle.ConstantTimeCompare(want[:], token.secret[:]) != 1 {
		return presence{}, Refused()
	}
	return r.look(ctx, presented{tenant: t, id: token.id})
}

// moveOn decides again, now that nobody else changes the family, and does it.
func (r *Room) moveOn(ctx context.Context, c tenantdb.Caller, token refresh, by []byte, next secret.String) (verdict outcome, err error) {
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		var p presence
		if err := r.fill(ctx, &tx.ReadTx, token.id, &p); err != nil {
			return audit.Event{}, err
		}
		now := r.instant()
		if !p.there || p.over(p.st, now) {
			verdict = unknown
			return audit.Event{}, nil
		}
		switch verdict = p.judge(token, by, now); {
		case verdict == stolen:
			return r.end(ctx, tx, p, token, now)
		case verdict != successor:
			return audit.Event{}, nil
		case p.reasonBut() != "" || next.IsZero():
			verdict = unknown
			return audit.Event{}, nil
		}
		if err := rotate(ctx, tx, p.ID, digestOf(next.Expose()), p.generation+1, now, by); err != nil {
			return audit.Event{}, err
		}
		return audit.Event{
			Type: "session.refreshed", Target: audit.Target{Kind: "session", ID: p.ID.String()}, Subject: p.Person,
			Public: []audit.Field{{Name: "generation", Value: fmt.Sprint(p.generation + 1)}},
		}, saveSeen(ctx, tx, p.ID, now)
	})
	if problem.Is(err, problem.Missing) {
		return unknown, nil
	}
	return verdict, err
}

// SessionReused is the mail to somebody whose refresh token was used by two: ids are person, session, at and request.
const SessionReused mail.Template = "session_reused"

// end ends a family of which somebody else has a token, and tells the person.
func (r *Room) end(ctx context.Context, tx *tenantdb.Tx, p presence, token refresh, now time.Time) (audit.Event, error) {
	if err := endRows(ctx, tx, []ID{p.ID}, now, "reused"); err != nil {
		return audit.Event{}, err
	}
	why := "older"
	if token.generation == p.generation {
		why = "client"
	}
	job := mail.Job{Tenant: tx.Tenant().String(), Template: SessionReused, IDs: map[string]string{
		"person": p.Person.String(), "session": p.ID.String(), "at": now.Format(time.RFC3339), "request": tx.Caller().RequestID().String(),
	}}
	if err := tx.Enqueue(ctx, job); err != nil {
		return audit.Event{}, err
	}
	ev := audit.Event{
		Type: "session.reused", Target: audit.Target{Kind: "session", ID: p.ID.String()}, Subject: p.Person,
		Public: []audit.Field{
			{Name: "person", Value: p.Person.String()}, {Name: "reason", Value: why},
			{Name: "generation", Value: fmt.Sprint(token.generation)}, {Name: "present", Value: fmt.Sprint(p.generation)},
		},
	}
	if a := tx.Caller().Address(); a.IsValid() {
		ev.Private = []audit.Field{{Name: "address", Value: a.String()}}
	}
	return ev, nil
}
