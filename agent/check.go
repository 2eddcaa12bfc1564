package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Checker says whose a token is. It remembers whose signatures it has verified, by the hash of the whole token, and
// nothing else: time, revocation, scopes and uses are for the caller to judge each time. It is safe for use by many
// goroutines.
type Checker struct {
	issuer Issuer
	itself []string // the audience of what is bound to no resource
	keys   *keyring.Signing
	shards [shardCount]shard
}

const (
	shardCount = 32 // so that goroutines rarely meet at a lock
	// remembered bounds the tokens in memory: some 200 bytes each.
	remembered = 32 << 10
	shardLimit = remembered / shardCount / 2
)

// shard has two halves: when the young half is full it becomes the old one. What is still used moves back, so a flood of
// new tokens pushes out those that nobody presents.
type shard struct {
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]*verified
}

// verified is a token whose signature was good when it was remembered. It never changes. It is what tokens differ in: most of a
// token's text is the same in all, and there are many.
type verified struct {
	key                        unique.Handle[string]
	agent                      ID
	tenant                     tenantdb.TenantID
	jti                        TokenID
	generation, uses           int64
	issued, notBefore, expires int64    // seconds, as in a token
	resources                  []string // nil: the audience is the issuer alone
}

func (c *Claims) kept() *verified {
	v := &verified{unique.Make(c.KeyID), c.Agent, c.Tenant, c.JTI, c.Generation, c.Uses, c.IssuedAt.Unix(), c.NotBefore.Unix(), c.Expires.Unix(), nil}
	if c.Bound() {
		for _, a := range c.Audience {
			v.resources = append(v.resources, strings.Clone(a)) // it is a part of the whole token
		}
	}
	return v
}

func (v *verified) claims(c *Checker) Claims {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	audience := v.resources
	if audience == nil {
		audience = c.itself
	}
	return Claims{v.key.Value(), c.issuer.url, c.issuer.DID(v.agent), audience, v.agent, v.tenant, v.jti, v.generation, v.uses, at(v.issued), at(v.notBefore), at(v.expires)}
}

// NewChecker makes a checker of the tokens of one issuer.
func NewChecker(issuer Issuer, keys *keyring.Signing) *Checker {
	return &Checker{issuer: issuer, itself: []string{issuer.url}, keys: keys}
}

// Check returns a token's claims if this issuer signed it with a key that is in force. It does not say that the token's
// time is now (Claims.ValidAt): whoever refuses an expired token must be able to say whose it was. Errors: ErrMalformed,
// ErrForged, or problem.Unavailable if the keys cannot be read. The claims are shared: they must not be changed.
//
// A key that is revoked or retires counts no more at once, also for tokens that are remembered.
func (c *Checker) Check(ctx context.Context, raw string, now time.Time) (Claims, error) {
	if len(raw) > MaxToken {
		return Claims{}, fmt.Errorf("agent.Check: %w: %w", ErrMalformed, errLong)
	}
	sum := sha256.Sum256([]byte(raw))
	s := &c.shards[sum[0]%shardCount]
	if v := s.get(sum); v != nil {
		claims := v.claims(c)
		err := c.InForce(claims)
		if err != nil || !now.Before(claims.Expires) {
			s.drop(sum)
		}
		if err != nil {
			return Claims{}, err
		}
		return claims, nil
	}
	t, err := Parse(raw)
	if err != nil {
		return Claims{}, err
	}
	if err := c.signed(ctx, &t); err != nil {
		return Claims{}, err
	}
	t.Claims.KeyID = t.Header.KeyID
	if now.Before(t.Claims.Expires) {
		s.put(sum, t.Claims.kept())
	}
	return t.Claims, nil
}

// InForce is what Check found, asked again: nil if the key that signed is still in force, or the error that Check would
// return now.
func (c *Checker) InForce(of Claims) error {
	if err := c.keys.KeyInForce(of.KeyID); err != nil {
		return keyProblem(err)
	}
	return nil
}

var (
	errAlgorithm = errors.New("its algorithm is not that of our keys")
	errIssuer    = errors.New("its issuer or subject is not ours")
)

// signed compares what costs nothing before it verifies the signature, which costs a hundred times the rest.
func (c *Checker) signed(ctx context.Context, t *Token) error {
	if t.Header.Algorithm != algorithm {
		return fmt.Errorf("agent.Check: %w: %w", ErrForged, errAlgorithm)
	}
	if t.Claims.Issuer != c.issuer.url || t.Claims.Subject != c.issuer.DID(t.Claims.Agent) {
		return fmt.Errorf("agent.Check: %w: %w", ErrForged, errIssuer)
	}
	if err := c.keys.VerifySignature(ctx, t.Header.KeyID, t.signingInput, t.signature[:]); err != nil {
		return keyProblem(err)
	}
	return nil
}

// keyProblem tells what is wrong with a token from what is wrong with us.
func keyProblem(err error) error {
	for _, known := range []error{keyring.ErrBadSignature, keyring.ErrUnknownKey, keyring.ErrRevokedKey} {
		if errors.Is(err, known) {
			return fmt.Errorf("agent.Check: %w: %w", ErrForged, err)
		}
	}
	return problem.New(problem.Unavailable, "The signing keys cannot be read now, so no token can be checked. Try again shortly.").Because(err)
}

func (s *shard) get(sum [sha256.Size]byte) *verified {
	s.mu.RLock()
	v, young := s.young[sum]
	if !young {
		v = s.old[sum]
	}
	s.mu.RUnlock()
	if v != nil && !young {
		s.put(sum, v)
	}
	return v
}

func (s *shard) put(sum [sha256.Size]byte, v *verified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.young[sum]; !there && len(s.young) >= shardLimit {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = make(map[[sha256.Size]byte]*verified)
	}
	delete(s.old, sum)
	s.young[sum] = v
}

func (s *shard) drop(sum [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, sum)
	delete(s.old, sum)
}
