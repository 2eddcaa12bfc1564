package agent

import (
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// openDurable is open on a cluster that syncs to disk, which the tests' shared one does not.
func openDurable(b *testing.B) *house {
	b.Helper()
	c := pgtest.Private(b, devpg.Config{})
	must(b, tenantdb.Migrate(b.Context(), c.URL(devpg.Superuser, "postgres")))
	platform, err := keyring.ParsePlatform([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	must(b, err)
	wrapper, err := platform.Wrapper(keyring.ForKeyStore)
	must(b, err)
	dir := filepath.Join(b.TempDir(), "keystore")
	must(b, keyring.CreateStore(b.Context(), dir, wrapper))
	h := &house{Door: &doortest.Door{Key: platform, Log: slog.New(slog.DiscardHandler)}, clock: newClock()}
	h.Ring, err = keyring.New(b.Context(), keyring.Config{Dir: dir, Platform: platform})
	must(b, err)
	h.DB, err = tenantdb.Open(b.Context(), tenantdb.Config{URL: c.URL("avouch_server", "postgres"), Sealer: h.Ring, Log: h.Log})
	must(b, err)
	b.Cleanup(h.DB.Close)
	h.begin(b)
	return h
}

// BenchmarkIssue issues tokens for 64 callers at a time, each recorded and committed before it is handed out.
func BenchmarkIssue(b *testing.B) {
	for name, agents := range map[string]int{"agents=1": 1, "agents=100": 100} {
		b.Run(name, func(b *testing.B) { benchmarkIssue(b, agents, Wish{Lifetime: MinLifetime}) })
	}
	b.Run("bound", func(b *testing.B) {
		benchmarkIssue(b, 100, Wish{Lifetime: MinLifetime, Resources: []string{"https://a.example"}, MaxUses: 5})
	})
}

func benchmarkIssue(b *testing.B, agents int, w Wish) {
	const callers = 64
	h := openDurable(b)
	h.room.now = time.Now
	h.set(b, `UPDATE avouch.organisation SET live_tokens = $1`, 1_000_000_000)
	ids := make([]ID, agents)
	for i := range ids {
		a, _ := h.register(b, "read:email")
		ids[i] = a.ID
	}
	var next atomic.Int64
	b.ResetTimer()
	start := time.Now()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if _, err := h.room.Issue(b.Context(), h.owner, ids[int(i)%agents], w); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "tokens/s")
}
