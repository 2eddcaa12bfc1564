package keyring

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRewrapFinishesOff: a key of which a crash left both names, file and tombstone, is finished off by the next rewrapping, also if its bytes
// are gone already.
func TestRewrapFinishesOff(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	for _, use := range []Use{UsePII, UseWrap} {
		file := r.store.file(keyName{tenant: tenant, use: use}, 1)
		if err := os.WriteFile(file+tombstone, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if use == UseWrap {
			if err := overwrite(file); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Rewrap(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(file); err == nil {
			t.Error("it is still there")
		}
	}
}

// TestOverwritten: of several who replace one file at once, and one who destroys it, nobody leaves bytes on the disk that had the name.
func TestOverwritten(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	n := keyName{tenant: tenant, use: UseWrap}
	file := r.store.file(n, 1)
	w, err := r.store.read(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	var seen []*os.File
	var count atomic.Int32
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() { // whoever had the name for a moment
		defer close(watched)
		for last := os.FileInfo(nil); ; {
			select {
			case <-stop:
				return
			default:
			}
			f, err := os.Open(file)
			if err != nil {
				continue
			}
			if is, err := f.Stat(); err == nil && (last == nil || !os.SameFile(is, last)) {
				last = is
				seen = append(seen, f)
				count.Add(1)
				continue
			}
			f.Close()
		}
	}()
	var at sync.WaitGroup
	for range 4 {
		at.Go(func() {
			for began := time.Now(); count.Load() < 40 && time.Since(began) < 20*time.Second; {
				if err := r.store.replace(t.Context(), file, w); err != nil {
					t.Error(err)
				}
			}
		})
	}
	at.Wait()
	for range 4 {
		at.Go(func() {
			for i := 0; i < 100 && r.store.replace(t.Context(), file, w) == nil; i++ { // until it is gone
			}
		})
	}
	if err := r.Destroy(t.Context(), tenant, UseWrap, 1); err != nil {
		t.Error(err)
	}
	at.Wait()
	close(stop)
	<-watched
	for _, f := range seen {
		if b, err := io.ReadAll(f); err != nil || len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("one of %d files that had the name still has its %d bytes: %v", len(seen), len(b), err)
		}
		f.Close()
	}
	if _, err := os.Lstat(file); err == nil || len(seen) < 40 {
		t.Errorf("the name is there, or only %d files were seen", len(seen))
	}
}

// TestRewrapGoesOn: one damaged key, and names that are nobody's, stop neither the rewrapping of all others nor the count of what is needed.
func TestRewrapGoesOn(t *testing.T) {
	t.Parallel()
	r, one := newRing(t)
	two := newTenant(t, r)
	if bytes.Compare(one[:], two[:]) > 0 {
		one, two = two, one
	}
	damaged := r.store.file(keyName{tenant: one, use: UseWrap}, 1)
	if err := os.WriteFile(damaged, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(r.store.dir, "tenants", ".DS_Store")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := openUnder(r.store.dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	var failed Failures
	p, err := both.Rewrap(t.Context(), nil)
	if !errors.As(err, &failed) || len(failed) != 1 || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), one.String()) {
		t.Errorf("the damaged key is not named: %v", err)
	}
	if want := (Progress{Keys: 11, Wrapped: 11, Failed: 1}); p != want { // nine of the two tenants, the decoy, the mark
		t.Errorf("%+v", p)
	}
	needed, err := both.Needed(t.Context())
	if !errors.As(err, &failed) || len(failed) != 1 || !strings.Contains(err.Error(), damaged) {
		t.Errorf("what cannot be read is not named: %v", err)
	}
	if len(needed) != 1 || needed[Wrapping{"platform/" + ForKeyStore, 2}] != 11 {
		t.Errorf("needed: %v", needed)
	}
	if strays, err := both.Strays(); err != nil || len(strays) != 1 || strays[0] != stray {
		t.Errorf("%q, %v", strays, err)
	}
	if _, err := both.Rewrap(t.Context(), nil); !errors.As(err, &failed) {
		t.Errorf("again: %v", err)
	}
}

// TestRewrapStopsWhereNobodyAnswers: a KMS that is away is not asked for each key.
func TestRewrapStopsWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	r, _ := newRing(t)
	both, err := openUnder(r.store.dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	asked, away := 0, &silenced{KeyWrapper: both.wrapper}
	both.wrapper = &meddling{away, func(b Binding) {
		if asked++; b != storeBinding {
			silent := error(ErrSilent)
			away.err.Store(&silent)
		}
	}}
	failed := Failures(nil)
	if _, err := both.Rewrap(t.Context(), nil); !errors.Is(err, ErrSilent) || errors.As(err, &failed) || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
