package keyring

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
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
}

// Config is what a Ring is made of.
type Config struct {
	Dir      string        // the key store, made by CreateStore
	Platform *Platform     // derives the pepper of API key digests, unless Pepper is given
	Wrapper  KeyWrapper    // wraps the tenants' keys; nil means Platform.Wrapper(ForKeyStore)
	Pepper   secret.String // a secret of its own for digests of API keys, in the format of ParsePlatform; may be empty
	Now      func() time.Time
}

// The sizes of the three caches: keys of tenants, sealers of data subjects, openers of what others sealed.
const (
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
	key := newKey()
	defer key.Clear()
	marker, err := w.Wrap(ctx, key, storeBinding)
	if err != nil {
		return fmt.Errorf("keyring.CreateStore: %w", err)
	}
	if err := makeStore(dir, marker); err != nil {
		return fmt.Errorf("keyring.CreateStore: %w", err)
	}
	return nil
}

// New opens the key store. It fails if the store is missing, open to others, or wrapped under another platform key.
func New(ctx context.Context, c Config) (*Ring, error) {
	if c.Platform == nil {
		return nil, errors.New("keyring.New: no platform key")
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
	p, err := newPepper(c.Platform, c.Pepper)
	if err != nil {
		return nil, fmt.Errorf("keyring.New: %w", err)
	}
	s, marker, err := newStore(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("keyring.New: %w", err)
	}
	proof, err := c.Wrapper.Unwrap(ctx, marker, storeBinding)
	if err != nil {
		return nil, fmt.Errorf("keyring.New: this platform key is not the one of the key store %s: %w", c.Dir, err)
	}
	proof.Clear()
	r := &Ring{
		store: s, wrapper: c.Wrapper, pepper: p, now: c.Now,
		keys:    newCache[heldName, held](cachedKeys/2, keyLife),
		sealers: newCache[sealerName, *fieldSealer](cachedSealers/2, keyLife),
		openers: newCache[openerName, cipher.AEAD](cachedOpeners/2, keyLife),
	}
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
	w, err := r.wrapper.Wrap(ctx, key, Binding{decoy.tenant, keyName{use: decoy.use}.item(decoy.version)})
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
	keys := map[Use]Wrapped{}
	for _, use := range tenantUses {
		key := newKey()
		w, err := r.wrapper.Wrap(ctx, key, Binding{t, keyName{tenant: t, use: use}.item(1)})
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
	key := newKey()
	defer key.Clear()
	w, err := r.wrapper.Wrap(ctx, key, Binding{t, n.item(version)})
	if err != nil {
		return 0, fmt.Errorf("keyring.Renew: %w", err)
	}
	// Whoever is second has the first's: a key was renewed, and that is what was asked for.
	if _, err := r.store.create(n, version, w); err != nil {
		return 0, fmt.Errorf("keyring.Renew: %w", err)
	}
	r.ForgetTenant(t)
	return version, nil
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
func (r *Ring) Destroy(_ context.Context, t tenantdb.TenantID, use Use, version uint32) error {
	err := r.store.destroy(keyName{tenant: t, use: use}, version)
	r.ForgetTenant(t)
	if err != nil {
		return fmt.Errorf("keyring.Destroy: %w", err)
	}
	return nil
}

// DestroySubject ends all keys of a data subject for good: erasure. A later seal for the same subject begins a new
// version; what was sealed before stays closed. For a subject without keys it does nothing.
func (r *Ring) DestroySubject(_ context.Context, t tenantdb.TenantID, subject audit.SubjectID) error {
	defer r.Forget(t, subject)
	n := keyName{t, usePerson, subject}
	_, last, err := r.store.versions(n)
	if err != nil {
		return fmt.Errorf("keyring.DestroySubject: %w", err)
	}
	for v := uint32(1); v <= last; v++ {
		if err := r.store.destroy(n, v); err != nil {
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

// ForgetTenant drops what this process has in memory of a tenant's keys and of its data subjects' keys.
func (r *Ring) ForgetTenant(t tenantdb.TenantID) {
	r.keys.drop(func(n heldName) bool { return n.tenant == t })
	r.sealers.drop(func(n sealerName) bool { return n.tenant == t })
	r.openers.drop(func(n openerName) bool { return n.tenant == t })
}

// key is a tenant's key, from memory or from the key store.
func (r *Ring) key(ctx context.Context, n heldName) (held, error) {
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
	w, err := r.store.read(name, version)
	if err != nil {
		return held{}, err
	}
	key, err := r.wrapper.Unwrap(ctx, w, Binding{n.tenant, name.item(version)})
	if err != nil {
		return held{}, fmt.Errorf("version %d of %s/%s: %w", version, n.tenant, n.use, err)
	}
	a, err := newAEAD(key)
	if err != nil {
		return held{}, fmt.Errorf("version %d of %s/%s: %w: %w", version, n.tenant, n.use, ErrDamaged, err)
	}
	return held{version, key, a}, nil
}
