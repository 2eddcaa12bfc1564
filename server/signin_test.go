package server

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
)

var (
	anyID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
)

// same is an answer without what differs between any two requests: its words, which headers it has, and which cookies it sets.
func same(r reply) string {
	has := slices.Sorted(maps.Keys(r.header))
	for _, c := range (&http.Response{Header: r.header}).Cookies() {
		has = append(has, c.Name)
	}
	return fmt.Sprint(r.status, anyID.ReplaceAllString(r.text, "ID"), has)
}

// recovery asks for a new password and gives the link that is mailed.
func (p *somebody) recovery(t testing.TB, tenant tenantdb.TenantID, person [16]byte) string {
	t.Helper()
	p.ask(t, "POST", "/api/v1/recovery", map[string]any{"address": p.address}).want(t, 202)
	return p.n.linkOf(t, tenant, person)
}

func (p *somebody) personID(t testing.TB) (id tenantdb.PersonID) {
	t.Helper()
	must(t, id.UnmarshalText([]byte(p.id(t))))
	return id
}

// stranger is a browser that nobody has signed in from.
func (h *house) stranger(t testing.TB, like *somebody) *somebody {
	t.Helper()
	p := newBrowser(t, h, like.address)
	p.seed, p.step, p.codes = like.seed, like.step, like.codes
	return p
}

func (p *somebody) password(t testing.TB, password string) reply {
	t.Helper()
	return p.ask(t, "POST", "/api/v1/sign-in", map[string]any{"address": p.address, "password": password})
}

// TestStrangersLearnNothing: an account that is there, one that is not, one that was suspended and one without a password answer
// alike, at each door that a stranger comes to.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	eve := h.member(t, ada, "eve@acme.example", "member")
	ada.ask(t, "POST", "/api/v1/members/"+eve.id(t)+"/suspend", map[string]any{}).want(t, 200)
	ada.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": "invited@acme.example", "roles": []string{"member"}}).want(t, 201)
	nobody := newBrowser(t, h, "nobody@acme.example")
	want := same(nobody.password(t, "wrong, but long enough"))
	for what, p := range map[string]*somebody{
		"an account": h.stranger(t, bob), "an owner": h.stranger(t, ada), "suspended": h.stranger(t, eve), "invited": newBrowser(t, h, "invited@acme.example"),
		"elsewhere": newBrowser(t, h, "x@other.example"),
	} {
		if got := same(p.password(t, "wrong, but long enough")); got != want {
			t.Errorf("%s, wrong password: %s, want %s", what, got, want)
		}
	}
	if got := same(h.stranger(t, eve).password(t, goodPassword)); got != want {
		t.Errorf("suspended, right password: %s, want %s", got, want)
	}
	if got := same(h.stranger(t, bob).ask(t, "POST", "/api/v1/sign-in", map[string]any{"address": bob.address, "password": goodPassword, "organisation": tenantdb.NewTenantID()})); got != want {
		t.Errorf("another organisation: %s, want %s", got, want)
	}
	h.later(time.Hour)
	recovery := same(nobody.ask(t, "POST", "/api/v1/recovery", map[string]any{"address": nobody.address}))
	for _, a := range []string{bob.address, eve.address, "invited@acme.example"} {
		if got := same(nobody.ask(t, "POST", "/api/v1/recovery", map[string]any{"address": a})); got != recovery {
			t.Errorf("recovery of %s: %s, want %s", a, got, recovery)
		}
	}
	// An address that is known in another organisation is invited like any other.
	_, olga := h.owner(t, "Other")
	invited := map[string]string{}
	for _, a := range []string{bob.address, "new@else.example"} {
		r := olga.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": a, "roles": []string{"member"}})
		r.want(t, 201)
		r.text = anyTime.ReplaceAllString(strings.ReplaceAll(r.text, a, "ADDRESS"), "TIME")
		invited[a] = same(r)
	}
	if got, want := invited[bob.address], invited["new@else.example"]; got != want {
		t.Errorf("an invitation of somebody of another organisation: %s, and of anybody: %s", got, want)
	}
}

