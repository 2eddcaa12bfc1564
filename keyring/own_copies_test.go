package keyring

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

var otherSetting = SettingID{15: 8}

const othersKey = "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8="

// twoCustomers are two key managements, each with a key of its own.
func twoCustomers(t testing.TB) (a, b *customer, all map[SettingID]KeyWrapper) {
	t.Helper()
	a, b = newCustomer(t), &customer{Local: mustWrapper(t, mustPlatform(t, othersKey), "customer")}
	return a, b, map[SettingID]KeyWrapper{testSetting: a, otherSetting: b}
}

// underOwn wants each key of an organisation under its own key, as the platform's wrapper sees it, and tells how many there are.
func underOwn(t testing.TB, r *Ring, id tenantdb.TenantID) (n int) {
	t.Helper()
	o, err := r.readOwn(t.Context(), id)
	if err != nil || len(o.keys) != 1 {
		t.Fatalf("%d own keys, %v", len(o.keys), err)
	}
	eachKey(t, r, id, func(file string, outer secret.Bytes) {
		n++
		if _, sum, err := innerOf(outer); err != nil || sum != o.keys[0].sum {
			t.Errorf("%s is not under the own key (%d bytes), %v", file, len(outer.Expose()), err)
		}
	})
	return n
}

func eachKey(t testing.TB, r *Ring, id tenantdb.TenantID, see func(file string, outer secret.Bytes)) {
	t.Helper()
	for _, use := range tenantUses {
		n := keyName{tenant: id, use: use}
		versions, err := r.store.kept(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			w, err := r.store.read(n, v)
			if err != nil {
				t.Fatal(err)
			}
			outer, err := r.wrapper.Unwrap(t.Context(), w, Binding{id, n.item(v)})
			if err != nil {
				t.Fatal(err)
			}
			see(r.store.file(n, v), outer)
		}
	}
}

