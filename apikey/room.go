package apikey

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/fresh"
	"github.com/avouch-dev/avouch/internal/pace"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what the room needs.
type Config struct {
	DB   *tenantdb.DB
	Ring *keyring.Ring
	// ServiceQuota is a service key's verifications a month unless it is given fewer; nil is unlimited. DefaultServiceQuota
	// is what an installation begins with.
	ServiceQuota *int64
	// KeysPerOwner is how many keys in force one owner has at most; 0 is DefaultKeysPerOwner.
	KeysPerOwner int
	// UnknownPerMinute is how many unknown keys one address may have looked up in a minute, on each server; 0 is
	// DefaultUnknownPerMinute, a negative number is unlimited.
	UnknownPerMinute int
	// GitHubKeys are those that alerts of leaked keys are signed with; without any, none is believed.
	GitHubKeys GitHubKeys
	// Refused records the use of a key that does not work. A server bounds here what a flood of them writes to the log of
	// the organisation whose key it was; nil writes each of them.
	Refused func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error
	// HeldBy is what a person holds at this moment; nobody who is not active holds anything. Nil trusts the caller's session.
	HeldBy func(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (capabilities []string, err error)
	Now    func() time.Time // nil is time.Now
	// Unhidden is a failpoint for tests: ids that nobody has are refused without the work that a wrong secret costs. False
	// in a server.
	Unhidden bool
}

// DefaultUnknownPerMinute bounds what a flood of unknown keys from one address costs the database, unless the installation
// says otherwise: they cannot be guessed anyway.
const DefaultUnknownPerMinute = 30_000

// DefaultServiceQuota is a service key's verifications a month, unless the installation says otherwise.
const DefaultServiceQuota = 100_000

// Room is the keys of all organisations.
type Room struct {
	cfg     Config
	known   *recent[Identity] // by SHA-256 of the key
	unknown *recent[struct{}]
	present *fresh.Reads[Identity, standing]

	strangers *pace.Pace // who sends keys that there are not

	uses     uses
	renewals renewals

	endsAtOnce int // but for tests, the constant
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.KeysPerOwner == 0 {
		cfg.KeysPerOwner = DefaultKeysPerOwner
	}
	if cfg.UnknownPerMinute == 0 {
		cfg.UnknownPerMinute = DefaultUnknownPerMinute
	}
	if cfg.Refused == nil {
		cfg.Refused = func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
			_, err := cfg.DB.Record(ctx, c, ev)
			return err
		}
	}
	return &Room{
		cfg: cfg, known: newRecent[Identity](recentKeys, knownLife), unknown: newRecent[struct{}](recentKeys, unknownLife),
		strangers: pace.New(cfg.UnknownPerMinute, time.Minute),
		present:   fresh.New[Identity, standing](readPatience), uses: uses{keys: map[Identity]*since{}}, renewals: renewals{keys: map[Identity]renewal{}}, endsAtOnce: endsAtOnce,
	}
}

// instant is now, as the database will give it back.
func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// Created is a new key, and the only sight of its secret.
type Created struct {
	Key
	Secret    secret.String // the whole key
	ExpiryCut bool          // it would last longer, but for the key that made it
	OldEnds   time.Time     // of a rotation: until when the key that it replaces works
	Ended     string        // of a rotation: the generation before that one, which ended by it; empty if none did
}

// Create makes a key that is at most as powerful as the caller.
func (r *Room) Create(ctx context.Context, c tenantdb.Caller, n NewKey) (Created, error) {
	if err := need(c, "keys:write"); err != nil {
		return Created{}, err
	}
	if err := n.check(r.cfg.Now()); err != nil {
		return Created{}, err
	}
	if err := r.warm(ctx, c.Tenant()); err != nil {
		return Created{}, fmt.Errorf("apikey.Create: %w", err)
	}
	var made Created
	err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		a, at, err := r.maker(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		k, cut, err := r.permitted(a, n, at)
		if err != nil {
			return audit.Event{}, err
		}
		if err := r.hasRoom(ctx, &tx.ReadTx, map[string]int{k.GivenTo: 1}); err != nil {
			return audit.Event{}, err
		}
		if made, err = r.make(ctx, tx, k); err != nil {
			return audit.Event{}, err
		}
		made.ExpiryCut = cut
		// No decision was made with a key that did not exist, so none can come out otherwise.
		return made.event("key.created", false), nil
	})
	if err != nil {
		return Created{}, fmt.Errorf("apikey.Create: %w", err)
	}
	return made, nil
}

// maker is what the caller may give away, and the instant of the next key.
func (r *Room) maker(ctx context.Context, tx *tenantdb.ReadTx) (a authority, at time.Time, err error) {
	if a, err = r.authorityOf(ctx, tx); err != nil {
		return a, at, err
	}
	if !a.holds("keys:write") {
		return a, at, lasts()
	}
	at, err = r.next(ctx, tx)
	return a, at, err
}

