package devpg

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := begun(t, Config{Dir: dir, Settings: map[string]string{"work_mem": "7MB", "application_name": `it's a \ name`}})
	url := c.URL(Superuser, "postgres")
	must(t, run(t.Context(), url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)"))
	for name, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on", "listen_addresses": "",
		"wal_level": "replica", "server_encoding": "UTF8", "work_mem": "7MB", "application_name": `it's a \ name`,
	} {
		if got := ask(t, url, "SHOW "+name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	old := c.Done()
	must(t, c.Restart(t.Context()))
	select {
	case <-old:
	default:
		t.Error("the Done of before the restart is open")
	}
	if c.URL(Superuser, "postgres") != url || ask(t, url, "SELECT count(*)::text FROM kept") != "1" {
		t.Error("the restarted cluster is another one")
	}
	must(t, c.Stop(t.Context()))
	must(t, c.Stop(t.Context()))
	if pids := processesIn(c.place.data()); len(pids) != 0 {
		t.Errorf("processes %v outlived Stop", pids)
	}
	if err := c.Restart(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Restart after Stop: %v", err)
	}
	again := time.Now()
	c = begun(t, Config{Dir: dir})
	t.Logf("start of an existing cluster: %s", time.Since(again))
	if c.URL(Superuser, "postgres") != url || ask(t, url, "SELECT count(*)::text FROM kept") != "1" {
		t.Error("the cluster started again is another one")
	}
}

func TestSecondStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := begun(t, Config{NoFSync: true, Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir})
	var inUse *InUseError
	if !errors.Is(err, ErrInUse) || !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second start: %v", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	begun(t, Config{NoFSync: true, Dir: dir})
}

func TestKillPostgres(t *testing.T) {
	t.Parallel()
	c := begun(t, Config{Dir: t.TempDir()})
	url := c.URL(Superuser, "postgres")
	must(t, run(t.Context(), url, "CREATE TABLE kept (n int)"))
	for i := range 3 {
		must(t, run(t.Context(), url, "INSERT INTO kept VALUES (1)"))
		if i == 2 {
			must(t, syscall.Kill(c.PID(), syscall.SIGKILL)) // the postmaster alone; its children may live a little longer
		} else {
			must(t, c.Kill())
		}
		<-c.Done()
		must(t, c.Kill()) // nothing to kill
		must(t, c.Restart(t.Context()))
		if got := ask(t, url, "SELECT count(*)::text FROM kept"); got != strconv.Itoa(i+1) {
			t.Fatalf("after crash %d there are %s rows", i+1, got)
		}
	}
}

// A backend that is busy does not see its postmaster die, and holds the shared memory that the next one needs.
func TestOrphanBackend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := begun(t, Config{NoFSync: true, Dir: dir})
	url := c.URL(Superuser, "postgres")
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	busy := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")
		busy <- err
	}()
	eventually(t, "the backend is busy", func() bool {
		return ask(t, url, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'DO %'") == "1"
	})
	must(t, syscall.Kill(c.PID(), syscall.SIGKILL))
	<-c.Done()
	if len(processesIn(c.place.data())) == 0 {
		t.Error("no orphan: the test tests nothing")
	}
	must(t, c.Restart(t.Context()))
	if err := <-busy; err == nil {
		t.Error("an endless query ended well")
	}
	must(t, run(t.Context(), url, "SELECT 1"))
}

// After a reboot, or in a new container, the number in PostgreSQL's lock file may be any process's, even our own.
func TestStalePid(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	for _, dir := range []string{t.TempDir(), longDir(t)} {
		c := begun(t, Config{NoFSync: true, Dir: dir})
		shm := sharedMemoryOf([]int{c.PID()})
		lock := filepath.Join(c.address.socketDir, socketName+".lock")
		stale, err := os.ReadFile(lock)
		must(t, err)
		must(t, c.Kill())
		must(t, c.Stop(t.Context()))
		for _, path := range shm {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s is left", path)
			}
		}
		innocent := sleep(t, c.acc)
		must(t, os.MkdirAll(filepath.Dir(lock), 0o700)) // Stop tidies up; kill -9 of our own process would not
		must(t, os.WriteFile(lock, renumbered(stale, innocent), 0o600))
		pidFile := filepath.Join(dir, "data", "postmaster.pid")
		stale, err = os.ReadFile(pidFile)
		must(t, err)
		must(t, os.WriteFile(pidFile, renumbered(stale, innocent), 0o600))
		begun(t, Config{NoFSync: true, Dir: dir})
		if _, err := os.Readlink("/proc/" + strconv.Itoa(innocent) + "/cwd"); err != nil {
			t.Errorf("the innocent process: %v", err)
		}
	}
}