// TestNoWayAroundTheFactor tries to get a session of somebody with a second factor without it.
func TestNoWayAroundTheFactor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	id := ada.personID(t)
	bob := h.member(t, ada, "bob@acme.example", "member")
	thief := h.stranger(t, ada)

	renewed := thief.ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": thief.recovery(t, acme.id, id), "password": "a thief's own words, 12"}).want(t, 200)
	if renewed["state"] != "factor" || renewed["session_id"] != nil || thief.ask(t, "GET", "/api/v1/session", nil).status != 401 {
		t.Errorf("a mailed link alone: %v", renewed)
	}
	attempt := renewed["attempt"].(string)
	for what, body := range map[string]map[string]any{
		"to enrol a factor of one's own": {"do": "enrol", "kind": "totp"},
		"no code":                        {"do": "prove", "factor": renewed["factors"].([]any)[0].(map[string]any)["id"], "code": "000000"},
		"a recovery code that is none":   {"do": "prove", "recovery_code": "00000-00000-00000-00000"},
	} {
		body["attempt"] = attempt
		if r := thief.ask(t, "POST", "/api/v1/sign-in/continue", body); r.status != 401 {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
	}
	// The attempt of a session is no sign-in, nor that of somebody else; and neither is a credential.
	bobs := bob.ask(t, "POST", "/api/v1/session/prove", map[string]any{"do": "begin"}).want(t, 200)["attempt"].(string)
	if r := thief.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": bobs, "do": "prove", "code": "123456", "factor": tenantdb.NewTenantID()}); r.status != 401 {
		t.Errorf("the attempt of a session: %d %s", r.status, r.text)
	}
	thief.bearer = attempt
	if r := thief.ask(t, "GET", "/api/v1/session", nil); r.status != 401 {
		t.Errorf("an attempt as a token: %d", r.status)
	}
	thief.bearer = ""
	for _, body := range []map[string]any{{"do": "prove", "attempt": attempt, "code": "1"}, {"do": "prove", "attempt": attempt, "password": goodPassword}} {
		if r := bob.ask(t, "POST", "/api/v1/session/prove", body); r.status != 401 {
			t.Errorf("a sign-in's attempt within another's session: %d %s", r.status, r.text)
		}
	}
	ada.password(t, goodPassword).want(t, 200) // nothing has changed before a factor is proved
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	again := h.stranger(t, ada)
	renewed = again.ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": again.recovery(t, acme.id, id), "password": "her own new words, 12"}).want(t, 200)
	again.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{
		"attempt": renewed["attempt"], "do": "prove", "factor": renewed["factors"].([]any)[0].(map[string]any)["id"], "code": again.code(t),
	}).want(t, 200)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
	ada.password(t, goodPassword).want(t, 401)
	h.stranger(t, ada).password(t, "her own new words, 12").want(t, 200)
	if n := len(h.entries(t, acme.id, "signin.refused")); n == 0 {
		t.Error("nothing of this is in the log")
	}
}

// TestMailboxCountsOnce: whoever reads somebody's mail, and nothing else, gets no session where a factor is set up, also if
// that factor is a code by mail.
func TestMailboxCountsOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	bob.prove(t)
	begun := bob.ask(t, "POST", "/api/v1/factors", map[string]any{"kind": "email"}).want(t, 201)
	code := regexp.MustCompile(`\b\d{6}\b`).FindString(h.mailed(t, bob.address, "code"))
	bob.ask(t, "POST", "/api/v1/factors/"+begun["factor_id"].(string)+"/confirm", map[string]any{"code": code}).want(t, 200)
	thief := h.stranger(t, bob)
	r := thief.ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": thief.recovery(t, acme.id, bob.personID(t)), "password": "a thief's own words, 12"})
	if r.status != 403 || thief.ask(t, "GET", "/api/v1/session", nil).status != 401 {
		t.Errorf("%d %s", r.status, r.text)
	}
}

// prove proves somebody anew who has a session.
func (p *somebody) prove(t testing.TB) {
	t.Helper()
	step := p.ask(t, "POST", "/api/v1/session/prove", map[string]any{"do": "begin"}).want(t, 200)
	body := map[string]any{"do": "prove", "attempt": step["attempt"]}
	if all, _ := step["factors"].([]any); len(all) > 0 {
		body["factor"], body["code"] = all[0].(map[string]any)["id"], p.code(t)
	} else {
		body["password"] = goodPassword
	}
	p.ask(t, "POST", "/api/v1/session/prove", body).want(t, 200)
}