// lasts refuses to make a key by what is only lent: the key would be there when that is over.
func lasts() error {
	return problem.New(problem.Denied, "This needs the capability keys:write, and not one that is lent: a key lasts.")
}

// permitted is the key to be made at an instant, as far as the caller may make it, and whether it lasts less long than it would
// for that.
func (r *Room) permitted(a authority, n NewKey, at time.Time) (k Key, cut bool, err error) {
	k = a.narrowed(Key{
		Kind: n.Kind, Live: !n.Test, Name: n.Name, Scopes: n.Scopes, Resources: n.Resources, Owners: n.Owners, Metadata: n.Metadata, GivenTo: n.GivenTo,
		MaxUses: n.MaxUses, RateLimits: n.RateLimits, AllowedCIDRs: n.AllowedCIDRs, NotBefore: n.NotBefore, CreatedAt: at, Version: 1,
	})
	if err := a.covers(k); err != nil {
		return Key{}, false, err
	}
	if err := a.fresh(k, at); err != nil {
		return Key{}, false, err
	}
	if k.Kind == Service {
		if k.MonthlyQuota, err = a.quota(n.MonthlyQuota, r.cfg.ServiceQuota); err != nil {
			return Key{}, false, err
		}
	}
	k.ExpiresAt, cut, err = a.expiry(n, at)
	return k, cut, err
}

// keyVersions are the versions of the two secrets that a digest is made with.
type keyVersions struct{ tenant, platform uint32 }

// warm brings into memory what make and the entry need of the key store, so that no KMS is waited for while the log's head
// is locked, and of the disk only for a list of names.
func (r *Room) warm(ctx context.Context, t tenantdb.TenantID) error {
	if _, _, err := r.cfg.Ring.CurrentKeyVersions(ctx, t); err != nil {
		return err
	}
	return r.cfg.Ring.Prepare(ctx, t, audit.SubjectID{})
}

// make mints a key, of the instant that next gave, and stores what is kept of it. The head is locked, so nobody else is making
// one, or replacing or destroying the secret that it is digested with (RenewSecret, Shred).
func (r *Room) make(ctx context.Context, tx *tenantdb.Tx, k Key) (_ Created, err error) {
	var v keyVersions
	if v.tenant, v.platform, err = r.cfg.Ring.CurrentKeyVersions(ctx, tx.Tenant()); err != nil {
		return Created{}, err
	}
	raw, p := mint(k.Kind, k.Live)
	k.ID, k.Hint = p.ID, p.Hint
	digest, err := r.cfg.Ring.KeyDigest(ctx, tx.Tenant(), k.ID, k.issuedAtNS(), sha256.Sum256([]byte(raw.Expose())), v.tenant, v.platform)
	if err != nil {
		return Created{}, err
	}
	return Created{Key: k, Secret: raw}, insert(ctx, tx, v, minted{Key: k, digest: digest})
}

// next is the instant of the next key: later than that of every other one of the organisation, whatever this server's clock
// says.
func (r *Room) next(ctx context.Context, tx *tenantdb.ReadTx) (time.Time, error) {
	last, err := newest(ctx, tx)
	if at := r.instant(); err != nil || at.After(last) {
		return at, err
	}
	return last.UTC().Add(time.Microsecond), nil
}

// MintOwnerKey makes an organisation's first owner key, in the transaction that makes the organisation and with its entry.
// It does not expire: an organisation must not lock itself out by doing nothing for a while.
func (r *Room) MintOwnerKey(ctx context.Context, tx *tenantdb.Tx) (key secret.String, id string, err error) {
	if err := r.warm(ctx, tx.Tenant()); err != nil {
		return secret.String{}, "", fmt.Errorf("apikey.MintOwnerKey: %w", err)
	}
	at, err := r.next(ctx, &tx.ReadTx)
	if err != nil {
		return secret.String{}, "", fmt.Errorf("apikey.MintOwnerKey: %w", err)
	}
	made, err := r.make(ctx, tx, Key{Kind: Owner, Live: true, Name: "first owner key", Scopes: []string{tenantdb.Everything}, CreatedAt: at, Version: 1})
	if err != nil {
		return secret.String{}, "", fmt.Errorf("apikey.MintOwnerKey: %w", err)
	}
	return made.Secret, made.ID, nil
}

// Seen is a key, when it was used last, and how many uses are left of it, and of the keys that made it; nil is unlimited.
type Seen struct {
	Key
	LastUse
	Left *int64
}

// Get is one key.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller, id string) (s Seen, err error) {
	if err := need(c, "keys:read"); err != nil {
		return Seen{}, err
	}
	var k known
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		k, err = loadKnown(ctx, tx, id)
		return err
	})
	if err != nil {
		return Seen{}, fmt.Errorf("apikey.Get: %w", err)
	}
	return Seen{k.Key, r.opened(ctx, c.Tenant(), id, k.usedAt, k.client), k.left}, nil
}

