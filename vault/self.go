package vault

import (
	"context"
	"slices"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// self says which of some actors are one with another. A person is one with all keys that they made, and with the groups that they are
// in. A key that belongs to nobody, as that of a sign-up does, is in the hands of an owner, and nothing says of which: it is one with
// every owner. The value says whether it is certain, so that what such an actor may do, the other may do now.
type self map[Actor]bool

// is reports whether an actor may be the same.
func (s self) is(a Actor) bool {
	_, is := s[a]
	return is
}

// self is which of some actors are one with another.
func (r *Room) self(ctx context.Context, tx *tenantdb.ReadTx, a Actor, of []Actor) (self, error) {
	s := self{a: true}
	if a.Kind != APerson && a.Kind != AKey {
		return s, nil
	}
	owners, err := r.owners(ctx, tx)
	if err != nil {
		return nil, err
	}
	people, sure := []string{a.ID}, true
	if a.Kind == AKey {
		maker, err := keyMaker(ctx, tx, a.ID)
		if err != nil {
			return nil, err
		}
		if people = []string{maker}; maker == "" {
			people, sure = owners, false
		}
	}
	nobodys := slices.ContainsFunc(people, func(p string) bool { return slices.Contains(owners, p) }) || !sure
	groups, err := readGroupsOf(ctx, tx, people)
	if err != nil {
		return nil, err
	}
	keys, err := readKeys(ctx, tx, idsOf(of, AKey), r.now())
	if err != nil {
		return nil, err
	}
	for _, o := range of {
		switch k := keys[o.ID]; {
		case o == a:
		case o.Kind == APerson && slices.Contains(people, o.ID), o.Kind == AGroup && slices.Contains(groups, o.ID):
			s[o] = sure
		case o.Kind == AKey && k.person != "" && slices.Contains(people, k.person):
			s[o] = sure && k.works
		case o.Kind == AKey && k.person == "" && nobodys:
			s[o] = false
		}
	}
	return s, nil
}

// owners are the organisation's owners, as actors name them, and who was one until a few days ago: a key of nobody may be in their hands.
func (r *Room) owners(ctx context.Context, tx *tenantdb.ReadTx) ([]string, error) {
	all, err := r.cfg.People.OwnersOfLate(ctx, tx)
	out := make([]string, len(all))
	for k, o := range all {
		out[k] = o.String()
	}
	return out, err
}

// alone refuses what nobody does for themselves, but to an organisation's only owner, who has nobody to do it for them: its log says so.
// Who sent the other owners away is not the only one yet.
func (r *Room) alone(ctx context.Context, tx *tenantdb.ReadTx, refusal string) (bool, error) {
	if me, is := tx.Caller().Person(); is {
		if alone, err := r.cfg.People.Alone(ctx, tx, me.ID); alone || err != nil {
			return alone, err
		}
	}
	return false, problem.New(problem.Denied, "%s", refusal)
}

func idsOf(all []Actor, kind string) []string {
	ids := []string{}
	for _, a := range all {
		if a.Kind == kind {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// Joins refuses a change of who is in a group where the caller puts themselves into one to which items are granted: that would grant them.
// alone says that an organisation's only owner does it, which its log is to say.
func (r *Room) Joins(ctx context.Context, tx *tenantdb.ReadTx, group string, p tenantdb.PersonID) (alone bool, err error) {
	gain, err := r.gain(ctx, tx, actorOf(tx.Caller().Actor()), group, []tenantdb.PersonID{p})
	if err == nil && len(gain) > 0 {
		alone, err = r.alone(ctx, tx, "Items of the vault are granted to this group, and nobody grants to themselves: have somebody else put you in.")
	}
	return alone, wrapped("Joins", err)
}

// Takes refuses that the caller has a provider decide who is in a group to which items are granted: by a provider of theirs they would go in.
func (r *Room) Takes(ctx context.Context, tx *tenantdb.ReadTx, group string) (alone bool, err error) {
	if by := actorOf(tx.Caller().Actor()); by.Kind != APerson && by.Kind != AKey {
		return false, nil
	}
	has, err := r.has(ctx, tx, group)
	if err == nil && has {
		alone, err = r.alone(ctx, tx, "Items of the vault are granted to one of the groups, and nobody grants to themselves: who decides by a provider who is in it could go in. Have what is granted to it revoked first, and granted again after.")
	}
	return alone, wrapped("Takes", err)
}

// Gain are those of some people who would put themselves into a group to which items are granted, when a directory or a provider puts them in:
// by is who made its key, or configured it, as kind and id. Else it is believed. The only owner is none of them; alone says that it was they.
func (r *Room) Gain(ctx context.Context, tx *tenantdb.ReadTx, by, group string, people []tenantdb.PersonID) (gain []tenantdb.PersonID, alone bool, err error) {
	gain, err = r.gain(ctx, tx, actorIn(by), group, people)
	for k := 0; err == nil && k < len(gain); k++ {
		if alone, err = r.cfg.People.Alone(ctx, tx, gain[k]); alone {
			return slices.Delete(gain, k, k+1), true, nil
		}
	}
	return gain, false, wrapped("Gain", err)
}

// gain are those of some people who may be an actor, if items are granted to a group.
func (r *Room) gain(ctx context.Context, tx *tenantdb.ReadTx, by Actor, group string, people []tenantdb.PersonID) (gain []tenantdb.PersonID, err error) {
	if has, err := r.has(ctx, tx, group); err != nil || !has {
		return nil, err
	}
	of := make([]Actor, len(people))
	for k, p := range people {
		of[k] = Actor{APerson, p.String()}
	}
	me, err := r.self(ctx, tx, by, of)
	for k := range of {
		if me.is(of[k]) {
			gain = append(gain, people[k])
		}
	}
	return gain, err
}

// has reports whether items are granted to a group.
func (r *Room) has(ctx context.Context, tx *tenantdb.ReadTx, group string) (bool, error) {
	grants, err := readGrantsTo(ctx, tx, Actor{AGroup, group}, nil)
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.live(r.now()) }), err
}