// TestRowsAreNoAttempts: who can write into the database, and has no key of the organisation's, has proved nothing by it.
func TestRowsAreNoAttempts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "admin")
	look := func(attempt any) reply {
		return bob.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": attempt, "do": "look"})
	}
	for what, change := range map[string]string{
		"made another's":       `person_id = '` + ada.id(t) + `'`,
		"to set a factor up":   `purpose = 'enrol'`,
		"proved by a factor":   `proofs = '{password,totp}'`,
		"by a provider":        `via = gen_random_uuid()`,
		"proved just now":      `proved_at = now()`,
		"of nobody's":          `state = NULL`,
		"with another's state": `state = (SELECT o.state FROM avouch.attempt o WHERE o.digest <> a.digest AND o.state IS NOT NULL LIMIT 1)`,
	} {
		bob.password(t, goodPassword).want(t, 200)
		attempt := bob.password(t, goodPassword).want(t, 200)["attempt"].(string)
		look(attempt).want(t, 200)
		sum := sha256.Sum256([]byte(attempt))
		must(t, h.DB.Note(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE avouch.attempt a SET `+change+` WHERE tenant_id = $1 AND digest = $2`, tx.Tenant(), sum[:])
			return err
		}))
		if r := look(attempt); r.status != 401 {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
	}
}

// TestAttemptEnds: after so many answers, after a quarter of an hour, and with its success.
func TestAttemptEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	begin := func() (attempt string, factor any) {
		step := ada.password(t, goodPassword).want(t, 200)
		return step["attempt"].(string), step["factors"].([]any)[0].(map[string]any)["id"]
	}
	prove := func(attempt string, factor any, code string) int {
		return ada.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": attempt, "do": "prove", "factor": factor, "code": code}).status
	}
	attempt, factor := begin()
	for range signin.MaxTries {
		if s := prove(attempt, factor, "000000"); s != 401 {
			t.Fatalf("a wrong code: %d", s)
		}
	}
	if s := prove(attempt, factor, ada.code(t)); s != 401 {
		t.Errorf("the right code, after %d wrong ones: %d", signin.MaxTries, s)
	}
	attempt, factor = begin()
	h.later(16 * time.Minute)
	if s := prove(attempt, factor, ada.code(t)); s != 401 {
		t.Errorf("after a quarter of an hour: %d", s)
	}
	attempt, factor = begin()
	if s := prove(attempt, factor, ada.code(t)); s != 200 {
		t.Errorf("in time: %d", s)
	}
	if s := prove(attempt, factor, ada.code(t)); s != 401 {
		t.Errorf("once more: %d", s)
	}
	for _, bad := range []string{"", "ava_", "ava_" + strings.Repeat("A", 43), attempt[:len(attempt)-1]} {
		if s := prove(bad, factor, "000000"); s != 401 {
			t.Errorf("no attempt: %d", s)
		}
	}
}

// TestAttemptCountsOnce: of two right answers at once, on two servers, one begins a session.
func TestAttemptCountsOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := &house{}
	h.live = s.start(t, development(&h.ahead))
	second := s.start(t, development(&h.ahead))
	_, ada := h.owner(t, "Acme")
	step := ada.password(t, goodPassword).want(t, 200)
	code := ada.code(t)
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 6 {
		p := h.stranger(t, ada)
		if i%2 == 1 {
			p.n = &house{live: second}
		}
		all.Go(func() {
			r := p.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{
				"attempt": step["attempt"], "do": "prove", "factor": step["factors"].([]any)[0].(map[string]any)["id"], "code": code,
			})
			if r.status == 200 {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d sessions began", n)
	}
}

// TestPasswordEndsSessions: who knew the old password is out; who changed it stays.
func TestPasswordEndsSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	other := h.stranger(t, ada)
	other.signIn(t, nil)
	ada.step = other.step
	program := ada.program(t)
	waiting := other.password(t, goodPassword).want(t, 200)
	ada.prove(t)
	for what, r := range map[string]reply{
		"a wrong old one": ada.ask(t, "PUT", "/api/v1/password", map[string]any{"old": "not the old one, really", "new": "another long password, 9"}),
		"a short one":     ada.ask(t, "PUT", "/api/v1/password", map[string]any{"old": goodPassword, "new": "short"}),
		"a breached one":  ada.ask(t, "PUT", "/api/v1/password", map[string]any{"old": goodPassword, "new": "passwordpassword"}),
	} {
		if r.status != 400 && r.status != 403 {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
	}
	ada.ask(t, "PUT", "/api/v1/password", map[string]any{"old": goodPassword, "new": "another long password, 9"}).want(t, 204)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	for what, p := range map[string]*somebody{"another browser": other, "a program": program} {
		if r := p.ask(t, "GET", "/api/v1/session", nil); r.status != 401 {
			t.Errorf("%s goes on: %d", what, r.status)
		}
	}
	if r := program.ask(t, "POST", "/api/v1/session/refresh", map[string]any{"refresh_token": program.refresh}); r.status != 401 {
		t.Errorf("a refresh token goes on: %d", r.status)
	}
	factor := waiting["factors"].([]any)[0].(map[string]any)["id"]
	if r := other.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": waiting["attempt"], "do": "prove", "factor": factor, "code": ada.code(t)}); r.status != 401 {
		t.Errorf("a sign-in that was under way goes on: %d", r.status)
	}
	other.password(t, goodPassword).want(t, 401)
	other.password(t, "another long password, 9").want(t, 200)
	if e := h.entries(t, acme.id, "person.password_changed"); len(e) != 1 {
		t.Errorf("%d entries", len(e))
	}
	h.mailed(t, ada.address, "password")
}

// TestFreshProof: what is dangerous wants a proof of the last five minutes.
func TestFreshProof(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	h.later(6 * time.Minute)
	change := map[string]any{"old": goodPassword, "new": "another long password, 9"}
	if r := ada.ask(t, "PUT", "/api/v1/password", change); r.status != 403 || !strings.Contains(r.text, "Prove yourself again") {
		t.Errorf("after six minutes: %d %s", r.status, r.text)
	}
	before := ada.cookie()
	ada.prove(t)
	if ada.cookie() == before {
		t.Error("the cookie stayed")
	}
	ada.ask(t, "PUT", "/api/v1/password", change).want(t, 204)
}

// TestProofOfAnother: a proof is of the session's own person.
func TestProofOfAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "admin")
	step := bob.ask(t, "POST", "/api/v1/session/prove", map[string]any{"do": "begin"}).want(t, 200)
	mine := ada.ask(t, "POST", "/api/v1/session/prove", map[string]any{"do": "begin"}).want(t, 200)
	for what, body := range map[string]map[string]any{
		"my code, your factor": {"attempt": step["attempt"], "factor": step["factors"].([]any)[0].(map[string]any)["id"], "code": ada.code(t)},
		"my factor":            {"attempt": step["attempt"], "factor": mine["factors"].([]any)[0].(map[string]any)["id"], "code": ada.code(t)},
		"my recovery code":     {"attempt": step["attempt"], "recovery_code": ada.codes[0]},
		"my attempt":           {"attempt": mine["attempt"], "factor": mine["factors"].([]any)[0].(map[string]any)["id"], "code": ada.code(t)},
		"a password":           {"attempt": step["attempt"], "password": goodPassword},
	} {
		body["do"] = "prove"
		if r := bob.ask(t, "POST", "/api/v1/session/prove", body); r.status != 401 && r.status != 403 {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
	}
}

// cookie is the session's, as the browser has it.
func (p *somebody) cookie() string {
	for _, c := range p.browser.Jar.Cookies(p.url()) {
		if c.Name == "avouch" {
			return c.Value
		}
	}
	return ""
}

// TestNoFixation: a cookie that was there before is not adopted.
func TestNoFixation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	before := ada.cookie()
	ada.signIn(t, nil)
	if after := ada.cookie(); after == before || after == "" {
		t.Error("the sign-in kept the cookie that was there")
	}
	planted := strings.Repeat("A", 43)
	victim := h.stranger(t, ada)
	victim.plant("avouch", planted)
	victim.plant("avouch-device", planted)
	victim.signIn(t, nil)
	if victim.cookie() == planted {
		t.Error("a planted cookie became a session")
	}
	thief := h.stranger(t, ada)
	thief.plant("avouch", planted)
	thief.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
}

// TestProvidedComeByTheProvider: where a domain's people sign in by a provider, a password is none, but for owners.
func TestProvidedComeByTheProvider(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	h.stranger(t, bob).signIn(t, nil)
	h.provide(t, acme.id, "acme.example")
	if r := h.stranger(t, bob).password(t, goodPassword); r.status != 403 || !strings.Contains(r.text, "provider") {
		t.Errorf("%d %s", r.status, r.text)
	}
	h.stranger(t, bob).password(t, "wrong, but long enough").want(t, 401) // who does not know the password learns nothing
	link := bob.recovery(t, acme.id, bob.personID(t))
	if r := bob.ask(t, "POST", "/api/v1/recovery/finish", map[string]any{"link": link, "password": "another long password, 9"}); r.status != 403 {
		t.Errorf("by recovery: %d %s", r.status, r.text)
	}
	why := map[string]int{}
	for _, e := range h.entries(t, acme.id, "signin.refused") {
		why[e.field("reason")]++
	}
	if why["provider"] != 2 || why["password"] != 1 {
		t.Errorf("the log says of them: %v", why)
	}
	h.stranger(t, ada).signIn(t, nil)
}

// TestSessionOfWhoWasPromoted: a session that an administrator's own provider began ends being one when its person becomes an owner.
func TestSessionOfWhoWasPromoted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	eve, bob := h.member(t, ada, "eve@acme.example", "admin"), h.member(t, ada, "bob@acme.example", "member")
	made := eve.ask(t, "POST", "/api/v1/connections", map[string]any{"kind": "oidc", "name": "Eve's own", "oidc": map[string]any{"issuer": "https://eve.example", "client_id": "x"}}).want(t, 201)
	eve.ask(t, "POST", "/api/v1/connections/"+made["connection_id"].(string)+"/enable", nil).want(t, 200)
	via, err := sso.ParseID(made["connection_id"].(string))
	must(t, err)
	must(t, h.Sessions.Prepare(t.Context(), acme.id, bob.personID(t)))
	thief := h.stranger(t, bob)
	must(t, h.DB.Change(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		s, value, err := h.Sessions.Start(t.Context(), tx, session.New{Person: bob.personID(t), Kind: session.Browser, Methods: []string{"oidc", "mfa"}, Via: via, Program: "Firefox"})
		thief.plant("avouch", value.Expose())
		return s.Event(), err
	}))
	thief.ask(t, "GET", "/api/v1/me", nil).want(t, 200)
	ada.ask(t, "PATCH", "/api/v1/members/"+bob.id(t), map[string]any{"roles": []string{"owner"}}).want(t, 200)
	if r := thief.ask(t, "GET", "/api/v1/me", nil); r.status != 401 {
		t.Errorf("an owner's session, by a provider of an administrator's: %d %s", r.status, r.text)
	}
}

// TestSignInIsRecorded: each sign-in and each refusal is in a log.
func TestSignInIsRecorded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	for typ, want := range map[string]int{"session.started": 1, "person.joined": 1, "factor.added": 1} {
		if got := len(h.entries(t, acme.id, typ)); got != want {
			t.Errorf("%s: %d entries, want %d", typ, got, want)
		}
	}
	h.stranger(t, ada).password(t, "wrong, but long enough").want(t, 401)
	newBrowser(t, h, "nobody@acme.example").password(t, "wrong, but long enough").want(t, 401)
	for tenant, want := range map[tenantdb.TenantID]int{acme.id: 1, tenantdb.Platform: 1} {
		if got := h.entries(t, tenant, "signin.refused"); len(got) != want {
			t.Errorf("%s: %d refusals, want %d", tenant, len(got), want)
		}
	}
}
