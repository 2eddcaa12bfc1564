package org

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestWhoDecidesAboutWhom: each built-in role tries each act on each other one.
func TestWhoDecidesAboutWhom(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.person(t, "spare", RoleOwner)
	by := map[string]tenantdb.Caller{}
	for _, role := range builtInRoles() {
		by[role] = c.as(t, c.person(t, "by-"+role, role))
	}
	acts := map[string]func(by tenantdb.Caller, p PersonID) error{
		"rename": func(by tenantdb.Caller, p PersonID) error {
			_, err := c.room.UpdatePerson(t.Context(), by, p, "", PersonChange{Name: new("Someone " + by.Actor().ID)})
			return err
		},
		"demote": func(by tenantdb.Caller, p PersonID) error { return c.setRoles(t, by, p, RoleViewer) },
		"suspend": func(by tenantdb.Caller, p PersonID) error {
			_, err := c.room.SuspendPerson(t.Context(), by, p)
			return err
		},
		"resume": func(by tenantdb.Caller, p PersonID) error {
			_, err := c.room.ResumePerson(t.Context(), by, p)
			return err
		},
		"remove": func(by tenantdb.Caller, p PersonID) error { _, err := c.room.Remove(t.Context(), by, p); return err },
	}
	for _, actor := range builtInRoles() {
		for _, target := range builtInRoles() {
			allowed := actor == RoleOwner || actor == RoleAdmin && target != RoleOwner
			for _, act := range []string{"rename", "suspend", "resume", "demote", "remove"} {
				p := c.person(t, strings.Join([]string{actor, act, target}, "-"), target)
				if act == "resume" {
					if _, err := c.room.SuspendPerson(t.Context(), c.system(), p); err != nil {
						t.Fatal(err)
					}
				}
				what := fmt.Sprintf("%s: %s %s", actor, act, target)
				if allowed {
					ok(t, acts[act](by[actor], p), what)
					continue
				}
				c.unchanged(t, func() { want(t, acts[act](by[actor], p), problem.Denied, what) })
			}
		}
	}
}

// TestNobodyGivesWhatTheyDoNotHold: by no way.
func TestNobodyGivesWhatTheyDoNotHold(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.person(t, "boss", RoleOwner)
	ok(t, second(c.room.CreateRole(t.Context(), c.system(), Role{Name: "people", Capabilities: []string{"members:read", "members:write"}})), "a role")
	me := c.person(t, "me", "people")
	by, mate := c.as(t, me), c.person(t, "mate")
	admins := c.group(t, c.as(t, boss), "Admins", RoleAdmin)
	for what, try := range map[string]func() error{
		"an owner":            func() error { return c.setRoles(t, by, mate, RoleOwner) },
		"an admin":            func() error { return c.setRoles(t, by, mate, RoleAdmin) },
		"a viewer":            func() error { return c.setRoles(t, by, mate, RoleViewer) },
		"themselves an admin": func() error { return c.setRoles(t, by, me, RoleAdmin, "people") },
		"themselves an owner": func() error { return c.setRoles(t, by, me, RoleOwner) },
		"a wider role": func() error {
			return second(c.room.CreateRole(t.Context(), by, Role{Name: "wide", Capabilities: []string{"keys:write"}}))
		},
		"their own role wider": func() error {
			return second(c.room.UpdateRole(t.Context(), by, "people", "", RoleChange{Capabilities: &[]string{"members:write", "sso:write"}}))
		},
		"a group of admins": func() error {
			return second(c.room.CreateGroup(t.Context(), by, NewGroup{"More", []string{RoleAdmin}}))
		},
		"themselves to admins": func() error { return second(c.room.AddMember(t.Context(), by, admins, me)) },
		"another to admins":    func() error { return second(c.room.AddMember(t.Context(), by, admins, mate)) },
		"the group's end":      func() error { return second(c.room.DeleteGroup(t.Context(), by, admins, "")) },
		"the group less": func() error {
			return second(c.room.UpdateGroup(t.Context(), by, admins, "", GroupChange{Roles: &[]string{}}))
		},
		"an invitation": func() error {
			return second(c.room.Invite(t.Context(), by, NewInvitation{Address: "x@x.example", Roles: []string{RoleAdmin}}))
		},
		"an invitation to own": func() error {
			return second(c.room.Invite(t.Context(), by, NewInvitation{Address: "x@x.example", Roles: []string{RoleOwner}}))
		},
		"an invitation to a group": func() error {
			return second(c.room.Invite(t.Context(), by, NewInvitation{Address: "x@x.example", Roles: []string{"people"}, Groups: []GroupID{admins}}))
		},
	} {
		c.unchanged(t, func() { want(t, try(), problem.Denied, what) })
	}
	ok(t, c.setRoles(t, by, mate, "people"), "what they hold")
	ok(t, second(c.room.Invite(t.Context(), by, NewInvitation{Address: "x@x.example", Roles: []string{"people"}})), "an invitation to what they hold")
}

