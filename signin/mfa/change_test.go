package mfa

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestRename(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, seed := f.add(t, f.ada, Wanted{Kind: TOTP, Name: "old"})
	later := f.since(f.ada, start.Add(-24*time.Hour), TOTP) // a name is not dangerous
	if _, err := f.room.Rename(t.Context(), later, made.ID, "", "new"); problem.Of(err).HTTPStatus() != 428 {
		t.Errorf("without a version: %v", err)
	}
	if _, err := f.room.Rename(t.Context(), later, made.ID, `"7"`, "new"); problem.Of(err).HTTPStatus() != 412 {
		t.Errorf("from another version: %v", err)
	}
	if _, err := f.room.Rename(t.Context(), f.as(f.person(t, f.tenant, "eve@example.com"), TOTP), made.ID, "*", "new"); !isKind(err, problem.Missing) {
		t.Errorf("another's: %v", err)
	}
	n, err := f.room.Rename(t.Context(), later, made.ID, `"1"`, "new")
	if err != nil || n.Name != "new" || n.Version != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	f.clock.pass(time.Minute)
	if _, err := f.prove(t, f.other, Answer{Person: f.ada, Factor: made.ID, Code: secret.Text(f.totp(seed, 0))}); err != nil {
		t.Errorf("it works no longer: %v", err)
	}
	if e := f.OfType(t, f.tenant, "factor.renamed"); len(e) != 1 || e[0].Private["name"] != "new" {
		t.Errorf("the log says %+v", e)
	}
}

func TestLastFactor(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.members.rule(true, TOTP, Passkey)
	app := f.have(t, f.ada, TOTP)
	if err := f.room.Remove(t.Context(), f.as(f.ada, TOTP), app.ID); !isKind(err, problem.Conflict) {
		t.Errorf("the last: %v", err)
	}
	f.members.rule(true, TOTP, Email)
	post := f.have(t, f.ada, Email)
	f.members.rule(true, TOTP)
	if err := f.room.Remove(t.Context(), f.as(f.ada, TOTP), app.ID); !isKind(err, problem.Conflict) {
		t.Errorf("the last that is allowed: %v", err)
	}
	if err := f.room.Remove(t.Context(), f.as(f.ada, TOTP), post.ID); err != nil {
		t.Errorf("one that is not allowed: %v", err)
	}
	f.members.rule(false)
	_, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	if err := f.room.Remove(t.Context(), f.as(f.ada, TOTP), app.ID); err != nil {
		t.Errorf("the last where none is required: %v", err)
	}
	if all, codes := f.list(t, f.ada); len(all)+codes != 0 {
		t.Errorf("left are %+v and %d codes", all, codes)
	}
	if e := f.OfType(t, f.tenant, "factor.removed"); len(e) != 2 || e[1].Target.ID != app.ID.String() {
		t.Errorf("the log says %+v", e)
	}
}

