package keyring

import (
	"encoding/hex"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
)

// TestUnneeded: what the key store says of older versions is of one organisation and of one rotation, whole, and for who has the platform
// key to say; all servers read the same, also when it is wrapped under another version of that key. What was altered says nothing.
func TestUnneeded(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r, other := ringOn(t, dir, nil), ringOn(t, dir, nil)
	id, elsewhere := newTenant(t, r), newTenant(t, r)
	at := time.UnixMicro(1_800_000_000_000_001).UTC()
	is := func(r *Ring, wrap, subjects uint32, want time.Time) {
		t.Helper()
		if since, err := r.Unneeded(t.Context(), id, wrap, subjects); err != nil || !since.Equal(want) {
			t.Errorf("of %d and %d it says %v, %v; not %v", wrap, subjects, since, err, want)
		}
	}
	say := func(wrap, subjects uint32, since time.Time) {
		t.Helper()
		if err := r.NoteUnneeded(t.Context(), id, Unneeded{wrap, subjects, since}); err != nil {
			t.Fatal(err)
		}
	}
	is(r, 2, 2, time.Time{})
	say(2, 2, time.Time{})
	if _, err := os.Stat(r.store.notePath(id, unneededFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a note of nothing: %v", err)
	}
	say(2, 2, at)
	say(3, 4, at.Add(time.Hour))
	for _, r := range []*Ring{r, other} {
		is(r, 2, 2, at)
		is(r, 3, 4, at.Add(time.Hour))
		is(r, 3, 3, time.Time{})
	}
	say(2, 2, time.Time{})
	is(other, 2, 2, time.Time{})
	say(3, 4, at)
	is(other, 3, 4, at)

	b, err := os.ReadFile(r.store.notePath(id, unneededFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.store.notePath(elsewhere, unneededFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if since, err := r.Unneeded(t.Context(), elsewhere, 3, 4); !errors.Is(err, ErrSealed) {
		t.Errorf("another organisation's says %v, %v", since, err)
	}
	for i := range b {
		damaged := append([]byte(nil), b...)
		damaged[i] ^= 1
		if err := os.WriteFile(r.store.notePath(id, unneededFile), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if since, err := r.Unneeded(t.Context(), id, 3, 4); err == nil {
			t.Errorf("byte %d flipped, it says %v", i, since)
		}
	}
	if err := os.WriteFile(r.store.notePath(id, unneededFile), b[:len(b)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	say(5, 5, at)
	is(r, 3, 4, time.Time{})
	is(r, 5, 5, at)
}

// TestUnneededTogether: of several that say something at once none is lost.
func TestUnneededTogether(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r := ringOn(t, dir, nil)
	id := newTenant(t, r)
	at := time.UnixMicro(1_800_000_000_000_000).UTC()
	var all sync.WaitGroup
	for k := range uint32(8) {
		one := ringOn(t, dir, nil)
		all.Go(func() {
			for v := k * 10; v < k*10+10; v++ {
				if err := one.NoteUnneeded(t.Context(), id, Unneeded{v, v, at}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := r.unneeded(t.Context(), id); err != nil || len(got) != 80 {
		t.Errorf("%d, %v", len(got), err)
	}
}

// TestUnneededIsBounded: what is said is no more than a KMS wraps. Room is made by what says of destroyed versions alone, and otherwise what
// was said first stays: where many rotations are kept at once they end one after the other, and none keeps another from its end.
func TestUnneededIsBounded(t *testing.T) {
	t.Parallel()
	r, id := newRing(t)
	at := time.UnixMicro(1_800_000_000_000_000).UTC()
	for v := uint32(2); v <= 5; v++ {
		if err := errors.Join(r.RenewTo(t.Context(), id, UseWrap, v), r.RenewTo(t.Context(), id, UseSubjects, v)); err != nil {
			t.Fatal(err)
		}
	}
	say := func(v uint32) {
		t.Helper()
		if err := r.NoteUnneeded(t.Context(), id, Unneeded{v, v, at}); err != nil {
			t.Fatal(err)
		}
	}
	are := func(when string, first, last uint32) {
		t.Helper()
		got, err := r.unneeded(t.Context(), id)
		if err != nil || len(got) != unneededMost || got[0].Wrap != first || got[unneededMost-1].Wrap != last {
			t.Fatalf("%s: %d, %v", when, len(got), err)
		}
	}
	full := make([]Unneeded, 0, unneededMost)
	for v := uint32(2); len(full) < unneededMost; v++ {
		full = append(full, Unneeded{v, v, at})
	}
	if err := r.setNote(t.Context(), id, unneededFile, unneededBytes(full)); err != nil {
		t.Fatal(err)
	}
	if n := len(unneededBytes(full)); n > 4096 {
		t.Errorf("%d bytes, and there are KMS that wrap 4,096", n)
	}
	const last = unneededMost + 1
	say(last + 1)
	are("nothing is destroyed", 2, last)
	destroy := func(use Use, v uint32) {
		t.Helper()
		if err := r.Destroy(t.Context(), id, use, v); err != nil {
			t.Fatal(err)
		}
	}
	destroy(UseWrap, 1)
	say(last + 1)
	are("subjects are under the first", 2, last)
	destroy(UseSubjects, 1)
	destroy(UseSubjects, 2)
	say(last + 1)
	are("one rotation is over", 3, last+1)
	say(last + 2)
	are("something is under the second", 3, last+1)
	destroy(UseWrap, 2)
	say(last + 2)
	are("two are over", 4, last+2)
	if err := r.NoteUnneeded(t.Context(), id, Unneeded{4, 4, time.Time{}}); err != nil {
		t.Fatal(err)
	}
	say(last + 3)
	are("there is room", 5, last+3)
}

// TestUnneededIsRewrapped: no older version of the platform key is needed for it.
func TestUnneededIsRewrapped(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r := ringOn(t, dir, nil)
	id, at := newTenant(t, r), time.UnixMicro(1_800_000_000_000_001).UTC()
	if err := r.NoteUnneeded(t.Context(), id, Unneeded{2, 2, at}); err != nil {
		t.Fatal(err)
	}
	both, err := openUnder(dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Rewrap(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if after, err := both.Needed(t.Context()); err != nil || len(after) != 1 {
		t.Errorf("needed after: %v, %v", after, err)
	}
	second, err := openUnder(dir, secondPlatformKey)
	if err != nil {
		t.Fatal(err)
	}
	if since, err := second.Unneeded(t.Context(), id, 2, 2); err != nil || !since.Equal(at) {
		t.Errorf("without the older version: %v, %v", since, err)
	}
}

// TestUnneededFormat is frozen: key stores hold it.
func TestUnneededFormat(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1_800_000_000_000_001).UTC()
	const want = "5501" + "0000000200000003" + "0006651728988001" + "0000000400000005" + "0006651728988001"
	if got := hex.EncodeToString(unneededBytes([]Unneeded{{2, 3, at}, {4, 5, at}})); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func FuzzParseUnneeded(f *testing.F) {
	f.Add(unneededBytes([]Unneeded{{2, 3, time.UnixMicro(1)}, {4, 5, time.UnixMicro(2)}}))
	f.Add([]byte(unneededMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseUnneeded(b)
		if err == nil && len(b) > 0 && string(unneededBytes(all)) != string(b) {
			t.Errorf("%x is read as %v", b, all)
		}
	})
}
