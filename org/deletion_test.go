package org

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// deleted deletes the organisation as two owners do, and says since when it is.
func (c *company) deleted(t *testing.T, asker, other PersonID, reason string) time.Time {
	t.Helper()
	d, err := c.room.Delete(t.Context(), c.as(t, asker), "Acme", "")
	if err == nil && d.DeletedAt.IsZero() {
		d, err = c.room.ConfirmDeletion(t.Context(), c.as(t, other), d.ID, "Acme", reason)
	}
	if err != nil || d.DeletedAt.IsZero() {
		t.Fatalf("deleted: %+v, %v", d, err)
	}
	return d.DeletedAt
}

// keyOf is a key that somebody made, with all that they may do.
func (c *company) keyOf(t *testing.T, p PersonID) tenantdb.Caller {
	t.Helper()
	made, err := c.keys.Create(t.Context(), c.as(t, p), apikey.NewKey{Name: "k", Kind: apikey.Service, Scopes: tenantdb.Capabilities()})
	if err != nil {
		t.Fatal(err)
	}
	by, err := c.keys.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
	if err != nil {
		t.Fatal(err)
	}
	return by
}

// TestDeletionTakesTwo: where there are two owners, one asks and the other confirms, each in person and with a fresh proof; until then
// nothing is ended, and every owner is told of each step.
func TestDeletionTakesTwo(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
	admin, key := c.as(t, c.person(t, "adm", RoleAdmin)), c.keyOf(t, mate)
	both := []string{boss.String(), mate.String()}
	before := len(c.Entries(t, c.id))
	d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", "we move on")
	if err != nil || !d.DeletedAt.IsZero() || d.AskedBy != boss || !d.LapsesAt.Equal(c.now().Add(deletionLife)) {
		t.Fatalf("asked: %+v, %v", d, err)
	}
	if e := c.Entries(t, c.id); len(e) != before+1 || e[before].Type != deletionAsked || e[before].Private["reason"] != "we move on" || e[before].Field("deletion") != d.ID.String() {
		t.Errorf("the log is %+v", e[before:])
	}
	if told := c.mailed(t, "deletion_asked"); !same(told, both) {
		t.Errorf("told: %v", told)
	}
	if got, err := c.room.GetDeletion(t.Context(), c.as(t, mate)); err != nil || got.ID != d.ID || got.AskedBy != boss || !got.LapsesAt.Equal(d.LapsesAt) {
		t.Errorf("it waits: %+v, %v", got, err)
	}
	confirm := func(by tenantdb.Caller, which DeletionID, name string) error {
		return second(c.room.ConfirmDeletion(t.Context(), by, which, name, ""))
	}
	c.unchanged(t, func() {
		want(t, confirm(c.as(t, boss), d.ID, "Acme"), problem.Denied, "the same person confirms")
		want(t, confirm(c.owner, d.ID, "Acme"), problem.Denied, "an owner key confirms")
		want(t, confirm(key, d.ID, "Acme"), problem.Denied, "a key of the other's confirms")
		want(t, confirm(c.system(), d.ID, "Acme"), problem.Denied, "the operator confirms")
		want(t, confirm(admin, d.ID, "Acme"), problem.Denied, "an admin confirms")
		want(t, confirm(c.stale(t, mate), d.ID, "Acme"), problem.Denied, "an old proof")
		want(t, confirm(c.as(t, mate), d.ID, "Acne"), problem.Invalid, "another name")
		want(t, confirm(c.as(t, mate), DeletionID(boss), "Acme"), problem.Missing, "another deletion")
		want(t, second(c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")), problem.Conflict, "the same asks again")
		want(t, second(c.room.Delete(t.Context(), c.as(t, mate), "Acme", "")), problem.Conflict, "the other asks too")
		want(t, second(c.room.LapseDeletion(t.Context(), c.owner)), problem.Denied, "an owner has it lapse")
		if lapsed, err := c.room.LapseDeletion(t.Context(), c.system()); lapsed || err != nil {
			t.Errorf("lapsed at once: %v, %v", lapsed, err)
		}
	})
	if s := c.standing(t, c.id, mate); !s.Active {
		t.Errorf("while it waits, an owner stands as %+v", s)
	}
	if noted, err := c.Ring.Deletion(t.Context(), c.id); err != nil || !noted.At.IsZero() {
		t.Errorf("while it waits, the key store says %+v, %v", noted, err)
	}
	done, err := c.room.ConfirmDeletion(t.Context(), c.as(t, mate), d.ID, "Acme", "so do I")
	if err != nil || done.DeletedAt.IsZero() || done.AskedBy != boss {
		t.Errorf("confirmed: %+v, %v", done, err)
	}
	if e := c.Last(t, c.id); e.Type != wasDeleted || e.Field("asked_by") != boss.String() || e.Actor.ID != mate.String() || e.Field("deletion") != d.ID.String() || e.Private["reason"] != "so do I" {
		t.Errorf("the log ends with %+v", e)
	}
	if told := c.mailed(t, "organisation_deleted"); !same(told, both) {
		t.Errorf("told: %v", told)
	}
	if noted, err := c.Ring.Deletion(t.Context(), c.id); err != nil || !noted.At.Equal(done.DeletedAt) || noted.TakenBack {
		t.Errorf("the key store says %+v, %v", noted, err)
	}
}

// TestDeletionEnds: what waits is withdrawn by any owner, or lapses; then it cannot be confirmed, and can be asked for anew.
func TestDeletionEnds(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
	admin := c.as(t, c.person(t, "adm", RoleAdmin))
	ask := func() Deletion {
		t.Helper()
		d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for i, by := range []PersonID{boss, mate} {
		d := ask()
		want(t, second(c.room.WithdrawDeletion(t.Context(), admin, d.ID)), problem.Denied, "an admin withdraws")
		want(t, second(c.room.WithdrawDeletion(t.Context(), c.as(t, mate), DeletionID(boss))), problem.Missing, "another one")
		ok(t, second(c.room.WithdrawDeletion(t.Context(), c.stale(t, by), d.ID)), "withdraw")
		if e := c.Last(t, c.id); e.Type != deletionWithdrawn || e.Actor.ID != by.String() || e.Field("deletion") != d.ID.String() {
			t.Errorf("the log ends with %+v", e)
		}
		if told := c.mailed(t, "deletion_ended"); len(told) != 2*(i+1) {
			t.Errorf("told: %v", told)
		}
		want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, mate), d.ID, "Acme", "")), problem.Missing, "confirm what was withdrawn")
		want(t, second(c.room.WithdrawDeletion(t.Context(), c.as(t, mate), d.ID)), problem.Missing, "withdraw it again")
		want(t, second(c.room.GetDeletion(t.Context(), c.as(t, mate))), problem.Missing, "get it")
	}
	d := ask()
	c.later(deletionLife)
	want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, mate), d.ID, "Acme", "")), problem.Missing, "confirm what has lapsed")
	for _, first := range []bool{true, false} {
		if lapsed, err := c.room.LapseDeletion(t.Context(), c.system()); lapsed != first || err != nil {
			t.Errorf("lapsed: %v, %v", lapsed, err)
		}
	}
	if e := c.events(t, deletionLapsed); len(e) != 1 || e[0].Field("deletion") != d.ID.String() || len(c.mailed(t, "deletion_ended")) != 6 {
		t.Errorf("the log has %+v; told: %v", e, c.mailed(t, "deletion_ended"))
	}
	ask()
	if s := c.standing(t, c.id, mate); !s.Active {
		t.Errorf("an owner stands as %+v", s)
	}
}

