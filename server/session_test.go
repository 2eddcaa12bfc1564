package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// pair is two servers on one database, which share a clock that a test may put forward.
type pair struct {
	*house        // the first
	second *live  // which people have used too, so that it knows what it could remember
	acme   *place // by the first
}

func newPair(t testing.TB, change ...func(*Config)) *pair {
	t.Helper()
	s, p := newSite(t), &pair{house: &house{}}
	change = append([]func(*Config){development(&p.ahead)}, change...)
	p.live = s.start(t, change...)
	p.second = s.start(t, change...)
	p.acme = p.place(t, "Acme")
	return p
}

// held is what somebody is signed in with.
type held struct {
	person  tenantdb.PersonID
	session string            // the browser's
	browser map[string]string // headers
	program map[string]string
	refresh string
}

// signedIn is somebody in a browser and with a program, who has asked both servers for something.
func (p *pair) signedIn(t testing.TB, roles ...string) held {
	t.Helper()
	h := held{person: p.acme.person(t, roles...)}
	var cookie string
	cookie, h.session = p.acme.signed(t, h.person)
	h.browser = p.fromPage(cookie)
	h.refresh, _ = p.acme.signed(t, h.person, func(n *session.New) { n.Kind, n.Binding = session.Program, "cli" })
	tokens := p.call(t, ask{Method: "POST", Path: "/api/v1/session/refresh", Body: object{"refresh_token": h.refresh, "client_id": "cli"}}).want(t, 200)
	h.refresh, h.program = tokens.text("refresh_token"), map[string]string{"Authorization": "Bearer " + tokens.text("access_token")}
	for _, header := range []map[string]string{h.browser, h.program} {
		p.reads(t, header, http.StatusOK, "at first")
	}
	return h
}

// inBrowser is a viewer in a browser.
func (p *pair) inBrowser(t testing.TB) held {
	t.Helper()
	h := held{person: p.acme.person(t, org.RoleViewer)}
	cookie, _ := p.acme.signed(t, h.person)
	h.browser = p.fromPage(cookie)
	return h
}

// reads asks both servers for something that takes a capability.
func (p *pair) reads(t testing.TB, header map[string]string, status int, when string) {
	t.Helper()
	for i, n := range []*live{p.second, p.live} {
		if a := n.call(t, ask{Method: "GET", Path: "/api/v1/agents", Header: header}); a.Status != status {
			t.Errorf("%s: server %d says %d, want %d: %s", when, 2-i, a.Status, status, a.Raw)
		}
	}
}

// TestEndedOnOneEndedOnBoth: what ends a session, or takes a capability from it, on one server holds on the other with the answer.
func TestEndedOnOneEndedOnBoth(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	member := func(h held, do string) ask {
		return ask{Method: "POST", Path: "/api/v1/members/" + h.person.String() + do}
	}
	roles := func(h held, roles ...string) ask {
		return ask{Method: "PATCH", Path: "/api/v1/members/" + h.person.String(), Body: object{"roles": append([]string{}, roles...)}}
	}
	const over, less, good = http.StatusUnauthorized, http.StatusForbidden, http.StatusOK
	for name, c := range map[string]struct {
		asks             func(h held) ask
		self             bool // whether they do it themselves
		browser, program int
	}{
		"signed out":              {func(held) ask { return ask{Method: "POST", Path: "/api/v1/sign-out"} }, true, over, good},
		"ended":                   {func(h held) ask { return ask{Method: "POST", Path: "/api/v1/sessions/" + h.session + "/end"} }, true, over, good},
		"others ended":            {func(held) ask { return ask{Method: "POST", Path: "/api/v1/sessions/end-others"} }, true, good, over},
		"ended by an owner":       {func(h held) ask { return member(h, "/sessions/end") }, false, over, over},
		"factors taken away":      {func(h held) ask { return member(h, "/factors/reset") }, false, over, over},
		"suspended":               {func(h held) ask { return member(h, "/suspend") }, false, over, over},
		"removed":                 {func(h held) ask { return member(h, "/remove") }, false, over, over},
		"the role taken away":     {func(h held) ask { return roles(h) }, false, less, less},
		"another role in place":   {func(h held) ask { return roles(h, org.RoleAuditor) }, false, good, good},
		"a role that lacks it":    {func(h held) ask { return roles(h, idle) }, false, less, less},
		"a greater role in place": {func(h held) ask { return roles(h, org.RoleAdmin) }, false, good, good},
	} {
		h := p.signedIn(t, org.RoleViewer)
		q := c.asks(h)
		if q.Header = h.browser; !c.self {
			cookie, _ := p.acme.signed(t, p.acme.owner)
			q.Header = p.fromPage(cookie)
		}
		if a := p.call(t, q); a.Status >= 300 {
			t.Fatalf("%s: %d %s", name, a.Status, a.Raw)
		}
		p.reads(t, h.browser, c.browser, name+", the browser")
		p.reads(t, h.program, c.program, name+", the program")
		refreshed := p.second.call(t, ask{Method: "POST", Path: "/api/v1/session/refresh", Body: object{"refresh_token": h.refresh, "client_id": "cli"}})
		if ended := refreshed.Status == http.StatusUnauthorized; ended != (c.program == over) {
			t.Errorf("%s: the refresh token is answered with %d", name, refreshed.Status)
		}
	}
}