func second[T any](_ T, err error) error { return err }

// TestLentIsNotHandedOn: break-glass lets somebody act, and gives nothing away that lasts.
func TestLentIsNotHandedOn(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	me, mate, viewer := c.person(t, "me", RoleMember), c.person(t, "mate"), c.person(t, "viewer", RoleViewer)
	by := c.session(c.standing(t, c.id, me), tenantdb.Person{ID: me, ProvedAt: c.now(), Lent: tenantdb.Capabilities()})
	for what, err := range map[string]error{
		"a role":        second(c.room.CreateRole(t.Context(), by, Role{Name: "mine", Capabilities: []string{"members:write"}})),
		"an admin":      c.setRoles(t, by, mate, RoleAdmin),
		"a group":       second(c.room.CreateGroup(t.Context(), by, NewGroup{"Mine", []string{RoleAuditor}})),
		"an invitation": second(c.room.Invite(t.Context(), by, NewInvitation{Address: "me2@acme.example", Roles: []string{RoleAdmin}})),
		"a key":         second(c.keys.Create(t.Context(), by, apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: []string{"audit:read"}})),
	} {
		want(t, err, problem.Denied, what)
	}
	ok(t, second(c.room.SuspendPerson(t.Context(), by, viewer)), "to suspend somebody who may do less")
	if e := c.Last(t, c.id); !strings.Contains(e.How, "break-glass") {
		t.Errorf("the entry says %q", e.How)
	}
}

func TestOwnersNeedAFreshProof(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleMember)
	old := c.stale(t, boss)
	for what, err := range map[string]error{
		"make an owner":   c.setRoles(t, old, mate, RoleOwner),
		"unmake an owner": c.setRoles(t, old, boss, RoleAdmin),
		"invite an owner": second(c.room.Invite(t.Context(), old, NewInvitation{Address: "x@x.example", Roles: []string{RoleOwner}})),
		"transfer":        c.room.Transfer(t.Context(), old, mate),
		"delete":          second(c.room.Delete(t.Context(), old, "Acme", "")),
		"lower":           second(c.room.UpdateRules(t.Context(), old, `"1"`, RulesChange{BreakGlass: &GlassRules{Approval: ApproveByDelay, Delay: time.Hour, MaxLife: time.Hour}})),
	} {
		if want(t, err, problem.Denied, what); !strings.HasPrefix(problem.Of(err).Detail, "Prove yourself again") {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok(t, c.setRoles(t, c.as(t, boss), mate, RoleOwner), "with a fresh proof")
}

// TestMeanwhile: somebody was demoted, suspended or removed while their request was under way.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.person(t, "spare", RoleOwner)
	for what, first := range map[string]func(PersonID) error{
		"demoted":   func(p PersonID) error { return c.setRoles(t, c.system(), p, RoleMember) },
		"suspended": func(p PersonID) error { return second(c.room.SuspendPerson(t.Context(), c.system(), p)) },
		"removed":   func(p PersonID) error { return second(c.room.Remove(t.Context(), c.system(), p)) },
	} {
		p := c.person(t, what, RoleOwner)
		by, mate := c.as(t, p), c.person(t, "mate-"+what)
		ok(t, first(p), what)
		c.unchanged(t, func() {
			want(t, c.setRoles(t, by, mate, RoleAdmin), problem.Denied, what+": make an admin")
			want(t, c.room.Transfer(t.Context(), by, mate), problem.Denied, what+": transfer")
			want(t, second(c.room.Delete(t.Context(), by, "Acme", "")), problem.Denied, what+": delete")
			want(t, second(c.room.CreateRole(t.Context(), by, Role{Name: "x", Capabilities: []string{"sso:write"}})), problem.Denied, what+": a role")
			want(t, second(c.keys.Create(t.Context(), by, apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: []string{"audit:read"}})), problem.Denied, what+": a key")
		})
	}
	ok(t, second(c.keys.Revoke(t.Context(), c.owner, c.key)), "revoke the key")
	want(t, second(c.room.Invite(t.Context(), c.owner, NewInvitation{Address: "x@x.example", Roles: []string{RoleOwner}})), problem.Denied, "a key that was revoked")
}

