package server

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
)

var sixDigits = regexp.MustCompile(`\b\d{6}\b`)

// byMail adds codes by mail to somebody's factors.
func (p *somebody) byMail(t testing.TB) (factor string) {
	t.Helper()
	p.prove(t)
	begun := p.ask(t, "POST", "/api/v1/factors", map[string]any{"kind": "email"}).want(t, 201)
	code := sixDigits.FindString(p.n.mailed(t, p.address, "code"))
	p.ask(t, "POST", "/api/v1/factors/"+begun["factor_id"].(string)+"/confirm", map[string]any{"code": code}).want(t, 200)
	return begun["factor_id"].(string)
}

// TestMailboxIsNoTwoFactors: whoever reads somebody's mail sets a password by a mailed link, leaves that sign-in, and begins another
// with the password: the code by mail is no second factor then either.
func TestMailboxIsNoTwoFactors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme") // an owner: with an app, and recovery codes
	id, factor := ada.personID(t), ada.byMail(t)
	thief := h.stranger(t, ada)
	h.later(time.Hour)
	const words = "a thief's own words, 12"
	thief.ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": thief.recovery(t, acme.id, id), "password": words}).want(t, 200)
	r := thief.password(t, words)
	if r.status == 401 {
		return
	}
	step := r.want(t, 200)
	q := thief.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": step["attempt"], "do": "ask", "factor": factor})
	t.Errorf("with nothing but the mailbox: a code is sent there, and is the second factor: %s %s", r.text, q.text)
}

// TestNewPasswordWaitsForAnswers: a new password ends the sign-ins that are under way, and an answer to one of these is counted at the
// same time: neither waits for the other for ever.
func TestNewPasswordWaitsForAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	id := ada.personID(t)
	other := h.stranger(t, ada)
	waiting := secret.Text(other.password(t, goodPassword).want(t, 200)["attempt"].(string))
	digest := sha256.Sum256([]byte(waiting.Expose()))
	renewing := ada.ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": ada.recovery(t, acme.id, id), "password": "quite another phrase, 7"}).want(t, 200)
	factor := renewing["factors"].([]any)[0].(map[string]any)["id"].(string)
	of, err := mfa.ParseID(factor)
	must(t, err)
	done := make(chan reply, 1)
	must(t, h.DB.Note(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) error {
		var n int
		if err := tx.QueryRow(t.Context(), `SELECT tries FROM avouch.attempt WHERE tenant_id = $1 AND digest = $2 FOR UPDATE`, acme.id, digest[:]).Scan(&n); err != nil {
			return err
		}
		code := ada.code(t)
		go func() {
			done <- ada.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": renewing["attempt"], "do": "prove", "factor": factor, "code": code})
		}()
		for n = 0; n == 0; {
			if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`).Scan(&n); err != nil {
				return err
			}
		}
		return h.Factors.Try(t.Context(), tx, mfa.Answer{Person: id, Factor: of, Code: secret.Text("000000")})
	}))
	(<-done).want(t, 200)
}

// assertion is an answer that names a passkey and a person, signed by nobody.
func assertion(credential []byte, person tenantdb.PersonID) map[string]any {
	b := base64.RawURLEncoding.EncodeToString
	return map[string]any{"id": b(credential), "rawId": b(credential), "type": "public-key", "response": map[string]any{
		"clientDataJSON": b([]byte(`{"type":"webauthn.get","challenge":"AAAA","origin":"https://evil.example"}`)), "authenticatorData": b(make([]byte, 37)),
		"signature": b([]byte("none")), "userHandle": b(person[:]),
	}}
}

// TestRecoveryCodeIsNoPasskey: where a passkey alone signs in, nothing else does: a recovery code beside an assertion that says whose
// it is would be a sign-in without a password.
func TestRecoveryCodeIsNoPasskey(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.PublicURL = "http://localhost:8080" })
	acme, ada := h.owner(t, "Acme")
	id, credential := ada.personID(t), []byte("the id of a passkey is no secret")
	sum := sha256.Sum256(credential)
	must(t, h.DB.Change(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.factor SET credential = $3 WHERE tenant_id = $1 AND person_id = $2`, acme.id, id, sum[:])
		return audit.Event{Type: "test.passkey"}, err
	}))
	thief := newBrowser(t, h, "")
	step := thief.ask(t, "POST", "/api/v1/sign-in", map[string]any{"passkey": true}).want(t, 200)
	r := thief.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{
		"attempt": step["attempt"], "do": "prove", "assertion": assertion(credential, id), "recovery_code": ada.codes[0],
	})
	if r.status != 401 {
		t.Errorf("a stolen recovery code, without the password: %d %s", r.status, r.text)
	}
	if s := thief.ask(t, "GET", "/api/v1/session", nil); s.status != 401 {
		t.Errorf("the thief is signed in: %s", s.text)
	}
	h.stranger(t, ada).ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{
		"attempt": h.stranger(t, ada).password(t, goodPassword).want(t, 200)["attempt"], "do": "prove", "recovery_code": ada.codes[0],
	}).want(t, 200) // it was not used up
}

