package keyring

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
)

func TestFieldsOpen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	other, subject := newTenant(t, r), newSubject(t)
	for _, s := range []audit.SubjectID{{}, subject} {
		sealed, err := r.SealFields(ctx, tenant, s, []byte("plain"), []byte("entry"))
		if err != nil {
			t.Fatal(err)
		}
		// Another server, with nothing in memory, opens it too.
		for _, ring := range []*Ring{r, ringOn(t, r.store.dir, nil)} {
			eachByteMatters(t, sealed, func(b []byte) error {
				got, err := ring.OpenFields(ctx, tenant, s, b, []byte("entry"))
				if err == nil && string(got) != "plain" {
					t.Errorf("opens as %q", got)
				}
				return err
			})
		}
		if _, err := r.OpenFields(ctx, tenant, s, sealed, []byte("entry2")); !errors.Is(err, ErrSealed) {
			t.Errorf("with other data: %v", err)
		}
		if _, err := r.OpenFields(ctx, other, s, sealed, []byte("entry")); err == nil {
			t.Error("opens for another tenant")
		}
		if _, err := r.OpenFields(ctx, tenant, newSubject(t), sealed, []byte("entry")); !errors.Is(err, ErrLost) {
			t.Errorf("for another subject: %v", err)
		}
	}
}

func TestErasure(t *testing.T) {
	t.Parallel()
	ctx, c := context.Background(), newClock()
	dir := newStoreDir(t)
	a, b := ringOn(t, dir, c.now), ringOn(t, dir, c.now)
	tenant, subject, neighbour := newTenant(t, a), newSubject(t), newSubject(t)
	seal := func(r *Ring, s audit.SubjectID) []byte {
		t.Helper()
		sealed, err := r.SealFields(ctx, tenant, s, []byte("plain"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	open := func(r *Ring, s audit.SubjectID, sealed []byte) error {
		_, err := r.OpenFields(ctx, tenant, s, sealed, nil)
		return err
	}
	before, kept := seal(a, subject), seal(a, neighbour)
	if err := errors.Join(open(b, subject, before), open(b, neighbour, kept)); err != nil {
		t.Fatal(err)
	}
	if err := a.DestroySubject(ctx, tenant, subject); err != nil {
		t.Fatal(err)
	}
	if err := open(a, subject, before); !errors.Is(err, ErrDestroyed) {
		t.Errorf("at once where it was destroyed: %v", err)
	}
	c.advance(keyLife)
	if err := open(b, subject, before); !errors.Is(err, ErrDestroyed) {
		t.Errorf("on another server after keyLife: %v", err)
	}
	if err := errors.Join(open(a, neighbour, kept), open(b, neighbour, kept)); err != nil {
		t.Errorf("the neighbour's: %v", err)
	}
	after := seal(b, subject)
	if header, _, _ := parseFields(after); fieldsVersion(header) != 2 {
		t.Errorf("sealed after the erasure under version %d", fieldsVersion(header))
	}
	if err := open(a, subject, after); err != nil {
		t.Error(err)
	}
	if err := a.DestroySubject(ctx, tenant, newSubject(t)); err != nil {
		t.Errorf("a subject without keys: %v", err)
	}
}

func TestSealersChangeTheirKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	n := sealerName{tenant: tenant}
	first, err := r.sealer(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := r.sealer(ctx, n); again != first {
		t.Error("the derived key is not kept")
	}
	first.seals.Store(maxSeals)
	next, err := r.sealer(ctx, n)
	if err != nil || next == first || next.header == first.header {
		t.Errorf("the same derived key seals more than %d times: %v", maxSeals, err)
	}
	if other, err := ringOn(t, r.store.dir, nil).sealer(ctx, n); err != nil || other.header == next.header {
		t.Errorf("two processes seal under one derived key: %v", err)
	}
	r.Forget(tenant, audit.SubjectID{})
	if again, _ := r.sealer(ctx, n); again == next {
		t.Error("Forget forgot nothing")
	}
}

func TestNoKeyStaysThatWasReadBeforeItsDestruction(t *testing.T) {
	t.Parallel()
	c := newCache[int, string](10, time.Hour)
	mark := c.mark()
	c.drop(func(int) bool { return false })
	c.put(1, timed[string]{"read before", start}, mark)
	if _, ok := c.get(1, start); ok {
		t.Error("a value loaded before a drop stays")
	}
	ctx := t.Context()
	r, tenant := newRing(t)
	for what, destroy := range map[heldName]func() error{
		{tenant, UseAPIKey, 1}: func() error { return r.Destroy(ctx, tenant, UseAPIKey, 1) },
		{tenant, UsePII, 0}:    func() error { return r.Destroy(ctx, tenant, UsePII, 1) },
	} {
		wrapper := r.wrapper
		r.wrapper = afterUnwrap{wrapper, func() {
			if err := destroy(); err != nil {
				t.Error(err)
			}
		}}
		if _, err := r.key(ctx, what); err != nil {
			t.Fatalf("what was read before its destruction: %v", err)
		}
		r.wrapper = wrapper
		if _, err := r.key(ctx, what); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: what was being read stays: %v", what.use, err)
		}
	}
}

// afterUnwrap does something once a key is unwrapped, and before anybody has it.
type afterUnwrap struct {
	KeyWrapper
	do func()
}

func (w afterUnwrap) Unwrap(ctx context.Context, k Wrapped, b Binding) (secret.Bytes, error) {
	key, err := w.KeyWrapper.Unwrap(ctx, k, b)
	w.do()
	return key, err
}

func TestCacheIsBoundedAndForgets(t *testing.T) {
	t.Parallel()
	c := newCache[int, int](100, time.Minute)
	for i := range 10_000 {
		c.put(i, timed[int]{i, start}, 0)
		if v, ok := c.get(0, start); i%50 == 0 && (!ok || v != 0) {
			t.Fatalf("what is used all the time is gone after %d others", i)
		}
		if n := len(c.young) + len(c.old); n > 200 {
			t.Fatalf("%d values", n)
		}
	}
	if _, ok := c.get(9_999, start.Add(time.Minute)); ok {
		t.Error("a value outlives its time")
	}
	c.drop(func(k int) bool { return k == 9_999 })
	if _, ok := c.get(9_999, start); ok {
		t.Error("a dropped value is there")
	}
	if _, ok := c.get(0, start); !ok {
		t.Error("drop dropped another")
	}
}

func TestManyGoroutinesSealForANewSubject(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	subject := newSubject(t)
	var done sync.WaitGroup
	for range 16 {
		done.Go(func() {
			sealed, err := r.SealFields(ctx, tenant, subject, []byte("plain"), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := r.OpenFields(ctx, tenant, subject, sealed, nil); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
}

func FuzzOpenFields(f *testing.F) {
	r, tenant := newRing(f)
	sealed, err := r.SealFields(context.Background(), tenant, audit.SubjectID{}, []byte("plain"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(fieldsMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if header, body, err := parseFields(b); err == nil && !bytes.Equal(append(header[:], body...), b) {
			t.Errorf("%x does not read back", b)
		}
		if got, err := r.OpenFields(context.Background(), tenant, audit.SubjectID{}, b, nil); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("%x opens as %q", b, got)
		}
	})
}

func BenchmarkSealFields(b *testing.B) {
	r, tenant := newRing(b)
	subject, plain, aad := newSubject(b), make([]byte, 96), make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.SealFields(context.Background(), tenant, subject, plain, aad); err != nil {
			b.Fatal(err)
		}
	}
}
