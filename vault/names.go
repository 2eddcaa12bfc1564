package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/tenantdb"
)

// called is what the ids of an answer stand for, as far as its reader may know it: read once for a page.
type called struct {
	items  map[ID]string
	actors map[Actor]holder // nil if they were not read
}

// holder is somebody whom a grant, a request or an entry names by id.
type holder struct {
	name  string
	state string // "active", "suspended", "gone"
}

// of is what people call somebody; "" if the reader may not know it.
func (k *called) of(a Actor) string { return k.actors[a].name }

// by is of whom a text names by kind and id.
func (k *called) by(text string) string { return k.of(actorIn(text)) }

// state is what a grant is worth now. Of whom it is to that is not known where nobody was read.
func (k *called) state(g *Grant, now time.Time) string {
	h, there := k.actors[g.To]
	switch {
	case g.EndedAt != nil:
		return "ended"
	case !g.live(now):
		return "expired"
	case k.actors == nil:
		return "active"
	case !there:
		return "gone" // a group that was deleted has no row
	}
	return h.state
}

// actorIn reads what Actor.String makes.
func actorIn(text string) Actor {
	kind, id, _ := strings.Cut(text, ":")
	return Actor{kind, id}
}

// readsNames is the capability with which names of a kind are read elsewhere too.
func readsNames(kind string) string {
	return map[string]string{APerson: "members:read", AGroup: "members:read", AnAgent: "agents:read", AKey: "keys:read"}[kind]
}

// called finds names: of the items that the caller may know of, and of those of whom the caller may read.
func (r *Room) called(ctx context.Context, c tenantdb.Caller, items []ID, who []Actor) (k called, err error) {
	if k.items, err = r.itemNames(ctx, c, items); err != nil {
		return called{}, err
	}
	if k.actors, err = r.holders(ctx, c, who); err != nil {
		return called{}, err
	}
	return k, nil
}

// shown is called for the answer to a change: that is done, so what cannot be named is not.
func (r *Room) shown(ctx context.Context, c tenantdb.Caller, items []ID, who []Actor) *called {
	k, err := r.called(ctx, c, items, who)
	if err != nil {
		return &called{}
	}
	return &k
}

// itemNames are the names of those of some items that the caller may know of. One that was altered has none.
func (r *Room) itemNames(ctx context.Context, c tenantdb.Caller, ids []ID) (map[ID]string, error) {
	if len(ids) == 0 || !c.May("vault:read") && !c.May("vault:manage") {
		return nil, nil
	}
	v, err := r.sight(ctx, c)
	if err != nil {
		return nil, err
	}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	var items []Item
	var lasts map[ID]last
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if items, err = readSome(ctx, tx, ids); err == nil {
			lasts, err = readLasts(ctx, tx, ids)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	names := map[ID]string{}
	for k := range items {
		i := &items[k]
		if !v.sees(i) {
			continue
		}
		err := i.changedBy(lasts[i.ID])
		if err == nil {
			err = r.open(ctx, c.Tenant(), i, i.Version)
		}
		if err = r.told(ctx, c.Tenant(), i.ID, err); err == nil {
			names[i.ID] = i.About.Name
		} else if !errors.Is(err, errAltered) {
			return nil, err
		}
	}
	return names, nil
}

// holders are those of some actors who are there, or were: with their names, where the caller may know those.
func (r *Room) holders(ctx context.Context, c tenantdb.Caller, who []Actor) (all map[Actor]holder, err error) {
	if len(who) == 0 {
		return nil, nil
	}
	people := uuids(idsOf(who, APerson))
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		all, err = readHolders(ctx, tx, people, uuids(idsOf(who, AGroup)), uuids(idsOf(who, AnAgent)), idsOf(who, AKey), r.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	for a, h := range all {
		if !c.May(readsNames(a.Kind)) {
			h.name = ""
			all[a] = h
		}
	}
	if len(people) == 0 || !c.May(readsNames(APerson)) {
		return all, nil
	}
	names, err := r.cfg.Names(ctx, c, people)
	if err != nil {
		return nil, err
	}
	for p, name := range names {
		a := Actor{APerson, p.String()}
		h := all[a]
		h.name = name
		all[a] = h
	}
	return all, nil
}

// uuids are those of some ids that can be one: what somebody else wrote into a row fails no query.
func uuids(ids []string) []tenantdb.PersonID {
	out := []tenantdb.PersonID{}
	for _, text := range ids {
		if one, err := id.Parse[struct{}](text); err == nil {
			out = append(out, tenantdb.PersonID(one))
		}
	}
	return out
}
