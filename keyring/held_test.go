package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

// cabinet is a KMS in this process, which tests can have fail. The drivers' contract is wrappertest.RunSigner.
type cabinet struct {
	mu      sync.Mutex
	keys    map[string]crypto.Signer // by names
	made    int
	busy    int // signatures under way
	busiest int
	fail    error
	keep    string // is not ended
	hang    chan struct{}
	before  func()                                            // is called before a signature
	forge   func(ref string, digest, signature []byte) []byte // what it answers instead
}

func (c *cabinet) failing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fail
}

func (c *cabinet) set(change func(*cabinet)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *cabinet) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.keys))
}

func (c *cabinet) Make(_ context.Context, algorithm, name string) (string, crypto.PublicKey, error) {
	if err := c.failing(); err != nil {
		return "", nil, err
	}
	var key crypto.Signer
	var err error
	if algorithm == RS256 {
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return "", nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	c.keys[name] = key
	return name, key.Public(), nil
}

func (c *cabinet) Sign(ctx context.Context, ref, _ string, digest []byte) ([]byte, error) {
	c.mu.Lock()
	before := c.before
	c.mu.Unlock()
	if before != nil {
		before()
	}
	c.mu.Lock()
	c.busy++
	c.busiest = max(c.busiest, c.busy)
	key, hang, forge, fail := c.keys[ref], c.hang, c.forge, c.fail
	c.mu.Unlock()
	defer c.set(func(c *cabinet) { c.busy-- })
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrSilent, ctx.Err())
		}
	}
	if fail != nil {
		return nil, fail
	}
	if key == nil {
		return nil, fmt.Errorf("%w: no such key", ErrRefused)
	}
	signature, err := key.Sign(rand.Reader, digest, crypto.SHA256)
	if _, ec := key.(*ecdsa.PrivateKey); ec && err == nil {
		signature, err = FromDER(signature)
	}
	if forge != nil && err == nil {
		signature = forge(ref, digest, signature)
	}
	return signature, err
}

func (c *cabinet) End(_ context.Context, ref string) error {
	if err := c.failing(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ref == c.keep {
		return fmt.Errorf("%w: no right to end it", ErrRefused)
	}
	delete(c.keys, ref)
	return nil
}

func newCabinet() *cabinet { return &cabinet{keys: map[string]crypto.Signer{}} }

// heldOn is a server whose signing keys are in a KMS.
func heldOn(t testing.TB, m SigningStore, c *clock, k *cabinet, makes bool) *Signing {
	t.Helper()
	s := NewSigning(m, mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning), func() time.Time { c.advance(time.Microsecond); return c.now() })
	s.Hold(Held{Signer: k, ID: "cabinet", Make: makes, Installation: "Avouch.Example:7070", Patience: 300 * time.Millisecond})
	return s
}

func newHeld(t testing.TB) (*Signing, *memoryStore, *clock, *cabinet) {
	t.Helper()
	m, c, k := &memoryStore{}, newClock(), newCabinet()
	s := heldOn(t, m, c, k, true)
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, m, c, k
}

// namedBy is which keys of the KMS the records name that are not destroyed.
func namedBy(t testing.TB, m *memoryStore) (names []string) {
	t.Helper()
	w := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning)
	for _, k := range m.keys {
		if _, held, err := k.sealed(); err != nil || !held {
			continue
		}
		r, err := k.reference(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Key)
	}
	slices.Sort(names)
	return names
}

