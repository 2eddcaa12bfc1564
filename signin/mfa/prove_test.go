package mfa

import (
	"bytes"
	"context"
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

func TestTOTP(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, seed := f.add(t, f.ada, Wanted{Kind: TOTP, Name: "phone"})
	if len(seed) != 20 {
		t.Errorf("a seed of %d bytes", len(seed))
	}
	answer := func(steps int64) Answer {
		return Answer{Attempt: attempt("a"), Person: f.ada, Factor: made.ID, Code: secret.Text(f.totp(seed, steps))}
	}
	if _, err := f.prove(t, f.room, answer(0)); !refused(err) {
		t.Errorf("the code that confirmed the factor counts again: %v", err)
	}
	f.clock.pass(10 * time.Minute)
	for _, c := range []struct {
		says  string
		steps int64
		ok    bool
	}{
		{"two steps late", -2, false}, {"two steps early", 2, false}, {"one step late", -1, true}, {"of now", 0, true}, {"of now again", 0, false},
		{"one step late after that of now", -1, false}, {"one step early", 1, true}, {"of now after that", 0, false},
	} {
		p, err := f.prove(t, f.other, answer(c.steps))
		if c.ok != (err == nil) || !c.ok && !refused(err) || c.ok && p != (Proof{Method: TOTP, Factor: made.ID}) {
			t.Errorf("a code %s: %+v, %v", c.says, p, err)
		}
	}
	f.clock.pass(time.Minute)
	spaced := answer(0)
	spaced.Code = secret.Text(" " + spaced.Code.Expose()[:3] + " " + spaced.Code.Expose()[3:])
	if _, err := f.prove(t, f.room, spaced); err != nil {
		t.Errorf("a code with spaces: %v", err)
	}
}

// TestMarks: an authenticator app is known by its seed's mark, which is that of the vault; one of before gets it with its next code. What
// is the only way in is that of the apps which the rules allow, unless there is anything else that they allow and that works.
func TestMarks(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *Config) {
		c.Sends = func(_ context.Context, _ *tenantdb.ReadTx, kind string) (bool, error) { return kind != SMS, nil }
	})
	app, seed := f.add(t, f.ada, Wanted{Kind: TOTP})
	want, err := f.Ring.SeedMark(t.Context(), f.tenant, append(seed, 0))
	must(t, err)
	only := func(says string, want ...[]byte) {
		t.Helper()
		f.read(t, func(tx *tenantdb.ReadTx) error {
			got, err := f.other.OnlyWay(t.Context(), tx, f.ada)
			if !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%s: %x, want %x", says, got, want)
			}
			return err
		})
	}
	only("an app", want)
	f.exec(t, `UPDATE avouch.factor SET mark = NULL WHERE tenant_id = $1`, f.tenant)
	only("an app of before")
	f.clock.pass(time.Minute)
	_, err = f.prove(t, f.other, Answer{Attempt: attempt("a"), Person: f.ada, Factor: app.ID, Code: secret.Text(f.totp(seed, 0))})
	must(t, err)
	only("after its next code", want)
	_, err = f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, Passkey))
	must(t, err)
	only("beside recovery codes", want)
	f.exec(t, `INSERT INTO avouch.factor (tenant_id, factor_id, person_id, kind, secret, created_at, confirmed_at) VALUES ($1, gen_random_uuid(), $2, 'sms', '', now(), now())`, f.tenant, f.ada)
	only("beside text messages that nobody sends", want)
	f.exec(t, `DELETE FROM avouch.factor WHERE tenant_id = $1 AND kind = 'sms'`, f.tenant)
	f.passkey(t, f.ada, newAuthenticator())
	only("beside a passkey")
	f.members.rule(true, TOTP)
	only("beside a passkey that the rules do not allow", want)
	f.members.rule(true, Passkey)
	only("an app that the rules do not allow")
}