// A reset is no way around factors: the member proves the mailed address beside the password, and enrols before anything else.
func TestReset(t *testing.T) {
	t.Parallel()
	f := open(t)
	admin, owner := f.person(t, f.tenant, "admin@example.com"), f.person(t, f.tenant, "owner@example.com")
	f.members.owners = []tenantdb.PersonID{owner, admin}
	app, seed := f.add(t, f.ada, Wanted{Kind: TOTP})
	codes, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	waiting, err := f.room.Begin(t.Context(), f.as(f.ada, TOTP), Wanted{Kind: Email})
	must(t, err)
	caller := func(p tenantdb.PersonID, proved time.Time, capabilities ...string) tenantdb.Caller {
		return f.caller(tenantdb.Person{ID: p, ProvedAt: proved, Methods: []string{"password", TOTP}, Lent: []string{"*"}}, capabilities...)
	}
	now := f.clock.now()
	for says, c := range map[string]tenantdb.Caller{
		"who lacks the capability, but for break-glass": caller(admin, now),
		"whose proof is old":                            caller(admin, now.Add(-time.Hour), "members:write"),
		"who is the member":                             caller(f.ada, now, "*"),
		"who is a key":                                  f.Caller(f.tenant, "*"),
	} {
		if _, err := f.room.Reset(t.Context(), c, f.ada); !isKind(err, problem.Denied) {
			t.Errorf("a reset by one %s: %v", says, err)
		}
	}
	f.members.equals = true
	if _, err := f.room.Reset(t.Context(), caller(admin, now, "members:write"), f.ada); !isKind(err, problem.Denied) {
		t.Errorf("by one who has no more power: %v", err)
	}
	f.members.equals = false
	f.changes = nil
	n, err := f.room.Reset(t.Context(), caller(admin, now, "members:write"), f.ada)
	if err != nil || n != 1 || len(f.changes) != 1 || f.changes[0].What != "reset" {
		t.Errorf("%d, %+v, %v", n, f.changes, err)
	}
	to := map[string]string{}
	for _, m := range f.mails(t, mail.FactorChanged) {
		if strings.Contains(m.What, "taken away") {
			to[m.To] = m.Whose
		}
	}
	if len(to) != 3 || to["ada@example.com"] != "" || to["owner@example.com"] != "Ada" || to["admin@example.com"] != "Ada" {
		t.Errorf("told %v", to)
	}
	f.clock.pass(time.Minute)
	for says, a := range map[string]Answer{
		"a code of before": {Factor: app.ID, Code: secret.Text(f.totp(seed, 0))}, "a recovery code of before": {RecoveryCode: codes[0]},
	} {
		a.Person = f.ada
		if _, err := f.prove(t, f.room, a); !refused(err) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := f.confirm(t, f.as(f.ada, TOTP), waiting.ID, Email); !isKind(err, problem.Missing) {
		t.Errorf("an enrolment of before: %v", err)
	}
	f.members.rule(true, Passkey) // not even what the rules forbid otherwise
	o := f.offered(t, f.ada)
	if !o.Enrol || len(o.Factors) != 1 || o.Factors[0].Kind != Email || !o.Factors[0].Reset {
		t.Fatalf("offered %+v", o)
	}
	if _, err := f.register(t, f.as(f.ada, "password", MethodEnrol), newAuthenticator()); !isKind(err, problem.Denied) {
		t.Errorf("enrolling by the password alone: %v", err)
	}
	_, state, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: o.Factors[0].ID, Sending: 1})
	must(t, err)
	sent := f.lastCode(t, Email)
	p, err := f.prove(t, f.room, Answer{Attempt: attempt("a"), State: state, Person: f.ada, Factor: o.Factors[0].ID, Code: secret.Text(sent.Code)})
	if err != nil || !p.EnrolOnly || sent.To != "ada@example.com" {
		t.Errorf("%+v, %+v, %v", sent, p, err)
	}
	if err := f.room.Remove(t.Context(), f.as(f.ada, "password", Email), o.Factors[0].ID); !isKind(err, problem.Missing) {
		t.Errorf("removing what the reset left: %v", err)
	}
	if _, err := f.register(t, f.as(f.ada, "password", Email, MethodEnrol), newAuthenticator()); err != nil {
		t.Errorf("enrolling by password and mailed code: %v", err)
	}
	if all, _ := f.list(t, f.ada); len(all) != 1 || all[0].Kind != Passkey || f.offered(t, f.ada).Enrol {
		t.Errorf("then there are %+v", all)
	}
	if n, err := f.room.Reset(t.Context(), tenantdb.System(f.tenant, "operator"), f.ada); err != nil || n != 1 {
		t.Errorf("by the operator: %d, %v", n, err)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	f := open(t)
	app, seed := f.add(t, f.ada, Wanted{Kind: TOTP})
	_, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	eve := f.person(t, f.tenant, "eve@example.com")
	f.have(t, eve, TOTP)
	must(t, f.DB.Change(t.Context(), tenantdb.System(f.tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		n, err := f.room.End(t.Context(), tx, f.ada, "removed")
		if n != 1 {
			t.Errorf("%d ended", n)
		}
		return audit.Event{Type: "person.removed"}, err
	}))
	f.clock.pass(time.Minute)
	if _, err := f.prove(t, f.other, Answer{Person: f.ada, Factor: app.ID, Code: secret.Text(f.totp(seed, 0))}); !refused(err) {
		t.Errorf("a code: %v", err)
	}
	if all, codes := f.list(t, f.ada); len(all)+codes != 0 {
		t.Errorf("left are %+v and %d", all, codes)
	}
	if all, _ := f.list(t, eve); len(all) != 1 {
		t.Errorf("another's are %+v", all)
	}
}

// Who is erased has no factors that open.
func TestErasure(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.have(t, f.ada, TOTP)
	must(t, f.Ring.DestroySubject(t.Context(), f.tenant, f.ada))
	err := f.DB.Read(t.Context(), tenantdb.System(f.tenant, "test"), func(tx *tenantdb.ReadTx) error {
		_, err := f.room.Offered(t.Context(), tx, f.ada)
		return err
	})
	if err == nil {
		t.Error("a factor opens after the erasure")
	}
}
