package e2e

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
)

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func lives(t *testing.T, p *provided) {
	t.Helper()
	p.connects(t)
	p.lives(t)
}

// lives goes through all that a connection has to do with people.
func (p *provided) lives(t *testing.T) {
	t.Helper()
	p.arrives(t)
	p.provesAnew(t)
	p.leavesGroup(t)
	p.required(t)
	p.removed(t)
	p.switchedOff(t)
	if f := p.b.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
	for _, asked := range p.b.Asked() {
		if strings.Contains(asked, "avl_") || strings.Contains(asked, "ava_") || strings.Contains(asked, clientSecret) {
			t.Errorf("a secret is in an address: %s", asked)
		}
	}
	// Grace came four times by one browser, which was new the first time alone: also if the provider's page posts, from another site.
	told := 0
	for _, m := range p.mail.Received() {
		if subject, _ := m.Text(); strings.Contains(m.To, "<"+grace+">") && strings.Contains(subject, "device") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("Grace was told %d times of a new device", told)
	}
}

// connects proves the owner again, connects the provider, and proves the domain.
func (p *provided) connects(t *testing.T) {
	t.Helper()
	p.group = p.does(t, "POST", "/api/v1/groups", map[string]any{"name": "Auditors", "roles": []string{"auditor"}}).text("group_id")
	body := map[string]any{"name": "Our provider", "admission": map[string]any{"jit": true, "groups": map[string]any{"computing": p.group}}}
	maps.Copy(body, p.idp.settings)

	step := p.does(t, "POST", "/api/v1/session/prove", map[string]any{"do": "begin"})
	factors, _ := step.Body["factors"].([]any)
	if len(factors) != 1 {
		t.Fatalf("the owner's factors: %s", step.Raw)
	}
	p.does(t, "POST", "/api/v1/session/prove", map[string]any{
		"do": "prove", "attempt": step.text("attempt"), "factor": factors[0].(map[string]any)["id"], "code": code(t, p.key, 1),
	})
	made := p.asks(t, "POST", "/api/v1/connections", p.token, body).want(t, http.StatusCreated)
	p.connection = made.text("connection_id")
	p.idp.told(made)
	db, err := Connect(t.Context(), p.in.pg.AdminURL)
	must(t, err)
	defer db.Close()
	if found, err := db.Texts(t.Context(), `SELECT name FROM avouch.connection WHERE position($1::bytea IN config) > 0`, []byte(clientSecret)); err != nil || len(found) > 0 || strings.Contains(string(made.Raw), clientSecret) {
		t.Errorf("the client secret lies open: %v %v %s", found, err, made.Raw)
	}
	if a := p.does(t, "POST", "/api/v1/connections/"+p.connection+"/test", nil); a.Body["ok"] != true {
		t.Errorf("the test of the connection: %s", a.Raw)
	}
	p.provesDomain(t, p.connection)
	p.b.Go(p.site + "/sign-in")
	p.b.Fill("#address", grace)
	p.b.Click("#with-provider")
	p.b.Says("#notice", "No organisation has set up a provider")
	p.does(t, "POST", "/api/v1/connections/"+p.connection+"/enable", nil)
}

// arrives signs in somebody who becomes a member by it, and refuses another whose domain is not the organisation's.
func (p *provided) arrives(t *testing.T) {
	t.Helper()
	p.idp.groups(grace, "computing", "chess")
	p.b.Go(p.site + "/sign-in")
	p.b.Fill("#address", grace)
	p.b.Click("#with-provider")
	p.atProvider("eve@elsewhere.example")
	p.b.Says("main", "nobody has given you access")
	p.picture(t, "provider-refused")
	p.byProvider(grace)
	p.b.Until(`location.pathname === '/account'`)
	p.b.Says("#me", grace)
	if roles := p.roles(t); !slices.Contains(roles, "member") || !slices.Contains(roles, "auditor") || len(roles) != 2 {
		t.Errorf("roles: %v", roles)
	}
}

// provesAnew has the provider ask again, before what wants a fresh proof.
func (p *provided) provesAnew(t *testing.T) {
	t.Helper()
	p.b.Click("#add-factor")
	p.b.Sees("#use-provider button")
	p.picture(t, "provider-proof")
	p.b.Click("#use-provider button")
	p.atProvider(mary)
	p.b.Says("main", "Somebody else came back")
	p.picture(t, "provider-other")
	p.b.Go(p.site + "/account")
	p.b.Click("#add-factor")
	session := func() string {
		all := p.b.Cookies(p.site)
		i := slices.IndexFunc(all, func(c *network.Cookie) bool { return strings.TrimPrefix(c.Name, "__Host-") == "avouch" })
		return all[max(i, 0)].Value
	}
	before := session()
	p.b.Click("#use-provider button")
	p.atProvider(grace)
	p.b.Until(`location.pathname === '/account'`)
	p.b.Says("#notice", "You have proved yourself again")
	p.picture(t, "provider-proved")
	if session() == before {
		t.Error("the proof left the session's cookie as it was")
	}
	p.b.Click("#add-factor")
	p.b.Sees("[data-enrol=totp]")
}

