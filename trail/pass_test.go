package trail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (s *scene) opened(t testing.TB, tenant tenantdb.TenantID) []incident.Incident {
	t.Helper()
	all, err := s.incidents.Open(t.Context(), tenantdb.System(tenant, "test"))
	must(t, err)
	return all
}

// TestPassFindsTampering alters entries that the pass has found good already: what is read again shows it, once.
func TestPassFindsTampering(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 50)
	s.fill(t, s.other, 50)
	must(t, s.room.Pass(t.Context()))
	if n := len(s.opened(t, tenantdb.Platform)); n != 0 {
		t.Fatalf("%d incidents in sound logs", n)
	}
	s.tamper(t, tampering{sql: []string{flip("leaf", 30)}}, s.acme)
	for range 4 {
		must(t, s.room.Pass(t.Context()))
	}
	s.incident(t, tampering{bad: 30}, s.acme)
	if n := len(s.opened(t, s.other)); n != 0 {
		t.Errorf("%d incidents in the other log", n)
	}
	if n := len(s.OfType(t, s.acme, "incident.opened")) + len(s.OfType(t, tenantdb.Platform, "incident.opened")); n != 2 {
		t.Errorf("%d entries say that an incident was opened", n)
	}
	must(t, s.incidents.Resolve(t.Context(), tenantdb.System(s.acme, "test"), s.opened(t, s.acme)[0].ID))
	for range 2 {
		must(t, s.room.Pass(t.Context()))
	}
	if n := len(s.opened(t, s.acme)); n != 1 {
		t.Errorf("what was resolved and not mended is open %d times", n)
	}
}

// TestPassSeesRollback takes back the end of a log that the pass has seen, so that what is left agrees with itself.
func TestPassSeesRollback(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 20)
	must(t, s.room.Pass(t.Context()))
	back := []string{
		"UPDATE avouch.audit_head SET size = 12, chain = (SELECT prev FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 12) WHERE tenant_id = $1",
		"DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= 12",
	}
	s.tamper(t, tampering{sql: back}, s.acme)
	if door, _ := s.check(t, s.Ring, s.acme); !door.OK() {
		t.Fatalf("the log that is left does not agree with itself: %v", door.Fault)
	}
	must(t, s.room.Pass(t.Context()))
	s.incident(t, tampering{bad: 12}, s.acme)
}

// TestPassGoesOnWhereItLeft gives the pass slices smaller than the logs: it gets through all of them, again and again.
func TestPassGoesOnWhereItLeft(t *testing.T) {
	t.Parallel()
	s := enter(t, func(c *Config) { c.Pass = PassLimits{Slice: 40, Again: 40, Rows: 1_000_000} })
	s.fill(t, s.acme, 150)
	s.fill(t, s.other, 90)
	for range 4 {
		must(t, s.room.Pass(t.Context()))
	}
	for tenant, want := range map[tenantdb.TenantID]int64{s.acme: 151, s.other: 91} {
		if got := s.room.pass.marks[tenant].size; got != want {
			t.Errorf("%d entries were found good, want %d", got, want)
		}
	}
	s.tamper(t, tampering{sql: []string{flip("leaf", 149)}}, s.acme)
	s.tamper(t, tampering{sql: []string{flip("leaf", 3)}}, s.other)
	for range 10 { // 243 entries in all, 40 at a time
		must(t, s.room.Pass(t.Context()))
	}
	if a, o := s.opened(t, s.acme), s.opened(t, s.other); len(a) != 1 || len(o) != 1 {
		t.Errorf("incidents: %+v, %+v", a, o)
	}
}

// TestPassIsThrottled bounds the rows a second.
func TestPassIsThrottled(t *testing.T) {
	t.Parallel()
	s := enter(t, func(c *Config) { c.Pass = PassLimits{Rows: 1000, Again: 2000} })
	s.fill(t, s.acme, 1500)
	start := time.Now()
	must(t, s.room.Pass(t.Context())) // 1,502 rows, and 1,502 again, of which the first 500 cost nothing
	if took := time.Since(start); took < 1500*time.Millisecond {
		t.Errorf("3,000 rows at 1,000 a second took %v", took)
	}
}