// TestOldLinkAfterNewAddress: a link to recover that went to the old address opens nothing once the address is another.
func TestOldLinkAfterNewAddress(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	id := bob.personID(t)
	stolen := h.stranger(t, bob).recovery(t, acme.id, id)
	bob.prove(t)
	bob.ask(t, "POST", "/api/v1/address", map[string]any{"address": "bob@new.example"}).want(t, 202)
	bob.ask(t, "POST", "/api/v1/address/confirm", map[string]any{"link": h.linkOf(t, acme.id, id)}).want(t, 204)
	if r := h.stranger(t, bob).ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": stolen, "password": "a thief's own words, 12"}); r.status != 403 {
		t.Errorf("a link that was mailed to the old address: %d %s", r.status, r.text)
	}
}

// TestAddressMailsRunOut: who has a session cannot have mails sent to any address without end.
func TestAddressMailsRunOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	ada.prove(t)
	for i := range 30 {
		r := ada.ask(t, "POST", "/api/v1/address", map[string]any{"address": "victim" + strings.Repeat("x", i) + "@elsewhere.example"})
		if r.status == 429 {
			return
		}
		r.want(t, 202)
	}
	t.Error("thirty mails to thirty strangers")
}

// TestRemovedIsUnknownToProviders: what a provider calls somebody goes with them, or it would keep out who comes again.
func TestRemovedIsUnknownToProviders(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	h.provide(t, acme.id, "acme.example")
	must(t, h.DB.Change(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.identity (tenant_id, connection_id, subject, person_id, created_at)
			SELECT tenant_id, connection_id, 'abcdefghijklmnopqrstuvwxyz', $2, now() FROM avouch.connection WHERE tenant_id = $1`, acme.id, bob.personID(t))
		return audit.Event{Type: "test.linked"}, err
	}))
	gone := ada.ask(t, "POST", "/api/v1/members/"+bob.id(t)+"/remove", nil).want(t, 200)
	var left int
	must(t, h.DB.Read(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM avouch.identity WHERE tenant_id = $1`, acme.id).Scan(&left)
	}))
	if left != 0 {
		t.Errorf("%d of the names that providers have for who was removed are left: %v", left, gone)
	}
}

// TestOldPasswordIsTooLate: a password is compared before the organisation's head is locked. If it has been changed by then, it is the
// old one.
func TestOldPasswordIsTooLate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	id, thief, done := bob.personID(t), h.stranger(t, bob), make(chan reply, 1)
	anew, err := h.Passwords.Hash(t.Context(), password.Stranger, acme.id, id, secret.Text("another long password, 9"))
	must(t, err)
	must(t, h.DB.Change(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		go func() { done <- thief.password(t, goodPassword) }()
		time.Sleep(2 * time.Second) // the thief waits for the head by now; if not, the test shows nothing
		return audit.Event{Type: "test.password"}, h.Passwords.Store(t.Context(), tx, id, anew)
	}))
	if r := <-done; r.status != 401 {
		t.Errorf("with the old password: %d %s", r.status, r.text)
	}
}

