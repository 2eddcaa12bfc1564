package org

import (
	"crypto/sha256"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// signIn gives a person a session, a password and a group, as the rooms of sign-in would.
func (c *company) signIn(t *testing.T, p PersonID) {
	t.Helper()
	digest := sha256.Sum256([]byte(p.String()))
	err := c.DB.Change(t.Context(), c.system(), func(tx *tenantdb.Tx) (audit.Event, error) {
		if _, err := tx.Exec(t.Context(), `INSERT INTO avouch.session (tenant_id, session_id, person_id, kind, digest, description, methods, created_at, proved_at, held, expires_at, idle_seconds, mac)
VALUES ($1, gen_random_uuid(), $2, 'browser', $3, '', '{}', now(), now(), '{}', now() + interval '1 day', 3600, sha256('x'))`, tx.Tenant(), p, digest[:]); err != nil {
			return audit.Event{}, err
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.password (tenant_id, person_id, hash, changed_at) VALUES ($1, $2, '', now())`, tx.Tenant(), p)
		return audit.Event{Type: "test.signed_in"}, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOffboarding(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	p := c.person(t, "ada", RoleAdmin)
	by := c.as(t, p)
	c.signIn(t, p)
	ok(t, second(c.room.AddMember(t.Context(), boss, c.group(t, boss, "G", RoleViewer), p)), "group")
	in := c.invite(t, by, "friend@acme.example", RoleMember)
	made, err := c.keys.Create(t.Context(), by, apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: []string{"keys:write", "agents:read"}})
	ok(t, err, "key")
	asKey, err := c.keys.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
	ok(t, err, "authenticate")
	child, err := c.keys.Create(t.Context(), asKey, apikey.NewKey{Name: "child", Kind: apikey.Service, Scopes: []string{"agents:read"}})
	ok(t, err, "a key of the key")
	next, err := c.keys.Rotate(t.Context(), c.owner, child.ID, 0)
	ok(t, err, "rotated by another key")
	other, err := c.keys.Create(t.Context(), boss, apikey.NewKey{Name: "other", Kind: apikey.Service, Scopes: []string{"agents:read"}})
	ok(t, err, "a key of another person")

	before := len(c.Entries(t, c.id))
	report, err := c.room.Remove(t.Context(), boss, p)
	if err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string]int{"sessions": 1, "passwords": 1, "groups": 1, "invitations": 1, "api_keys": 2} {
		if report.Ended[what] != n {
			t.Errorf("%d %s ended, not %d", report.Ended[what], what, n)
		}
	}
	kept, err := c.room.Offboarding(t.Context(), boss, p)
	if err != nil || kept.RemovedBy != "person:"+boss.Actor().ID || kept.Request != boss.RequestID() || len(kept.Ended) != len(report.Ended) || kept.Ended["api_keys"] != 2 {
		t.Errorf("the report is %+v, %v", kept, err)
	}
	entries := c.Entries(t, c.id)
	if e := entries[len(entries)-1]; len(entries) != before+1 || e.Type != "person.removed" || e.Field("api_keys") != "2" || e.Field("sessions") != "1" || e.Request != boss.RequestID() {
		t.Errorf("the log ends with %+v", e)
	}
	if s := c.standing(t, c.id, p); s.Active || s.Why != "removed" || len(s.Capabilities) != 0 {
		t.Errorf("they stand as %+v", s)
	}
	for _, secret := range []string{made.Secret.Expose(), child.Secret.Expose(), next.Secret.Expose()} {
		_, err := c.keys.Authenticate(t.Context(), secret, web.RequestMeta{})
		want(t, err, problem.Unauthenticated, "a key of theirs")
	}
	_, err = c.keys.Authenticate(t.Context(), other.Secret.Expose(), web.RequestMeta{})
	ok(t, err, "another's key")
	if n := c.Text(t, `SELECT count(*)::text FROM avouch.session WHERE ended_at IS NULL`); n != "0" {
		t.Errorf("%s sessions are left", n)
	}
	want(t, second(c.join(t, in.ID, "Friend")), problem.Conflict, "an invitation of theirs")
	want(t, second(c.room.Remove(t.Context(), boss, p)), problem.Missing, "remove them again")
	want(t, second(c.room.ResumePerson(t.Context(), boss, p)), problem.Missing, "resume them")
	if back := c.invite(t, boss, "ada@acme.example", RoleMember); back.State(c.now()) != "open" {
		t.Errorf("invited anew: %+v", back)
	}
}

// TestOffboardingIsWhole: if one ending fails, nothing ended.
func TestOffboardingIsWhole(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	p := c.person(t, "ada", RoleMember)
	c.signIn(t, p)
	made, err := c.keys.Create(t.Context(), c.as(t, p), apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: []string{"agents:read"}})
	ok(t, err, "key")
	c.with.Endings["zz_factors"] = endRows(`DELETE FROM avouch.no_such_table WHERE tenant_id = $1 AND person_id = $2`)
	c.unchanged(t, func() {
		if _, err := New(c.with).Remove(t.Context(), c.system(), p); err == nil {
			t.Error("removed")
		}
	})
	_, err = c.keys.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
	ok(t, err, "the key works")
	if s := c.standing(t, c.id, p); !s.Active || c.Text(t, `SELECT count(*)::text FROM avouch.session WHERE ended_at IS NULL`) != "1" {
		t.Errorf("they stand as %+v", s)
	}
}

func TestSuspendPerson(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	p := c.person(t, "ada", RoleMember)
	c.signIn(t, p)
	made, err := c.keys.Create(t.Context(), c.as(t, p), apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: []string{"agents:read"}})
	ok(t, err, "key")
	got, err := c.room.SuspendPerson(t.Context(), boss, p)
	if err != nil || got.KeysKept != 1 || got.SuspendedAt.IsZero() || c.standing(t, c.id, p).Why != "suspended" {
		t.Errorf("suspended: %+v, %v", got, err)
	}
	if c.Text(t, `SELECT count(*)::text FROM avouch.session WHERE ended_at IS NULL`) != "0" {
		t.Error("the session goes on")
	}
	_, err = c.keys.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
	ok(t, err, "the key works, as the answer says")
	c.unchanged(t, func() { ok(t, second(c.room.SuspendPerson(t.Context(), boss, p)), "again") })
	if got, err = c.room.ResumePerson(t.Context(), boss, p); err != nil || !got.SuspendedAt.IsZero() || !c.standing(t, c.id, p).Active {
		t.Errorf("resumed: %+v, %v", got, err)
	}
	want(t, second(c.room.SuspendPerson(t.Context(), boss, mustPerson(boss))), problem.Conflict, "themselves")
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, other, mate := c.person(t, "boss", RoleOwner), c.person(t, "other", RoleOwner), c.person(t, "mate", RoleMember)
	by := c.as(t, boss)
	paused := c.person(t, "paused", RoleMember)
	ok(t, second(c.room.SuspendPerson(t.Context(), by, paused)), "suspend")
	admin, stranger := c.as(t, c.person(t, "adm", RoleAdmin)), c.admitElsewhere(t)
	c.unchanged(t, func() {
		want(t, c.room.Transfer(t.Context(), admin, mate), problem.Denied, "an admin")
		want(t, c.room.Transfer(t.Context(), c.owner, mate), problem.Denied, "a key")
		want(t, c.room.Transfer(t.Context(), by, boss), problem.Conflict, "to oneself")
		want(t, c.room.Transfer(t.Context(), by, paused), problem.Conflict, "to somebody suspended")
		want(t, c.room.Transfer(t.Context(), by, stranger), problem.Missing, "to somebody elsewhere")
	})
	before := len(c.Entries(t, c.id))
	ok(t, c.room.Transfer(t.Context(), by, mate), "transfer")
	if a, b := c.standing(t, c.id, boss), c.standing(t, c.id, mate); !same(a.Roles, []string{RoleAdmin}) || !same(b.Roles, []string{RoleMember, RoleOwner}) {
		t.Errorf("then they are %v and %v", a.Roles, b.Roles)
	}
	if e := c.Entries(t, c.id); len(e) != before+1 || e[before].Type != "organisation.transferred" || e[before].Field("from") != boss.String() || e[before].Field("to") != mate.String() {
		t.Errorf("the log is %+v", e[before:])
	}
	if told := c.mailed(t, "ownership"); !same(told, []string{boss.String(), other.String(), mate.String()}) {
		t.Errorf("told: %v", told)
	}
	want(t, c.room.Transfer(t.Context(), by, mate), problem.Denied, "once more, with the old session")
}

func TestDelete(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
	admin := c.as(t, c.person(t, "adm", RoleAdmin))
	by := c.as(t, boss)
	c.unchanged(t, func() {
		want(t, second(c.room.Delete(t.Context(), admin, "Acme", "")), problem.Denied, "an admin")
		want(t, second(c.room.Delete(t.Context(), c.owner, "Acme", "")), problem.Denied, "a key")
		want(t, second(c.room.Delete(t.Context(), by, "Acne", "")), problem.Invalid, "another name")
		want(t, second(c.room.Delete(t.Context(), by, "Acme", strings.Repeat("x", 1001))), problem.Invalid, "a long reason")
	})
	epoch := func() string {
		return c.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, c.id.String())
	}
	before := epoch()
	c.deleted(t, boss, mate, "we move on")
	if e := c.Last(t, c.id); e.Type != "organisation.deleted" || e.Private["reason"] != "we move on" || epoch() == before {
		t.Errorf("the log ends with %+v", e)
	}
	if s := c.standing(t, c.id, mate); s.Active || s.Why != "organisation_suspended" {
		t.Errorf("an owner stands as %+v", s)
	}
	if told := c.mailed(t, "organisation_deleted"); !same(told, []string{boss.String(), mate.String()}) {
		t.Errorf("told: %v", told)
	}
	want(t, second(c.room.SuspendPerson(t.Context(), by, mate)), problem.Denied, "an owner's open session")
	want(t, c.room.Resume(t.Context(), c.system(), ""), problem.Conflict, "resume what is deleted")
	want(t, c.room.Restore(t.Context(), by, ""), problem.Denied, "an owner restores")
	c.later(29 * 24 * time.Hour)
	if done, err := c.room.Shred(t.Context(), c.system()); done || err != nil {
		t.Errorf("within the grace: %v, %v", done, err)
	}
	ok(t, c.room.Restore(t.Context(), c.system(), "they came back"), "restore")
	if s := c.standing(t, c.id, mate); !s.Active {
		t.Errorf("restored, an owner stands as %+v", s)
	}
	c.later(60 * 24 * time.Hour)
	if done, err := c.room.Shred(t.Context(), c.system()); done || err != nil {
		t.Errorf("restored, it is shredded: %v, %v", done, err)
	}
	want(t, second(c.room.Delete(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), "platform", "")), problem.Invalid, "the installation")
}

func TestRegion(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	want(t, c.room.SetRegion(t.Context(), c.owner, "eu"), problem.Denied, "an owner")
	want(t, c.room.SetRegion(t.Context(), c.system(), "moon"), problem.Invalid, "a region that there is not")
	ok(t, c.room.SetRegion(t.Context(), c.system(), "eu"), "set")
	if o, err := c.room.Get(t.Context(), c.owner); err != nil || o.Region != "eu" {
		t.Errorf("%+v, %v", o, err)
	}
	if e := c.Last(t, c.id); e.Type != "organisation.region_changed" || e.Field("region") != "eu" {
		t.Errorf("the log ends with %+v", e)
	}
	ok(t, c.room.SetRegion(t.Context(), c.system(), ""), "anywhere")
}

// audited exports the log and verifies the export, as an auditor does.
func audited(t *testing.T, log *trail.Room, id tenantdb.TenantID) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := log.Export(t.Context(), tenantdb.System(id, "test"), audit.Into(root), trail.ExportOptions{Disclose: true}); err != nil {
		t.Fatal(err)
	}
	if r, err := audit.CheckDir(dir, audit.Known{}); err != nil || r.Disclosed != 0 {
		t.Errorf("the log does not verify, or discloses: %+v, %v", r, err)
	}
	if err := log.Pass(t.Context()); err != nil {
		t.Errorf("the pass over all logs: %v", err)
	}
}

// TestDirectoriesTouchNoOwners: what a directory's credential may do ends where owners begin.
func TestDirectoriesTouchNoOwners(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.person(t, "spare", RoleOwner)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleMember)
	directory := c.Caller(c.id, "scim:write")
	in := func(do func(tx *tenantdb.Tx) (audit.Event, error)) error {
		return c.DB.Change(t.Context(), directory, do)
	}
	pause := func(p PersonID) func(tx *tenantdb.Tx) (audit.Event, error) {
		return func(tx *tenantdb.Tx) (e audit.Event, err error) {
			_, e, err = c.room.Pause(t.Context(), tx, p, c.now())
			return e, err
		}
	}
	remove := func(p PersonID) func(tx *tenantdb.Tx) (audit.Event, error) {
		return func(tx *tenantdb.Tx) (e audit.Event, err error) {
			_, e, err = c.room.Offboard(t.Context(), tx, p, "directory")
			return e, err
		}
	}
	n := NewPerson{ID: audit.NewSubjectID(), Name: "Eve", Address: "eve@acme.example", Roles: []string{RoleOwner}}
	c.unchanged(t, func() {
		want(t, in(pause(boss)), problem.Denied, "suspend an owner")
		want(t, in(remove(boss)), problem.Denied, "remove an owner")
		want(t, in(func(tx *tenantdb.Tx) (e audit.Event, err error) {
			_, e, err = c.room.Admit(t.Context(), tx, n)
			return e, err
		}), problem.Denied, "make an owner")
	})
	ok(t, in(pause(mate)), "suspend a member")
	ok(t, in(remove(mate)), "remove a member")
}
