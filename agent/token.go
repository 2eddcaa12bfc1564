package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// MaxToken is how long a token may be, in bytes. What is longer is not looked at.
const MaxToken = 8 << 10

// algorithm is the only one that signing key records have (keyring). A header must say the same; it never chooses.
const algorithm = "ES256"

const signatureSize = 64

// ErrMalformed means that a text is no token of an agent, whoever made it.
var ErrMalformed = errors.New("not a token of an agent")

// ErrForged means that a well-formed token was not signed by this issuer, or by a key that counts no more: then the chain
// holds keyring.ErrRevokedKey too.
var ErrForged = errors.New("the token was not signed by a key of this issuer that is in force")

// ErrExpired means that the token's time is over.
var ErrExpired = errors.New("the token has expired")

// ErrNotYet means that the token's time has not come.
var ErrNotYet = errors.New("the token is not valid yet")

type tokenKind struct{}

// TokenID names a token: the claim jti. It is public, and proves nothing.
type TokenID = id.ID[tokenKind]

// ParseTokenID reads the canonical form.
func ParseTokenID(s string) (TokenID, error) { return id.Parse[tokenKind](s) }

// Header is what a token says about its signature. jwk, jku, x5u and x5c are not even read: a token cannot bring its key.
type Header struct {
	Algorithm string
	KeyID     string
	Type      string
}

// Claims are what a token says of its agent. They are worth something only if Checker.Check returned them; whether the
// agent, its tokens and its owner are still trusted is not in them.
type Claims struct {
	KeyID      string // the key of ours that signed it; set by Checker.Check
	Issuer     string
	Subject    string   // the agent's DID
	Audience   []string // the issuer alone, or the resources that the token is bound to
	Agent      ID       // client_id
	Tenant     tenantdb.TenantID
	JTI        TokenID
	Generation int64
	Uses       int64 // how often the token may be used; 0 is without limit
	IssuedAt   time.Time
	NotBefore  time.Time
	Expires    time.Time
}

// Bound reports whether the token is for certain resources only.
func (c *Claims) Bound() bool { return len(c.Audience) != 1 || c.Audience[0] != c.Issuer }

// ValidAt says whether the token's time is now: nil, ErrNotYet or ErrExpired, as they are. skew forgives a clock that is
// behind the issuer's. Expiry is exact: forgiving there would make every token live longer than its owner asked for.
func (c *Claims) ValidAt(now time.Time, skew time.Duration) error {
	latest := now.Add(skew)
	switch {
	case !c.Expires.After(c.IssuedAt), !now.Before(c.Expires):
		return ErrExpired
	case c.IssuedAt.After(latest), c.NotBefore.After(latest):
		return ErrNotYet
	}
	return nil
}