// TestGivenByAProof: what somebody is given counts in a session from the next proof on, which rotates it, on both servers; a session that
// was stolen before gains nothing. What is taken away is gone with the next request.
func TestGivenByAProof(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	owner := func(method, path string, body any) answer { return p.acme.as(t, p.acme.owner, method, path, body) }
	wide := owner("POST", "/api/v1/roles", object{"name": "wide", "capabilities": []string{"agents:read"}})
	group := owner("POST", "/api/v1/groups", object{"name": "makers", "roles": []string{org.RoleAdmin}})
	for name, gives := range map[string]func(h held){
		"a role": func(h held) {
			owner("PATCH", "/api/v1/members/"+h.person.String(), object{"roles": []string{org.RoleAdmin}})
		},
		"ownership": func(h held) {
			owner("PATCH", "/api/v1/members/"+h.person.String(), object{"roles": []string{org.RoleOwner}})
		},
		"a group": func(h held) {
			owner("PUT", "/api/v1/groups/"+group.text("group_id")+"/members/"+h.person.String(), nil)
		},
		"more of a role": func(held) {
			owner("PATCH", "/api/v1/roles/wide", object{"capabilities": []string{"agents:read", "members:read", "members:write"}})
		},
	} {
		h := p.signedIn(t, org.RoleViewer, wide.text("name"))
		may := func(header map[string]string, status int, says, when string) {
			t.Helper()
			for _, n := range []*live{p.second, p.live} {
				a := n.call(t, ask{Method: "POST", Path: "/api/v1/groups", Body: object{"name": p.acme.next()}, Header: header})
				if a.Status != status || !strings.HasPrefix(a.text("detail"), says) {
					t.Errorf("%s, %s: %d %s", name, when, a.Status, a.Raw)
				}
			}
		}
		may(h.browser, http.StatusForbidden, "This needs", "before it")
		gives(h)
		may(h.browser, http.StatusForbidden, "Prove yourself again", "given")
		tokens := p.call(t, ask{Method: "POST", Path: "/api/v1/session/refresh", Body: object{"refresh_token": h.refresh, "client_id": "cli"}}).want(t, 200)
		may(map[string]string{"Authorization": "Bearer " + tokens.text("access_token")}, http.StatusForbidden, "Prove yourself again", "given, a new token")
		proved := p.fromPage(p.acme.proved(t, h))
		may(h.browser, http.StatusUnauthorized, "", "the cookie of before the proof")
		may(proved, http.StatusCreated, "", "proved")
		owner("PATCH", "/api/v1/members/"+h.person.String(), object{"roles": []string{org.RoleViewer}})
		owner("PATCH", "/api/v1/roles/wide", object{"capabilities": []string{"agents:read"}})
		if name == "a group" {
			owner("DELETE", "/api/v1/groups/"+group.text("group_id")+"/members/"+h.person.String(), nil)
		}
		may(proved, http.StatusForbidden, "This needs", "taken away")
	}
}

