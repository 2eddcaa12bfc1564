package server

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// behindProxy is the database's address by way of a proxy that a test can take away.
func (s *site) behindProxy(t *testing.T) (databaseURL string, p *pgfault.Proxy) {
	t.Helper()
	u, err := url.Parse(s.pg.URL)
	must(t, err)
	q := u.Query()
	p, err = pgfault.Listen(q.Get("host"))
	must(t, err)
	t.Cleanup(func() { p.Close() })
	q.Set("host", p.Dir())
	u.RawQuery = q.Encode()
	return u.String(), p
}

// shiftable has the servers that start from now on see a clock of the database that the test can put wrong.
func (s *site) shiftable(t *testing.T) (shift func(by string)) {
	t.Helper()
	exec := func(sql string) {
		t.Helper()
		_, err := s.admin.Exec(t.Context(), sql)
		must(t, err)
	}
	exec(`CREATE SCHEMA shifted; CREATE TABLE shifted.by (by interval); INSERT INTO shifted.by VALUES ('0');
		CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + by FROM shifted.by';
		GRANT USAGE ON SCHEMA shifted TO avouch_server; GRANT SELECT ON shifted.by TO avouch_server;
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = shifted, pg_catalog', current_database()); END $$`)
	return func(by string) {
		t.Helper()
		exec(fmt.Sprintf("UPDATE shifted.by SET by = '%s'", by))
	}
}

// TestWrongClockEndsNothing: a server whose clock is not the database's destroys no key, of a deleted organisation or of one that was
// rotated, whatever its time says, and writes down no time from which either counts.
func TestWrongClockEndsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	shift := s.shiftable(t)
	h := &house{}
	h.live = s.start(t, development(&h.ahead), func(c *Config) { c.KeyRotation, c.OldKeysKept = 90, 35 })
	acme, ada := h.owner(t, "Acme")
	harbour := h.organisation(t, "Harbour")
	operator := tenantdb.System(harbour.id, "operator/ada")
	lives := func(what string, of tenantdb.TenantID, is bool) {
		t.Helper()
		_, err := os.Stat(filepath.Join(s.dir, "keystore", "tenants", of.String(), string(keyring.UseWrap), "1"))
		if (err == nil) != is {
			t.Errorf("%s: the key is there: %v", what, err)
		}
	}
	remove := func() reply {
		t.Helper()
		return ada.ask(t, "POST", "/api/v1/organisation/delete", object{"confirm": "Acme"})
	}
	ada.prove(t)
	for _, by := range []string{"40 days", "-40 days"} {
		shift(by)
		if r := remove(); r.status != http.StatusServiceUnavailable || !strings.Contains(r.text, "clock") {
			t.Errorf("%s: deleted at a time that is wrong: %d %s", by, r.status, r.text)
		}
		if _, err := h.Rotation.Begin(t.Context(), operator); !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: begun at a time that is wrong: %v", by, err)
		}
	}
	shift("0")
	remove().want(t, http.StatusOK)
	_, err := h.Rotation.Begin(t.Context(), operator)
	must(t, err)
	for _, d := range []time.Duration{0, 3 * time.Minute, 62 * time.Minute} {
		h.later(d)
		must(t, h.Rotation.Tick(t.Context()))
	}
	h.later(40 * 24 * time.Hour)
	for _, by := range []string{"40 days", "-40 days", "-2 seconds"} {
		shift(by)
		must(t, h.shred(t.Context()))
		if err := h.Rotation.Tick(t.Context()); !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: %v", by, err)
		}
		if _, did, err := h.Rotation.Work(t.Context(), operator, nil); did || !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: %t, %v", by, did, err)
		}
		lives(by, acme.id, true)
		lives(by, harbour.id, true)
	}
	shift("0")
	must(t, h.shred(t.Context()))
	must(t, h.Rotation.Tick(t.Context()))
	lives("in the end", acme.id, false)
	lives("in the end", harbour.id, false)
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := func(sql string) {
		t.Helper()
		_, err := s.admin.Exec(t.Context(), sql)
		must(t, err)
	}
	shift := s.shiftable(t)
	through, proxy := s.behindProxy(t)
	n := s.start(t, func(c *Config) { c.DatabaseURL = through })
	ready := func() answer { t.Helper(); return n.get(t, "/readyz", "") }
	refused := func(what, says string) {
		t.Helper()
		if a := ready(); a.Status != http.StatusServiceUnavailable || a.kind() != "unavailable" || !strings.Contains(a.text("detail"), says) {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
		if a := n.get(t, "/healthz", ""); a.Status != http.StatusOK {
			t.Errorf("%s: the process is said to be dead: %d %s", what, a.Status, a.Raw)
		}
	}
	if a := ready().want(t, http.StatusOK); strings.TrimSpace(a.Raw) != "ready" {
		t.Errorf("ready says %q", a.Raw)
	}
	for by, ok := range map[string]bool{"100 milliseconds": true, "-100 milliseconds": true, "2 seconds": false, "-2 seconds": false, "1 day": false} {
		shift(by)
		if ok {
			ready().want(t, http.StatusOK)
		} else {
			refused("a clock wrong by "+by, "clock")
		}
	}
	shift("0")
	ready().want(t, http.StatusOK)
	for month := 1; month <= 3; month++ {
		exec("DROP TABLE avouch.audit_entry_" + monthAfter(time.Now(), month))
	}
	refused("no month ahead", "partition")
	must(t, n.DB.EnsurePartitions(t.Context()))
	ready().want(t, http.StatusOK)
	n.health.stopping.Store(true)
	refused("stopping", "stopping")
	n.health.stopping.Store(false)
	ready().want(t, http.StatusOK)
	must(t, proxy.Close())
	refused("no database", "database")
	if a := ready(); strings.Contains(a.Raw, "avouch_server") || strings.Contains(a.Raw, proxy.Dir()) {
		t.Errorf("strangers are told of the inside: %s", a.Raw)
	}
}

