package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/audit"
)

// uncertain is a store whose answers are lost: the change is made, or not, and nobody is told.
type uncertain struct {
	*memoryStore
	lose, store bool
}

func (u *uncertain) Change(ctx context.Context, decide func([]SigningKey) (SigningKey, audit.Event, bool)) error {
	if u.lose && !u.store {
		decide(slices.Clone(u.keys))
		return errors.New("outcome unknown")
	}
	err := u.memoryStore.Change(ctx, decide)
	if u.lose {
		return errors.Join(err, errors.New("outcome unknown"))
	}
	return err
}

// TestKeysOfUnknownOutcome: a key whose record may be there is not ended before it is sure that it is not.
func TestKeysOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		m, c, k := &memoryStore{}, newClock(), newCabinet()
		u := &uncertain{m, true, stored}
		s := heldOn(t, u, c, k, true)
		if err := s.Rotate(t.Context()); err == nil {
			t.Error("nobody is told")
		}
		first := k.names()
		if len(first) != 1 {
			t.Fatalf("there are %v", first)
		}
		u.lose = false
		if err := s.Rotate(t.Context()); err != nil || !slices.Contains(k.names(), first[0]) {
			t.Errorf("stored %t: a moment later: %v, %v", stored, k.names(), err)
		}
		c.advance(strayAge + time.Second)
		if err := s.Rotate(t.Context()); err != nil || slices.Contains(k.names(), first[0]) != stored || !slices.Equal(k.names(), namedBy(t, m)) {
			t.Errorf("stored %t: later: there are %v, the records name %v, %v", stored, k.names(), namedBy(t, m), err)
		}
	}
}

// TestHeldKeysEnd: a key is ended in the KMS when its record's time is over, and before the record says so; a KMS that does not end it
// keeps nothing else from being done, and is asked again.
func TestHeldKeysEnd(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	old := namedBy(t, m)[0]
	kid := m.keys[0].KID
	c.advance(SignFor + time.Minute)
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.advance(MaxTokenLife + 2*margin)
	k.set(func(k *cabinet) { k.fail = fmt.Errorf("%w: no right to end keys", ErrRefused) })
	if err := s.Rotate(t.Context()); !errors.Is(err, ErrNotEnded) || len(m.record(kid).Private) == 0 {
		t.Errorf("while it refuses: %v", err)
	}
	if len(s.set.Load().keys) != 3 {
		t.Errorf("%d keys", len(s.set.Load().keys))
	}
	places, err := s.Places(t.Context())
	if err != nil || len(places) != 3 || places[0].State != "retired" || places[0].KMS != "cabinet" || !places[0].Given || places[0].Key == "" || places[1].State != "signs" || places[2].State != "next" {
		t.Errorf("%+v, %v", places, err)
	}
	lost := NewSigning(m, s.wrapper, c.now) // a server that was not given the KMS
	if places, err := lost.Places(t.Context()); err != nil || places[1].Given {
		t.Errorf("%+v, %v", places, err)
	}
	if err := lost.Rotate(t.Context()); !errors.Is(err, ErrNotEnded) || len(m.record(kid).Private) == 0 {
		t.Errorf("without the KMS: %v", err)
	}
	k.set(func(k *cabinet) { k.fail = nil })
	if err := s.Rotate(t.Context()); err != nil || len(m.record(kid).Private) != 0 || !slices.Equal(k.names(), namedBy(t, m)) || len(k.names()) != 2 {
		t.Errorf("%v, %v of %s", err, k.names(), old)
	}
}

// TestOneThatIsKept: a key that the KMS does not end keeps no other from its end, and nothing from being made.
func TestOneThatIsKept(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	first, second := m.keys[0].KID, m.keys[1].KID
	ref, err := m.keys[0].reference(t.Context(), s.wrapper)
	if err != nil {
		t.Fatal(err)
	}
	k.set(func(k *cabinet) { k.keep = ref.Key })
	for _, kid := range []string{first, second} {
		if err := s.Revoke(t.Context(), m, kid); err != nil {
			t.Fatal(err)
		}
	}
	if rec, other := m.record(first), m.record(second); rec.destroyed() || !other.destroyed() || !slices.Equal(k.names(), namedBy(t, m)) || len(k.names()) != 3 {
		t.Errorf("destroyed %t and %t; there are %v", rec.destroyed(), other.destroyed(), k.names())
	}
	mustSign(t, s, c)
}