// What counts once counts once on both servers, however many try at the same time.
func TestAnswersCountOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	app, seed := f.add(t, f.ada, Wanted{Kind: TOTP})
	post, _ := f.add(t, f.ada, Wanted{Kind: Email})
	phone, _ := f.add(t, f.ada, Wanted{Kind: SMS, To: "+4930123456"})
	key := newAuthenticator()
	pass := f.passkey(t, f.ada, key)
	codes, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, Passkey))
	must(t, err)
	f.clock.pass(5 * time.Minute)
	answers := map[string]Answer{
		TOTP: {Factor: app.ID, Code: secret.Text(f.totp(seed, 0))}, Recovery: {RecoveryCode: codes[3]},
	}
	for _, one := range []Factor{post, phone} {
		_, state, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: one.ID, Sending: 1})
		must(t, err)
		answers[one.Kind] = Answer{State: state, Factor: one.ID, Code: secret.Text(f.lastCode(t, one.Kind).Code)}
	}
	q, state, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: pass.ID})
	must(t, err)
	answers[Passkey] = Answer{State: state, Assertion: key.get(t, q.Options)}
	for _, method := range sorted(answers) {
		a := answers[method]
		a.Attempt, a.Person = attempt("a"), f.ada
		var mu sync.Mutex
		var won []Proof
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				p, err := f.prove(t, []*Room{f.room, f.other}[i%2], a)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, p)
				} else if !refused(err) {
					t.Errorf("%s: %v", method, err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 || won[0].Method != method {
			t.Errorf("%s: it counted %d times: %+v", method, len(won), won)
		}
	}
	if _, left := f.list(t, f.ada); left != recoveryCodes-1 {
		t.Errorf("%d recovery codes are left", left)
	}
}

func TestSentCodes(t *testing.T) {
	t.Parallel()
	f := open(t)
	post, _ := f.add(t, f.ada, Wanted{Kind: Email, To: "ada@example.com"})
	phone, _ := f.add(t, f.ada, Wanted{Kind: SMS, To: "+49 (30) 123-456 42"})
	f.clock.pass(time.Minute)
	q, first, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: post.ID, Sending: 1})
	must(t, err)
	code := f.lastCode(t, Email)
	if q.SentTo != "a•••@example.com" || code.To != "ada@example.com" || len(code.Code) != 6 || q.Kind != Email {
		t.Errorf("asked %+v, sent %+v", q, code)
	}
	// The factor is the address of the profile: codes follow it.
	f.members.address[f.ada] = "ada@new.example"
	if to := f.lastCode(t, Email).To; to != "ada@new.example" {
		t.Errorf("sent to %s", to)
	}
	answer := Answer{Attempt: attempt("a"), State: first, Person: f.ada, Factor: post.ID, Code: secret.Text(code.Code)}
	for says, change := range map[string]func(*Answer){
		"another attempt's":         func(a *Answer) { a.Attempt = attempt("b") },
		"of nothing that was asked": func(a *Answer) { a.State = nil },
		"another factor's":          func(a *Answer) { a.Factor = phone.ID },
		"a wrong one":               func(a *Answer) { a.Code = secret.Text("000000") },
		"a part":                    func(a *Answer) { a.Code = secret.Text(code.Code[:5]) },
	} {
		a := answer
		change(&a)
		if _, err := f.prove(t, f.room, a); !refused(err) {
			t.Errorf("a code, %s: %v", says, err)
		}
	}
	if _, _, err := f.ask(t, f.other, Asked{Attempt: attempt("a"), Person: f.ada, Factor: post.ID, Sending: 2, SentAt: f.clock.now()}); !isKind(err, problem.TooMany) || problem.Of(err).RetryAfter != time.Minute {
		t.Errorf("a second code at once: %v", err)
	}
	before := f.clock.now()
	f.clock.pass(time.Minute)
	_, second, err := f.ask(t, f.other, Asked{Attempt: attempt("a"), Person: f.ada, Factor: post.ID, Sending: 2, SentAt: before})
	must(t, err)
	if f.lastCode(t, Email).Code == code.Code {
		t.Error("the second code is the first again")
	}
	answer.State = second
	if _, err := f.prove(t, f.room, answer); !refused(err) {
		t.Errorf("the first code after the second was sent: %v", err)
	}
	answer.Code = secret.Text(f.lastCode(t, Email).Code)
	f.clock.pass(CodeLife + time.Second)
	if _, err := f.prove(t, f.room, answer); !refused(err) {
		t.Errorf("after ten minutes: %v", err)
	}
	f.clock.pass(-time.Second)
	if p, err := f.prove(t, f.room, answer); err != nil || p.Method != Email {
		t.Errorf("%+v, %v", p, err)
	}
	if _, _, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: post.ID, Sending: 4, SentAt: before}); !isKind(err, problem.TooMany) {
		t.Errorf("a fourth code: %v", err)
	}
	if q, _, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: phone.ID, Sending: 1}); err != nil || q.SentTo != "+49 ••• 42" {
		t.Errorf("%+v, %v", q, err)
	}
	if m := f.lastCode(t, SMS); m.To != "+493012345642" {
		t.Errorf("a text to %s", m.To)
	}
}