// TestPassBesideAppends runs the pass, the check and the export while entries are appended from two servers: nothing looks
// like a fault.
func TestPassBesideAppends(t *testing.T) {
	t.Parallel()
	s := enter(t, func(c *Config) { c.Pass = PassLimits{Rows: 100_000, Again: 100_000} })
	second := s.Another(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, db := range []*tenantdb.DB{s.DB, second.DB} {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := db.Record(ctx, s.Caller(s.acme), audit.Event{Type: "test.happened", Private: []audit.Field{{Name: "who", Value: "Ada"}}})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		must(t, s.room.Pass(t.Context()))
		if door, admin := s.check(t, s.Ring, s.acme); !door.OK() || !admin.OK() {
			t.Errorf("%v, %v", door.Fault, admin.Fault)
		}
	}
	stop()
	wg.Wait()
	must(t, s.room.Pass(t.Context()))
	if open := s.opened(t, tenantdb.Platform); len(open) != 0 {
		t.Errorf("false alarms: %+v", open)
	}
	if size := s.size(t, s.acme); size < 200 {
		t.Errorf("only %d entries were appended beside it", size)
	}
}

// TestPassHoldsNoSnapshot looks, while a throttled pass is under way, for transactions that stand open.
func TestPassHoldsNoSnapshot(t *testing.T) {
	t.Parallel()
	s := enter(t, func(c *Config) { c.Pass = PassLimits{Rows: 1000, Again: 2000} })
	s.fill(t, s.acme, 1200)
	done := make(chan error, 1)
	go func() { done <- s.room.Pass(t.Context()) }()
	seen := 0
	for {
		select {
		case err := <-done:
			must(t, err)
			if seen == 0 {
				t.Error("the pass was over before anybody looked")
			}
			return
		case <-time.After(100 * time.Millisecond):
			seen++
			old := s.Text(t, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
				AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '1 second'`)
			if old != "0" {
				t.Errorf("%s transactions are older than a second", old)
			}
		}
	}
}

// TestWatch lets the pass run by itself.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := enter(t, func(c *Config) { c.Pass = PassLimits{Every: 20 * time.Millisecond} })
	s.fill(t, s.acme, 20)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.room.Watch(ctx) })
	s.tamper(t, tampering{sql: []string{flip("prev", 9)}}, s.acme)
	for deadline := time.Now().Add(20 * time.Second); len(s.opened(t, s.acme)) == 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	wg.Wait()
	s.incident(t, tampering{bad: 9}, s.acme)
}

func TestOrderOfTenants(t *testing.T) {
	t.Parallel()
	a, b := tenantdb.TenantID{15: 1}, tenantdb.TenantID{14: 1}
	for from, want := range map[tenantdb.TenantID]tenantdb.TenantID{{}: a, a: a, following(a): b, b: b, following(b): a} {
		if got, ok := atOrAfter([]tenantdb.TenantID{a, b}, from); !ok || got != want {
			t.Errorf("at or after %s: %s", from, got)
		}
	}
	if _, ok := atOrAfter(nil, a); ok {
		t.Error("there is a tenant in an empty list")
	}
	if got := following(tenantdb.TenantID{14: 3, 15: 255}); got != (tenantdb.TenantID{14: 4}) {
		t.Errorf("following: %s", got)
	}
}

// forgetful is what a server has that was not given the newest of what wraps the keys.
type forgetful struct {
	tenantdb.Sealer
	forgotten atomic.Bool
}

func (f *forgetful) OpenFields(ctx context.Context, tenant tenantdb.TenantID, subject audit.SubjectID, sealed, aad []byte) ([]byte, error) {
	if f.forgotten.Load() {
		return nil, fmt.Errorf("test: %w", keyring.ErrNotGiven)
	}
	return f.Sealer.OpenFields(ctx, tenant, subject, sealed, aad)
}

// TestPassWithoutTheKeys: a pass that cannot open private fields calls nothing altered and takes nothing for good: a later one that can
// finds what was altered.
func TestPassWithoutTheKeys(t *testing.T) {
	t.Parallel()
	var keys forgetful
	s := enter(t, func(c *Config) { keys.Sealer, c.Sealer = c.Sealer, &keys })
	s.fill(t, s.acme, 10)
	s.tamper(t, tampering{sql: []string{"UPDATE avouch.audit_entry SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) WHERE tenant_id = $1 AND sealed IS NOT NULL"}}, s.acme)
	keys.forgotten.Store(true)
	for range 4 { // each would go on behind the entry where the one before ended
		if err := s.room.Pass(t.Context()); !errors.Is(err, keyring.ErrNotGiven) {
			t.Errorf("a pass without the keys: %v", err)
		}
	}
	if n := len(s.opened(t, tenantdb.Platform)); n != 0 {
		t.Errorf("%d incidents, though nothing could be looked at", n)
	}
	if m := s.room.pass.marks[s.acme]; m.size != 0 {
		t.Errorf("%d entries are taken for good", m.size)
	}
	keys.forgotten.Store(false)
	must(t, s.room.Pass(t.Context()))
	if n := len(s.opened(t, s.acme)); n != 1 {
		t.Errorf("%d incidents, though private fields were altered", n)
	}
}