// TestRevokedWithoutTheKMS: an emergency does not wait for the KMS: the standby takes over at once, and the key is ended there later.
func TestRevokedWithoutTheKMS(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	kid, input, signature := parts(t, mustSign(t, s, c))
	k.set(func(k *cabinet) { k.fail = fmt.Errorf("%w: out", ErrSilent) })
	if err := s.Revoke(t.Context(), m, kid); err != nil {
		t.Fatal(err)
	}
	if err := s.VerifySignature(t.Context(), kid, input, signature); !errors.Is(err, ErrRevokedKey) {
		t.Errorf("its tokens: %v", err)
	}
	if len(m.keys) != 2 {
		t.Errorf("%d records", len(m.keys))
	}
	// There is nobody left to take over from the second: it goes on signing, and that is said.
	if err := s.Revoke(t.Context(), m, m.keys[1].KID); !errors.Is(err, ErrSilent) {
		t.Errorf("without a successor: %v", err)
	}
	k.set(func(k *cabinet) { k.fail = nil })
	if err := s.Revoke(t.Context(), m, m.keys[1].KID); err != nil {
		t.Error(err)
	}
	if next, _, _ := parts(t, mustSign(t, s, c)); next == kid || next == m.keys[1].KID {
		t.Error("a revoked key signs")
	}
	if !slices.Equal(k.names(), namedBy(t, m)) || len(k.names()) != 2 {
		t.Errorf("there are %v, and the records name %v", k.names(), namedBy(t, m))
	}
}

// TestSettingIsForNewKeys: keys are where they were made, whatever the setting says later, and verify and sign until they retire, there
// and back.
func TestSettingIsForNewKeys(t *testing.T) {
	t.Parallel()
	m, c, k := &memoryStore{}, newClock(), newCabinet()
	tokens := map[string]string{}
	for _, makes := range []bool{false, true, false} {
		s := heldOn(t, m, c, k, makes)
		for range 3 {
			if err := s.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			token := mustSign(t, s, c)
			kid, _, _ := parts(t, token)
			for kid, old := range tokens {
				_, input, signature := parts(t, old)
				if rec := m.record(kid); rec.published(c.now()) {
					if err := s.VerifySignature(t.Context(), kid, input, signature); err != nil {
						t.Errorf("a token of %s: %v", kid, err)
					}
				}
			}
			tokens[kid] = token
			c.advance(SignFor)
		}
	}
	held := 0
	for _, ev := range m.events {
		if ev.Type == "signing_key.created" && slices.ContainsFunc(ev.Public, func(f audit.Field) bool { return f.Name == "held_in" }) {
			held++
		}
	}
	if held != 3 || len(m.keys) != 10 {
		t.Errorf("%d of %d keys were made in the KMS", held, len(m.keys))
	}
	s := heldOn(t, m, c, k, false)
	if err := s.Rotate(t.Context()); err != nil || len(k.names()) != 0 {
		t.Errorf("in the end there are %v, %v", k.names(), err)
	}
}

// TestHeldRewrap: the names of keys are wrapped anew as keys are.
func TestHeldRewrap(t *testing.T) {
	t.Parallel()
	s, m, c, k := newHeld(t)
	token := mustSign(t, s, c)
	both := heldOn(t, m, c, k, true)
	both.wrapper = mustWrapper(t, mustPlatform(t, bothPlatformKeys), ForSigning)
	if p, err := both.Rewrap(t.Context(), m, nil); err != nil || p != (Progress{Keys: 2, Wrapped: 2}) {
		t.Fatalf("%+v, %v", p, err)
	}
	second := heldOn(t, m, c, k, true)
	second.wrapper = mustWrapper(t, mustPlatform(t, secondPlatformKey), ForSigning)
	mustRefresh(t, second)
	good(t, "rewrapped", second, token)
	good(t, "rewrapped", second, mustSign(t, second, c))
	if needed, err := second.Needed(t.Context()); err != nil || needed[Wrapping{"platform/" + ForSigning, 2}] != 2 {
		t.Errorf("%v, %v", needed, err)
	}
}

