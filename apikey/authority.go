package apikey

import (
	"context"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// need refuses a caller without the capability. Avouch itself, acting for the operator, needs none.
func need(c tenantdb.Caller, capability string) error {
	if c.Actor().Kind == audit.ActorSystem || c.May(capability) {
		return nil
	}
	return problem.New(problem.Denied, "This needs the capability %s.", capability)
}

// authority is what a caller may give away and end: if it is a key, what that key may do at this moment.
type authority struct {
	caller tenantdb.Caller
	key    *Key // the key that acts; nil if something else does
}

// authorityOf reads the acting key under the lock that its revocation would take: a key that was revoked while its request
// was under way gives nothing away.
func (r *Room) authorityOf(ctx context.Context, tx *tenantdb.ReadTx) (authority, error) {
	a := authority{caller: tx.Caller()}
	if a.caller.Actor().Kind != audit.ActorKey {
		return a, nil
	}
	k, err := load(ctx, tx, a.caller.Actor().ID)
	if problem.Is(err, problem.Missing) || err == nil && k.Status(r.cfg.Now()) != Active {
		return a, Refused()
	}
	a.key = &k
	return a, err
}

func (a authority) system() bool { return a.caller.Actor().Kind == audit.ActorSystem }

func (a authority) may(capability string) bool {
	if a.key == nil {
		return a.system() || a.caller.May(capability)
	}
	return slices.Contains(a.key.Scopes, capability) || slices.Contains(a.key.Scopes, tenantdb.Everything)
}

func (a authority) self(id string) bool { return a.key != nil && a.key.ID == id }

// covers refuses what reaches further than the caller itself: a key mints, changes and ends only what is narrower.
func (a authority) covers(k Key) error {
	if k.Kind == Owner && !(a.system() || a.key == nil && a.caller.May(tenantdb.Everything) || a.key != nil && a.key.Kind == Owner) {
		return problem.New(problem.Denied, "Only an owner key may do this with an owner key.")
	}
	for _, s := range k.Scopes {
		if !a.may(s) {
			return problem.New(problem.Denied, "You lack the capability %s and cannot decide about a key that has it.", s)
		}
	}
	if a.key == nil {
		return nil
	}
	if !within(k.Resources, a.key.Resources) {
		return problem.New(problem.Denied, "Your key is narrowed to resources, and cannot decide about a key that is not narrowed to some of them.")
	}
	if !within(k.Owners, a.key.Owners) {
		return problem.New(problem.Denied, "Your key is narrowed to some owners' agents, and cannot decide about a key that is not narrowed to some of those.")
	}
	return nil
}

// within reports whether a narrowing is at least as narrow as another; an empty one is none.
func within[T comparable](narrow, wide []T) bool {
	if len(wide) == 0 {
		return true
	}
	return len(narrow) > 0 && !slices.ContainsFunc(narrow, func(v T) bool { return !slices.Contains(wide, v) })
}

// expiry is when a new key expires. It does not outlive the key that makes it, or a key that leaked for an hour could
// make one that lasts for ever.
func (a authority) expiry(n NewKey, now time.Time) (time.Time, error) {
	limit := time.Time{}
	if a.key != nil {
		limit = a.key.ExpiresAt
	}
	at := n.ExpiresAt.UTC().Truncate(time.Microsecond)
	switch {
	case n.NeverExpires:
		at = time.Time{}
	case n.ExpiresAt.IsZero():
		if at = now.Add(DefaultLife); !limit.IsZero() && limit.Before(at) {
			at = limit
		}
	}
	if !limit.IsZero() && (at.IsZero() || at.After(limit)) {
		return at, problem.New(problem.Denied, "Your key expires at %s and cannot make one that lasts longer.", stamp(limit))
	}
	return at, nil
}

// quota is a service key's quota: what was asked for, at most the installation's default. More is the operator's to give.
func (a authority) quota(asked, most *int64) (*int64, error) {
	switch {
	case asked == nil:
		return most, nil
	case *asked < 0:
		return nil, problem.New(problem.Invalid, "monthly_quota is below zero.")
	case most != nil && *asked > *most && !a.system():
		return nil, problem.New(problem.Denied, "A key's monthly_quota is at most %d here; more is the operator's to give.", *most)
	}
	return asked, nil
}
