package e2e

import (
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
	verifying "github.com/avouch-dev/avouch/verify"
)

// stage is two organisations of their own for one kind of change, so that kinds do not disturb each other.
type stage struct {
	t              testing.TB
	a              *node
	owner, service party
	key            string // the service's
}

func newStage(t testing.TB, a *node, name string) *stage {
	s := &stage{t: t, a: a, owner: a.organisation(t, name+" owner"), service: a.organisation(t, name+" service")}
	s.key, _ = a.serviceKey(t, s.service, nil)
	return s
}

// does is a request to A whose answer is awaited and read.
func (s *stage) does(p party, method, path string, body any) func() {
	return func() { s.a.call(s.t, method, path, p.key, body).want(s.t, http.StatusOK) }
}

func (s *stage) agent() registered { return s.a.agent(s.t, s.owner, "read:email") }

func (s *stage) token(agent registered) (token, jti string) {
	a := s.a.call(s.t, "POST", "/api/v1/agents/"+agent.id+"/tokens", s.owner.key, map[string]any{}).want(s.t, http.StatusCreated)
	return a.text("token"), a.text("jti")
}

// kind is a kind of change that takes something away.
type kind struct {
	name  string
	after string
	next  func(*stage) func() round
	extra bool // not one of those that are counted in full
}

func kinds() []kind {
	return []kind{
		{"agent revoked", "REVOKED", agentRevoked, false}, {"agent suspended", "DENIED", agentSuspended, false},
		{"scope removed", "DENIED", scopeRemoved, false}, {"key revoked", "401", keyRevoked, false},
		{"owner suspended", "DENIED", tenantSuspended(func(s *stage) party { return s.owner }), false},
		{"service suspended", "401", tenantSuspended(func(s *stage) party { return s.service }), true},
		{"token revoked", "REVOKED", tokenRevoked, true}, {"all tokens revoked", "REVOKED", tokensRevoked, true},
		{"agent hidden", "DENIED", agentHidden, true}, {"key disabled", "401", keyDisabled, true},
		{"given key revoked", "REVOKED", givenKeyRevoked, true}, {"given key disabled", "DISABLED", givenKeyDisabled, true},
	}
}

func agentRevoked(s *stage) func() round {
	return func() round {
		g := s.agent()
		return round{s.key, g.token, s.does(s.owner, "POST", "/api/v1/agents/"+g.id+"/revoke", nil), nil, ""}
	}
}

func agentSuspended(s *stage) func() round {
	g := s.agent()
	path := "/api/v1/agents/" + g.id
	return func() round {
		return round{s.key, g.token, s.does(s.owner, "POST", path+"/suspend", nil), s.does(s.owner, "POST", path+"/resume", nil), ""}
	}
}

func scopeRemoved(s *stage) func() round {
	g := s.agent()
	set := func(scopes ...string) func() {
		return s.does(s.owner, "PUT", "/api/v1/agents/"+g.id+"/scopes", map[string]any{"scopes": scopes})
	}
	return func() round { return round{s.key, g.token, set("browse:web"), set("browse:web", "read:email"), ""} }
}

func agentHidden(s *stage) func() round {
	g := s.agent()
	see := func(who string) func() {
		return s.does(s.owner, "PATCH", "/api/v1/agents/"+g.id, map[string]any{"visibility": who})
	}
	return func() round { return round{s.key, g.token, see("none"), see("all"), ""} }
}

func keyRevoked(s *stage) func() round {
	g := s.agent()
	return func() round {
		key, id := s.a.serviceKey(s.t, s.service, nil)
		return round{key, g.token, s.does(s.service, "POST", "/api/v1/keys/"+id+"/revoke", nil), nil, ""}
	}
}

func keyDisabled(s *stage) func() round {
	g := s.agent()
	key, id := s.a.serviceKey(s.t, s.service, nil)
	return func() round {
		return round{key, g.token, s.does(s.service, "POST", "/api/v1/keys/"+id+"/disable", nil), s.does(s.service, "POST", "/api/v1/keys/"+id+"/enable", nil), ""}
	}
}

func givenKeyRevoked(s *stage) func() round {
	return func() round {
		key, id := s.a.dataKey(s.t, s.service, nil)
		return round{s.key, "", s.does(s.service, "POST", "/api/v1/keys/"+id+"/revoke", nil), nil, key}
	}
}

