package keyring

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

const customersKey = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8="

// customer is an organisation's own key management: a key that the organisation can take away.
type customer struct {
	*Local
	asked   atomic.Int64
	refuses atomic.Pointer[error]
	hangs   atomic.Bool
	alters  atomic.Bool
	during  func() // of an Unwrap
}

func newCustomer(t testing.TB) *customer {
	t.Helper()
	return &customer{Local: mustWrapper(t, mustPlatform(t, customersKey), "customer")}
}

func (c *customer) revoke(why error) { c.refuses.Store(&why) }
func (c *customer) restore()         { c.refuses.Store(nil) }

func (c *customer) Unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	c.asked.Add(1)
	if c.hangs.Load() {
		<-ctx.Done()
		return secret.Bytes{}, ctx.Err()
	}
	if why := c.refuses.Load(); why != nil {
		return secret.Bytes{}, *why
	}
	if c.during != nil {
		c.during()
	}
	key, err := c.Local.Unwrap(ctx, w, b)
	if err == nil && c.alters.Load() {
		return newKey(), nil
	}
	return key, err
}

var testSetting = SettingID{15: 7}

// ownRing is a ring on a store where a key management is an organisation's own. The time is the test's.
func ownRing(t testing.TB, dir string, c *clock, kms KeyWrapper) *Ring {
	t.Helper()
	return ringOf(t, dir, c, map[SettingID]KeyWrapper{testSetting: kms})
}