// leavesGroup: what the provider says of groups counts at the next sign-in.
func (p *provided) leavesGroup(t *testing.T) {
	t.Helper()
	p.out()
	p.idp.groups(grace, "chess")
	p.byProvider(grace)
	p.b.Until(`location.pathname === '/account'`)
	if roles := p.roles(t); !slices.Equal(roles, []string{"member"}) {
		t.Errorf("out of the group: %v", roles)
	}
}

// required: when the domain requires its provider, a password is none, and sessions by one end, but for owners.
func (p *provided) required(t *testing.T) {
	t.Helper()
	token := p.invites(t, mary, "Mary Somerville")
	p.asks(t, "GET", "/api/v1/session", token, nil).want(t, http.StatusOK)
	p.does(t, "PATCH", "/api/v1/domains/"+domain, map[string]any{"required": true})
	p.asks(t, "GET", "/api/v1/session", token, nil).want(t, http.StatusUnauthorized)
	if a := p.tries(t, mary).want(t, http.StatusForbidden); !strings.Contains(a.text("detail"), "provider") {
		t.Errorf("by password: %s", a.Raw)
	}
	p.roles(t) // the session that the provider began goes on
	p.does(t, "GET", "/api/v1/session", nil)
	step := p.tries(t, ada).want(t, http.StatusOK)
	step = p.goesOn(t, step, map[string]any{"do": "prove", "recovery_code": p.codes[0]})
	if step.text("access_token") == "" {
		t.Errorf("the owner by password: %s", step.Raw)
	}
	p.token = step.text("access_token")

	p.out()
	p.b.Fill("#address", mary)
	p.b.Fill("#password", firstPassword)
	p.b.Click("#start-form button.main")
	p.b.Says("#notice", "Your organisation signs in by its provider")
	p.picture(t, "provider-required")
	p.b.Click("#with-provider")
	p.atProvider(mary)
	p.b.Until(`location.pathname === '/account'`)
	p.b.Says("#me", "Mary Somerville")
	p.out()
}

// removed: whom an administrator removed is out at once, and does not come back by the provider, which knows nothing of it.
func (p *provided) removed(t *testing.T) {
	t.Helper()
	p.byProvider(grace)
	p.b.Until(`location.pathname === '/account'`)
	p.does(t, "POST", "/api/v1/members/"+p.member(t, grace)+"/remove", nil)
	if status, _ := api(p.b, "GET", "/api/v1/session"); status != http.StatusUnauthorized {
		t.Errorf("the session of whom was removed: %d", status)
	}
	p.b.Go(p.site + "/account")
	p.b.Until(`location.pathname === '/sign-in'`)
	p.byProvider(grace)
	p.b.Says("main", "nobody has given you access")
	p.b.Go(p.site + "/sign-in")
	if status, _ := api(p.b, "GET", "/api/v1/session"); status != http.StatusUnauthorized {
		t.Errorf("after the refusal: %d", status)
	}
	member := p.does(t, "GET", "/api/v1/members", nil)
	if strings.Contains(string(member.Raw), grace) {
		t.Errorf("the provider brought back who was removed: %s", member.Raw)
	}
}

// switchedOff: a connection that is switched off lets nobody in, nor who was under way, and ends the sessions that it began.
func (p *provided) switchedOff(t *testing.T) {
	t.Helper()
	p.byProvider(mary)
	p.b.Until(`location.pathname === '/account'`)
	p.does(t, "POST", "/api/v1/connections/"+p.connection+"/disable", nil)
	if status, _ := api(p.b, "GET", "/api/v1/session"); status != http.StatusUnauthorized {
		t.Errorf("the session by a connection that is off: %d", status)
	}
	p.does(t, "POST", "/api/v1/connections/"+p.connection+"/enable", nil)
	p.b.Go(p.site + "/sign-in")
	p.b.Fill("#address", mary)
	p.b.Click("#with-provider")
	p.b.Sees("input[name=name]")
	p.does(t, "POST", "/api/v1/connections/"+p.connection+"/disable", nil)
	p.atProvider(mary)
	p.b.Says("main", "switched off")
	p.b.Go(p.site + "/sign-in")
	p.b.Fill("#address", mary)
	p.b.Click("#with-provider")
	p.b.Says("#notice", "No organisation has set up a provider")
	p.tries(t, mary).want(t, http.StatusOK) // a domain requires nothing of what is off
}
