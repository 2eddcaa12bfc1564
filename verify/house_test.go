package verify

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

const testIssuer = "http://avouch.test"

// clock is the time of a test, which moves when the test says so, and a little each time that it is read: some things must
// have an order.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Microsecond)
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// side is the rooms of one server.
type side struct {
	*Room
	orgs    *org.Room
	keys    *apikey.Room
	agents  *agent.Room
	scopes  *policy.Room
	signing *keyring.Signing
	api     http.Handler
}

// house is an installation with an organisation that owns agents and one that runs a service.
type house struct {
	*doortest.Door
	*side
	clock   *clock
	owner   tenantdb.Caller
	service tenantdb.Caller
	key     string // the service's
}

func open(t testing.TB) *house {
	t.Helper()
	h := &house{Door: doortest.Open(t), clock: &clock{at: time.Now().UTC().Truncate(time.Second)}}
	h.Install(t)
	h.side = h.server(t, h.Door)
	h.owner = h.Caller(h.organisation(t, "Acme Robotics"), tenantdb.Everything)
	h.service = h.Caller(h.organisation(t, "Harbour Data"), tenantdb.Everything)
	h.key, _ = h.newKey(t, h.service, apikey.NewKey{})
	return h
}

// server is the rooms as one server of the installation has them.
func (h *house) server(t testing.TB, d *doortest.Door) *side {
	t.Helper()
	wrapper, err := d.Key.Wrapper(keyring.ForSigning)
	must(t, err)
	issuer, err := agent.ParseIssuer(testIssuer)
	must(t, err)
	s := &side{signing: keyring.NewSigning(keyring.NewSigningTable(d.DB, tenantdb.System(tenantdb.Platform, "signing")), wrapper, h.clock.now)}
	must(t, s.signing.Rotate(t.Context()))
	s.keys = apikey.New(apikey.Config{DB: d.DB, Ring: d.Ring, Now: h.clock.now})
	s.orgs = org.New(org.Config{DB: d.DB, Ring: d.Ring, FirstKey: s.keys, Now: h.clock.now})
	s.scopes = policy.New(policy.Config{DB: d.DB, Ring: d.Ring})
	s.agents = agent.New(agent.Config{DB: d.DB, Ring: d.Ring, Signing: s.signing, Scopes: s.scopes, Issuer: issuer, Now: h.clock.now})
	s.Room = New(Config{DB: d.DB, Keys: s.keys, Tokens: s.agents.Checker(), Signing: s.signing, Issuer: testIssuer, Now: h.clock.now})
	api := d.API(doortest.As(tenantdb.Caller{}))
	s.Routes(api)
	s.api = api
	return s
}

func (h *house) organisation(t testing.TB, name string) tenantdb.TenantID {
	t.Helper()
	made, err := h.orgs.Create(t.Context(), org.NewOrganisation{Name: name})
	must(t, err)
	return made.ID
}

// newKey makes a key of the caller's organisation: a service key that may verify, unless n says otherwise.
func (h *house) newKey(t testing.TB, c tenantdb.Caller, n apikey.NewKey) (secret, id string) {
	t.Helper()
	if n.Kind == "" {
		n.Kind = apikey.Service
	}
	n.Name = "key"
	made, err := h.keys.Create(t.Context(), c, n)
	must(t, err)
	return made.Secret.Expose(), made.ID
}

// agent registers an agent of the owner's with a token that is bound to nothing.
func (h *house) agent(t testing.TB, scopes ...string) (agent.Agent, string) {
	t.Helper()
	return h.agentOf(t, h.owner, scopes...)
}

func (h *house) agentOf(t testing.TB, c tenantdb.Caller, scopes ...string) (agent.Agent, string) {
	t.Helper()
	a, token, err := h.agents.Register(t.Context(), c, agent.Registration{Name: "Robin", Scopes: scopes})
	must(t, err)
	return a, token.Token.Expose()
}

func (h *house) token(t testing.TB, a agent.Agent, w agent.Wish) agent.Issued {
	t.Helper()
	token, err := h.agents.Issue(t.Context(), h.owner, a.ID, w)
	must(t, err)
	return token
}

// ask verifies as a service does, through the route.
func (s *side) ask(t testing.TB, key string, q Request) doortest.Answer {
	t.Helper()
	return doortest.Call(t, s.api, doortest.Request{Method: "POST", Path: "/api/v1/verify", Key: key, Body: q})
}

// expect asks with the house's key, and holds the answer to a decision and a reason.
func (h *house) expect(t testing.TB, q Request, d Decision, reason string) doortest.Answer {
	t.Helper()
	return h.expectFor(t, h.key, q, d, reason)
}

func (h *house) expectFor(t testing.TB, key string, q Request, d Decision, reason string) doortest.Answer {
	t.Helper()
	a := h.ask(t, key, q)
	if a.Status != http.StatusOK || a.Body["decision"] != string(d) || a.Body["reason"] != reason || a.Body["allowed"] != (d == Allowed) {
		t.Errorf("%d %s\nwant %s: %s", a.Status, a.Raw, d, reason)
	}
	return a
}

// refused asks with a key that may not ask at all.
func (h *house) refused(t testing.TB, key string, q Request, status int) {
	t.Helper()
	if a := h.ask(t, key, q); a.Status != status || a.Body["allowed"] != nil {
		t.Errorf("answered %d %s, want %d", a.Status, a.Raw, status)
	}
}

// verified is the entries of verifications in a tenant's log.
func (h *house) verified(t testing.TB, tenant tenantdb.TenantID) []doortest.Entry {
	t.Helper()
	return h.OfType(t, tenant, "agent.verified")
}

// set changes a row as its room would, with an entry.
func (h *house) set(t testing.TB, c tenantdb.Caller, sql string, args ...any) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), c, func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), sql, args...)
		return audit.Event{Type: "organisation.changed", Alters: true}, err
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