func TestLastOwnerStays(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, other := c.person(t, "boss", RoleOwner), c.person(t, "other", RoleOwner)
	ok(t, second(c.room.SuspendPerson(t.Context(), c.system(), other)), "suspend the other")
	by := c.as(t, boss)
	c.unchanged(t, func() {
		for what, err := range map[string]error{
			"demote themselves": c.setRoles(t, by, boss, RoleAdmin), "leave": second(c.room.Remove(t.Context(), by, boss)),
			"be demoted": c.setRoles(t, c.owner, boss), "be removed": second(c.room.Remove(t.Context(), c.owner, boss)),
			"be suspended": second(c.room.SuspendPerson(t.Context(), c.owner, boss)), "be suspended by the operator": second(c.room.SuspendPerson(t.Context(), c.system(), boss)),
		} {
			want(t, err, problem.Conflict, what)
		}
	})
	ok(t, second(c.room.ResumePerson(t.Context(), by, other)), "resume the other")
	ok(t, c.setRoles(t, by, boss, RoleAdmin), "demote themselves now")
}

// TestLastOwnerStaysWhateverComesAtOnce: all owners take each other's place away at the same moment.
func TestLastOwnerStaysWhateverComesAtOnce(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	var all []PersonID
	var by []tenantdb.Caller
	for i := range 6 {
		all = append(all, c.person(t, fmt.Sprint("owner", i), RoleOwner))
	}
	for _, p := range all {
		by = append(by, c.as(t, p))
	}
	var work sync.WaitGroup
	for i := range all {
		victim := all[(i+1)%len(all)]
		work.Go(func() { _ = c.setRoles(t, by[i], victim, RoleMember) })
		work.Go(func() { _, _ = c.room.SuspendPerson(t.Context(), c.owner, victim) })
		work.Go(func() { _, _ = c.room.Remove(t.Context(), c.owner, victim) })
	}
	work.Wait()
	if n := c.Text(t, `SELECT count(*)::text FROM avouch.person WHERE 'owner' = ANY (roles) AND suspended_at IS NULL AND removed_at IS NULL`); n != "1" {
		t.Errorf("%s owners are left", n)
	}
}