// ringOf is one with several.
func ringOf(t testing.TB, dir string, c *clock, all map[SettingID]KeyWrapper) *Ring {
	t.Helper()
	r, err := New(t.Context(), Config{Dir: dir, Platform: mustPlatform(t, firstPlatformKey), Now: c.now, Own: func(_ context.Context, _ tenantdb.TenantID, s SettingID) (KeyWrapper, error) {
		if all[s] == nil {
			return nil, fmt.Errorf("no setting %x", s)
		}
		return all[s], nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// closedFor wants everything of an organisation refused with the problem that says so.
func closedFor(t testing.TB, r *Ring, id tenantdb.TenantID, sealed, fields []byte) {
	t.Helper()
	_, errOpen := r.Open(t.Context(), id, "item", "field", 1, sealed)
	_, errFields := r.OpenFields(t.Context(), id, audit.SubjectID{}, fields, nil)
	_, errSeal := r.Seal(t.Context(), id, "item", "field", 2, []byte("x"))
	_, errSealFields := r.SealFields(t.Context(), id, audit.SubjectID{}, []byte("x"), nil)
	_, errName := r.Pseudonym(t.Context(), id, "a", "b")
	_, errDigest := r.KeyDigest(t.Context(), id, "id", 1, [32]byte{}, 1, 1)
	_, errRenew := r.Renew(t.Context(), id, UsePII)
	for i, err := range []error{errOpen, errFields, errSeal, errSealFields, errName, errDigest, errRenew, r.Usable(t.Context(), id)} {
		if !problem.Is(err, problem.TenantKey) || errors.Is(err, ErrSealed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func opens(t testing.TB, r *Ring, id tenantdb.TenantID, sealed, fields []byte) {
	t.Helper()
	if plain, err := r.Open(t.Context(), id, "item", "field", 1, sealed); err != nil || string(plain) != "sealed" {
		t.Errorf("%q, %v", plain, err)
	}
	if plain, err := r.OpenFields(t.Context(), id, audit.SubjectID{}, fields, nil); err != nil || string(plain) != "fields" {
		t.Errorf("%q, %v", plain, err)
	}
}

// loads brings keys of an organisation into memory that nothing needed before.
func loads(t testing.TB, r *Ring, id tenantdb.TenantID) {
	t.Helper()
	_, errName := r.Pseudonym(t.Context(), id, "a", "b")
	_, errDigest := r.KeyDigest(t.Context(), id, "id", 1, [32]byte{}, 1, 1)
	if err := errors.Join(errName, errDigest); err != nil {
		t.Error(err)
	}
}

func sealedOf(t testing.TB, r *Ring, id tenantdb.TenantID) (sealed, fields []byte) {
	t.Helper()
	sealed, err := r.Seal(t.Context(), id, "item", "field", 1, []byte("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	if fields, err = r.SealFields(t.Context(), id, audit.SubjectID{}, []byte("fields"), nil); err != nil {
		t.Fatal(err)
	}
	return sealed, fields
}

func handOver(t testing.TB, r *Ring, id tenantdb.TenantID, kms KeyWrapper) {
	t.Helper()
	if _, err := r.HandOver(t.Context(), id, testSetting, kms); err != nil {
		t.Fatal(err)
	}
}

// inMemory counts what a process holds of an organisation's keys, of whatever age.
func inMemory(r *Ring, id tenantdb.TenantID) (n int) {
	for _, half := range []map[heldName]timed[held]{r.keys.young, r.keys.old} {
		for k := range half {
			n += map[bool]int{true: 1}[k.tenant == id]
		}
	}
	for _, half := range []map[sealerName]timed[*fieldSealer]{r.sealers.young, r.sealers.old} {
		for k := range half {
			n += map[bool]int{true: 1}[k.tenant == id]
		}
	}
	for _, half := range []map[openerName]timed[cipher.AEAD]{r.openers.young, r.openers.old} {
		for k := range half {
			n += map[bool]int{true: 1}[k.tenant == id]
		}
	}
	return n
}

// settled waits until nobody asks the key management any more.
func settled(r *Ring, id tenantdb.TenantID) {
	if l, ok := r.leases.Load(id); ok {
		l := l.(*lease)
		l.mu.Lock()
		flight := l.flight
		l.mu.Unlock()
		if flight != nil {
			<-flight
		}
	}
}

// TestOwnKMSRevoked: what an organisation revokes at its own key management is closed at the end of a life, on a server that had it
// all in memory; nobody else notices; and it opens by itself when it is allowed again.
func TestOwnKMSRevoked(t *testing.T) {
	t.Parallel()
	for _, why := range []struct {
		err  error
		says Why
	}{{ErrRefused, Refused}, {ErrSilent, Silent}, {ErrSealed, Wrong}, {errors.New("nonsense"), Wrong}} {
		dir, c, kms := newStoreDir(t), newClock(), newCustomer(t)
		r := ownRing(t, dir, c, kms)
		id, other := newTenant(t, r), newTenant(t, r)
		sealed, fields := sealedOf(t, r, id)
		others, otherFields := sealedOf(t, r, other)
		_, late := sealedOf(t, ownRing(t, dir, c, kms), id)
		handOver(t, r, id, kms)
		opens(t, r, id, sealed, fields)
		c.advance(ownLife / 3)
		opens(t, r, id, sealed, fields)
		kms.revoke(why.err)
		c.advance(ownLife / 3)
		r.TendOwn(t.Context())
		settled(r, id)
		opens(t, r, id, sealed, late) // it was let a moment ago
		loads(t, r, id)               // comes into memory now, and would stay for as long again
		c.advance(ownLife/3 + time.Second)
		closedFor(t, r, id, sealed, late)
		s, err := r.OwnStateOf(t.Context(), id)
		if err != nil || s.Open || s.Why != why.says || s.Setting != testSetting {
			t.Errorf("%v: %+v, %v", why.err, s, err)
		}
		r.TendOwn(t.Context())
		settled(r, id)
		l, _ := r.leases.Load(id)
		if l := l.(*lease); l.keys != nil {
			t.Error("the own key is in memory after it was revoked")
		}
		if n := inMemory(r, id); n > 0 {
			t.Errorf("%d keys are in memory after they were revoked", n)
		}
		opens(t, r, other, others, otherFields)
		kms.restore()
		c.advance(ownLife / againPart)
		r.TendOwn(t.Context())
		settled(r, id)
		opens(t, r, id, sealed, fields)
	}
}

// TestServerThatKnewNothingOfIt: a server that had everything of an organisation in memory when its keys were handed over elsewhere is
// closed as soon as others.
func TestServerThatKnewNothingOfIt(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	other := ownRing(t, r.store.dir, c, kms)
	opens(t, other, id, sealed, fields)
	c.advance(ownLife / 3)
	loads(t, other, id)
	_, late := sealedOf(t, ownRing(t, r.store.dir, c, kms), id)
	handOver(t, r, id, kms)
	kms.revoke(ErrRefused)
	c.advance(ownLife / 3)
	opens(t, other, id, sealed, late) // which comes into memory now, by what is there
	c.advance(ownLife/3 + time.Second)
	closedFor(t, other, id, sealed, late)
}

// TestOwnKMSIsAskedAtABoundedRate: neither a flood of requests nor a key management that fails makes it be asked more often, and
// no request waits for one that has failed or is asked ahead of time.
func TestOwnKMSIsAskedAtABoundedRate(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	handOver(t, r, id, kms)
	kms.asked.Store(0)
	if err := r.Usable(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for range 120 { // of a second each, as the clock has it
		c.advance(time.Second)
		r.TendOwn(t.Context())
		settled(r, id)
		before := kms.asked.Load()
		for range 50 {
			if err := r.Usable(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if kms.asked.Load() != before {
			t.Fatal("a request asked the key management, which works and was asked ahead")
		}
	}
	if n := kms.asked.Load(); n > 10 {
		t.Errorf("asked %d times in two minutes while it works", n)
	}
	kms.revoke(ErrRefused)
	kms.asked.Store(0)
	for range 120 {
		c.advance(time.Second)
		r.TendOwn(t.Context())
		for range 50 {
			_ = r.Usable(t.Context(), id)
		}
		settled(r, id)
	}
	if n := kms.asked.Load(); n > 25 {
		t.Errorf("asked %d times in two minutes while it refuses", n)
	}
}

// TestOwnKMSHangs: no request waits for a key management that does not answer, before its lease is over or after.
func TestOwnKMSHangs(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	r.ownLife = 2 * time.Second // asked for half a second
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	handOver(t, r, id, kms)
	opens(t, r, id, sealed, fields)
	kms.hangs.Store(true)
	c.advance(time.Second)
	r.TendOwn(t.Context())
	began := time.Now()
	opens(t, r, id, sealed, fields)
	if took := time.Since(began); took > 250*time.Millisecond {
		t.Errorf("took %s while the key management was asked", took)
	}
	settled(r, id)
	c.advance(time.Second + time.Millisecond)
	began = time.Now()
	closedFor(t, r, id, sealed, fields)
	if took := time.Since(began); took > 250*time.Millisecond {
		t.Errorf("refused after %s", took)
	}
	kms.hangs.Store(false)
	settled(r, id)
	c.advance(time.Second)
	r.TendOwn(t.Context())
	settled(r, id)
	opens(t, r, id, sealed, fields)
}

// TestOwnKeyIsProved: a key management that gives another key than it was given opens nothing, and closes nothing either.
func TestOwnKeyIsProved(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	kms.alters.Store(true)
	if _, err := TestKMS(t.Context(), id, kms); err == nil {
		t.Error("it passes the test")
	}
	if _, err := r.HandOver(t.Context(), id, testSetting, kms); err == nil {
		t.Error("the keys were handed over")
	}
	opens(t, r, id, sealed, fields)
	kms.alters.Store(false)
	handOver(t, r, id, kms)
	kms.alters.Store(true)
	closedFor(t, r, id, sealed, fields)
	if s, err := r.OwnStateOf(t.Context(), id); err != nil || s.Why != Wrong {
		t.Errorf("%+v, %v", s, err)
	}
	if err := r.Opens(t.Context(), id, kms); err == nil {
		t.Error("it is said to open the key")
	}
}

// deaf ignores what a key is bound to.
type deaf struct{ *Local }

func (d deaf) Wrap(ctx context.Context, key secret.Bytes, _ Binding) (Wrapped, error) {
	return d.Local.Wrap(ctx, key, Binding{})
}

func (d deaf) Unwrap(ctx context.Context, w Wrapped, _ Binding) (secret.Bytes, error) {
	return d.Local.Unwrap(ctx, w, Binding{})
}

func TestKMSMustBind(t *testing.T) {
	t.Parallel()
	if d, err := TestKMS(t.Context(), tenantdb.NewTenantID(), newCustomer(t)); err != nil || d.KeyID != "platform/customer" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := TestKMS(t.Context(), tenantdb.NewTenantID(), deaf{newCustomer(t).Local}); err == nil {
		t.Error("an engine that binds nothing passes")
	}
}

// TestNeitherOpensAlone: with the database, the key store and the platform key, and without the organisation's key management, no key
// of the organisation opens; and what its key management can open is nothing without the platform key.
func TestNeitherOpensAlone(t *testing.T) {
	t.Parallel()
	dir, c, kms := newStoreDir(t), newClock(), newCustomer(t)
	r := ownRing(t, dir, c, kms)
	id, other := newTenant(t, r), newTenant(t, r)
	subject := newSubject(t)
	personal, err := r.SealFields(t.Context(), id, subject, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, fields := sealedOf(t, r, id)
	others, otherFields := sealedOf(t, r, other)
	handOver(t, r, id, kms)
	thief := ringOn(t, dir, c.now) // has everything but the key management
	closedFor(t, thief, id, sealed, fields)
	if _, err := thief.OpenFields(t.Context(), id, subject, personal, nil); !problem.Is(err, problem.TenantKey) {
		t.Errorf("a person's: %v", err)
	}
	opens(t, thief, other, others, otherFields)
	local := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore)
	customer := mustWrapper(t, mustPlatform(t, customersKey), "customer")
	err = filepath.WalkDir(filepath.Join(dir, "tenants", id.String()), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == ownLock || filepath.Base(filepath.Dir(filepath.Dir(path))) == string(usePerson) {
			return err
		}
		w, err := r.store.readFile(path)
		if err != nil {
			return err
		}
		b := ownBinding(id)
		if e.Name() != ownFile {
			b.Item = keyName{tenant: id, use: Use(filepath.Base(filepath.Dir(path)))}.item(1)
		}
		if _, err := customer.Unwrap(t.Context(), w, b); err == nil {
			t.Errorf("%s opens without the platform key", path)
		}
		plain, err := local.Unwrap(t.Context(), w, b)
		if err != nil {
			return err
		}
		if len(plain.Expose()) == keySize {
			t.Errorf("%s opens with the platform key alone", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTakenBack: what was given back to the platform needs the key management no more, and may be given to one again.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	c, kms := newClock(), newCustomer(t)
	r := ownRing(t, newStoreDir(t), c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	second := ownRing(t, r.store.dir, c, kms)
	for range 2 {
		handOver(t, r, id, kms)
		opens(t, r, id, sealed, fields)
		opens(t, second, id, sealed, fields)
		if err := r.TakeBack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		kms.revoke(ErrRefused)
		opens(t, r, id, sealed, fields)
		c.advance(ownLife + time.Second)
		opens(t, r, id, sealed, fields)
		second.TendOwn(t.Context())
		settled(second, id)
		opens(t, second, id, sealed, fields)
		if s, err := r.OwnStateOf(t.Context(), id); err != nil || !s.Open || s.Setting != (SettingID{}) {
			t.Errorf("%+v, %v", s, err)
		}
		kms.restore()
	}
	handOver(t, r, id, kms)
	kms.revoke(ErrRefused)
	if err := r.TakeBack(t.Context(), id); err == nil {
		t.Error("taken back from a key management that refuses")
	}
}

// TestOwnKeyThroughRotations: the platform key rotates without the organisation's key management, and keys that are made later are
// under the own key too.
func TestOwnKeyThroughRotations(t *testing.T) {
	t.Parallel()
	dir, c, kms := newStoreDir(t), newClock(), newCustomer(t)
	r := ownRing(t, dir, c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	handOver(t, r, id, kms)
	if _, err := r.Renew(t.Context(), id, UseWrap); err != nil {
		t.Fatal(err)
	}
	closedFor(t, ringOn(t, dir, c.now), id, sealed, fields)
	kms.revoke(ErrSilent)
	both := mustPlatform(t, firstPlatformKey+","+secondPlatformKey)
	newer, err := New(t.Context(), Config{Dir: dir, Platform: both, Now: c.now, Own: r.own})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Rewrap(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	needed, err := newer.Needed(t.Context())
	if err != nil || len(needed) != 1 || needed[Wrapping{"platform/keystore", 2}] == 0 {
		t.Errorf("%v, %v", needed, err)
	}
	kms.restore()
	alone, err := New(t.Context(), Config{Dir: dir, Platform: mustPlatform(t, secondPlatformKey), Now: c.now, Own: r.own})
	if err != nil {
		t.Fatal(err)
	}
	opens(t, alone, id, sealed, fields)
}