// A code is sent for nobody who does not wait for it any more.
func TestLateCodesAreNotSent(t *testing.T) {
	t.Parallel()
	f := open(t)
	post, _ := f.add(t, f.ada, Wanted{Kind: Email})
	_, _, err := f.ask(t, f.room, Asked{Attempt: attempt("a"), Person: f.ada, Factor: post.ID, Sending: 1})
	must(t, err)
	f.clock.pass(CodeLife)
	for _, m := range f.mails(t, mail.SignInCode) {
		if m.To != "" {
			t.Errorf("sent %+v", m)
		}
	}
}

// However many sign-ins somebody begins, codes are sent at a rate that does not flood anyone.
func TestSendingsRunOut(t *testing.T) {
	t.Parallel()
	f := open(t)
	post, _ := f.add(t, f.ada, Wanted{Kind: Email})
	f.clock.pass(time.Hour)
	sent := 0
	for i := range 3 * MostSent {
		_, _, err := f.ask(t, []*Room{f.room, f.other}[i%2], Asked{Attempt: attempt(fmt.Sprint(i)), Person: f.ada, Factor: post.ID, Sending: 1})
		if err == nil {
			sent++
		} else if p := problem.Of(err); p.Kind != problem.TooMany || p.RetryAfter <= 0 || p.RetryAfter > time.Hour {
			t.Fatal(err)
		}
	}
	if sent != MostSent || len(f.jobs(t, "mail.send")) != sent+2 { // the enrolment's code and notice
		t.Errorf("%d codes were sent, %d mails", sent, len(f.jobs(t, "mail.send")))
	}
	f.clock.pass(time.Hour)
	if _, _, err := f.ask(t, f.room, Asked{Attempt: attempt("later"), Person: f.ada, Factor: post.ID, Sending: 1}); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

// Whoever knows the password may guess a bounded number of codes, on all servers and in all attempts together, and the
// person is told. What is no guess still counts.
func TestGuessesRunOut(t *testing.T) {
	t.Parallel()
	f := open(t)
	app, seed := f.add(t, f.ada, Wanted{Kind: TOTP})
	codes, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	key := newAuthenticator()
	pass := f.passkey(t, f.ada, key)
	f.clock.pass(time.Hour)
	judged := 0
	for i := range 60 {
		a := Answer{Attempt: attempt(fmt.Sprint(i)), Person: f.ada, Factor: app.ID, Code: secret.Text(fmt.Sprintf("%06d", i))}
		_, err := f.prove(t, []*Room{f.room, f.other}[i%2], a)
		switch {
		case refused(err):
			judged++
		case !isKind(err, problem.TooMany):
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if judged != MostGuesses {
		t.Errorf("%d guesses were judged", judged)
	}
	if _, err := f.prove(t, f.room, Answer{Person: f.ada, Factor: app.ID, Code: secret.Text(f.totp(seed, 0))}); !isKind(err, problem.TooMany) {
		t.Errorf("the right code after that: %v", err)
	}
	if last := f.mails(t, mail.FactorChanged); !strings.Contains(last[len(last)-1].What, "Too many wrong codes") {
		t.Errorf("the person was told %q", last)
	}
	if _, err := f.prove(t, f.room, Answer{Person: f.ada, RecoveryCode: codes[0]}); err != nil {
		t.Errorf("a recovery code: %v", err)
	}
	q, state, err := f.ask(t, f.room, Asked{Person: f.ada, Factor: pass.ID})
	must(t, err)
	if _, err := f.prove(t, f.room, Answer{State: state, Person: f.ada, Assertion: key.get(t, q.Options)}); err != nil {
		t.Errorf("a passkey: %v", err)
	}
	f.clock.pass(24 * time.Hour)
	for i := range 2 * MostGuesses { // who signs in often is no guesser
		f.clock.pass(time.Minute)
		if _, err := f.prove(t, f.room, Answer{Person: f.ada, Factor: app.ID, Code: secret.Text(f.totp(seed, 0))}); err != nil {
			t.Fatalf("sign-in %d of the next day: %v", i, err)
		}
	}
	other := f.person(t, f.tenant, "eve@example.com")
	app, seed = f.add(t, other, Wanted{Kind: TOTP})
	f.clock.pass(time.Minute)
	if _, err := f.prove(t, f.room, Answer{Person: other, Factor: app.ID, Code: secret.Text(f.totp(seed, 0))}); err != nil {
		t.Errorf("another person: %v", err)
	}
}

func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	f := open(t)
	if _, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, "password")); !isKind(err, problem.Conflict) {
		t.Errorf("without a factor: %v", err)
	}
	f.add(t, f.ada, Wanted{Kind: TOTP})
	if _, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, Email)); !isKind(err, problem.Denied) {
		t.Errorf("with a weaker proof: %v", err)
	}
	old, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	codes, err := f.room.NewRecoveryCodes(t.Context(), f.as(f.ada, TOTP))
	must(t, err)
	seen := map[string]bool{}
	for _, c := range codes {
		seen[c.Expose()] = true
		if len(readRecoveryCode(c.Expose()))*5 < 80 {
			t.Errorf("%q is short", c.Expose())
		}
	}
	if len(seen) != recoveryCodes {
		t.Errorf("%d codes", len(seen))
	}
	prove := func(p tenantdb.PersonID, code string) error {
		_, err := f.prove(t, f.room, Answer{Person: p, RecoveryCode: secret.Text(code)})
		return err
	}
	other := f.person(t, f.tenant, "eve@example.com")
	f.add(t, other, Wanted{Kind: TOTP})
	_, err = f.room.NewRecoveryCodes(t.Context(), f.as(other, TOTP))
	must(t, err)
	typed := strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(codes[0].Expose(), "-", " "), "0", "O"))
	for _, c := range []struct {
		says string
		err  error
		ok   bool
	}{
		{"one that was replaced", prove(f.ada, old[0].Expose()), false},
		{"another person's", prove(other, codes[0].Expose()), false},
		{"none", prove(f.ada, "nonsense"), false},
		{"one as people type it", prove(f.ada, typed), true},
		{"the same again", prove(f.ada, codes[0].Expose()), false},
		{"the next", prove(f.ada, codes[1].Expose()), true},
	} {
		if c.ok != (c.err == nil) || !c.ok && !refused(c.err) {
			t.Errorf("%s: %v", c.says, c.err)
		}
	}
	if _, left := f.list(t, f.ada); left != recoveryCodes-2 {
		t.Errorf("%d are left", left)
	}
	told := 0
	for _, m := range f.mails(t, mail.FactorChanged) {
		if strings.Contains(m.What, "recovery code was used") && m.To == "ada@example.com" {
			told++
		}
	}
	if told != 2 {
		t.Errorf("the person was told %d times", told)
	}
}