func TestPersonIsSealed(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.person(t, "boss", RoleOwner)
	ada := c.person(t, "Ada", RoleMember)
	if _, err := c.room.UpdatePerson(t.Context(), c.as(t, boss), ada, "", PersonChange{Name: new("Ada Lovelace")}); err != nil {
		t.Fatal(err)
	}
	p, err := c.room.Person(t.Context(), c.as(t, boss), ada)
	if err != nil || p.Name != "Ada Lovelace" || p.Address != "ada@acme.example" {
		t.Errorf("read back as %+v, %v", p, err)
	}
	stored := c.Text(t, `SELECT person.*::text FROM avouch.person WHERE person_id = $1`, ada.String())
	for _, e := range c.Entries(t, c.id) {
		stored += string(e.Body)
	}
	if strings.Contains(strings.ToLower(stored+c.Logged()), "ada@") || strings.Contains(stored, "Lovelace") {
		t.Errorf("in the clear: %s", stored)
	}
	if e := c.events(t, "person.changed"); len(e) != 1 || e[0].Private["name"] != "Ada Lovelace" || e[0].Target.ID != ada.String() || e[0].Commitments[0].Subject != ada {
		t.Errorf("the log is %+v", e)
	}
	if err := c.Ring.DestroySubject(t.Context(), c.id, ada); err != nil {
		t.Fatal(err)
	}
	if p, err = c.room.Person(t.Context(), c.as(t, boss), ada); err != nil || p.Name != "" || p.Address != "" {
		t.Errorf("erased, she is %+v, %v", p, err)
	}
	c.Admin(t, `ALTER TABLE avouch.person DISABLE TRIGGER require_entry`)
	c.Admin(t, `UPDATE avouch.person SET profile = (SELECT profile FROM avouch.person WHERE person_id = $2) WHERE person_id = $1`, boss.String(), c.person(t, "eve").String())
	if p, err := c.room.Person(t.Context(), c.owner, boss); err == nil {
		t.Errorf("another's profile opens: %+v", p)
	}
}

// TestNames: what people are called, for who may read members, also of those who left; who was erased, is another organisation's, or has a
// profile that does not open, is called nothing, and hides nobody.
func TestNames(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, ada, left, erased, moved := c.person(t, "boss", RoleOwner), c.person(t, "Ada", RoleMember), c.person(t, "Left", RoleMember), c.person(t, "Erased"), c.person(t, "Moved")
	ok(t, second(c.room.Remove(t.Context(), c.as(t, boss), left)), "removed")
	ok(t, c.Ring.DestroySubject(t.Context(), c.id, erased), "erased")
	c.Admin(t, `ALTER TABLE avouch.person DISABLE TRIGGER require_entry`)
	c.Admin(t, `UPDATE avouch.person SET profile = (SELECT profile FROM avouch.person WHERE person_id = $2) WHERE person_id = $1`, moved.String(), ada.String())
	all := []PersonID{ada, left, erased, moved, c.admitElsewhere(t), audit.NewSubjectID()}
	got, err := c.room.Names(t.Context(), c.as(t, ada), all)
	if want := map[PersonID]string{ada: "Ada <ada@acme.example>", left: "Left <left@acme.example>"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	nobody := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: c.id, Actor: audit.Actor{Kind: audit.ActorKey, ID: "x"}, Scopes: []string{"vault:manage"}})
	want(t, second(c.room.Names(t.Context(), nobody, all)), problem.Denied, "who may not read members")
}

func TestMe(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	p := c.person(t, "viv", RoleViewer)
	by := c.as(t, p)
	me, s, err := c.room.Me(t.Context(), by)
	if err != nil || me.ID != p || me.Name != "viv" || !same(s.Roles, []string{RoleViewer}) {
		t.Errorf("me: %+v, %+v, %v", me, s, err)
	}
	if me, err = c.room.RenameMe(t.Context(), by, `"1"`, "Vivian"); err != nil || me.Name != "Vivian" || me.Version != 2 {
		t.Errorf("renamed: %+v, %v", me, err)
	}
	want(t, second(c.room.RenameMe(t.Context(), by, `"1"`, "V")), problem.Conflict, "from an old version")
	want(t, second(c.room.RenameMe(t.Context(), by, "", "V\u202e")), problem.Invalid, "a name that turns text")
	_, _, err = c.room.Me(t.Context(), c.owner)
	want(t, err, problem.Denied, "a key is nobody")
	ok(t, second(c.room.Remove(t.Context(), c.system(), p)), "remove")
	want(t, second(c.room.RenameMe(t.Context(), by, "", "Back")), problem.Denied, "removed")
}

