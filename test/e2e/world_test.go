package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// world is an installation whose servers are processes: they can be killed and frozen.
type world struct {
	t                         testing.TB
	dir                       string
	databaseURL, adminURL     string
	admin                     *Database
	owner, service            string // organisations
	ownerKey, serviceOwnerKey string
	serviceKey, agent, token  string
}

// worldURL is the issuer of a world, wherever its servers listen.
const worldURL = "http://127.0.0.1:7070"

// newWorld sets up an agent of one organisation and a service of another.
func newWorld(t testing.TB, databaseURL, adminURL string) *world {
	t.Helper()
	admin, err := Connect(t.Context(), adminURL)
	must(t, err)
	t.Cleanup(admin.Close)
	w := &world{t: t, dir: t.TempDir(), databaseURL: databaseURL, adminURL: adminURL, admin: admin}
	_, err = keyring.CreatePlatformKeyFile(filepath.Join(w.dir, "platform.key"))
	must(t, err)
	s := w.serve(databaseURL, "AVOUCH_SIGN_UP=true")
	sign := func(name string) (id, key string) {
		var made struct {
			ID  string `json:"tenant_id"`
			Key string `json:"owner_key"`
		}
		want(t, http.StatusCreated, http.MethodPost, s.url+"/api/v1/organisations", "", map[string]any{"name": name}, &made)
		return made.ID, made.Key
	}
	w.owner, w.ownerKey = sign("Owner")
	w.service, w.serviceOwnerKey = sign("Service")
	w.agent, w.token = w.register(s.url, "read:data")
	w.serviceKey = w.newKey(s.url)
	if code := s.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("the first server ended with %d: %s", code, s.said())
	}
	return w
}

// shared is a world on a database of the cluster that tests share: nothing happens to PostgreSQL there.
func shared(t testing.TB) *world {
	t.Helper()
	pg := pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate})
	return newWorld(t, pg.URL, pg.AdminURL)
}

func (w *world) register(url, scope string) (id, token string) {
	w.t.Helper()
	var made struct {
		ID    string `json:"agent_id"`
		Token string `json:"token"`
	}
	r, err := ask(http.MethodPost, url+"/api/v1/scopes", w.ownerKey, map[string]any{"name": scope, "risk": "low", "description": "x"})
	if must(w.t, err); r.status != http.StatusCreated && r.status != http.StatusConflict {
		w.t.Fatalf("adding a scope: %d %s", r.status, r.body)
	}
	want(w.t, http.StatusCreated, http.MethodPost, url+"/api/v1/agents/register", w.ownerKey,
		map[string]any{"name": "Agent", "capabilities": []string{scope, "read:email"}}, &made)
	return made.ID, made.Token
}

func (w *world) newKey(url string) string {
	w.t.Helper()
	var made struct{ Key string }
	want(w.t, http.StatusCreated, http.MethodPost, url+"/api/v1/keys", w.serviceOwnerKey, map[string]any{"name": "API", "kind": "service"}, &made)
	return made.Key
}

// served is a server process.
type served struct {
	*running
	url string
}

func (w *world) env(databaseURL string) []string {
	return []string{
		"AVOUCH_DATABASE_URL=" + databaseURL, "AVOUCH_PLATFORM_KEY_FILE=" + filepath.Join(w.dir, "platform.key"), "AVOUCH_KEY_STORE=" + filepath.Join(w.dir, "keystore"),
		"AVOUCH_PUBLIC_URL=" + worldURL, "AVOUCH_TENANT_QUOTA=-1", "AVOUCH_SERVICE_QUOTA=-1",
	}
}

// serve starts `avouch serve` and waits until it listens.
func (w *world) serve(databaseURL string, env ...string) *served {
	w.t.Helper()
	return serve(w.t, append(w.env(databaseURL), env...))
}

func serve(t testing.TB, env []string) *served {
	t.Helper()
	s := &served{running: start(t, launch{args: []string{"serve", "--listen", "127.0.0.1:0", "--json"}, env: env})}
	var line struct{ URL string }
	s.line(&line)
	s.url = line.URL
	return s
}

// ledger is what callers were told.
type ledger struct {
	mu      sync.Mutex
	yes     []verdict
	count   atomic.Int64
	refused atomic.Int64 // problem documents of the kind unavailable
	unsure  atomic.Int64 // of those, by which the server said that it may have been done
	broken  atomic.Int64 // no whole answer
	wrong   []error      // anything else
}

// load verifies from so many callers until stop is called. where says which server to ask, and empty waits.
func (l *ledger) load(w *world, callers int, where func(n int) string) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				url := where(n)
				if url == "" {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				v, err := verify(url, w.serviceKey, w.token)
				if l.note(v, err) != nil {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func (l *ledger) note(v verdict, err error) error {
	switch {
	case err == nil:
		l.count.Add(1)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.yes = append(l.yes, v)
	case errors.Is(err, errRefused):
		l.refused.Add(1)
		if strings.Contains(err.Error(), "has not said whether this was done") {
			l.unsure.Add(1)
		}
	case errors.Is(err, errCut):
		l.broken.Add(1)
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.wrong) < 5 {
			l.wrong = append(l.wrong, err)
		}
	}
	return err
}

// await waits until so many have been acknowledged in all.
func (l *ledger) await(t testing.TB, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); l.count.Load() < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d were acknowledged (%d refused, %d broken, %v)", l.count.Load(), n, l.refused.Load(), l.broken.Load(), l.wrong)
		}
	}
}

