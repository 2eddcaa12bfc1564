package keyring

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// alter changes a record behind everybody's back, as a bad disk, a bad restore or an attacker does.
func (m *memoryStore) alter(kid string, change func(*SigningKey)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = slices.Clone(m.keys)
	i := slices.IndexFunc(m.keys, func(k SigningKey) bool { return k.KID == kid })
	m.keys[i].Private = slices.Clone(m.keys[i].Private)
	change(&m.keys[i])
}

func (m *memoryStore) record(kid string) SigningKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[slices.IndexFunc(m.keys, func(k SigningKey) bool { return k.KID == kid })]
}

func unusableKIDs(s *Signing) (kids []string) {
	for _, u := range s.Unusable() {
		kids = append(kids, u.KID)
	}
	return kids
}

func mustRefresh(t *testing.T, s *Signing) {
	t.Helper()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// refused says that a token of an unusable key is one of no key of ours, and not our failure.
func refused(t *testing.T, what string, s *Signing, token string) {
	t.Helper()
	kid, input, signature := parts(t, token)
	for _, err := range []error{s.VerifySignature(t.Context(), kid, input, signature), s.KeyInForce(kid)} {
		if !errors.Is(err, ErrUnknownKey) || !errors.Is(err, ErrUnusableKey) {
			t.Errorf("%s: a token of the key: %v", what, err)
		}
	}
	if strings.Contains(string(s.JWKS()), kid) {
		t.Errorf("%s: the key is published", what)
	}
}

func good(t *testing.T, what string, s *Signing, token string) {
	t.Helper()
	kid, input, signature := parts(t, token)
	if err := errors.Join(s.VerifySignature(t.Context(), kid, input, signature), s.KeyInForce(kid)); err != nil {
		t.Errorf("%s: a token of another key: %v", what, err)
	}
	if !strings.Contains(string(s.JWKS()), kid) {
		t.Errorf("%s: another key is not published", what)
	}
}

// damages are the ways in which a record can be wrong, other is a key that somebody without the platform key made.
func damages(other SigningKey) map[string]func(*SigningKey) {
	return map[string]func(*SigningKey){
		"a byte of the private part":  func(k *SigningKey) { k.Private[len(k.Private)-1] ^= 1 },
		"half of the private part":    func(k *SigningKey) { k.Private = k.Private[:len(k.Private)/2] },
		"rubbish for a private part":  func(k *SigningKey) { k.Private = []byte("rubbish") },
		"another's private part":      func(k *SigningKey) { k.Private = other.Private },
		"another's public part":       func(k *SigningKey) { k.Public = other.Public },
		"both parts another's":        func(k *SigningKey) { k.Public, k.Private = other.Public, other.Private },
		"no public part":              func(k *SigningKey) { k.Public = nil },
		"another algorithm":           func(k *SigningKey) { k.Algorithm = "none" },
		"another use":                 func(k *SigningKey) { k.Use = "enc" },
		"times that no clock reaches": func(k *SigningKey) { k.damage = errEndless },
	}
}

// succeeded is signing keys of which the first has just handed over to the second: both are published.
func succeeded(t *testing.T) (s *Signing, m *memoryStore, c *clock, old, present string) {
	t.Helper()
	s, m, c = newSigning(t)
	c.advance(SignFor - time.Minute)
	mustRefresh(t, s)
	old = mustSign(t, s, c)
	c.advance(2 * time.Minute)
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, m, c, old, mustSign(t, s, c)
}

func stranger(t *testing.T) SigningKey {
	t.Helper()
	k, err := newSigningKey(t.Context(), mustWrapper(t, mustPlatform(t, "1:"+secondPlatformKey[2:]), ForSigning), agents)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// One record that does not open costs the tokens of that key and nothing else, whether this server has opened it before or
// not. That holds for a key that only verifies any more too: its public part, which is there and whole, is not believed.
func TestUnusableRecordCostsItsOwnTokensOnly(t *testing.T) {
	t.Parallel()
	for what, damage := range damages(stranger(t)) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, m, c, old, present := succeeded(t)
			kid, _, _ := parts(t, old)
			whole := m.record(kid)
			m.alter(kid, damage)
			for who, victim := range map[string]*Signing{"one that has opened it": s, "one that starts": NewSigning(m, s.wrapper, c.now)} {
				mustRefresh(t, victim)
				if got := victim.Unusable(); len(got) != 1 || got[0].KID != kid || got[0].Why == nil {
					t.Errorf("%s says that these are unusable: %v", who, got)
				}
				refused(t, who, victim, old)
				good(t, who, victim, present)
				good(t, who, victim, mustSign(t, victim, c))
				if err := victim.Rotate(t.Context()); err != nil {
					t.Errorf("%s: Rotate: %v", who, err)
				}
			}
			m.alter(kid, func(k *SigningKey) { *k = whole })
			mustRefresh(t, s)
			if good(t, "restored", s, old); len(s.Unusable()) != 0 {
				t.Errorf("restored, and still unusable: %v", s.Unusable())
			}
		})
	}
}

