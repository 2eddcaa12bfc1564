package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/tenantdb"
)

// aRound is how many verifications must be acknowledged in each round.
const aRound = 1000

// TestNothingAcknowledgedIsLostSoak does to servers, PostgreSQL and the connections between them what machines and networks
// do, while a service verifies. What the service was told is in both organisations' logs, once, where it was said to be.
func TestNothingAcknowledgedIsLostSoak(t *testing.T) {
	t.Parallel()
	t.Run("server killed", func(t *testing.T) { t.Parallel(); serverKilled(t) })
	t.Run("PostgreSQL killed", func(t *testing.T) { t.Parallel(); postgresKilled(t) })
	t.Run("replies lost", func(t *testing.T) { t.Parallel(); faultyReplies(t, pgfault.Lose) })
	t.Run("replies cut", func(t *testing.T) { t.Parallel(); faultyReplies(t, pgfault.Truncate) })
	t.Run("replies doubled", func(t *testing.T) { t.Parallel(); faultyReplies(t, pgfault.Duplicate) })
	t.Run("replies late", func(t *testing.T) { t.Parallel(); lateReplies(t) })
	t.Run("server frozen", func(t *testing.T) { t.Parallel(); serverFrozen(t) })
}

// serverKilled kills one of two servers, again and again.
func serverKilled(t *testing.T) {
	w, l := shared(t), &ledger{}
	victim, other := w.serve(w.databaseURL), w.serve(w.databaseURL)
	var urls [2]atomic.Value
	urls[0].Store(victim.url)
	urls[1].Store(other.url)
	stop := l.load(w, 16, func(n int) string { return urls[n%2].Load().(string) })
	for round := range rounds() {
		l.await(t, int64(round)*aRound+aRound/2)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		victim.end(syscall.SIGKILL)
		urls[0].Store("")
		victim = w.serve(w.databaseURL)
		urls[0].Store(victim.url)
		l.await(t, int64(round+1)*aRound)
	}
	stop()
	l.hold(w)
	if l.broken.Load() == 0 {
		t.Error("no answer was cut off: the kills met nothing")
	}
}

// postgresKilled kills every process of PostgreSQL.
func postgresKilled(t *testing.T) {
	pg := cluster(t, scratch(t))
	w, l := newWorld(t, pg.URL("avouch_server", "avouch"), pg.URL(devpg.Superuser, "avouch")), &ledger{}
	s := w.serve(w.databaseURL)
	stop := l.load(w, 16, func(int) string { return s.url })
	for range rounds() {
		before := l.count.Load()
		l.await(t, before+aRound/2)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		must(t, pg.Kill())
		must(t, pg.Restart(t.Context()))
		l.await(t, before+aRound)
	}
	stop()
	l.hold(w)
}

// cluster is a durable PostgreSQL of this test alone, with a database that is ready for servers.
func cluster(t testing.TB, dir string) *devpg.Cluster {
	t.Helper()
	pg := pgtest.Private(t, devpg.Config{Dir: filepath.Join(dir, "postgres")})
	must(t, tenantdb.CreateDatabase(t.Context(), pg.URL(devpg.Superuser, "postgres"), "avouch"))
	must(t, tenantdb.Migrate(t.Context(), pg.URL(devpg.Superuser, "avouch")))
	return pg
}

// behind puts a proxy between a database and its servers.
func behind(t testing.TB, databaseURL string, late time.Duration) (*pgfault.Proxy, string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	must(t, err)
	q := u.Query()
	proxy, err := pgfault.Listen(q.Get("host"))
	must(t, err)
	t.Cleanup(func() { proxy.Close() })
	proxy.Late = late
	q.Set("host", proxy.Dir())
	u.RawQuery = q.Encode()
	return proxy, u.String()
}

