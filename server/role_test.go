package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/e2e"
)

// intruder runs SQL of its own as the server's role: an injection, or a taken server without its keys.
type intruder struct {
	*e2e.Database
	t testing.TB
}

func (s *site) intruder(t testing.TB) intruder {
	t.Helper()
	db, err := e2e.Connect(t.Context(), s.pg.URL)
	must(t, err)
	t.Cleanup(db.Close)
	return intruder{db, t}
}

// do runs statements in one transaction, bound to a tenant. The id is one of ours, so it may stand in the text.
func (i intruder) do(tenant tenantdb.TenantID, sql string) error {
	_, err := i.Exec(i.t.Context(), fmt.Sprintf(`DO $do$ BEGIN PERFORM set_config('avouch.tenant', '%s', true); %s END $do$`, tenant, sql))
	return err
}

func (n *live) faults(t testing.TB, tenant tenantdb.TenantID) int {
	t.Helper()
	must(t, n.Trail.Pass(t.Context()))
	open, err := n.Incident.Open(t.Context(), tenantdb.System(tenant, "test"))
	must(t, err)
	return len(open)
}

// docs/threat-model.md says what row-level security does not stop. This holds each sentence of it, so that the page neither
// promises more than there is nor leaves out what an operator must know.
func TestWhatTheServersRoleCanDo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	i := s.intruder(t)
	texts := func(sql string) string {
		t.Helper()
		found, err := i.Texts(t.Context(), sql)
		if err != nil {
			return err.Error()
		}
		return strings.Join(found, " ")
	}
	if got := texts("SELECT name FROM avouch.organisation"); got != "" {
		t.Errorf("without a tenant: %s", got)
	}
	must(t, i.do(acme.id, `IF (SELECT count(*) FROM avouch.organisation WHERE name = 'Acme') <> 1 THEN RAISE 'it sees nothing'; END IF;`))
	must(t, i.do(other.id, `IF (SELECT count(*) FROM avouch.organisation WHERE name = 'Other') <> 1 THEN RAISE 'it sees nothing'; END IF;`))
	must(t, i.do(acme.id, `SET LOCAL ROLE avouch_log; IF (SELECT count(*) FROM avouch.audit_head) <> 3 THEN RAISE 'it sees one head'; END IF;`))
	must(t, i.do(acme.id, `SET LOCAL ROLE avouch_log; IF (SELECT count(DISTINCT tenant_id) FROM avouch.audit_entry) <> 3 THEN RAISE 'it sees one log'; END IF;
		UPDATE avouch.counter SET used = used + 1 WHERE tenant_id <> avouch.tenant(); IF NOT FOUND THEN RAISE 'it moves no counter of another'; END IF;`))
	if err := i.do(acme.id, `SET LOCAL ROLE avouch_log; PERFORM body FROM avouch.audit_entry;`); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the log's role reads entries: %v", err)
	}
	if got := texts("SELECT length(digest)::text FROM avouch.lookup_key('" + keyIDOf(acme.key) + "')"); got != "32" {
		t.Errorf("lookup_key: %s", got)
	}
	if got := texts("SELECT count(*)::text FROM avouch.lookup_tenants('00000000-0000-0000-0000-000000000000', 100)"); got != "3" {
		t.Errorf("lookup_tenants: %s", got)
	}
}

func keyIDOf(key string) string { return key[9:20] }

// Its rights on a head let it change a tenant's rows without an entry: the trigger believes what the head says. The log is
// whole all the same, so nothing finds it.
func TestServersRoleHidesAChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	i := s.intruder(t)
	if err := i.do(acme.id, `UPDATE avouch.organisation SET name = 'Taken'; SET CONSTRAINTS ALL IMMEDIATE;`); err == nil || !strings.Contains(err.Error(), "without an audit entry") {
		t.Errorf("a change without an entry: %v", err)
	}
	must(t, i.do(acme.id, `UPDATE avouch.audit_head SET entry_xid = pg_current_xact_id() WHERE tenant_id = avouch.tenant(); UPDATE avouch.organisation SET name = 'Taken';`))
	if got := n.get(t, "/api/v1/organisation", acme.key).text("name"); got != "Taken" {
		t.Errorf("it is called %s", got)
	}
	if found := n.faults(t, acme.id); found != 0 {
		t.Errorf("%d incidents: the threat model says that there are none", found)
	}
}

// Its rights on a head let it fork a log: set it back, and put another entry in the place of the last. The last one cannot
// be taken away, so two have one number, and that is found.
func TestForkedLogIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	for range 3 {
		n.newKey(t, acme, nil)
	}
	if found := n.faults(t, acme.id); found != 0 {
		t.Fatalf("%d incidents in a sound log", found)
	}
	must(t, s.intruder(t).do(acme.id, `
		UPDATE avouch.audit_head h SET size = size - 1, chain = e.prev FROM avouch.audit_entry e WHERE h.tenant_id = avouch.tenant() AND e.tenant_id = h.tenant_id AND e.seq = h.size - 1;
		INSERT INTO avouch.audit_entry (tenant_id, seq, written_at, entry_id, request_id, body, leaf, prev)
			SELECT e.tenant_id, h.size, now(), gen_random_uuid(), gen_random_uuid(), e.body, e.leaf, h.chain
			FROM avouch.audit_head h JOIN avouch.audit_entry e ON e.tenant_id = h.tenant_id AND e.seq = h.size - 1 WHERE h.tenant_id = avouch.tenant();
		UPDATE avouch.audit_head h SET size = size + 1, chain = avouch.link_step(h.chain, h.chain, e.leaf)
			FROM avouch.audit_entry e WHERE h.tenant_id = avouch.tenant() AND e.tenant_id = h.tenant_id AND e.seq = h.size AND e.written_at = now();`))
	if found := n.faults(t, acme.id); found == 0 {
		t.Error("the fork is not found")
	}
	if found := n.faults(t, other.id); found != 0 {
		t.Errorf("%d incidents of another organisation", found)
	}
}
