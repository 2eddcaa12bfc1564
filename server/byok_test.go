package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

const theKMS = "/api/v1/organisation/kms"

// shortLife is the life of what a key management lets us have, in these tests. Servers have 30 s.
const shortLife = 2 * time.Second

func withKMS(c *Config) {
	c.OutboundNetworks, c.ownLife = []string{"127.0.0.0/8"}, shortLife
}

func transitBody(address, token string) object {
	return object{"kind": "transit", "transit": object{"address": address, "key": "avouch", "token": token}}
}

// newEngine is a transit engine that answers until the test ends.
func newEngine(t testing.TB) *transittest.Engine {
	e := transittest.New()
	t.Cleanup(e.Close)
	return e
}

// keyed is a place whose keys are under an engine.
func (n *live) keyed(t testing.TB, name string) (*place, *transittest.Engine) {
	t.Helper()
	p, e := n.place(t, name), newEngine(t)
	got := p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root))
	if got.text("kind") != "transit" || got.text("key_id") != "transit/transit/avouch" || got.Body["open"] != true || got.Body["moving"] != false {
		t.Fatalf("%s", got.Raw)
	}
	return p, e
}

func revoke(e *transittest.Engine) {
	e.Set(func(e *transittest.Engine) { e.Tokens = map[string]bool{} })
}
func allowAgain(e *transittest.Engine) {
	e.Set(func(e *transittest.Engine) { e.Tokens = map[string]bool{transittest.Root: true} })
}