// faultyReplies lets a share of all replies meet a fault, for a while in each round.
func faultyReplies(t *testing.T, fault pgfault.Fault) {
	w, l := shared(t), &ledger{}
	proxy, through := behind(t, w.databaseURL, 0)
	s := w.serve(through)
	stop := l.load(w, 16, func(int) string { return s.url })
	for range rounds() {
		before, met := l.count.Load(), proxy.Faults()
		l.await(t, before+aRound/2)
		proxy.Choose(func(string) pgfault.Fault {
			if rand.IntN(15) == 0 {
				return fault
			}
			return pgfault.Pass
		})
		eventually(t, "ten faults", func() bool { return proxy.Faults() >= met+10 })
		proxy.Choose(nil)
		l.await(t, before+aRound)
	}
	stop()
	l.hold(w)
}

// lateReplies delays the reply to one batch for longer than a server waits for it, in each round.
func lateReplies(t *testing.T) {
	w, l := shared(t), &ledger{}
	proxy, through := behind(t, w.databaseURL, 7*time.Second)
	s := w.serve(through)
	stop := l.load(w, 16, func(int) string { return s.url })
	for range rounds() {
		before, met := l.count.Load(), proxy.Faults()
		l.await(t, before+aRound/2)
		var chosen atomic.Bool
		proxy.Choose(func(tag string) pgfault.Fault {
			if len(tag) > 6 && tag[:6] == "SELECT" && chosen.CompareAndSwap(false, true) {
				return pgfault.Delay
			}
			return pgfault.Pass
		})
		eventually(t, "a late reply", func() bool { return proxy.Faults() > met })
		l.await(t, before+aRound)
	}
	stop()
	l.hold(w)
}

// serverFrozen stops a server that holds the head of the agent's owner in the middle of a change. The other server goes on
// for everybody else at once, and for this organisation as soon as PostgreSQL has ended the change; or before, if the
// frozen one is woken.
func serverFrozen(t *testing.T) {
	w, l := shared(t), &ledger{}
	frozen, other := w.serve(w.databaseURL), w.serve(w.databaseURL)
	apart := w.bystander(other.url)
	stop := l.load(w, 12, func(n int) string { return []string{frozen.url, other.url, other.url}[n%3] })
	stopChanges := w.changes(frozen.url)
	for round := range rounds() {
		before := l.count.Load()
		l.await(t, before+aRound/2)
		w.freezeHolding(frozen)
		began := time.Now()
		if v, err := apart(); err != nil || !v.Allowed || time.Since(began) > 4*time.Second {
			t.Errorf("an organisation whose head is free had to wait %s: %v", time.Since(began), err)
		}
		if round%5 == 4 { // longer than PostgreSQL lets a transaction stand idle
			at := l.count.Load()
			l.await(t, at+aRound/2)
			t.Logf("measured: with the head in a frozen server's hands the other had %d answers after %s", aRound/2, time.Since(began).Round(time.Millisecond))
		} else {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
		}
		frozen.signal(syscall.SIGCONT)
		l.await(t, before+aRound)
	}
	stopChanges()
	stop()
	l.hold(w)
}

// bystander is a verification between two other organisations.
func (w *world) bystander(url string) func() (verdict, error) {
	var made struct {
		Key string `json:"owner_key"`
	}
	s := w.serve(w.databaseURL, "AVOUCH_SIGN_UP=true")
	want(w.t, http.StatusCreated, http.MethodPost, s.url+"/api/v1/organisations", "", map[string]any{"name": "Bystander"}, &made)
	s.end(syscall.SIGTERM)
	own := *w
	own.ownerKey = made.Key
	_, token := own.register(url, "read:data")
	return func() (verdict, error) { return verify(url, made.Key, token) }
}

