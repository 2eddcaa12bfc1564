package vault

import (
	"context"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// mostGrants is how many grants of one item are in force.
const mostGrants = 500

// Grant lets somebody use an item. Nobody gains by what they give: who may decide about an item, and not use it, has another
// grant it to them; but for an organisation's only owner, and then its log says so. A seed is granted by a person who proved themselves.
func (r *Room) Grant(ctx context.Context, c tenantdb.Caller, item ID, to Actor, level Level, expires *time.Time) (g Grant, err error) {
	now := r.now()
	if expires != nil {
		whole := expires.UTC().Truncate(time.Second) // as the log says it
		expires = &whole
	}
	switch {
	case level != ForCode && level != ForSeed:
		return g, problem.New(problem.Invalid, "A grant is for codes (code), or for the seed too (seed).")
	case level == ForSeed && to.Kind != APerson && to.Kind != AGroup:
		return g, problem.New(problem.Denied, "Only people may have a seed: they prove themselves again to see it.")
	case expires != nil && !expires.After(now):
		return g, problem.New(problem.Invalid, "expires_at has passed.")
	}
	if level == ForSeed {
		if _, err := r.proved(c); err != nil {
			return g, err
		}
	}
	err = r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		i, err := managed(ctx, tx, item, r.managesOn)
		if err != nil {
			return nil, err
		}
		if is, err := there(ctx, &tx.ReadTx, to); err != nil || !is {
			if err == nil {
				err = problem.New(problem.Missing, "There is no such %s that could use the item.", to.Kind)
			}
			return nil, err
		}
		f := &facts{now: now, asker: actorOf(c.Actor()), item: i}
		if f.grants, err = readGrants(ctx, &tx.ReadTx, item); err != nil {
			return nil, err
		}
		if len(f.grants) >= mostGrants {
			return nil, problem.New(problem.Conflict, "An item is granted at most %d times: grant it to a group.", mostGrants)
		}
		g = Grant{ID: id.At[grantKind](now), Item: item, To: to, Level: level, GrantedBy: f.asker.String(), GrantedAt: now, ExpiresAt: expires}
		alone, err := r.gains(ctx, &tx.ReadTx, f, g)
		if err != nil {
			return nil, err
		}
		var events []audit.Event
		e := g.event(wasGranted)
		for _, old := range f.grants {
			if old.To == to {
				events = append(events, old.event("vault.revoked"))
				e.Public = append(e.Public, field("replaces", old.ID.String()))
				if err := endGrant(ctx, tx, old.ID, now, g.GrantedBy); err != nil {
					return nil, err
				}
			}
		}
		if alone {
			e.Public = append(e.Public, field("alone", "true"))
		}
		return append(events, e), insertGrants(ctx, tx, g)
	})
	return g, wrapped("Grant", r.told(ctx, c.Tenant(), item, err))
}

// gains refuses a grant by which its giver, by themselves or a key, could do more than was granted to the very same one, or for longer,
// unless they put the secret in and may use it themselves, or nobody else could give it.
func (r *Room) gains(ctx context.Context, tx *tenantdb.ReadTx, f *facts, g Grant) (alone bool, err error) {
	me, err := r.self(ctx, tx, f.asker, []Actor{g.To})
	if err != nil || !me.is(g.To) {
		return false, err
	}
	if !f.until(g.Level, g.To).Before(g.end()) {
		return false, nil
	}
	if g.Level == ForCode && !f.until(g.Level, f.asker).Before(g.end()) { // who knows the secret, and may use it, has a key use it
		by, err := putIn(ctx, tx, f.item)
		if err != nil {
			return false, err
		}
		if me, err = r.self(ctx, tx, f.asker, []Actor{by}); err != nil || me.is(by) {
			return false, err
		}
	}
	return r.alone(ctx, tx, "Nobody grants an item to themselves: have somebody else do it who decides about the item.")
}

// end is when a grant ends; far away if it does not.
func (g *Grant) end() time.Time {
	if g.ExpiresAt == nil {
		return time.Unix(1<<40, 0)
	}
	return *g.ExpiresAt
}

// until is when the grant of a level to the very same one ends; zero if there is none. What somebody has by a group, or could use by a
// key, is another's to take away: it would outlive that as a grant of their own.
func (f *facts) until(l Level, to Actor) (end time.Time) {
	for i := range f.grants {
		if g := &f.grants[i]; g.live(f.now) && g.To == to && g.Level.covers(l) && g.end().After(end) {
			end = g.end()
		}
	}
	return end
}

func (g *Grant) event(typ string) audit.Event {
	e := audit.Event{
		Type: typ, Target: audit.Target{Kind: tenantdb.VaultGrant, ID: g.ID.String()}, Alters: true,
		Public: []audit.Field{field("item", g.Item.String()), field("to", g.To.String()), field("level", string(g.Level))},
	}
	if g.ExpiresAt != nil {
		e.Public = append(e.Public, field("expires_at", g.ExpiresAt.UTC().Format(time.RFC3339)))
	}
	return e
}

// Revoke ends a grant, and what approved requests lend to the same one: no fetch that is sent after it returns gets anything by
// it, on any server.
func (r *Room) Revoke(ctx context.Context, c tenantdb.Caller, item ID, grant GrantID) (g Grant, err error) {
	err = r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		i, err := readItem(ctx, &tx.ReadTx, item)
		if err != nil {
			return nil, err
		}
		if i == nil {
			return nil, noItem()
		}
		// An item that was altered does not keep anybody from taking away what was granted of it.
		if err := r.stillManages(ctx, &tx.ReadTx, i); err != nil {
			return nil, err
		}
		found, err := readGrant(ctx, &tx.ReadTx, item, grant)
		if err != nil {
			return nil, err
		}
		if found == nil {
			return nil, problem.New(problem.Missing, "There is no such grant of this item.")
		}
		if g = *found; g.EndedAt != nil {
			return nil, nil
		}
		at, by := r.now(), actorOf(c.Actor()).String()
		g.EndedAt, g.EndedBy = &at, &by
		if err := endGrant(ctx, tx, g.ID, at, by); err != nil {
			return nil, err
		}
		return endLent(ctx, tx, item, g.To, at, []audit.Event{g.event("vault.revoked")})
	})
	return g, wrapped("Revoke", err)
}

// endLent ends what approved requests lend of an item to somebody, each with an entry behind those of events.
func endLent(ctx context.Context, tx *tenantdb.Tx, item ID, to Actor, at time.Time, events []audit.Event) ([]audit.Event, error) {
	lent, err := readLent(ctx, &tx.ReadTx, item)
	if err != nil {
		return nil, err
	}
	for k := range lent {
		if lent[k].By != to {
			continue
		}
		lent[k].EndedAt = &at
		if err := updateRequest(ctx, tx, &lent[k]); err != nil {
			return nil, err
		}
		events = append(events, lent[k].event("vault.request_ended"))
	}
	return events, nil
}

// Grants are the grants of an item that are in force, or have expired, for who decides about it.
func (r *Room) Grants(ctx context.Context, c tenantdb.Caller, item ID) (all []Grant, err error) {
	if err := need(c, "vault:read"); err != nil {
		return nil, err
	}
	var i *Item
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if i, err = readItem(ctx, tx, item); err != nil {
			return err
		}
		if err := decides(ctx, tx, i); err != nil {
			return err
		}
		all, err = readGrants(ctx, tx, item)
		return err
	})
	return all, wrapped("Grants", r.told(ctx, c.Tenant(), item, r.orNotManaged(ctx, c, i, err)))
}
