package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// soak says whether the full counts are asked for.
func soak() bool { return os.Getenv("AVOUCH_SOAK") == "1" }

// rounds is how often a fault is tried.
func rounds() int {
	if soak() {
		return 50
	}
	return 5
}

// build is the program, made once for all tests of the run that drive it.
type build struct {
	once sync.Once
	dir  string // ours, and empty until there is one: what is removed in the end
	path string
	err  error
}

// AVOUCH_E2E_PROGRAM names a program that exists, such as a release.
func (b *build) make() {
	if b.path = os.Getenv("AVOUCH_E2E_PROGRAM"); b.path != "" {
		return
	}
	if b.dir, b.err = os.MkdirTemp("", "avouch-e2e-"); b.err != nil {
		return
	}
	b.path = filepath.Join(b.dir, "avouch")
	out, err := exec.Command("make", "-s", "-C", "../..", "build", "PROGRAM="+b.path).CombinedOutput() // what is shipped
	if err != nil {
		b.err = fmt.Errorf("%w: %s", err, out)
		return
	}
	b.err = os.Chmod(b.dir, 0o755) // also for an ordinary user
}

var built = &build{}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

func program(t testing.TB) string {
	t.Helper()
	built.once.Do(built.make)
	if built.err != nil {
		t.Fatalf("the program does not build: %v", built.err)
	}
	return built.path
}

// scratch is a directory for a cluster: in memory, for a killed process loses nothing there, and on the disk when soaking.
func scratch(t testing.TB) string {
	t.Helper()
	if soak() || runtime.GOOS != "linux" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "avouch-e2e-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// launch is how a program is started.
type launch struct {
	via  []string // a program that starts it, such as setpriv
	args []string
	env  []string // beside a path and a home: nothing of ours is inherited
}

// running is a program that was started.
type running struct {
	t              testing.TB
	cmd            *exec.Cmd
	pid            int
	stdout, stderr string // files
	done           chan struct{}
}

func start(t testing.TB, l launch) *running {
	t.Helper()
	dir := t.TempDir()
	p := &running{t: t, stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr"), done: make(chan struct{})}
	argv := append(append(append([]string{}, l.via...), program(t)), l.args...)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir()}, l.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	orphanDies(p.cmd.SysProcAttr)
	out, err := os.Create(p.stdout)
	must(t, err)
	defer out.Close()
	report, err := os.Create(p.stderr)
	must(t, err)
	defer report.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, report
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel ends the child with the thread that began it
		defer runtime.UnlockOSThread()
		started <- p.cmd.Start()
		if p.cmd.Process != nil {
			p.cmd.Wait() // how it ended is in its state
		}
		close(p.done)
	}()
	must(t, <-started)
	p.pid = p.cmd.Process.Pid
	t.Cleanup(func() { p.end(syscall.SIGTERM) })
	return p
}

// end sends a signal and waits for the program to end. It returns the exit code, or -1 if a signal killed it.
func (p *running) end(sig syscall.Signal) int {
	p.t.Helper()
	p.signal(sig)
	return p.exit(40 * time.Second)
}

func (p *running) signal(sig syscall.Signal) {
	if !p.ended() {
		p.cmd.Process.Signal(sig) // gone is fine: whoever waits sees it
	}
}

func (p *running) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exit waits for the program to end by itself.
func (p *running) exit(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("process %d did not end within %s:\n%s", p.pid, within, p.said())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *running) printed() string { return contents(p.t, p.stdout) }
func (p *running) said() string    { return contents(p.t, p.stderr) }

func contents(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return string(b)
}

// line waits for the first whole line on standard output, read as JSON.
func (p *running) line(into any) {
	p.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if first, _, whole := strings.Cut(p.printed(), "\n"); whole {
			if err := json.Unmarshal([]byte(first), into); err != nil {
				p.t.Fatalf("standard output is no JSON: %v", err)
			}
			return
		}
		if p.ended() || time.Now().After(deadline) {
			p.t.Fatalf("the program printed nothing (ended: %v):\n%s", p.ended(), p.said())
		}
	}
}

// ready is what `avouch dev --json` prints.
type ready struct {
	URL              string `json:"url"`
	TenantID         string `json:"tenant_id"`
	OwnerKey         string `json:"owner_key"`
	OwnerID          string `json:"owner_id"`
	OwnerAddress     string `json:"owner_address"`
	OwnerPassword    string `json:"owner_password"`
	ServiceTenantID  string `json:"service_tenant_id"`
	ServiceOwnerKey  string `json:"service_owner_key"`
	ServiceKey       string `json:"service_key"`
	AgentID          string `json:"agent_id"`
	AgentDID         string `json:"agent_did"`
	AgentToken       string `json:"agent_token"`
	DatabaseURL      string `json:"database_url"`
	AdminDatabaseURL string `json:"admin_database_url"`
}

// dev starts `avouch dev` in a directory and waits until it is ready.
func dev(t testing.TB, dir string, l launch) (*running, ready) {
	t.Helper()
	l.args = append([]string{"dev", "--dir", dir, "--listen", "127.0.0.1:0", "--json"}, l.args...)
	p := start(t, l)
	var r ready
	p.line(&r)
	return p, r
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// patient waits for answers that a fault delays, and keeps enough connections for all that a test asks at once.
var patient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

// ask sends JSON, with a key if there is one, and reads the answer to its end.
func ask(method, url, key string, body any, header ...string) (reply, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, url, sent)
	if err != nil {
		return reply{}, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := patient.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("%w: %w", errCut, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, fmt.Errorf("%w: %w", errCut, err)
	}
	return reply{resp.StatusCode, resp.Header, b}, nil
}

// want is ask for an answer that must come, and have a status.
func want(t testing.TB, status int, method, url, key string, body, into any, header ...string) reply {
	t.Helper()
	r, err := ask(method, url, key, body, header...)
	must(t, err)
	if r.status != status {
		t.Fatalf("%s %s: %d instead of %d: %s", method, url, r.status, status, r.body)
	}
	if into != nil {
		must(t, json.Unmarshal(r.body, into))
	}
	return r
}

// verdict is an answer to POST /api/v1/verify.
type verdict struct {
	Allowed  bool   `json:"allowed"`
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	Agent    *struct {
		DID    string   `json:"did"`
		Scopes []string `json:"active_scopes"`
	} `json:"agent"`
	RequestID string `json:"request_id"`
	Audit     struct {
		Log  string `json:"log"`
		Seq  int64  `json:"seq"`
		Leaf string `json:"leaf"`
	} `json:"audit"`
}

var (
	errRefused = errors.New("refused with a problem document of the kind unavailable")
	errCut     = errors.New("no whole answer")
)

// verify asks a server about a token.
func verify(url, key, token string) (v verdict, err error) {
	r, err := ask(http.MethodPost, url+"/api/v1/verify", key, map[string]any{
		"token": token, "target_resource": "your-service", "scopes_requested": []string{"read:data"},
	})
	if err != nil {
		return v, err
	}
	if r.status == http.StatusServiceUnavailable && r.header.Get("Content-Type") == "application/problem+json" {
		return v, fmt.Errorf("%w: %s", errRefused, r.body)
	}
	if r.status != http.StatusOK {
		return v, fmt.Errorf("status %d: %s", r.status, r.body)
	}
	return v, json.Unmarshal(r.body, &v)
}
