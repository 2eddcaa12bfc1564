package verify

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// holdEntries keeps everybody from reading entries until release is called.
func (h *house) holdEntries(t *testing.T) (release func()) {
	t.Helper()
	h.Admin(t, `CREATE TABLE public.held (let_go boolean)`)
	var held sync.WaitGroup
	held.Go(func() {
		h.Admin(t, `DO $$ BEGIN
  LOCK TABLE avouch.audit_entry IN ACCESS EXCLUSIVE MODE;
  FOR i IN 1..1000 LOOP EXIT WHEN EXISTS (SELECT FROM public.held); PERFORM pg_sleep(0.02); END LOOP;
END $$`)
	})
	// Tables of databases cloned from one template have the same OID.
	h.wait(t, "1", `SELECT count(DISTINCT pid)::text FROM pg_locks JOIN pg_database d ON d.oid = database AND d.datname = current_database()
		WHERE relation = 'avouch.audit_entry'::regclass AND mode = 'AccessExclusiveLock' AND granted`)
	return func() {
		h.Admin(t, `INSERT INTO public.held VALUES (true)`)
		held.Wait()
	}
}

const waitingSQL = `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`

func (h *house) wait(t *testing.T, want, sql string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = h.Text(t, sql); got == want {
			return
		}
	}
	t.Fatalf("%s, and not %s: %s", got, want, sql)
}

// together asks for pages at once; collect waits for what they say.
func (h *house) together(t *testing.T, paths ...string) (collect func() []string) {
	said := make([]string, len(paths))
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			w := h.page(t, path)
			said[i] = fmt.Sprint(w.Code, w.Body.String())
		})
	}
	return func() []string { all.Wait(); return said }
}

func pageOf(c tenantdb.Caller) string { return "/verified?service=" + c.Tenant().String() }

// TestPageIsRemembered: for 30 seconds, and not beyond a new name, a switched-off badge or a revoked key.
func TestPageIsRemembered(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	h.expect(t, Request{Token: token}, Allowed, itIs)
	h.shows(t, h.service, true)
	page := func() string { return h.page(t, pageOf(h.service)).Body.String() }
	first := page()
	h.clock.forward(viewFor - time.Second)
	if h.expect(t, Request{Token: token}, Allowed, itIs); page() != first {
		t.Error("made anew within the time")
	}
	h.clock.forward(time.Second)
	second := page()
	if second == first {
		t.Error("remembered for longer")
	}
	h.shows(t, h.service, false)
	if off := page(); off != h.page(t, "/verified?service="+tenantdb.NewTenantID().String()).Body.String() {
		t.Errorf("remembered, though switched off: %s", off)
	}
	h.shows(t, h.service, true)
	h.set(t, h.service, `UPDATE avouch.organisation SET name = 'Port Data' WHERE tenant_id = $1`, h.service.Tenant())
	third := page()
	if stated(t, third) == nil || stated(t, third).Text == stated(t, second).Text {
		t.Errorf("remembered under the old name: %s", third)
	}
	must(t, h.signing.Revoke(t.Context(), keyring.NewSigningTable(h.DB, tenantdb.System(tenantdb.Platform, "operator")), stated(t, third).KID))
	if fourth := stated(t, page()); fourth == nil || fourth.KID == stated(t, third).KID {
		t.Error("a revoked key's statement is still shown")
	}
}

// TestPageIsMadeOnceForAll: who waits for a service's page shares it. Meanwhile others are told at once that there is
// nothing to see, whether there is no such service or it does not show itself.
func TestPageIsMadeOnceForAll(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	h.expect(t, Request{Token: token}, Allowed, itIs)
	h.shows(t, h.service, true)
	h.front.limit = time.Minute
	release := h.holdEntries(t)
	path := pageOf(h.service)
	collect := h.together(t, path, path, path, path, path, path, path, path)
	h.wait(t, "1", waitingSQL)
	hidden, missing := h.page(t, pageOf(h.owner)), h.page(t, "/verified?service="+tenantdb.NewTenantID().String())
	if hidden.Code != http.StatusOK || hidden.Body.String() != missing.Body.String() {
		t.Errorf("hidden: %d %s\nmissing: %d %s", hidden.Code, hidden.Body, missing.Code, missing.Body)
	}
	time.Sleep(200 * time.Millisecond)
	if n := h.Text(t, waitingSQL); n != "1" {
		t.Errorf("%s read the entries of one service", n)
	}
	release()
	said := collect()
	for _, s := range said {
		if s != said[0] || stated(t, s) == nil {
			t.Errorf("one says %s\nand another %s", said[0], s)
		}
	}
}

// TestFewPagesAreMadeAtOnce: of many services', two; the others wait their turn.
func TestFewPagesAreMadeAtOnce(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.front.limit = time.Minute
	var paths []string
	for i := range 3 * mostMaking {
		c := h.Caller(h.organisation(t, fmt.Sprint("Service ", i)), tenantdb.Everything)
		h.shows(t, c, true)
		paths = append(paths, pageOf(c))
	}
	release := h.holdEntries(t)
	collect := h.together(t, paths...)
	h.wait(t, fmt.Sprint(mostMaking), waitingSQL)
	time.Sleep(200 * time.Millisecond)
	if n := h.Text(t, waitingSQL); n != fmt.Sprint(mostMaking) {
		t.Errorf("%s pages were made at once", n)
	}
	release()
	for i, s := range collect() {
		if s[:3] != "200" {
			t.Errorf("%s: %s", paths[i], s)
		}
	}
}

// TestPageGivesUp: what takes too long is a 503, and leaves no place taken.
func TestPageGivesUp(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.shows(t, h.service, true)
	h.front.limit = 300 * time.Millisecond
	release := h.holdEntries(t)
	for range mostMaking + 1 {
		began := time.Now() // the database itself gives up waiting for a lock after five seconds
		if w := h.page(t, pageOf(h.service)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || time.Since(began) > 4*time.Second {
			t.Errorf("while nothing can be read: %d %s after %v", w.Code, w.Body, time.Since(began))
		}
	}
	release()
	h.front.limit = time.Minute
	if w := h.page(t, pageOf(h.service)); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
	for range mostAsking {
		h.front.asking <- struct{}{}
	}
	h.front.limit = 50 * time.Millisecond
	for name, path := range map[string]string{"a service": pageOf(h.service), "no service": "/verified?service=" + tenantdb.NewTenantID().String()} {
		if w := h.page(t, path); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s, when too many ask: %d", name, w.Code)
		}
	}
}

// TestFewPagesAreRemembered: room is made by what is too old, and only then by others.
func TestFewPagesAreRemembered(t *testing.T) {
	t.Parallel()
	now := time.Now()
	f := newFront(func() time.Time { return now }, func(string) error { return nil })
	for range mostViews + 10 {
		f.keep(tenantdb.NewTenantID(), view{made: now})
	}
	if len(f.views) != mostViews {
		t.Errorf("%d are remembered", len(f.views))
	}
	now = now.Add(viewFor)
	last := tenantdb.NewTenantID()
	f.keep(last, view{made: now})
	if _, ok := f.remembered(last, badge{}); !ok || len(f.views) != 1 {
		t.Errorf("after their time %d are remembered, the new one: %v", len(f.views), ok)
	}
}
