package session

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestCookie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, v := h.start(t, browser(h.person))
	w := httptest.NewRecorder()
	h.room.Cookie(w, s, secret.Text(v))
	h.room.Clear(w)
	want := []string{
		"__Host-avouch=" + v + "; Path=/; Max-Age=604800; HttpOnly; Secure; SameSite=Lax",
		"__Host-avouch=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
	}
	if got := w.Header().Values("Set-Cookie"); !slices.Equal(got, want) {
		t.Errorf("cookies:\n%s", strings.Join(got, "\n"))
	}
	local, err := NewRoom(Config{Issuer: "http://localhost:8080", Now: h.clock.now})
	must(t, err)
	w = httptest.NewRecorder()
	local.Cookie(w, s, secret.Text(v))
	if got := w.Header().Get("Set-Cookie"); got != "avouch="+v+"; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax" {
		t.Errorf("on plain http: %s", got)
	}
	for _, bad := range []string{"", "avouch.test", "ftp://avouch.test", "https://"} {
		if _, err := NewRoom(Config{Issuer: bad}); err == nil {
			t.Errorf("the issuer %q is taken", bad)
		}
	}
}

// TestNothingOfTheCredentialIsStored looks for cookie and refresh token in everything that the database holds of sessions.
func TestNothingOfTheCredentialIsStored(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, n := range []New{browser(h.person), program(h.person)} {
		s, v := h.start(t, n)
		row := h.Text(t, `SELECT s::text || encode(s.digest, 'hex') FROM avouch.session s WHERE session_id = $1`, s.ID)
		if sum := sha256.Sum256([]byte(v)); strings.Contains(row, v) || strings.Contains(row, v[20:]) || !strings.Contains(row, fmt.Sprintf("%x", sum)) {
			t.Errorf("%s: the row is %s", n.Kind, row)
		}
		for _, personal := range []string{"Firefox", "cli", "laptop", "192.0.2.1"} {
			if e := h.Last(t, h.tenant); strings.Contains(row, personal) || strings.Contains(string(e.Body), personal) {
				t.Errorf("%s: %q is readable", n.Kind, personal)
			}
		}
		if e := h.Last(t, h.tenant); e.Type != "session.started" || e.Private["address"] != "192.0.2.1" || e.Field("methods") != "password+totp" {
			t.Errorf("%s: the entry is %+v %v", n.Kind, e.Entry, e.Private)
		}
	}
}

func TestCallerOfASession(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, v := h.start(t, browser(h.person))
	c, err := h.as(t, withCookie(v))
	must(t, err)
	p, ok := c.Person()
	if !ok || p.ID != h.person || p.Session != s.ID.String() || !p.ProvedAt.Equal(s.ProvedAt) || c.How() != "session:password+totp" ||
		c.Actor().ID != h.person.String() || c.Tenant() != h.tenant || !c.May("agents:write") || c.May("keys:write") || c.Metered() {
		t.Errorf("the caller is %+v, how %q", c, c.How())
	}
	// What is taken away is gone at once; what is given counts from the next proof on.
	h.people.set(h.person, func(st *Standing) { st.Capabilities = []string{"keys:read"} })
	c, err = h.as(t, withCookie(v))
	must(t, err)
	if p, _ = c.Person(); c.May("agents:write") || c.May("keys:read") || !slices.Equal(p.Unproved, []string{"keys:read"}) {
		t.Errorf("after the role changed: %+v, unproved %v", c.Scopes(), p.Unproved)
	}
	// The glass counts for sessions that were proved since, and is not held.
	h.people.lent[h.person] = h.clock.now()
	if c, _ = h.as(t, withCookie(v)); c.May("keys:write") {
		t.Error("what was lent after the proof counts")
	}
	h.clock.advance(time.Second)
	h.change(t, func(tx *tenantdb.Tx) error {
		fresh, err := h.room.Proved(t.Context(), tx, s.ID, []string{"passkey"}, h.clock.now())
		v = fresh.Expose()
		return err
	})
	if c, err = h.as(t, withCookie(v)); err != nil || !c.Holds("keys:read") || !c.May("keys:write") || c.Holds("keys:write") || c.How() != "session:passkey+password break-glass" {
		t.Errorf("after a fresh proof: %+v %q, %v", c.Scopes(), c.How(), err)
	}
	if got := howOf("access-token:", []string{"email", "passkey", "password", "recovery", "sms", "totp"}); len(got) > 50 || got != "access-token:email+passkey+password+recovery+sms" {
		t.Errorf("how is %q", got)
	}
}