// proved is the new cookie of a browser's session whose person proved a factor.
func (p *place) proved(t testing.TB, h held) (cookie string) {
	t.Helper()
	id, err := session.ParseID(h.session)
	must(t, err)
	must(t, p.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		v, err := p.Sessions.Proved(t.Context(), tx, id, []string{"totp"}, time.Now())
		cookie = v.Expose()
		return audit.Event{Type: "session.proved"}, err
	}))
	return cookie
}

// TestRemovalIsOneEntry: who is removed loses all in one transaction, which the log tells in one entry, with how much of each ended.
func TestRemovalIsOneEntry(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	h := p.signedIn(t, org.RoleAdmin)
	group := p.acme.object(t, "group", p.acme.owner)
	p.acme.as(t, p.acme.owner, "PUT", "/api/v1/groups/"+group+"/members/"+h.person.String(), nil)
	p.acme.factor(t, h.person)
	made := p.acme.as(t, h.person, "POST", "/api/v1/keys", object{"name": "theirs", "kind": "service"})
	key := map[string]string{"Authorization": "Bearer " + made.text("key")}
	if a := p.second.call(t, ask{Method: "POST", Path: "/api/v1/verify", Body: object{"token": "x"}, Header: key}); a.Status != http.StatusOK {
		t.Fatalf("their key at first: %d %s", a.Status, a.Raw)
	}
	p.acme.ids["connection"], p.acme.ids["member"] = p.acme.object(t, "connection", p.acme.owner), h.person.String()
	p.acme.identity(t)
	before := len(p.entries(t, p.acme.id, ""))
	cookie, _ := p.acme.signed(t, p.acme.owner)
	a := p.call(t, ask{Method: "POST", Path: "/api/v1/members/" + h.person.String() + "/remove", Header: p.fromPage(cookie)}).want(t, http.StatusOK)
	var found []entry
	for _, e := range p.entries(t, p.acme.id, "")[before:] {
		if e.Request.String() == a.Header.Get("X-Request-Id") {
			found = append(found, e)
		}
	}
	if len(found) != 1 || found[0].Type != "person.removed" || found[0].Actor.ID != p.acme.owner.String() || !strings.HasPrefix(found[0].How, "session:") {
		t.Fatalf("the log tells it in %+v", found)
	}
	ended := a.Body["ended"].(object)
	// Each as* of theirs was a session too: three for the factor and the key, and the two that were there.
	for what, n := range map[string]float64{"sessions": 5, "api_keys": 1, "groups": 1, "factors": 1, "identities": 1, "break_glass": 0} {
		if ended[what] != n || found[0].field(what) != fmt.Sprint(n) {
			t.Errorf("%s: %v ended, and the entry says %q; want %v", what, ended[what], found[0].field(what), n)
		}
	}
	p.reads(t, h.browser, http.StatusUnauthorized, "removed")
	for _, n := range []*live{p.second, p.live} {
		n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Body: object{"token": "x"}, Header: key}).want(t, http.StatusUnauthorized)
	}
	report := p.acme.as(t, p.acme.owner, "GET", "/api/v1/members/"+h.person.String()+"/offboarding", nil)
	if fmt.Sprint(report.Body["ended"]) != fmt.Sprint(ended) || report.text("request_id") != found[0].Request.String() {
		t.Errorf("the report says %s", report.Raw)
	}
	if got := p.acme.as(t, p.acme.owner, "GET", "/api/v1/groups/"+group, nil); got.Body["members"] != float64(0) {
		t.Errorf("the group still has %v", got.Body["members"])
	}
}

