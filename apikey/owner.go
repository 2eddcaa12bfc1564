package apikey

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// KeyOwner is somebody to whom an organisation gives keys, and what these share. Keys may be given to who has no KeyOwner.
type KeyOwner struct {
	Owner      string // the organisation's own words, such as its user's id
	MaxKeys    *int   // how many keys in force at most; nil is the installation's default
	RateLimits []RateLimit
	Metadata   map[string]any
	CreatedAt  time.Time
	Version    int64
}

// DefaultKeysPerOwner is how many keys in force one owner has at most, unless the installation says otherwise.
const DefaultKeysPerOwner = 100

const mostKeysPerOwner = 1_000_000

func (o KeyOwner) check() error {
	var f faults
	if o.Owner == "" {
		f.add("owner", "is empty")
	}
	checkGivenTo(&f, o.Owner)
	if o.MaxKeys != nil && (*o.MaxKeys < 1 || *o.MaxKeys > mostKeysPerOwner) {
		f.add("max_keys", "is not between 1 and %d", mostKeysPerOwner)
	}
	checkRates(&f, o.RateLimits)
	checkMetadata(&f, o.Metadata)
	return f.problem()
}

func (o KeyOwner) event(typ, name string) audit.Event {
	e := audit.Event{
		Type: typ, Target: audit.Target{Kind: "key_owner", ID: name}, Alters: true,
		Public:  []audit.Field{{Name: "version", Value: fmt.Sprint(o.Version)}},
		Private: []audit.Field{{Name: "owner", Value: o.Owner}},
	}
	if o.MaxKeys != nil {
		e.Public = append(e.Public, audit.Field{Name: "max_keys", Value: fmt.Sprint(*o.MaxKeys)})
	}
	if len(o.RateLimits) > 0 {
		e.Private = append(e.Private, audit.Field{Name: "rate_limits", Value: rates(o.RateLimits)})
	}
	if len(o.Metadata) > 0 {
		b, _ := json.Marshal(o.Metadata) // it came from JSON
		e.Private = append(e.Private, audit.Field{Name: "metadata", Value: string(b)})
	}
	return e
}

// PutOwner says what the keys of one owner share, from a version if ifMatch names one. It holds for every use of such a key
// that comes after.
func (r *Room) PutOwner(ctx context.Context, c tenantdb.Caller, ifMatch string, o KeyOwner) (KeyOwner, error) {
	if err := need(c, "keys:write"); err != nil {
		return KeyOwner{}, err
	}
	if err := o.check(); err != nil {
		return KeyOwner{}, err
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.PutOwner: %w", err)
	}
	name, err := r.cfg.Ring.Pseudonym(ctx, c.Tenant(), "key owner", o.Owner) // it is somebody's, and the log stays
	if err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.PutOwner: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := r.mayLimit(ctx, tx, o.Owner); err != nil {
			return audit.Event{}, err
		}
		before, err := loadOwner(ctx, &tx.ReadTx, o.Owner)
		switch {
		case problem.Is(err, problem.Missing):
			o.CreatedAt, o.Version = r.instant(), 1
		case err != nil:
			return audit.Event{}, err
		default:
			o.CreatedAt, o.Version = before.CreatedAt, before.Version+1
		}
		if err := web.CheckMatch(ifMatch, before.Version); err != nil {
			return audit.Event{}, err
		}
		return o.event("key_owner.set", name), saveOwner(ctx, tx, o)
	})
	if err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.PutOwner: %w", err)
	}
	return o, nil
}

// DeleteOwner takes away what the keys of one owner share, and returns it. The keys stay.
func (r *Room) DeleteOwner(ctx context.Context, c tenantdb.Caller, owner string) (o KeyOwner, err error) {
	if err := need(c, "keys:write"); err != nil {
		return KeyOwner{}, err
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.DeleteOwner: %w", err)
	}
	name, err := r.cfg.Ring.Pseudonym(ctx, c.Tenant(), "key owner", owner) // it is somebody's, and the log stays
	if err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.DeleteOwner: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := r.mayLimit(ctx, tx, owner); err != nil {
			return audit.Event{}, err
		}
		o, err = loadOwner(ctx, &tx.ReadTx, owner)
		if err != nil {
			return audit.Event{}, err
		}
		return o.event("key_owner.deleted", name), deleteOwner(ctx, tx, owner)
	})
	if err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.DeleteOwner: %w", err)
	}
	return o, nil
}

// mayLimit refuses a key that has been revoked, or narrowed, since its request came, and one that would decide about what
// limits itself.
func (r *Room) mayLimit(ctx context.Context, tx *tenantdb.Tx, owner string) error {
	a, err := r.authorityOf(ctx, &tx.ReadTx)
	switch {
	case err != nil:
		return err
	case !a.may("keys:write"):
		return problem.New(problem.Denied, "This needs the capability keys:write.")
	case a.key != nil && a.key.GivenTo != "":
		return problem.New(problem.Denied, "A key that was given to an owner cannot decide what that owner's keys share.")
	}
	return nil
}

// GetOwner is what the keys of one owner share.
func (r *Room) GetOwner(ctx context.Context, c tenantdb.Caller, owner string) (o KeyOwner, err error) {
	if err := need(c, "keys:read"); err != nil {
		return KeyOwner{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		o, err = loadOwner(ctx, tx, owner)
		return err
	})
	if err != nil {
		return KeyOwner{}, fmt.Errorf("apikey.GetOwner: %w", err)
	}
	return o, nil
}

// ListOwners are those that share something, by name, from behind after.
func (r *Room) ListOwners(ctx context.Context, c tenantdb.Caller, after string, limit int) (owners []KeyOwner, err error) {
	if err := need(c, "keys:read"); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		owners, err = listOwners(ctx, tx, after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("apikey.ListOwners: %w", err)
	}
	return owners, nil
}

// hasRoom refuses more keys in force than owners may have, of whom more are given some. The head is locked, so nobody else is
// making one.
func (r *Room) hasRoom(ctx context.Context, tx *tenantdb.ReadTx, more map[string]int) error {
	delete(more, "")
	if len(more) == 0 {
		return nil
	}
	return countKeys(ctx, tx, slices.Collect(maps.Keys(more)), r.cfg.Now(), func(owner string, has int, own *int) error {
		most := r.cfg.KeysPerOwner
		if own != nil {
			most = *own
		}
		if has+more[owner] <= most {
			return nil
		}
		return problem.New(problem.Conflict, "This owner may have %s in force, and has %d: revoke one first, or let the owner have more with PUT /api/v1/key-owners/{owner}.", keysOf(most), has)
	})
}

func keysOf(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}
