package org

import (
	"slices"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// sendings are the ways to send an owner away, by another.
func sendings() map[string]func(t *testing.T, c *company, by tenantdb.Caller, mate PersonID) error {
	return map[string]func(t *testing.T, c *company, by tenantdb.Caller, mate PersonID) error{
		"demoted": func(t *testing.T, c *company, by tenantdb.Caller, mate PersonID) error {
			return c.setRoles(t, by, mate, RoleMember)
		},
		"suspended": func(t *testing.T, c *company, by tenantdb.Caller, mate PersonID) error {
			return second(c.room.SuspendPerson(t.Context(), by, mate))
		},
		"removed": func(t *testing.T, c *company, by tenantdb.Caller, mate PersonID) error {
			return second(c.room.Remove(t.Context(), by, mate))
		},
	}
}

// TestNoOwnerIsMadeNew: an owner who is sent away and taken back, by a role or by a suspension, is one for as long as before: neither does
// somebody who is one for longer come to be a new one, nor a new one somebody who agrees to a deletion.
func TestNoOwnerIsMadeNew(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, mate := c.person(t, "boss", RoleOwner), c.person(t, "mate", RoleOwner)
	c.later(ownersCount)
	puppet := c.person(t, "puppet", RoleOwner)
	c.clock.Store(time.Now().UnixMicro()) // when the database writes down who is an owner
	for _, p := range []PersonID{mate, puppet} {
		ok(t, c.setRoles(t, c.as(t, boss), p, RoleMember), "demote")
		ok(t, c.setRoles(t, c.as(t, boss), p, RoleOwner), "make an owner again")
		ok(t, second(c.room.SuspendPerson(t.Context(), c.as(t, boss), p)), "suspend")
		ok(t, second(c.room.ResumePerson(t.Context(), c.as(t, boss), p)), "resume")
	}
	c.later(ownersCount)
	d, err := c.room.Delete(t.Context(), c.as(t, boss), "Acme", "")
	if err != nil || !d.DeletedAt.IsZero() {
		t.Fatalf("asked: %+v, %v", d, err)
	}
	want(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, puppet), d.ID, "Acme", "")), problem.Denied, "a new owner confirms, who was demoted and made one again")
	ok(t, second(c.room.ConfirmDeletion(t.Context(), c.as(t, mate), d.ID, "Acme", "")), "the other one of before")
}

// TestAlone: an only owner is alone from the first day on; who sends another one away is not for some days, and that one counts among those
// who are told, as long as they are a member.
func TestAlone(t *testing.T) {
	t.Parallel()
	for what, leave := range sendings() {
		c := openCompany(t)
		boss := c.person(t, "boss", RoleOwner)
		is := func(when string, p PersonID, alone bool, told ...PersonID) {
			t.Helper()
			var is bool
			var late []PersonID
			err := c.DB.Read(t.Context(), c.system(), func(tx *tenantdb.ReadTx) (err error) {
				if is, err = c.room.Alone(t.Context(), tx, p); err == nil {
					late, err = c.room.OwnersOfLate(t.Context(), tx)
				}
				return err
			})
			if slices.SortFunc(told, func(a, b PersonID) int { return slices.Compare(a[:], b[:]) }); err != nil || is != alone || !same(late, told) {
				t.Errorf("%s, %s: alone %v, told %v, %v; want %v, %v", what, when, is, late, err, alone, told)
			}
		}
		is("at first", boss, true, boss)
		mate, third := c.person(t, "mate", RoleOwner), c.person(t, "third", RoleAdmin)
		is("two", boss, false, boss, mate)
		is("two", mate, false, boss, mate)
		ok(t, leave(t, c, c.as(t, boss), mate), what)
		told := []PersonID{boss, mate}
		if what == "removed" {
			told = told[:1]
		}
		is("at once", boss, false, told...)
		is("the other", mate, false, told...)
		c.later(ownersCount - time.Minute)
		is("a few days later", boss, false, told...)
		c.later(2 * time.Minute)
		is("then", boss, true, boss)
		is("no owner", third, false, boss)
	}
}

// TestOwnersHearOfOneLess: whoever sends an owner away proves themselves, and every owner is told, and who is sent away; also where a key or
// a directory with an owner's key does it. Of others nobody is told.
func TestOwnersHearOfOneLess(t *testing.T) {
	t.Parallel()
	ways := sendings()
	ways["suspended by a directory"] = func(t *testing.T, c *company, _ tenantdb.Caller, mate PersonID) error {
		return c.DB.Change(t.Context(), c.owner, func(tx *tenantdb.Tx) (e audit.Event, err error) {
			_, e, err = c.room.Pause(t.Context(), tx, mate, c.now())
			return e, err
		})
	}
	for what, leave := range ways {
		c := openCompany(t)
		boss, third, mate, member := c.person(t, "boss", RoleOwner), c.person(t, "third", RoleOwner), c.person(t, "mate", RoleOwner), c.person(t, "member", RoleMember)
		ok(t, leave(t, c, c.as(t, boss), member), what+": a member")
		if told := c.mailed(t, "ownership"); len(told) != 0 {
			t.Errorf("%s: of a member %v are told", what, told)
		}
		if what != "suspended by a directory" {
			c.unchanged(t, func() {
				want(t, leave(t, c, c.stale(t, boss), mate), problem.Denied, what+": on an old proof")
			})
		}
		ok(t, leave(t, c, c.as(t, boss), mate), what)
		told, all := c.mailed(t, "ownership"), []string{boss.String(), third.String(), mate.String()}
		slices.Sort(told)
		if slices.Sort(all); !same(told, all) {
			t.Errorf("%s: %v are told, not %v", what, told, all)
		}
		said := c.Text(t, `SELECT DISTINCT (args->'ids'->>'who') || ' ' || (args->'ids'->>'by') || ' ' || coalesce(args->'ids'->>'suspended', '') FROM avouch_jobs.river_job WHERE args->>'template' = 'ownership'`)
		by, state := "person:"+boss.String(), ""
		if what == "suspended by a directory" {
			by = "key:" + c.key
		}
		if what == "suspended" || what == "suspended by a directory" {
			state = "true"
		}
		if said != mate.String()+" "+by+" "+state {
			t.Errorf("%s: the mails say %q", what, said)
		}
		if what == "demoted" { // who is told, too, of the next one
			ok(t, leave(t, c, c.as(t, boss), third), "another")
			if told := c.mailed(t, "ownership"); len(told) != 6 {
				t.Errorf("of two %v are told", told)
			}
		}
	}
}