// TestAllowList: where an organisation says from where its people may come, a session counts from there alone.
func TestAllowList(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	h := p.signedIn(t, org.RoleViewer)
	from := func(address string, header map[string]string) map[string]string {
		all := map[string]string{"X-Forwarded-For": address}
		for k, v := range header {
			all[k] = v
		}
		return all
	}
	for _, header := range []map[string]string{h.browser, h.program} {
		p.reads(t, from("198.51.100.9", header), http.StatusOK, "before")
	}
	cookie, _ := p.acme.signed(t, p.acme.owner)
	q := ask{Method: "PATCH", Path: "/api/v1/organisation/rules", Body: object{"addresses": []string{"192.0.2.0/24", "2001:db8::/32"}}, Header: from("192.0.2.1", p.fromPage(cookie))}
	p.call(t, q).want(t, http.StatusOK)
	for address, status := range map[string]int{"192.0.2.77": 200, "2001:db8::7": 200, "::ffff:192.0.2.5": 200, "198.51.100.9": 401, "192.0.3.1": 401, "127.0.0.1": 401, "2001:db9::7": 401} {
		for _, header := range []map[string]string{h.browser, h.program} {
			p.reads(t, from(address, header), status, "from "+address)
		}
	}
	if e := p.entries(t, p.acme.id, "session.refused"); len(e) == 0 || e[0].field("reason") != "address" {
		t.Errorf("the log has %+v", e)
	}
}

// TestAllowListBindsKeysOfPeople: what somebody made where they may be is no way around the list; on both servers, with the answer,
// in streams and in what a verification remembers. Keys that no person made, and those of the organisation's customers, are not
// people's.
func TestAllowListBindsKeysOfPeople(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	const inside, outside = "192.0.2.7", "198.51.100.9"
	scopes := object{"name": "k", "kind": "service", "scopes": []string{"agents:read", "audit:read", "keys:write", "verify"}}
	persons := p.acme.made(t, p.acme.owner, "/api/v1/keys", "key", scopes)
	customers := p.acme.made(t, p.acme.owner, "/api/v1/keys", "key", object{"name": "k", "kind": "data"})
	childs, _ := p.newKey(t, party{p.acme.id, persons}, object{"scopes": []string{"agents:read", "verify"}})
	nobodys, _ := p.newKey(t, p.acme.party, object{"scopes": []string{"agents:read", "verify"}})
	uses := func(what, key, from string, status int) {
		t.Helper()
		for _, n := range []*live{p.second, p.live} {
			header := map[string]string{"X-Forwarded-For": from}
			list := n.call(t, ask{Method: "GET", Path: "/api/v1/agents", Key: key, Header: header})
			verified := n.call(t, ask{Method: "POST", Path: "/api/v1/keys/verify", Key: key, Header: header, Body: object{"key": customers, "address": outside}})
			if list.Status != status || verified.Status != status || status == 200 && verified.text("code") != "VALID" {
				t.Errorf("%s from %s: %d, verifies %d, want %d: %s", what, from, list.Status, verified.Status, status, verified.Raw)
			}
		}
	}
	for what, key := range map[string]string{"a person's key": persons, "one that came from it": childs, "nobody's": nobodys} {
		uses(what, key, outside, http.StatusOK)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := p.second.request(ctx, ask{Method: "GET", Path: "/api/v1/audit/stream?from=0", Key: persons, Header: map[string]string{"X-Forwarded-For": outside}})
	must(t, err)
	stream, err := (&http.Client{}).Do(r)
	must(t, err)
	defer stream.Body.Close()
	cookie, _ := p.acme.signed(t, p.acme.owner)
	rule := func(addresses ...string) {
		t.Helper()
		header := p.fromPage(cookie)
		header["X-Forwarded-For"] = inside
		p.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation/rules", Body: object{"addresses": append([]string{}, addresses...)}, Header: header}).want(t, http.StatusOK)
	}
	rule("192.0.2.0/24")
	for what, key := range map[string]string{"a person's key": persons, "one that came from it": childs} {
		uses(what, key, inside, http.StatusOK)
		uses(what, key, outside, http.StatusUnauthorized)
	}
	uses("nobody's", nobodys, outside, http.StatusOK)
	if e := p.entries(t, p.acme.id, "key.refused"); len(e) == 0 || e[0].field("reason") != "address" {
		t.Errorf("the log has %+v", e)
	}
	if b, err := io.ReadAll(stream.Body); err != nil || !strings.Contains(string(b), "the credential no longer counts") {
		t.Errorf("the stream ends with %v: %.300s", err, b)
	}
	rule()
	uses("a person's key, without a list", persons, outside, http.StatusOK)
}

// TestSessionsExpire: by not being used, at the end of their life whatever is done, and by what the rules say now.
func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	idle, used := p.signedIn(t, org.RoleViewer), p.signedIn(t, org.RoleViewer)
	p.later(11 * time.Hour)
	p.reads(t, idle.browser, 200, "after eleven hours")
	p.later(12*time.Hour + time.Minute)
	p.reads(t, idle.browser, 401, "idle for twelve hours")
	p.reads(t, used.browser, 401, "idle for twelve hours")
	p.reads(t, used.program, 401, "an access token after a day")

	used = p.inBrowser(t)
	for range 15 { // 165 hours
		p.later(11 * time.Hour)
		p.reads(t, used.browser, 200, "used every eleven hours")
	}
	p.later(2*time.Hour + 50*time.Minute)
	p.reads(t, used.browser, 200, "just before the end")
	p.later(11 * time.Minute)
	p.reads(t, used.browser, 401, "after seven days of use")

	used = p.inBrowser(t)
	cookie, _ := p.acme.signed(t, p.acme.owner)
	p.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation/rules", Body: object{"idle_timeout_seconds": 3600}, Header: p.fromPage(cookie)}).want(t, 200)
	p.later(61 * time.Minute)
	p.reads(t, used.browser, 401, "idle for an hour, which is enough now")
}