// hold is the promise: what was acknowledged is in both logs once, where it was said to be; both logs are whole; no
// verification is in one of them alone, or twice, whoever was told of it; and what was refused is in neither.
func (l *ledger) hold(w *world) {
	w.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.wrong {
		w.t.Errorf("neither an answer nor a refusal: %v", err)
	}
	service, owner := w.log(w.service), w.log(w.owner)
	for request, at := range service {
		if len(at) != 1 || len(owner[request]) != 1 {
			w.t.Errorf("request %s is %d times in the service's log and %d times in the owner's", request, len(at), len(owner[request]))
		}
	}
	for request := range owner {
		if service[request] == nil {
			w.t.Errorf("request %s is in the owner's log alone", request)
		}
	}
	for _, v := range l.yes {
		if at := service[v.RequestID]; len(at) != 1 || at[0].seq != v.Audit.Seq || at[0].leaf != v.Audit.Leaf || at[0].log != v.Audit.Log {
			w.t.Errorf("request %s was said to be %+v, and the log has %+v", v.RequestID, v.Audit, at)
		}
		if !v.Allowed || v.Decision != "ALLOWED" {
			w.t.Errorf("request %s: %s", v.RequestID, v.Reason)
		}
	}
	if n := int64(len(service) - len(l.yes)); n > l.broken.Load()+l.unsure.Load() {
		w.t.Errorf("%d verifications are in the log that were refused: only %d answers were cut off, and of %d the server said that it did not know", n, l.broken.Load(), l.unsure.Load())
	}
	w.t.Logf("measured: %d acknowledged, all in both logs once; %d in the logs; %d refused with 503, %d answers cut off",
		len(l.yes), len(service), l.refused.Load(), l.broken.Load())
}

// where is where an entry stands in a log.
type where struct {
	log, leaf string
	seq       int64
	entry     audit.Entry
}

// log reads a log, checks all of it, and returns its verifications by request.
func (w *world) log(tenant string) map[string][]where { return w.entries(tenant, "agent.verified") }

// entries is log of another type of entries.
func (w *world) entries(tenant, typ string) map[string][]where {
	w.t.Helper()
	l, err := w.admin.Log(w.t.Context(), tenant)
	must(w.t, err)
	id, err := parseLogID(l.ID)
	must(w.t, err)
	verifier, link, seen := audit.NewVerifier(id), audit.Genesis, map[audit.EntryID]bool{}
	found := map[string][]where{}
	for i, r := range l.Rows {
		e, err := audit.Decode(r.Body)
		must(w.t, err)
		leaf := audit.Leaf(r.Body)
		if r.Seq != int64(i) || !bytes.Equal(r.Prev, link[:]) || !bytes.Equal(r.Leaf, leaf[:]) || seen[e.ID] || e.Log.String() != l.ID || e.Request.String() != r.Request {
			w.t.Fatalf("entry %d of tenant %s does not follow, is there twice or is another's", i, tenant)
		}
		must(w.t, verifier.Add(audit.Record{Seq: audit.Seq(r.Seq), Prev: [32]byte(r.Prev), Entry: r.Body, Leaf: leaf}))
		link, seen[e.ID] = audit.Link(link, leaf), true
		if e.Type == typ {
			found[r.Request] = append(found[r.Request], where{l.ID, hex.EncodeToString(r.Leaf), r.Seq, e})
		}
	}
	state := verifier.State()
	if l.Size != int64(len(l.Rows)) || !bytes.Equal(l.Chain, link[:]) || state.Link != link || state.Tree.Size() != l.Size || state.Tree.Root() != rootOf(l.Rows) {
		w.t.Errorf("tenant %s: the head says %d entries and the link %x; there are %d and %x", tenant, l.Size, l.Chain, len(l.Rows), link)
	}
	return found
}

func parseLogID(text string) (id audit.LogID, err error) { return id, id.UnmarshalText([]byte(text)) }

// rootOf is the tree's root by the definition of RFC 9162, section 2.1.1, not by the code that it is compared with.
func rootOf(rows []Row) [32]byte {
	level := make([][32]byte, len(rows))
	for i, r := range rows {
		level[i] = [32]byte(r.Leaf)
	}
	for len(level) > 1 {
		var up [][32]byte
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				up = append(up, level[i])
				continue
			}
			up = append(up, sha256.Sum256(slices.Concat([]byte{1}, level[i][:], level[i+1][:])))
		}
		level = up
	}
	if len(level) == 0 {
		return sha256.Sum256(nil)
	}
	return level[0]
}
