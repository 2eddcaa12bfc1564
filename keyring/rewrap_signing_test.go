package keyring

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

func ownerOf(info fs.FileInfo) int {
	s, _ := info.Sys().(*syscall.Stat_t)
	return int(s.Uid)
}

// TestRewrapSigning: signing keys come under the new platform key one by one, in the operator's name; tokens go on being good, on servers
// that have both, and the new one alone is enough afterwards.
func TestRewrapSigning(t *testing.T) {
	t.Parallel()
	a, b, _ := platformOn(t)
	ctx, system := t.Context(), tenantdb.System(tenantdb.Platform, "signing")
	before := NewSigning(NewSigningTable(a, system), mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning), time.Now)
	if err := errors.Join(before.Rotate(ctx), before.Ensure(ctx, ES256)); err != nil {
		t.Fatal(err)
	}
	token, err := before.Sign(ctx, TypeJWT, claims(&clock{at: time.Now()}, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	both := mustWrapper(t, mustPlatform(t, bothPlatformKeys), ForSigning)
	one, other := NewSigning(NewSigningTable(a, system), both, time.Now), NewSigning(NewSigningTable(b, system), both, time.Now)
	good := func(s *Signing) {
		t.Helper()
		kid, input, signature := parts(t, token)
		if err := errors.Join(s.Refresh(ctx), s.VerifySignature(ctx, kid, input, signature)); err != nil || len(s.Unusable()) != 0 {
			t.Errorf("%v, %v", err, s.Unusable())
		}
	}
	good(other)
	told := 0
	p, err := one.Rewrap(ctx, NewSigningTable(a, tenantdb.System(tenantdb.Platform, "operator")), func(Progress) { told++ })
	if err != nil || p.Keys < 3 || p.Wrapped != p.Keys || told != p.Keys {
		t.Fatalf("%+v, told %d times, %v", p, told, err)
	}
	good(one)
	good(other)
	if again, err := other.Rewrap(ctx, other.store, nil); err != nil || again.Keys != p.Keys || again.Wrapped != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	needed, err := other.Needed(ctx)
	if err != nil || len(needed) != 1 || needed[Wrapping{"platform/" + ForSigning, 2}] != p.Keys {
		t.Errorf("%v, %v", needed, err)
	}
	good(NewSigning(NewSigningTable(b, system), mustWrapper(t, mustPlatform(t, secondPlatformKey), ForSigning), time.Now))
	if n := logOf(t, a)["signing_key.rewrapped"]; n != p.Keys {
		t.Errorf("%d entries for %d keys", n, p.Keys)
	}
}

// TestRewrapSigningLeavesWhatItCannotOpen: such a record stays as it is and is named, the others are wrapped; one that others change
// meanwhile is theirs.
func TestRewrapSigningLeavesWhatItCannotOpen(t *testing.T) {
	t.Parallel()
	_, m, c := newSigning(t)
	s := NewSigning(m, mustWrapper(t, mustPlatform(t, bothPlatformKeys), ForSigning), c.now)
	if len(m.keys) != 2 {
		t.Fatalf("%d keys", len(m.keys))
	}
	m.keys[0].Private = append([]byte(nil), m.keys[0].Private...)
	m.keys[0].Private[len(m.keys[0].Private)-1] ^= 1
	bad := string(m.keys[0].Private)
	p, err := s.Rewrap(t.Context(), m, nil)
	if !errors.Is(err, ErrSealed) || p != (Progress{Keys: 2, Wrapped: 1, Failed: 1}) || string(m.keys[0].Private) != bad {
		t.Errorf("%+v, %v", p, err)
	}
	_, m, c = newSigning(t)
	s = NewSigning(m, mustWrapper(t, mustPlatform(t, bothPlatformKeys), ForSigning), c.now)
	p, err = s.Rewrap(t.Context(), &hasty{m}, nil)
	if err != nil || p.Wrapped != 0 || len(m.keys[0].Private) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	s.wrapper = forgetful{s.wrapper}
	_, m, _ = newSigning(t)
	if p, err := s.Rewrap(t.Context(), m, nil); !errors.Is(err, ErrSealed) || p.Wrapped != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// hasty destroys each key a moment before it is changed.
type hasty struct{ *memoryStore }

func (h *hasty) Change(ctx context.Context, decide func([]SigningKey) (SigningKey, audit.Event, bool)) error {
	h.mu.Lock()
	for i := range h.keys {
		h.keys[i].Private = nil
	}
	h.mu.Unlock()
	return h.memoryStore.Change(ctx, decide)
}
