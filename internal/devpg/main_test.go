package devpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	childEnv   = "AVOUCH_DEVPG_CHILD"
	connectEnv = "AVOUCH_DEVPG_CONNECT"
)

// TestMain lets the test binary be the process that runs a cluster, so that it can be killed or be another user.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if url := os.Getenv(connectEnv); url != "" {
		if err := run(context.Background(), url, "SELECT 1"); err != nil {
			fmt.Print(err)
		} else {
			fmt.Print("connected")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child runs a cluster until its standard input ends, and then stops it.
func child(dir string) error {
	ctx := context.Background()
	c, err := Start(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	if err := run(ctx, c.URL(Superuser, "postgres"), "CREATE TABLE IF NOT EXISTS kept (n int)", "INSERT INTO kept VALUES (1)"); err != nil {
		return err
	}
	fmt.Println("ready", c.PID(), os.Geteuid())
	_, _ = io.Copy(io.Discard, os.Stdin) // the end is all that matters
	return c.Stop(ctx)
}

// startChild starts the binary as another process, and as another user if one is given, and waits until it is ready.
func startChild(t *testing.T, binary, dir string, as *syscall.Credential) (cmd *exec.Cmd, stdin io.Closer, pid int) {
	t.Helper()
	cmd = exec.Command(binary)
	cmd.Env = append(os.Environ(), childEnv+"="+dir, "HOME=/")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended unless the test failed
	line, err := bufio.NewReader(out).ReadString('\n')
	uid := 0
	if _, scanErr := fmt.Sscanf(line, "ready %d %d", &pid, &uid); err != nil || scanErr != nil {
		t.Fatalf("the child said %q (%v)", line, err)
	}
	if as != nil && uid != int(as.Uid) {
		t.Fatalf("the child runs as %d, not as %d", uid, as.Uid)
	}
	return cmd, in, pid
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needBinaries(t testing.TB) {
	t.Helper()
	if _, err := Find(); errors.Is(err, ErrNoBinaries) {
		missing(t, "no PostgreSQL server binaries")
	}
}

// missing skips a test on a person's machine, and fails it where nothing may be missing. A right is not what it speaks of:
// what takes root is skipped where the tests do not run as root.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skipf("skipped: %s", why)
}

// begun starts a cluster in dir that is stopped when the test ends.
func begun(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	needBinaries(t)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	c, err := Start(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop(context.Background())) })
	return c
}

func run(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func ask(t testing.TB, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.Background())
	var answer string
	must(t, conn.QueryRow(t.Context(), sql).Scan(&answer))
	return answer
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

// openDir makes a directory that every user can enter, which those of the testing package are not.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.TempDir(), "devpg-test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// copyOfBinary puts this test's program where every user can run it.
func copyOfBinary(t testing.TB, dir string) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	b, err := os.ReadFile(self)
	must(t, err)
	path := filepath.Join(dir, "devpg.test")
	must(t, os.WriteFile(path, b, 0o755))
	return path
}

func longDir(t testing.TB) string {
	return filepath.Join(t.TempDir(), strings.Repeat("long-", 30))
}