// TestProvidedKeepTheirAddress: who must come by a provider does not get away from it by another address.
func TestProvidedKeepTheirAddress(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	id := bob.personID(t)
	bob.prove(t)
	bob.ask(t, "POST", "/api/v1/address", map[string]any{"address": "bob@else.example"}).want(t, 202)
	link := h.linkOf(t, acme.id, id)
	h.provide(t, acme.id, "acme.example")
	if r := bob.ask(t, "POST", "/api/v1/address/confirm", map[string]any{"link": link}); r.status != 403 {
		t.Errorf("a link of before: %d %s", r.status, r.text)
	}
	if r := bob.ask(t, "POST", "/api/v1/address", map[string]any{"address": "bob@else.example"}); r.status != 403 {
		t.Errorf("another one: %d %s", r.status, r.text)
	}
}

// TestShreddedOrganisationIsInNobodysWay: an account of the same address in an organisation whose keys are destroyed keeps nobody from
// recovering another, nor from signing in to it.
func TestShreddedOrganisationIsInNobodysWay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	h.member(t, ada, "bob@acme.example", "member")
	other, olga := h.owner(t, "Other")
	h.later(time.Minute)
	h.member(t, olga, "bob@acme.example", "member") // where he signed in last
	olga.prove(t)
	olga.ask(t, "POST", "/api/v1/organisation/delete", map[string]any{"confirm": "Other"}).want(t, 200)
	h.later(31 * 24 * time.Hour)
	done, err := h.Org.Shred(t.Context(), tenantdb.System(other.id, "operator"))
	if must(t, err); !done {
		t.Fatal("nothing was destroyed")
	}
	bob := newBrowser(t, h, "bob@acme.example")
	if r := bob.ask(t, "POST", "/api/v1/recovery", map[string]any{"address": bob.address}); r.status != 202 {
		t.Errorf("recovery: %d %s", r.status, r.text)
	}
	if r := bob.password(t, goodPassword); r.status != 200 {
		t.Errorf("sign-in: %d %s", r.status, r.text)
	}
}

// TestNobodyJoinsWhatIsDeleted: an invitation of the operator ends with the organisation as others do.
func TestNobodyJoinsWhatIsDeleted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	in, err := h.Org.InviteOwner(t.Context(), tenantdb.System(acme.id, "operator"), "eve@acme.example", "Eve")
	must(t, err)
	link := h.linkOf(t, acme.id, in.ID)
	ada.prove(t)
	ada.ask(t, "POST", "/api/v1/organisation/delete", map[string]any{"confirm": "Acme"}).want(t, 200)
	eve := newBrowser(t, h, in.Address)
	if r := eve.ask(t, "POST", "/api/v1/join", map[string]any{"do": "join", "link": link, "name": "Eve", "password": goodPassword}); r.status < 400 {
		t.Errorf("joined: %d %s", r.status, r.text)
	}
}

// TestRulesHoldForSessionsThatAreThere: rules that ask more of people hold at once, also for who has a session by a factor that they
// allow no more.
func TestRulesHoldForSessionsThatAreThere(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "admin")
	program := bob.program(t)
	system := tenantdb.System(acme.id, "test")
	now, err := h.Org.GetRules(t.Context(), system)
	must(t, err)
	_, err = h.Org.UpdateRules(t.Context(), system, web.ETag(now.Version), org.RulesChange{Factors: &map[string][]string{"admin": {"hardware"}}})
	must(t, err)
	for what, p := range map[string]*somebody{"a browser": bob, "a program": program} {
		if r := p.ask(t, "GET", "/api/v1/organisation", nil); r.status != 401 {
			t.Errorf("%s goes on by an app, where hardware is wanted: %d", what, r.status)
		}
	}
	if r := program.ask(t, "POST", "/api/v1/session/refresh", map[string]any{"refresh_token": program.refresh}); r.status != 401 {
		t.Errorf("a refresh token goes on: %d", r.status)
	}
	ada.ask(t, "GET", "/api/v1/organisation", nil).want(t, 200)
}

