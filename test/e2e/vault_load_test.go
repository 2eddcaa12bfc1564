package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
)

const (
	vaultItems = "/api/v1/vault/items"
	seedOfRFC  = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // of RFC 6238's vectors
)

// fetching is a request for a code as it goes over the wire.
func fetching(addr, key, item string) []byte {
	return fmt.Appendf(nil, "POST %s/code HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", item, addr, key)
}

// fetcher is an agent to which items of the vault are granted.
type fetcher struct{ id, token string }

// fleet is agents that fetch codes, and what they were answered.
type fleet struct {
	*world
	timed, counted string // paths of items
	agents         []fetcher
	turn           atomic.Int64
	mu             sync.Mutex
	got            map[string]fetched // by request
	count          atomic.Int64
	refused        map[string]bool // requests
	broken         int
	wrong          []error
}

// fetched is a code that an agent has.
type fetched struct {
	agent, item, code string
	counter           *int64
}

// newFleet puts a code that changes by time into the vault, and one that is counted, and grants them to agents. Each may fetch 60 in a
// minute, which no setting changes: so there are many.
func newFleet(w *world, agents int) *fleet {
	w.t.Helper()
	s := w.serve(w.databaseURL)
	f := &fleet{world: w, agents: make([]fetcher, agents), got: map[string]fetched{}, refused: map[string]bool{}}
	for path, kind := range map[*string]string{&f.timed: "totp", &f.counted: "hotp"} {
		var made struct {
			ID string `json:"item_id"`
		}
		want(w.t, http.StatusCreated, http.MethodPost, s.url+vaultItems, w.ownerKey, map[string]any{"name": kind, "type": kind, "secret": seedOfRFC}, &made)
		*path = vaultItems + "/" + made.ID
	}
	for i := range f.agents {
		var made struct {
			ID    string `json:"agent_id"`
			Token string
		}
		want(w.t, http.StatusCreated, http.MethodPost, s.url+"/api/v1/agents/register", w.ownerKey, map[string]any{"name": "Fetcher", "capabilities": []string{"read:codes"}}, &made)
		f.agents[i] = fetcher{made.ID, made.Token}
		for _, item := range []string{f.timed, f.counted} {
			want(w.t, http.StatusCreated, http.MethodPost, s.url+item+"/grants", w.ownerKey, map[string]any{"agent_id": f.agents[i].id}, nil)
		}
	}
	s.end(syscall.SIGTERM)
	return f
}

// load fetches from so many callers until stop is called: every fourth code is a counted one. where is as in ledger.load.
func (f *fleet) load(callers int, where func(n int) string) (stop func()) {
	var ended atomic.Bool
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			for !ended.Load() {
				url := where(n)
				if url == "" || !f.fetch(url) {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	return func() { ended.Store(true); all.Wait() }
}

func (f *fleet) fetch(url string) (ok bool) {
	turn := f.turn.Add(1)
	a, item := f.agents[turn%int64(len(f.agents))], f.timed
	if turn%4 == 0 {
		item = f.counted
	}
	var code struct {
		Code    string
		Counter *int64
	}
	r, err := ask(http.MethodPost, url+item+"/code", a.token, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch id := r.header.Get("X-Request-Id"); {
	case errors.Is(err, errCut):
		f.broken++
	case err == nil && r.status == http.StatusServiceUnavailable, err == nil && r.status == http.StatusTooManyRequests:
		f.refused[id] = true
	case err == nil && r.status == http.StatusOK && decoded(r.body, &code) && len(code.Code) == 6:
		f.got[id] = fetched{a.id, item, code.Code, code.Counter}
		f.count.Add(1)
		return true
	case len(f.wrong) < 5:
		f.wrong = append(f.wrong, fmt.Errorf("status %d: %s: %v", r.status, r.body, err))
	}
	return false
}

// await waits until so many codes were given in all.
func (f *fleet) await(n int64) {
	f.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); f.count.Load() < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("only %d of %d codes were given (%d refused, %d broken, %v)", f.count.Load(), n, len(f.refused), f.broken, f.wrong)
		}
	}
}