// TestOthersVerifyHeldKeysTokens: what a KMS signs, of each line, another implementation checks with what is published, and nothing private
// is in the records.
func TestOthersVerifyHeldKeysTokens(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	for _, algorithm := range []string{ES256, RS256} {
		if err := s.Ensure(t.Context(), algorithm); err != nil {
			t.Fatal(err)
		}
	}
	var set, people jose.JSONWebKeySet
	if err := errors.Join(json.Unmarshal(s.JWKS(), &set), json.Unmarshal(s.PeopleJWKS(), &people)); err != nil {
		t.Fatal(err)
	}
	check := func(keys jose.JSONWebKeySet, algorithm jose.SignatureAlgorithm, token string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{algorithm})
		if err != nil {
			t.Fatal(err)
		}
		found := keys.Key(jws.Signatures[0].Header.KeyID)
		if len(found) != 1 {
			t.Fatalf("%d keys", len(found))
		}
		if payload, err := jws.Verify(found[0]); err != nil || !strings.Contains(string(payload), "did:web") {
			t.Errorf("%s: %v", payload, err)
		}
	}
	token, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour))
	check(set, jose.ES256, token, err)
	for _, algorithm := range []string{ES256, RS256} {
		token, err := s.SignSession(t.Context(), algorithm, claims(c, time.Hour))
		check(people, jose.SignatureAlgorithm(algorithm), token, err)
	}
	st, err := s.State(t.Context(), StatementVerified, []Line{{"a", "b"}}, c.now().Add(time.Hour))
	if err != nil || len(st.Signature) != 86 {
		t.Errorf("%+v, %v", st, err)
	}
	if got := namedBy(t, m); len(got) != len(m.keys) || !slices.Equal(got, k.names()) {
		t.Errorf("%d records name %v, and there are %v", len(m.keys), got, k.names())
	}
	for _, name := range k.names() {
		if !strings.HasPrefix(name, "avouch-avouch-example-7070-") || len(name) > 63 {
			t.Errorf("a key is called %s", name)
		}
	}
	for _, o := range s.set.Load().opened {
		if o.private != nil {
			t.Error("a private key is in memory")
		}
	}
	if e := m.events[0]; e.Type != "signing_key.created" || !slices.Contains(e.Public, audit.Field{Name: "held_in", Value: "cabinet"}) {
		t.Errorf("the entry is %+v", e)
	}
}

// TestHeldRecordsAreProved: a record that names another key of the KMS, or is another's in any part, is no key: only who has the platform
// key says which key a kid is.
func TestHeldRecordsAreProved(t *testing.T) {
	t.Parallel()
	s, m, c, _ := newHeld(t)
	local, err := newSigningKey(t.Context(), s.wrapper, agents)
	if err != nil {
		t.Fatal(err)
	}
	evil := heldOn(t, &memoryStore{}, c, newCabinet(), true)
	evil.wrapper = mustWrapper(t, mustPlatform(t, "1:"+secondPlatformKey[2:]), ForSigning)
	theirs, err := evil.newKey(t.Context(), agents)
	if err != nil {
		t.Fatal(err)
	}
	own, other := m.keys[0], m.keys[1]
	plain, err := json.Marshal(reference{"cabinet", "another's"})
	if err != nil {
		t.Fatal(err)
	}
	// The right wrapper, for another place: what an attacker could have from a wrapper that wraps anything.
	elsewhere, err := s.wrapper.Wrap(t.Context(), secret.Own(plain), (&SigningKey{KID: own.KID, Use: useSession}).binding(true))
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*SigningKey){
		"another's name":                 func(k *SigningKey) { k.Private = other.Private },
		"another's public part":          func(k *SigningKey) { k.Public = other.Public },
		"a name and a part of strangers": func(k *SigningKey) { k.Private, k.Public = theirs.Private, theirs.Public },
		"all of strangers":               func(k *SigningKey) { *k = theirs; k.SignsFrom = own.SignsFrom },
		"a name for another use":         func(k *SigningKey) { k.Private = seal(elsewhere, true) },
		"another use":                    func(k *SigningKey) { k.Use = useSession },
		"another algorithm":              func(k *SigningKey) { k.Algorithm = RS256 },
		"a name that says it is a key":   func(k *SigningKey) { k.Private = k.Private[len(heldMagic):] },
		"a key that says it is a name":   func(k *SigningKey) { *k = local; k.Private = append([]byte(heldMagic), k.Private...) },
		"a kid that is the other's":      func(k *SigningKey) { k.KID = strings.Repeat("A", thumbprintSize) },
		"a byte":                         func(k *SigningKey) { k.Private[len(k.Private)-1] ^= 1 },
		"no public part":                 func(k *SigningKey) { k.Public = nil },
	} {
		bad := own
		bad.Private = slices.Clone(own.Private)
		change(&bad)
		forged := &memoryStore{keys: []SigningKey{bad, other}}
		for who, known := range map[string]bool{"one that starts": false, "one that has opened it": true} {
			victim := NewSigning(forged, s.wrapper, c.now)
			victim.held = s.held
			if known {
				victim.set.Store(s.set.Load())
			}
			mustRefresh(t, victim)
			if !slices.Equal(unusableKIDs(victim), []string{bad.KID}) || strings.Contains(string(victim.JWKS()), `"`+bad.KID) || strings.Contains(string(victim.PeopleJWKS()), `"`+bad.KID) {
				t.Errorf("%s, to %s: unusable are %v", what, who, unusableKIDs(victim))
			}
		}
	}
}

