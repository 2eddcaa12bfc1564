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
	key    *Use // the key that acts, with what limits it; nil if something else does
	// held is what an acting person holds under the lock: one who has left or lost a role since their request came gives nothing away.
	held *[]string
	// bound is to whom the acting key was given, if keys of that owner share limits: what it makes and changes is that
	// owner's too, or the limits would be worth nothing.
	bound string
}

// authorityOf reads the acting key under the lock that its revocation would take: a key that was revoked while its request
// was under way gives nothing away.
func (r *Room) authorityOf(ctx context.Context, tx *tenantdb.ReadTx) (authority, error) {
	a := authority{caller: tx.Caller()}
	if p, ok := a.caller.Person(); ok && r.cfg.HeldBy != nil {
		held, err := r.cfg.HeldBy(ctx, tx, p.ID)
		if err != nil {
			return a, err
		}
		a.held = &held
	}
	if a.caller.Actor().Kind != audit.ActorKey {
		return a, nil
	}
	u, err := LoadUse(ctx, tx, a.caller.Actor().ID)
	if err != nil {
		return a, err
	}
	if u == nil || u.Status(r.cfg.Now()) != Active {
		return a, Refused()
	}
	if a.key = u; u.GivenTo == "" {
		return a, nil
	}
	switch _, err = loadOwner(ctx, tx, u.GivenTo); {
	case problem.Is(err, problem.Missing):
		return a, nil
	case err == nil:
		a.bound = u.GivenTo
	}
	return a, err
}

func (a authority) system() bool { return a.caller.Actor().Kind == audit.ActorSystem }

func (a authority) may(capability string) bool {
	if a.key == nil {
		p, _ := a.caller.Person()
		return a.holds(capability) || slices.Contains(p.Lent, capability) && (a.held == nil || len(*a.held) > 0)
	}
	return slices.Contains(a.key.Scopes, capability) || slices.Contains(a.key.Scopes, tenantdb.Everything)
}

// holds is may without what break-glass lends: that cannot be handed on.
func (a authority) holds(capability string) bool {
	if a.key != nil {
		return a.may(capability)
	}
	return a.system() || a.caller.Holds(capability) && (a.held == nil || slices.Contains(*a.held, capability) || slices.Contains(*a.held, tenantdb.Everything))
}

// fresh refuses a person whose last proof is old, and who would have a key in hand that may do what wants a fresh one: nobody asks a
// key for that.
func (a authority) fresh(k Key, now time.Time) error {
	p, ok := a.caller.Person()
	dangerous := func(s string) bool { return s == tenantdb.Everything || s == "sso:write" }
	if !ok || k.Kind == Data || !slices.ContainsFunc(k.Scopes, dangerous) {
		return nil
	}
	return p.Fresh(now)
}

// person is who acts, or whose key does; zero if no person does.
func (a authority) person() tenantdb.PersonID {
	if a.key != nil {
		return a.key.Person
	}
	p, _ := a.caller.Person()
	return p.ID
}

// unlimited reports whether the acting key is its organisation itself, as the first one is: none that it came from may do more.
func (a authority) unlimited() bool {
	return a.key != nil && a.key.Kind == Owner && a.may(tenantdb.Everything) && len(a.meters()) == 0
}

func (a authority) self(id string) bool { return a.key != nil && a.key.ID == id }

// meters are the acting key's own, and those of the keys that made it.
func (a authority) meters() (out []Meter) {
	for _, m := range a.key.Meters {
		if m.Of != OfOwner {
			out = append(out, m)
		}
	}
	return out
}

// takes refuses to take a key over by rotating it if that is not counted with the acting one. Whoever rotates a key has the new
// one in hand, and is not to come by uses that nobody counts, or by a larger quota.
func (a authority) takes(ctx context.Context, tx *tenantdb.ReadTx, k Key) error {
	if a.key == nil {
		return nil
	}
	u, err := LoadUse(ctx, tx, k.ID)
	if err != nil || u == nil {
		return err
	}
	for _, m := range a.meters() {
		if _, counted := u.Meter(m.Subject); !counted {
			return problem.New(problem.Denied, "Your key's uses are limited, and those of this key are not counted with them: you cannot rotate it.")
		}
	}
	for _, q := range a.key.Quotas {
		counted := func(o Quota) bool { return o.Subject == q.Subject || o.Limit <= q.Limit }
		if k.Kind == Service && !slices.ContainsFunc(u.Quotas, counted) {
			return problem.New(problem.Denied, "Your key has %d verifications a month, and this key has more that are not counted with them: you cannot rotate it.", q.Limit)
		}
	}
	return nil
}

// bears refuses what decides about a key that the acting one comes from: itself, another generation of it, a key that made it,
// or one that made that.
func (a authority) bears(ctx context.Context, tx *tenantdb.ReadTx, k Key) error {
	if a.key == nil {
		return nil
	}
	from, err := lineage(ctx, tx, a.key.Key)
	if err != nil || !slices.Contains(from, k.Family()) {
		return err
	}
	return problem.New(problem.Denied, "A key decides neither about itself nor about a key that it came from. It can revoke itself.")
}

