package apikey

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/fresh"
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
	// Refused records the use of a key that does not work. A server bounds here what a flood of them writes to the log of
	// the organisation whose key it was; nil writes each of them.
	Refused func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error
	Now     func() time.Time // nil is time.Now
}

// DefaultServiceQuota is a service key's verifications a month, unless the installation says otherwise.
const DefaultServiceQuota = 100_000

// Room is the keys of all organisations.
type Room struct {
	cfg     Config
	known   *recent[Identity] // by SHA-256 of the key
	unknown *recent[struct{}]
	present *fresh.Reads[Identity, standing]
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Refused == nil {
		cfg.Refused = func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
			_, err := cfg.DB.Record(ctx, c, ev)
			return err
		}
	}
	return &Room{
		cfg: cfg, known: newRecent[Identity](recentKeys, knownLife), unknown: newRecent[struct{}](recentKeys, unknownLife),
		present: fresh.New[Identity, standing](readPatience),
	}
}

// instant is now, as the database will give it back.
func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// Created is a new key, and the only sight of its secret.
type Created struct {
	Key
	Secret secret.String // the whole key
}

// Create makes a key that is at most as powerful as the caller.
func (r *Room) Create(ctx context.Context, c tenantdb.Caller, n NewKey) (Created, error) {
	if err := need(c, "keys:write"); err != nil {
		return Created{}, err
	}
	n.defaults()
	if err := n.check(r.cfg.Now()); err != nil {
		return Created{}, err
	}
	versions, err := r.warm(ctx, c.Tenant())
	if err != nil {
		return Created{}, fmt.Errorf("apikey.Create: %w", err)
	}
	var made Created
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		k, err := r.permitted(ctx, tx, n)
		if err != nil {
			return audit.Event{}, err
		}
		if made, err = r.make(ctx, tx, k, versions); err != nil {
			return audit.Event{}, err
		}
		// No decision was made with a key that did not exist, so none can come out otherwise.
		return made.event("key.created", false), nil
	})
	if err != nil {
		return Created{}, fmt.Errorf("apikey.Create: %w", err)
	}
	return made, nil
}

// permitted is the key to be made, as far as the caller may make it.
func (r *Room) permitted(ctx context.Context, tx *tenantdb.Tx, n NewKey) (Key, error) {
	a, err := r.authorityOf(ctx, &tx.ReadTx)
	if err != nil {
		return Key{}, err
	}
	if !a.may("keys:write") {
		return Key{}, problem.New(problem.Denied, "This needs the capability keys:write.")
	}
	k := Key{
		Kind: n.Kind, Live: !n.Test, Name: n.Name, Scopes: n.Scopes, Resources: n.Resources, Owners: n.Owners, Metadata: n.Metadata, Version: 1,
	}
	if err := a.covers(k); err != nil {
		return Key{}, err
	}
	if k.Kind == Service {
		if k.MonthlyQuota, err = a.quota(n.MonthlyQuota, r.cfg.ServiceQuota); err != nil {
			return Key{}, err
		}
	}
	k.ExpiresAt, err = a.expiry(n, r.instant())
	return k, err
}

// keyVersions are the versions of the two secrets that a digest is made with.
type keyVersions struct{ tenant, platform uint32 }

// warm brings into memory what make and the entry need of the key store, so that no disk and no KMS is waited for while
// the log's head is locked.
func (r *Room) warm(ctx context.Context, t tenantdb.TenantID) (v keyVersions, err error) {
	if v.tenant, v.platform, err = r.cfg.Ring.CurrentKeyVersions(ctx, t); err != nil {
		return v, err
	}
	if _, err := r.cfg.Ring.KeyDigest(ctx, t, "", 0, [32]byte{}, v.tenant, v.platform); err != nil {
		return v, err
	}
	return v, r.cfg.Ring.Prepare(ctx, t, audit.SubjectID{})
}

