package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now().UTC().Truncate(time.Second)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// records are signing keys in memory. If broken is set, they cannot be read.
type records struct {
	mu     sync.Mutex
	keys   map[string]keyring.SigningKey
	broken error
}

func (s *records) Load(context.Context) ([]keyring.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []keyring.SigningKey
	for _, k := range s.keys {
		all = append(all, k)
	}
	return all, s.broken
}

func (s *records) Change(ctx context.Context, decide func([]keyring.SigningKey) (keyring.SigningKey, audit.Event, bool)) error {
	all, err := s.Load(ctx)
	if err != nil {
		return err
	}
	k, _, change := decide(all)
	s.mu.Lock()
	defer s.mu.Unlock()
	if change {
		s.keys[k.KID] = k
	}
	return nil
}

// mill is a checker with the keys that sign for it.
type mill struct {
	*Checker
	clock   *clock
	signing *keyring.Signing
	store   *records
}

func newMill(t testing.TB) *mill {
	t.Helper()
	platform, err := keyring.ParsePlatform([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	must(t, err)
	wrapper, err := platform.Wrapper(keyring.ForSigning)
	must(t, err)
	m := &mill{clock: newClock(), store: &records{keys: map[string]keyring.SigningKey{}}}
	m.signing = keyring.NewSigning(m.store, wrapper, m.clock.now)
	must(t, m.signing.Rotate(t.Context()))
	m.Checker = NewChecker(mustIssuer(t, testIssuer), m.signing)
	return m
}

// claims are good ones, of another token each time.
func (m *mill) claims(t testing.TB) Claims {
	return sampleClaims(t, func(c *Claims) {
		now := m.clock.now()
		c.JTI, c.IssuedAt, c.NotBefore, c.Expires = id.New[tokenKind](), now, now, now.Add(time.Hour)
	})
}

func (m *mill) sign(t testing.TB, c Claims) string {
	t.Helper()
	b, err := c.encode()
	must(t, err)
	token, err := m.signing.Sign(t.Context(), keyring.TypeJWT, b)
	must(t, err)
	return token
}

func (m *mill) check(raw string) (Claims, error) {
	return m.Check(context.Background(), raw, m.clock.now())
}

// published is the public key that signs now.
func (m *mill) published(t testing.TB) (kid string, key *ecdsa.PublicKey) {
	t.Helper()
	kid = strings.Split(decoded(t, strings.Split(m.sign(t, m.claims(t)), ".")[0]), `"kid":"`)[1][:43]
	var set struct{ Keys []struct{ KID, X, Y string } }
	must(t, json.Unmarshal(m.signing.JWKS(), &set))
	for _, k := range set.Keys {
		if k.KID == kid {
			point := append([]byte{4}, decoded(t, k.X)+decoded(t, k.Y)...)
			key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
			must(t, err)
			return kid, key
		}
	}
	t.Fatal("the key that signs is not published")
	return "", nil
}

func decoded(t testing.TB, part string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	must(t, err)
	return string(b)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	want := m.claims(t)
	token := m.sign(t, want)
	bound, counted := m.claims(t), m.claims(t)
	bound.Audience, counted.Audience = []string{"https://api.example.com/a", testIssuer, "b"}, []string{"https://api.example.com/a"}
	counted.Uses, counted.Generation, counted.NotBefore = 7, 3, counted.NotBefore.Add(time.Minute)
	for raw, want := range map[string]Claims{token: want, m.sign(t, bound): bound, m.sign(t, counted): counted} {
		for _, when := range []string{"first", "remembered"} {
			got, err := m.check(raw)
			kid := got.KeyID
			got.KeyID = ""
			if err != nil || !reflect.DeepEqual(got, want) || kid == "" {
				t.Errorf("%s: %v, %+v", when, err, got)
			}
		}
	}
	m.clock.forward(2 * time.Hour)
	for _, when := range []string{"remembered and expired", "expired"} {
		got, err := m.check(token)
		if err != nil || got.ValidAt(m.clock.now(), time.Minute) != ErrExpired {
			t.Errorf("%s: %v; whose it was must be told", when, err)
		}
	}
	if n := m.held(); n != 2 {
		t.Errorf("%d tokens are remembered after one of three was found expired", n)
	}
}

// held counts what is remembered.
func (c *Checker) held() int {
	n := 0
	for i := range c.shards {
		n += len(c.shards[i].young) + len(c.shards[i].old)
	}
	return n
}

// TestForgery tries each forgery on a checker that has seen the good token and on one that has not.
func TestForgery(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	kid, public := m.published(t)
	good := m.sign(t, m.claims(t))
	p := strings.Split(good, ".")
	payload := decoded(t, p[1])
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	header := func(alg, more string) string { return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q%s}`, alg, kid, more) }
	encode := base64.RawURLEncoding.EncodeToString
	signature := []byte(decoded(t, p[2]))
	raw := func(sig []byte) string { return p[0] + "." + p[1] + "." + encode(sig) }
	x, y := other.X.FillBytes(make([]byte, 32)), other.Y.FillBytes(make([]byte, 32))
	jwk := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, encode(x), encode(y))
	n := elliptic.P256().Params().N
	half := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	must(t, err)
	for name, c := range map[string]struct {
		raw  string
		want error
	}{
		"alg none, no signature":  {encode([]byte(header("none", ""))) + "." + p[1] + ".", ErrMalformed},
		"alg none, any signature": {encode([]byte(header("none", ""))) + "." + p[1] + "." + p[2], ErrForged},
		"alg None":                {signWith(t, other, header("None", ""), payload), ErrForged},
		"HS256 by JWKS":           {hs256(header("HS256", ""), payload, m.signing.JWKS()), ErrMalformed},
		"HS256 by PEM":            {hs256(header("HS256", ""), payload, pemOf(t, public)), ErrMalformed},
		"HS512 of 64 bytes":       {signWith(t, other, header("HS512", ""), payload), ErrForged},
		"RS256":                   {signWith(t, other, header("RS256", ""), payload), ErrForged},
		"ES384":                   {signWith(t, other, header("ES384", ""), payload), ErrForged},
		"es256":                   {signWith(t, other, header("es256", ""), payload), ErrForged},
		"another's key, our kid":  {signWith(t, other, header("ES256", ""), payload), ErrForged},
		"embedded jwk":            {signWith(t, other, header("ES256", `,"jwk":`+jwk), payload), ErrForged},
		"jku":                     {signWith(t, other, header("ES256", `,"jku":"https://evil.example/jwks.json"`), payload), ErrForged},
		"x5u":                     {signWith(t, other, header("ES256", `,"x5u":"https://evil.example/c.pem"`), payload), ErrForged},
		"x5c":                     {signWith(t, other, header("ES256", `,"x5c":["MIIB"]`), payload), ErrForged},
		"unknown kid":             {signWith(t, other, `{"alg":"ES256","typ":"JWT","kid":"x"}`, payload), ErrForged},
		"unknown kid of our size": {signWith(t, other, `{"alg":"ES256","typ":"JWT","kid":"`+strings.Repeat("A", 43)+`"}`, payload), ErrForged},
		"kid as a path":           {signWith(t, other, `{"alg":"ES256","typ":"JWT","kid":"../../dev/null"}`, payload), ErrForged},
		"crit":                    {signWith(t, other, header("ES256", `,"crit":["b64"],"b64":false`), payload), ErrMalformed},
		"r = s = 0":               {raw(make([]byte, 64)), ErrForged},
		"r = 0":                   {raw(append(make([]byte, 32), signature[32:]...)), ErrForged},
		"s = 0":                   {raw(append(bytes.Clone(signature[:32]), make([]byte, 32)...)), ErrForged},
		"r = s = n":               {raw(half(n, n)), ErrForged},
		"all ones":                {raw(bytes.Repeat([]byte{0xff}, 64)), ErrForged},
		"halves swapped":          {raw(half(s, r)), ErrForged},
		"DER":                     {raw(der), ErrMalformed},
		"one byte more":           {raw(append(bytes.Clone(signature), 0)), ErrMalformed},
		"truncated":               {good[:len(good)-3], ErrMalformed},
		"one megabyte":            {good + strings.Repeat("A", 1<<20), ErrMalformed},
		"payload edited":          {p[0] + "." + encode([]byte(strings.Replace(payload, `"gen":1`, `"gen":2`, 1))) + "." + p[2], ErrForged},
		"header edited":           {encode([]byte(header("ES256", `,"x":1`))) + "." + p[1] + "." + p[2], ErrForged},
		"duplicate claims":        {m.raw(t, strings.Replace(payload, `"gen":1`, `"gen":1,"gen":2`, 1)), ErrMalformed},
		"another issuer":          {m.raw(t, strings.Replace(payload, testIssuer, "https://evil.example", 1)), ErrForged},
		"another's DID":           {m.raw(t, strings.Replace(payload, goldenAgent, "01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0f", 1)), ErrForged},
		"ours, no agent's token":  {m.raw(t, fmt.Sprintf(`{"iss":%q,"sub":"x","exp":%d}`, testIssuer, m.clock.now().Add(time.Hour).Unix())), ErrMalformed},
		"ours, of OAuth":          {m.oauth(t, payload), ErrMalformed},
	} {
		for _, seen := range []bool{false, true} {
			checker := NewChecker(mustIssuer(t, testIssuer), m.signing)
			if seen {
				if _, err := checker.Check(t.Context(), good, m.clock.now()); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if got, err := checker.Check(t.Context(), c.raw, m.clock.now()); !errors.Is(err, c.want) || !reflect.DeepEqual(got, Claims{}) {
					t.Errorf("%s (good one seen: %t): %v, want %v", name, seen, err, c.want)
				}
			}
		}
	}
}

// raw signs any payload with the key of this issuer.
func (m *mill) raw(t testing.TB, payload string) string {
	t.Helper()
	token, err := m.signing.Sign(t.Context(), keyring.TypeJWT, []byte(payload))
	must(t, err)
	return token
}

func (m *mill) oauth(t testing.TB, payload string) string {
	t.Helper()
	token, err := m.signing.Sign(t.Context(), keyring.TypeAccessToken, []byte(payload))
	must(t, err)
	return token
}

func hs256(header, payload string, key []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(input))
	return input + "." + encode(mac.Sum(nil))
}

func pemOf(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestRevokedKeyAtOnce(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	kid, _ := m.published(t)
	token := m.sign(t, m.claims(t))
	if _, err := m.check(token); err != nil {
		t.Fatal(err)
	}
	m.clock.forward(time.Second)
	must(t, m.signing.Revoke(t.Context(), m.store, kid))
	fresh := NewChecker(mustIssuer(t, testIssuer), m.signing)
	for name, c := range map[string]*Checker{"remembered": m.Checker, "fresh": fresh} {
		_, err := c.Check(t.Context(), token, m.clock.now())
		if !errors.Is(err, ErrForged) || !errors.Is(err, keyring.ErrRevokedKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.check(m.sign(t, m.claims(t))); err != nil {
		t.Errorf("a token of the key that took over: %v", err)
	}
}

func TestKeysThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	elsewhere := newMill(t)
	token, good := elsewhere.sign(t, elsewhere.claims(t)), m.sign(t, m.claims(t))
	m.store.broken = errors.New("the database is gone")
	_, err := m.check(token)
	if !problem.Is(err, problem.Unavailable) || errors.Is(err, ErrForged) {
		t.Errorf("a kid that could not be looked up: %v", err)
	}
	if _, err := m.check(good); err != nil {
		t.Errorf("a known kid: %v", err)
	}
}

// TestCheckerIsNotFooledByMemory changes each byte of a token that is remembered.
func TestCheckerIsNotFooledByMemory(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	token := m.sign(t, m.claims(t))
	if _, err := m.check(token); err != nil {
		t.Fatal(err)
	}
	for i := range token {
		b := []byte(token)
		b[i] ^= 1
		if _, err := m.check(string(b)); err == nil {
			t.Fatalf("byte %d can be another", i)
		}
	}
	for n := range token {
		if _, err := m.check(token[:n]); err == nil {
			t.Fatalf("the first %d bytes are enough", n)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(verified{}); n > 128 {
		t.Errorf("a token that is remembered takes %d bytes", n)
	}
	var s shard
	v := &verified{}
	for i := range 5 * shardLimit {
		s.put(sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)}), v)
		if n := len(s.young) + len(s.old); n > 2*shardLimit {
			t.Fatalf("%d tokens in one shard", n)
		}
	}
	first := sha256.Sum256([]byte("first"))
	s.put(first, v)
	for i := range 10 * shardLimit {
		s.put(sha256.Sum256([]byte{byte(i), byte(i >> 8), 1}), v)
		if i%100 == 0 && s.get(first) == nil {
			t.Fatal("what is used all the time is forgotten")
		}
	}
}

func TestManyCheckAtOnce(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = m.sign(t, m.claims(t))
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 200 {
				if _, err := m.check(tokens[i%len(tokens)]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		if err := m.signing.Refresh(context.Background()); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
}

func BenchmarkCheckRemembered(b *testing.B) {
	m := newMill(b)
	token, now := m.sign(b, m.claims(b)), m.clock.now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Check(b.Context(), token, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckNew(b *testing.B) {
	m := newMill(b)
	token, now := m.sign(b, m.claims(b)), m.clock.now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewChecker(m.issuer, m.signing).Check(b.Context(), token, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	m := newMill(b)
	token := m.sign(b, m.claims(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(token); err != nil {
			b.Fatal(err)
		}
	}
}