// TestWrongSignatureIsNoToken: whatever the KMS answers, if it is no signature by the key of the record over these bytes, there is no token.
func TestWrongSignatureIsNoToken(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	before := mustSign(t, s, c)
	kid, input, signature := parts(t, before)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := func(_ string, digest, raw []byte) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
		if err != nil {
			t.Error(err)
		}
		return b
	}
	for what, forge := range map[string]func(string, []byte, []byte) []byte{
		"nothing": func(string, []byte, []byte) []byte { return nil }, "zeros": func(string, []byte, []byte) []byte { return make([]byte, 64) },
		"one of before": func(string, []byte, []byte) []byte { return signature }, "another form": der,
		"a byte": func(_ string, _, raw []byte) []byte { raw[7] ^= 1; return raw }, "too long": func(_ string, _, raw []byte) []byte { return append(raw, 0) },
		"another key's": func(_ string, digest, _ []byte) []byte {
			b, err := stranger.Sign(rand.Reader, digest, crypto.SHA256)
			raw, err2 := FromDER(b)
			if err != nil || err2 != nil {
				t.Error(err, err2)
			}
			return raw
		},
	} {
		k.set(func(k *cabinet) { k.forge = forge })
		token, err := s.Sign(t.Context(), TypeJWT, claims(c, 2*time.Hour))
		if token != "" || !errors.Is(err, ErrWrongSignature) || !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: %q, %v", what, token, err)
		}
		if st, err := s.State(t.Context(), StatementVerified, nil, c.now().Add(time.Hour)); st.Signature != "" || !errors.Is(err, ErrWrongSignature) {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
		if err := s.Ensure(t.Context(), ES256); !errors.Is(err, ErrWrongSignature) {
			t.Errorf("%s: a key that signs wrongly is taken: %v", what, err)
		}
	}
	k.set(func(k *cabinet) { k.forge = nil })
	// The KMS's key is replaced under its name, all of them.
	k.set(func(k *cabinet) {
		for name := range k.keys {
			k.keys[name] = stranger
		}
	})
	if _, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); !errors.Is(err, ErrWrongSignature) {
		t.Errorf("by a key that was replaced: %v", err)
	}
	if err := s.VerifySignature(t.Context(), kid, input, signature); err != nil {
		t.Errorf("a token of before: %v", err)
	}
	if all := s.Refusing(t.Context()); len(all) != 2 || !errors.Is(all[0].Why, ErrWrongSignature) {
		t.Errorf("refusing: %+v", all)
	}
	for says, want := range map[error]int{errors.New("an answer of another form"): 2, fmt.Errorf("%w: no answer", ErrSilent): 0} {
		k.set(func(k *cabinet) { k.fail = says })
		if all := s.Refusing(t.Context()); len(all) != want {
			t.Errorf("refusing with %v: %+v", says, all)
		}
	}
	k.set(func(k *cabinet) { k.fail = nil })
	// The keys that were made for the line that signed wrongly are ended.
	if err := s.Rotate(t.Context()); err != nil || !slices.Equal(k.names(), namedBy(t, m)) {
		t.Errorf("%v; there are %v, and the records name %v", err, k.names(), namedBy(t, m))
	}
}

