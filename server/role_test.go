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
	must(t, i.do(acme.id, `IF (SELECT size FROM avouch.lock_heads(ARRAY['`+other.id.String()+`']::uuid[], false)) = 0 THEN RAISE 'it holds no head of another'; END IF;`))
	if got := texts("SELECT length(digest)::text FROM avouch.lookup_key('" + keyIDOf(acme.key) + "')"); got != "32" {
		t.Errorf("lookup_key: %s", got)
	}
	if got := texts("SELECT count(*)::text FROM avouch.lookup_tenants('00000000-0000-0000-0000-000000000000', 100)"); got != "3" {
		t.Errorf("lookup_tenants: %s", got)
	}
}

func keyIDOf(key string) string { return key[9:20] }

// attempts to get past the functions that write the log.
var attempts = map[string]string{
	"move a head":           `UPDATE avouch.audit_head SET size = size - 1 WHERE tenant_id = avouch.tenant();`,
	"put an epoch back":     `UPDATE avouch.audit_head SET epoch = 1 WHERE tenant_id = avouch.tenant();`,
	"begin a log elsewhere": `INSERT INTO avouch.audit_head (tenant_id, log_id, epoch, size) VALUES (avouch.tenant(), gen_random_uuid(), 1, 7);`,
	"write an entry": `INSERT INTO avouch.audit_entry (tenant_id, seq, entry_id, request_id, body, leaf, prev)
		SELECT tenant_id, seq + 1, gen_random_uuid(), request_id, body, leaf, prev FROM avouch.audit_entry ORDER BY seq DESC LIMIT 1;`,
	"reset a counter":  `UPDATE avouch.counter SET used = 0;`,
	"make a type":      `CREATE TYPE pg_temp.uuid AS ENUM ('a');`,
	"take the role":    `SET LOCAL ROLE avouch_log;`,
	"take the owner's": `SET LOCAL ROLE avouch_owner;`,
}

// appended calls the log's writer as the server does, with a body of one's own at the tenant's present epoch.
const appended = `PERFORM avouch.append(1, ARRAY[h.tenant_id], ARRAY[false], ARRAY[0], ARRAY[1], ARRAY[h.epoch %s], ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()],
	ARRAY[e.body], ARRAY['']::bytea[], '{}', '{}', '{}', '{}', '{}', '{}')
	FROM avouch.audit_head h JOIN avouch.audit_entry e ON e.tenant_id = h.tenant_id AND e.seq = h.size - 1 WHERE h.tenant_id = avouch.tenant();`

// A change of rows has an entry or is refused, also in SQL that no room wrote.
func TestServersRoleChangesNothingUnrecorded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	i := s.intruder(t)
	const change = `UPDATE avouch.organisation SET name = 'Taken'; `
	for name, first := range map[string]string{
		"alone": "", "holding the head": `PERFORM avouch.lock_heads(ARRAY[avouch.tenant()], true);`, "with a refused entry": fmt.Sprintf(appended, "+ 1"),
		"with an entry of another": `PERFORM set_config('avouch.tenant', '` + other.id.String() + `', true); ` + fmt.Sprintf(appended, "") +
			` PERFORM set_config('avouch.tenant', '` + acme.id.String() + `', true);`,
	} {
		if err := i.do(acme.id, first+change+`SET CONSTRAINTS ALL IMMEDIATE;`); err == nil || !strings.Contains(err.Error(), "without an audit entry") {
			t.Errorf("%s: a change without an entry: %v", name, err)
		}
	}
	moves := `UPDATE avouch.organisation SET name = set_config('avouch.tenant', '` + other.id.String() + `', true), tenant_id = '` + other.id.String() + `' WHERE tenant_id = '` + acme.id.String() + `';`
	if err := i.do(acme.id, moves+fmt.Sprintf(appended, "")+`SET CONSTRAINTS ALL IMMEDIATE;`); err == nil || !strings.Contains(err.Error(), "cannot change tenants") && !strings.Contains(err.Error(), "duplicate key") {
		t.Errorf("a row moved to another tenant: %v", err)
	}
	scope := `INSERT INTO avouch.scope (tenant_id, name, description, risk, created_at) VALUES (avouch.tenant(), 'a:b', '', 'low', now());` + fmt.Sprintf(appended, "")
	must(t, i.do(acme.id, scope))
	moves = `UPDATE avouch.scope SET description = set_config('avouch.tenant', '` + other.id.String() + `', true), tenant_id = '` + other.id.String() + `';`
	if err := i.do(acme.id, moves+fmt.Sprintf(appended, "")+`SET CONSTRAINTS ALL IMMEDIATE;`); err == nil || !strings.Contains(err.Error(), "cannot change tenants") {
		t.Errorf("a scope moved to another tenant: %v", err)
	}
	must(t, i.do(acme.id, fmt.Sprintf(appended, "")+change))
	if got := n.get(t, "/api/v1/organisation", acme.key).text("name"); got != "Taken" {
		t.Errorf("a change with an entry: it is called %s", got)
	}
}

// What it appends is in its place, and nothing else is possible: no fork, no gap, no way back.
func TestServersRoleCannotForkALog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	i := s.intruder(t)
	for name, sql := range attempts {
		if err := i.do(acme.id, sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Arrays that begin elsewhere than at 1 must not let the numbers of one log reach another.
	must(t, i.do(acme.id, `PERFORM avouch.append(1, ARRAY[a.tenant_id, b.tenant_id], ARRAY[false, false], ARRAY[0, 1], '[0:2]={2,1,1}'::int[], ARRAY[a.epoch, a.epoch],
		ARRAY[gen_random_uuid(), gen_random_uuid()], ARRAY[gen_random_uuid(), gen_random_uuid()], ARRAY['\x01', '\x02']::bytea[], ARRAY['', '']::bytea[], '{}', '{}', '{}', '{}', '{}', '{}')
		FROM avouch.lock_heads(ARRAY['`+acme.id.String()+`', '`+other.id.String()+`']::uuid[], false) a, avouch.lock_heads(ARRAY['`+other.id.String()+`']::uuid[], false) b
		WHERE a.tenant_id <> b.tenant_id;`))
	for _, o := range []tenantdb.TenantID{acme.id, other.id} {
		must(t, i.do(o, `IF EXISTS (SELECT FROM avouch.audit_head h WHERE h.size <> (SELECT count(*) FROM avouch.audit_entry)
			OR h.size <> (SELECT max(seq) + 1 FROM avouch.audit_entry)) THEN RAISE 'the log has a gap, or an entry too many'; END IF;`))
	}
	must(t, i.do(acme.id, fmt.Sprintf(appended, "")))
	if found := n.faults(t, acme.id); found == 0 {
		t.Error("an entry that says twice what happened once is not found")
	}
}
