package strangers

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is the program, made once, or what AVOUCH_E2E_PROGRAM names.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("AVOUCH_E2E_PROGRAM"); path != "" {
		return path, nil
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("avouch-strangers-%d", os.Getpid()))
	out, err := exec.Command("make", "-s", "-C", "../..", "build", "PROGRAM="+path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	os.Remove(filepath.Join(os.TempDir(), fmt.Sprintf("avouch-strangers-%d", os.Getpid()))) // if it was made
	os.Exit(code)
}

// process is `avouch serve`, as a process of its own.
type process struct {
	t   testing.TB
	cmd *exec.Cmd
	url string
	log string

	permits int // for hashes
}

// processors is how many a process may use: with many, no crowd of 200 would be too large.
const processors = 2

// serve starts it, waits until it listens, and ends it with the test.
func (g ground) serve(t testing.TB) *process {
	t.Helper()
	program, err := built()
	must(t, err)
	dir := t.TempDir()
	p := &process{t: t, log: filepath.Join(dir, "stderr"), permits: processors - 1}
	p.cmd = exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--json")
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), fmt.Sprint("GOMAXPROCS=", processors), "HOME=" + dir, "TMPDIR=" + os.TempDir(), "AVOUCH_DATABASE_URL=" + g.pg.URL, "AVOUCH_PLATFORM_KEY_FILE=" + g.keyFile(),
		"AVOUCH_KEY_STORE=" + g.keyStore(), "AVOUCH_PUBLIC_URL=" + publicURL, "AVOUCH_TENANT_QUOTA=-1", "AVOUCH_SERVICE_QUOTA=-1",
	}
	says, err := os.Create(p.log)
	must(t, err)
	defer says.Close()
	p.cmd.Stderr = says
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() })
		defer late.Stop()
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, p.said())
		}
	})
	var line struct{ URL string }
	if err := json.NewDecoder(out).Decode(&line); err != nil {
		t.Fatalf("the server did not start: %v\n%s", err, p.said())
	}
	p.url = line.URL
	return p
}

func (p *process) said() string {
	p.t.Helper()
	b, err := os.ReadFile(p.log)
	must(p.t, err)
	return string(b)
}

// memory is a line of what the kernel says of the process, in KiB.
func (p *process) memory(name string) int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	must(p.t, err)
	_, rest, _ := strings.Cut(string(text), name+":")
	line, _, _ := strings.Cut(rest, "kB")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	must(p.t, err)
	return n
}