// sleep runs a process of the server's user that has nothing to do with PostgreSQL.
func sleep(t *testing.T, acc account) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if acc.switched {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: acc.uid, Gid: acc.gid}
	}
	cmd.Dir = "/"
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // killed below
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process.Pid
}

// renumbered is a lock file that names another process.
func renumbered(lockFile []byte, pid int) []byte {
	_, rest, _ := strings.Cut(string(lockFile), "\n")
	return []byte(strconv.Itoa(pid) + "\n" + rest)
}

func TestKillParent(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	cmd, _, pid := startChild(t, self, dir, nil)
	if _, err := Start(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("a start beside it: %v", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed, as it should be
	// At once, so that the one that is stopping is in the way.
	c := begun(t, Config{Dir: dir})
	if got := ask(t, c.URL(Superuser, "postgres"), "SELECT count(*)::text FROM kept"); got != "1" {
		t.Errorf("%s rows are left", got)
	}
	must(t, c.Stop(t.Context()))
	cmd, _, second := startChild(t, self, dir, nil)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed, as it should be
	eventually(t, "PostgreSQL ends with its parent", func() bool { return len(processesIn(filepath.Join(dir, "data"))) == 0 })
	if pid == second {
		t.Error("both children ran the same server")
	}
}

// A server that was started detached is stopped, cleanly, by the next one who starts in the directory.
func TestDetached(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := t.TempDir()
	if _, err := Running(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("an empty directory: %v", err)
	}
	addr, err := StartDetached(t.Context(), Config{NoFSync: true, Dir: dir})
	must(t, err)
	found, err := Running(dir)
	if err != nil || found != addr {
		t.Errorf("running at %v, found %v (%v)", addr, found, err)
	}
	must(t, run(t.Context(), found.URL(Superuser, "postgres"), "CREATE TABLE kept (n int)"))
	c := begun(t, Config{NoFSync: true, Dir: dir})
	must(t, run(t.Context(), c.URL(Superuser, "postgres"), "SELECT * FROM kept"))
	old, err := os.ReadFile(c.place.log() + ".1")
	if err != nil || !strings.Contains(string(old), "received fast shutdown request") || strings.Contains(string(old), "immediate") {
		t.Errorf("the first was not stopped cleanly: %s (%v)", old, err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := filepath.Join(t.TempDir(), "cluster")
	must(t, Remove(t.Context(), dir))
	c := begun(t, Config{NoFSync: true, Dir: dir})
	if err := Remove(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("removing a cluster in use: %v", err)
	}
	must(t, c.Stop(t.Context()))
	_, err := StartDetached(t.Context(), Config{NoFSync: true, Dir: dir})
	must(t, err)
	pid, _ := c.place.postmaster()
	must(t, Remove(t.Context(), dir))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there (%v)", err)
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd"); err == nil {
		t.Error("its server still runs")
	}
}

func TestStopInterrupted(t *testing.T) {
	t.Parallel()
	c := begun(t, Config{NoFSync: true, Dir: t.TempDir()})
	must(t, syscall.Kill(c.PID(), syscall.SIGSTOP))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(ctx); err == nil {
		t.Error("a server that hangs was stopped cleanly")
	}
	eventually(t, "the processes are gone", func() bool { return len(processesIn(c.place.data())) == 0 })
}

func TestStartError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := begun(t, Config{NoFSync: true, Dir: dir})
	must(t, c.Stop(t.Context()))
	for name, want := range map[string]string{"shared_buffers": "invalid value", "no_such_setting": "unrecognized", "Bad name": "not a setting"} {
		_, err := Start(t.Context(), Config{Dir: dir, Settings: map[string]string{name: "nonsense"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Start(t.Context(), Config{Dir: ""}); err == nil {
		t.Error("no directory is a directory")
	}
	must(t, os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("14\n"), 0o600))
	if _, err := Start(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "made by PostgreSQL 14") {
		t.Errorf("a cluster of another version: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte(strconv.Itoa(c.Major())+"\n"), 0o600))
	begun(t, Config{NoFSync: true, Dir: dir}) // none of this has left the directory locked
}