// TestCopiesOpenNothingLater: whoever has copied the own file at any time before, and has the platform key, and another key management that
// the organisation had before, opens nothing with today's key store; nor what was sealed under a key that was made since.
func TestCopiesOpenNothingLater(t *testing.T) {
	t.Parallel()
	dir, c := newStoreDir(t), &clock{at: time.Now()}
	before, now, all := twoCustomers(t)
	r := ringOf(t, dir, c, all)
	id := newTenant(t, r)
	var copies [][]byte
	taken := func() {
		if b, err := os.ReadFile(r.store.ownPath(id)); err == nil {
			copies = append(copies, b)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	before.during, now.during = taken, taken
	move := func(s SettingID) {
		if _, err := r.HandOver(t.Context(), id, s, all[s]); err != nil {
			t.Fatal(err)
		}
		taken()
	}
	back := func() {
		if err := r.TakeBack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if s, err := r.OwnSetting(t.Context(), id); err != nil || s != (SettingID{}) {
			t.Errorf("taken back, it is under %x, %v", s, err)
		}
	}
	move(otherSetting)
	back()
	if _, err := os.Lstat(r.store.ownPath(id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the own key is there: %v", err)
	}
	move(testSetting)
	move(otherSetting)
	move(testSetting)
	back()
	move(testSetting)
	sealedBefore, fieldsBefore := sealedOf(t, r, id)
	copies = copies[:len(copies):len(copies)]
	before.during, now.during = nil, nil
	move(otherSetting)
	copies = copies[:len(copies)-1] // what is there today needs the key management of today
	for _, u := range tenantUses {  // as byok.md says
		if _, err := r.Renew(t.Context(), id, u); err != nil {
			t.Fatal(err)
		}
	}
	sealed, fields := sealedOf(t, r, id)
	if n := underOwn(t, r, id); n != 2*len(tenantUses) {
		t.Errorf("%d keys", n)
	}
	now.revoke(ErrRefused)
	if len(copies) < 8 {
		t.Fatalf("%d copies", len(copies))
	}
	for i, b := range copies {
		if err := os.WriteFile(r.store.ownPath(id), b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, kms := range []KeyWrapper{before, now} {
			thief := ringOf(t, dir, c, map[SettingID]KeyWrapper{testSetting: kms, otherSetting: kms})
			for _, s := range [][]byte{sealed, sealedBefore} {
				if _, err := thief.Open(t.Context(), id, "item", "field", 1, s); err == nil {
					t.Errorf("copy %d opens what was sealed later", i)
				}
			}
			for _, f := range [][]byte{fields, fieldsBefore} {
				if _, err := thief.OpenFields(t.Context(), id, audit.SubjectID{}, f, nil); err == nil {
					t.Errorf("copy %d opens fields that were sealed later", i)
				}
			}
		}
	}
}

// stopping is a wrapper that stops once, when it has wrapped a certain item.
type stopping struct {
	KeyWrapper
	item     string
	once     atomic.Bool
	at, goOn chan struct{}
}

func stopAt(w KeyWrapper, item string) *stopping {
	return &stopping{KeyWrapper: w, item: item, at: make(chan struct{}), goOn: make(chan struct{})}
}

func (s *stopping) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	w, err := s.KeyWrapper.Wrap(ctx, key, b)
	if b.Item == s.item && s.once.CompareAndSwap(false, true) {
		close(s.at)
		<-s.goOn
	}
	return w, err
}

// TestNoKeyIsLeftOutside: a key that is made, or wrapped anew, by another process while keys are handed over, to the first key management
// or to another, is under the own key when both have ended.
func TestNoKeyIsLeftOutside(t *testing.T) {
	t.Parallel()
	both := firstPlatformKey + "," + secondPlatformKey
	for name, beside := range map[string]struct {
		item string
		do   func(*Ring, tenantdb.TenantID) error
	}{
		"renewed":              {"key/wrap/2", func(r *Ring, id tenantdb.TenantID) error { _, err := r.Renew(t.Context(), id, UseWrap); return err }},
		"renewed to a version": {"key/subjects/2", func(r *Ring, id tenantdb.TenantID) error { return r.RenewTo(t.Context(), id, UseSubjects, 2) }},
		"rewrapped":            {"key/wrap/1", func(r *Ring, _ tenantdb.TenantID) error { _, err := r.Rewrap(t.Context(), nil); return err }},
	} {
		for _, from := range []SettingID{{}, otherSetting} {
			dir, c := newStoreDir(t), &clock{at: time.Now()}
			kms, _, all := twoCustomers(t)
			older := ringOf(t, dir, c, all)
			id := newTenant(t, older)
			ring := func(wrapped func(KeyWrapper) KeyWrapper) *Ring {
				p := mustPlatform(t, both)
				r, err := New(t.Context(), Config{Dir: dir, Platform: p, Wrapper: wrapped(mustWrapper(t, p, ForKeyStore)), Now: c.now, Own: func(_ context.Context, _ tenantdb.TenantID, s SettingID) (KeyWrapper, error) { return all[s], nil }})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := ring(func(w KeyWrapper) KeyWrapper { return w })
			if from != (SettingID{}) {
				if _, err := older.HandOver(t.Context(), id, from, all[from]); err != nil {
					t.Fatal(err)
				}
			}
			var stop *stopping
			slow := ring(func(w KeyWrapper) KeyWrapper { stop = stopAt(w, beside.item); return stop })
			done, moved := make(chan error, 1), make(chan error, 1)
			go func() { done <- beside.do(slow, id) }()
			<-stop.at
			go func() { _, err := r.HandOver(t.Context(), id, testSetting, kms); moved <- err }()
			select { // it waits, or it would have ended
			case err := <-moved:
				moved <- err
			case <-time.After(200 * time.Millisecond):
			}
			close(stop.goOn)
			if err := errors.Join(<-done, <-moved); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if n := underOwn(t, r, id); n < len(tenantUses) {
				t.Errorf("%s: %d keys", name, n)
			}
		}
	}
}

// failing is a wrapper that fails from a certain call on.
type failing struct {
	KeyWrapper
	left atomic.Int64
}

func (f *failing) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	if f.left.Add(-1) < 0 {
		return Wrapped{}, ErrSilent
	}
	return f.KeyWrapper.Wrap(ctx, key, b)
}

// TestMovesFailAnywhere: wherever keys stop on their way, everything opens, and the next call brings all of them there, or elsewhere.
func TestMovesFailAnywhere(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Now()}
	_, _, all := twoCustomers(t)
	to := func(s SettingID) func(*Ring, tenantdb.TenantID) error {
		return func(r *Ring, id tenantdb.TenantID) error {
			_, err := r.HandOver(t.Context(), id, s, all[s])
			return err
		}
	}
	back := func(r *Ring, id tenantdb.TenantID) error { return r.TakeBack(t.Context(), id) }
	for name, moves := range map[string][3]func(*Ring, tenantdb.TenantID) error{
		"there, and again":      {back, to(testSetting), to(testSetting)},
		"there, and elsewhere":  {back, to(testSetting), to(otherSetting)},
		"elsewhere, and again":  {to(testSetting), to(otherSetting), to(otherSetting)},
		"elsewhere, and before": {to(testSetting), to(otherSetting), to(testSetting)},
		"back, and again":       {to(testSetting), back, back},
		"back, and there":       {to(testSetting), back, to(testSetting)},
		"elsewhere, and back":   {to(testSetting), to(otherSetting), back},
	} {
		for calls := int64(0); ; calls++ {
			r := ringOf(t, newStoreDir(t), c, all)
			id := newTenant(t, r)
			sealed, fields := sealedOf(t, r, id)
			if err := moves[0](r, id); err != nil {
				t.Fatal(err)
			}
			f := &failing{KeyWrapper: r.wrapper}
			f.left.Store(calls)
			r.wrapper = f
			failed := moves[1](r, id)
			opens(t, r, id, sealed, fields)
			r.wrapper = f.KeyWrapper
			if err := moves[2](r, id); err != nil {
				t.Errorf("%s, which failed after %d calls: %v", name, calls, err)
			}
			opens(t, r, id, sealed, fields)
			if s, err := r.OwnSetting(t.Context(), id); err != nil {
				t.Error(err)
			} else if s != (SettingID{}) {
				underOwn(t, r, id)
			} else {
				eachKey(t, r, id, func(file string, outer secret.Bytes) {
					if len(outer.Expose()) != keySize {
						t.Errorf("%s: %s is not the platform's", name, file)
					}
				})
			}
			if failed == nil {
				break
			}
		}
	}
}

// forgetfulOf wraps other keys than it is given, where an item is that of some.
type forgetfulOf struct {
	KeyWrapper
	own bool
}

func (f forgetfulOf) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	if (b.Item == ownFile) == f.own {
		return forgetful{f.KeyWrapper}.Wrap(ctx, key, b)
	}
	return f.KeyWrapper.Wrap(ctx, key, b)
}

// TestMovesReplaceNothingUnread: what was wrapped for a move and would not open takes the place of nothing, of no key and no own file.
func TestMovesReplaceNothingUnread(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Now()}
	_, _, all := twoCustomers(t)
	for _, own := range []bool{true, false} {
		r := ringOf(t, newStoreDir(t), c, all)
		id := newTenant(t, r)
		sealed, fields := sealedOf(t, r, id)
		good := r.wrapper
		for _, first := range []bool{true, false} {
			r.wrapper = forgetfulOf{good, own}
			if _, err := r.HandOver(t.Context(), id, testSetting, all[testSetting]); err == nil {
				t.Error("it moved")
			}
			if err := r.TakeBack(t.Context(), id); err == nil && !own && !first { // at first none has moved
				t.Error("it moved back")
			}
			r.wrapper = good
			opens(t, r, id, sealed, fields)
			if first {
				if _, err := r.HandOver(t.Context(), id, otherSetting, all[otherSetting]); err != nil {
					t.Fatal(err)
				}
			}
			opens(t, r, id, sealed, fields)
		}
	}
}

