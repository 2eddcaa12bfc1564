package keyring

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Ring is the keys of all tenants: it seals, opens, digests and makes pseudonyms with them, and gives none of them out.
// It is safe for use by many goroutines.
type Ring struct {
	secret.Hidden
	store   *store
	wrapper KeyWrapper
	pepper  pepper
	now     func() time.Time

	keys    *cache[heldName, held]
	sealers *cache[sealerName, *fieldSealer]
	openers *cache[openerName, cipher.AEAD]

	mark *proof

	own     OwnKMS
	ownLife time.Duration
	owners  *cache[tenantdb.TenantID, *lease] // nil for those without a key management of their own
	leases  sync.Map                          // *lease by tenantdb.TenantID
	// ownChanged is told when an organisation's own key management fails, and with nil when it works again.
	ownChanged func(tenantdb.TenantID, error)
}

// Config is what a Ring is made of.
type Config struct {
	Dir      string        // the key store, made by CreateStore
	Platform *Platform     // derives the pepper of API key digests, unless Pepper is given; may be nil beside a Wrapper and a Pepper
	Wrapper  KeyWrapper    // wraps the tenants' keys; nil means Platform.Wrapper(ForKeyStore)
	Pepper   secret.String // a secret of its own for digests of API keys, in the format of ParsePlatform; may be empty with a Platform
	Now      func() time.Time

	Own     OwnKMS        // reaches organisations' own key managements; nil: none of them opens here
	OwnLife time.Duration // how long after it was asked one of them counts as having let us; 0 means 30 s
	// OwnChanged is told when one of them fails, and with nil when it works again; may be nil.
	OwnChanged func(tenantdb.TenantID, error)
}

// The sizes of the caches: keys of tenants, sealers of data subjects, openers of what others sealed, who has a key management.
const (
	cachedOwners  = 65_536
	cachedKeys    = 4096
	cachedSealers = 8192
	cachedOpeners = 4096
)

// held is one version of a tenant's key, unwrapped.
type held struct {
	version uint32
	key     secret.Bytes
	aead    cipher.AEAD
}

type heldName struct {
	tenant  tenantdb.TenantID
	use     Use
	version uint32 // 0: the newest
}

var storeBinding = Binding{Tenant: tenantdb.Platform, Item: "store"}

// CreateStore makes an empty key store in a directory, for the first start of an installation; one that is there is left
// as it is. It never follows from a missing key that a new one should be made.
func CreateStore(ctx context.Context, dir string, w KeyWrapper) error {
	var marker Wrapped
	if _, err := os.Lstat(filepath.Join(dir, markerFile)); err != nil { // one that is there is New's to judge
		key := newKey()
		defer key.Clear()
		if marker, err = w.Wrap(ctx, key, storeBinding); err == nil {
			err = proves(ctx, w, marker, storeBinding, key)
		}
		if err != nil {
			return fmt.Errorf("keyring.CreateStore: %w", err)
		}
	}
	if err := makeStore(dir, marker); err != nil {
		return fmt.Errorf("keyring.CreateStore: %w", err)
	}
	return nil
}

