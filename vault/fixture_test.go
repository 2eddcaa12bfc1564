package vault

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
	"github.com/avouch-dev/avouch/vault/fetch"
	"github.com/avouch-dev/avouch/verify"
)

// clock is the time of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) at() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
}

func (c *clock) pass(d time.Duration) { c.set(c.at().Add(d)) }

// rulebook is the organisations' room, as far as the vault asks it.
type rulebook struct {
	mu     sync.Mutex
	owners []tenantdb.PersonID
	away   []tenantdb.PersonID // who was an owner until a few days ago
	lost   []string            // ids of actors who may do nothing any more
	asked  int                 // how often for names
}

// nameOf is what the test calls a person.
func nameOf(p tenantdb.PersonID) string { return "Person " + p.String()[24:] }

// Names are made up.
func (b *rulebook) Names(_ context.Context, _ tenantdb.Caller, people []tenantdb.PersonID) (map[tenantdb.PersonID]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	names := map[tenantdb.PersonID]string{}
	for _, p := range people {
		names[p] = nameOf(p)
	}
	return names, nil
}

// OwnersOfLate are those that the test named.
func (b *rulebook) OwnersOfLate(context.Context, *tenantdb.ReadTx) ([]tenantdb.PersonID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Concat(b.owners, b.away), nil
}

// Alone is the one whom the test named, if it named one.
func (b *rulebook) Alone(_ context.Context, _ *tenantdb.ReadTx, p tenantdb.PersonID) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Equal(b.owners, []tenantdb.PersonID{p}) && len(b.away) == 0, nil
}

// StillHolds refuses those of whom the test says that they lost it.
func (b *rulebook) StillHolds(_ context.Context, tx *tenantdb.ReadTx, capability string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := tx.Caller(); slices.Contains(b.lost, c.Actor().ID) || !c.Holds(capability) {
		return problem.New(problem.Denied, "This needs the capability %s.", capability)
	}
	return nil
}

// person is an owner as grants name them.
func (b *rulebook) person(k int) Actor { return Actor{APerson, b.owners[k].String()} }