// ends refuses to revoke a key that the acting one comes from, and one that may do more. What a key made, it may revoke,
// whatever others have let that do since; and itself, and its other generations. A second owner key may take the first one's place.
func (a authority) ends(ctx context.Context, tx *tenantdb.ReadTx, k Key) error {
	switch {
	case a.self(k.ID):
		return nil
	case a.key == nil || a.key.Family() == k.Family() || a.unlimited():
		return a.covers(k)
	}
	if err := a.bears(ctx, tx, k); err != nil {
		return err
	}
	from, err := lineage(ctx, tx, k)
	if err != nil || slices.Contains(from, a.key.Family()) {
		return err
	}
	return a.covers(k)
}

// covers refuses what reaches further than the caller itself: a key mints, changes and ends only what is narrower.
func (a authority) covers(k Key) error {
	if k.Kind == Owner && !(a.system() || a.key == nil && a.holds(tenantdb.Everything) || a.key != nil && a.key.Kind == Owner) {
		return problem.New(problem.Denied, "Only an owner key may do this with an owner key.")
	}
	if a.bound != "" && k.GivenTo != a.bound {
		return problem.New(problem.Denied, "Your key was given to an owner whose keys share limits, and cannot decide about a key of anybody else.")
	}
	if k.Kind == Data { // it does nothing here: what its scopes mean is the organisation's affair
		return nil
	}
	for _, s := range k.Scopes {
		if !a.holds(s) {
			return problem.New(problem.Denied, "You lack the capability %s and cannot decide about a key that has it.", s)
		}
	}
	if a.key == nil {
		return nil
	}
	if !cidrsWithin(k.AllowedCIDRs, a.key.AllowedCIDRs) {
		return problem.New(problem.Denied, "Your key is narrowed to addresses, and cannot decide about a key that is not narrowed to some of them.")
	}
	if a.key.MaxUses != nil && (k.MaxUses == nil || *k.MaxUses > *a.key.MaxUses) {
		return problem.New(problem.Denied, "Your key has %d uses, and cannot decide about a key that has more.", *a.key.MaxUses)
	}
	if !within(k.Resources, a.key.Resources) {
		return problem.New(problem.Denied, "Your key is narrowed to resources, and cannot decide about a key that is not narrowed to some of them.")
	}
	if !within(k.Owners, a.key.Owners) {
		return problem.New(problem.Denied, "Your key is narrowed to some owners' agents, and cannot decide about a key that is not narrowed to some of those.")
	}
	return nil
}

// narrowed gives a new key what the acting key's own limits leave it. It spends the acting key's meters and quota beside its
// own, also those that the acting key is given later: any number of children has together no more uses than the key that makes
// them, and no more verifications a month.
func (a authority) narrowed(k Key) Key {
	k.Person = a.person()
	if a.key == nil {
		return k
	}
	k.MadeBy = a.key.ID
	if k.GivenTo == "" {
		k.GivenTo = a.key.GivenTo
	}
	if k.Kind == Data {
		return k
	}
	if len(k.AllowedCIDRs) == 0 {
		k.AllowedCIDRs = a.key.AllowedCIDRs
	}
	if k.MaxUses == nil {
		k.MaxUses = a.key.MaxUses
	}
	k.Shares = append(slices.Clone(a.key.Shares), a.key.Family())
	return k
}

// within reports whether a narrowing is at least as narrow as another; an empty one is none.
func within[T comparable](narrow, wide []T) bool {
	if len(wide) == 0 {
		return true
	}
	return len(narrow) > 0 && !slices.ContainsFunc(narrow, func(v T) bool { return !slices.Contains(wide, v) })
}

// expiry is when a new key expires, and whether it would be later, but for the acting key. It does not outlive the key that
// makes it, or a key that leaked for an hour could make one that lasts for ever.
func (a authority) expiry(n NewKey, now time.Time) (at time.Time, cut bool, err error) {
	if n.ExpiresAt.IsZero() && !n.NeverExpires {
		at, cut = a.cut(now.Add(DefaultLife))
		return at, cut, nil
	}
	if !n.NeverExpires {
		at = n.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	if limit, later := a.cut(at); later {
		return at, false, problem.New(problem.Denied, "Your key expires at %s and cannot make one that lasts longer: ask for an earlier end, or use a key that lasts as long.", stamp(limit))
	}
	return at, false, nil
}

// cut is an expiry that is not later than the acting key's, and whether it was.
func (a authority) cut(at time.Time) (time.Time, bool) {
	if a.key == nil || a.key.ExpiresAt.IsZero() || !at.IsZero() && !at.After(a.key.ExpiresAt) {
		return at, false
	}
	return a.key.ExpiresAt, true
}

// quota is a service key's quota: what was asked for, at most the installation's default and what the acting key has
// itself, or those that made it. More is the operator's to give.
func (a authority) quota(asked, most *int64) (*int64, error) {
	if a.key != nil {
		for _, q := range a.key.Quotas {
			if most == nil || q.Limit < *most {
				most = new(q.Limit)
			}
		}
	}
	switch {
	case asked == nil:
		return most, nil
	case *asked < 0:
		return nil, problem.New(problem.Invalid, "monthly_quota is below zero.")
	case most != nil && *asked > *most && !a.system():
		return nil, problem.New(problem.Denied, "The monthly_quota of a key that you make is at most %d; more is the operator's to give.", *most)
	}
	return asked, nil
}

// noQuota refuses to take a service key's quota away where it, or who does that, is to have one.
func (a authority) noQuota(most *int64) (*int64, error) {
	if most, _ = a.quota(nil, most); most == nil || a.system() {
		return nil, nil
	}
	return nil, problem.New(problem.Denied, "The monthly_quota of a key is at most %d: unlimited is the operator's to give. Give a number.", *most)
}
