package tenantdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/avouch-dev/avouch/migrations"
)

// jobsSchema holds River's tables: work to be done, not tenants' data.
const jobsSchema = "avouch_jobs"

// bootstrap makes what the numbered migrations need to run as the owner: the roles, which belong to the whole cluster,
// and the schemas. It is idempotent. Two migrations of different databases of a cluster may run at once, hence the lock
// and the exception handlers.
const bootstrap = `
DO $$
DECLARE
  r record;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('avouch.bootstrap'));
  FOR r IN SELECT * FROM (VALUES ('avouch_owner', 'NOLOGIN'), ('avouch_server', 'LOGIN'), ('avouch_log', 'NOLOGIN'), ('avouch_lookup', 'NOLOGIN')) v(name, login) LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r.name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION NOINHERIT', r.name, r.login);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
      END;
    END IF;
  END LOOP;
  IF NOT pg_has_role(current_user, 'avouch_owner', 'MEMBER') THEN EXECUTE format('GRANT avouch_owner TO %I', current_user); END IF;
  IF NOT pg_has_role(current_user, 'avouch_lookup', 'MEMBER') THEN EXECUTE format('GRANT avouch_lookup TO %I', current_user); END IF;
  -- The server's batch lane takes the log writer's role, SET ROLE avouch_log; without that it must not have its rights.
  IF (SELECT rolinherit FROM pg_roles WHERE rolname = 'avouch_server') THEN ALTER ROLE avouch_server NOINHERIT; END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE 'GRANT avouch_log TO avouch_server WITH INHERIT FALSE, SET TRUE';
  ELSIF NOT pg_has_role('avouch_server', 'avouch_log', 'MEMBER') THEN
    GRANT avouch_log TO avouch_server;
  END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS avouch AUTHORIZATION avouch_owner;
CREATE SCHEMA IF NOT EXISTS avouch_jobs AUTHORIZATION avouch_owner;
GRANT USAGE ON SCHEMA avouch TO avouch_server, avouch_log, avouch_lookup;
GRANT CREATE ON SCHEMA avouch TO avouch_lookup; -- to take over the look-ups; taken back at the end
GRANT USAGE ON SCHEMA avouch_jobs TO avouch_server;
`

const afterwards = `
REVOKE CREATE ON SCHEMA avouch FROM avouch_lookup;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA avouch_jobs TO avouch_server;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA avouch_jobs TO avouch_server;
GRANT SELECT ON avouch.schema_version TO avouch_server;
`

// SchemaHash names the schema that Migrate makes: hexadecimal SHA-256 over the migrations. Tests key templates by it.
func SchemaHash() string {
	h := sha256.New()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, n := range names {
		b, err := migrations.Files.ReadFile(n)
		if err != nil {
			panic(err) // an embedded file cannot be missing
		}
		fmt.Fprintf(h, "%s %d\n%s", n, len(b), b)
	}
	h.Write([]byte(bootstrap + afterwards))
	return hex.EncodeToString(h.Sum(nil))
}

// Migrate brings the database up to this release's schema, as an owner: a superuser, or a role with CREATEROLE that
// may create schemas in the database. Each migration is one transaction; a second run does nothing.
func Migrate(ctx context.Context, adminURL string) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("tenantdb.Migrate: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, bootstrap); err != nil {
		return fmt.Errorf("tenantdb.Migrate: roles and schemas: %w", err)
	}
	m, err := migrate.NewMigrator(ctx, conn, "avouch.schema_version")
	if err != nil {
		return fmt.Errorf("tenantdb.Migrate: %w", err)
	}
	if err := m.LoadMigrations(migrations.Files); err != nil {
		return fmt.Errorf("tenantdb.Migrate: %w", err)
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("tenantdb.Migrate: %w", err)
	}
	if err := migrateJobs(ctx, adminURL); err != nil {
		return fmt.Errorf("tenantdb.Migrate: jobs: %w", err)
	}
	if _, err := conn.Exec(ctx, afterwards); err != nil {
		return fmt.Errorf("tenantdb.Migrate: grants: %w", err)
	}
	return nil
}

func migrateJobs(ctx context.Context, adminURL string) error {
	pool, err := pgxpool.New(ctx, adminURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: jobsSchema})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// CreateDatabase makes an empty database unless it is there. adminURL connects to another database of the cluster, as a
// role that may create databases.
func CreateDatabase(ctx context.Context, adminURL, name string) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("tenantdb.CreateDatabase: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there); err != nil || there {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		return fmt.Errorf("tenantdb.CreateDatabase: %w", err)
	}
	return nil
}
