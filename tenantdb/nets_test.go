package tenantdb

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/pgtest"
)

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// exceptions are the tables that lack a net on purpose, each with its reason. Nothing else may.
var exceptions = map[string]string{
	"attempt: changes need no entry":                                 "a sign-in under way: how it ends has the entry",
	"attempt: policy lookup lets others than the tenant in":          "lookup_attempt: whose sign-in is going on, before the tenant is known",
	"break_glass: policy lookup lets others than the tenant in":      "lookup_break_glass: whose request an external system answers",
	"connection: policy lookup lets others than the tenant in":       "lookup_connection: whose provider answers, before the tenant is known",
	"device: changes need no entry":                                  "a device from which somebody signed in: the sign-in has the entry",
	"domain: policy lookup lets others than the tenant in":           "lookup_domain: whose provider people of a domain sign in with",
	"factor: policy lookup lets others than the tenant in":           "lookup_passkey: whose passkey it is that signs in without a name",
	"key_rotation: changes need no entry":                            "how far a rotation is: what it does has entries",
	"link: policy lookup lets others than the tenant in":             "lookup_link: whose link was mailed, before the tenant is known",
	"person: policy lookup lets others than the tenant in":           "lookup_people: whose e-mail address it is, before the tenant is known",
	"session: policy lookup lets others than the tenant in":          "lookup_session: whose session it is, before the tenant is known",
	"session_use: changes need no entry":                             "when a session was used last, for its idle time",
	"spent: changes need no entry":                                   "a value that counts once: what it was spent on has the entry",
	"vault_fetch: changes need no entry":                             "which code a fetch got, for its retries: the fetch has the entry",
	"agent: policy lookup lets others than the tenant in":            "lookup_agent: whose agent a DID names, before the tenant is known",
	"api_key_use: changes need no entry":                             "when a key was used last: each use is in the log, or counted there",
	"api_key_verifier: policy lookup lets others than the tenant in": "lookup_key: whose key it is, before the tenant is known",
	"organisation: policy lookup lets others than the tenant in":     "lookup_tenants: work that goes over all tenants",
	"audit_head: changes need no entry":                              "the head moves with the entry: it is what require_entry compares with",
	"counter: changes need no entry":                                 "counters move in the statement that appends the entry of what they count",
	"idempotency: changes need no entry":                             "an answer kept for a retry: the operation it belongs to has the entry",
	"audit_head: policy append lets others than the tenant in":       "the log writer's role, which only avouch.append and its like run as",
	"counter: policy append lets others than the tenant in":          "the log writer's role, which only avouch.append and its like run as",
}

func isLogPartition(s string) bool {
	return strings.HasPrefix(s, "audit_entry") && strings.HasSuffix(s, ": policy append lets others than the tenant in")
}

func TestCatalogue(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	got, err := db.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, isLogPartition) // the parent, its months and the default: one exception
	var want []string
	for e := range exceptions {
		want = append(want, e)
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("catalogue differs from the list of exceptions (-want +got):\n%s", d)
	}
}

func TestCatalogueSeesForgottenTable(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	admin := connect(t, pg.AdminURL)
	for _, sql := range []string{
		`CREATE TABLE avouch.forgotten (tenant_id uuid PRIMARY KEY, key_id text UNIQUE, agent_id uuid)`,
		`CREATE TABLE avouch.elsewhere (id int PRIMARY KEY)`,
		`ALTER TABLE avouch.forgotten ADD COLUMN e int REFERENCES avouch.elsewhere`,
		`CREATE VIEW avouch.peephole AS SELECT tenant_id, name FROM avouch.organisation`,
		`ALTER TABLE avouch.agent NO FORCE ROW LEVEL SECURITY`,
		`ALTER TABLE avouch.scope DISABLE TRIGGER require_entry`,
		`CREATE TABLE avouch.audit_entry_2031_01 PARTITION OF avouch.audit_entry FOR VALUES FROM ('2031-01-01') TO ('2031-02-01')`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"forgotten: row-level security is not enabled", "forgotten: row-level security is not forced", "forgotten: has no policy on the tenant",
		"forgotten: changes need no entry", "forgotten: can be truncated", "forgotten: unique index avouch.forgotten_key_id_key does not carry the tenant",
		"forgotten: foreign key forgotten_e_fkey does not carry the tenant", "peephole: the view does not run as its caller",
		"agent: row-level security is not forced", "scope: changes need no entry",
		"audit_entry_2031_01: row-level security is not enabled", "audit_entry_2031_01: has no policy on the tenant", "audit_entry_2031_01: can be truncated",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("the catalogue does not say: %s", want)
		}
	}
}

