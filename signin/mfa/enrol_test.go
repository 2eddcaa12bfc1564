package mfa

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// have gives a person a factor of a kind.
func (f *fixture) have(t testing.TB, p tenantdb.PersonID, kind string) Factor {
	t.Helper()
	switch kind {
	case Passkey:
		return f.passkey(t, p, newAuthenticator())
	case SMS:
		made, _ := f.add(t, p, Wanted{Kind: kind, To: "+4930123456"})
		return made
	}
	made, _ := f.add(t, p, Wanted{Kind: kind})
	return made
}

// Nothing weaker than the strongest factor changes any.
func TestStrengthOfProofs(t *testing.T) {
	t.Parallel()
	f := open(t)
	methods := []string{"password", "oidc", Recovery, Email, SMS, TOTP, Passkey}
	for has, enough := range map[string][]string{
		"": methods, Email: {Recovery, Email, SMS, TOTP, Passkey}, SMS: {Recovery, Email, SMS, TOTP, Passkey}, TOTP: {TOTP, Passkey}, Passkey: {Passkey},
	} {
		p := f.person(t, f.tenant, "a@example.com")
		if has != "" {
			f.have(t, p, has)
		}
		for _, by := range methods {
			f.clock.pass(time.Hour) // codes are sent at a rate
			extra := f.person(t, f.tenant, "b@example.com")
			if has != "" {
				f.have(t, extra, has)
			}
			_, err := f.room.Begin(t.Context(), f.as(p, "password", by), Wanted{Kind: TOTP})
			if want := slices.Contains(enough, by); want != (err == nil) || !want && (!isKind(err, problem.Denied) || !strings.HasPrefix(problem.Of(err).Detail, proveAgain)) {
				t.Errorf("who has %q adds by %s: %v", has, by, err)
			}
			if has == "" {
				continue
			}
			all, _ := f.list(t, extra)
			err = f.room.Remove(t.Context(), f.as(extra, "password", by), all[0].ID)
			if want := slices.Contains(enough, by); want != (err == nil) || !want && !isKind(err, problem.Denied) {
				t.Errorf("who has %q removes it by %s: %v", has, by, err)
			}
		}
	}
}