// TestOwnersChangeMeanwhile: a deletion is confirmed by somebody who was an owner when it was asked for, of somebody who is one still. Whoever
// makes another owner cannot have that one confirm it, and whoever sends the others away cannot delete alone for seven days.
func TestOwnersChangeMeanwhile(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]func(t *testing.T, c *company, boss, mate PersonID) error{
		"demoted": func(t *testing.T, c *company, boss, mate PersonID) error {
			return c.setRoles(t, c.as(t, boss), mate, RoleMember)
		},
		"suspended": func(t *testing.T, c *company, boss, mate PersonID) error {
			return second(c.room.SuspendPerson(t.Context(), c.as(t, boss), mate))
		},
		"removed": func(t *testing.T, c *company, boss, mate PersonID) error {
			return second(c.room.Remove(t.Context(), c.as(t, boss), mate))
		},
	} {
		for _, askedFirst := range []bool{true, false} {
			c := openCompany(t)
			boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
			if askedFirst {
				ok(t, second(c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")), what+": ask")
			}
			ok(t, leave(t, c, boss, mate), what)
			if askedFirst {
				want(t, second(c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")), problem.Conflict, what+": ask again, alone")
				d, err := c.room.GetDeletion(t.Context(), c.as(t, boss))
				ok(t, err, what+": it waits")
				want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, boss), d.ID, "Acme", "")), problem.Denied, what+": confirm alone")
				ok(t, second(c.room.WithdrawDeletion(t.Context(), c.as(t, boss), d.ID)), what+": withdraw")
			}
			c.later(ownersCount - time.Minute)
			want(t, second(c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")), problem.Conflict, what+": delete alone a few days later")
			c.later(2 * time.Minute)
			if d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", ""); err != nil || d.DeletedAt.IsZero() {
				t.Errorf("%s: after seven days: %+v, %v", what, d, err)
			}
		}
	}
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
	d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")
	ok(t, err, "ask")
	puppet := c.person(t, "puppet", RoleOwner)
	want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, puppet), d.ID, "Acme", "")), problem.Denied, "an owner who was made since confirms")
	ok(t, c.setRoles(t, c.as(t, mate), boss, RoleMember), "demote the asker")
	want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, mate), d.ID, "Acme", "")), problem.Conflict, "confirm what no owner asks for any more")
	ok(t, second(c.room.WithdrawDeletion(t.Context(), c.as(t, puppet), d.ID)), "an owner who was made since withdraws")
}

