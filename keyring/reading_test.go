package keyring

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowStore answers some time after it looked, as a database does, or not at all if its caller gives up before.
type slowStore struct {
	*memoryStore
	takes time.Duration
}

func (s *slowStore) Load(ctx context.Context) ([]SigningKey, error) {
	keys, err := s.memoryStore.Load(ctx)
	select {
	case <-time.After(s.takes):
		return keys, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memoryStore) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loads
}

// slowly is two servers in a bubble of synctest: one whose reads take a while, and another that does things.
func slowly(t *testing.T, takes time.Duration) (slow, other *Signing, m *memoryStore) {
	t.Helper()
	m = &memoryStore{}
	w := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning)
	var reads atomic.Int64 // things must have an order, and the bubble's time stands still
	now := func() time.Time { return time.Now().Add(time.Duration(reads.Add(1)) * time.Microsecond) }
	slow, other = NewSigning(&slowStore{m, takes}, w, now), NewSigning(m, w, now)
	for _, s := range []*Signing{other, slow} {
		if err := s.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Minute)
	return slow, other, m
}

func signed(t *testing.T, s *Signing) string {
	t.Helper()
	return mustSign(t, s, &clock{at: time.Now()})
}

func (m *memoryStore) revokeAll(t *testing.T, by *Signing) {
	t.Helper()
	for _, k := range slices.Clone(m.keys) {
		if err := by.Revoke(t.Context(), m, k.KID); err != nil {
			t.Fatal(err)
		}
	}
}

func forgedKID(n byte) string {
	return base64.RawURLEncoding.EncodeToString(append(make([]byte, 31), n))
}

// However many ask, each waits for the read that goes on and one more; and what was acknowledged before it asked, it sees.
func TestRefreshesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, other, m := slowly(t, time.Second)
		kid, _, _ := parts(t, signed(t, s))
		var all sync.WaitGroup
		refresh := func(after, want time.Duration, revoked bool) {
			all.Go(func() {
				time.Sleep(after)
				began := time.Now()
				if err := s.Refresh(t.Context()); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != want {
					t.Errorf("asked after %v: %v, want %v", after, took, want)
				}
				if err := s.KeyInForce(kid); errors.Is(err, ErrRevokedKey) != revoked {
					t.Errorf("asked after %v, in force: %v", after, err)
				}
			})
		}
		refresh(0, time.Second, false)
		synctest.Wait()
		m.revokeAll(t, other)
		before := m.count()
		for range 50 {
			refresh(500*time.Millisecond, 1500*time.Millisecond, true)
		}
		refresh(1500*time.Millisecond, 1500*time.Millisecond, true) // the second read has begun
		all.Wait()
		if n := m.count() - before; n != 2 {
			t.Errorf("51 callers made %d reads after the one that went on", n)
		}
	})
}

// Whoever waits for a read goes when its own time is over; the read goes on for the others, but not for ever.
func TestWaitersOfARefreshHeedTheirContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, other, m := slowly(t, time.Second)
		m.revokeAll(t, other)
		kid, input, signature := parts(t, signed(t, other))
		others := make(chan error)
		for name, wait := range map[string]func(context.Context) error{
			"Refresh": s.Refresh, "Rotate": s.Rotate,
			"VerifySignature": func(ctx context.Context) error { return s.VerifySignature(ctx, kid, input, signature) },
		} {
			began := time.Now()
			go func() { others <- s.Refresh(context.WithoutCancel(t.Context())) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := wait(ctx)
			cancel()
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 100*time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, took)
			}
			if err := <-others; err != nil {
				t.Errorf("beside %s: %v", name, err)
			}
			time.Sleep(time.Minute)
			s.set.Store(&keySet{revoked: map[string]bool{}}) // it knows no key again
		}
		before := m.count()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Refresh(gone); !errors.Is(err, context.Canceled) || m.count() != before {
			t.Errorf("one who had gone before it asked: %v, %d reads", err, m.count()-before)
		}
		s.store = &slowStore{m, time.Hour}
		began := time.Now()
		if err := s.Refresh(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != readPatience {
			t.Errorf("a database that stands still: %v after %v", err, time.Since(began))
		}
	})
}

// Someone who sends an unknown kid and hangs up, time after time, does not keep a new key from being learnt.
func TestHangingUpDoesNotHideANewKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, other, m := slowly(t, 100*time.Millisecond)
		before := m.count()
		hangUp := func(n byte) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := s.VerifySignature(ctx, forgedKID(n), "x", make([]byte, 64)); err == nil {
				t.Error("a forged kid verifies")
			}
		}
		for n := range byte(12) {
			hangUp(n)
			time.Sleep(unknownEvery / 2)
		}
		if n := m.count() - before; n == 0 || n > 7 {
			t.Errorf("it made %d reads in %v", n, 6*unknownEvery)
		}
		m.revokeAll(t, other)
		kid, input, signature := parts(t, signed(t, other))
		time.Sleep(unknownEvery)
		hangUp(12)
		time.Sleep(unknownEvery / 5)
		if err := s.VerifySignature(t.Context(), kid, input, signature); err != nil {
			t.Errorf("a token of the new key: %v", err)
		}
	})
}

// While the records cannot be read, an unknown kid may be of a new key: that is said to everyone who asks, a flood makes no
// flood of reads, and what is unknown is learnt soon after.
func TestUnknownKidWhileTheRecordsCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, other, m := slowly(t, 10*time.Millisecond)
		m.revokeAll(t, other)
		kid, input, signature := parts(t, signed(t, other))
		down := errors.New("down")
		m.fail = down
		before := m.count()
		var all sync.WaitGroup
		for n := range byte(50) {
			all.Go(func() {
				for range 10 {
					if err := s.VerifySignature(t.Context(), forgedKID(n), "x", make([]byte, 64)); !errors.Is(err, down) || errors.Is(err, ErrUnknownKey) {
						t.Errorf("while the database is down: %v", err)
					}
				}
			})
		}
		all.Wait()
		if n := m.count() - before; n != 1 {
			t.Errorf("500 unknown kids made %d reads", n)
		}
		m.fail = nil
		time.Sleep(unknownAgain)
		if err := s.VerifySignature(t.Context(), kid, input, signature); err != nil {
			t.Errorf("a token of the new key: %v", err)
		}
	})
}