func (b *rulebook) set(change func(*rulebook)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

// side is the rooms of one server.
type side struct {
	*Room
	agents    *agent.Room
	incidents *incident.Room
}

// house is an organisation with people, agents, keys, and a clock.
type house struct {
	*doortest.Door
	*side
	acme  tenantdb.TenantID
	clock *clock
	rules *rulebook
	local netip.Addr
	boss  tenantdb.Caller // who decides about everything
	guard *someone        // who decides about everything too, and to whom nothing is granted
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{
		Door: doortest.Open(t), clock: &clock{now: time.Now().UTC().Truncate(time.Minute)}, rules: &rulebook{}, local: netip.MustParseAddr("127.0.0.1"),
	}
	h.Install(t)
	h.acme = h.Tenant(t, "Acme")
	h.side = h.server(t, h.Door)
	boss, other := h.person(t, "vault:read", "vault:write", "vault:code", "vault:use", "vault:manage"), h.person(t)
	h.boss, h.guard = boss.caller(), h.person(t, "vault:read", "vault:manage")
	h.rules.owners = []tenantdb.PersonID{boss.id, other.id}
	return h
}

// server is the rooms as one server of the installation has them.
func (h *house) server(t testing.TB, d *doortest.Door) *side {
	t.Helper()
	wrapper, err := d.Key.Wrapper(keyring.ForSigning)
	must(t, err)
	issuer, err := agent.ParseIssuer("http://avouch.test")
	must(t, err)
	signing := keyring.NewSigning(keyring.NewSigningTable(d.DB, tenantdb.System(tenantdb.Platform, "signing")), wrapper, h.clock.at)
	must(t, signing.Rotate(t.Context()))
	s := &side{incidents: incident.New(incident.Config{DB: d.DB, Now: h.clock.at})}
	s.agents = agent.New(agent.Config{DB: d.DB, Ring: d.Ring, Signing: signing, Scopes: policy.New(policy.Config{DB: d.DB, Ring: d.Ring}), Issuer: issuer, Now: h.clock.at})
	proves := verify.New(verify.Config{DB: d.DB, Keys: apikey.New(apikey.Config{DB: d.DB, Ring: d.Ring, Now: h.clock.at}), Tokens: s.agents.Checker(), Signing: signing, Issuer: "http://avouch.test", Now: h.clock.at})
	fetcher, err := fetch.New(fetch.Config{Outbound: outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	must(t, err)
	s.Room = New(Config{
		DB: d.DB, Ring: d.Ring, People: h.rules, Names: h.rules.Names, Fetch: fetcher, Now: h.clock.at, Raise: s.incidents.Raise,
		Agents: func(ctx context.Context, token string, meta web.RequestMeta, again bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error) {
			at, err := proves.Agent(ctx, token, again)
			return tenantdb.NewCaller(tenantdb.CallerSpec{
				Tenant: at.Head.Tenant, Actor: audit.Actor{Kind: audit.ActorAgent, ID: at.Agent.String()}, How: "agent-token",
				Scopes: agent.Capabilities(at.Scopes), RequestID: audit.NewRequestID(), Address: meta.Address, Token: at.Token.String(),
			}), at.Head, at.Spends, err
		},
	})
	return s
}

// someone is a person of the organisation.
type someone struct {
	h    *house
	id   tenantdb.PersonID
	caps []string
	// proved is how long ago the person was proved.
	proved time.Duration
	from   netip.Addr
	lent   []string // by break-glass
}

func (h *house) person(t testing.TB, capabilities ...string) *someone {
	t.Helper()
	p := &someone{h: h, id: audit.NewSubjectID(), caps: capabilities, from: h.local}
	h.set(t, `INSERT INTO avouch.person (tenant_id, person_id, profile, address, created_at) VALUES ($1, $2, '', substr(md5($2::uuid::text), 1, 26), now())`, h.acme, p.id)
	return p
}

// member is a person as most are.
func (h *house) member(t testing.TB) *someone {
	t.Helper()
	return h.person(t, "vault:read", "vault:code", "vault:use")
}

// set changes rows as their room would.
func (h *house) set(t testing.TB, sql string, args ...any) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), sql, args...)
		return audit.Event{Type: "test.changed"}, err
	}))
}

func (p *someone) caller() tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: p.h.acme, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.id.String()}, How: "session:password+totp", Scopes: p.caps, RequestID: audit.NewRequestID(), Address: p.from,
		Person: &tenantdb.Person{ID: p.id, Session: "s", ProvedAt: p.h.clock.at().Add(-p.proved), Methods: []string{"password", "totp"}, Lent: p.lent},
	})
}

func (p *someone) actor() Actor { return Actor{APerson, p.id.String()} }

// key is a key that p made; of nobody if p is nil.
func (h *house) key(t testing.TB, p *someone, capabilities ...string) tenantdb.Caller {
	t.Helper()
	id := strings.ReplaceAll(audit.NewSubjectID().String(), "-", "")[21:]
	var person any
	if p != nil {
		person = p.id
	}
	h.set(t, `INSERT INTO avouch.api_key (tenant_id, key_id, kind, live, name, hint, scopes, created_at, person) VALUES ($1, $2, 'owner', true, 'k', 'h', $3, now(), $4)`, h.acme, id, capabilities, person)
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: h.acme, Actor: audit.Actor{Kind: audit.ActorKey, ID: id}, How: "api-key", Scopes: capabilities, RequestID: audit.NewRequestID(), Address: h.local,
	})
}

// group is a group of people.
func (h *house) group(t testing.TB, people ...*someone) Actor {
	t.Helper()
	id := audit.NewSubjectID().String()
	h.set(t, `INSERT INTO avouch.person_group (tenant_id, group_id, name, created_at) VALUES ($1, $2::uuid, $2::text, now())`, h.acme, id)
	for _, p := range people {
		h.set(t, `INSERT INTO avouch.group_member (tenant_id, group_id, person_id) VALUES ($1, $2::uuid, $3)`, h.acme, id, p.id)
	}
	return Actor{AGroup, id}
}