// encode writes the claims as they are signed. The order is fixed, for the vectors.
func (c *Claims) encode() ([]byte, error) {
	var audience any = c.Audience
	if len(c.Audience) == 1 {
		audience = c.Audience[0]
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // resources are addresses, and MaxToken is tight
	err := enc.Encode(struct {
		Issuer     string            `json:"iss"`
		Subject    string            `json:"sub"`
		Audience   any               `json:"aud"`
		Agent      ID                `json:"client_id"`
		JTI        TokenID           `json:"jti"`
		IssuedAt   int64             `json:"iat"`
		NotBefore  int64             `json:"nbf"`
		Expires    int64             `json:"exp"`
		Tenant     tenantdb.TenantID `json:"tid"`
		Generation int64             `json:"gen"`
		Uses       int64             `json:"uses,omitempty"`
	}{c.Issuer, c.Subject, audience, c.Agent, c.JTI, c.IssuedAt.Unix(), c.NotBefore.Unix(), c.Expires.Unix(), c.Tenant, c.Generation, c.Uses})
	if err != nil {
		return nil, fmt.Errorf("agent.Claims: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Token is a token taken apart. Nothing of it is proved.
type Token struct {
	Header       Header
	Claims       Claims
	signingInput string
	signature    [signatureSize]byte
}

// Parse takes a token apart. It is strict, because everything that it lets pass in two forms could be read in two ways:
// three parts of base64url without padding or stray bits, JSON without doubled names, whole numbers, all claims there.
func Parse(raw string) (Token, error) {
	var t Token
	if err := t.parse(raw); err != nil {
		return Token{}, fmt.Errorf("agent.Parse: %w: %w", ErrMalformed, err)
	}
	return t, nil
}

var (
	errParts     = errors.New("want three parts of base64url")
	errLong      = fmt.Errorf("longer than %d bytes", MaxToken)
	errCritical  = errors.New("the header demands an extension")
	errHeader    = errors.New("the header is not one of an agent's token")
	errClaims    = errors.New("a claim is missing or is not what it must be")
	errSignature = fmt.Errorf("the signature is not %d bytes long", signatureSize)
)

func (t *Token) parse(raw string) error {
	if len(raw) > MaxToken {
		return errLong
	}
	first := strings.IndexByte(raw, '.')
	last := strings.LastIndexByte(raw, '.')
	if first < 0 || first == last {
		return errParts
	}
	header, err := decodePart(raw[:first])
	if err != nil {
		return err
	}
	if err := t.Header.parse(header); err != nil {
		return err
	}
	claims, err := decodePart(raw[first+1 : last])
	if err != nil {
		return err
	}
	if err := t.Claims.parse(claims); err != nil {
		return err
	}
	signature, err := decodePart(raw[last+1:])
	if err != nil {
		return err
	}
	if copy(t.signature[:], signature); len(signature) != signatureSize {
		return errSignature
	}
	t.signingInput = raw[:last]
	return nil
}

// decodePart refuses line ends too, which encoding/base64 skips.
func decodePart(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", errParts
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return "", errParts
	}
	return string(b), nil
}

func (h *Header) parse(text string) error {
	s := scan{text: text}
	err := s.object(0, func(name string) (err error) {
		switch name {
		case "alg":
			h.Algorithm, err = s.str()
		case "kid":
			h.KeyID, err = s.str()
		case "typ":
			h.Type, err = s.str()
		case "crit", "b64":
			err = errCritical // RFC 7515, section 4.1.11: we understand none
		default:
			err = s.skip(1)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && (h.Algorithm == "" || h.KeyID == "" || h.Type != keyring.TypeJWT) {
		// typ keeps agents' tokens and OAuth's apart: the same keys sign both.
		err = errHeader
	}
	return err
}

// maxAudience is how many resources a token names at most.
const maxAudience = 16

func (c *Claims) parse(text string) error {
	s := scan{text: text}
	seen := 0
	err := s.object(0, func(name string) error {
		known, err := c.member(&s, name)
		if known {
			seen++
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return err
	}
	if required := 10; seen != required || c.Issuer == "" || c.Subject == "" || len(c.Audience) == 0 || slices.Contains(c.Audience, "") || c.Generation < 1 {
		return errClaims
	}
	return nil
}

// member reads one claim. known says that it is one of those that must be there.
func (c *Claims) member(s *scan, name string) (known bool, err error) {
	switch name {
	case "iss":
		c.Issuer, err = s.str()
	case "sub":
		c.Subject, err = s.str()
	case "aud":
		c.Audience, err = audience(s)
	case "client_id":
		err = identifier(s, &c.Agent)
	case "jti":
		err = identifier(s, &c.JTI)
	case "tid":
		err = identifier(s, &c.Tenant)
	case "iat":
		c.IssuedAt, err = instant(s)
	case "nbf":
		c.NotBefore, err = instant(s)
	case "exp":
		c.Expires, err = instant(s)
	case "gen":
		c.Generation, err = s.natural()
	case "uses":
		if c.Uses, err = s.natural(); err == nil && c.Uses < 1 {
			err = errClaims
		}
		return false, err
	default:
		return false, s.skip(1)
	}
	return true, err
}

func audience(s *scan) ([]string, error) {
	if s.space(); s.at < len(s.text) && s.text[s.at] == '"' {
		one, err := s.str()
		return []string{one}, err
	}
	var all []string
	err := s.array(1, func() error {
		one, err := s.str()
		if all = append(all, one); len(all) > maxAudience {
			return errClaims
		}
		return err
	})
	return all, err
}

func identifier[K any](s *scan, into *id.ID[K]) error {
	text, err := s.str()
	if err != nil {
		return err
	}
	*into, err = id.Parse[K](text)
	return err
}

// maxInstant is the last second of the year 9999.
const maxInstant = 253402300799

func instant(s *scan) (time.Time, error) {
	n, err := s.natural()
	if err == nil && n > maxInstant {
		err = errClaims
	}
	return time.Unix(n, 0).UTC(), err
}
