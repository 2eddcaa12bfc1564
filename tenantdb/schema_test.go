package tenantdb

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/pgtest"
)

var update = flag.Bool("update", false, "write migrations/schema.sql")

const schemaFile = "../migrations/schema.sql"

const schemaHead = `-- The whole schema, as the migrations make it: to read, and to see in a diff what a migration does. Nothing runs it.
-- Written by make schema, held by tenantdb.TestSchemaFile. The roles are in tenantdb/migrate.go; the log's months are left
-- out, and avouch.ensure_partitions makes them.
`

// statement is one of those that make a schema; part says what kind it is of.
type statement struct {
	Part int
	Text string
}

// statements are a database's schema: the same for the same migrations, on every release of PostgreSQL.
func statements(t testing.TB, tx pgx.Tx) []statement {
	t.Helper()
	query, err := os.ReadFile("testdata/dump.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SET LOCAL search_path = ''`); err != nil { // so that all names are whole
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), string(query))
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[statement])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func begun(t testing.TB, url string) pgx.Tx {
	t.Helper()
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// dump is the statements as a text that can be run.
func dump(t testing.TB, tx pgx.Tx) string {
	t.Helper()
	var text strings.Builder
	text.WriteString(schemaHead)
	last := 0
	for _, s := range statements(t, tx) {
		if s.Part/10 != last/10 || strings.Contains(s.Text, "\n") {
			text.WriteString("\n")
		}
		last = s.Part
		text.WriteString(s.Text + ";\n")
	}
	return text.String()
}

// sameSchema compares two databases, whatever was made first in them.
func sameSchema(t testing.TB, what, wantURL, gotURL string) {
	t.Helper()
	var sides [2][]string
	for i, url := range []string{wantURL, gotURL} {
		for _, s := range statements(t, begun(t, url)) {
			sides[i] = append(sides[i], s.Text)
		}
		slices.Sort(sides[i])
	}
	if d := cmp.Diff(sides[0], sides[1]); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestSchemaFile(t *testing.T) {
	t.Parallel()
	got := dump(t, begun(t, pgtest.New(t, template).AdminURL))
	if *update {
		if err := os.WriteFile(schemaFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("the migrations make another schema than migrations/schema.sql says; run make schema (-file +migrations):\n%s", d)
	}
}

// The text says all there is to a schema if the schema can be made from it.
func TestSchemaFileMakesTheSchema(t *testing.T) {
	t.Parallel()
	text := dump(t, begun(t, pgtest.New(t, template).AdminURL))
	pg := pgtest.New(t, pgtest.Template{Name: "empty", Hash: "1", Build: func(context.Context, string) error { return nil }})
	admin := connect(t, pg.AdminURL)
	if _, err := admin.Exec(t.Context(), "SET check_function_bodies = off;\n"+text); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(text, "\n"), strings.Split(dump(t, begun(t, pg.AdminURL)), "\n")); d != "" {
		t.Errorf("what was made from the text is another schema (-text +made):\n%s", d)
	}
}

// Whatever a migration may change is in the text.
func TestSchemaTextSeesChanges(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, template)
	admin := connect(t, pg.AdminURL)
	before := dump(t, begun(t, pg.AdminURL))
	for _, sql := range []string{
		`CREATE TABLE avouch.another (tenant_id uuid)`, `ALTER TABLE avouch.agent ADD COLUMN more text`, `ALTER TABLE avouch.agent ALTER name DROP NOT NULL`,
		`ALTER TABLE avouch.agent ALTER description SET DEFAULT 'x'`, `ALTER TABLE avouch.agent ALTER name TYPE varchar(9)`, `ALTER TABLE avouch.agent ALTER name SET STORAGE PLAIN`,
		`ALTER TABLE avouch.agent ADD CHECK (generation > 0)`, `ALTER TABLE avouch.agent_key DROP CONSTRAINT agent_key_tenant_id_agent_id_fkey`,
		`CREATE INDEX ON avouch.agent (name)`, `DROP INDEX avouch.agent_by_id`, `ALTER TABLE avouch.agent SET (fillfactor = 50)`,
		`ALTER TABLE avouch.agent DISABLE ROW LEVEL SECURITY`, `ALTER TABLE avouch.agent NO FORCE ROW LEVEL SECURITY`, `DROP POLICY tenant ON avouch.agent`,
		`ALTER POLICY tenant ON avouch.agent USING (true)`, `ALTER POLICY tenant ON avouch.agent TO avouch_server`, `ALTER TABLE avouch.agent DISABLE TRIGGER require_entry`,
		`ALTER TABLE avouch.agent ENABLE TRIGGER require_entry`, `DROP TRIGGER require_entry ON avouch.agent`, `ALTER TABLE avouch.audit_entry_default DISABLE TRIGGER insert_only`,
		`GRANT DELETE ON avouch.agent TO avouch_server`, `GRANT UPDATE (name) ON avouch.organisation TO avouch_lookup`, `REVOKE ALL ON avouch.agent FROM avouch_server`,
		`GRANT CREATE ON SCHEMA avouch TO avouch_server`, `GRANT EXECUTE ON FUNCTION avouch.lookup_key(text) TO PUBLIC`, `GRANT SELECT ON avouch.agent TO avouch_server WITH GRANT OPTION`,
		`ALTER FUNCTION avouch.lookup_key(text) SECURITY INVOKER`, `ALTER FUNCTION avouch.lookup_key(text) RESET search_path`, `ALTER FUNCTION avouch.lookup_key(text) OWNER TO avouch_owner`,
		`ALTER TABLE avouch.agent OWNER TO avouch_server`, `COMMENT ON COLUMN avouch.agent.name IS 'x'`, `COMMENT ON TABLE avouch.agent IS 'x'`, `CREATE VIEW avouch.seen AS SELECT 1 AS one`,
		`CREATE SEQUENCE avouch.numbers`, `CREATE TYPE avouch.mood AS ENUM ('well')`, `CREATE TYPE avouch.pair AS (a int, b int)`, `CREATE DOMAIN avouch.small AS int CHECK (VALUE < 9)`,
		`CREATE MATERIALIZED VIEW avouch.kept AS SELECT 1 AS one`, `ALTER DEFAULT PRIVILEGES FOR ROLE avouch_owner IN SCHEMA avouch GRANT SELECT ON TABLES TO avouch_server`,
		`ALTER TABLE avouch_jobs.river_job DROP COLUMN tags`, `DROP TABLE avouch.idempotency`,
	} {
		tx, err := admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if dump(t, tx) == before {
			t.Errorf("the text does not show: %s", sql)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// A month that passes is no change.
	if _, err := admin.Exec(t.Context(), `CREATE TABLE avouch.audit_entry_2031_01 PARTITION OF avouch.audit_entry FOR VALUES FROM ('2031-01-01') TO ('2031-02-01')`); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, dump(t, begun(t, pg.AdminURL))); d != "" {
		t.Errorf("another month is another schema:\n%s", d)
	}
}
