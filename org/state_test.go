package org

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/tenantdb"
)

// TestMain makes a run of rapid shorter than its default, since each step is several commits: -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	checks := "8"
	if os.Getenv("AVOUCH_SOAK") == "1" {
		checks = "100"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// machine is an organisation whose people do all that they can, and what is known of it.
type machine struct {
	t       *testing.T
	c       *company
	people  []PersonID
	groups  []GroupID
	invited []InvitationID
	n       int
	owned   bool // whether there was an owner who could act
}

func (m *machine) caller(t *rapid.T) tenantdb.Caller {
	p := rapid.SampledFrom(m.people).Draw(t, "who")
	if rapid.IntRange(0, 5).Draw(t, "proof") == 0 {
		return m.c.stale(m.t, p)
	}
	return m.c.as(m.t, p)
}

func (m *machine) target(t *rapid.T) PersonID { return rapid.SampledFrom(m.people).Draw(t, "whom") }

func (m *machine) roles(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(append(builtInRoles(), "own-a", "own-b")), 0, 3, rapid.ID).Draw(t, "roles")
}

func (m *machine) owners() []PersonID {
	var all []PersonID
	err := m.c.DB.Read(m.t.Context(), m.c.system(), func(tx *tenantdb.ReadTx) (err error) {
		all, err = owners(m.t.Context(), tx)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// standings are what everybody is and may do.
func (m *machine) standings() map[PersonID]Standing {
	all := map[PersonID]Standing{}
	for _, p := range m.people {
		all[p] = m.c.standing(m.t, m.c.id, p)
	}
	return all
}

// step is one operation of somebody. What they could not do themselves nobody else can do after it, and owners are made by owners.
func (m *machine) step(t *rapid.T, by tenantdb.Caller, do func() error) {
	me, before, ownersBefore := mustPerson(by), m.standings(), m.owners()
	err := do()
	after, ownersAfter := m.standings(), m.owners()
	mine := before[me]
	for p, s := range after {
		for _, c := range s.Capabilities {
			had := func(h []string) bool { return slices.Contains(h, c) || slices.Contains(h, tenantdb.Everything) }
			if had(before[p].Capabilities) || mine.Active && had(mine.Capabilities) {
				continue
			}
			t.Fatalf("%v has %s, which neither they nor %v had: %v", p, c, me, err)
		}
	}
	for _, p := range ownersAfter {
		if !slices.Contains(ownersBefore, p) && !slices.Contains(mine.Capabilities, tenantdb.Everything) {
			t.Fatalf("%v is an owner now, by somebody who is none", p)
		}
	}
	for _, p := range ownersBefore {
		if !slices.Contains(ownersAfter, p) && !slices.Contains(mine.Capabilities, tenantdb.Everything) {
			t.Fatalf("%v is no owner any more, by somebody who is none", p)
		}
	}
	if m.owned = m.owned || len(ownersAfter) > 0; m.owned && len(ownersAfter) == 0 {
		t.Fatal("nobody owns the organisation any more")
	}
}

func (m *machine) actions() map[string]func(*rapid.T) {
	room, ctx := m.c.room, m.t.Context()
	act := func(do func(*rapid.T, tenantdb.Caller) error) func(*rapid.T) {
		return func(t *rapid.T) {
			by := m.caller(t)
			m.step(t, by, func() error { return do(t, by) })
		}
	}
	return map[string]func(*rapid.T){
		"roles": act(func(t *rapid.T, by tenantdb.Caller) error {
			roles := m.roles(t)
			return second(room.UpdatePerson(ctx, by, m.target(t), "", PersonChange{Roles: &roles}))
		}),
		"suspend":  act(func(t *rapid.T, by tenantdb.Caller) error { return second(room.SuspendPerson(ctx, by, m.target(t))) }),
		"resume":   act(func(t *rapid.T, by tenantdb.Caller) error { return second(room.ResumePerson(ctx, by, m.target(t))) }),
		"remove":   act(func(t *rapid.T, by tenantdb.Caller) error { return second(room.Remove(ctx, by, m.target(t))) }),
		"transfer": act(func(t *rapid.T, by tenantdb.Caller) error { return room.Transfer(ctx, by, m.target(t)) }),
		"role": act(func(t *rapid.T, by tenantdb.Caller) error {
			name, capabilities := rapid.SampledFrom([]string{"own-a", "own-b"}).Draw(t, "name"), rapid.SliceOfNDistinct(rapid.SampledFrom(tenantdb.Capabilities()), 1, 4, rapid.ID).Draw(t, "capabilities")
			if second(room.CreateRole(ctx, by, Role{Name: name, Capabilities: capabilities})) == nil {
				return nil
			}
			return second(room.UpdateRole(ctx, by, name, "", RoleChange{Capabilities: &capabilities}))
		}),
		"group": act(func(t *rapid.T, by tenantdb.Caller) error {
			m.n++
			g, err := room.CreateGroup(ctx, by, NewGroup{fmt.Sprint("G", m.n), m.roles(t)})
			if err == nil {
				m.groups = append(m.groups, g.ID)
			}
			return err
		}),
		"member": act(func(t *rapid.T, by tenantdb.Caller) error {
			if len(m.groups) == 0 {
				return nil
			}
			g := rapid.SampledFrom(m.groups).Draw(t, "group")
			switch rapid.IntRange(0, 3).Draw(t, "how") {
			case 0:
				return second(room.RemoveMember(ctx, by, g, m.target(t)))
			case 1:
				roles := m.roles(t)
				return second(room.UpdateGroup(ctx, by, g, "", GroupChange{Roles: &roles}))
			}
			return second(room.AddMember(ctx, by, g, m.target(t)))
		}),
		"invite": act(func(t *rapid.T, by tenantdb.Caller) error {
			m.n++
			n := NewInvitation{Address: fmt.Sprintf("p%d@acme.example", m.n), Roles: m.roles(t)}
			if len(m.groups) > 0 {
				n.Groups = []GroupID{rapid.SampledFrom(m.groups).Draw(t, "group")}
			}
			in, err := room.Invite(ctx, by, n)
			if err == nil {
				m.invited = append(m.invited, in.ID)
			}
			return err
		}),
		"join": m.join,
	}
}

// join makes no owner, and gives nothing, that the inviter does not hold at that moment.
func (m *machine) join(t *rapid.T) {
	if len(m.invited) == 0 {
		t.Skip("skipped: nobody is invited")
	}
	which := rapid.SampledFrom(m.invited).Draw(t, "invitation")
	var in Invitation
	var inviter PersonID
	err := m.c.DB.Read(m.t.Context(), m.c.system(), func(tx *tenantdb.ReadTx) (err error) {
		in, err = m.c.room.Invitation(m.t.Context(), tx, which)
		return err
	})
	if err == nil {
		err = inviter.UnmarshalText([]byte(in.InvitedBy[len("person:"):]))
	}
	if err != nil {
		t.Fatal(err)
	}
	holds := m.c.standing(m.t, m.c.id, inviter)
	p, err := m.c.join(m.t, which, "Somebody")
	if err != nil {
		return
	}
	m.people = append(m.people, p)
	for _, c := range m.c.standing(m.t, m.c.id, p).Capabilities {
		if !holds.Active || !slices.Contains(holds.Capabilities, c) && !slices.Contains(holds.Capabilities, tenantdb.Everything) {
			t.Fatalf("who joined has %s, and the inviter, %v, has not", c, holds.Capabilities)
		}
	}
}

// TestNoWayToPowerSoak: no sequence of operations gives anybody what nobody with it gave, and there is always an owner.
func TestNoWayToPowerSoak(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	rapid.Check(t, func(rt *rapid.T) {
		made, _ := c.create(t, "Acme", "")
		one := *c
		one.id = made.ID
		m := &machine{t: t, c: &one}
		for i, role := range append(builtInRoles(), RoleOwner, RoleAdmin) {
			m.people = append(m.people, one.person(t, fmt.Sprint(role, i), role))
		}
		actions := m.actions()
		actions[""] = func(*rapid.T) {}
		rt.Repeat(actions)
	})
}

func FuzzNormal(f *testing.F) {
	for _, s := range []string{"ada@acme.example", " Ada@Acme.Example ", "ada@bücher.example", "a.b+c@x.example", "@", "a@b", "\"a b\"@c.example", "a@b@c.example", "ＡＤＡ@acme.example", "İ@x.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Normal(s)
		if err != nil {
			return
		}
		if twice, err := Normal(n); err != nil || twice != n {
			t.Errorf("%q became %q, and that %q, %v", s, n, twice, err)
		}
	})
}

func TestNormal(t *testing.T) {
	t.Parallel()
	for in, out := range map[string]string{
		" Ada@Acme.Example ": "ada@acme.example", "ada@BÜCHER.example": "ada@xn--bcher-kva.example", "ＡＤＡ@acme.example": "ada@acme.example", "a+b@x.example": "a+b@x.example",
		"ada": "", "ada@": "", "@acme.example": "", "Ada <ada@acme.example>": "", "ada@acme.example\nBcc: eve@evil.example": "", "a@[127.0.0.1]": "", "a@b@c.example": "", "\"a b\"@acme.example": "",
	} {
		got, err := Normal(in)
		if got != out || (err == nil) != (out != "") {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
}