func TestLogIsInsertOnly(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	c := newTenant(t, db, "A")
	for _, role := range []string{"", "SET LOCAL ROLE avouch_log; "} { // the role of the log's writer cannot be taken
		for _, sql := range []string{
			`INSERT INTO avouch.audit_entry SELECT * FROM avouch.audit_entry`, `UPDATE avouch.audit_head SET epoch = 1`, `UPDATE avouch.audit_head SET size = size - 1`,
			`UPDATE avouch.audit_entry SET body = '\x00'`, `DELETE FROM avouch.audit_entry`, `TRUNCATE avouch.audit_entry`, `TRUNCATE avouch.audit_entry_default`,
			`UPDATE avouch.audit_entry_default SET body = '\x00'`, `SELECT * FROM avouch.audit_entry_default`, `TRUNCATE avouch.audit_head CASCADE`, `DELETE FROM avouch.audit_head`,
			`ALTER TABLE avouch.audit_entry DISABLE TRIGGER insert_only`, `DROP TRIGGER insert_only ON avouch.audit_entry`, `DROP TABLE avouch.audit_entry`,
			`SET session_replication_role = replica`, `SET LOCAL session_replication_role = replica`, `SET ROLE avouch_owner`, `SET ROLE avouch_lookup`,
			`CREATE TABLE avouch.mine (x int)`, `CREATE FUNCTION avouch.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
			`UPDATE avouch.audit_head SET log_id = gen_random_uuid()`, `SELECT digest FROM avouch.api_key_verifier`,
		} {
			conn := connect(t, pg.URL)
			_, err := conn.Exec(t.Context(), "BEGIN; SET LOCAL avouch.tenant = '"+c.Tenant().String()+"'; "+role+sql+"; COMMIT")
			if err == nil {
				t.Errorf("%s%s succeeded", role, sql)
			}
		}
	}
	if len(logged(t, db, c)) != 1 {
		t.Error("the log has changed")
	}
	// Even a superuser meets the triggers, until it disables them: layer (c) is for that.
	admin := connect(t, pg.AdminURL)
	for _, sql := range []string{
		`UPDATE avouch.audit_entry SET body = '\x00'`, `DELETE FROM avouch.audit_entry`, `TRUNCATE avouch.audit_entry`,
		`SET session_replication_role = replica; DELETE FROM avouch.audit_entry`, `SET session_replication_role = replica; TRUNCATE avouch.organisation CASCADE`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "insert-only") && !strings.Contains(err.Error(), "cannot be truncated") {
			t.Errorf("superuser: %s: %v", sql, err)
		}
	}
}

func TestRefusesPowerfulRole(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, template)
	try := func(url string) error {
		db, err := Open(t.Context(), Config{URL: url, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			db.Close()
		}
		return err
	}
	if err := try(pg.URL); err != nil {
		t.Errorf("the server's own role: %v", err)
	}
	err := try(pg.AdminURL)
	if !errors.Is(err, ErrTooPowerful) || !strings.Contains(err.Error(), "superuser") || !strings.Contains(err.Error(), "avouch_server") {
		t.Errorf("superuser: %v", err)
	}
	admin := connect(t, pg.AdminURL)
	for grant, says := range map[string]string{
		"GRANT UPDATE ON avouch.audit_entry TO avouch_server":           "REVOKE UPDATE ON avouch.audit_entry FROM avouch_server",
		"GRANT TRUNCATE ON avouch.audit_entry_default TO avouch_server": "REVOKE TRUNCATE",
		"GRANT CREATE ON SCHEMA avouch TO avouch_server":                "REVOKE CREATE ON SCHEMA avouch",
		"GRANT INSERT ON avouch.audit_entry TO avouch_server":           "REVOKE INSERT ON avouch.audit_entry FROM avouch_server",
		"GRANT UPDATE (epoch) ON avouch.audit_head TO avouch_server":    "REVOKE UPDATE (epoch) ON avouch.audit_head FROM avouch_server",
	} {
		if _, err := admin.Exec(t.Context(), grant); err != nil {
			t.Fatal(err)
		}
		if err := try(pg.URL); !errors.Is(err, ErrTooPowerful) || !strings.Contains(err.Error(), says) {
			t.Errorf("after %s: %v", grant, err)
		}
		undo := strings.Replace(strings.Replace(grant, "GRANT", "REVOKE", 1), " TO ", " FROM ", 1)
		if _, err := admin.Exec(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusesEmptyDatabase(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, pgtest.Template{Name: "empty", Hash: "1", Build: func(context.Context, string) error { return nil }})
	_, err := Open(t.Context(), Config{URL: pg.URL, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "avouch migrate") {
		t.Errorf("Open of an empty database = %v", err)
	}
}

// A policy for a role holds for its members too, if they inherit: an administrator may have granted that.
func TestInheritingServerStillSeesOneTenant(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	a, _ := newTenant(t, db, "A"), newTenant(t, db, "B")
	admin := connect(t, pg.AdminURL)
	// A role of its own, because roles belong to the cluster that all tests share.
	role := "avouch_test_" + strings.ReplaceAll(a.Tenant().String(), "-", "")
	if _, err := admin.Exec(t.Context(), "CREATE ROLE "+role+" INHERIT; GRANT avouch_server, avouch_log, avouch_lookup TO "+role); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), pg.AdminURL)
		if err == nil {
			_, err = conn.Exec(context.Background(), "DROP ROLE "+role)
			conn.Close(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
	for _, table := range []string{"audit_head", "audit_entry", "counter", "organisation"} {
		var n int
		err := pgx.BeginFunc(t.Context(), admin, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+role); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), setCallerSQL, a.Tenant().String(), ""); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), `SELECT count(DISTINCT tenant_id) FROM avouch.`+table).Scan(&n)
		})
		if err != nil || n != 1 {
			t.Errorf("%s shows %d tenants, %v", table, n, err)
		}
	}
}

// The server may call the look-ups and cannot read what they read.
func TestLookupsAreNarrow(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	newTenant(t, db, "A")
	conn := connect(t, pg.URL)
	rows, err := conn.Query(t.Context(), `
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'avouch' AND p.prosecdef ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"avouch.append(bigint,uuid[],boolean[],integer[],integer[],bigint[],uuid[],uuid[],bytea[],bytea[],integer[],integer[],bigint[],integer[],text[],bigint[],bigint[],bigint[])",
		"avouch.append(bigint,uuid[],boolean[],integer[],integer[],bigint[],uuid[],uuid[],bytea[],bytea[],integer[],integer[],integer[],text[],integer[],bigint[])",
		"avouch.append(bigint,uuid[],boolean[],integer[],integer[],bigint[],uuid[],uuid[],bytea[],bytea[],uuid[],uuid[],integer[],integer[],bigint[],integer[],text[],bigint[],bigint[],bigint[])",
		"avouch.ensure_partitions()", "avouch.find_entries(uuid,bigint,uuid[])", "avouch.free_heads(uuid[])", "avouch.lock_heads(uuid[],boolean)", "avouch.lookup_agent(uuid)", "avouch.lookup_attempt(bytea)", "avouch.lookup_break_glass(uuid)",
		"avouch.lookup_connection(uuid)", "avouch.lookup_domain(text)", "avouch.lookup_key(text)", "avouch.lookup_link(bytea,text)", "avouch.lookup_passkey(bytea)",
		"avouch.lookup_people(text,integer)", "avouch.lookup_session(bytea)", "avouch.lookup_session_id(uuid)", "avouch.lookup_tenants(uuid,integer)",
		"avouch.move_epochs(uuid)",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("SECURITY DEFINER functions are not those of the threat model (-want +got):\n%s", d)
	}
	rows, err = conn.Query(t.Context(), `
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'avouch' AND (has_function_privilege('public', p.oid, 'EXECUTE')
  OR p.prosecdef AND NOT coalesce(array_to_string(p.proconfig, ',') LIKE 'search_path=pg_catalog, pg_temp%', false))`)
	if err != nil {
		t.Fatal(err)
	}
	if open, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(open) > 0 {
		t.Errorf("open to PUBLIC, or without a fixed search_path: %v, %v", open, err)
	}
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, template)
	if err := Migrate(t.Context(), pg.AdminURL); err != nil {
		t.Fatal(err)
	}
}