// TestStreamEndsWithItsSession: somebody who follows the log sees nothing of what comes after their session.
func TestStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	h := p.signedIn(t, org.RoleAuditor)
	stream := p.second.follow(t, h.browser)
	p.call(t, ask{Method: "POST", Path: "/api/v1/sign-out", Header: h.browser}).want(t, http.StatusNoContent)
	p.acme.as(t, p.acme.owner, "POST", "/api/v1/groups", object{"name": "made-afterwards"})
	b, err := io.ReadAll(stream) // which ends
	must(t, err)
	if !strings.Contains(string(b), "the credential no longer counts") || strings.Contains(string(b), "group.") {
		t.Errorf("the stream ends with %s", b)
	}
}

// TestOtherSitesGetNothing: a page of another site changes nothing with somebody's cookie, and reads nothing.
func TestOtherSitesGetNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	h := p.signedIn(t, org.RoleAdmin)
	ours, theirs := p.URL(), "https://evil.example"
	for name, c := range map[string]struct {
		header map[string]string
		status int
	}{
		"our page":                  {map[string]string{"Origin": ours, "Sec-Fetch-Site": "same-origin"}, 201},
		"our page, an old browser":  {map[string]string{"Origin": ours}, 201},
		"another site":              {map[string]string{"Origin": theirs, "Sec-Fetch-Site": "cross-site"}, 403},
		"a page of our domain":      {map[string]string{"Origin": "http://other.localhost", "Sec-Fetch-Site": "same-site"}, 403},
		"another site, old browser": {map[string]string{"Origin": theirs}, 403},
		"another port of ours":      {map[string]string{"Origin": "http://127.0.0.1:1"}, 403},
		"a page without an origin":  {map[string]string{"Origin": "null"}, 403},
		"two origins":               {map[string]string{"Origin": theirs + " " + ours}, 403},
		"no browser of today":       {map[string]string{}, 201}, // SameSite=Lax is for those of before
		"a plain form":              {map[string]string{"Origin": ours, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}, 415},
		"text":                      {map[string]string{"Origin": ours, "Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"}, 415},
	} {
		c.header["Cookie"] = h.browser["Cookie"]
		before := len(p.entries(t, p.acme.id, "group.created"))
		a := p.call(t, ask{Method: "POST", Path: "/api/v1/groups", Body: object{"name": p.acme.next()}, Header: c.header})
		if a.Status != c.status {
			t.Errorf("%s: %d, want %d: %s", name, a.Status, c.status, a.Raw)
		}
		if a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: another site's page may read the answer", name)
		}
		if after := len(p.entries(t, p.acme.id, "group.created")); (after > before) != (c.status == 201) {
			t.Errorf("%s: %d groups", name, after-before)
		}
	}
	for _, method := range []string{"GET", "OPTIONS"} {
		a := p.call(t, ask{Method: method, Path: "/api/v1/session", Header: map[string]string{
			"Origin": theirs, "Sec-Fetch-Site": "cross-site", "Cookie": h.browser["Cookie"], "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type",
		}})
		if a.Header.Get("Access-Control-Allow-Origin") != "" || a.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", method, a.Header)
		}
	}
	// Nobody is signed in to another's account by a page of another site: what it can send without asking first is not taken.
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"} {
		for origin, status := range map[string]int{theirs: http.StatusForbidden, ours: http.StatusUnsupportedMediaType} {
			a := p.call(t, ask{Method: "POST", Path: "/api/v1/sign-in", Body: `{"address":"a@b.example","password":"x"}`, Header: map[string]string{"Origin": origin, "Content-Type": kind}})
			a.want(t, status)
		}
	}
}