// Filter says which keys a list holds; empty fields let all through.
type Filter struct {
	Kind   Kind
	Status Status
	Owner  string
	MadeBy string            // the id of the key that made them
	Person tenantdb.PersonID // who made them
}

// Position is where a page of the list ends.
type Position struct {
	CreatedAt time.Time `json:"t"`
	ID        string    `json:"k"`
}

// List is keys, newest first, from behind after if that is not nil. Of their last use it has the time alone.
func (r *Room) List(ctx context.Context, c tenantdb.Caller, f Filter, after *Position, limit int) ([]Seen, error) {
	keys, err := r.list(ctx, c, f, after, limit)
	out := make([]Seen, len(keys))
	for i, k := range keys {
		out[i] = Seen{k.Key, LastUse{At: k.usedAt}, k.left}
	}
	return out, err
}

func (r *Room) list(ctx context.Context, c tenantdb.Caller, f Filter, after *Position, limit int) (keys []known, err error) {
	if err := need(c, "keys:read"); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		keys, err = list(ctx, tx, f, r.cfg.Now(), after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("apikey.List: %w", err)
	}
	return keys, nil
}

// Update changes a key, from a version if ifMatch names one.
func (r *Room) Update(ctx context.Context, c tenantdb.Caller, id, ifMatch string, ch Change) (Key, error) {
	return r.change(ctx, c, id, ifMatch, "key.changed", func(a authority, k *Key) (alters bool, err error) {
		if err := ch.check(*k); err != nil {
			return false, err
		}
		before := *k
		switch {
		case ch.NoQuota && k.MonthlyQuota != nil:
			if k.MonthlyQuota, err = a.noQuota(r.cfg.ServiceQuota); err != nil {
				return false, err
			}
		case ch.MonthlyQuota != nil:
			if k.MonthlyQuota, err = a.quota(ch.MonthlyQuota, r.cfg.ServiceQuota); err != nil {
				return false, err
			}
		}
		assign(&k.Name, ch.Name)
		assign(&k.Metadata, ch.Metadata)
		assign(&k.Resources, ch.Resources)
		assign(&k.Owners, ch.Owners)
		if ch.MaxUses != nil || ch.NoMaxUses {
			k.MaxUses = ch.MaxUses
		}
		assign(&k.RateLimits, ch.RateLimits)
		assign(&k.AllowedCIDRs, ch.AllowedCIDRs)
		if err := changedTexts(before, *k); err != nil {
			return false, err
		}
		return true, a.covers(*k)
	})
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// Disable stops a key until it is enabled again. What came from it goes on working: a pause is no alarm, and nobody could say
// afterwards which of them were stopped by it.
func (r *Room) Disable(ctx context.Context, c tenantdb.Caller, id string) (Key, error) {
	return r.change(ctx, c, id, "", "key.disabled", func(_ authority, k *Key) (bool, error) {
		if k.DisabledAt.IsZero() {
			k.DisabledAt = r.instant()
		}
		return true, live(*k)
	})
}

// Enable undoes Disable.
func (r *Room) Enable(ctx context.Context, c tenantdb.Caller, id string) (Key, error) {
	return r.change(ctx, c, id, "", "key.enabled", func(_ authority, k *Key) (bool, error) {
		k.DisabledAt = time.Time{}
		return true, live(*k)
	})
}

func live(k Key) error {
	if k.RevokedAt.IsZero() {
		return nil
	}
	return problem.New(problem.Conflict, "The key is revoked, and that is for good.")
}

// change makes one change of one key, if the caller may decide about that key as it is. A change that changes nothing is
// not recorded.
func (r *Room) change(ctx context.Context, c tenantdb.Caller, id, ifMatch, typ string, fn func(authority, *Key) (alters bool, err error)) (k Key, err error) {
	if err := need(c, "keys:write"); err != nil {
		return Key{}, err
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return Key{}, fmt.Errorf("apikey.change: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		a, err := r.authorityOf(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if k, err = load(ctx, &tx.ReadTx, id); err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, k.Version); err != nil {
			return audit.Event{}, err
		}
		if err := a.bears(ctx, &tx.ReadTx, k); err != nil {
			return audit.Event{}, err
		}
		if err := a.covers(k); err != nil {
			return audit.Event{}, err
		}
		before := k
		alters, err := fn(a, &k)
		if err != nil || same(before, k) {
			return audit.Event{}, err
		}
		k.Version++
		return k.event(typ, alters), update(ctx, tx, k)
	})
	if err != nil {
		return Key{}, fmt.Errorf("apikey.change: %w", err)
	}
	return k, nil
}