// The key that signs cannot be opened any more: the standby, which verifiers know, takes over, and its record stays as it is.
func TestDamagedSignerIsSucceeded(t *testing.T) {
	t.Parallel()
	for what, damage := range damages(stranger(t)) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, m, c, _, present := succeeded(t)
			signer, _, _ := parts(t, present)
			standby := standby(c.now(), m.keys, signer).KID
			m.alter(signer, damage)
			damaged := m.record(signer)
			mustRefresh(t, s)
			refused(t, what, s, present)
			if _, err := s.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); !errors.Is(err, ErrNoSigner) || !problem.Is(err, problem.Unavailable) {
				t.Errorf("Sign before the next rotation: %v", err)
			}
			if err := s.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			token := mustSign(t, s, c)
			if kid, _, _ := parts(t, token); kid != standby {
				t.Errorf("%s signs, not the standby", kid)
			}
			refused(t, what, s, present)
			if got := m.record(signer); string(got.Private) != string(damaged.Private) || !got.RevokedAt.IsZero() {
				t.Errorf("the damaged record was touched: %+v", got)
			}
			other := NewSigning(m, s.wrapper, c.now)
			mustRefresh(t, other)
			good(t, "another server", other, token)
		})
	}
}

// No key opens: this may be the wrong platform key, so nothing is made or changed, and the server says what it cannot do.
func TestNoKeyOpens(t *testing.T) {
	t.Parallel()
	s, m, c, old, present := succeeded(t)
	records := slices.Clone(m.keys)
	wrong := NewSigning(m, mustWrapper(t, mustPlatform(t, "1:"+secondPlatformKey[2:]), ForSigning), c.now)
	events := len(m.events)
	if err := wrong.Rotate(t.Context()); !errors.Is(err, ErrNoneOpens) {
		t.Errorf("Rotate under another platform key: %v", err)
	}
	if _, err := wrong.Sign(t.Context(), TypeJWT, claims(c, time.Hour)); !errors.Is(err, ErrNoSigner) {
		t.Errorf("Sign: %v", err)
	}
	refused(t, "another platform key", wrong, old)
	refused(t, "another platform key", wrong, present)
	if len(m.events) != events || len(m.keys) != len(records) {
		t.Error("a server that opens no key has changed the records")
	}
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	good(t, "the server with the right key", s, present)

	for _, k := range records {
		m.alter(k.KID, func(k *SigningKey) { k.Private[len(k.Private)-1] ^= 1 })
	}
	mustRefresh(t, s)
	if err := s.Rotate(t.Context()); !errors.Is(err, ErrNoneOpens) || !strings.Contains(err.Error(), records[0].KID) {
		t.Errorf("Rotate with nothing but damage: %v", err)
	}
	// What the operator can do who has no backup: revoke them all.
	for _, k := range records {
		if err := s.Revoke(t.Context(), m, k.KID); err != nil {
			t.Fatalf("revoking a key that does not open: %v", err)
		}
	}
	good(t, "after all were revoked", s, mustSign(t, s, c))
	for _, token := range []string{old, present} {
		if kid, input, signature := parts(t, token); !errors.Is(s.VerifySignature(t.Context(), kid, input, signature), ErrRevokedKey) {
			t.Error("a token of a revoked key counts")
		}
	}
}