// TestSlowAnswersCount: what a key management lets us have counts from before it was asked, so that an answer that was long on its way
// keeps nothing open for longer.
func TestSlowAnswersCount(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	handOver(t, r, id, kms)
	kms.during = func() { c.advance(ownLife / 6) }
	opens(t, r, id, sealed, fields)
	settled(r, id)
	kms.during = nil
	kms.revoke(ErrRefused)
	c.advance(ownLife - ownLife/6 - time.Second)
	opens(t, r, id, sealed, fields)
	settled(r, id)
	c.advance(time.Second)
	closedFor(t, r, id, sealed, fields)
}

// TestSettingsAreMissing: where the installation has lost how a key management is reached, the organisation's key is not blamed.
func TestSettingsAreMissing(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	handOver(t, r, id, kms)
	without := ringOf(t, r.store.dir, c, nil)
	closedFor(t, without, id, sealed, fields)
	s, err := without.OwnStateOf(t.Context(), id)
	if err != nil || s.Why != Unset {
		t.Errorf("%+v, %v", s, err)
	}
	if err := without.Usable(t.Context(), id); !bytes.Contains([]byte(err.Error()), []byte("settings are missing here")) {
		t.Errorf("%v", err)
	}
}

// TestShreddedWithoutItsKMS: an organisation's keys are destroyed also when its key management is gone.
func TestShreddedWithoutItsKMS(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	sealed, _ := sealedOf(t, r, id)
	handOver(t, r, id, kms)
	kms.revoke(ErrRefused)
	kept := filepath.Join(t.TempDir(), "link")
	if err := os.Link(r.store.ownPath(id), kept); err != nil {
		t.Fatal(err)
	}
	for _, use := range tenantUses {
		if err := r.Destroy(t.Context(), id, use, 1); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := r.DestroyOwn(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(kept); err != nil || len(b) == 0 || len(bytes.Trim(b, "\x00")) != 0 {
		t.Errorf("the bytes of the own key were not overwritten: %v", err)
	}
	kms.restore()
	if _, err := r.Open(t.Context(), id, "item", "field", 1, sealed); !errors.Is(err, ErrDestroyed) {
		t.Errorf("%v", err)
	}
}

func FuzzOwned(f *testing.F) {
	one := ownedKey{checkOf(newKey()), Wrapped{"k", 1, []byte("blob")}}
	for _, o := range []owned{{testSetting, []ownedKey{one}}, {testSetting, []ownedKey{one, one}}, {SettingID{}, []ownedKey{one}}} {
		f.Add(o.append(nil))
	}
	f.Add([]byte(ownMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOwned(bytes.Clone(b))
		if err != nil {
			return
		}
		if again := o.append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x is written as %x", b, again)
		}
	})
}