func givenKeyDisabled(s *stage) func() round {
	key, id := s.a.dataKey(s.t, s.service, nil)
	path := "/api/v1/keys/" + id
	return func() round {
		return round{s.key, "", s.does(s.service, "POST", path+"/disable", nil), s.does(s.service, "POST", path+"/enable", nil), key}
	}
}

// byCommand is how many suspensions one is made by the command itself.
const byCommand = 100

// tenantSuspended has no route, but an operator's command. It takes a process each time, so most suspensions call what the
// command calls, in this process.
func tenantSuspended(who func(*stage) party) func(*stage) func() round {
	return func(s *stage) func() round {
		g, id, n := s.agent(), who(s).id, 0
		system := tenantdb.System(id, "operator")
		suspend := func() { must(s.t, s.a.Org.Suspend(s.t.Context(), system, "test")) }
		command := func() {
			s.a.operate(s.t, "organisations", "suspend", id.String(), "--reason", "test", "--operator", "tester")
		}
		return func() round {
			r := round{s.key, g.token, suspend, func() { must(s.t, s.a.Org.Resume(s.t.Context(), system, "test")) }, ""}
			if s.a.env != nil && n%byCommand == 0 {
				r.change = command
			}
			n++
			return r
		}
	}
}

func tokenRevoked(s *stage) func() round {
	var g registered
	n := 0
	return func() round {
		if n%50 == 0 { // an agent's revoked tokens are all looked at
			g = s.agent()
		}
		n++
		token, jti := s.token(g)
		return round{s.key, token, s.does(s.owner, "POST", "/api/v1/agents/"+g.id+"/tokens/"+jti+"/revoke", nil), nil, ""}
	}
}

func tokensRevoked(s *stage) func() round {
	g := s.agent()
	return func() round {
		token, _ := s.token(g)
		return round{s.key, token, s.does(s.owner, "POST", "/api/v1/agents/"+g.id+"/tokens/revoke-all", nil), nil, ""}
	}
}

// TestRevocationHasNoWindowSoak takes things away on server A while others verify them on server B, and counts the
// verifications that were sent after A's acknowledgement had been read: none may be allowed. A third of all must be, so that
// a server that denies everything fails; none may be denied before its change was asked for, nor after it was undone.
//
// A and B are processes of their own, spoken to over HTTP. Only what has no route is not A's: organisations are suspended
// by `avouch organisations suspend`, a third process, in the first of each hundred rounds of a stage, and by what that
// command calls, in the test's process, in the others. There they are made and resumed, too.
func TestRevocationHasNoWindowSoak(t *testing.T) {
	t.Parallel()
	const stages = 8
	full, some := 1000, 100
	if soak() {
		full, some = 20_000, 2_000
	}
	a, b := pair(t)
	start := time.Now()
	found := perform(t, a, b, stages, full, some, func(change func()) { change() })
	var sum counts
	for _, k := range kinds() {
		c := found[k.name]
		t.Logf("measured: %s, %d times: of %d verifications %d were sent after the acknowledgement; %d of these were allowed", k.name, c.rounds, c.all, c.after, c.violations)
		if c.violations > 0 {
			t.Errorf("%s: %d verifications sent after the acknowledgement were allowed", k.name, c.violations)
		}
		if c.refused > 0 {
			t.Errorf("%s: %d verifications were denied before anything was changed", k.name, c.refused)
		}
		if want := int64(full); c.rounds < want && !k.extra || c.after < c.rounds*sentAfter {
			t.Errorf("%s: %d rounds with %d verifications after the acknowledgement", k.name, c.rounds, c.after)
		}
		sum.add(c)
	}
	took := time.Since(start)
	t.Logf("measured: revocation has no window: %d verifications in %s (%.0f/s), %d sent after an acknowledgement, %.0f %% allowed, at least %d in flight at each change",
		sum.all, took.Round(time.Second), float64(sum.all)/took.Seconds(), sum.after, 100*float64(sum.allowed)/float64(sum.all), sum.fewest)
	if sum.allowed*100 < sum.all*30 {
		t.Errorf("only %d of %d verifications were allowed", sum.allowed, sum.all)
	}
	if sum.fewest < 10 {
		t.Errorf("a change was made with %d verifications in flight", sum.fewest)
	}
}

