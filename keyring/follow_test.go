package keyring

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestNewVersionsWait: a version of the platform key that a process was given wraps nothing, and digests nothing, before a rewrapping says
// that it may; from then on it does in every process, with no restart.
func TestNewVersionsWait(t *testing.T) {
	t.Parallel()
	const one, both = "1:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "1:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=,2:AgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICE="
	dir := filepath.Join(t.TempDir(), "keystore")
	ring := func(text string) (*Ring, *Platform) {
		p, err := LoadPlatform(secret.Text(text), "")
		if err != nil {
			t.Fatal(err)
		}
		p.Follow(dir)
		w, err := p.Wrapper(ForKeyStore)
		if err == nil {
			err = CreateStore(t.Context(), dir, w)
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := New(t.Context(), Config{Dir: dir, Platform: p})
		if err != nil {
			t.Fatal(err)
		}
		return r, p
	}
	makes := func(r *Ring) (wrapped, digested uint32) {
		tenant := tenantdb.NewTenantID()
		if err := r.CreateTenant(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		w, err := r.store.readFile(r.store.file(keyName{tenant: tenant, use: UseWrap}, 1))
		if err == nil {
			_, digested, err = r.CurrentKeyVersions(t.Context(), tenant)
		}
		if err != nil {
			t.Fatal(err)
		}
		return w.KeyVersion, digested
	}
	old, _ := ring(one)
	given, _ := ring(both)
	for name, r := range map[string]*Ring{"one that knows the first": old, "one that was given both": given} {
		if w, d := makes(r); w != 1 || d != 1 {
			t.Errorf("%s wraps under %d and digests with %d before the rewrapping", name, w, d)
		}
	}
	leads, p := ring(both)
	p.Lead()
	if _, err := leads.Rewrap(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(followLife)
	if w, d := makes(given); w != 2 || d != 2 {
		t.Errorf("after the rewrapping one that was given both wraps under %d and digests with %d", w, d)
	}
	needed, err := leads.Needed(t.Context())
	if err != nil || needed[Wrapping{"platform/keystore", 1}] != 0 {
		t.Errorf("needed: %v, %v", needed, err)
	}
}

// TestNewPeppersWait: a version of the pepper that a process was given, and the first one beside a platform key, digests nothing before a
// rewrapping says that it may, also in a process that starts meanwhile; from then on it does in every process, with no restart.
func TestNewPeppersWait(t *testing.T) {
	t.Parallel()
	const first, second = "1:AwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISI=", "1:AwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISI=,2:BAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiM="
	dir, tenant := filepath.Join(t.TempDir(), "keystore"), tenantdb.NewTenantID()
	platform := mustPlatform(t, firstPlatformKey)
	if err := CreateStore(t.Context(), dir, mustWrapper(t, platform, ForKeyStore)); err != nil {
		t.Fatal(err)
	}
	ring := func(pepper string) *Ring {
		r, err := New(t.Context(), Config{Dir: dir, Platform: platform, Pepper: secret.Text(pepper)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	wants := func(says string, r *Ring, want uint32) {
		t.Helper()
		if _, v, err := r.CurrentKeyVersions(t.Context(), tenant); err != nil || v != want {
			t.Errorf("%s: a digest is made with %d, want %d: %v", says, v, want, err)
		}
	}
	bare := ring("")
	if err := bare.CreateTenant(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Ring{bare, ring(first)} { // servers that start; the first says it
		if err := r.BeginPepper(); err != nil {
			t.Fatal(err)
		}
	}
	server, program := ring(first), ring(first)
	wants("without one", bare, 1)
	wants("given the first", server, 1)
	leads := func(r *Ring) {
		t.Helper()
		if err := r.LeadPepper(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(followLife)
	}
	leads(bare) // which has none to lead with
	wants("given the first, still", server, 1)
	leads(program)
	wants("the first leads", server, ownPepper+1)
	wants("without it", bare, 1)
	both := ring(second)
	wants("given the second", both, ownPepper+1)
	if err := both.BeginPepper(); err != nil {
		t.Fatal(err)
	}
	wants("given the second, started", ring(second), ownPepper+1)
	leads(ring(second))
	wants("the second leads", both, ownPepper+2)
	wants("one that was forgotten", server, ownPepper+1)
	if err := os.WriteFile(filepath.Join(dir, pepperFile), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(followLife)
	wants("what is said is damaged", both, ownPepper+2)
}

// forgets makes a ring that has only what wrapped a key store before, and has it wrapped by something else, by whoever rotates.
func forgets(t *testing.T, rotate func(dir string) *Ring) (forgotten *Ring, p *Platform, tenant tenantdb.TenantID) {
	t.Helper()
	dir := newStoreDir(t)
	p = mustPlatform(t, firstPlatformKey)
	p.Follow(dir)
	forgotten, err := New(t.Context(), Config{Dir: dir, Platform: p})
	if err != nil {
		t.Fatal(err)
	}
	tenant = newTenant(t, forgotten)
	if err := forgotten.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := forgotten.NoteDeletion(t.Context(), tenant, Deletion{At: start, Since: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := rotate(dir).Rewrap(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return forgotten, p, tenant
}

func second[T any](_ T, err error) error { return err }

// TestForgottenProcess: a process that was not given what wraps the keys now makes no key, wraps nothing and digests nothing under what is to
// be taken away; writes no note, and calls neither that nor anything else altered; and says that it is not ready.
func TestForgottenProcess(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]func(string) *Ring{
		"a version of the platform key": func(dir string) *Ring {
			r, err := openUnder(dir, bothPlatformKeys)
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		"another wrapper": func(dir string) *Ring {
			both := NewSeveral(mustWrapper(t, mustPlatform(t, secondPlatformKey), "elsewhere"), mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore))
			r, err := New(t.Context(), Config{Dir: dir, Platform: mustPlatform(t, firstPlatformKey), Wrapper: both})
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p, tenant := forgets(t, rotate)
			anew := tenantdb.NewTenantID()
			_, renew := r.Renew(t.Context(), tenant, UseWrap)
			r.ForgetTenant(tenant)
			_, seal := r.Seal(t.Context(), tenant, "item", "field", 1, []byte("x"))
			for what, err := range map[string]error{
				"a note": r.NoteDeletion(t.Context(), tenant, Deletion{At: start, Since: start}), "a first note": r.NoteUnneeded(t.Context(), tenant, Unneeded{2, 2, start}),
				"what a note says": second(r.Deletion(t.Context(), tenant)), "CreateTenant": r.CreateTenant(t.Context(), anew), "Renew": renew, "RenewTo": r.RenewTo(t.Context(), tenant, UseWrap, 2), "Seal": seal,
			} {
				if !errors.Is(err, ErrNotGiven) || errors.Is(err, ErrSealed) || !problem.Is(err, problem.Unavailable) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, _, err := r.Versions(anew, UseWrap); !errors.Is(err, ErrUnknownTenant) {
				t.Errorf("a tenant was made: %v", err)
			}
			if _, last, err := r.Versions(tenant, UseWrap); last != 1 || err != nil {
				t.Errorf("a version was made: %d, %v", last, err)
			}
			eventually(t, "it calls itself ready", func() bool { return errors.Is(r.Ready(t.Context()), ErrNotGiven) })
			if name == "another wrapper" { // of which the platform key's own wrapper knows nothing
				return
			}
			_, wrap := mustWrapper(t, p, ForSigning).Wrap(t.Context(), newKey(), signingBinding("kid"))
			_, describe := mustWrapper(t, p, ForSigning).Describe(t.Context())
			_, digest := r.pepper.current()
			for what, err := range map[string]error{"a signing key": wrap, "the description": describe, "a digest": digest} {
				if !errors.Is(err, ErrNotGiven) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestNotForgotten: in a process that opens the key store's mark, a key that is under a version that it does not know is altered or lost.
func TestNotForgotten(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	n := keyName{tenant: tenant, use: UseWrap}
	w, err := r.store.read(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.KeyVersion = 7
	if err := r.store.replace(t.Context(), r.store.file(n, 1), w); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seal(t.Context(), tenant, "item", "field", 1, nil); !errors.Is(err, ErrSealed) || errors.Is(err, ErrNotGiven) {
		t.Errorf("%v", err)
	}
	if err := r.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// silenced is a wrapper that a test can take away.
type silenced struct {
	KeyWrapper
	err   atomic.Pointer[error]
	asked atomic.Int32
	hang  atomic.Bool
}

func (s *silenced) Unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	s.asked.Add(1)
	if s.hang.Load() {
		<-ctx.Done()
		return secret.Bytes{}, ErrSilent
	}
	if err := s.err.Load(); err != nil {
		return secret.Bytes{}, *err
	}
	return s.KeyWrapper.Unwrap(ctx, w, b)
}

// TestReady: whether a process opens its keys is asked seldom, however many want to know, and nobody waits for long.
func TestReady(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	w := &silenced{KeyWrapper: mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore)}
	r, err := New(t.Context(), Config{Dir: dir, Platform: mustPlatform(t, firstPlatformKey), Wrapper: w})
	if err != nil {
		t.Fatal(err)
	}
	before := w.asked.Load()
	for range 100 {
		if err := r.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.asked.Load() - before; n > 2 {
		t.Errorf("asked %d times", n)
	}
	refused := error(ErrRefused)
	w.err.Store(&refused)
	eventually(t, "a refusal is ready", func() bool { return errors.Is(r.Ready(t.Context()), ErrRefused) })
	if err := r.CreateTenant(t.Context(), tenantdb.NewTenantID()); !errors.Is(err, ErrRefused) || !problem.Is(err, problem.Unavailable) {
		t.Errorf("a tenant is made: %v", err)
	}
	w.hang.Store(true)
	time.Sleep(readyLife)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := r.Ready(ctx); !errors.Is(err, ErrSilent) || time.Since(began) > time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 200 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error(what)
}
