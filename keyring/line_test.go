package keyring

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// withSessions has keys of all three lines.
func withSessions(t testing.TB) (*Signing, *memoryStore, *clock) {
	t.Helper()
	s, m, c := newSigning(t)
	for _, alg := range []string{ES256, RS256} {
		if err := s.Ensure(context.Background(), alg); err != nil {
			t.Fatal(err)
		}
	}
	return s, m, c
}

func mustSignSession(t testing.TB, s *Signing, c *clock, alg string) string {
	t.Helper()
	token, err := s.SignSession(t.Context(), alg, claims(c, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestLinesBeginWhenAskedFor(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := newSigning(t)
	if _, err := s.SignSession(t.Context(), ES256, claims(c, time.Hour)); !errors.Is(err, ErrNoSigner) {
		t.Errorf("before anybody asked, a person's token is signed: %v", err)
	}
	for _, alg := range []string{"HS256", "none", "", "PS256", "ES384"} {
		if err := s.Ensure(ctx, alg); err == nil || len(m.keys) != 2 {
			t.Errorf("%q: %v, %d keys", alg, err, len(m.keys))
		}
	}
	other := signingOn(t, m, c)
	var done sync.WaitGroup
	for i := range 20 {
		done.Go(func() {
			if err := []*Signing{s, other}[i%2].Ensure(ctx, RS256); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	// Whoever comes second, on another server, makes the standby.
	if keys := (line{useSession, RS256}).of(m.keys); len(keys) == 0 || len(keys) > 2 || len(keys) == 2 && !keys[1].SignsFrom.After(c.now().Add(PublishAhead)) {
		t.Errorf("twenty callers on two servers made %+v", keys)
	}
	// Every server rotates from then on what one was asked for.
	if err := other.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(line{useSession, RS256}.of(m.keys)); n != 2 || len(line{useSession, ES256}.of(m.keys)) != 0 || len(agents.of(m.keys)) != 2 {
		t.Errorf("the keys are %+v", m.keys)
	}
	for _, ev := range m.events[2:] {
		if !slices.Contains(ev.Public, audit.Field{Name: "use", Value: useSession}) || !slices.Contains(ev.Public, audit.Field{Name: "algorithm", Value: RS256}) {
			t.Errorf("the entry of a person's key is %+v", ev)
		}
	}
}

// TestLinesRotateApart goes through three years of all lines: each has one signer, and a standby that was published ahead.
func TestLinesRotateApart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := newSigning(t)
	if err := s.Ensure(ctx, ES256); err != nil {
		t.Fatal(err)
	}
	all := []line{agents, {useSession, ES256}}
	for range 12 {
		if err := s.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			keys := l.of(m.keys)
			signer := signerAt(c.now(), keys)
			if signer == nil || signer.line() != l || standby(c.now(), keys, signer.KID) == nil {
				t.Fatalf("%v is signed by %+v", l, signer)
			}
		}
		kid, _, _ := parts(t, mustSign(t, s, c))
		other, _, _ := parts(t, mustSignSession(t, s, c, ES256))
		if kid == other {
			t.Fatal("one key signs for both")
		}
		c.advance(SignFor)
	}
	for _, l := range all {
		if n := len(l.of(m.keys)); n != 13 {
			t.Errorf("%v has %d keys", l, n)
		}
	}
}

func TestOthersVerifyPeoplesTokens(t *testing.T) {
	t.Parallel()
	s, _, c := withSessions(t)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.PeopleJWKS(), &set); err != nil {
		t.Fatal(err)
	}
	for alg, want := range map[string]jose.SignatureAlgorithm{ES256: jose.ES256, RS256: jose.RS256} {
		token := mustSignSession(t, s, c, alg)
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{want})
		if err != nil {
			t.Fatal(err)
		}
		h := jws.Signatures[0].Header
		keys := set.Key(h.KeyID)
		if len(keys) != 1 || h.ExtraHeaders["typ"] != TypeAccessToken || keys[0].Algorithm != alg || !keys[0].Valid() {
			t.Fatalf("%s: %d keys for %q of type %v", alg, len(keys), h.KeyID, h.ExtraHeaders["typ"])
		}
		if _, err := jws.Verify(keys[0]); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		sum, err := keys[0].Thumbprint(crypto.SHA256)
		if err != nil || base64.RawURLEncoding.EncodeToString(sum) != h.KeyID {
			t.Errorf("%s: the kid is not the thumbprint: %v", alg, err)
		}
		kid, input, signature := parts(t, token)
		if err := s.VerifySession(context.Background(), alg, kid, input, signature); err != nil {
			t.Error(err)
		}
		if key, ok := keys[0].Key.(*rsa.PublicKey); ok && key.N.BitLen() < 3072 {
			t.Errorf("the RSA key has %d bits", key.N.BitLen())
		}
	}
}

// TestKeySetsAreApart: who has one set, and looks at nothing but signatures, takes nothing of the other use.
func TestKeySetsAreApart(t *testing.T) {
	t.Parallel()
	s, _, c := withSessions(t)
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	var agentsSet, peopleSet jose.JSONWebKeySet
	for set, document := range map[*jose.JSONWebKeySet][]byte{&agentsSet: s.JWKS(), &peopleSet: s.PeopleJWKS()} {
		if err := json.Unmarshal(document, set); err != nil {
			t.Fatal(err)
		}
	}
	if len(agentsSet.Keys) != 2 || len(peopleSet.Keys) != 4 {
		t.Errorf("published are %d and %d keys", len(agentsSet.Keys), len(peopleSet.Keys))
	}
	for _, k := range agentsSet.Keys {
		if len(peopleSet.Key(k.KeyID)) != 0 || k.Algorithm != ES256 {
			t.Errorf("%s is in both", k.KeyID)
		}
	}
	for _, alg := range []string{ES256, RS256} {
		jws, err := jose.ParseSignedCompact(mustSignSession(t, s, c, alg), []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jws.Verify(agentsSet); err == nil {
			t.Errorf("a person's token of %s is good by agents' keys", alg)
		}
		if _, err := jws.Verify(peopleSet); err != nil {
			t.Errorf("a person's token of %s: %v", alg, err)
		}
	}
	w := httptest.NewRecorder()
	s.ServePeopleJWKS(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Body.String() != string(s.PeopleJWKS()) || w.Header().Get("Content-Type") != "application/jwk-set+json" || w.Header().Get("ETag") == "" {
		t.Errorf("served is %s with %v", w.Body, w.Header())
	}
}

// TestUsesAreKeptApart presents each token to each verifier: only its own takes it.
func TestUsesAreKeptApart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, _, c := withSessions(t)
	oauth, err := s.Sign(t.Context(), TypeAccessToken, claims(c, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string]string{"agent": mustSign(t, s, c), "oauth": oauth, ES256: mustSignSession(t, s, c, ES256), RS256: mustSignSession(t, s, c, RS256)} {
		kid, input, signature := parts(t, token)
		verifiers := map[string]func() error{"agent": func() error { return s.VerifySignature(ctx, kid, input, signature) }}
		for _, alg := range []string{ES256, RS256, "HS256", "none", "", "es256"} {
			verifiers[alg] = func() error { return s.VerifySession(ctx, alg, kid, input, signature) }
		}
		for verifier, verify := range verifiers {
			err := verify()
			own := verifier == what || verifier == "agent" && what == "oauth"
			if own && err != nil || !own && !errors.Is(err, ErrUnknownKey) {
				t.Errorf("a token of %s for the verifier of %s: %v", what, verifier, err)
			}
		}
	}
	if _, err := s.sign(t.Context(), line{useSession, ES256}, TypeJWT, claims(c, time.Hour)); err == nil {
		t.Error("a person's key signs what has the type of an agent's token")
	}
	for _, l := range []line{{useToken, RS256}, {useSession, "HS256"}, {"", ""}} {
		if _, err := s.sign(t.Context(), l, TypeAccessToken, claims(c, time.Hour)); !errors.Is(err, ErrNoSigner) {
			t.Errorf("a key of %v signs: %v", l, err)
		}
	}
}

func TestForgedRS256(t *testing.T) {
	t.Parallel()
	s, _, c := withSessions(t)
	kid, input, signature := parts(t, mustSignSession(t, s, c, RS256))
	public := s.set.Load().opened[kid].private.Public()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(input))
		return m.Sum(nil)
	}
	forged := map[string][]byte{
		"none": nil, "a byte less": signature[1:], "a byte more": append(slices.Clone(signature), 0), "a zero before": append([]byte{0}, signature...),
		"zeros": make([]byte, len(signature)), "one": append(make([]byte, len(signature)-1), 1), "another byte": append([]byte{signature[0] ^ 1}, signature[1:]...),
		"the modulus": public.(*rsa.PublicKey).N.Bytes(), "HMAC by DER": mac(der), "HMAC by JWKS": mac(s.PeopleJWKS()),
		"HMAC by PEM": mac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "64 bytes": signature[:64],
	}
	other, err := line{useSession, RS256}.generate()
	if err != nil {
		t.Fatal(err)
	}
	if forged["another key"], err = sign(other, []byte(input)); err != nil {
		t.Fatal(err)
	}
	for what, sig := range forged {
		if err := s.VerifySession(context.Background(), RS256, kid, input, sig); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.VerifySession(context.Background(), RS256, kid, input+"x", signature); !errors.Is(err, ErrBadSignature) {
		t.Errorf("other bytes: %v", err)
	}
}

// TestRewrittenUsesAreNoKeys is an attacker who writes the database: no key can be made into one of another line.
func TestRewrittenUsesAreNoKeys(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := withSessions(t)
	for _, k := range m.keys {
		for _, to := range []line{agents, {useSession, ES256}, {useSession, RS256}, {useToken, RS256}, {"", ES256}} {
			if to == k.line() {
				continue
			}
			forged := &memoryStore{keys: slices.Clone(m.keys)}
			for i := range forged.keys {
				if forged.keys[i].KID == k.KID {
					forged.keys[i].Use, forged.keys[i].Algorithm = to.use, to.algorithm
				}
			}
			victim := NewSigning(forged, s.wrapper, c.now)
			if err := victim.Refresh(ctx); err != nil || !slices.Equal(unusableKIDs(victim), []string{k.KID}) {
				t.Errorf("%v as %v: %v, unusable are %v", k.line(), to, err, victim.Unusable())
			}
			if strings.Contains(string(victim.JWKS())+string(victim.PeopleJWKS()), k.KID) {
				t.Errorf("%v as %v is published", k.line(), to)
			}
		}
	}
}

// TestLinesFailApart damages all keys of one line: it makes no others, and the other lines go on.
func TestLinesFailApart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := withSessions(t)
	for i := range m.keys {
		if m.keys[i].line() == (line{useSession, ES256}) {
			m.keys[i].Private = slices.Concat(m.keys[i].Private, []byte{0})
		}
	}
	before := len(m.keys)
	err := s.Rotate(ctx)
	if !errors.Is(err, ErrNoneOpens) || len(line{useSession, ES256}.of(m.keys)) != 1 || len(m.keys) != before+1 { // the standby of RS256
		t.Errorf("%v; of %d keys there are %d", err, before, len(m.keys))
	}
	if _, err := s.SignSession(t.Context(), ES256, claims(c, time.Hour)); !errors.Is(err, ErrNoSigner) {
		t.Errorf("the damaged line signs: %v", err)
	}
	if err := s.Ensure(ctx, ES256); !errors.Is(err, ErrNoneOpens) {
		t.Errorf("it is begun anew: %v", err)
	}
	mustSign(t, s, c)
	mustSignSession(t, s, c, RS256)
	// A damaged key of agents, the only one, makes no other, though those of people open.
	s, m, _ = withSessions(t)
	for i := range m.keys {
		if m.keys[i].line() == agents {
			m.keys[i].Algorithm = "HS256"
		}
	}
	before = len(m.keys)
	if err := s.Rotate(ctx); !errors.Is(err, ErrNoneOpens) || len(m.keys) != before+2 {
		t.Errorf("%v; of %d keys there are %d", err, before, len(m.keys))
	}
}

func TestRevokedPeoplesKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, m, c := withSessions(t)
	for _, alg := range []string{ES256, RS256} {
		kid, input, signature := parts(t, mustSignSession(t, s, c, alg))
		other := NewSigning(m, s.wrapper, s.now) // knows nothing of the key yet
		if err := other.Revoke(ctx, m, kid); err != nil {
			t.Fatal(err)
		}
		if err := s.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.VerifySession(ctx, alg, kid, input, signature); !errors.Is(err, ErrRevokedKey) {
			t.Errorf("%s: %v", alg, err)
		}
		if next, _, _ := parts(t, mustSignSession(t, s, c, alg)); next == kid || s.set.Load().opened[next].of != (line{useSession, alg}) {
			t.Errorf("%s: the successor is %s", alg, next)
		}
	}
	if len(agents.of(m.keys)) != 2 {
		t.Error("agents' keys changed")
	}
}

// TestSeedMark: seeds that make the same codes have the same name in one organisation, on all servers; others have others, and in other
// organisations they have others too.
func TestSeedMark(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	other := newTenant(t, r)
	mark := func(r *Ring, of tenantdb.TenantID, seed string) string {
		t.Helper()
		m, err := r.SeedMark(context.Background(), of, []byte(seed))
		if err != nil || len(m) != 32 {
			t.Fatal(m, err)
		}
		return string(m)
	}
	long := strings.Repeat("x", 64)
	one := mark(r, tenant, "12345678901234567890")
	if one != mark(ringOn(t, r.store.dir, nil), tenant, "12345678901234567890") || one != mark(r, tenant, "12345678901234567890\x00\x00") {
		t.Error("the same seed has two names")
	}
	if one == mark(r, other, "12345678901234567890") || one == mark(r, tenant, "12345678901234567891") || one == mark(r, tenant, "\x0012345678901234567890") {
		t.Error("two seeds have one name")
	}
	if mark(r, tenant, long) == mark(r, tenant, long+"\x00") { // of which HMAC takes a hash
		t.Error("two long seeds have one name")
	}
}

func TestDerive(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	other := newTenant(t, r)
	derive := func(r *Ring, of tenantdb.TenantID, purpose, message string) [32]byte {
		t.Helper()
		d, err := r.Derive(ctx, of, purpose, []byte(message))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	one := derive(r, tenant, "a", "bc")
	if derive(ringOn(t, r.store.dir, nil), tenant, "a", "bc") != one {
		t.Error("another server derives otherwise")
	}
	for what, d := range map[string][32]byte{"tenant": derive(r, other, "a", "bc"), "purpose": derive(r, tenant, "ab", "c"), "message": derive(r, tenant, "a", "bd"), "nothing": derive(r, tenant, "", "")} {
		if d == one {
			t.Errorf("another %s, the same secret", what)
		}
	}
	// A pseudonym is no part of what is derived: it is known to everybody.
	name, err := r.Pseudonym(ctx, tenant, "a", "bc")
	if err != nil || strings.HasPrefix(fmt.Sprintf("%x", one), name) {
		t.Error(err)
	}
	if _, err := r.Derive(ctx, tenantdb.NewTenantID(), "a", nil); !errors.Is(err, ErrUnknownTenant) {
		t.Errorf("of a tenant without keys: %v", err)
	}
	if _, err := r.Renew(ctx, tenant, UsePseudonym); err != nil || derive(r, tenant, "a", "bc") == one {
		t.Errorf("after the key was renewed nothing changed: %v", err)
	}
}
