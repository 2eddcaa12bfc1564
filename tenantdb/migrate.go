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
  sixteen CONSTANT boolean := current_setting('server_version_num')::integer >= 160000;
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
  -- From PostgreSQL 16 on, who makes a role is its member, but may only grant it: not become it, nor own what it owns.
  FOR r IN SELECT v.name, CASE WHEN sixteen THEN ' WITH SET TRUE, INHERIT TRUE' ELSE '' END AS options
    FROM (VALUES ('avouch_owner'), ('avouch_lookup'), ('avouch_log')) v(name)
    WHERE CASE WHEN sixteen THEN NOT (pg_has_role(v.name, 'SET') AND pg_has_role(v.name, 'USAGE')) ELSE NOT pg_has_role(v.name, 'MEMBER') END LOOP
    BEGIN
      EXECUTE format('GRANT %I TO %I', r.name, current_user) || r.options;
    EXCEPTION WHEN internal_error OR unique_violation THEN NULL; -- another database's migration has granted it just now
    END;
  END LOOP;
  -- Whoever has the log writer's role can get past its functions. Another database's migration may take it away just now.
  -- From 16 on each who granted it is asked to take it back; where we may not, the server refuses to start and says so.
  FOR r IN SELECT CASE WHEN sixteen THEN format(' GRANTED BY %I', g.rolname) ELSE '' END AS whose
    FROM pg_auth_members m LEFT JOIN pg_roles g ON g.oid = m.grantor
    WHERE m.roleid = 'avouch_log'::regrole AND m.member = 'avouch_server'::regrole AND (NOT sixteen OR pg_has_role(m.grantor, 'USAGE')) LOOP
    BEGIN
      EXECUTE 'REVOKE avouch_log FROM avouch_server' || r.whose;
    EXCEPTION WHEN internal_error THEN NULL;
    END;
  END LOOP;
  IF (SELECT rolinherit FROM pg_roles WHERE rolname = 'avouch_server') THEN ALTER ROLE avouch_server NOINHERIT; END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS avouch AUTHORIZATION avouch_owner;
CREATE SCHEMA IF NOT EXISTS avouch_jobs AUTHORIZATION avouch_owner;
GRANT USAGE ON SCHEMA avouch TO avouch_server, avouch_log, avouch_lookup;
GRANT CREATE ON SCHEMA avouch TO avouch_lookup, avouch_log; -- to take over their functions; taken back at the end
GRANT USAGE ON SCHEMA avouch_jobs TO avouch_server;
`

const afterwards = `
DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$;
REVOKE CREATE ON SCHEMA avouch FROM avouch_lookup, avouch_log;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA avouch_jobs TO avouch_server;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA avouch_jobs TO avouch_server;
CREATE TABLE IF NOT EXISTS avouch.schema_serves (oldest integer NOT NULL);
COMMENT ON TABLE avouch.schema_serves IS 'servers that know fewer migrations than this must not run on the schema';
INSERT INTO avouch.schema_serves SELECT 0 WHERE NOT EXISTS (SELECT FROM avouch.schema_serves);
GRANT SELECT ON avouch.schema_version, avouch.schema_serves TO avouch_server;
`

// migrateLock lets one migration of a database run at a time: tern and River lock their own parts of it only.
const migrateLock = `SELECT pg_advisory_lock(hashtext('avouch.migrate'))`

// raiseOldestSQL writes down which servers the schema serves from now on. It never goes back: what is gone is gone.
const raiseOldestSQL = `UPDATE avouch.schema_serves SET oldest = $1 WHERE oldest < $1`

const oldestSQL = `SELECT oldest, version FROM avouch.schema_serves, avouch.schema_version`

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
	fmt.Fprint(h, migrations.Oldest)
	return hex.EncodeToString(h.Sum(nil))
}

// Migrate brings the database up to this release's schema, as an owner: a superuser, or a role with CREATEROLE that
// may create schemas in the database and made Avouch's roles, if there are any. Each migration is one transaction; a second run does nothing, and one that comes
// while another is at work waits for it. It refuses a schema that is newer than it knows: migrations go forward only.
func Migrate(ctx context.Context, adminURL string) error {
	known, err := knownVersion()
	if err == nil {
		err = migrateTo(ctx, adminURL, known)
	}
	if err != nil {
		return fmt.Errorf("tenantdb.Migrate: %w", err)
	}
	return nil
}

// knownVersion is the schema's version after all of this release's migrations.
func knownVersion() (int32, error) {
	files, err := fs.Glob(migrations.Files, "*.sql")
	return int32(len(files)), err
}

func migrateTo(ctx context.Context, adminURL string, version int32) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // which also ends the lock
	if _, err := conn.Exec(ctx, migrateLock); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, bootstrap); err != nil {
		return fmt.Errorf("roles and schemas: %w", err)
	}
	m, err := migrate.NewMigrator(ctx, conn, "avouch.schema_version")
	if err != nil {
		return err
	}
	if err := m.LoadMigrations(migrations.Files); err != nil {
		return err
	}
	at, err := m.GetCurrentVersion(ctx)
	if err != nil {
		return err
	}
	if at > version {
		return fmt.Errorf("%w: its schema is at version %d and this release knows %d: migrate with the newest release in use", ErrSchema, at, version)
	}
	if err := m.MigrateTo(ctx, version); err != nil {
		return err
	}
	if err := migrateJobs(ctx, adminURL); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	if _, err := conn.Exec(ctx, afterwards); err != nil {
		return fmt.Errorf("grants: %w", err)
	}
	if _, err := conn.Exec(ctx, raiseOldestSQL, migrations.Oldest); err != nil {
		return fmt.Errorf("oldest release: %w", err)
	}
	return nil
}

// checkOldest refuses a schema from which something was taken away that this release needs. A newer schema that only has
// more is fine: servers of two releases run together on it.
func checkOldest(ctx context.Context, conn *pgx.Conn) error {
	var oldest, version int32
	if err := conn.QueryRow(ctx, oldestSQL).Scan(&oldest, &version); err != nil {
		return fmt.Errorf("%w: it does not say which releases it serves: %w", ErrSchema, err)
	}
	known, err := knownVersion()
	if err == nil && known < oldest {
		err = fmt.Errorf("%w: its schema is at version %d and serves releases that know version %d; this one knows %d and is too old: start a newer release", ErrSchema, version, oldest, known)
	}
	return err
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
