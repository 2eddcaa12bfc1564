package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	// AccessLife is how long an access token lasts.
	AccessLife = 15 * time.Minute
	maxAccess  = 8 << 10
	skew       = time.Minute // between servers' clocks
)

type tokenKind struct{}

// claims are those of a person's access token (RFC 9068).
type claims struct {
	Issuer   string            `json:"iss"`
	Subject  tenantdb.PersonID `json:"sub"`
	Audience string            `json:"aud"`
	Tenant   tenantdb.TenantID `json:"tenant_id"`
	Caps     []string          `json:"caps"`
	Session  ID                `json:"sid"`
	Methods  []string          `json:"amr"`
	ProvedAt int64             `json:"auth_time"`
	IssuedAt int64             `json:"iat"`
	Expires  int64             `json:"exp"`
	JTI      id.ID[tokenKind]  `json:"jti"`
}

// Audience is what people's access tokens name, and agents' never do.
func (r *Room) Audience() string { return r.cfg.Issuer + "/api" }

// access makes an access token of a session that counts.
func (r *Room) access(ctx context.Context, p presence) (Tokens, error) {
	now := r.instant()
	absolute, idle := p.ends(p.st)
	expires := now.Add(AccessLife)
	if absolute.Before(expires) {
		expires = absolute
	}
	c := claims{
		Issuer: r.cfg.Issuer, Subject: p.Person, Audience: r.Audience(), Tenant: p.tenant, Caps: slices.Sorted(slices.Values(p.may())), Session: p.ID,
		Methods: p.Methods, ProvedAt: p.ProvedAt.Unix(), IssuedAt: now.Unix(), Expires: expires.Unix(), JTI: id.New[tokenKind](),
	}
	if c.Caps == nil {
		c.Caps = []string{}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return Tokens{}, fmt.Errorf("session: claims: %w", err)
	}
	algorithm := keyring.ES256
	if p.st.Algorithm == keyring.RS256 {
		algorithm = keyring.RS256
	}
	if err := r.cfg.Signing.Ensure(ctx, algorithm); err != nil {
		return Tokens{}, unsigned(err)
	}
	token, err := r.cfg.Signing.SignSession(ctx, algorithm, b)
	if err != nil {
		return Tokens{}, unsigned(err)
	}
	if end := now.Add(min(p.Idle, absolute.Sub(now))); end.After(idle) {
		idle = end
	}
	if absolute.Before(idle) {
		idle = absolute
	}
	return Tokens{Access: secret.Text(token), AccessExpires: time.Unix(c.Expires, 0).UTC(), RefreshExpires: idle, Session: p.ID}, nil
}

func unsigned(err error) error {
	return problem.New(problem.Unavailable, "Access tokens cannot be signed now. Try again shortly.").Because(err)
}

// header is what is read of a JWT's header.
type header struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ"`
	KID       string `json:"kid"`
}

// split takes a JWT apart, in the one form that it has.
func split(raw string) (h header, payload []byte, input string, signature []byte, ok bool) {
	parts := strings.Split(raw, ".")
	if len(raw) > maxAccess || len(parts) != 3 || strings.ContainsAny(raw, "\r\n") {
		return h, nil, "", nil, false
	}
	decoded := [3][]byte{}
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return h, nil, "", nil, false
		}
	}
	if json.Unmarshal(decoded[0], &h) != nil {
		return h, nil, "", nil, false
	}
	return h, decoded[1], raw[:len(raw)-len(parts[2])-1], decoded[2], true
}

// ours reports whether a credential says that it is a person's access token. It proves nothing: only who checks it is decided by
// it. Agents' tokens have another type.
func (r *Room) ours(raw string) bool {
	h, payload, _, _, ok := split(raw)
	var c struct {
		Audience any `json:"aud"`
	}
	return ok && h.Type == keyring.TypeAccessToken && json.Unmarshal(payload, &c) == nil && c.Audience == r.Audience()
}

// byToken says whose an access token is. That its session is in force is asked each time; what the token may do is what it was
// given, as far as the person may do it still. That the key that signed it is, is asked too: another server may have revoked it.
func (r *Room) byToken(ctx context.Context, raw string, meta web.RequestMeta) (tenantdb.Caller, error) {
	c, err := r.check(ctx, raw)
	if err != nil {
		return tenantdb.Caller{}, err
	}
	p, err := r.look(ctx, presented{tenant: c.Tenant, id: c.Session})
	if err != nil {
		return tenantdb.Caller{}, err
	}
	if p.Kind != Program || p.Person != c.Subject {
		return tenantdb.Caller{}, Refused()
	}
	return r.seen(ctx, p, meta, narrowed(c.Caps, p.st.Capabilities))
}

// check returns the claims of a token that was signed here for a person and whose time is now.
func (r *Room) check(ctx context.Context, raw string) (c claims, err error) {
	h, payload, input, signature, ok := split(raw)
	if !ok || h.Type != keyring.TypeAccessToken {
		return c, Refused()
	}
	signed := func() error {
		return r.cfg.Signing.VerifySession(ctx, h.Algorithm, h.KID, input, signature)
	}
	if err := signed(); err != nil {
		return c, refusedToken(err)
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, Refused()
	}
	now := r.cfg.Now()
	if c.Issuer != r.cfg.Issuer || c.Audience != r.Audience() || now.Unix() >= c.Expires || now.Add(skew).Unix() < c.IssuedAt || c.Tenant.IsZero() || c.Session.IsZero() {
		return c, Refused()
	}
	if err := r.cfg.Signing.Refresh(ctx); err != nil {
		return c, unavailable(err)
	}
	if err := signed(); err != nil {
		return c, refusedToken(err)
	}
	return c, nil
}

// refusedToken tells what is wrong with a token from what is wrong with us.
func refusedToken(err error) error {
	for _, known := range []error{keyring.ErrBadSignature, keyring.ErrUnknownKey, keyring.ErrRevokedKey} {
		if errors.Is(err, known) {
			return Refused()
		}
	}
	return unavailable(err)
}
