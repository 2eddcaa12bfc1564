package keyring

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestRenewTo: it makes the next version and no other, once, however often and by however many it is said.
func TestRenewTo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	var at sync.WaitGroup
	for range 4 {
		other := ringOn(t, r.store.dir, nil)
		at.Go(func() {
			if err := other.RenewTo(ctx, tenant, UseWrap, 2); err != nil {
				t.Error(err)
			}
		})
	}
	at.Wait()
	if live, last, err := r.Versions(tenant, UseWrap); err != nil || live != 2 || last != 2 {
		t.Errorf("%d of %d, %v", live, last, err)
	}
	if err := r.RenewTo(ctx, tenant, UseWrap, 4); err == nil {
		t.Error("a version is left out")
	}
	for v := uint32(1); v <= 2; v++ {
		if err := r.Destroy(ctx, tenant, UseWrap, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.RenewTo(ctx, tenant, UseWrap, 3); err == nil {
		t.Error("a key that was destroyed begins anew")
	}
	sealed, err := r.Seal(ctx, newTenant(t, r), "item", "f", 1, []byte("x"))
	if err != nil || !bytes.HasPrefix(sealed, SealedPrefix(1)) || bytes.HasPrefix(sealed, SealedPrefix(2)) {
		t.Errorf("%x, %v", sealed[:20], err)
	}
}

// stepping wraps all subjects' keys anew, in steps.
func stepping(t *testing.T, r *Ring, tenant tenantdb.TenantID) (wrapped int, failed []audit.SubjectID) {
	t.Helper()
	r.ForgetTenant(tenant)
	for after, more := "", true; more; {
		step, err := r.RewrapSubjects(context.Background(), tenant, after, 3)
		if err != nil {
			t.Fatal(err)
		}
		after, more, wrapped, failed = step.Last, step.More, wrapped+step.Wrapped, append(failed, step.Failed...)
	}
	return wrapped, failed
}

func TestRewrapSubjects(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	sealed := map[audit.SubjectID][]byte{}
	for i := range 10 {
		var s audit.SubjectID // the first is the organisation itself
		if i > 0 {
			s = newSubject(t)
		}
		b, err := r.SealFields(ctx, tenant, s, s[:], nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed[s] = b
	}
	if n, failed := stepping(t, r, tenant); n != 0 || len(failed) > 0 {
		t.Errorf("under the newest: %d, %v", n, failed)
	}
	other := ringOn(t, r.store.dir, nil)
	if _, err := other.Renew(ctx, tenant, UseSubjects); err != nil {
		t.Fatal(err)
	}
	late := newSubject(t) // by a server that does not know the new version yet
	if b, err := r.SealFields(ctx, tenant, late, late[:], nil); err != nil {
		t.Fatal(err)
	} else {
		sealed[late] = b
	}
	if n, failed := stepping(t, r, tenant); n != 11 || len(failed) > 0 {
		t.Errorf("%d were wrapped anew; failed: %v", n, failed)
	}
	if n, _ := stepping(t, r, tenant); n != 0 {
		t.Errorf("%d again", n)
	}
	if err := r.Destroy(ctx, tenant, UseSubjects, 1); err != nil {
		t.Fatal(err)
	}
	fresh := ringOn(t, r.store.dir, nil)
	for s, b := range sealed {
		if got, err := fresh.OpenFields(ctx, tenant, s, b, nil); err != nil || !bytes.Equal(got, s[:]) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// TestRewrapSubjectsLeavesDamage: a key that does not open stays as it is, is told, and stops no other.
func TestRewrapSubjectsLeavesDamage(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	var all []audit.SubjectID
	for range 5 {
		s := newSubject(t)
		if err := r.Prepare(ctx, tenant, s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	file := r.store.file(keyName{tenant, usePerson, all[2]}, 1)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-40] ^= 1
	moved, err := os.ReadFile(r.store.file(keyName{tenant, usePerson, all[0]}, 1)) // another's key, whole
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(ctx, tenant, UseSubjects); err != nil {
		t.Fatal(err)
	}
	wrapped := 4
	for what, b := range map[string][]byte{"damaged": bad, "another's": moved} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, failed := stepping(t, r, tenant); n != wrapped || len(failed) != 1 || failed[0] != all[2] {
			t.Errorf("%s: %d, %v", what, n, failed)
		}
		step, err := r.RewrapSubjects(ctx, tenant, "", 1000)
		if whole := what == "another's"; err != nil || !step.Before(2) || step.Before(1) == whole { // what is damaged does not say under what
			t.Errorf("%s: before 2 %t, before 1 %t, %v", what, step.Before(2), step.Before(1), err)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, b) {
			t.Errorf("%s: it was replaced", what)
		}
		wrapped = 0
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, failed := stepping(t, r, tenant); n != 1 || len(failed) > 0 {
		t.Errorf("mended: %d, %v", n, failed)
	}
}

// TestErasedStaysErasedWhileRewrapped: who is erased while keys are wrapped anew has no key afterwards, and no file of it.
func TestErasedStaysErasedWhileRewrapped(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	for round := range 30 {
		s := newSubject(t)
		sealed, err := r.SealFields(ctx, tenant, s, []byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Renew(ctx, tenant, UseSubjects); err != nil {
			t.Fatal(err)
		}
		other := ringOn(t, r.store.dir, nil)
		var at sync.WaitGroup
		at.Go(func() {
			if step, err := other.RewrapSubjects(ctx, tenant, "", 1000); err != nil || len(step.Failed) > 0 {
				t.Errorf("round %d: %v, %v", round, step, err)
			}
		})
		at.Go(func() {
			time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
			if err := r.DestroySubject(ctx, tenant, s); err != nil {
				t.Error(err)
			}
		})
		at.Wait()
		if _, err := os.Lstat(r.store.file(keyName{tenant, usePerson, s}, 1)); err == nil {
			t.Fatalf("round %d: the key has a file again", round)
		}
		if _, err := ringOn(t, r.store.dir, nil).OpenFields(ctx, tenant, s, sealed, nil); !errors.Is(err, ErrDestroyed) {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
