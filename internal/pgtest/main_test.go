package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const dirEnv = "AVOUCH_PGTEST_DIR"

// TestMain lets the test binary be another test process, with a cluster directory apart from that of the real tests.
func TestMain(m *testing.M) {
	if dir := os.Getenv(dirEnv); dir != "" {
		process = &membership{dir: dir}
		if err := child(dir); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// counted notes each time it is built.
func counted(dir string) Template {
	t := small
	t.Build = func(ctx context.Context, adminURL string) error {
		f, err := os.OpenFile(filepath.Join(dir, "built"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString("x"); err != nil {
			return err
		}
		return small.Build(ctx, adminURL)
	}
	return t
}

// child does what a test process does, and leaves a database behind, as one that is killed does. It ends with its input.
func child(dir string) error {
	ctx := context.Background()
	for range 3 {
		db, err := process.newDatabase(ctx, counted(dir))
		if err != nil {
			return err
		}
		if err := run(ctx, db.URL, "INSERT INTO note VALUES ('mine')"); err != nil {
			return err
		}
		if err := process.drop(ctx, db.Name); err != nil {
			return err
		}
	}
	if _, err := process.newDatabase(ctx, counted(dir)); err != nil {
		return err
	}
	var left int
	if err := process.pool.QueryRow(ctx, `SELECT count(*) FROM pg_database WHERE datname LIKE 'test\_%'`).Scan(&left); err != nil {
		return err
	}
	fmt.Println("ready", left)
	_, _ = io.Copy(io.Discard, os.Stdin) // the end is all that matters
	return nil
}

// testProcess is another process that uses pgtest.
type testProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func startProcess(t *testing.T, dir string) *testProcess {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	p := &testProcess{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), dirEnv+"="+dir)
	p.cmd.Stderr = os.Stderr
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = bufio.NewReader(out)
	must(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // it has ended unless the test failed
	return p
}

// ready waits until the process has made its databases, and returns how many there are of all processes.
func (p *testProcess) ready(t *testing.T) (databases int) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "ready %d", &databases); err != nil || scanErr != nil {
		t.Fatalf("the process said %q (%v)", line, err)
	}
	return databases
}

func (p *testProcess) end(t *testing.T) {
	t.Helper()
	must(t, p.stdin.Close())
	must(t, p.cmd.Wait())
}

func (p *testProcess) kill(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait() // killed, as it should be
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
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
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}

func built(t testing.TB, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "built"))
	must(t, err)
	return strings.Count(string(b), "x")
}