// robot is an agent with a token, as one server sees it.
type robot struct {
	id    agent.ID
	token string
}

func (h *house) robot(t testing.TB, scopes ...string) robot {
	t.Helper()
	return h.robotOf(t, h.person(t, tenantdb.Everything).caller(), scopes...)
}

// robotOf is an agent that somebody registered.
func (h *house) robotOf(t testing.TB, by tenantdb.Caller, scopes ...string) robot {
	t.Helper()
	a, token, err := h.agents.Register(t.Context(), by, agent.Registration{Name: "Robin", Scopes: scopes})
	must(t, err)
	return robot{a.ID, token.Token.Expose()}
}

func (b robot) actor() Actor { return Actor{AnAgent, b.id.String()} }

// at is the agent as it asks a server.
func (b robot) at(s *side) Asker {
	return &remembered{agents: s.cfg.Agents, token: b.token, meta: web.RequestMeta{Address: netip.MustParseAddr("127.0.0.1")}}
}

// ask fetches a code of an item as an agent does.
func (s *side) ask(t testing.TB, h *house, b robot, i ID, once string) (Code, error) {
	return s.code(t.Context(), h.acme, b.at(s), i, once)
}

var rfcKey = []byte("12345678901234567890")

func seedOf(k Kind) Wanted {
	s := otp.Usual()
	switch k {
	case Steam:
		s = otp.OfSteam()
	case HOTP:
		s.Period = 0
	case Codes:
		return Wanted{Kind: k, About: About{Name: "Recovery"}, content: content{Codes: []string{"alpha-1", "bravo-2", "charlie-3"}}}
	case Secret:
		return Wanted{Kind: k, About: About{Name: "Token"}, content: content{Text: []byte("sk_live_7f3a9c52e1d8b604")}}
	}
	return Wanted{Kind: k, About: About{Name: "AWS root", Issuer: "AWS"}, content: content{Key: slices.Clone(rfcKey), Algorithm: s.Algorithm, Digits: s.Digits, Period: s.Period}}
}

// put puts an item in as the boss, who may have its codes then.
func (h *house) put(t testing.TB, n Wanted) Item {
	t.Helper()
	i, err := h.Add(t.Context(), h.boss, n)
	must(t, err)
	return i
}

func (h *house) grant(t testing.TB, i ID, to Actor, l Level) Grant {
	t.Helper()
	g, err := h.Grant(t.Context(), h.fresh(), i, to, l, nil)
	must(t, err)
	return g
}

func (h *house) policy(t testing.TB, i ID, p Policy) {
	t.Helper()
	_, err := h.Update(t.Context(), h.guard.caller(), i, "", Change{Policy: &p})
	must(t, err)
}

// lend has a request of somebody approved by the boss.
func (h *house) lend(t testing.TB, c tenantdb.Caller, i ID, l Level, span time.Duration) Request {
	t.Helper()
	q, err := h.Ask(t.Context(), c, i, l, "The site asks for it", span)
	must(t, err)
	q, err = h.Decide(t.Context(), h.fresh(), q.ID, true)
	must(t, err)
	return q
}

// fresh is the boss, proved now.
func (h *house) fresh() tenantdb.Caller {
	p, _ := h.boss.Person()
	return (&someone{h: h, id: p.ID, caps: h.boss.Scopes(), from: h.local}).caller()
}

// given is how many entries of a type there are.
func (h *house) given(t testing.TB, typ string) int {
	t.Helper()
	return len(h.OfType(t, h.acme, typ))
}

// alarms are the open incidents of an organisation about items that were altered, by subject.
func (h *house) alarms(t testing.TB, tenant tenantdb.TenantID) string {
	t.Helper()
	return h.Text(t, `SELECT coalesce(string_agg(subject, ' ' ORDER BY subject), '') FROM avouch.incident WHERE tenant_id = $1 AND kind = 'vault.altered' AND resolved_at IS NULL`, tenant)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused holds a refusal to its kind and to words of its detail.
func refused(t testing.TB, what string, err error, kind problem.Kind, words string) {
	t.Helper()
	if !problem.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: want %s with %q, got %v", what, kind, words, err)
	}
}
