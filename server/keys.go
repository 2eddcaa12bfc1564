package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/kms"
	"github.com/avouch-dev/avouch/tenantdb"
)

// KeyConfig is where an installation's keys are.
type KeyConfig struct {
	PlatformKey     secret.String
	PlatformKeyFile string
	KMS             kms.Config
	Pepper          secret.String
	PepperFile      string
	KeyStore        string
}

// Keys is where a server's keys are.
func (c *Config) Keys() KeyConfig {
	return KeyConfig{c.PlatformKey, c.PlatformKeyFile, c.KMS, c.Pepper, c.PepperFile, c.KeyStore}
}

// platform is the platform key; nil if none is given.
func (c *KeyConfig) platform() (*keyring.Platform, error) {
	if c.PlatformKey.IsZero() && c.PlatformKeyFile == "" {
		return nil, nil
	}
	p, err := keyring.LoadPlatform(c.PlatformKey, c.PlatformKeyFile)
	if err != nil {
		return nil, fmt.Errorf("server.Open: AVOUCH_PLATFORM_KEY_FILE or AVOUCH_PLATFORM_KEY: %w", err)
	}
	return p, nil
}

// Wrappers opens what wraps the keys.
func (c *KeyConfig) Wrappers(ctx context.Context) (kms.Wrappers, error) {
	_, w, err := c.wrappers(ctx)
	return w, err
}

