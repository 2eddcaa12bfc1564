package keyring

import (
	"encoding/hex"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// TestDeletion: what the key store says of a deletion is of one organisation, whole, and for who has the platform key to say; all servers
// read the same, also when it is wrapped under another version of that key.
func TestDeletion(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r, other := ringOn(t, dir, nil), ringOn(t, dir, nil)
	id, elsewhere := newTenant(t, r), newTenant(t, r)
	at := time.Date(2026, 11, 23, 12, 0, 0, 7000, time.UTC)
	is := func(r *Ring, want Deletion) {
		t.Helper()
		if d, err := r.Deletion(t.Context(), id); err != nil || d != want {
			t.Errorf("it says %+v, %v; not %+v", d, err, want)
		}
	}
	is(r, Deletion{})
	for _, d := range []Deletion{{at, at, false}, {at, at.Add(time.Hour), true}, {at.Add(time.Minute), at.Add(time.Minute), false}} {
		if err := r.NoteDeletion(t.Context(), id, d); err != nil {
			t.Fatal(err)
		}
		is(r, d)
		is(other, d)
	}
	if info, err := os.Stat(r.store.notePath(id, deletionFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", info, err)
	}
	b, err := os.ReadFile(r.store.notePath(id, deletionFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.store.notePath(elsewhere, deletionFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := r.Deletion(t.Context(), elsewhere); !errors.Is(err, ErrSealed) {
		t.Errorf("another organisation's says %+v, %v", d, err)
	}
	for i := range b {
		damaged := append([]byte(nil), b...)
		damaged[i] ^= 1
		if err := os.WriteFile(r.store.notePath(elsewhere, deletionFile), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := r.Deletion(t.Context(), elsewhere); err == nil {
			t.Errorf("byte %d flipped, it says %+v", i, d)
		}
	}
	if err := r.NoteDeletion(t.Context(), tenantdb.NewTenantID(), Deletion{At: at}); err == nil {
		t.Error("noted of an organisation that has no keys")
	}
}

// TestDeletionIsRewrapped: no older version of the platform key is needed for it.
func TestDeletionIsRewrapped(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r := ringOn(t, dir, nil)
	id, d := newTenant(t, r), Deletion{At: time.UnixMicro(1_800_000_000_000_001).UTC(), Since: time.UnixMicro(1_800_000_000_000_002).UTC()}
	if err := r.NoteDeletion(t.Context(), id, d); err != nil {
		t.Fatal(err)
	}
	before, err := r.Needed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	both, err := openUnder(dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Rewrap(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	after, err := both.Needed(t.Context())
	if err != nil || len(before) != 1 || len(after) != 1 {
		t.Errorf("needed before %v, and after %v, %v", before, after, err)
	}
	second, err := openUnder(dir, secondPlatformKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.Deletion(t.Context(), id); err != nil || got != d {
		t.Errorf("without the older version: %+v, %v", got, err)
	}
}

// TestDeletionIsHeldByOne: of many servers one at a time deletes, restores or shreds.
func TestDeletionIsHeldByOne(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r := ringOn(t, dir, nil)
	id := newTenant(t, r)
	var inside atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		one := ringOn(t, dir, nil)
		all.Go(func() {
			for range 20 {
				release, err := one.HoldDeletion(t.Context(), id)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold it", n)
				}
				inside.Add(-1)
				release()
			}
		})
	}
	all.Wait()
	if _, err := r.HoldDeletion(t.Context(), tenantdb.NewTenantID()); !errors.Is(err, ErrUnknownTenant) {
		t.Errorf("of an organisation that has no keys: %v", err)
	}
}

// TestDeletionFormat is frozen: key stores hold it.
func TestDeletionFormat(t *testing.T) {
	t.Parallel()
	d := Deletion{At: time.UnixMicro(1_800_000_000_000_001).UTC(), Since: time.UnixMicro(1_800_000_000_000_002).UTC(), TakenBack: true}
	const want = "44010100066517289880010006651728988002"
	if got := hex.EncodeToString(d.bytes()); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func FuzzParseDeletion(f *testing.F) {
	f.Add(Deletion{At: time.UnixMicro(1), Since: time.UnixMicro(2)}.bytes())
	f.Add([]byte(deletionMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseDeletion(b); err == nil && string(d.bytes()) != string(b) {
			t.Errorf("%x is written as %x", b, d.bytes())
		}
	})
}