// becomes waits until a place is closed, or open, and fails if that takes longer than it may.
func (p *place) becomes(t testing.TB, kind string, within time.Duration) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		a := p.get(t, "/api/v1/organisation", p.key)
		if a.kind() == kind {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s: %d %s", within, a.Status, a.Raw)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

const closedKind = string(problem.TenantKey)

// prepared is a good request of every operation that is about something of a place, with one of its credentials.
func (p *place) prepared(t testing.TB) []ask {
	t.Helper()
	cookie, _ := p.signed(t, p.owner)
	var all []ask
	for _, o := range p.api.Operations() {
		if static()[o.ID] != "" || strings.HasPrefix(o.ID, "page-") {
			continue
		}
		path, _ := p.path(t, o, p.owner)
		q := ask{Method: o.Method, Path: path, Body: p.body(t, o.ID), Header: p.fromPage(cookie)}
		if o.Access == web.Public {
			continue // those have a test of their own: most are not about a place
		}
		if o.Access != web.Own { // which take keys alone
			all = append(all, q)
		}
		all = append(all, ask{Method: q.Method, Path: q.Path, Body: q.Body, Key: p.key, Header: map[string]string{"If-Match": "*"}})
	}
	return all
}

// TestOwnKMSClosesEverything: when an organisation revokes its key at its own key management, each operation, with whatever credential,
// answers with the problem that says so, and never with anything else; nobody else notices; and restored, it works with no repair.
func TestOwnKMSClosesEverything(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	other := n.place(t, "Other")
	requests := p.prepared(t)
	token := p.as(t, p.owner, "POST", "/api/v1/agents/register", object{"name": "robot", "capabilities": []string{}}).text("token")
	agents := []ask{
		{Method: "GET", Path: "/api/v1/agents/me", Key: token}, {Method: "GET", Path: "/api/v1/agents", Key: token},
		{Method: "GET", Path: "/agents/" + p.object(t, "agent", p.owner) + "/did.json"},
		{Method: "GET", Path: "/api/v1/saml/" + p.object(t, "SAML connection", p.owner) + "/metadata"},
	}
	service, _ := n.newKey(t, p.party, nil)
	others, _ := n.newKey(t, other.party, nil)
	verify := func(key, token string) ask {
		return ask{Method: "POST", Path: "/api/v1/verify", Key: key, Body: object{"token": token}}
	}
	before := n.call(t, verify(others, token)).want(t, 200)
	n.call(t, verify(service, token)).want(t, 200)
	beside := watch(t, other)
	revoke(e)
	p.becomes(t, closedKind, shortLife+shortLife/2)
	for _, q := range slices.Concat(requests, agents, []ask{verify(service, token), verify(service, "nonsense")}) {
		a := n.call(t, q)
		is := a.kind() == closedKind || strings.HasPrefix(q.Path, "/scim/") // whose failures have a form of their own
		if !is || a.Status != http.StatusForbidden || !strings.Contains(a.text("detail"), "own key management") || !strings.Contains(a.text("detail"), "refuses") {
			t.Errorf("%s: %d %.300s", a.asked, a.Status, a.Raw)
		}
	}
	if a := n.call(t, verify(others, token)); a.Status != http.StatusForbidden || a.kind() != closedKind || !strings.Contains(a.text("detail"), "The agent's owner") {
		t.Errorf("another's service asks: %d %s", a.Status, a.Raw)
	}
	if a := n.get(t, "/verified?service="+p.id.String(), ""); a.Status < 400 || strings.Contains(a.Raw, "Own") {
		t.Errorf("the public page: %d %s", a.Status, a.Raw)
	}
	if text := n.call(t, verify(others, "nonsense")).want(t, 200).text("decision"); text != "DENIED" {
		t.Errorf("another service's: %s", text)
	}
	beside()
	allowAgain(e)
	p.becomes(t, "", shortLife)
	after := n.call(t, verify(others, token)).want(t, 200)
	if before.text("decision") != "ALLOWED" || after.text("decision") != "ALLOWED" {
		t.Errorf("%s, and %s afterwards", before.Raw, after.Raw)
	}
	for _, q := range requests {
		if strings.Contains(q.Path, "/audit/stream") { // does not end
			continue
		}
		if a := n.call(t, q); a.kind() == closedKind || a.Status >= 500 {
			t.Errorf("%s afterwards: %d %.300s", a.asked, a.Status, a.Raw)
		}
	}
}

// watch asks of a place all the time, and wants every answer as it should be.
func watch(t testing.TB, p *place) (stop func()) {
	t.Helper()
	cookie, _ := p.signed(t, p.owner)
	key, _ := p.newKey(t, p.party, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			for _, q := range []ask{
				{Method: "GET", Path: "/api/v1/organisation", Header: p.fromPage(cookie)}, {Method: "GET", Path: "/api/v1/agents", Key: p.key},
				{Method: "POST", Path: "/api/v1/verify", Key: key, Body: object{"token": "nonsense"}},
			} {
				if a, err := p.try(ctx, q); ctx.Err() == nil && (err != nil || a.Status != 200) {
					t.Errorf("somebody else's %s: %d %s, %v", q.Path, a.Status, a.Raw, err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() { cancel(); work.Wait() }
}

// TestOwnKMSGivenBack: what was given back to the platform does not need the key management any more.
func TestOwnKMSGivenBack(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	if got := p.as(t, p.owner, "DELETE", theKMS, nil); got.text("kind") != "platform" || got.Body["open"] != true {
		t.Errorf("%s", got.Raw)
	}
	revoke(e)
	asked := e.Asked()
	time.Sleep(2 * shortLife)
	p.becomes(t, "", 0)
	p.as(t, p.owner, "POST", "/api/v1/agents/register", object{"name": "robot", "capabilities": []string{}})
	if e.Asked() != asked {
		t.Error("the key management was asked afterwards")
	}
	types := map[string]bool{}
	for _, e := range n.entries(t, p.id, "") {
		types[e.Type] = true
	}
	for _, typ := range []string{"organisation.kms_begun", "organisation.kms_set", "organisation.kms_leaving", "organisation.kms_removed"} {
		if !types[typ] {
			t.Errorf("the log lacks %s", typ)
		}
	}
}

// TestClosedOrganisationIsShredded: what was deleted is shredded although its key management is gone.
func TestClosedOrganisationIsShredded(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	p.as(t, p.owner, "POST", "/api/v1/organisation/delete", object{"confirm": "Own"})
	revoke(e)
	e.Close()
	time.Sleep(shortLife + shortLife/2)
	n.later(31 * 24 * time.Hour)
	must(t, n.shred(t.Context()))
	if live, _, err := n.Ring.Versions(p.id, keyring.UseWrap); err != nil || live != 0 {
		t.Errorf("version %d is there, %v", live, err)
	}
	if own, err := n.Ring.OwnSetting(t.Context(), p.id); err != nil || own != (keyring.SettingID{}) {
		t.Errorf("its own key is there: %v", err)
	}
}

// TestClosedSignIn: nobody of a closed organisation signs in, and their sessions are closed; both are told why.
func TestClosedSignIn(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	own, ada := n.owner(t, "Own")
	elsewhere, other := n.owner(t, "Other")
	e := newEngine(t)
	ada.ask(t, "PUT", theKMS, transitBody(e.URL, transittest.Root)).want(t, 200)
	if text := n.mailed(t, "ada@own.example", "The key management of Own was changed"); !strings.Contains(text, "Nothing of it opens here without that") {
		t.Errorf("the owner's mail: %s", text)
	}
	revoke(e)
	time.Sleep(shortLife + shortLife/2)
	for _, q := range []ask{
		{Method: "POST", Path: "/api/v1/sign-in", Body: object{"address": "ada@own.example", "password": goodPassword}},
		{Method: "POST", Path: "/api/v1/recover", Body: object{"address": "ada@own.example"}},
	} {
		q.Header = n.fromPage("")
		delete(q.Header, "If-Match")
		if a := n.call(t, q); a.Status != http.StatusForbidden && q.Path == "/api/v1/sign-in" || a.Status >= 500 {
			t.Errorf("%s: %d %s", a.asked, a.Status, a.Raw)
		}
	}
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, http.StatusForbidden)
	other.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	// Whoever has an account in another organisation too signs in to that.
	both, err := n.Org.InviteOwner(t.Context(), tenantdb.System(elsewhere.id, "operator"), "ada@own.example", "Ada")
	must(t, err)
	newBrowser(t, n, "ada@own.example").join(t, n.linkOf(t, elsewhere.id, both.ID))
	must(t, n.DB.Change(t.Context(), tenantdb.System(own.id, "test").Keyless(), func(tx *tenantdb.Tx) (audit.Event, error) { // so that it comes first
		_, err := tx.Exec(t.Context(), `UPDATE avouch.session SET created_at = now() + interval '1 day' WHERE tenant_id = $1`, own.id)
		return audit.Event{Type: "test.prepared"}, err
	}))
	q := ask{Method: "POST", Path: "/api/v1/sign-in", Body: object{"address": "ada@own.example", "password": goodPassword}, Header: n.fromPage("")}
	delete(q.Header, "If-Match")
	if a := n.call(t, q); a.Status != 200 || a.text("state") == "" {
		t.Errorf("elsewhere: %d %s", a.Status, a.Raw)
	}
	allowAgain(e)
	time.Sleep(shortLife / 2)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
}

// TestClosedAtStart: a server starts while an organisation's key management is gone, with nothing of the organisation in memory, a
// dump of the database, the key store and the platform key: it opens nothing of it, and everything of others.
func TestClosedAtStart(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	n := site.start(t, withKMS)
	p, e := n.keyed(t, "Own")
	other := n.place(t, "Other")
	contact := func(s *Server, of tenantdb.TenantID) error {
		_, err := s.Org.Get(t.Context(), tenantdb.System(of, "test").Keyless())
		return err
	}
	must(t, contact(n.Server, p.id))
	address := e.Listener.Addr().String()
	e.Close()
	second := site.start(t, withKMS)
	cfg := site.config()
	withKMS(&cfg)
	operator, err := Operate(t.Context(), cfg, site.log(t))
	must(t, err)
	defer operator.Close()
	for _, s := range []*Server{second.Server, operator} {
		if err := contact(s, p.id); !problem.Is(err, problem.TenantKey) {
			t.Errorf("it opens: %v", err)
		}
		must(t, contact(s, other.id))
		state, err := s.Org.GetKMS(t.Context(), tenantdb.System(p.id, "operator/ada").Keyless())
		if err != nil || state.Open || state.Why != keyring.Silent || state.Kind != org.KMSTransit {
			t.Errorf("%+v, %v", state, err)
		}
	}
	if a := second.get(t, "/api/v1/organisation", p.key); a.kind() != closedKind || !strings.Contains(a.text("detail"), "does not answer") {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	l, err := net.Listen("tcp", address)
	must(t, err)
	back := &http.Server{Handler: e}
	go func() { _ = back.Serve(l) }()
	defer back.Close()
	p.live = second
	p.becomes(t, "", 2*shortLife)
	text := site.logged.String()
	if strings.Contains(text, "level=ERROR") || strings.Contains(text, `"`+transittest.Root) || strings.Contains(text, "="+transittest.Root) {
		t.Errorf("the servers' log: %s", text)
	}
	if said := strings.Count(text, "gives no key"); said < 1 || said > 3 { // once by each of them
		t.Errorf("it is said %d times that the key management gives no key", said)
	}
}

// TestClosedWithinAMinuteSoak is in real time, with the lives that servers have.
func TestClosedWithinAMinuteSoak(t *testing.T) {
	t.Parallel()
	if os.Getenv("AVOUCH_SOAK") != "1" {
		t.Skip("skipped: takes two minutes; the soak runs it")
	}
	n := newHouse(t, func(c *Config) { c.OutboundNetworks = []string{"127.0.0.0/8"} })
	p, e := n.keyed(t, "Own")
	for range 40 { // its requests go on, and none waits for the key management
		began := time.Now()
		p.becomes(t, "", 0)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a request took %s", took)
		}
		time.Sleep(time.Second)
	}
	revoke(e)
	p.becomes(t, closedKind, time.Minute)
	allowAgain(e)
	p.becomes(t, "", 10*time.Second)
}