func monthAfter(now time.Time, months int) string {
	now = now.UTC()
	return time.Date(now.Year(), now.Month()+time.Month(months), 1, 0, 0, 0, 0, time.UTC).Format("2006_01")
}

// While it stops, a server says so to those who still ask over an open connection.
func TestNotReadyWhileStopping(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	n.get(t, "/readyz", "").want(t, http.StatusOK)
	n.stop()
	if !n.health.stopping.Load() {
		t.Error("a server that was stopped calls itself ready")
	}
}

// The metrics are for the machine's own collector: without a name of an organisation, and to nobody outside.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	acme := n.organisation(t, "Acme")
	n.get(t, "/api/v1/organisation", acme.key).want(t, http.StatusOK)
	n.get(t, "/api/v1/keys/nobodyskey0", acme.key).want(t, http.StatusNotFound)
	a := n.get(t, "/metrics", "").want(t, http.StatusOK)
	for _, want := range []string{
		`avouch_http_requests_total{class="2xx",method="GET",operation="get-organisation"} 1`,
		`avouch_http_requests_total{class="4xx",method="GET",operation="get-key"} 1`,
		"avouch_http_request_duration_seconds_bucket", "avouch_log_entries_total", "avouch_log_commit_seconds_count", "go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(a.Raw, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, never := range []string{"tenant", acme.id.String(), "Acme", "nobodyskey0", acme.key} {
		if strings.Contains(a.Raw, never) {
			t.Errorf("the metrics hold %q", never)
		}
	}
	outside := n.call(t, ask{Method: "GET", Path: "/metrics", Header: map[string]string{"X-Forwarded-For": "192.0.2.7"}}).want(t, http.StatusNotFound)
	if outside.kind() != "missing" || strings.Contains(outside.Raw, "avouch_") {
		t.Errorf("to the outside: %s", outside.Raw)
	}
}

func TestMetricsListener(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, func(c *Config) { c.MetricsListen, c.PprofListen = "127.0.0.1:0", "127.0.0.1:0" })
	n.get(t, "/metrics", "").want(t, http.StatusNotFound)
	get := func(i int, path string, want int) {
		t.Helper()
		r, err := n.client.Get("http://" + n.beside[i].Addr + path)
		must(t, err)
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s is %d", path, r.StatusCode)
		}
	}
	get(0, "/debug/pprof/goroutine?debug=1", http.StatusOK)
	get(0, "/metrics", http.StatusNotFound)
	get(1, "/metrics", http.StatusOK)
	get(1, "/debug/pprof/", http.StatusNotFound)
	get(1, "/api/v1/organisation", http.StatusNotFound)
	n.stop()
	if _, err := n.client.Get("http://" + n.beside[1].Addr + "/metrics"); err == nil {
		t.Error("the listener outlives its server")
	}
}
