package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/jackc/pgx/v5"
)

func TestIsolation(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			db := New(t, small)
			if got := ask(t, db.URL, "SELECT count(*)::text || current_user FROM note"); got != "0avouch_server" {
				t.Errorf("a new database holds %s", got)
			}
			must(t, run(t.Context(), db.URL, "INSERT INTO note VALUES ('mine')"))
			if got := ask(t, db.AdminURL, "SELECT count(*)::text || current_user || current_database() FROM note"); got != "1postgres"+db.Name {
				t.Errorf("then it holds %s", got)
			}
			if got := ask(t, db.OwnerURL, "SELECT session_user || ' ' || current_user"); got != "postgres avouch_owner" {
				t.Errorf("OwnerURL is %s", got)
			}
			if db.URLAs("avouch_server") != db.URL || db.URLAs("postgres") != db.AdminURL {
				t.Errorf("URLAs: %s", db.URLAs("avouch_server"))
			}
		})
	}
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("a test that leaves a connection open", func(t *testing.T) {
		db := New(t, small)
		name = db.Name
		conn, err := pgx.Connect(t.Context(), db.URL)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) }) // registered later, so closed first; hence the next
		_, err = pgx.Connect(t.Context(), db.AdminURL)
		must(t, err)
	})
	found, err := process.exists(t.Context(), name)
	if name == "" || found || err != nil {
		t.Errorf("database %q is still there (%v)", name, err)
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	New(t, small)
	builds := 0
	tmpl := Template{Name: "counted", Hash: t.Name() + strconv.Itoa(os.Getpid())}
	tmpl.Build = func(ctx context.Context, adminURL string) error {
		builds++
		if builds == 1 {
			return errors.New("no such luck")
		}
		return run(ctx, adminURL, "CREATE TABLE v"+strconv.Itoa(builds)+" ()")
	}
	if _, err := process.newDatabase(t.Context(), tmpl); err == nil || !strings.Contains(err.Error(), "building template counted: no such luck") {
		t.Errorf("a template that cannot be built: %v", err)
	}
	t.Cleanup(func() {
		for _, hash := range []string{tmpl.Hash, tmpl.Hash + "."} {
			must(t, process.drop(context.Background(), Template{Name: tmpl.Name, Hash: hash}.database()))
		}
	})
	for range 2 {
		db := New(t, tmpl)
		must(t, run(t.Context(), db.AdminURL, "SELECT FROM v2"))
	}
	must(t, process.drop(t.Context(), tmpl.database())) // as another process may do that starts the cluster afresh
	must(t, run(t.Context(), New(t, tmpl).AdminURL, "SELECT FROM v3"))
	changed := tmpl
	changed.Hash += "."
	must(t, run(t.Context(), New(t, changed).AdminURL, "SELECT FROM v4"))
	if builds != 4 {
		t.Errorf("built %d times", builds)
	}
}

func TestCopyIsWhole(t *testing.T) {
	t.Parallel()
	tmpl := small
	tmpl.Name = "privileges"
	tmpl.Build = func(ctx context.Context, adminURL string) error {
		return run(ctx, adminURL, ensureRole("avouch_server", "LOGIN"), ensureRole("avouch_owner", "NOLOGIN"), ensureRole(TestRole, "LOGIN"), `DO $$ BEGIN
			EXECUTE format('ALTER DATABASE %I OWNER TO avouch_owner', current_database());
			EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
			EXECUTE format('GRANT CONNECT ON DATABASE %I TO avouch_server', current_database());
			EXECUTE format('ALTER DATABASE %I SET work_mem = ''7MB''', current_database());
			EXECUTE format('ALTER ROLE avouch_server IN DATABASE %I SET lock_timeout = ''7s''', current_database());
		END $$`)
	}
	db := New(t, tmpl)
	got := ask(t, db.URL, "SELECT current_setting('work_mem') || ' ' || current_setting('lock_timeout') || ' ' || pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
	if got != "7MB 7s avouch_owner" {
		t.Errorf("the copy has %s", got)
	}
	if err := run(t.Context(), db.URLAs(TestRole), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "permission denied for database") {
		t.Errorf("a role without CONNECT: %v", err)
	}
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	c := Private(t, devpg.Config{})
	url := c.URL(devpg.Superuser, "postgres")
	must(t, run(t.Context(), url, "CREATE TABLE kept ()"))
	must(t, c.Kill())
	must(t, c.Restart(t.Context()))
	if got := ask(t, url, "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	must(t, run(t.Context(), url, "SELECT FROM kept"))
}

// Two processes, then one more, then none: one cluster, one build, nothing left running.
func TestProcesses(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := privateDir(t)
	a, b := startProcess(t, dir), startProcess(t, dir)
	a.ready(t)
	b.ready(t)
	addr, err := devpg.Running(filepath.Join(dir, "cluster"))
	must(t, err)
	first := ask(t, addr.URL(devpg.Superuser, "postgres"), "SELECT pg_postmaster_start_time()::text")
	a.end(t)
	c := startProcess(t, dir)
	if n := c.ready(t); n != 3 {
		t.Errorf("three processes have %d databases", n)
	}
	b.end(t)
	if again := ask(t, addr.URL(devpg.Superuser, "postgres"), "SELECT pg_postmaster_start_time()::text"); again != first {
		t.Error("the cluster was started again while it was in use")
	}
	c.end(t)
	stopped(t, dir)
	for range 3 { // no pause: a newcomer may meet the watcher at work
		d := startProcess(t, dir)
		if n := d.ready(t); n != 1 {
			t.Errorf("a new run has %d databases", n)
		}
		d.end(t)
	}
	if n := built(t, dir); n != 1 {
		t.Errorf("the template was built %d times", n)
	}
	stopped(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, "cluster", "boot"), []byte("another"), 0o600))
	e := startProcess(t, dir)
	e.ready(t)
	e.end(t)
	if n := built(t, dir); n != 2 {
		t.Errorf("after a reboot the template had been built %d times", n)
	}
	stopped(t, dir)
}

