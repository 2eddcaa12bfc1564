package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
)

// memoryStore is SigningStore without a database: the lock is a mutex.
type memoryStore struct {
	mu     sync.Mutex
	keys   []SigningKey
	events []audit.Event
	loads  int
	fail   error
}

func (m *memoryStore) Load(context.Context) ([]SigningKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	return slices.Clone(m.keys), m.fail
}

func (m *memoryStore) Change(_ context.Context, decide func([]SigningKey) (SigningKey, audit.Event, bool)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ev, change := decide(slices.Clone(m.keys))
	if m.fail != nil || !change {
		return m.fail
	}
	m.events = append(m.events, ev)
	if i := slices.IndexFunc(m.keys, func(o SigningKey) bool { return o.KID == k.KID }); i >= 0 {
		m.keys[i] = k
	} else {
		m.keys = append(m.keys, k)
	}
	return nil
}

func newSigning(t testing.TB) (*Signing, *memoryStore, *clock) {
	t.Helper()
	m, c := &memoryStore{}, newClock()
	return signingOn(t, m, c), m, c
}

func signingOn(t testing.TB, m *memoryStore, c *clock) *Signing {
	t.Helper()
	tick := func() time.Time { c.advance(time.Microsecond); return c.now() }
	s := NewSigning(m, mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning), tick)
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

func claims(c *clock, life time.Duration) []byte {
	return fmt.Appendf(nil, `{"sub":"did:web:example.com:agents:1","exp":%d}`, c.now().Add(life).Unix())
}

// parts takes a token apart: kid, signing input, signature.
func parts(t testing.TB, token string) (kid, input string, signature []byte) {
	t.Helper()
	i := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil {
		t.Fatal(err)
	}
	header, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
	if err != nil {
		t.Fatal(err)
	}
	var h struct{ KID string }
	if err := json.Unmarshal(header, &h); err != nil {
		t.Fatal(err)
	}
	return h.KID, token[:i], signature
}

