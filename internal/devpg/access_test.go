package devpg

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPeer(t *testing.T) {
	t.Parallel()
	c := begun(t, Config{NoFSync: true, Dir: t.TempDir(), Roles: []string{"mapped"}})
	admin := c.URL(Superuser, "postgres")
	must(t, run(t.Context(), admin, "CREATE ROLE avouch_server LOGIN", "CREATE ROLE mapped LOGIN", "CREATE ROLE unmapped LOGIN", "CREATE DATABASE d"))
	for _, role := range []string{"avouch_server", "mapped"} {
		if got := ask(t, c.URL(role, "d"), "SELECT current_user || ' ' || current_database()"); got != role+" d" {
			t.Errorf("%s got %s", role, got)
		}
	}
	if err := run(t.Context(), c.URL("unmapped", "d"), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "eer authentication failed") {
		t.Errorf("a role that is not in the map: %v", err)
	}
	for _, path := range []string{c.address.socketDir, c.place.data()} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	b, err := os.ReadFile(c.place.log())
	if err != nil || strings.Contains(string(b), "CREATE ROLE") {
		t.Errorf("statements are in the log (%v)", err)
	}
	if os.Geteuid() == 0 {
		if got := ask(t, admin, "SELECT usename FROM pg_stat_activity WHERE pid = pg_backend_pid()"); got != Superuser {
			t.Errorf("root connects as %s", got)
		}
		if st, err := os.Stat(c.place.data()); err != nil || st.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Errorf("root owns the data (%v)", err)
		}
	}
}

// The server's own OS user cannot connect, though it can open the socket: only who runs avouch is in the map.
func TestPeerRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can become another user")
	}
	c := begun(t, Config{NoFSync: true, Dir: longDir(t)}) // so that the socket is where its owner can reach it
	connect := func(as *syscall.Credential) string {
		cmd := exec.Command(copyOfBinary(t, openDir(t)))
		cmd.Env = append(os.Environ(), connectEnv+"="+c.URL(Superuser, "postgres"))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		out, err := cmd.CombinedOutput()
		must(t, err)
		return string(out)
	}
	if got := connect(nil); got != "connected" {
		t.Errorf("root: %s", got)
	}
	if got := connect(&syscall.Credential{Uid: c.acc.uid, Gid: c.acc.gid}); !strings.Contains(got, "eer authentication failed") {
		t.Errorf("the server's own user: %s", got)
	}
	if got := connect(&syscall.Credential{Uid: 4711, Gid: 4711}); !strings.Contains(got, "permission denied") {
		t.Errorf("another user: %s", got)
	}
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"long": longDir(t), "awkward": filepath.Join(t.TempDir(), "a b,c'é")} {
		c := begun(t, Config{NoFSync: true, Dir: dir})
		url := c.URL(Superuser, "postgres")
		must(t, run(t.Context(), url, "CREATE TABLE kept (n int)"))
		if strings.Contains(url, dir) {
			t.Errorf("%s: the socket is in %s", name, url)
		}
		must(t, c.Kill())
		must(t, c.Stop(t.Context()))
		if _, err := os.Stat(c.address.socketDir); err == nil {
			t.Errorf("%s: the socket's directory is still there", name)
		}
		again := begun(t, Config{NoFSync: true, Dir: dir})
		if again.URL(Superuser, "postgres") != url {
			t.Errorf("%s: the address has changed", name)
		}
		must(t, run(t.Context(), url, "SELECT * FROM kept"))
		must(t, again.Stop(t.Context()))
		must(t, os.Mkdir(c.address.socketDir, 0o755)) // somebody else has taken the name
		t.Cleanup(func() { must(t, os.Remove(c.address.socketDir)) })
		moved := begun(t, Config{NoFSync: true, Dir: dir})
		if moved.URL(Superuser, "postgres") == url {
			t.Errorf("%s: the socket is in a directory that others can enter", name)
		}
		must(t, run(t.Context(), moved.URL(Superuser, "postgres"), "SELECT * FROM kept"))
	}
}