// TestRevokedKeySignsNothing: from when Revoke returns, what another server signs is by the successor, though it has read no record since;
// where a KMS holds the keys, also if the key is revoked and ended between the reading and the signature.
func TestRevokedKeySignsNothing(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		m, c, k := &memoryStore{}, newClock(), newCabinet()
		var both [2]*Signing
		for i := range both {
			if both[i] = heldOn(t, m, c, k, held); both[i].Rotate(t.Context()) != nil {
				t.Fatal("no keys")
			}
			if err := both[i].Ensure(t.Context(), ES256); err != nil {
				t.Fatal(err)
			}
		}
		server, operator := both[0], both[1]
		revoke := func(kid string) {
			t.Helper()
			if err := operator.Revoke(t.Context(), m, kid); err != nil {
				t.Fatal(err)
			}
		}
		kids := map[string]bool{}
		takesOver := func(what, kid string, err error) {
			t.Helper()
			if err != nil || kids[kid] {
				t.Errorf("held: %v, %s: signed by %s, %v", held, what, kid, err)
			}
			kids[kid] = true
		}
		first, _, _ := parts(t, mustSign(t, server, c))
		session, _, _ := parts(t, mustSignSession(t, server, c, ES256))
		kids[first], kids[session] = true, true
		revoke(first)
		st, err := server.State(t.Context(), StatementVerified, nil, c.now().Add(time.Hour))
		takesOver("a statement", st.KID, err)
		revoke(st.KID)
		kid, _, _ := parts(t, mustSign(t, server, c))
		takesOver("a token", kid, nil)
		revoke(session)
		session, _, _ = parts(t, mustSignSession(t, server, c, ES256))
		takesOver("a person's token", session, nil)
		if !held {
			continue
		}
		k.set(func(k *cabinet) {
			k.before = func() {
				k.set(func(k *cabinet) { k.before = nil })
				revoke(kid)
			}
		})
		kid, _, _ = parts(t, mustSign(t, server, c))
		takesOver("a token whose key is ended on the way", kid, nil)
	}
}

// TestSilentKMS: while the KMS hangs or refuses, nothing is signed, in bounded time and with bounded calls; what was signed before is
// checked as ever, on servers that start then too.
func TestSilentKMS(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	kid, input, signature := parts(t, mustSign(t, s, c))
	released := make(chan struct{})
	k.set(func(k *cabinet) { k.hang = released })
	var done sync.WaitGroup
	began := time.Now()
	for range 100 {
		done.Go(func() {
			if token, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); token != "" || !errors.Is(err, ErrSilent) || !problem.Is(err, problem.Unavailable) {
				t.Errorf("%q, %v", token, err)
			}
		})
	}
	done.Wait()
	if took := time.Since(began); took > 5*time.Second || k.busiest > 16 {
		t.Errorf("a hundred waited for %s, and %d asked at once", took, k.busiest)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sign(gone, TypeJWT, claims(c, time.Hour)); !errors.Is(err, context.Canceled) {
		t.Errorf("for a caller who is gone: %v", err)
	}
	if err := s.VerifySignature(t.Context(), kid, input, signature); err != nil {
		t.Errorf("while it hangs: %v", err)
	}
	close(released)
	k.set(func(k *cabinet) { k.hang, k.fail = nil, fmt.Errorf("%w: status 403", ErrRefused) })
	if _, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); !errors.Is(err, ErrRefused) || !problem.Is(err, problem.Unavailable) {
		t.Errorf("while it refuses: %v", err)
	}
	for what, other := range map[string]*Signing{"with the KMS": heldOn(t, m, c, k, true), "that was not given it": NewSigning(m, s.wrapper, c.now)} {
		mustRefresh(t, other)
		if err := other.VerifySignature(t.Context(), kid, input, signature); err != nil || len(other.Unusable()) != 0 {
			t.Errorf("a server that starts %s: %v, %v", what, err, other.Unusable())
		}
		if _, err := other.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); !problem.Is(err, problem.Unavailable) {
			t.Errorf("a server that starts %s: %v", what, err)
		}
	}
	k.set(func(k *cabinet) { k.fail = nil })
	mustSign(t, s, c)
}

// TestHeldKeysRotateTogether: four servers make one key a quarter between them, and what the others made in vain is ended; the KMS holds
// what the records name, and nothing else.
func TestHeldKeysRotateTogether(t *testing.T) {
	t.Parallel()
	m, c, k := &memoryStore{}, newClock(), newCabinet()
	var servers []*Signing
	for range 4 {
		servers = append(servers, heldOn(t, m, c, k, true))
	}
	for range 8 {
		var done sync.WaitGroup
		for _, s := range servers {
			done.Go(func() {
				if err := s.Rotate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if got := k.names(); !slices.Equal(got, namedBy(t, m)) {
			t.Fatalf("there are %v, and the records name %v", got, namedBy(t, m))
		}
		tokens := map[string]bool{}
		for _, s := range servers {
			mustRefresh(t, s)
			kid, _, _ := parts(t, mustSign(t, s, c))
			tokens[kid] = true
		}
		if len(tokens) != 1 {
			t.Fatalf("%d signers at once", len(tokens))
		}
		c.advance(SignFor)
	}
	if len(m.keys) != 9 {
		t.Errorf("%d keys, of %d that were made", len(m.keys), k.made)
	}
}
