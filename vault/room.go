package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// People is what the room asks of those who know who may do what (package org).
type People interface {
	// StillHolds refuses the transaction's caller if they lost a capability, or were signed out, since their request came.
	StillHolds(ctx context.Context, tx *tenantdb.ReadTx, capability string) error
	// OwnersOfLate are the owners who can act, and the members who were one until a few days ago.
	OwnersOfLate(ctx context.Context, tx *tenantdb.ReadTx) ([]tenantdb.PersonID, error)
	// Alone reports whether a person is the only owner who can act, and nobody else was one until a few days ago.
	Alone(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (bool, error)
}

// Config is what the room stands on.
type Config struct {
	DB     *tenantdb.DB
	Ring   *keyring.Ring
	People People
	Fetch  *fetch.Fetcher
	// Agents may be nil: then agents are proved as everybody else is.
	Agents       Agents
	Authenticate Authenticate
	Now          func() time.Time // nil is time.Now
	// OnlyWay are the marks (keyring.Ring.SeedMark) of the seeds by which alone the only owner of the organisation can prove themselves
	// at sign-in, and that owner; none where there are more owners, or another factor. nil knows of none.
	OnlyWay func(ctx context.Context, tx *tenantdb.ReadTx) (owner tenantdb.PersonID, marks [][]byte, err error)
	// Names are what those of some people are called who are, or were, of the caller's organisation: name and address. It is asked for who
	// may read members (members:read).
	Names func(ctx context.Context, c tenantdb.Caller, people []tenantdb.PersonID) (map[tenantdb.PersonID]string, error)
	// Raise tells of an item that is not what the log says (package incident).
	Raise func(ctx context.Context, c tenantdb.Caller, kind, subject, detail string) (bool, error)
}

// Room is the vaults of all organisations.
type Room struct {
	cfg    Config
	memory *memory
	known  known
	gate   *gate
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Room{cfg: cfg, memory: newMemory(cfg.DB, cfg.Now), gate: newGate(gatePatience)}
}

func (r *Room) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// place is where what an item keeps is sealed.
func place(id ID) string { return "vault/" + id.String() }

// sealAbout seals what people know the item by, as of its version.
func (r *Room) sealAbout(ctx context.Context, t tenantdb.TenantID, i *Item) error {
	plain, err := json.Marshal(i.About)
	if err == nil {
		i.about, err = r.cfg.Ring.Seal(ctx, t, place(i.ID), "about", uint64(i.Version), plain)
	}
	return err
}

// open reads what people know an item by.
func (r *Room) open(ctx context.Context, t tenantdb.TenantID, i *Item, version int64) error {
	plain, err := r.cfg.Ring.Open(ctx, t, place(i.ID), "about", uint64(version), i.about)
	if err != nil {
		return r.unopenedItem(t, err)
	}
	return json.Unmarshal(plain, &i.About)
}

// sealSecret seals what the item keeps secret, as of its secret's version.
func (r *Room) sealSecret(ctx context.Context, t tenantdb.TenantID, i *Item, c *content) error {
	plain, err := c.encode()
	if err != nil {
		return err
	}
	defer clear(plain)
	i.secret, err = r.cfg.Ring.Seal(ctx, t, place(i.ID), string(i.Kind), uint64(i.secretVersion), plain)
	return err
}

// reveal opens what an item keeps secret. The caller clears it.
func (r *Room) reveal(ctx context.Context, t tenantdb.TenantID, i *Item) (content, error) {
	plain, err := r.cfg.Ring.Open(ctx, t, place(i.ID), string(i.Kind), uint64(i.secretVersion), i.secret)
	if err != nil {
		return content{}, r.unopenedItem(t, err)
	}
	defer clear(plain)
	return decodeContent(plain)
}

// unopened is what a client learns of what does not open.
func (r *Room) unopened(err error) error {
	switch {
	case errors.Is(err, keyring.ErrSealed), errors.Is(err, keyring.ErrFormat):
		return altered()
	case errors.Is(err, keyring.ErrDestroyed):
		return problem.New(problem.Missing, "The organisation's keys were destroyed: what its vault held is gone for good.").Because(err)
	}
	return problem.New(problem.Unavailable, "The organisation's keys cannot be used now, so nothing of its vault can be opened. Try again shortly.").Because(err)
}

// unopenedItem is unopened, of an item as it lies there. One that needs a version of the organisation's key that is gone, while there are
// others, was put back from before that was rotated, or names another: each that there was has been wrapped anew.
func (r *Room) unopenedItem(t tenantdb.TenantID, err error) error {
	if errors.Is(err, keyring.ErrDestroyed) || errors.Is(err, keyring.ErrLost) {
		if live, _, bad := r.cfg.Ring.Versions(t, keyring.UseWrap); bad == nil && live != 0 {
			return altered()
		}
	}
	return r.unopened(err)
}

// need refuses a caller without a capability.
func need(c tenantdb.Caller, capability string) error {
	if c.May(capability) {
		return nil
	}
	return problem.New(problem.Denied, "This needs the capability %s, which the credential does not have.", capability)
}

// proved is the person who calls, proved a moment ago: seeds are shown to nobody else.
func (r *Room) proved(c tenantdb.Caller) (tenantdb.Person, error) {
	p, is := c.Person()
	if !is {
		return p, problem.New(problem.Denied, "Only a person who is signed in does this.")
	}
	return p, p.Fresh(r.now())
}

func wrapped(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("vault.%s: %w", op, err)
}