// As root, the server's user cannot enter /root; as anybody, the parent of the directory may be closed afterwards.
func TestUnreachableDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root runs the server as another user")
	}
	closed := filepath.Join(openDir(t), "closed")
	must(t, os.Mkdir(closed, 0o700))
	dir := filepath.Join(closed, "cluster")
	c := begun(t, Config{Dir: dir, OSUser: "nobody"})
	must(t, run(t.Context(), c.URL(Superuser, "postgres"), "CREATE TABLE kept (n int)", "CHECKPOINT", "CREATE DATABASE other", "SELECT pg_reload_conf()"))
	must(t, run(t.Context(), c.URL(Superuser, "other"), "SELECT 1"))
	must(t, c.Kill())
	must(t, c.Restart(t.Context()))
	must(t, run(t.Context(), c.URL(Superuser, "postgres"), "SELECT * FROM kept"))
	must(t, c.Stop(t.Context()))
	// Asked to run as another user, it stays with the one who owns the data.
	begun(t, Config{Dir: dir, OSUser: "postgres"})
	list := exec.Command("ls", dir)
	list.Dir, list.Env = "/", []string{"LC_ALL=C"}
	list.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := list.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("the server's user is not kept out of the directory, so the test tests nothing: %v: %s", err, out)
	}
}

func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := openDir(t)
	home := filepath.Join(dir, "home")
	must(t, os.Mkdir(home, 0o700))
	var as *syscall.Credential
	if os.Geteuid() == 0 {
		if _, err := user.Lookup("nobody"); err != nil {
			missing(t, "there is no user nobody")
		}
		as = &syscall.Credential{Uid: 65534, Gid: 65534}
		must(t, os.Chown(home, 65534, 65534))
	}
	binary := copyOfBinary(t, dir)
	for range 2 {
		cmd, stdin, pid := startChild(t, binary, filepath.Join(home, "cluster"), as)
		st, err := os.Stat("/proc/" + strconv.Itoa(pid))
		must(t, err)
		if as != nil && st.Sys().(*syscall.Stat_t).Uid != as.Uid {
			t.Error("PostgreSQL runs as another user")
		}
		must(t, stdin.Close())
		must(t, cmd.Wait())
	}
	if as == nil {
		return
	}
	// Root takes over an ordinary user's cluster without taking it away.
	c := begun(t, Config{Dir: filepath.Join(home, "cluster")})
	if got := ask(t, c.URL(Superuser, "postgres"), "SELECT count(*)::text FROM kept"); got != "2" {
		t.Errorf("%s rows are left", got)
	}
	must(t, c.Stop(t.Context()))
	cmd, stdin, _ := startChild(t, binary, filepath.Join(home, "cluster"), as)
	must(t, stdin.Close())
	must(t, cmd.Wait())
}

// The address means the same to libpq as to pgx.
func TestURL(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"/tmp/x/run", "/home/some-one/.cache/a_b/run"} {
		url := Address{socketDir: dir}.URL("avouch_server", "avouch")
		if want := "postgres://avouch_server@/avouch?host=" + dir + "&port=5432"; url != want {
			t.Errorf("%s", url)
		}
		cfg, err := pgx.ParseConfig(url)
		must(t, err)
		if cfg.Host != dir || cfg.User != "avouch_server" || cfg.Database != "avouch" || cfg.Port != 5432 || cfg.Password != "" || cfg.TLSConfig != nil {
			t.Errorf("%s means %+v", url, cfg.Config)
		}
	}
	c := begun(t, Config{NoFSync: true, Dir: t.TempDir()})
	psql, err := exec.LookPath("psql")
	if err != nil {
		missing(t, "no psql")
	}
	out, err := exec.CommandContext(context.Background(), psql, "-XAt", c.URL(Superuser, "postgres"), "-c", "SELECT current_user").CombinedOutput()
	if err != nil || string(out) != "postgres\n" {
		t.Errorf("psql: %s %v", out, err)
	}
}