// New opens the key store. It fails if the store is missing, open to others, or wrapped under another platform key.
func New(ctx context.Context, c Config) (*Ring, error) {
	if c.Platform == nil && c.Wrapper == nil {
		return nil, errors.New("keyring.New: no platform key, and nothing else that wraps")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Wrapper == nil {
		w, err := c.Platform.Wrapper(ForKeyStore)
		if err != nil {
			return nil, fmt.Errorf("keyring.New: %w", err)
		}
		c.Wrapper = w
	}
	p, err := newPepper(c.Platform, c.Pepper, c.Dir)
	if err != nil {
		return nil, fmt.Errorf("keyring.New: %w", err)
	}
	s, marker, err := newStore(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("keyring.New: %w", err)
	}
	proof, err := c.Wrapper.Unwrap(ctx, marker, storeBinding)
	if err != nil {
		if errors.Is(err, ErrRefused) || errors.Is(err, ErrSilent) {
			return nil, fmt.Errorf("keyring.New: whether the key store %s is the right one cannot be known: %w", c.Dir, err)
		}
		return nil, fmt.Errorf("keyring.New: this platform key is not the one of the key store %s: %w", c.Dir, err)
	}
	proof.Clear()
	r := &Ring{
		store: s, wrapper: c.Wrapper, pepper: p, now: c.Now,
		keys:    newCache[heldName, held](cachedKeys/2, keyLife),
		sealers: newCache[sealerName, *fieldSealer](cachedSealers/2, keyLife),
		openers: newCache[openerName, cipher.AEAD](cachedOpeners/2, keyLife),
		own:     c.Own, ownLife: c.OwnLife, ownChanged: c.OwnChanged,
		mark: newProof(),
	}
	if r.ownLife == 0 {
		r.ownLife = ownLife
	}
	if r.ownChanged == nil {
		r.ownChanged = func(tenantdb.TenantID, error) {}
	}
	r.owners = newCache[tenantdb.TenantID, *lease](cachedOwners/2, r.ownLife)
	if err := r.ensureDecoy(ctx); err != nil {
		return nil, fmt.Errorf("keyring.New: %w", err)
	}
	return r, nil
}

// decoy is what PretendRead reads.
var decoy = heldName{tenantdb.TenantID{}, UseAPIKey, 1}

// ensureDecoy makes the decoy if the store has none.
func (r *Ring) ensureDecoy(ctx context.Context) error {
	if _, err := r.load(ctx, decoy); !errors.Is(err, ErrUnknownTenant) && !errors.Is(err, ErrLost) {
		return err
	}
	key := newKey()
	defer key.Clear()
	b := Binding{decoy.tenant, keyName{use: decoy.use}.item(decoy.version)}
	w, err := r.wrapper.Wrap(ctx, key, b)
	if err == nil {
		err = proves(ctx, r.wrapper, w, b, key)
	}
	if err != nil {
		return err
	}
	if err := r.store.createDecoy(w); err != nil {
		return err
	}
	_, err = r.load(ctx, decoy) // it may be another process's
	return err
}

func newKey() secret.Bytes {
	b := make([]byte, keySize)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	return secret.Own(b)
}

// CreateTenant makes a new tenant's keys, before the tenant's row is committed. It is the only call that begins a
// tenant's keys. For a tenant that has them all it does nothing; for one that has lost or destroyed some it fails.
func (r *Ring) CreateTenant(ctx context.Context, t tenantdb.TenantID) error {
	if err := r.opensStore(ctx, followLife); err != nil {
		return fmt.Errorf("keyring.CreateTenant: %w", outage(err))
	}
	keys := map[Use]Wrapped{}
	for _, use := range tenantUses {
		key, b := newKey(), Binding{t, keyName{tenant: t, use: use}.item(1)}
		w, err := r.wrapper.Wrap(ctx, key, b)
		if err == nil {
			err = proves(ctx, r.wrapper, w, b, key)
		}
		key.Clear()
		if err != nil {
			return fmt.Errorf("keyring.CreateTenant: %w", err)
		}
		keys[use] = w
	}
	won, err := r.store.createTenant(t, keys)
	if err != nil {
		return fmt.Errorf("keyring.CreateTenant: %w", err)
	}
	if won {
		return nil
	}
	for _, use := range tenantUses {
		if _, err := r.load(ctx, heldName{t, use, 0}); err != nil {
			return fmt.Errorf("keyring.CreateTenant: %s was begun before: %w", t, err)
		}
	}
	return nil
}

// Renew makes the next version of a tenant's key, and what is made from now on uses it: at once here, within keyLife on other
// servers. What was made with the versions before keeps them. It is also how a tenant begins anew whose key was destroyed.
func (r *Ring) Renew(ctx context.Context, t tenantdb.TenantID, use Use) (version uint32, err error) {
	n := keyName{tenant: t, use: use}
	_, last, err := r.store.versions(n)
	if err != nil {
		return 0, fmt.Errorf("keyring.Renew: %w", err)
	}
	version = last + 1
	if err := r.makeVersion(ctx, n, version); err != nil {
		return 0, fmt.Errorf("keyring.Renew: %w", err)
	}
	r.ForgetTenant(t)
	return version, nil
}

// makeVersion makes a version of a tenant's key. Whoever is second has the first's: a key was renewed, and that is what was asked for.
// Nobody moves the organisation's keys meanwhile: what was wrapped before a move and gets its name after it would be left where it was.
func (r *Ring) makeVersion(ctx context.Context, n keyName, version uint32) error {
	release, err := r.store.lockOwn(ctx, n.tenant)
	if err != nil {
		return err
	}
	defer release()
	key := newKey()
	defer key.Clear()
	w, err := r.wrapNew(ctx, key, Binding{n.tenant, n.item(version)})
	if err != nil {
		return err
	}
	_, err = r.store.create(n, version, w)
	return err
}

// Versions are the numbers of a tenant's key's versions, 1 to last; live is the newest that was not destroyed, 0 if all were.
func (r *Ring) Versions(t tenantdb.TenantID, use Use) (live, last uint32, err error) {
	live, last, err = r.store.versions(keyName{tenant: t, use: use})
	if err != nil {
		return 0, 0, fmt.Errorf("keyring.Versions: %w", err)
	}
	return live, last, nil
}

// Destroy ends one version of a tenant's key for good, in the key store and in this process. Other servers stop using it
// within keyLife. What was sealed under it cannot be opened again, whatever is restored, except where a copy of the key
// store from before is restored too.
func (r *Ring) Destroy(ctx context.Context, t tenantdb.TenantID, use Use, version uint32) error {
	err := r.store.destroy(ctx, keyName{tenant: t, use: use}, version)
	r.ForgetTenant(t)
	if err != nil {
		return fmt.Errorf("keyring.Destroy: %w", err)
	}
	return nil
}

// DestroySubject ends all keys of a data subject for good: erasure. A later seal for the same subject begins a new
// version; what was sealed before stays closed. For a subject without keys it does nothing.
func (r *Ring) DestroySubject(ctx context.Context, t tenantdb.TenantID, subject audit.SubjectID) error {
	defer r.Forget(t, subject)
	n := keyName{t, usePerson, subject}
	_, last, err := r.store.versions(n)
	if err != nil {
		return fmt.Errorf("keyring.DestroySubject: %w", err)
	}
	for v := uint32(1); v <= last; v++ {
		if err := r.store.destroy(ctx, n, v); err != nil {
			return fmt.Errorf("keyring.DestroySubject: %w", err)
		}
	}
	return nil
}

// Forget drops what this process has in memory of a data subject's keys.
func (r *Ring) Forget(t tenantdb.TenantID, subject audit.SubjectID) {
	r.sealers.drop(func(n sealerName) bool { return n.tenant == t && n.subject == subject })
	r.openers.drop(func(n openerName) bool { return n.tenant == t && n.subject == subject })
}

// Sweep forgets the keys that were unwrapped longer ago than they are used for. Whoever calls it now and then has none of them in
// memory that nobody has asked for lately.
func (r *Ring) Sweep() {
	now := r.now()
	r.keys.sweep(now)
	r.sealers.sweep(now)
	r.openers.sweep(now)
}

// Held counts the keys that this process has in memory, unwrapped.
func (r *Ring) Held() int { return r.keys.size() + r.sealers.size() + r.openers.size() }

// ForgetTenant drops what this process has in memory of a tenant's keys and of its data subjects' keys.
func (r *Ring) ForgetTenant(t tenantdb.TenantID) {
	r.keys.drop(func(n heldName) bool { return n.tenant == t })
	r.sealers.drop(func(n sealerName) bool { return n.tenant == t })
	r.openers.drop(func(n openerName) bool { return n.tenant == t })
}

// key is a tenant's key, from memory or from the key store.
func (r *Ring) key(ctx context.Context, n heldName) (held, error) {
	if err := r.Usable(ctx, n.tenant); err != nil {
		return held{}, err
	}
	now := r.now()
	if h, ok := r.keys.get(n, now); ok {
		return h, nil
	}
	mark := r.keys.mark()
	h, err := r.load(ctx, n)
	if err != nil {
		return held{}, err
	}
	r.keys.put(n, timed[held]{h, now}, mark)
	return h, nil
}

func (r *Ring) load(ctx context.Context, n heldName) (held, error) {
	name, version := keyName{tenant: n.tenant, use: n.use}, n.version
	if version == 0 {
		live, last, err := r.store.versions(name)
		if err != nil {
			return held{}, err
		}
		if live == 0 {
			return held{}, fmt.Errorf("all %d versions of %s/%s: %w", last, n.tenant, n.use, ErrDestroyed)
		}
		version = live
	}
	key, err := r.read(ctx, name, version)
	if err != nil {
		return held{}, fmt.Errorf("version %d of %s/%s: %w", version, n.tenant, n.use, outage(r.doubted(ctx, err)))
	}
	a, err := newAEAD(key)
	if err != nil {
		return held{}, fmt.Errorf("version %d of %s/%s: %w: %w", version, n.tenant, n.use, ErrDamaged, err)
	}
	return held{version, key, a}, nil
}

// read reads and decrypts a version of a tenant's key, which may be on its way from one wrap to another.
func (r *Ring) read(ctx context.Context, n keyName, version uint32) (key secret.Bytes, err error) {
	for range mostMoves {
		w, err := r.store.read(n, version)
		if err != nil {
			return secret.Bytes{}, err
		}
		if key, err = r.unwrap(ctx, w, Binding{n.tenant, n.item(version)}); !errors.Is(err, errMoved) {
			return key, err
		}
	}
	return secret.Bytes{}, errMoved
}

// outage makes a problem of a KMS that does not do what it is asked, and of a process that was forgotten at a rotation: whoever asked us can
// do nothing about it, and nothing is lost.
func outage(err error) error {
	if errors.Is(err, ErrNotGiven) {
		return problem.New(problem.Unavailable, "The organisation's keys cannot be opened by this server. The operator must see to it.").Because(err)
	}
	if !errors.Is(err, ErrSilent) && !errors.Is(err, ErrRefused) {
		return err
	}
	return problem.New(problem.Unavailable, "The organisation's keys cannot be opened now: the key management does not do it. The operator must see to it if it lasts.").Because(err)
}
