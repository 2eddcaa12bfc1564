package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (h *house) operator(t *testing.T, name string) tenantdb.Caller {
	t.Helper()
	c, err := Operator(h.acme, name)
	done(t, "operator "+name, err)
	return c
}

// requires is what Require says of a caller, in the caller's organisation or another.
func (h *house) requires(t *testing.T, c tenantdb.Caller, in tenantdb.TenantID) (err error) {
	t.Helper()
	done(t, "reading", h.DB.Read(t.Context(), tenantdb.System(in, "test"), func(tx *tenantdb.ReadTx) error {
		err = h.glass.Require(t.Context(), tx, c)
		return nil
	}))
	return err
}

const why = "Asked for by the customer, ticket 4711"

func TestGlassOperator(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "*"), h.person(t, "breakglass:approve")
	h.rules.owners = []tenantdb.PersonID{ada.id}
	root, other := h.operator(t, "root"), h.operator(t, "mallory")
	refused(t, "before anything is open", h.requires(t, root, h.acme), problem.Denied)
	u, err := h.glass.OperatorOpen(t.Context(), root, why, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	done(t, "who opened it", h.requires(t, root, h.acme))
	globex := h.Tenant(t, "Globex")
	elsewhere, _ := Operator(globex, "root")
	refused(t, "another operator", h.requires(t, other, h.acme), problem.Denied)
	refused(t, "another organisation", h.requires(t, elsewhere, globex), problem.Denied)
	refused(t, "this one's caller in another", h.requires(t, root, globex), problem.Denied)
	for _, part := range []string{"", "operator", "operator/", "start", "root"} {
		refused(t, "the system's part "+part, h.requires(t, tenantdb.System(h.acme, part), h.acme), problem.Denied)
	}
	done(t, "a key, which has capabilities", h.requires(t, h.Caller(h.acme, "verify"), h.acme))
	// Both logs have it, and nothing of the reason in the clear; the owner is told.
	ours, theirs := h.Last(t, h.acme), h.Last(t, tenantdb.Platform)
	if ours.Type != "break_glass.opened" || ours.Field("operator") != "root" || ours.Actor.ID != "operator/root" || ours.Private["reason"] != why || strings.Contains(string(ours.Body), "4711") {
		t.Errorf("the organisation's log says %+v", ours)
	}
	if theirs.Type != "break_glass.operator_opening" || theirs.Field("organisation") != h.acme.String() || theirs.Target.ID != u.ID.String() || theirs.Private["reason"] != why {
		t.Errorf("the platform's log says %+v", theirs)
	}
	if h.mails(t, "glass_opened") != "1" {
		t.Error("the owner was not told")
	}
	_, err = h.glass.OperatorOpen(t.Context(), root, why, time.Hour)
	refused(t, "opening beside what is open", err, problem.Conflict)
	done(t, "ending", h.glass.OperatorEnd(t.Context(), other, u.ID))
	refused(t, "after its end", h.requires(t, root, h.acme), problem.Denied)
	if e := h.Last(t, tenantdb.Platform); e.Type != "break_glass.operator_ended" {
		t.Errorf("the platform's log ends with %s", e.Type)
	}
	h.clock.pass(time.Minute)
	// It ends by its time too, and is reviewed like any other.
	u, err = h.glass.OperatorOpen(t.Context(), root, why, time.Hour)
	done(t, "opening again", err)
	h.clock.pass(time.Hour - time.Microsecond)
	done(t, "to the end", h.requires(t, root, h.acme))
	h.clock.pass(time.Microsecond)
	refused(t, "after its time", h.requires(t, root, h.acme), problem.Denied)
	// A superuser of the database makes none: neither anew, nor by giving one that is there more time, or another's name.
	for _, sql := range []string{
		`INSERT INTO avouch.break_glass SELECT tenant_id, gen_random_uuid(), NULL, 'root', '{}', reason, life_seconds, 'operator', $1, $1, NULL, $1, $1, $1 + interval '1 hour' FROM avouch.break_glass WHERE use_id = '` + u.ID.String() + `'`,
		`UPDATE avouch.break_glass SET expires_at = $1 + interval '1 hour', closed_at = NULL, outcome = NULL`,
	} {
		h.Admin(t, `ALTER TABLE avouch.break_glass DISABLE TRIGGER require_entry`)
		h.Admin(t, `CREATE TABLE kept AS TABLE avouch.break_glass`)
		h.Admin(t, strings.ReplaceAll(sql, "$1", "'"+h.clock.at().Format(time.RFC3339Nano)+"'::timestamptz"))
		if n := h.Text(t, `SELECT count(*)::text FROM avouch.break_glass WHERE operator = 'root' AND closed_at IS NULL AND expires_at > $1`, h.clock.at()); n == "0" {
			t.Fatal("the superuser wrote no such row")
		}
		refused(t, "with a row of a superuser's", h.requires(t, root, h.acme), problem.Denied)
		h.Admin(t, `DELETE FROM avouch.break_glass; INSERT INTO avouch.break_glass SELECT * FROM kept; DROP TABLE kept`)
		h.Admin(t, `ALTER TABLE avouch.break_glass ENABLE ALWAYS TRIGGER require_entry`)
	}
	list, err := h.glass.OperatorList(t.Context(), other)
	if err != nil || len(list) != 2 || list[0].ID != u.ID {
		t.Errorf("listed %+v, %v", list, err)
	}
	done(t, "reviewing", second(h.glass.Review(t.Context(), bob.caller(), u.ID, fine)))
	if list, err := h.glass.OperatorList(t.Context(), other); err != nil || len(list) != 1 {
		t.Errorf("after the review listed %+v, %v", list, err)
	}
}

func TestGlassOperatorRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "*"), h.person(t, "breakglass:approve")
	open := func(c tenantdb.Caller, reason string, life time.Duration) error {
		return second(h.glass.OperatorOpen(t.Context(), c, reason, life))
	}
	for _, name := range []string{"", "Root", "a b", "ä", "-x", strings.Repeat("a", 33), "a\n", "a/b"} {
		_, err := Operator(h.acme, name)
		refused(t, "the name "+name, err, problem.Invalid)
	}
	refused(t, "a person", open(ada.caller(), why, time.Hour), problem.Denied)
	refused(t, "a key", open(h.Caller(h.acme, "*"), why, time.Hour), problem.Denied)
	refused(t, "the system without a name", open(tenantdb.System(h.acme, "operator"), why, time.Hour), problem.Denied)
	root := h.operator(t, "root")
	before := len(h.Entries(t, tenantdb.Platform))
	refused(t, "no reason", open(root, "because", time.Hour), problem.Invalid)
	platform, _ := Operator(tenantdb.Platform, "root")
	refused(t, "the platform", open(platform, why, time.Hour), problem.Invalid)
	nowhere, _ := Operator(tenantdb.NewTenantID(), "root")
	refused(t, "no organisation", open(nowhere, why, time.Hour), problem.Missing)
	if n := len(h.Entries(t, tenantdb.Platform)); n != before {
		t.Errorf("what was never tried has %d entries", n-before)
	}
	refused(t, "longer than the rules let", open(root, why, 3*time.Hour), problem.Invalid)
	refused(t, "no time at all", open(root, why, 0), problem.Invalid)
	if n := len(h.Entries(t, tenantdb.Platform)); n != before+2 {
		t.Errorf("what was tried has %d entries", n-before)
	}
	// A person's use opens nothing for an operator, and no operator ends it.
	u := h.broken(t, ada, bob)
	refused(t, "beside a person's use", h.requires(t, root, h.acme), problem.Denied)
	refused(t, "ending a person's use", h.glass.OperatorEnd(t.Context(), root, u.ID), problem.Missing)
	refused(t, "ending as a person", h.glass.OperatorEnd(t.Context(), ada.caller(), u.ID), problem.Denied)
	// Without the platform's log nothing opens.
	h.Admin(t, `ALTER TABLE avouch.audit_entry RENAME TO audit_entry_away`)
	if open(root, why, time.Hour) == nil {
		t.Error("it opened without an entry")
	}
	h.Admin(t, `ALTER TABLE avouch.audit_entry_away RENAME TO audit_entry`)
	refused(t, "after that", h.requires(t, root, h.acme), problem.Denied)
}