// TestSessionsThatDoNotCount brings each about on one server and asks the other at once.
func TestSessionsThatDoNotCount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.another(t)
	rules := func(change func(*Standing)) func(Session) {
		return func(s Session) { h.people.set(s.Person, change) }
	}
	for _, c := range []struct {
		why    string
		do     func(Session)
		record string
	}{
		{"idle for 12 hours", func(Session) { h.clock.advance(12 * time.Hour) }, ""},
		{"the rules let it be idle for less now", func(s Session) {
			h.people.set(s.Person, func(st *Standing) { st.Idle = time.Hour })
			h.clock.advance(time.Hour)
		}, ""},
		{"seven days old", func(s Session) {
			for range 7 * 3 {
				h.clock.advance(8*time.Hour - time.Second)
				h.saw(t, s.ID)
			}
			h.clock.advance(21 * time.Second)
		}, ""},
		{"older than the rules let it be now", func(s Session) {
			h.clock.advance(2 * time.Hour)
			h.people.set(s.Person, func(st *Standing) { st.Life = time.Hour })
		}, ""},
		{"ended", func(s Session) {
			h.change(t, func(tx *tenantdb.Tx) error { _, err := h.room.End(t.Context(), tx, s.Person, "test"); return err })
		}, ""},
		{"rotated", func(s Session) {
			h.change(t, func(tx *tenantdb.Tx) error {
				_, err := h.room.Proved(t.Context(), tx, s.ID, []string{"totp"}, h.clock.now())
				return err
			})
		}, ""},
		{"the person is suspended", rules(func(st *Standing) { st.Active, st.Why = false, "suspended" }), "suspended"},
		{"the person is inactive", rules(func(st *Standing) { st.Active = false }), "inactive"},
		{"from another address", rules(func(st *Standing) { st.Addresses = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} }), "address"},
		{"the person is erased", func(s Session) {
			h.people.mu.Lock()
			defer h.people.mu.Unlock()
			delete(h.people.all, s.Person)
		}, ""},
	} {
		p := h.join(t, Standing{Capabilities: []string{"agents:read"}})
		s, v := h.start(t, browser(p))
		other.counts(t, withCookie(v))
		before := len(h.OfType(t, h.tenant, "session.refused"))
		c.do(s)
		other.refused(t, c.why, withCookie(v))
		found := h.OfType(t, h.tenant, "session.refused")
		if c.record == "" && len(found) != before || c.record != "" && (len(found) != before+1 || found[before].Field("reason") != c.record || found[before].Private["address"] != "192.0.2.1") {
			t.Errorf("%s: %d entries, %+v", c.why, len(found)-before, found[before:])
		}
	}
}

// saw notes that a session was seen now.
func (h *house) saw(t testing.TB, of ID) {
	t.Helper()
	must(t, h.DB.Note(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.Tx) error { return saveSeen(t.Context(), tx, of, h.clock.now()) }))
}