// What a server has seen revoked stays so for it, whatever becomes of the record.
func TestRevokedKeyNeverComesBack(t *testing.T) {
	t.Parallel()
	for _, destroyed := range []bool{false, true} {
		s, m, c, _, present := succeeded(t)
		kid, input, signature := parts(t, present)
		before := m.record(kid)
		if err := s.Revoke(t.Context(), m, kid); err != nil {
			t.Fatal(err)
		}
		if !destroyed { // the server that revoked it was killed before it destroyed it
			m.alter(kid, func(k *SigningKey) { k.Private = before.Private })
		}
		revoked := m.record(kid)
		changes := damages(stranger(t))
		if destroyed { // nothing to change the bytes of
			changes = map[string]func(*SigningKey){"times that no clock reaches": changes["times that no clock reaches"]}
		}
		changes["the record of before"] = func(k *SigningKey) { *k = before }
		changes["not revoked any more"] = func(k *SigningKey) { k.RevokedAt, k.Private = time.Time{}, before.Private }
		changes["to sign again"] = func(k *SigningKey) { *k = before; k.SignsFrom = c.now() }
		for what, change := range changes {
			seen, starts := NewSigning(m, s.wrapper, c.now), NewSigning(m, s.wrapper, c.now)
			mustRefresh(t, seen)
			m.alter(kid, change)
			for range 2 { // the memory outlives the snapshot that it came with
				mustRefresh(t, seen)
				for _, err := range []error{seen.VerifySignature(t.Context(), kid, input, signature), seen.KeyInForce(kid)} {
					if !errors.Is(err, ErrRevokedKey) {
						t.Errorf("%s (destroyed: %v): %v", what, destroyed, err)
					}
				}
			}
			if strings.Contains(string(seen.JWKS()), kid) {
				t.Errorf("%s: published", what)
			}
			if next, _, _ := parts(t, mustSign(t, seen, c)); next == kid {
				t.Errorf("%s: it signs", what)
			}
			if record := m.record(kid); !record.revoked() != slices.Contains(unusableKIDs(seen), kid) {
				t.Errorf("%s: the record says revoked %v, unusable are %v", what, record.revoked(), unusableKIDs(seen))
			}
			mustRefresh(t, starts)
			if record := m.record(kid); record.revoked() && !errors.Is(starts.KeyInForce(kid), ErrRevokedKey) {
				t.Errorf("%s: one that starts says %v", what, starts.KeyInForce(kid))
			}
			m.alter(kid, func(k *SigningKey) { *k = revoked })
		}
	}
}

// A record that was seen and is gone is of no key.
func TestRecordThatIsGone(t *testing.T) {
	t.Parallel()
	s, m, _, old, present := succeeded(t)
	kid, input, signature := parts(t, old)
	m.mu.Lock()
	m.keys = slices.DeleteFunc(slices.Clone(m.keys), func(k SigningKey) bool { return k.KID == kid })
	m.mu.Unlock()
	mustRefresh(t, s)
	if err := s.VerifySignature(t.Context(), kid, input, signature); !errors.Is(err, ErrUnknownKey) {
		t.Error(err)
	}
	good(t, "the other", s, present)
}

// unreachable is a KMS that is down for new keys.
type unreachableKMS struct{ KeyWrapper }

var errKMS = errors.New("the KMS does not answer")

func (unreachableKMS) Unwrap(context.Context, Wrapped, Binding) (secret.Bytes, error) {
	return secret.Bytes{}, errKMS
}