// make mints a key and stores what is kept of it. Its instant is later than that of every other key of the organisation,
// whatever this server's clock says: the head is locked, so nobody else is making one.
func (r *Room) make(ctx context.Context, tx *tenantdb.Tx, k Key, v keyVersions) (Created, error) {
	last, err := newest(ctx, &tx.ReadTx)
	if err != nil {
		return Created{}, err
	}
	k.CreatedAt = r.instant()
	if !k.CreatedAt.After(last) {
		k.CreatedAt = last.Add(time.Microsecond)
	}
	raw, p := mint(k.Kind, k.Live)
	k.ID, k.Hint = p.ID, p.Hint
	issued := k.CreatedAt.UnixMicro() * 1000
	digest, err := r.cfg.Ring.KeyDigest(ctx, tx.Tenant(), k.ID, issued, sha256.Sum256([]byte(raw.Expose())), v.tenant, v.platform)
	if err != nil {
		return Created{}, err
	}
	return Created{k, raw}, insert(ctx, tx, k, verifier{digest: digest, issuedAtNS: issued, versions: v})
}

// MintOwnerKey makes an organisation's first owner key, in the transaction that makes the organisation and with its entry.
// It does not expire: an organisation must not lock itself out by doing nothing for a while.
func (r *Room) MintOwnerKey(ctx context.Context, tx *tenantdb.Tx) (key secret.String, id string, err error) {
	v, err := r.warm(ctx, tx.Tenant())
	if err != nil {
		return secret.String{}, "", fmt.Errorf("apikey.MintOwnerKey: %w", err)
	}
	made, err := r.make(ctx, tx, Key{Kind: Owner, Live: true, Name: "first owner key", Scopes: []string{tenantdb.Everything}, Version: 1}, v)
	if err != nil {
		return secret.String{}, "", fmt.Errorf("apikey.MintOwnerKey: %w", err)
	}
	return made.Secret, made.ID, nil
}

// Get is one key.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller, id string) (k Key, err error) {
	if err := need(c, "keys:read"); err != nil {
		return Key{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		k, err = load(ctx, tx, id)
		return err
	})
	if err != nil {
		return Key{}, fmt.Errorf("apikey.Get: %w", err)
	}
	return k, nil
}

// Filter says which keys a list holds; empty fields let all through.
type Filter struct {
	Kind   Kind
	Status Status
}

// Position is where a page of the list ends.
type Position struct {
	CreatedAt time.Time `json:"t"`
	ID        string    `json:"k"`
}

// List is keys, newest first, from behind after if that is not nil.
func (r *Room) List(ctx context.Context, c tenantdb.Caller, f Filter, after *Position, limit int) (keys []Key, err error) {
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
		if a.self(id) {
			return false, problem.New(problem.Denied, "A key cannot change itself.")
		}
		if err := ch.check(*k); err != nil {
			return false, err
		}
		alters = ch.Resources != nil || ch.Owners != nil || ch.MonthlyQuota != nil
		if ch.MonthlyQuota != nil {
			if k.MonthlyQuota, err = a.quota(ch.MonthlyQuota, r.cfg.ServiceQuota); err != nil {
				return false, err
			}
		}
		assign(&k.Name, ch.Name)
		assign(&k.Metadata, ch.Metadata)
		assign(&k.Resources, ch.Resources)
		assign(&k.Owners, ch.Owners)
		return alters, a.covers(*k)
	})
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// Revoke ends a key for good. A key may always revoke itself: whoever finds one can make it harmless.
func (r *Room) Revoke(ctx context.Context, c tenantdb.Caller, id string) (Key, error) {
	return r.change(ctx, c, id, "", "key.revoked", func(_ authority, k *Key) (bool, error) {
		if k.RevokedAt.IsZero() {
			k.RevokedAt = r.instant()
		}
		return true, nil
	})
}

// Disable stops a key until it is enabled again.
func (r *Room) Disable(ctx context.Context, c tenantdb.Caller, id string) (Key, error) {
	return r.change(ctx, c, id, "", "key.disabled", func(a authority, k *Key) (bool, error) {
		if a.self(id) {
			return false, problem.New(problem.Denied, "A key cannot disable itself; it can revoke itself.")
		}
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
	itself := typ == "key.revoked" && c.Actor() == audit.Actor{Kind: audit.ActorKey, ID: id}
	if err := need(c, "keys:write"); err != nil && !itself {
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
		if !itself {
			if err := a.covers(k); err != nil {
				return audit.Event{}, err
			}
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