// TestNoOwnerIsMadeToAgree: whoever is an owner since lately confirms no deletion where another one was it longer, nor where that one was
// sent away.
func TestNoOwnerIsMadeToAgree(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
	c.later(ownersCount)
	puppet := c.person(t, "puppet", RoleOwner)
	d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")
	if err != nil || !d.DeletedAt.IsZero() {
		t.Fatalf("asked: %+v, %v", d, err)
	}
	want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, puppet), d.ID, "Acme", "")), problem.Denied, "an owner since today confirms")
	ok(t, second(c.room.WithdrawDeletion(t.Context(), c.as(t, boss), d.ID)), "withdraw")
	c.clock.Store(time.Now().UnixMicro()) // when the database writes down that somebody is an owner no more
	ok(t, second(c.room.SuspendPerson(t.Context(), c.as(t, boss), mate)), "suspend")
	want(t, second(c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")), problem.Conflict, "ask an owner since today, when the other was sent away")
	ok(t, second(c.room.ResumePerson(t.Context(), c.as(t, boss), mate)), "resume")
	c.later(ownersCount)
	if d, err = c.room.Delete(t.Context(), c.as(t, boss), "Acme", ""); err != nil || !d.DeletedAt.IsZero() {
		t.Fatalf("asked: %+v, %v", d, err)
	}
	ok(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, mate), d.ID, "Acme", "")), "who was suspended and is back")
}

// TestOnlyOwnerDeletes: a single owner deletes with a fresh proof, is told, and has a month to change their mind.
func TestOnlyOwnerDeletes(t *testing.T) {
	t.Parallel()
	if Grace < 7*24*time.Hour {
		t.Fatalf("keys are destroyed after %s", Grace)
	}
	c := openCompany(t)
	boss := c.person(t, "boss", RoleOwner)
	key := c.keyOf(t, boss)
	c.unchanged(t, func() {
		want(t, second(c.room.Delete(t.Context(), c.stale(t, boss), "Acme", "")), problem.Denied, "an old proof")
		want(t, second(c.room.Delete(t.Context(), key, "Acme", "")), problem.Denied, "a key of theirs")
	})
	d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")
	if err != nil || !d.DeletedAt.Equal(c.now()) || !d.ID.IsZero() {
		t.Errorf("deleted: %+v, %v", d, err)
	}
	if told := c.mailed(t, "organisation_deleted"); !slices.Contains(told, boss.String()) {
		t.Errorf("told: %v", told)
	}
	gone := c.Text(t, `SELECT args->'ids'->>'gone' FROM avouch_jobs.river_job WHERE args->>'template' = 'organisation_deleted'`)
	if !strings.HasPrefix(gone, c.now().Add(Grace).Format("2006-01-02T15:04")) {
		t.Errorf("the mail says that the keys are destroyed at %s", gone)
	}
	c.later(7 * 24 * time.Hour)
	if done, err := c.room.Shred(t.Context(), c.system()); done || err != nil {
		t.Errorf("a week later: %v, %v", done, err)
	}
	ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
}

// TestTwoDeleteAtOnce: of a deletion that is confirmed and withdrawn on several servers at once, one happens, and the key store says the same.
func TestTwoDeleteAtOnce(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	people := []PersonID{c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner), c.person(t, "third", RoleOwner)}
	d, err := c.room.Delete(t.Context(), c.as(t, people[0]), "Acme", "")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 3)
	for _, p := range people[1:] {
		other := c.Another(t)
		with := c.with
		with.DB, with.Ring = other.DB, other.Ring
		room, by := New(with), c.as(t, p)
		go func() { done <- second(room.ConfirmDeletion(t.Context(), by, d.ID, "Acme", "")) }()
	}
	won := 0
	for range people[1:] {
		if err := <-done; err == nil {
			won++
		}
	}
	noted, err := c.Ring.Deletion(t.Context(), c.id)
	is := c.Text(t, `SELECT (extract(epoch FROM deleted_at) * 1000000)::bigint::text FROM avouch.organisation WHERE tenant_id = $1`, c.id.String())
	if won != 1 || err != nil || noted.TakenBack || is != c.micros(noted.At) || len(c.events(t, wasDeleted)) != 1 {
		t.Errorf("%d deleted it; its row says %s, the key store %+v, %v", won, is, noted, err)
	}
	c.later(Grace)
	if done, err := c.room.Shred(t.Context(), c.system()); !done || err != nil {
		t.Errorf("shredded: %v, %v", done, err)
	}
}