func TestProofsGrowOld(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.have(t, f.ada, TOTP)
	f.clock.pass(time.Hour)
	for age, ok := range map[time.Duration]bool{0: true, tenantdb.FreshProof: true, tenantdb.FreshProof + time.Second: false, 24 * time.Hour: false} {
		_, err := f.room.Begin(t.Context(), f.since(f.ada, f.clock.now().Add(-age), TOTP), Wanted{Kind: TOTP})
		if ok != (err == nil) || !ok && !strings.HasPrefix(problem.Of(err).Detail, proveAgain) {
			t.Errorf("a proof of %v ago: %v", age, err)
		}
	}
	if _, err := f.room.Begin(t.Context(), f.since(f.ada, time.Time{}, TOTP), Wanted{Kind: TOTP}); !isKind(err, problem.Denied) {
		t.Errorf("no proof: %v", err)
	}
	key := f.Caller(f.tenant, "*")
	for says, err := range map[string]error{
		"begins":   second(f.room.Begin(t.Context(), key, Wanted{Kind: TOTP})),
		"renames":  second(f.room.Rename(t.Context(), key, ID{}, "*", "x")),
		"removes":  f.room.Remove(t.Context(), key, ID{}),
		"recovers": second(f.room.NewRecoveryCodes(t.Context(), key)),
	} {
		if !isKind(err, problem.Denied) {
			t.Errorf("who is no person %s: %v", says, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Whoever is made to enrol while signing in may, once: what comes after is judged by what is there then.
func TestFirstEnrolment(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.members.rule(true)
	if o := f.offered(t, f.ada); !o.Required || !o.Enrol || len(o.Factors) != 0 {
		t.Errorf("offered %+v", o)
	}
	enrolling := f.since(f.ada, time.Time{}, "password", MethodEnrol)
	b, err := f.room.Begin(t.Context(), enrolling, Wanted{Kind: SMS, To: "+4930123456"})
	must(t, err)
	thief, err := f.room.Begin(t.Context(), enrolling, Wanted{Kind: Email, To: "thief@example.com"}) // who knows the password, at the same time
	must(t, err)
	must(t, f.confirm(t, enrolling, b.ID, SMS))
	if o := f.offered(t, f.ada); o.Enrol || len(o.Factors) != 1 {
		t.Errorf("offered %+v", o)
	}
	if err := f.confirm(t, enrolling, thief.ID, Email); !isKind(err, problem.Denied) {
		t.Errorf("a second enrolment by the same sign-in: %v", err)
	}
	if len(f.changes) != 1 || f.changes[0].What != "added" || f.changes[0].Proof.Method != SMS || f.changes[0].Person != f.ada {
		t.Errorf("told of %+v", f.changes)
	}
	if last := f.Last(t, f.tenant); last.Type != "factor.added" || last.Field("kind") != SMS || strings.Contains(string(last.Body), "4930") {
		t.Errorf("the log says %+v", last)
	}
	if m := f.mails(t, mail.FactorChanged); len(m) != 1 || m[0].To != "ada@example.com" || !strings.Contains(m[0].What, "text message") {
		t.Errorf("mailed %+v", m)
	}
}

// confirm confirms with the code that was sent last.
func (f *fixture) confirm(t testing.TB, c tenantdb.Caller, id ID, kind string) error {
	t.Helper()
	_, err := f.room.Confirm(t.Context(), c, id, Confirmation{Code: secret.Text(f.lastCode(t, kind).Code)})
	return err
}

func TestEnrolmentsEnd(t *testing.T) {
	t.Parallel()
	f := open(t)
	ada := f.as(f.ada, "password")
	b, err := f.room.Begin(t.Context(), ada, Wanted{Kind: Email, To: "ada@home.example"})
	must(t, err)
	if b.SentTo != "a•••@home.example" || f.lastCode(t, Email).To != "ada@home.example" {
		t.Errorf("sent to %s", b.SentTo)
	}
	first := f.lastCode(t, Email).Code
	if err := f.room.Resend(t.Context(), ada, b.ID); !isKind(err, problem.TooMany) {
		t.Errorf("another code at once: %v", err)
	}
	f.clock.pass(time.Minute)
	must(t, f.other.Resend(t.Context(), ada, b.ID))
	f.clock.pass(time.Minute)
	must(t, f.room.Resend(t.Context(), ada, b.ID))
	f.clock.pass(time.Minute)
	if err := f.room.Resend(t.Context(), ada, b.ID); !isKind(err, problem.TooMany) {
		t.Errorf("a fourth code: %v", err)
	}
	right := f.lastCode(t, Email).Code
	guesses := []string{first, "000000", "", right + "0"}
	for _, code := range guesses {
		if _, err := f.room.Confirm(t.Context(), ada, b.ID, Confirmation{Code: secret.Text(code)}); !isKind(err, problem.Invalid) {
			t.Errorf("the code %q: %v", code, err)
		}
	}
	if _, err := f.other.Confirm(t.Context(), f.as(f.person(t, f.tenant, "eve@example.com"), "password"), b.ID, Confirmation{Code: secret.Text(right)}); !isKind(err, problem.Missing) {
		t.Errorf("another person: %v", err)
	}
	if _, err := f.room.Confirm(t.Context(), ada, b.ID, Confirmation{Code: secret.Text("000000")}); !isKind(err, problem.Invalid) {
		t.Errorf("the fifth guess: %v", err)
	}
	if _, err := f.room.Confirm(t.Context(), ada, b.ID, Confirmation{Code: secret.Text(right)}); !isKind(err, problem.Missing) {
		t.Errorf("after five guesses: %v", err)
	}
	b, err = f.room.Begin(t.Context(), ada, Wanted{Kind: Email})
	must(t, err)
	code := f.lastCode(t, Email).Code
	f.clock.pass(CodeLife)
	if _, err := f.room.Confirm(t.Context(), f.as(f.ada, "password"), b.ID, Confirmation{Code: secret.Text(code)}); !isKind(err, problem.Missing) {
		t.Errorf("after ten minutes: %v", err)
	}
	if all, _ := f.list(t, f.ada); len(all) != 0 {
		t.Errorf("there are %+v", all)
	}
}

func TestConfirmedAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	ada := f.as(f.ada, Passkey)
	b, err := f.room.Begin(t.Context(), ada, Wanted{Kind: Email})
	must(t, err)
	code := secret.Text(f.lastCode(t, Email).Code)
	var all sync.WaitGroup
	for _, r := range []*Room{f.room, f.other, f.room, f.other} {
		all.Go(func() {
			if _, err := r.Confirm(t.Context(), ada, b.ID, Confirmation{Code: code}); err != nil && !isKind(err, problem.Missing) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if all, _ := f.list(t, f.ada); len(all) != 1 {
		t.Errorf("there are %+v", all)
	}
}

func TestWhatIsNoFactor(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, w := range []Wanted{
		{}, {Kind: "hardware"}, {Kind: "recovery"}, {Kind: SMS}, {Kind: SMS, To: "030 123456"}, {Kind: TOTP, To: "x"}, {Kind: TOTP, Name: strings.Repeat("x", 65)},
		{Kind: TOTP, Name: "a\nb"}, {Kind: Email, To: "ada"}, {Kind: Email, To: "Ada <ada@example.com>"}, {Kind: Email, To: "a@b.c\r\nBcc: d@e.f"}, {Kind: Passkey, To: "x"},
	} {
		if _, err := f.room.Begin(t.Context(), f.as(f.ada, "password"), w); !isKind(err, problem.Invalid) {
			t.Errorf("%+v: %v", w, err)
		}
	}
	for n := range maxFactors {
		f.add(t, f.ada, Wanted{Kind: TOTP, Name: fmt.Sprint(n)})
	}
	if _, err := f.room.Begin(t.Context(), f.as(f.ada, Passkey), Wanted{Kind: TOTP}); !isKind(err, problem.Conflict) {
		t.Errorf("one more than there may be: %v", err)
	}
}

func TestRulesSayWhichKinds(t *testing.T) {
	t.Parallel()
	f := open(t)
	app := f.have(t, f.ada, TOTP)
	_, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	if o := f.offered(t, f.ada); o.Enrol || o.RecoveryCodes != recoveryCodes || len(o.Factors) != 1 {
		t.Errorf("without rules: %+v", o)
	}
	f.members.rule(true, TOTP, Passkey)
	if o := f.offered(t, f.ada); o.Enrol || o.RecoveryCodes != 0 || len(o.Factors) != 1 {
		t.Errorf("where nothing weak is allowed: %+v", o)
	}
	if _, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP)); !isKind(err, problem.Denied) {
		t.Errorf("recovery codes there: %v", err)
	}
	if _, err := f.room.Begin(t.Context(), f.as(f.ada, TOTP), Wanted{Kind: Email}); !isKind(err, problem.Denied) {
		t.Errorf("an e-mail factor there: %v", err)
	}
	// The rules become stricter: what there is proves the person, for enrolling only. Nobody enrols with the password alone.
	f.members.rule(true, Passkey)
	o := f.offered(t, f.ada)
	if !o.Enrol || len(o.Factors) != 1 || o.Factors[0].ID != app.ID {
		t.Errorf("where it is not allowed any more: %+v", o)
	}
	f.clock.pass(time.Minute)
	seed := f.seed(t, f.ada, app.ID)
	p, err := f.prove(t, f.room, Answer{Person: f.ada, Factor: app.ID, Code: secret.Text(f.totp(seed, 0))})
	if err != nil || !p.EnrolOnly {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := f.register(t, f.since(f.ada, time.Time{}, "password", MethodEnrol), newAuthenticator()); !isKind(err, problem.Denied) {
		t.Errorf("by the password alone: %v", err)
	}
	if _, err := f.register(t, f.as(f.ada, "password", TOTP, MethodEnrol), newAuthenticator()); err != nil {
		t.Errorf("by what there is: %v", err)
	}
	if o := f.offered(t, f.ada); o.Enrol || len(o.Factors) != 1 || o.Factors[0].Kind != Passkey {
		t.Errorf("then: %+v", o)
	}
	if _, err := f.prove(t, f.room, Answer{Person: f.ada, Factor: app.ID, Code: secret.Text(f.totp(seed, 1))}); !refused(err) {
		t.Errorf("what is not allowed, beside what is: %v", err)
	}
}

func (f *fixture) seed(t testing.TB, p tenantdb.PersonID, id ID) (seed []byte) {
	t.Helper()
	f.read(t, func(tx *tenantdb.ReadTx) error {
		all, err := f.room.load(t.Context(), tx, p)
		must(t, err)
		seed = find(all, id).details.Seed
		return nil
	})
	return seed
}

// What the database holds proves nothing: no seed, no number, no code is in any row, and no other person's place opens them.
func TestNothingIsInTheClear(t *testing.T) {
	t.Parallel()
	f := open(t)
	app, seed := f.add(t, f.ada, Wanted{Kind: TOTP, Name: "Adas Telefon"})
	f.add(t, f.ada, Wanted{Kind: SMS, To: "+4930123456"})
	codes, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	b, err := f.room.Begin(t.Context(), f.as(f.ada, TOTP), Wanted{Kind: TOTP})
	must(t, err)
	dump := f.Text(t, `SELECT concat((SELECT json_agg(f) FROM avouch.factor f), (SELECT json_agg(a) FROM avouch.attempt a), (SELECT json_agg(c) FROM avouch.recovery_code c),
		(SELECT json_agg(j) FROM avouch_jobs.river_job j), (SELECT json_agg(s) FROM avouch.spent s), (SELECT json_agg(e) FROM avouch.audit_entry e))`)
	for says, s := range map[string]string{
		"the seed": fmt.Sprintf("%x", seed), "the number": "30123456", "the number in hex": fmt.Sprintf("%x", "30123456"), "the name": fmt.Sprintf("%x", "Adas Telefon"),
		"a code that was sent": f.lastCode(t, SMS).Code, "a recovery code": fmt.Sprintf("%x", readRecoveryCode(codes[0].Expose())),
		"a seed that waits": fmt.Sprintf("%x", strings.ReplaceAll(b.Secret.Expose(), " ", "")), "the address": "ada@example.com",
	} {
		if strings.Contains(dump, s) {
			t.Errorf("%s is in the database", says)
		}
	}
	eve := f.person(t, f.tenant, "eve@example.com")
	f.exec(t, `UPDATE avouch.factor SET person_id = $1 WHERE factor_id = $2`, eve, app.ID)
	err = f.DB.Read(t.Context(), tenantdb.System(f.tenant, "test"), func(tx *tenantdb.ReadTx) error {
		_, err := f.room.Offered(t.Context(), tx, eve)
		return err
	})
	if err == nil || strings.Contains(err.Error(), "Adas") {
		t.Errorf("a factor that was moved to another person: %v", err)
	}
	out := fmt.Sprintf("%+v %v %#v", b, b, b)
	if s, _ := json.Marshal(b); strings.Contains(out+string(s), b.Secret.Expose()[:4]) {
		t.Error("an enrolment prints its secret")
	}
}

// TestSignInsAreNoEnrolments: whoever has the password begins sign-ins that wait for a first factor; they leave room for enrolments.
func TestSignInsAreNoEnrolments(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.exec(t, `INSERT INTO avouch.attempt (tenant_id, digest, person_id, purpose, proofs, created_at, expires_at)
		SELECT $1, sha256(n::text::bytea), $2, 'enrol', '{password}', now(), now() + interval '1 day' FROM generate_series(1, $3::int) n`, f.tenant, f.ada, mostWaiting)
	begin := func() error {
		_, err := f.room.Begin(t.Context(), f.as(f.ada, "password", MethodEnrol), Wanted{Kind: TOTP})
		return err
	}
	for range mostWaiting {
		must(t, begin())
	}
	if err := begin(); !isKind(err, problem.TooMany) {
		t.Errorf("one more than may wait: %v", err)
	}
}