// TestArrivalsEndWithTheConnection: who came by a connection and has yet to prove a factor begins no session once it is taken away.
func TestArrivalsEndWithTheConnection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	connection, id := sso.ID(tenantdb.NewTenantID()), ada.personID(t)
	for what, ended := range map[string]sso.Ended{"taken away": {Via: connection}, "another is required": {Person: id, NotVia: sso.ID(tenantdb.NewTenantID())}} {
		o, err := h.SignIn.Arrive(t.Context(), signin.Request{}, signin.Arrival{Tenant: acme.id, Person: id, Method: "oidc", Connection: connection})
		if must(t, err); o.State != signin.Factor {
			t.Fatal(o.State)
		}
		must(t, h.DB.Change(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
			_, err := h.endVia(t.Context(), tx, ended, "test")
			return audit.Event{Type: "test.ended"}, err
		}))
		r := newBrowser(t, h, "").ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{
			"attempt": o.Attempt.Expose(), "do": "prove", "factor": o.Factors[0].ID.String(), "code": ada.code(t),
		})
		if r.status != 401 {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
	}
}

// TestResetOfWhoComesByAProvider: who comes by a provider that counts as several factors is asked for none, so what a reset left is
// proved in the session, and a factor set up in its place. In another session it is good for nothing.
func TestResetOfWhoComesByAProvider(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	connection := h.connected(t, ada, "elsewhere.example", "https://idp.example")
	for _, trusted := range []bool{true, false} {
		bob := h.member(t, ada, fmt.Sprintf("bob-%t@acme.example", trusted), "admin")
		id := bob.personID(t)
		_, err := h.Factors.Reset(t.Context(), tenantdb.System(acme.id, "operator"), id)
		must(t, err)
		o, err := h.SignIn.Arrive(t.Context(), signin.Request{}, signin.Arrival{Tenant: acme.id, Person: id, Method: "oidc", Connection: connection, ProvedAt: h.now(), Strong: true})
		if must(t, err); o.State != signin.SignedIn {
			t.Fatal(o.State)
		}
		as := func(methods ...string) tenantdb.Caller {
			return tenantdb.NewCaller(tenantdb.CallerSpec{
				Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorPerson, ID: id.String()}, How: "session:oidc", RequestID: audit.NewRequestID(),
				Person: &tenantdb.Person{ID: id, Session: o.Started.Session.ID.String(), ProvedAt: h.now(), Methods: methods},
			})
		}
		c := as("oidc")
		if trusted {
			c = as("mfa", "oidc")
		}
		if _, err := h.Factors.Begin(t.Context(), c, mfa.Wanted{Kind: mfa.TOTP}); !problem.Is(err, problem.Denied) || !strings.Contains(err.Error(), "e-mail") {
			t.Errorf("without the mailed code: %v", err)
		}
		v, err := h.SignIn.BeginProof(t.Context(), c)
		must(t, err)
		_, err = h.SignIn.AskProof(t.Context(), c, v.Attempt, v.Factors[0].ID)
		must(t, err)
		code := secret.Text(sixDigits.FindString(h.mailed(t, bob.address, "code")))
		_, err = h.SignIn.Prove(t.Context(), c, signin.Request{}, signin.Proof{Attempt: v.Attempt, Factor: v.Factors[0].ID, Code: code})
		if !trusted {
			if !problem.Is(err, problem.Denied) {
				t.Errorf("a session that no second factor began: %v", err)
			}
			continue
		}
		must(t, err)
		_, err = h.Factors.Begin(t.Context(), as("email", "oidc"), mfa.Wanted{Kind: mfa.TOTP})
		must(t, err)
	}
}

// TestProvidersWordIsNoHardware: where rules allow hardware alone, a provider's word that it asked for several factors is none.
func TestProvidersWordIsNoHardware(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "admin")
	system := tenantdb.System(acme.id, "test")
	now, err := h.Org.GetRules(t.Context(), system)
	must(t, err)
	_, err = h.Org.UpdateRules(t.Context(), system, web.ETag(now.Version), org.RulesChange{Factors: &map[string][]string{"admin": {"hardware"}}})
	must(t, err)
	var id tenantdb.PersonID
	must(t, h.DB.Read(t.Context(), system, func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT person_id FROM avouch.person WHERE tenant_id = $1 AND roles = '{admin}'`, acme.id).Scan(&id)
	}))
	o, err := h.SignIn.Arrive(t.Context(), signin.Request{}, signin.Arrival{
		Tenant: acme.id, Person: id, Method: "oidc", Connection: [16]byte{1}, ProvedAt: h.now(), Strong: true,
	})
	if must(t, err); o.State == signin.SignedIn {
		t.Errorf("%s has a session by a provider's word", bob.address)
	}
}