func TestSuspendedOrganisation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, v := h.start(t, browser(h.person))
	h.change(t, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.organisation SET suspended_at = now() WHERE tenant_id = $1`, tx.Tenant())
		return err
	})
	h.refused(t, "the organisation is suspended", withCookie(v))
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	n := browser(h.person)
	n.Methods = []string{"password"}
	_, v := h.start(t, n)
	h.counts(t, withCookie(v))
	h.people.set(h.person, func(st *Standing) { st.NeedsMFA = true })
	h.refused(t, "the organisation asks for a second factor now", withCookie(v))
	for _, methods := range [][]string{{"password"}, {"oidc"}, {"saml", "password"}} {
		n.Methods = methods
		if _, v, err := h.tryStart(t, n); !problem.Is(err, problem.Denied) || !v.IsZero() {
			t.Errorf("a session of %v is started: %v", methods, err)
		}
	}
	for _, methods := range [][]string{{"password", "totp"}, {"passkey"}, {"oidc", "mfa"}, {"password", "recovery"}} {
		n.Methods = methods
		_, v := h.start(t, n)
		h.counts(t, withCookie(v))
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for why, change := range map[string]func(*New, *Standing){
		"suspended": func(_ *New, st *Standing) { st.Active = false },
		"elsewhere": func(_ *New, st *Standing) { st.Addresses = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} },
		"nowhere": func(n *New, st *Standing) {
			n.Address, st.Addresses = netip.Addr{}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		},
		"no methods": func(n *New, _ *Standing) { n.Methods = nil },
		"no kind":    func(n *New, _ *Standing) { n.Kind = "" },
		"nobody":     func(n *New, _ *Standing) { n.Person = tenantdb.PersonID{} },
	} {
		p := h.join(t, Standing{})
		n := browser(p)
		h.people.set(p, func(st *Standing) { change(&n, st) })
		err := h.DB.Change(t.Context(), tenantdb.System(h.tenant, "test"), startOnly(t, h, n))
		if err == nil {
			t.Errorf("%s: a session is started", why)
		}
	}
}

// TestBounds holds the ends of a session: the least of what was asked for, what the rules say and what the provider said.
func TestBounds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	now := h.clock.now()
	for _, c := range []struct {
		n          New
		st         Standing
		life, idle time.Duration
	}{
		{New{Kind: Browser}, Standing{}, DefaultLife, DefaultIdle},
		{New{Kind: Browser}, Standing{Life: time.Hour, Idle: 2 * time.Hour}, time.Hour, 2 * time.Hour},
		{New{Kind: Browser}, Standing{Life: 30 * 24 * time.Hour, Idle: 24 * time.Hour}, DefaultLife, DefaultIdle},
		{New{Kind: Browser, Life: time.Minute, Idle: time.Second}, Standing{}, time.Minute, time.Second},
		{New{Kind: Browser, Life: 1000 * time.Hour, Idle: 1000 * time.Hour}, Standing{}, DefaultLife, DefaultIdle},
		{New{Kind: Browser, Until: now.Add(time.Hour)}, Standing{}, time.Hour, DefaultIdle},
		{New{Kind: Program}, Standing{}, DefaultProgramLife, ProgramIdle},
		{New{Kind: Program}, Standing{ProgramLife: time.Hour, Idle: time.Minute}, time.Hour, time.Hour},
	} {
		s := c.n.session(c.st, now)
		if life := s.ExpiresAt.Sub(now); life != c.life || s.Idle != c.idle {
			t.Errorf("%+v under %+v lasts %v, idle %v", c.n, c.st, life, s.Idle)
		}
	}
}

func TestSeenOnceAMinute(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.another(t)
	s, v := h.start(t, browser(h.person))
	seen := func() string {
		return h.Text(t, `SELECT coalesce(max(seen_at)::text, 'never') FROM avouch.session_use WHERE session_id = $1`, s.ID)
	}
	h.counts(t, withCookie(v))
	if seen() != "never" {
		t.Error("a session that has just begun is noted")
	}
	h.clock.advance(time.Minute)
	var done sync.WaitGroup
	for range 20 {
		done.Go(func() { h.counts(t, withCookie(v)); other.counts(t, withCookie(v)) })
	}
	done.Wait()
	first := seen()
	h.clock.advance(59 * time.Second)
	h.counts(t, withCookie(v))
	if seen() != first || first == "never" {
		t.Errorf("seen at %s and at %s", first, seen())
	}
	// Somebody who comes once in eleven hours stays signed in, until the seventh day.
	for range 15 {
		h.clock.advance(11 * time.Hour)
		h.counts(t, withCookie(v))
	}
	h.clock.advance(11 * time.Hour)
	h.refused(t, "after seven days", withCookie(v))
}

func TestMostSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	type pair struct {
		s Session
		v string
	}
	var all []pair
	for range Most {
		s, v := h.start(t, browser(h.person))
		all = append(all, pair{s, v})
		h.clock.advance(time.Second)
	}
	h.saw(t, all[0].s.ID) // so the second was seen longest ago
	s, v := h.start(t, browser(h.person))
	if !slices.Equal(s.Displaced, []ID{all[1].s.ID}) || h.Last(t, h.tenant).Field("ended_1") != all[1].s.ID.String() {
		t.Errorf("displaced are %v, the entry is %+v", s.Displaced, h.Last(t, h.tenant).Entry)
	}
	h.refused(t, "the one that was seen longest ago", withCookie(all[1].v))
	h.counts(t, withCookie(all[0].v))
	h.counts(t, withCookie(v))
	if n := h.Text(t, `SELECT count(*)::text FROM avouch.session WHERE ended_at IS NULL`); n != "100" {
		t.Errorf("%s sessions are in force", n)
	}
	// What was over long ago goes, when another session begins.
	h.clock.advance(8*24*time.Hour + forgetAfter)
	h.start(t, browser(h.person))
	if n := h.Text(t, `SELECT count(*)::text FROM avouch.session`); n != "2" {
		t.Errorf("%s sessions are remembered, want the new one and the newest before it", n)
	}
}

func TestProvedRotatesTheCookie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, old := h.start(t, browser(h.person))
	h.clock.advance(time.Hour)
	at := h.clock.now()
	var fresh secret.String
	h.change(t, func(tx *tenantdb.Tx) (err error) {
		fresh, err = h.room.Proved(t.Context(), tx, s.ID, []string{"passkey"}, at.Add(time.Hour))
		return err
	})
	h.refused(t, "the cookie of before the step-up", withCookie(old))
	c, err := h.as(t, withCookie(fresh.Expose()))
	must(t, err)
	if p, _ := c.Person(); fresh.Expose() == old || !p.ProvedAt.Equal(at) || !slices.Equal(p.Methods, []string{"passkey", "password"}) {
		t.Errorf("the person is %+v", p)
	}
	h.change(t, func(tx *tenantdb.Tx) error { _, err := h.room.End(t.Context(), tx, h.person, "test"); return err })
	for why, of := range map[string]ID{"ended": s.ID, "unknown": {1}} {
		err := h.DB.Note(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.Tx) error {
			_, err := h.room.Proved(t.Context(), tx, of, []string{"totp"}, at)
			return err
		})
		if err == nil {
			t.Errorf("a session that is %s is proved", why)
		}
	}
}

// TestNothingPlantedBecomesASession is session fixation: whatever the browser brought to the sign-in stays worthless.
func TestNothingPlantedBecomesASession(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	planted, _ := value()
	h.refused(t, "a made-up value", withCookie(planted.Expose()))
	_, v := h.start(t, browser(h.person))
	h.refused(t, "the planted value after the sign-in", withCookie(planted.Expose()))
	h.refused(t, "the planted value after the true one", append(withCookie(v), withCookie(planted.Expose())...))
	h.refused(t, "the planted value before the true one", append(withCookie(planted.Expose()), withCookie(v)...))
	for _, bad := range []string{"x", v + "A", v[:42], " " + v, v[:42] + "=", strings.Repeat("A", 5000)} {
		h.refused(t, "a malformed value", withCookie(bad))
	}
	if _, there, _ := h.room.Authenticate(t.Context(), request("GET", "Cookie", "avouch="+v), meta()); there {
		t.Error("the cookie without __Host- counts on https")
	}
	_, refresh := h.start(t, program(h.person))
	h.refused(t, "a refresh token as a cookie", withCookie(refresh))
}

func TestTwoCredentials(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, v := h.start(t, browser(h.person))
	token := h.tokens(t, program(h.person)).Access.Expose()
	for what, headers := range map[string][]string{
		"cookie and key":               {"Authorization", "Bearer avk_live_x"},
		"cookie and key in X-API-Key":  {"X-API-Key", "avk_live_x"},
		"cookie and agent's token":     {"X-Agent-Token", "eyJ"},
		"cookie and access token":      bearer(token),
		"cookie and another scheme":    {"Authorization", "Basic eDp5"},
		"cookie and an empty one":      {"Authorization", ""},
		"cookie and malformed bearers": {"Authorization", "Bearer"},
	} {
		h.refused(t, what, append(headers, withCookie(v)...))
	}
	for what, headers := range map[string][]string{
		"access token and key": {"X-API-Key", "avk_live_x"}, "access token and agent's": {"X-Agent-Token", "eyJ"},
		"two Authorizations": {"Authorization", "Bearer avk_live_x"}, "the same twice": bearer(token),
	} {
		h.refused(t, what, append(headers, bearer(token)...))
	}
	for what, headers := range map[string][]string{
		"none": nil, "a key": {"Authorization", "Bearer avk_live_x"}, "an agent's token": {"Authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.e30.AA"}, "another cookie": {"Cookie", "theme=dark"},
	} {
		if _, there, err := h.room.Authenticate(t.Context(), request("POST", headers...), meta()); there || err != nil {
			t.Errorf("%s: taken for a session, %v", what, err)
		}
	}
}

func TestCrossSiteRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, v := h.start(t, browser(h.person))
	for _, c := range []struct {
		method, site, origin string
		ok                   bool
	}{
		{"GET", "cross-site", "", true}, {"HEAD", "cross-site", "https://evil.example", true}, {"OPTIONS", "cross-site", "", true},
		{"POST", "same-origin", "", true}, {"POST", "same-origin", issuer, true}, {"POST", "", issuer, true}, {"DELETE", "none", "", true},
		{"POST", "", "", true}, {"PUT", "", "", true}, {"POST", "cross-site", "", false}, {"POST", "same-site", "", false}, {"POST", "cross-site", "https://evil.example", false},
		{"POST", "same-site", "https://other.avouch.test", false}, {"POST", "", "https://evil.example", false}, {"POST", "", "null", false},
		{"POST", "", "http://avouch.test", false}, {"POST", "", "https://avouch.test:8443", false}, {"POST", "", "https://AVOUCH.test", false},
		{"PATCH", "cross-site", "", false}, {"DELETE", "", "https://evil.example", false}, {"PROPFIND", "cross-site", "", false}, {"post", "cross-site", "", false},
		{"POST", "SAME-ORIGIN", "", false}, {"POST", "same-origin, cross-site", "", false},
	} {
		r := request(c.method, withCookie(v)...)
		r.Header.Del("Sec-Fetch-Site")
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		caller, _, err := h.room.Authenticate(t.Context(), r, meta())
		if c.ok && err != nil || !c.ok && (!problem.Is(err, problem.Denied) || caller.Actor().Kind != "") {
			t.Errorf("%s from %q of %q: %v", c.method, c.site, c.origin, err)
		}
	}
	r := request("POST", withCookie(v)...)
	r.Header.Add("Sec-Fetch-Site", "cross-site")
	if _, _, err := h.room.Authenticate(t.Context(), r, meta()); !problem.Is(err, problem.Denied) {
		t.Errorf("two Sec-Fetch-Site: %v", err)
	}
	// Tokens are sent by nobody unasked, so they need no such proof.
	r = request("POST", bearer(h.tokens(t, program(h.person)).Access.Expose())...)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if _, _, err := h.room.Authenticate(t.Context(), r, meta()); err != nil {
		t.Errorf("an access token: %v", err)
	}
}

func TestDatabaseDownIsNotSignedOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, v := h.start(t, browser(h.person))
	h.DB.Close()
	_, there, err := h.room.Authenticate(t.Context(), request(http.MethodGet, withCookie(v)...), meta())
	if !there || !problem.Is(err, problem.Unavailable) {
		t.Errorf("without a database: %v", err)
	}
}