// TestRolesTakeEffectAtOnce: a role's change is a change of all who have it, and says which keys stay.
func TestRolesTakeEffectAtOnce(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	ok(t, second(c.room.CreateRole(t.Context(), boss, Role{Name: "builder", Description: "Builds", Capabilities: []string{"keys:write", "agents:read"}})), "a role")
	p := c.person(t, "bob", "builder")
	made, err := c.keys.Create(t.Context(), c.as(t, p), apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: []string{"agents:read"}})
	if err != nil || made.Person != p {
		t.Fatalf("a key: %+v, %v", made, err)
	}
	if s := c.standing(t, c.id, p); !same(s.Capabilities, []string{"agents:read", "keys:write"}) {
		t.Errorf("at first %v", s.Capabilities)
	}
	want(t, second(c.room.UpdateRole(t.Context(), boss, "builder", `"7"`, RoleChange{Capabilities: &[]string{"agents:read"}})), problem.Conflict, "another version")
	ok(t, second(c.room.UpdateRole(t.Context(), boss, "builder", `"1"`, RoleChange{Capabilities: &[]string{"agents:read"}})), "narrow it")
	if s := c.standing(t, c.id, p); !same(s.Capabilities, []string{"agents:read"}) {
		t.Errorf("then %v", s.Capabilities)
	}
	changed, err := c.room.UpdatePerson(t.Context(), boss, p, "", PersonChange{Roles: &[]string{}})
	if err != nil || changed.KeysKept != 1 {
		t.Errorf("demoted: %+v, %v", changed, err)
	}
	if e := c.events(t, "person.changed"); len(e) != 1 || e[0].Field("before") != "builder" || e[0].Field("roles") != "" {
		t.Errorf("the log is %+v", e)
	}
}