// TestHeldModel: whatever servers do, with a KMS that comes and goes, answers that are lost and operators who revoke, no record in force
// names a key that was ended; and when all is quiet the KMS holds what the records name, and no more.
func TestHeldModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		m, c, k := &memoryStore{}, newClock(), newCabinet()
		u := &uncertain{memoryStore: m}
		var servers []*Signing
		for range 3 {
			servers = append(servers, heldOn(t, u, c, k, true))
		}
		if err := servers[0].Rotate(t.Context()); err != nil {
			r.Fatal(err)
		}
		one := func(r *rapid.T) *Signing { return servers[rapid.IntRange(0, len(servers)-1).Draw(r, "server")] }
		r.Repeat(map[string]func(*rapid.T){
			"rotate":  func(r *rapid.T) { _ = one(r).Rotate(t.Context()) },
			"refresh": func(r *rapid.T) { _ = one(r).Refresh(t.Context()) },
			"wait":    func(r *rapid.T) { c.advance(time.Duration(rapid.IntRange(1, 100*24).Draw(r, "hours")) * time.Hour) },
			"outage":  func(*rapid.T) { k.set(func(k *cabinet) { k.fail = fmt.Errorf("%w: out", ErrSilent) }) },
			"back":    func(*rapid.T) { k.set(func(k *cabinet) { k.fail = nil }) },
			"lose": func(r *rapid.T) {
				u.lose, u.store = rapid.Bool().Draw(r, "lose"), rapid.Bool().Draw(r, "store")
			},
			"revoke": func(r *rapid.T) {
				if kids := kidsOf(m); len(kids) > 0 {
					_ = one(r).Revoke(t.Context(), u, kids[rapid.IntRange(0, len(kids)-1).Draw(r, "key")])
				}
			},
			"": func(r *rapid.T) {
				there := k.names()
				for _, rec := range m.keys {
					if ref, err := rec.reference(t.Context(), servers[0].wrapper); err == nil && rec.published(c.now()) && !slices.Contains(there, ref.Key) {
						r.Fatalf("%s is in force, and its key was ended", rec.KID)
					}
				}
			},
		})
		u.lose = false
		k.set(func(k *cabinet) { k.fail = nil })
		for range 2 {
			for _, s := range servers {
				if err := s.Rotate(t.Context()); err != nil {
					r.Fatal(err)
				}
			}
			c.advance(strayAge + time.Second)
		}
		if there, named := k.names(), namedBy(t, m); !slices.Equal(there, named) {
			r.Fatalf("there are %v, and the records name %v", there, named)
		}
		mustSign(t, servers[1], c)
	})
}

func kidsOf(m *memoryStore) (kids []string) {
	for _, k := range m.keys {
		kids = append(kids, k.KID)
	}
	return kids
}

// FuzzReference: whatever was wrapped, it names a key or is refused.
func FuzzReference(f *testing.F) {
	f.Add([]byte(`{"kms":"transit/transit","key":"avouch-1"}`))
	f.Add([]byte(`{"kms":"","key":"x"}`))
	f.Add([]byte(`{"kms":"a","key":"b"}{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReference(b)
		if (err == nil) != (r.KMS != "" && r.Key != "") || err != nil && !errors.Is(err, errProof) {
			t.Errorf("%q is %+v, %v", b, r, err)
		}
	})
}

// FuzzFromDER: what is taken for a signature is 64 bytes, and is r and s of no other.
func FuzzFromDER(f *testing.F) {
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{0x30, 7, 2, 2, 0, 0xff, 2, 1, 1})
	f.Add([]byte(strings.Repeat("0", 72)))
	f.Fuzz(func(t *testing.T, der []byte) {
		raw, err := FromDER(der)
		if err == nil && len(raw) != 2*p256Size || err != nil && (raw != nil || !errors.Is(err, ErrBadSignature)) {
			t.Errorf("%x: %x, %v", der, raw, err)
		}
	})
}