func mustSign(t testing.TB, s *Signing, c *clock) string {
	t.Helper()
	token, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestOthersVerifyOurTokens(t *testing.T) {
	t.Parallel()
	s, _, c := newSigning(t)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{TypeJWT, TypeAccessToken} {
		token, err := s.Sign(t.Context(), typ, claims(c, MaxTokenLife))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		h := jws.Signatures[0].Header
		keys := set.Key(h.KeyID)
		if len(keys) != 1 || h.ExtraHeaders["typ"] != typ {
			t.Fatalf("%d keys for %q of type %v", len(keys), h.KeyID, h.ExtraHeaders["typ"])
		}
		if payload, err := jws.Verify(keys[0]); err != nil || !strings.Contains(string(payload), "did:web") {
			t.Errorf("%s: %v", payload, err)
		}
		kid, input, signature := parts(t, token)
		if err := s.VerifySignature(context.Background(), kid, input, signature); err != nil {
			t.Error(err)
		}
	}
}

func TestForgedSignatures(t *testing.T) {
	t.Parallel()
	s, _, c := newSigning(t)
	kid, input, signature := parts(t, mustSign(t, s, c))
	r, v := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	n := elliptic.P256().Params().N
	raw := func(r, v *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, v})
	if err != nil {
		t.Fatal(err)
	}
	zero := new(big.Int)
	for what, forged := range map[string][]byte{
		"r = s = 0": raw(zero, zero), "r = 0": raw(zero, v), "s = 0": raw(r, zero), "r = s = n": raw(n, n), "r = n": raw(n, v),
		"DER": der, "none": nil, "63 bytes": signature[:63], "65 bytes": append(slices.Clone(signature), 0), "zero before s": slices.Insert(slices.Clone(signature), 32, 0), "swapped": raw(v, r),
		"r = s = 1": raw(big.NewInt(1), big.NewInt(1)), "another byte": append([]byte{signature[0] ^ 1}, signature[1:]...),
	} {
		if err := s.VerifySignature(context.Background(), kid, input, forged); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.VerifySignature(context.Background(), kid, input+"x", signature); !errors.Is(err, ErrBadSignature) {
		t.Errorf("other bytes: %v", err)
	}
	// The policy on high s: both of a pair count, so nothing may take a token's bytes for its identity.
	if err := s.VerifySignature(context.Background(), kid, input, raw(r, new(big.Int).Sub(n, v))); err != nil {
		t.Errorf("n-s: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	s, m, c := newSigning(t)
	for what, claims := range map[string][]byte{
		"no exp": []byte(`{}`), "expired": claims(c, -time.Minute), "too long": claims(c, MaxTokenLife+2*time.Minute),
		"no object": []byte(`[]`), "no JSON": []byte(`{`), "exp is text": []byte(`{"exp":"1"}`),
	} {
		if _, err := s.Sign(t.Context(), TypeJWT, claims); !errors.Is(err, ErrTokenLife) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.Sign(t.Context(), "JOSE", claims(c, time.Hour)); err == nil {
		t.Error("an unknown type is signed")
	}
	m.fail = errors.New("no database")
	if token, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); token != "" || !problem.Is(err, problem.Unavailable) || !errors.Is(err, m.fail) {
		t.Errorf("signs though a key may have been revoked: %v", err)
	}
	none := NewSigning(&memoryStore{}, nil, c.now)
	if _, err := none.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); err == nil {
		t.Error("signs without a key")
	}
}

func TestUnknownKidRefreshesOnceInAWhile(t *testing.T) {
	t.Parallel()
	s, m, c := newSigning(t)
	before := m.loads
	var done sync.WaitGroup
	for i := range 50 {
		done.Go(func() {
			kid := base64.RawURLEncoding.EncodeToString(append(make([]byte, 31), byte(i)))
			if err := s.VerifySignature(context.Background(), kid, "x", make([]byte, 64)); !errors.Is(err, ErrUnknownKey) {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if n := m.loads - before; n != 1 {
		t.Errorf("50 unknown kids made %d refreshes", n)
	}
	if err := s.VerifySignature(context.Background(), "short", "x", nil); !errors.Is(err, ErrUnknownKey) || m.loads-before != 1 {
		t.Errorf("a kid of another length: %v", err)
	}
	// A key that another server has made to sign in an emergency is known at the first token.
	other := signingOn(t, m, c)
	for _, k := range m.keys {
		if err := other.Revoke(context.Background(), m, k.KID); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(unknownEvery)
	kid, input, signature := parts(t, mustSign(t, other, c))
	if err := s.VerifySignature(context.Background(), kid, input, signature); err != nil {
		t.Error(err)
	}
}

func TestRevokedKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := newSigning(t)
	kid, input, signature := parts(t, mustSign(t, s, c))
	if err := s.KeyInForce(kid); err != nil {
		t.Fatal(err)
	}
	operator := &memoryStore{keys: m.keys}
	if err := s.Revoke(ctx, m, kid); err != nil {
		t.Fatal(err)
	}
	if err := s.VerifySignature(ctx, kid, input, signature); !errors.Is(err, ErrRevokedKey) {
		t.Errorf("its tokens: %v", err)
	}
	if err := s.KeyInForce(kid); !errors.Is(err, ErrRevokedKey) {
		t.Errorf("KeyInForce: %v", err)
	}
	if strings.Contains(string(s.JWKS()), kid) {
		t.Error("it is still published")
	}
	if next, _, _ := parts(t, mustSign(t, s, c)); next == kid {
		t.Error("it still signs")
	}
	if err := s.Revoke(ctx, m, kid); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := s.Revoke(ctx, operator, strings.Repeat("x", thumbprintSize)); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a key that never was: %v", err)
	}
	var alters []string
	for _, ev := range m.events {
		if ev.Alters {
			alters = append(alters, ev.Type+" "+ev.Target.ID)
		}
	}
	if !slices.Equal(alters, []string{"signing_key.revoked " + kid}) {
		t.Errorf("events that alter decisions: %v", alters)
	}
}

func TestRecordsOnlyWrittenIntoTheDatabaseAreNoKeys(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := newSigning(t)
	attacker, err := newSigningKey(ctx, mustWrapper(t, mustPlatform(t, "1:"+secondPlatformKey[2:]), ForSigning), agents)
	if err != nil {
		t.Fatal(err)
	}
	attacker.CreatedAt, attacker.SignsFrom = c.now(), c.now()
	swapped, renamed, algorithm := m.keys[0], m.keys[1], m.keys[1]
	swapped.Public = attacker.Public
	renamed.KID = attacker.KID
	algorithm.Algorithm = "HS256"
	for what, k := range map[string]SigningKey{"another platform key": attacker, "another public key": swapped, "another kid": renamed, "another algorithm": algorithm} {
		forged := &memoryStore{keys: []SigningKey{m.keys[0], m.keys[1]}}
		forged.keys = slices.DeleteFunc(forged.keys, func(o SigningKey) bool { return o.KID == k.KID })
		forged.keys = append(forged.keys, k)
		for _, fresh := range []bool{true, false} {
			victim := NewSigning(forged, s.wrapper, c.now)
			if !fresh { // one that has opened the true records already
				victim = NewSigning(m, s.wrapper, c.now)
				if err := victim.Refresh(ctx); err != nil {
					t.Fatal(err)
				}
				victim.store = forged
			}
			if err := victim.Refresh(ctx); err != nil || !slices.Contains(unusableKIDs(victim), k.KID) {
				t.Errorf("%s: Refresh says %v, unusable are %v", what, err, victim.Unusable())
			}
			if strings.Contains(string(victim.JWKS()), k.KID) {
				t.Errorf("%s is published", what)
			}
			if _, err := victim.Sign(ctx, TypeJWT, claims(c, time.Hour)); err != nil && k.KID != m.keys[0].KID {
				t.Errorf("%s: the good keys do not sign any more: %v", what, err)
			}
		}
	}
}

func TestServersRotateTogether(t *testing.T) {
	t.Parallel()
	m, c := &memoryStore{}, newClock()
	var servers []*Signing
	for range 4 {
		servers = append(servers, NewSigning(m, mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning), c.now))
	}
	for range 12 { // three years by quarters
		var done sync.WaitGroup
		for _, s := range servers {
			done.Go(func() {
				if err := s.Rotate(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		tokens := map[string]bool{}
		for _, s := range servers {
			if err := s.Refresh(context.Background()); err != nil {
				t.Error(err)
			}
			kid, _, _ := parts(t, mustSign(t, s, c))
			tokens[kid] = true
		}
		if len(tokens) != 1 {
			t.Fatalf("%d signers at once", len(tokens))
		}
		c.advance(SignFor)
	}
	// One key a quarter, and a standby: none was made twice.
	if len(m.keys) != 13 || len(m.events) < 13 {
		t.Errorf("%d keys, %d entries", len(m.keys), len(m.events))
	}
}

func TestJWKSDocument(t *testing.T) {
	t.Parallel()
	s, m, _ := newSigning(t)
	w := httptest.NewRecorder()
	s.ServeJWKS(w, httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
	if w.Header().Get("Cache-Control") != "public, max-age=600" || w.Header().Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("headers: %v", w.Header())
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("%s: %v", w.Body, err)
	}
	for i, k := range set.Keys {
		want := map[string]string{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": m.keys[i].KID, "x": k["x"], "y": k["y"]}
		if len(k["x"]) != thumbprintSize || len(k["y"]) != thumbprintSize || !mapsEqual(k, want) {
			t.Errorf("key %d is %v, want %v", i, k, want)
		}
	}
	if err := s.Refresh(context.Background()); err != nil || string(s.JWKS()) != w.Body.String() {
		t.Errorf("another refresh, another document: %v", err)
	}
	again := httptest.NewRequest(http.MethodGet, "/", nil)
	again.Header.Set("If-None-Match", w.Header().Get("ETag"))
	w2 := httptest.NewRecorder()
	if s.ServeJWKS(w2, again); w2.Code != http.StatusNotModified || w2.Body.Len() != 0 {
		t.Errorf("with its ETag: %d", w2.Code)
	}
}

func mapsEqual(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestDatabaseDownIsNotUnknownKey(t *testing.T) {
	t.Parallel()
	s, m, _ := newSigning(t)
	m.fail = errors.New("down")
	err := s.VerifySignature(context.Background(), strings.Repeat("x", thumbprintSize), "x", nil)
	if !errors.Is(err, m.fail) || errors.Is(err, ErrUnknownKey) {
		t.Errorf("the kid may be of a new key, and the answer is %v", err)
	}
}

func BenchmarkSign(b *testing.B) {
	s, _, c := newSigning(b)
	payload := claims(c, time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(b.Context(), TypeJWT, payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySignature(b *testing.B) {
	s, _, c := newSigning(b)
	kid, input, signature := parts(b, mustSign(b, s, c))
	for b.Loop() {
		if err := s.VerifySignature(context.Background(), kid, input, signature); err != nil {
			b.Fatal(err)
		}
	}
}

func TestThumbprint(t *testing.T) {
	t.Parallel()
	// The key of RFC 7517, appendix A.1.
	const x, y = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
	a, _ := base64.RawURLEncoding.DecodeString(x)
	b, _ := base64.RawURLEncoding.DecodeString(y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, a, b))
	if err != nil {
		t.Fatal(err)
	}
	want, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if got := keyID(key); err != nil || got != base64.RawURLEncoding.EncodeToString(want) {
		t.Errorf("thumbprint %s, go-jose has %x, %v", got, want, err)
	}
}