func (c *KeyConfig) wrappers(ctx context.Context) (*keyring.Platform, kms.Wrappers, error) {
	platform, err := c.platform()
	if err != nil {
		return nil, kms.Wrappers{}, err
	}
	if platform != nil && c.KeyStore != "" {
		platform.Follow(c.KeyStore)
	}
	w, err := c.KMS.Open(ctx, platform)
	if err != nil {
		return nil, kms.Wrappers{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return platform, w, nil
}

// Open opens the key store, which is made where create says so and there is none. own, which may be nil, says of organisations' own key
// managements.
func (c *KeyConfig) Open(ctx context.Context, create bool, own func(*keyring.Config)) (*keyring.Ring, kms.Wrappers, error) {
	platform, w, err := c.wrappers(ctx)
	if err != nil {
		return nil, w, err
	}
	if create {
		if err := keyring.CreateStore(ctx, c.KeyStore, w.Store); err != nil {
			return nil, w, fmt.Errorf("server.Open: %w", err)
		}
	}
	pepper, err := keyring.LoadPepper(ctx, w.Store, c.Pepper, c.PepperFile)
	if err != nil {
		return nil, w, fmt.Errorf("server.Open: AVOUCH_API_KEY_PEPPER_FILE or AVOUCH_API_KEY_PEPPER: %w", err)
	}
	cfg := keyring.Config{Dir: c.KeyStore, Platform: platform, Wrapper: w.Store, Pepper: pepper}
	if own != nil {
		own(&cfg)
	}
	ring, err := keyring.New(ctx, cfg)
	if err != nil {
		return nil, w, fmt.Errorf("server.Open: %w", err)
	}
	return ring, w, nil
}

// Examine looks at what wraps the keys, without opening or changing any: the newest of it, and since when its newest version wraps the
// key store. An error says that it does not answer, or does not open the key store.
func (c *KeyConfig) Examine(ctx context.Context) (newest keyring.Description, at time.Time, err error) {
	w, err := c.Wrappers(ctx)
	if err != nil {
		return newest, at, err
	}
	all, err := w.Store.All(ctx)
	if err != nil {
		return newest, at, fmt.Errorf("server.Examine: %w", err)
	}
	if c.KeyStore == "" {
		return all[0], all[0].Since, nil
	}
	under, _, err := keyring.Under(c.KeyStore)
	if err != nil {
		return newest, at, fmt.Errorf("server.Examine: AVOUCH_KEY_STORE: %w", err)
	}
	if !slices.ContainsFunc(all, func(d keyring.Description) bool { return d.Opens(under) }) {
		return newest, at, fmt.Errorf("server.Examine: the key store is wrapped by version %d of %s, which is not given here", under.Version, under.KeyID)
	}
	at, err = since(all[0], c.KeyStore)
	return all[0], at, err
}

func (s *Server) openKeys(ctx context.Context) (err error) {
	cfg := s.cfg.Keys()
	s.Ring, s.wrappers, err = cfg.Open(ctx, true, func(c *keyring.Config) { c.Own, c.OwnLife, c.OwnChanged = s.ownKMS, s.cfg.ownLife, s.ownChanged })
	return err
}

// RotateAfter is how old a key may be that wraps the others.
const RotateAfter = 90 * 24 * time.Hour

// KeyStatus is what wraps the keys of an installation, and what that is still needed for.
type KeyStatus struct {
	Store   []keyring.Description // of the key store, the newest first
	Signing []keyring.Description // of the keys that sign tokens
	Held    string                // the KMS that new keys that sign tokens are made in; "" if they are made here
	Places  []keyring.Place       // of the keys that sign tokens
	Since   time.Time             // when the newest version of the key store's began; zero if nothing is wrapped under it
	Needs   []Need
	Unread  []string // files of the key store that cannot be read, and why: what they need is not known
	Strays  []string // names there that are nobody's
}

// Need is a version of something that keys or digests still need.
type Need struct {
	keyring.Wrapping
	Keys, SigningKeys, Peppers int
	Digests                    int64 // of API keys, that were made with this version of a pepper
	Given                      bool  // this process was given it
}

// Due reports whether the key that wraps has reached its age.
func (k *KeyStatus) Due(now time.Time) bool {
	return !k.Since.IsZero() && now.Sub(k.Since) >= RotateAfter
}

// KeyStatus asks what there is.
func (s *Server) KeyStatus(ctx context.Context) (k KeyStatus, err error) {
	if k.Store, err = s.wrappers.Store.All(ctx); err == nil {
		k.Signing, err = s.wrappers.Signing.All(ctx)
	}
	if err != nil {
		return k, fmt.Errorf("server.KeyStatus: %w", err)
	}
	if s.wrappers.Held.Make {
		k.Held = s.wrappers.Held.ID
	}
	if k.Places, err = s.Signing.Places(ctx); err != nil {
		return k, fmt.Errorf("server.KeyStatus: %w", err)
	}
	if k.Since, err = since(k.Store[0], s.cfg.KeyStore); err != nil {
		return k, fmt.Errorf("server.KeyStatus: %w", err)
	}
	stored, err := s.Ring.Needed(ctx)
	if unread := keyring.Failures(nil); takes(&unread, err) {
		for _, one := range unread {
			k.Unread = append(k.Unread, one.Error())
		}
		k.Strays, err = s.Ring.Strays()
	}
	if err == nil {
		k.Needs, err = s.needs(ctx, stored, slices.Concat(k.Store, k.Signing))
	}
	if err != nil {
		return k, fmt.Errorf("server.KeyStatus: %w", err)
	}
	return k, nil
}

// since is when a version was made, or else when the store came under it.
func since(d keyring.Description, dir string) (time.Time, error) {
	under, at, err := keyring.Under(dir)
	switch {
	case err != nil || !d.Since.IsZero():
		return d.Since, err
	case under != keyring.Wrapping{KeyID: d.KeyID, Version: d.Version}:
		return time.Time{}, nil
	}
	return at, nil
}

// needs counts what each version is needed for.
func (s *Server) needs(ctx context.Context, stored map[keyring.Wrapping]int, given []keyring.Description) ([]Need, error) {
	all := map[keyring.Wrapping]*Need{}
	at := func(w keyring.Wrapping) *Need {
		if all[w] == nil {
			all[w] = &Need{Wrapping: w, Given: slices.ContainsFunc(given, func(d keyring.Description) bool { return d.Opens(w) })}
		}
		return all[w]
	}
	for w, n := range stored {
		at(w).Keys = n
	}
	signing, err := s.Signing.Needed(ctx)
	if err != nil {
		return nil, err
	}
	for w, n := range signing {
		at(w).SigningKeys = n
	}
	if s.cfg.PepperFile != "" && s.cfg.Pepper.IsZero() {
		w, wrapped, err := keyring.PepperWrapping(s.cfg.PepperFile)
		if err != nil {
			return nil, err
		}
		if wrapped {
			at(w).Peppers = 1
		}
	}
	err = s.DB.Each(ctx, "keyring status", func(c tenantdb.Caller) error {
		digests, err := s.Keys.Peppers(ctx, c)
		for v, n := range digests {
			w := keyring.PepperName(v)
			at(w).Digests += n
			at(w).Given = s.Ring.HasPepper(v)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	needs := make([]Need, 0, len(all))
	for _, n := range all {
		needs = append(needs, *n)
	}
	slices.SortFunc(needs, func(a, b Need) int { return cmp.Or(cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Version, b.Version)) })
	return needs, nil
}

// Rewrapped is what a rewrapping did.
type Rewrapped struct {
	Under   keyring.Wrapping
	Store   keyring.Progress
	Signing keyring.Progress
	Pepper  bool
	Strays  []string // names in the key store that are nobody's, and were passed over
}

// Rewrap wraps all keys under the newest version of what wraps them, and says in the platform's log when it begins and when it is done.
// It may be ended at any point and begun again. What does not open stays as it is and stops nothing else: then the error is
// keyring.Failures, in the end. progress is told after each organisation, and after each signing key.
func (s *Server) Rewrap(ctx context.Context, by tenantdb.Caller, progress func(what string, p keyring.Progress)) (r Rewrapped, err error) {
	s.wrappers.Lead()
	d, err := s.wrappers.Store.Describe(ctx)
	if err != nil {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	r.Under = keyring.Wrapping{KeyID: d.KeyID, Version: d.Version}
	if _, err := s.DB.Record(ctx, by, r.event("platform_key.rewrap_begun")); err != nil {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	var failed keyring.Failures
	if r.Store, err = s.Ring.Rewrap(ctx, func(p keyring.Progress) { progress("keys of organisations", p) }); !takes(&failed, err) {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	if r.Signing, err = s.Signing.Rewrap(ctx, keyring.NewSigningTable(s.DB, by), func(p keyring.Progress) { progress("signing keys", p) }); !takes(&failed, err) {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	if r.Strays, err = s.Ring.Strays(); err != nil {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	if s.cfg.PepperFile != "" && s.cfg.Pepper.IsZero() {
		if r.Pepper, err = keyring.RewrapPepper(ctx, s.wrappers.Store, s.cfg.PepperFile); err != nil {
			return r, fmt.Errorf("server.Rewrap: AVOUCH_API_KEY_PEPPER_FILE: %w", err)
		}
	}
	if err := s.Ring.LeadPepper(); err != nil {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	done := r.event("platform_key.rewrapped")
	done.Public = append(done.Public, audit.Field{Name: "keys", Value: strconv.Itoa(r.Store.Keys)}, audit.Field{Name: "wrapped", Value: strconv.Itoa(r.Store.Wrapped)},
		audit.Field{Name: "signing_keys", Value: strconv.Itoa(r.Signing.Keys)}, audit.Field{Name: "signing_keys_wrapped", Value: strconv.Itoa(r.Signing.Wrapped)})
	if len(failed) > 0 {
		done.Public = append(done.Public, audit.Field{Name: "failed", Value: strconv.Itoa(len(failed))})
	}
	if _, err := s.DB.Record(ctx, by, done); err != nil {
		return r, fmt.Errorf("server.Rewrap: %w", err)
	}
	if len(failed) > 0 {
		return r, fmt.Errorf("server.Rewrap: %w", failed)
	}
	return r, nil
}

func (r *Rewrapped) event(name string) audit.Event {
	return audit.Event{
		Type: name, Target: audit.Target{Kind: "platform_key", ID: r.Under.KeyID},
		Public: []audit.Field{{Name: "version", Value: strconv.FormatUint(uint64(r.Under.Version), 10)}},
	}
}

// takes notes what could not be done with single keys, and reports whether that is all there is.
func takes(into *keyring.Failures, err error) bool {
	some := keyring.Failures(nil)
	if errors.As(err, &some) {
		*into = append(*into, some...)
		return true
	}
	return err == nil
}
