package org

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func (c *company) invite(t *testing.T, by tenantdb.Caller, address string, roles ...string) Invitation {
	t.Helper()
	in, err := c.room.Invite(t.Context(), by, NewInvitation{Address: address, Name: "Ada", Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestInvite(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	g := c.group(t, boss, "Auditors", RoleAuditor)
	in, err := c.room.Invite(t.Context(), boss, NewInvitation{Address: " Ada@Acme.Example", Name: "Ada", Roles: []string{RoleMember}, Groups: []GroupID{g}})
	if err != nil || in.Address != "ada@acme.example" || !in.ExpiresAt.Equal(in.CreatedAt.Add(7*24*time.Hour)) || in.State(c.now()) != "open" {
		t.Fatalf("invited: %+v, %v", in, err)
	}
	if m := c.mailed(t, "invitation"); !same(m, []string{in.ID.String()}) {
		t.Errorf("mailed: %v", m)
	}
	jobs := c.Text(t, `SELECT string_agg(args::text, ' ') FROM avouch_jobs.river_job`)
	stored := c.Text(t, `SELECT string_agg(i.*::text, ' ') FROM avouch.invitation i`)
	if e := c.events(t, "invitation.made"); len(e) != 1 || e[0].Private["address"] != "ada@acme.example" || e[0].Field("roles") != RoleMember || strings.Contains(strings.ToLower(string(e[0].Body)+jobs+stored), "@acme") {
		t.Errorf("the log is %+v, the job %s, the row %s", e, jobs, stored)
	}
	p, err := c.join(t, in.ID, "Ada Lovelace")
	if err != nil {
		t.Fatal(err)
	}
	s := c.standing(t, c.id, p)
	if got, err := c.room.Person(t.Context(), boss, p); err != nil || got.Name != "Ada Lovelace" || got.Address != "ada@acme.example" || got.VerifiedAt.IsZero() ||
		!same(s.Roles, []string{RoleAuditor, RoleMember}) {
		t.Errorf("joined: %+v, %+v, %v", got, s, err)
	}
	if e := c.events(t, "person.joined"); e[len(e)-1].Field("invitation") != in.ID.String() || e[len(e)-1].Field("via") != "invitation" {
		t.Errorf("the log is %+v", e)
	}
	want(t, second(c.join(t, in.ID, "Eve")), problem.Conflict, "a second time")
	want(t, second(c.room.Invite(t.Context(), boss, NewInvitation{Address: "ADA@acme.example", Roles: []string{RoleMember}})), problem.Conflict, "a member")
}

// TestInvitedElsewhere: what another organisation knows of an address changes no answer.
func TestInvitedElsewhere(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	other, owner := c.create(t, "Globex", "")
	c.admit(t, other.ID, "ada", RoleMember) // ada@acme.example
	for range mailsPerHour {
		in, err := c.room.Invite(t.Context(), owner, NewInvitation{Address: "bob@acme.example", Roles: []string{RoleMember}})
		ok(t, err, "invited there")
		ok(t, second(c.room.Revoke(t.Context(), owner, in.ID)), "revoked there")
	}
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	for _, address := range []string{"ada@acme.example", "bob@acme.example", "nobody@acme.example"} {
		if in := c.invite(t, boss, address, RoleMember); in.State(c.now()) != "open" {
			t.Errorf("%s: %+v", address, in)
		}
	}
}

func TestOneOpenInvitation(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	in := c.invite(t, boss, "ada@acme.example", RoleMember)
	again := NewInvitation{Address: "ada@acme.example", Roles: []string{RoleMember}}
	want(t, second(c.room.Invite(t.Context(), boss, again)), problem.Conflict, "while one is open")
	c.later(7*24*time.Hour + time.Minute)
	boss = c.as(t, mustPerson(boss))
	want(t, second(c.join(t, in.ID, "Ada")), problem.Conflict, "an expired one")
	next, err := c.room.Invite(t.Context(), boss, again)
	ok(t, err, "after it expired")
	ok(t, second(c.room.Revoke(t.Context(), boss, next.ID)), "revoke")
	want(t, second(c.join(t, next.ID, "Ada")), problem.Conflict, "a revoked one")
	want(t, second(c.room.Revoke(t.Context(), boss, next.ID)), problem.Conflict, "revoked twice")
	want(t, second(c.room.Resend(t.Context(), boss, next.ID)), problem.Conflict, "send a revoked one")
	if all, err := c.room.Invitations(t.Context(), boss, false, InvitationID{}, 10); err != nil || len(all) != 2 || all[0].ID != next.ID || all[1].Address != "ada@acme.example" {
		t.Errorf("all: %+v, %v", all, err)
	}
	if open, err := c.room.Invitations(t.Context(), boss, true, InvitationID{}, 10); err != nil || len(open) != 0 {
		t.Errorf("open: %+v, %v", open, err)
	}
}

func mustPerson(c tenantdb.Caller) PersonID { p, _ := c.Person(); return p.ID }

func TestResend(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	in := c.invite(t, boss, "ada@acme.example", RoleMember)
	c.later(6 * 24 * time.Hour)
	sent, err := c.room.Resend(t.Context(), boss, in.ID)
	if err != nil || !sent.ExpiresAt.Equal(in.ExpiresAt.Add(6*24*time.Hour)) || sent.Address != in.Address || len(c.mailed(t, "invitation")) != 2 {
		t.Errorf("sent again: %+v, %v", sent, err)
	}
	if n := c.Text(t, `SELECT count(*) FILTER (WHERE spent_at IS NULL) || ' of ' || count(*) FROM avouch.link`); n != "1 of 2" {
		t.Errorf("links: %s", n)
	}
	for range mailsPerHour - 1 {
		ok(t, second(c.room.Resend(t.Context(), boss, in.ID)), "again")
	}
	want(t, second(c.room.Resend(t.Context(), boss, in.ID)), problem.TooMany, "too often")
	c.later(time.Hour)
	ok(t, second(c.room.Resend(t.Context(), boss, in.ID)), "an hour later")
	ok(t, second(c.join(t, in.ID, "")), "join")
}

// TestInviterMustStillHoldIt: an invitation is worth what its inviter is.
func TestInviterMustStillHoldIt(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.person(t, "spare", RoleOwner)
	for what, then := range map[string]func(p PersonID) error{
		"demoted":   func(p PersonID) error { return c.setRoles(t, c.system(), p, RoleMember) },
		"suspended": func(p PersonID) error { return second(c.room.SuspendPerson(t.Context(), c.system(), p)) },
	} {
		p := c.person(t, what, RoleOwner)
		in := c.invite(t, c.as(t, p), what+"@new.example", RoleAdmin)
		ok(t, then(p), what)
		c.unchanged(t, func() { want(t, second(c.join(t, in.ID, "Eve")), problem.Denied, what) })
	}
	p := c.person(t, "removed", RoleOwner)
	in := c.invite(t, c.as(t, p), "removed@new.example", RoleAdmin)
	ok(t, second(c.room.Remove(t.Context(), c.system(), p)), "remove")
	want(t, second(c.join(t, in.ID, "Eve")), problem.Conflict, "an invitation of somebody who was removed")
	in = c.invite(t, c.owner, "key@new.example", RoleOwner)
	ok(t, second(c.keys.Revoke(t.Context(), c.owner, c.key)), "revoke the key")
	want(t, second(c.join(t, in.ID, "Eve")), problem.Denied, "an invitation of a key that was revoked")
	// What a role allows can grow while the invitation waits: beyond the inviter it gives nothing.
	ok(t, second(c.room.CreateRole(t.Context(), c.system(), Role{Name: "growing", Capabilities: []string{"agents:read"}})), "a role")
	ok(t, second(c.room.CreateRole(t.Context(), c.system(), Role{Name: "inviter", Capabilities: []string{"members:write", "agents:read"}})), "another")
	in = c.invite(t, c.as(t, c.person(t, "inviter", "inviter")), "grown@new.example", "growing")
	ok(t, second(c.room.UpdateRole(t.Context(), c.system(), "growing", "", RoleChange{Capabilities: &[]string{"sso:write"}})), "grow")
	want(t, second(c.join(t, in.ID, "Eve")), problem.Denied, "a role that grew")
}

func TestJoinOnce(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	in := c.invite(t, c.owner, "ada@acme.example", RoleOwner)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() { _, _ = c.join(t, in.ID, "Ada") })
	}
	work.Wait()
	if n := c.Text(t, `SELECT count(*)::text FROM avouch.person`); n != "1" {
		t.Errorf("%s joined", n)
	}
}

func TestFirstOwnerIsInvited(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.with.Mails = func(region string) bool { return region != "us" }
	c.room = New(c.with)
	api := c.API(doortest.As(tenantdb.Caller{}))
	c.room.Routes(api)
	q := doortest.Request{Method: "POST", Path: "/api/v1/organisations", Body: map[string]string{"name": "Initech", "owner_address": "bill@initech.example", "owner_name": "Bill", "region": "eu"}}
	keysOf := func(a doortest.Answer) int { return len(a.Body) }
	var first doortest.Answer
	for i := range mailsPerHour + 2 {
		a := doortest.Call(t, api, q)
		if i == 0 {
			first = a
		}
		if a.Status != 201 || keysOf(a) != keysOf(first) || a.Body["region"] != "eu" {
			t.Errorf("sign-up %d: %+v", i, a)
		}
	}
	if n := c.Text(t, `SELECT count(*)::text FROM avouch_jobs.river_job WHERE args->>'template' = 'invitation'`); n != "3" {
		t.Errorf("%s mails to one address", n)
	}
	id, err := tenantdb.ParseTenantID(first.Body["tenant_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	c.id = id
	all, err := c.room.Invitations(t.Context(), c.system(), true, InvitationID{}, 10)
	if err != nil || len(all) != 1 || !same(all[0].Roles, []string{RoleOwner}) || all[0].InvitedBy != "system:sign-up" {
		t.Fatalf("invited: %+v, %v", all, err)
	}
	p, err := c.join(t, all[0].ID, "")
	if err != nil || !same(c.standing(t, id, p).Capabilities, []string{"*"}) {
		t.Errorf("joined: %v", err)
	}
	for what, body := range map[string]map[string]string{
		"no mail": {"name": "X", "owner_address": "a@b.example", "region": "us"}, "no address": {"name": "X", "owner_address": "bill"}, "a name with a new line": {"name": "X", "owner_address": "a@b.example", "owner_name": "a\nb"}, "no region": {"name": "X", "region": "moon"},
	} {
		q.Body = body
		if a := doortest.Call(t, api, q); a.Status != 400 {
			t.Errorf("%s: %+v", what, a)
		}
	}
	if n := c.Text(t, `SELECT count(*)::text FROM avouch.organisation WHERE name = 'X'`); n != "0" {
		t.Errorf("%s were made of what was refused", n)
	}
}

// TestNobodyIsInvitedInVain: where no mail leaves, no invitation is made, none is sent again, and nothing says it was; by the
// operator neither.
func TestNobodyIsInvitedInVain(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.with.Mails = func(region string) bool { return region == "eu" }
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	in := c.invite(t, boss, "ada@b.example", RoleMember)
	before := c.mailed(t, "invitation")
	c.room = New(c.with)
	for _, region := range []string{"us", ""} {
		ok(t, c.room.SetRegion(t.Context(), c.system(), region), "set")
		want(t, second(c.room.Invite(t.Context(), boss, NewInvitation{Address: "bob@b.example", Roles: []string{RoleMember}})), problem.Invalid, "invited in "+region)
		want(t, second(c.room.InviteOwner(t.Context(), c.system(), "bob@b.example", "Bob")), problem.Invalid, "an owner in "+region)
		want(t, second(c.room.Resend(t.Context(), boss, in.ID)), problem.Invalid, "sent again in "+region)
	}
	if all, err := c.room.Invitations(t.Context(), boss, false, InvitationID{}, 10); err != nil || len(all) != 1 || !all[0].SentAt.Equal(in.SentAt) || !same(c.mailed(t, "invitation"), before) {
		t.Errorf("%+v, %v", all, err)
	}
	ok(t, c.room.SetRegion(t.Context(), c.system(), "eu"), "set")
	ok(t, second(c.room.Resend(t.Context(), boss, in.ID)), "sent again in eu")
}

func TestInviteOwner(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	want(t, second(c.room.InviteOwner(t.Context(), c.as(t, c.person(t, "boss", RoleOwner)), "a@b.example", "A")), problem.Denied, "not the operator")
	want(t, second(c.room.InviteOwner(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), "a@b.example", "A")), problem.Invalid, "of the installation")
	in, err := c.room.InviteOwner(t.Context(), c.system(), "a@b.example", "A")
	ok(t, err, "the operator")
	ok(t, second(c.join(t, in.ID, "A")), "joins")
}

// TestInvitationsRunOut: an organisation is no way to mail the world, also not one that revokes what it has sent.
func TestInvitationsRunOut(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	for i := range mostMailsPerHour + 1 {
		in, err := c.room.Invite(t.Context(), boss, NewInvitation{Address: fmt.Sprintf("victim%d@elsewhere.example", i), Roles: []string{RoleMember}})
		if i == mostMailsPerHour {
			want(t, err, problem.TooMany, "one more")
			continue
		}
		ok(t, err, "invite")
		ok(t, second(c.room.Revoke(t.Context(), boss, in.ID)), "revoke")
	}
}