// pair is two processes, `avouch serve`, on a database of their own: A, with an operator beside it, and where B listens. Both
// must end well when the test does.
func pair(t *testing.T) (a *node, b string) {
	t.Helper()
	in := install(t)
	w := &world{t: t, dir: in.dir} // its agent, service and keys are not needed
	var servers []*served
	t.Cleanup(func() {
		for _, s := range servers {
			if code := s.end(syscall.SIGTERM); code != 0 || t.Failed() {
				t.Errorf("a server ended with %d: %s", code, s.said())
			}
		}
	})
	for range 2 {
		servers = append(servers, w.serve(in.pg.URL))
	}
	a = &node{url: servers[0].url, addr: strings.TrimPrefix(servers[0].url, "http://"), env: w.env(in.pg.URL)}
	in.issuer = worldURL
	var err error
	a.Server, err = server.Operate(t.Context(), in.config(), discard())
	must(t, err)
	t.Cleanup(a.Close)
	return a, strings.TrimPrefix(servers[1].url, "http://")
}

// TestWithoutTheEpochThereIsAWindow switches the comparison of epochs off: the server says of every decision that it was
// made at the present epoch. The same test then finds violations of every kind, so it can find them. The server decides
// nothing while a change is made: the append would see that the epoch has moved since the failpoint looked.
func TestWithoutTheEpochThereIsAWindow(t *testing.T) {
	t.Parallel()
	in := install(t)
	a, b := in.start(t), in.start(t)
	blind := verifying.New(verifying.Config{
		DB: b.DB, Keys: b.Keys, Tokens: b.Agents.Checker(), Signing: b.Signing, Issuer: b.URL(), Remembered: func(h tenantdb.Head) tenantdb.Head { return present(t, b, h) },
	})
	api := web.New(web.Config[tenantdb.Caller]{
		Title: "blind", PublicURL: mustURL(t, b.url), Logger: discard(), Authenticate: func(*http.Request, web.RequestMeta) (c tenantdb.Caller, err error) { return c, nil },
	})
	blind.Routes(api)
	var still sync.RWMutex
	addr := serveBeside(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		still.RLock()
		defer still.RUnlock()
		api.ServeHTTP(w, r)
	}))
	found := perform(t, a, addr, 1, 1, 1, func(change func()) {
		still.Lock()
		defer still.Unlock()
		change()
	})
	for _, k := range kinds() {
		if c := found[k.name]; c.violations == 0 {
			t.Errorf("%s: no violation is found where there must be some: %+v", k.name, c)
		}
	}
}

// present is a head at the epoch that it has now.
func present(t testing.TB, n *node, h tenantdb.Head) tenantdb.Head {
	err := n.DB.ReadFresh(t.Context(), tenantdb.System(h.Tenant, "test"), func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT epoch FROM avouch.audit_head WHERE tenant_id = $1`, h.Tenant).Scan(&h.Epoch)
	})
	if err != nil {
		t.Error(err)
	}
	return h
}

// perform runs all kinds at once, full or some rounds of each, and returns what was counted by kind. stages is how many
// arenas share the rounds of a kind that is counted in full; change makes a change.
func perform(t *testing.T, a *node, addr string, stages, full, some int, change func(func())) map[string]counts {
	t.Helper()
	var arenas []*arena
	for _, k := range kinds() {
		beside, rounds := stages, full
		if k.extra {
			beside, rounds = 1, some
		}
		for range beside {
			s := newStage(t, a, k.name)
			r := &arena{name: k.name, rounds: rounds / beside, after: k.after, next: k.next(s), stop: make(chan struct{}), extra: k.extra}
			r.current.Store(r.target(addr, round{key: s.key, token: s.agent().token}))
			arenas = append(arenas, r)
		}
	}
	compete(t, arenas, addr, change)
	found := map[string]counts{}
	for _, r := range arenas {
		c := r.tally.counts()
		c.rounds, c.fewest = int64(r.done), r.fewest
		sum := found[r.name]
		sum.add(c)
		found[r.name] = sum
	}
	return found
}

// compete runs arenas at once, each with two callers of its own. Those of the kinds that are counted in full go on until
// the last has ended.
func compete(t *testing.T, arenas []*arena, addr string, change func(func())) {
	t.Helper()
	var running, calling sync.WaitGroup
	flight := func() (n int64) {
		for _, r := range arenas {
			n += r.tally.flight.Load()
		}
		return n
	}
	for _, r := range arenas {
		evergreen := r.current.Load()
		for range 2 {
			calling.Go(func() { r.tally.call(t, addr, &r.current, r.stop) })
		}
		running.Go(func() {
			defer func() { // also if the round ends the test
				r.current.Store(evergreen)
				if r.extra {
					close(r.stop)
				}
			}()
			if err := r.run(addr, flight, change); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, r := range arenas {
		if !r.extra {
			close(r.stop)
		}
	}
	calling.Wait()
}