func TestKilled(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := privateDir(t)
	a, b := startProcess(t, dir), startProcess(t, dir)
	a.ready(t)
	b.ready(t)
	a.kill(t)
	b.kill(t)
	stopped(t, dir)
	// And with the watcher killed too, so that nobody stops the cluster.
	c := startProcess(t, dir)
	c.ready(t)
	killWatcher(t, dir)
	c.kill(t)
	if _, err := devpg.Running(filepath.Join(dir, "cluster")); err != nil {
		t.Errorf("nothing was left running: the test tests nothing (%v)", err)
	}
	d := startProcess(t, dir)
	d.ready(t)
	d.end(t)
	stopped(t, dir)
	if n := built(t, dir); n != 1 {
		t.Errorf("the template was built %d times", n)
	}
}

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	for ci, want := range map[string]string{"": "skipped: no PostgreSQL server binaries", "true": "--- FAIL: TestPrivate"} {
		cmd := exec.Command(self, "-test.run=^TestPrivate$", "-test.v")
		cmd.Env = append(os.Environ(), "CI="+ci, devpg.BinEnv+"="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err != nil) != (ci == "true") {
			t.Errorf("with CI=%q: %v: %s", ci, err, out)
		}
	}
}

func TestOurDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	must(t, ourDir(dir))
	must(t, ourDir(dir))
	must(t, os.Chmod(dir, 0o770))
	if err := ourDir(dir); err == nil {
		t.Error("a directory that others may write is taken for ours")
	}
	link := dir + "link"
	must(t, os.Symlink(t.TempDir(), link))
	if err := ourDir(link); err == nil {
		t.Error("a link is taken for ours")
	}
}

func needBinaries(t *testing.T) {
	t.Helper()
	if _, err := devpg.Find(); err != nil {
		giveUp(t, err)
	}
}

func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := clusterDir("avouch-pgtest-test-" + rand.Text())
	must(t, err)
	t.Cleanup(func() {
		must(t, devpg.Remove(context.Background(), filepath.Join(dir, "cluster")))
		must(t, os.RemoveAll(dir))
	})
	return dir
}

// stopped waits until neither PostgreSQL nor the watcher runs.
func stopped(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "the cluster stops", func() bool {
		_, err := devpg.Running(filepath.Join(dir, "cluster"))
		return errors.Is(err, devpg.ErrNotRunning) && len(watchers(t, dir)) == 0
	})
	if _, err := os.Stat(filepath.Join(dir, "cluster", "data", "postmaster.pid")); err == nil {
		t.Error("the cluster was not stopped cleanly")
	}
}

// watchers finds the processes that a test process leaves to stop its cluster.
func watchers(t *testing.T, dir string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, file := range files {
		b, _ := os.ReadFile(file) // processes come and go
		if strings.Contains(string(b), "pgtest-watch\x00"+dir) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			must(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func killWatcher(t *testing.T, dir string) {
	t.Helper()
	pids := watchers(t, dir)
	if len(pids) == 0 {
		t.Fatal("there is no watcher")
	}
	for _, pid := range pids {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
}