// hold is the promise: who has a code is in the log with it, once; who was refused is not; and no counted code was given twice.
func (f *fleet) hold() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range f.wrong {
		f.t.Errorf("neither a code nor a refusal: %v", err)
	}
	log, counters := f.entries(f.owner, "vault.code_given"), map[int64]string{}
	for id, g := range f.got {
		if len(log[id]) != 1 {
			f.t.Errorf("request %s has a code, and is %d times in the log", id, len(log[id]))
			continue
		}
		e := log[id][0].entry
		if e.Actor.ID != g.agent || !strings.HasSuffix(g.item, e.Target.ID) {
			f.t.Errorf("request %s of agent %s for %s is in the log as %+v", id, g.agent, g.item, e)
		}
		if g.counter == nil {
			continue
		}
		if other := counters[*g.counter]; other != "" {
			f.t.Errorf("requests %s and %s have both the code of counter %d", id, other, *g.counter)
		}
		counters[*g.counter] = id
		if place := fieldOf(e, "place"); place != fmt.Sprint(*g.counter) {
			f.t.Errorf("request %s has the code of counter %d, and the log says %s", id, *g.counter, place)
		}
	}
	for id := range f.refused {
		if len(log[id]) != 0 {
			f.t.Errorf("request %s was refused, and is in the log", id)
		}
	}
	if n := len(log) - len(f.got); n > f.broken {
		f.t.Errorf("%d codes are in the log that nobody has: only %d answers were cut off", n, f.broken)
	}
	if len(counters) == 0 {
		f.t.Error("no counted code was given")
	}
	f.t.Logf("measured: %d codes given, %d of them counted, all in the log once; %d in the log; %d refused, %d answers cut off",
		len(f.got), len(counters), len(log), len(f.refused), f.broken)
}

// codesARound is how many codes must be given in each round: few enough that no agent reaches its limit.
const codesARound = 400

// TestNoCodeWithoutItsEntrySoak kills servers and PostgreSQL while agents fetch codes. Whoever has a code is in the log with it.
func TestNoCodeWithoutItsEntrySoak(t *testing.T) {
	t.Parallel()
	t.Run("server killed", func(t *testing.T) { t.Parallel(); fetchesServerKilled(t) })
	t.Run("PostgreSQL killed", func(t *testing.T) { t.Parallel(); fetchesPostgresKilled(t) })
}

func fetchesServerKilled(t *testing.T) {
	w := shared(t)
	f := newFleet(w, 64)
	victim, other := w.serve(w.databaseURL), w.serve(w.databaseURL)
	var urls [2]atomic.Value
	urls[0].Store(victim.url)
	urls[1].Store(other.url)
	stop := f.load(16, func(n int) string { return urls[n%2].Load().(string) })
	for round := range rounds() {
		f.await(int64(round)*codesARound + codesARound/2)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		victim.end(syscall.SIGKILL)
		urls[0].Store("")
		victim = w.serve(w.databaseURL)
		urls[0].Store(victim.url)
		f.await(int64(round+1) * codesARound)
	}
	stop()
	f.hold()
	if f.broken == 0 {
		t.Error("no answer was cut off: the kills met nothing")
	}
}

func fetchesPostgresKilled(t *testing.T) {
	pg := cluster(t, scratch(t))
	w := newWorld(t, pg.URL("avouch_server", "avouch"), pg.URL(devpg.Superuser, "avouch"))
	f := newFleet(w, 64)
	s := w.serve(w.databaseURL)
	stop := f.load(16, func(int) string { return s.url })
	for range rounds() {
		before := f.count.Load()
		f.await(before + codesARound/2)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		must(t, pg.Kill())
		must(t, pg.Restart(t.Context()))
		f.await(before + codesARound)
	}
	stop()
	f.hold()
}

