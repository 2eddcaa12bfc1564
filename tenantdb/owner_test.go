package tenantdb

import (
	"testing"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/pgtest"
)

// The owner that docs/operations.md has people make is no superuser: it may make roles, and the database is its own. From
// PostgreSQL 16 on, it may then grant the roles that it makes, but not become them.
func TestMigrateAsOrdinaryOwner(t *testing.T) {
	t.Parallel()
	pg := pgtest.Private(t, devpg.Config{NoFSync: true, Roles: []string{"ops"}}) // without Avouch's roles
	super := connect(t, pg.URL(devpg.Superuser, "postgres"))
	for _, sql := range []string{`CREATE ROLE ops CREATEROLE LOGIN`, `CREATE DATABASE opsdb OWNER ops`} {
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	owner := pg.URL("ops", "opsdb")
	known, err := knownVersion()
	if err != nil {
		t.Fatal(err)
	}
	if err := migrateTo(t.Context(), owner, 1); err != nil {
		t.Fatalf("PostgreSQL %d: a new database: %v", pg.Major(), err)
	}
	if err := migrateTo(t.Context(), owner, known); err != nil {
		t.Fatalf("PostgreSQL %d: an upgrade: %v", pg.Major(), err)
	}
	db := open(t, pg.URL("avouch_server", "opsdb"))
	c := newTenant(t, db, "A")
	if err := rename(t.Context(), db, c, "B"); err != nil {
		t.Fatal(err)
	}

	// A release before this gave the log's role to servers: whoever migrates takes it back, whoever gave it.
	for _, next := range []string{owner, pg.URL(devpg.Superuser, "opsdb")} {
		if _, err := connect(t, owner).Exec(t.Context(), `GRANT avouch_log TO avouch_server`); err != nil {
			t.Fatal(err)
		}
		if err := Migrate(t.Context(), next); err != nil {
			t.Fatalf("PostgreSQL %d: a second run: %v", pg.Major(), err)
		}
		open(t, pg.URL("avouch_server", "opsdb")) // which refuses a role that has it
	}
	if err := rename(t.Context(), db, c, "C"); err != nil {
		t.Fatal(err)
	}
	if n := len(logged(t, db, c)); n != 3 {
		t.Errorf("%d entries", n)
	}
	sameSchema(t, "an ordinary owner's migration makes another schema than a superuser's", pgtest.New(t, template).AdminURL, pg.URL(devpg.Superuser, "opsdb"))
}