// changes alters the agent's scopes from several callers, so that its owner's head is almost always held.
func (w *world) changes(url string) (stop func()) {
	var ended atomic.Bool
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			for k := 0; !ended.Load(); k++ {
				scopes := []string{"read:data", []string{"read:email", "browse:web"}[(n+k)%2]}
				at := url + "/api/v1/agents/" + w.agent
				got, err := ask(http.MethodGet, at, w.ownerKey, nil)
				if err == nil {
					ask(http.MethodPut, at+"/scopes", w.ownerKey, map[string]any{"scopes": scopes}, "If-Match", got.header.Get("ETag")) // losing is fine
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() { ended.Store(true); all.Wait() }
}

// freezeHolding stops a server at a moment when it holds the owner's head.
func (w *world) freezeHolding(s *served) {
	w.t.Helper()
	for range 500 {
		s.signal(syscall.SIGSTOP)
		held := 0
		for range 3 { // a statement that the database is still at ends by itself
			time.Sleep(15 * time.Millisecond)
			is, err := w.admin.Held(w.t.Context(), w.owner)
			must(w.t, err)
			idle, err := w.admin.Texts(w.t.Context(), `SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`)
			must(w.t, err)
			if is && len(idle) > 0 {
				held++
			}
		}
		if held == 3 {
			return
		}
		s.signal(syscall.SIGCONT)
		time.Sleep(time.Duration(1+rand.IntN(10)) * time.Millisecond)
	}
	w.t.Fatal("the server was never caught holding the head")
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there was no %s", what)
		}
	}
}

// TestStalledLogRefuses holds the head of one organisation's log. What cannot be recorded is refused, and nothing is allowed
// on the quiet; others go on; and it goes on for all once the head is free.
func TestStalledLogRefuses(t *testing.T) {
	t.Parallel()
	w, l := shared(t), &ledger{}
	s := w.serve(w.databaseURL)
	apart := w.bystander(s.url)
	for _, tenant := range []string{w.owner, w.service} {
		stop := l.load(w, 8, func(int) string { return s.url })
		before := l.count.Load()
		l.await(t, before+100)
		release, err := w.admin.Hold(t.Context(), tenant)
		must(t, err)
		time.Sleep(50 * time.Millisecond) // answers of batches that came first
		held, refused := l.count.Load(), l.refused.Load()
		eventually(t, "refusal", func() bool { return l.refused.Load() >= refused+8 })
		if v, err := apart(); err != nil || !v.Allowed {
			t.Errorf("another organisation's verification: %+v %v", v, err)
		}
		if n := l.count.Load(); n != held {
			t.Errorf("%d verifications were answered while nobody could write the log", n-held)
		}
		release()
		l.await(t, held+100)
		stop()
	}
	l.hold(w)
}

// TestFullDiskRefuses fills the disk under PostgreSQL while a service verifies, and makes room again.
func TestFullDiskRefuses(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 192)
	pg := cluster(t, dir)
	w, l := newWorld(t, pg.URL("avouch_server", "avouch"), pg.URL(devpg.Superuser, "avouch")), &ledger{}
	s := w.serve(w.databaseURL)
	stop := l.load(w, 16, func(int) string { return s.url })
	l.await(t, 200)
	ballast := filepath.Join(dir, "ballast")
	exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=64k").Run() // ends when the disk is full
	refused := l.refused.Load()
	eventually(t, "refusal on a full disk", func() bool { return l.refused.Load() > refused+16 })
	must(t, exec.Command("rm", ballast).Run())
	select {
	case <-pg.Done(): // PostgreSQL panics if it is the WAL that finds no room
		must(t, pg.Restart(t.Context()))
	default:
	}
	l.await(t, l.count.Load()+200)
	stop()
	l.hold(w)
}

// smallDisk is a file system of so many megabytes.
func smallDisk(t testing.TB, megabytes int) string {
	t.Helper()
	needs(t, "mount", "umount", "dd")
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=755", megabytes), "avouch-e2e", dir).CombinedOutput()
	if err != nil {
		t.Skipf("skipped: no small file system can be mounted here (that takes root): %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "--lazy", dir).Run() })
	return dir
}