// vaultKinds are the kinds of changes that take a code away. Every round has an agent or a key of its own: one may fetch 60 codes a minute.
func vaultKinds() []kind {
	grant := func(s *stage, item string, to map[string]any) (revoke string) {
		a := s.a.call(s.t, "POST", item+"/grants", s.owner.key, to).want(s.t, http.StatusCreated)
		return item + "/grants/" + a.text("grant_id") + "/revoke"
	}
	put := func(s *stage) string {
		a := s.a.call(s.t, "POST", vaultItems, s.owner.key, map[string]any{"name": "item", "type": "totp", "secret": seedOfRFC}).want(s.t, http.StatusCreated)
		return vaultItems + "/" + a.text("item_id")
	}
	return []kind{
		{"grant of an agent revoked", "403", func(s *stage) func() round {
			item := put(s)
			return func() round {
				g := s.a.agent(s.t, s.owner, "read:codes")
				revoke := grant(s, item, map[string]any{"agent_id": g.id})
				return round{g.token, "", s.does(s.owner, "POST", revoke, nil), nil, item}
			}
		}, false},
		{"grant of a key revoked", "403", func(s *stage) func() round {
			item := put(s)
			return func() round {
				key, id := s.a.serviceKey(s.t, s.owner, map[string]any{"scopes": []string{"vault:code"}})
				revoke := grant(s, item, map[string]any{"key_id": id})
				return round{key, "", s.does(s.owner, "POST", revoke, nil), nil, item}
			}
		}, true},
		{"scope removed", "403", func(s *stage) func() round {
			return func() round { // of an item of its own: nothing ends the grants, and it has no more than 500
				g, item := s.a.agent(s.t, s.owner, "read:codes", "read:email"), put(s)
				grant(s, item, map[string]any{"agent_id": g.id})
				return round{g.token, "", s.does(s.owner, "PUT", "/api/v1/agents/"+g.id+"/scopes", map[string]any{"scopes": []string{"read:email"}}), nil, item}
			}
		}, true},
		{"item deleted", "404", func(s *stage) func() round {
			return func() round {
				g, item := s.a.agent(s.t, s.owner, "read:codes"), put(s)
				grant(s, item, map[string]any{"agent_id": g.id})
				gone := func() {
					s.a.call(s.t, "DELETE", item, s.owner.key, nil, "If-Match", "*").want(s.t, http.StatusNoContent)
				}
				return round{g.token, "", gone, nil, item}
			}
		}, true},
	}
}

// TestVaultRevocationHasNoWindowSoak takes codes away on server A while others fetch them on server B: none that was asked for after A's
// acknowledgement had been read may be given, and none refused before. It is TestRevocationHasNoWindowSoak for the vault.
func TestVaultRevocationHasNoWindowSoak(t *testing.T) {
	t.Parallel()
	full, some := 100, 25
	if soak() {
		full, some = 5_000, 500
	}
	a, b := pair(t)
	var arenas []*arena
	for _, k := range vaultKinds() {
		beside, rounds := 4, full/4
		if k.extra {
			beside, rounds = 1, some
		}
		for range beside {
			s := newStage(t, a, k.name)
			next := k.next(s)
			r := &arena{name: k.name, rounds: rounds, after: k.after, next: next, stop: make(chan struct{}), extra: k.extra}
			r.current.Store(r.target(b, next())) // nobody takes this one away
			arenas = append(arenas, r)
		}
	}
	compete(t, arenas, b, func(change func()) { change() })
	var sum counts
	for _, r := range arenas {
		c := r.tally.counts()
		if c.violations > 0 || c.refused > 0 {
			t.Errorf("%s: %d fetches that were sent after the acknowledgement were given a code, %d were refused before anything was changed", r.name, c.violations, c.refused)
		}
		if r.done != r.rounds || c.after < int64(r.done)*sentAfter {
			t.Errorf("%s: %d rounds with %d fetches after the acknowledgement", r.name, r.done, c.after)
		}
		sum.add(c)
		sum.rounds += int64(r.done)
	}
	t.Logf("measured: codes were taken away %d times: of %d fetches %d got a code, %d were sent after an acknowledgement, none of these was given one", sum.rounds, sum.all, sum.allowed, sum.after)
	if sum.allowed < sum.rounds*allowedBefore {
		t.Errorf("only %d of %d fetches got a code", sum.allowed, sum.all)
	}
}