func TestRolesAreBounded(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	for what, n := range map[string]Role{
		"everything": {Name: "all", Capabilities: []string{"*"}}, "a capability that there is not": {Name: "x", Capabilities: []string{"fly"}},
		"no name": {Capabilities: []string{"verify"}}, "a name with blanks": {Name: "a b", Capabilities: []string{"verify"}}, "nothing": {Name: "nothing"},
	} {
		want(t, second(c.room.CreateRole(t.Context(), boss, n)), problem.Invalid, what)
	}
	want(t, second(c.room.CreateRole(t.Context(), boss, Role{Name: RoleAdmin, Capabilities: []string{"verify"}})), problem.Conflict, "a built-in name")
	want(t, second(c.room.UpdateRole(t.Context(), boss, RoleMember, "", RoleChange{Capabilities: &[]string{"verify"}})), problem.Conflict, "change a built-in one")
	want(t, second(c.room.DeleteRole(t.Context(), boss, RoleMember, "")), problem.Conflict, "delete a built-in one")
	ok(t, second(c.room.CreateRole(t.Context(), boss, Role{Name: "used", Capabilities: []string{"verify"}})), "a role")
	p := c.person(t, "bob", "used")
	want(t, second(c.room.DeleteRole(t.Context(), boss, "used", "")), problem.Conflict, "a person has it")
	ok(t, c.setRoles(t, boss, p), "take it away")
	g := c.group(t, boss, "G", "used")
	want(t, second(c.room.DeleteRole(t.Context(), boss, "used", "")), problem.Conflict, "a group gives it")
	ok(t, second(c.room.DeleteGroup(t.Context(), boss, g, "")), "delete the group")
	in, err := c.room.Invite(t.Context(), boss, NewInvitation{Address: "a@b.example", Roles: []string{"used"}})
	ok(t, err, "invite")
	want(t, second(c.room.DeleteRole(t.Context(), boss, "used", "")), problem.Conflict, "an invitation offers it")
	ok(t, second(c.room.Revoke(t.Context(), boss, in.ID)), "revoke")
	_, err = c.room.UpdateRules(t.Context(), boss, `"1"`, RulesChange{MFARoles: &[]string{"used"}})
	ok(t, err, "rules")
	want(t, second(c.room.DeleteRole(t.Context(), boss, "used", "")), problem.Conflict, "the rules name it")
	want(t, c.setRoles(t, boss, p, "unheard-of"), problem.Invalid, "a role that there is not")
	roles, err := c.room.Roles(t.Context(), boss)
	if err != nil || len(roles) != 6 || roles[5].Name != "used" || !roles[0].BuiltIn {
		t.Errorf("roles: %+v, %v", roles, err)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	g := c.group(t, boss, "Auditors", RoleAuditor)
	p := c.person(t, "bob", RoleMember)
	ok(t, second(c.room.AddMember(t.Context(), boss, g, p)), "add")
	c.unchanged(t, func() {
		if got, err := c.room.AddMember(t.Context(), boss, g, p); err != nil || got.Members != 1 {
			t.Errorf("added again: %+v, %v", got, err)
		}
	})
	if s := c.standing(t, c.id, p); !same(s.Roles, []string{RoleAuditor, RoleMember}) || !slices.Contains(s.Capabilities, "audit:read") {
		t.Errorf("in the group: %+v", s)
	}
	got, err := c.room.UpdateGroup(t.Context(), boss, g, `"1"`, GroupChange{Roles: &[]string{RoleViewer}})
	if err != nil || got.Members != 1 || slices.Contains(c.standing(t, c.id, p).Capabilities, "audit:read") {
		t.Errorf("narrowed: %+v, %v", got, err)
	}
	people, err := c.room.People(t.Context(), boss, Filter{Group: g}, PersonID{}, 10)
	if err != nil || len(people) != 1 || people[0].ID != p || !same(people[0].Groups, []GroupID{g}) {
		t.Errorf("members: %+v, %v", people, err)
	}
	want(t, second(c.room.CreateGroup(t.Context(), boss, NewGroup{"Auditors", nil})), problem.Conflict, "the same name")
	want(t, second(c.room.CreateGroup(t.Context(), boss, NewGroup{"Owners", []string{RoleOwner}})), problem.Invalid, "of owners")
	want(t, second(c.room.UpdateGroup(t.Context(), boss, g, "", GroupChange{Roles: &[]string{RoleOwner}})), problem.Invalid, "made one of owners")
	want(t, second(c.room.AddMember(t.Context(), boss, g, c.admitElsewhere(t))), problem.Missing, "somebody of another organisation")
	admin := c.as(t, c.person(t, "adm", RoleAdmin))
	want(t, second(c.room.AddMember(t.Context(), admin, g, c.person(t, "boss2", RoleOwner))), problem.Denied, "an admin puts an owner")
	if left, err := c.room.RemoveMember(t.Context(), boss, g, p); err != nil || left.Members != 0 || len(c.standing(t, c.id, p).Roles) != 1 {
		t.Errorf("taken out: %+v, %v", left, err)
	}
	c.Admin(t, `ALTER TABLE avouch.person_group DISABLE TRIGGER require_entry`)
	c.Admin(t, `UPDATE avouch.person_group SET managed_by = gen_random_uuid() WHERE group_id = $1`, g.String())
	want(t, second(c.room.AddMember(t.Context(), boss, g, p)), problem.Conflict, "a group of the directory")
	ok(t, second(c.room.DeleteGroup(t.Context(), boss, g, "")), "delete")
	want(t, second(c.room.Group(t.Context(), boss, g)), problem.Missing, "deleted")
}

func (c *company) admitElsewhere(t *testing.T) PersonID {
	t.Helper()
	other, _ := c.create(t, "Globex", "")
	return c.admit(t, other.ID, "stranger", RoleMember)
}