// TestCookies: a session's cookie is for our server and our pages alone; by https no other host can set it, nor any script read it.
func TestCookies(t *testing.T) {
	t.Parallel()
	for scheme, name := range map[string]string{"http": "avouch", "https": "__Host-avouch"} {
		h := &house{}
		change := []func(*Config){development(&h.ahead)}
		if scheme == "https" {
			ca, dir := newAuthority(t), t.TempDir()
			cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
			ca.issue(t, 1, cert, key)
			change = append(change, func(c *Config) { c.TLSCertFile, c.TLSKeyFile = cert, key })
			h.live = newSite(t).start(t, change...)
			h.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: ca.pool}
		} else {
			h.live = newSite(t).start(t, change...)
		}
		_, ada := h.owner(t, "Acme")
		step := ada.ask(t, "POST", "/api/v1/sign-in", object{"address": ada.address, "password": goodPassword}).want(t, 200)
		factor := step["factors"].([]any)[0].(object)["id"]
		done := ada.ask(t, "POST", "/api/v1/sign-in/continue", object{"attempt": step["attempt"], "do": "prove", "factor": factor, "code": ada.code(t)})
		done.want(t, 200)
		set := (&http.Response{Header: done.header}).Cookies()
		var c *http.Cookie
		for _, one := range set {
			if secure := scheme == "https"; !one.HttpOnly || one.SameSite != http.SameSiteLaxMode || one.Secure != secure || one.Path != "/" || one.Domain != "" || strings.HasPrefix(one.Name, "__Host-") != secure {
				t.Errorf("by %s: %+v", scheme, one)
			}
			if one.Name == name {
				c = one
			}
		}
		if c == nil || c.MaxAge <= 0 || c.MaxAge > 7*86400 || done.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("by %s: %v, %v", scheme, set, done.header)
		}
		ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
		ada.program(t).ask(t, "GET", "/api/v1/organisation", nil).want(t, 200)
		if scheme == "https" { // a cookie by the name that others could set is none of ours
			h.call(t, ask{Method: "GET", Path: "/api/v1/session", Header: map[string]string{"Cookie": "avouch=" + c.Value}}).want(t, 401)
			if step := ada.ask(t, "GET", "/api/v1/session", nil); step.header.Get("Strict-Transport-Security") == "" {
				t.Error("by https: nothing says to stay there")
			}
		}
		out := ada.ask(t, "POST", "/api/v1/sign-out", nil)
		if cleared := (&http.Response{Header: out.header}).Cookies(); len(cleared) != 1 || cleared[0].Name != name || cleared[0].MaxAge >= 0 || cleared[0].Value != "" {
			t.Errorf("by %s: signing out sets %v", scheme, cleared)
		}
	}
}