// Not being able to look is no damage: the records that were opened before go on, and whoever needs the truth is told that
// it cannot be had.
func TestReadErrorsAreNotDamage(t *testing.T) {
	t.Parallel()
	s, m, c, old, _ := succeeded(t)
	down := errors.New("down")
	m.fail = down
	if err := s.Refresh(t.Context()); !errors.Is(err, down) {
		t.Errorf("Refresh without a database: %v", err)
	}
	if err := s.Rotate(t.Context()); !errors.Is(err, down) {
		t.Errorf("Rotate without a database: %v", err)
	}
	m.fail = nil
	good(t, "the snapshot of before", s, old)
	s.wrapper = unreachableKMS{s.wrapper}
	mustRefresh(t, s) // asks nothing of the KMS
	fresh := NewSigning(m, s.wrapper, c.now)
	for _, do := range []func(context.Context) error{fresh.Refresh, fresh.Rotate} {
		if err := do(t.Context()); !errors.Is(err, errKMS) || errors.Is(err, ErrNoneOpens) {
			t.Errorf("without a KMS: %v", err)
		}
	}
	if len(fresh.Unusable()) != 0 {
		t.Errorf("a KMS that is down makes keys unusable: %v", fresh.Unusable())
	}
	kid, input, signature := parts(t, old)
	if err := fresh.VerifySignature(t.Context(), kid, input, signature); err == nil {
		t.Error("a key that was not opened verifies")
	}
}

// In the real table: rows that only a superuser or a bad restore makes so.
func TestDamagedRows(t *testing.T) {
	t.Parallel()
	a, b, _ := platformOn(t)
	ctx, system := t.Context(), tenantdb.System(tenantdb.Platform, "signing")
	w := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning)
	s := NewSigning(NewSigningTable(a, system), w, time.Now)
	if err := s.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(t.Context(), TypeJWT, claims(&clock{at: time.Now()}, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kid, _, _ := parts(t, token)
	whole, err := s.store.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{
		`private_key = '\x00'`, `public_key = ''`, `signs_from = 'infinity'`, `signs_from = '-infinity'`, `retires_at = 'infinity'`,
		`created_at = '-infinity'`, `algorithm = 'none'`,
	} {
		update(t, a, `UPDATE avouch.signing_key SET `+set+` WHERE kid = $1`, kid)
		for _, server := range []*Signing{s, NewSigning(NewSigningTable(b, system), w, time.Now)} {
			if err := server.Refresh(ctx); err != nil {
				t.Fatalf("%s: %v", set, err)
			}
			if got := unusableKIDs(server); !slices.Equal(got, []string{kid}) {
				t.Errorf("%s: unusable are %v", set, got)
			}
			refused(t, set, server, token)
		}
		put := whole[slices.IndexFunc(whole, func(k SigningKey) bool { return k.KID == kid })]
		update(t, a, `UPDATE avouch.signing_key SET private_key = $2, public_key = $3, created_at = $4, signs_from = $5, retires_at = NULL, algorithm = $6
			WHERE kid = $1`, kid, put.Private, put.Public, put.CreatedAt, put.SignsFrom, put.Algorithm)
		if err := s.Refresh(ctx); err != nil || len(s.Unusable()) != 0 {
			t.Fatalf("%s undone: %v, %v", set, err, s.Unusable())
		}
	}
	for _, at := range []string{"infinity", "-infinity"} {
		update(t, a, `UPDATE avouch.signing_key SET revoked_at = $2::text::timestamptz WHERE kid = $1`, kid, at)
		fresh := NewSigning(NewSigningTable(b, system), w, time.Now)
		if err := fresh.Refresh(ctx); err != nil || !errors.Is(fresh.KeyInForce(kid), ErrRevokedKey) {
			t.Errorf("revoked at %s: %v, %v", at, err, fresh.KeyInForce(kid))
		}
	}
	if err := s.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(t.Context(), TypeJWT, claims(&clock{at: time.Now()}, time.Hour)); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

func update(t *testing.T, db *tenantdb.DB, sql string, args ...any) {
	t.Helper()
	err := db.Change(t.Context(), tenantdb.System(tenantdb.Platform, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		n, err := tx.Exec(t.Context(), sql, args...)
		if err == nil && n != 1 {
			t.Errorf("%s touched %d rows", sql, n)
		}
		return audit.Event{Type: "test.damaged"}, err
	})
	if err != nil {
		t.Fatal(err)
	}
}
