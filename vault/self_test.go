package vault

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestSentAway: who sent the other owner away is not the only one yet: they grant nothing to themselves, loosen nothing, and go into no group
// to which items are granted. Who was sent away is mailed as before, and a key of nobody may be in their hands.
func TestSentAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	ada, bob := h.person(t, "vault:read", "vault:write", "vault:code", "vault:manage"), h.person(t, "vault:read", "vault:manage")
	i, group := h.put(t, seedOf(TOTP)).ID, h.group(t)
	h.grant(t, i, group, ForSeed)
	h.policy(t, i, Policy{Uses: OnceEach})
	h.rules.set(func(b *rulebook) { b.owners, b.away = []tenantdb.PersonID{ada.id}, []tenantdb.PersonID{bob.id} })

	_, err := h.Grant(ctx, ada.caller(), i, ada.actor(), ForSeed, nil)
	refused(t, "a seed to themselves", err, problem.Denied, "Nobody grants an item to themselves")
	_, err = h.joins(t, ada.caller(), group, ada)
	refused(t, "into the group", err, problem.Denied, "nobody grants to themselves")
	h.grant(t, i, ada.actor(), ForCode)
	_, err = h.Update(ctx, ada.caller(), i, "", Change{Policy: &Policy{}})
	refused(t, "a looser policy", err, problem.Denied, "nobody loosens for themselves")
	nobodys := h.key(t, nil, "vault:read", "vault:manage")
	_, err = h.Grant(ctx, bob.caller(), i, actorOf(nobodys.Actor()), ForCode, nil)
	refused(t, "who was sent away, to a key of nobody", err, problem.Denied, "Nobody grants an item to themselves")

	_, err = h.Ask(ctx, h.member(t).caller(), i, ForCode, "The pager", time.Hour)
	must(t, err)
	told := strings.Fields(h.Text(t, `SELECT string_agg(args->'ids'->>'person', ' ') FROM avouch_jobs.river_job WHERE args->>'template' = 'vault_requested'`))
	slices.Sort(told)
	if want := slices.Sorted(slices.Values([]string{ada.id.String(), bob.id.String()})); !slices.Equal(told, want) {
		t.Errorf("%v are mailed, not %v", told, want)
	}

	h.rules.set(func(b *rulebook) { b.away = nil })
	_, err = h.Grant(ctx, ada.caller(), i, ada.actor(), ForSeed, nil)
	if must(t, err); h.Last(t, h.acme).Field("alone") != "true" {
		t.Errorf("the log says %s", h.Last(t, h.acme).Body)
	}
}

// TestProvidersPutNobodyIn: nobody lets a provider decide about a group to which items are granted, who could not go in themselves; and whom a
// provider or a directory puts in there is not who configured it, or made its key.
func TestProvidersPutNobodyIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob, p, other := h.person(t), h.person(t), h.person(t, "vault:manage"), h.person(t)
	h.rules.set(func(b *rulebook) { b.owners = []tenantdb.PersonID{ada.id, bob.id} })
	group, empty := h.group(t), h.group(t)
	soon := h.clock.at().Add(time.Minute)
	_, err := h.Grant(t.Context(), h.boss, h.put(t, seedOf(TOTP)).ID, group, ForCode, &soon)
	must(t, err)
	takes := func(by tenantdb.Caller, g Actor) (alone bool, err error) {
		must(t, h.DB.Read(t.Context(), by, func(tx *tenantdb.ReadTx) error {
			alone, err = h.Takes(t.Context(), tx, g.ID)
			return nil
		}))
		return alone, err
	}
	key, nobodys := h.key(t, p, "sso:write"), h.key(t, nil, "sso:write")
	for says, by := range map[string]tenantdb.Caller{"somebody": p.caller(), "an owner": ada.caller(), "a key": key, "a key of nobody": nobodys} {
		_, err := takes(by, group)
		refused(t, says, err, problem.Denied, "nobody grants to themselves")
		if _, err := takes(by, empty); err != nil {
			t.Errorf("%s, a group that has nothing: %v", says, err)
		}
	}
	if _, err := takes(tenantdb.System(h.acme, "operator"), group); err != nil {
		t.Errorf("the operator: %v", err)
	}

	gain := func(by Actor, g Actor, people ...*someone) string {
		t.Helper()
		var ids []tenantdb.PersonID
		name := map[tenantdb.PersonID]string{ada.id: "ada ", bob.id: "bob ", p.id: "p ", other.id: "other "}
		for _, one := range people {
			ids = append(ids, one.id)
		}
		said := ""
		must(t, h.DB.Read(t.Context(), tenantdb.System(h.acme, "sso"), func(tx *tenantdb.ReadTx) error {
			found, alone, err := h.Gain(t.Context(), tx, by.String(), g.ID, ids)
			for _, one := range found {
				said += name[one]
			}
			if alone {
				said += "alone"
			}
			return err
		}))
		return said
	}
	to := func(c tenantdb.Caller) Actor { return actorOf(c.Actor()) }
	for says, c := range map[string]struct {
		got, want string
	}{
		"who configured it":    {gain(p.actor(), group, other, p), "p "},
		"who made the key":     {gain(to(key), group, p, other), "p "},
		"a key of nobody":      {gain(to(nobodys), group, p, bob, ada), "bob ada "},
		"somebody else":        {gain(p.actor(), group, other, ada), ""},
		"the operator":         {gain(Actor{"system", "operator"}, group, p, ada), ""},
		"a group with nothing": {gain(p.actor(), empty, p), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", says, c.got, c.want)
		}
	}
	h.rules.set(func(b *rulebook) { b.owners = []tenantdb.PersonID{ada.id} })
	if alone, err := takes(ada.caller(), group); err != nil || !alone {
		t.Errorf("the only owner: %v, %v", alone, err)
	}
	if got := gain(to(nobodys), group, p, ada) + gain(ada.actor(), group, ada); got != "alonealone" {
		t.Errorf("the only owner is put in: %q", got)
	}
	_, err = takes(h.key(t, ada, "sso:write"), group)
	refused(t, "a key of the only owner", err, problem.Denied, "nobody grants to themselves")
	h.rules.set(func(b *rulebook) { b.away = []tenantdb.PersonID{bob.id} })
	_, err = takes(ada.caller(), group)
	refused(t, "who sent the other away", err, problem.Denied, "nobody grants to themselves")
	if got := gain(ada.actor(), group, ada); got != "ada " {
		t.Errorf("who sent the other away is put in: %q", got)
	}
	h.clock.pass(time.Minute)
	if _, err := takes(p.caller(), group); err != nil || gain(p.actor(), group, p) != "" {
		t.Errorf("when nothing is granted any more: %v", err)
	}
}
