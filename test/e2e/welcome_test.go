package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell runs a command as somebody does who pastes it into bash, and returns what it printed.
func shell(t testing.TB, dir, command string, env ...string) (printed string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// welcomed starts `avouch dev` as `make run` does, in a directory that has the program in bin/, and waits for its welcome.
func welcomed(t *testing.T) (dir, welcome string, r ready) {
	t.Helper()
	dir = scratch(t)
	must(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	must(t, os.Symlink(program(t), filepath.Join(dir, "bin", "avouch")))
	p := start(t, launch{
		via:  []string{"bash", "-c", `cd "$0" && shift && exec bin/avouch "$@"`, dir},
		args: []string{"dev", "--listen", "127.0.0.1:0"},
	})
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(p.printed(), "Stop with Ctrl-C"); time.Sleep(5 * time.Millisecond) {
		if p.ended() || time.Now().After(deadline) {
			t.Fatalf("there was no welcome (ended: %v):\n%s", p.ended(), p.said())
		}
	}
	must(t, json.Unmarshal([]byte(contents(t, filepath.Join(dir, ".avouch", "dev.json"))), &r))
	return dir, p.printed(), r
}

// TestWelcome pastes what `avouch dev` prints and what README.md says into a shell. All of it must do what is promised.
func TestWelcome(t *testing.T) {
	t.Parallel()
	dir, welcome, r := welcomed(t)
	var commands []string
	for _, block := range regexp.MustCompile(`(?m)(^   \S.*\n(     .*\n)*)+`).FindAllString(welcome, -1) {
		commands = append(commands, strings.TrimSpace(block))
	}
	promised := []string{`"decision":"ALLOWED"`, `"type":"agent.verified"`, `"code":"`, "all hold"}
	if len(commands) != len(promised) {
		t.Fatalf("the welcome has %d commands: %q", len(commands), welcome)
	}
	for i, command := range commands {
		printed, code := shell(t, dir, command)
		if code != 0 || !strings.Contains(printed, promised[i]) {
			t.Errorf("command %d of the welcome: exit %d, and no %s: %s", i+1, code, promised[i], printed)
		}
		if i == 1 && !strings.Contains(printed, r.AgentID) {
			t.Errorf("the owner does not see that the agent was asked about: %s", printed)
		}
	}
	addresses(t, welcome)
	t.Run("README", func(t *testing.T) { readme(t, dir, r) })
}

// addresses opens every address that a text names for reading in a browser.
func addresses(t *testing.T, text string) {
	t.Helper()
	pages := regexp.MustCompile(`https?://localhost:\d+(/docs|/dev/inbox|/sign-in|/verified\?service=[0-9a-f-]+)`).FindAllString(text, -1)
	if len(pages) < 2 {
		t.Errorf("the text names the pages %q only", pages)
	}
	for _, page := range pages {
		want(t, 200, http.MethodGet, page, "", nil, nil)
	}
}

// readme runs the section of the first ten minutes: its sh blocks line by line, and the commands within its sentences in
// between, each in its place. What it calls by a name in capitals is put in, as a reader does.
func readme(t *testing.T, dir string, r ready) {
	t.Helper()
	_, text, begins := strings.Cut(contents(t, "../../README.md"), "## The first ten minutes\n")
	text, _, ends := strings.Cut(text, "\n## ")
	if !begins || !ends {
		t.Fatal("README.md has no first ten minutes any more")
	}
	text = strings.NewReplacer("http://localhost:7070", r.URL, "SERVICE_TENANT_ID", r.ServiceTenantID).Replace(text)
	addresses(t, text)
	// Every command, and what it must print. One that is not here fails the test, and so does one that has gone.
	promised := map[string]string{
		"export AVOUCH_URL=":                      "",
		"export AVOUCH_API_KEY=":                  "",
		"bin/avouch agents register":              "AGENT_ID|read:email",
		"bin/avouch agents token":                 `expires .*\(in 1h\)`,
		"bin/avouch revoke":                       "(?i)revoked",
		"bin/avouch audit tail -f":                "agent.revoked",
		"bin/avouch trace":                        "agent.verified",
		"bin/avouch organisations update --badge": "Acme Robotics",
		"bin/avouch audit export":                 "entries written to ./evidence, and checked",
		"bin/avouch audit check":                  "HOLDS  .* none missing, none changed",
		"bin/avouch keys create":                  "ada.key",
		"bin/avouch keys verify":                  "(?s)VALID.*999",
		"bin/avouch keys rotate":                  "new.key",
		"bin/avouch keys scan":                    "(?s)ada.key.*new.key",
		"bin/avouch vault show":                   "(?m)^you may +ask for it$",
		"bin/avouch vault grants":                 "  agent Research assistant  use it  active",
		"bin/avouch vault uses":                   "agent Research assistant  got a code",
	}
	left := maps.Clone(promised)
	session := session{t: t, dir: dir, names: map[string]string{"REQUEST_ID": decided(t, r)}}
	inline := regexp.MustCompile("(?s)```sh\n(.*?)```|```.*?```|`(bin/avouch [^`]+)`")
	for _, found := range inline.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(found[1] + found[2]) {
			line = strings.TrimSpace(line)
			known := ""
			for name := range promised {
				if strings.HasPrefix(line, name) {
					known = name
				}
			}
			if known == "" {
				t.Errorf("README.md has a command that this test does not know: %s", line)
				continue
			}
			delete(left, known)
			session.run(line, promised[known])
		}
	}
	if len(left) > 0 {
		t.Errorf("README.md has no more: %v", left)
	}
	if v, err := verify(r.URL, r.ServiceKey, session.names["TOKEN"]); err != nil || v.Allowed {
		t.Errorf("after README's revocation: %+v %v", v, err)
	}
}

// decided is the id of a request that was a decision about the demo's agent.
func decided(t testing.TB, r ready) string {
	t.Helper()
	v, err := verify(r.URL, r.ServiceKey, r.AgentToken)
	if must(t, err); !v.Allowed {
		t.Fatalf("the demo's agent is not let in: %+v", v)
	}
	return v.RequestID
}

// session is a shell in which one command after another is typed.
type session struct {
	t     testing.TB
	dir   string
	set   string
	names map[string]string // what is called by a name in capitals
}

func (s *session) run(line, promised string) {
	s.t.Helper()
	for name, value := range s.names {
		line = strings.ReplaceAll(line, name, value)
	}
	if strings.HasPrefix(line, "export ") {
		s.set += line + "\n"
	}
	wanted := 0
	typed := line
	if strings.HasSuffix(line, "-f") { // ends with Ctrl-C
		typed, wanted = "timeout -s INT 5 "+line, 124
	}
	if strings.HasSuffix(line, "exit 1") {
		wanted = 1
	}
	printed, code := shell(s.t, s.dir, s.set+typed)
	tokens := regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)
	if code != wanted || !regexp.MustCompile(promised).MatchString(printed) {
		s.t.Errorf("%s: exit %d, and no %s: %s", line, code, promised, tokens.ReplaceAllString(printed, "[secret]"))
	}
	if id := regexp.MustCompile(`(?m)^\s*agent\s+([0-9a-f-]{36})`).FindStringSubmatch(printed); id != nil && s.names["AGENT_ID"] == "" {
		s.names["AGENT_ID"] = id[1]
	}
	if id := regexp.MustCompile(`(?m)^\s*key id\s+([0-9A-Za-z]{11})$`).FindStringSubmatch(printed); id != nil {
		s.names["KEY_ID"] = id[1]
	}
	if token := tokens.FindString(printed); token != "" {
		s.names["TOKEN"] = token
	}
}

// selfSigned writes a certificate for 127.0.0.1 that vouches for itself, and its key.
func selfSigned(t testing.TB) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "avouch dev"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	must(t, err)
	sealed, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key, pool = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(chain)
	must(t, os.WriteFile(cert, chain, 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sealed}), 0o600))
	return cert, key, pool
}

// TestDevTLS starts `avouch dev` with a certificate: HTTPS and nothing else, on an address that others reach too.
func TestDevTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := selfSigned(t)
	p, r := dev(t, scratch(t), launch{args: []string{"--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key}})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(r.URL, "https://"))
	if err != nil || !strings.HasPrefix(r.URL, "https://") {
		t.Fatalf("the ready line names %s (%v)", r.URL, err)
	}
	here := "127.0.0.1:" + port
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	body := `{"token":"` + r.AgentToken + `","target_resource":"your-service","scopes_requested":["read:data"]}`
	req, err := http.NewRequest(http.MethodPost, "https://"+here+"/api/v1/verify", strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+r.ServiceKey)
	req.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(req)
	must(t, err)
	said, err := io.ReadAll(answer.Body)
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != 200 || !strings.Contains(string(said), `"allowed":true`) || answer.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
		t.Errorf("verify over TLS: %d %v: %s", answer.StatusCode, answer.Header, said)
	}
	printed, code := shell(t, t.TempDir(), program(t)+" verify --resource your-service --scope read:data --json",
		"AVOUCH_URL=https://"+here, "AVOUCH_API_KEY="+r.ServiceKey, "AGENT_TOKEN="+r.AgentToken, "SSL_CERT_FILE="+cert)
	if code != 0 || !strings.Contains(printed, `"allowed":true`) {
		t.Errorf("avouch verify over TLS: exit %d: %s", code, printed)
	}
	if plain, err := ask(http.MethodGet, "http://"+here+"/readyz", "", nil); err == nil && plain.status == 200 {
		t.Error("it answers without TLS too")
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d: %s", code, p.said())
	}
}

// TestWithoutPostgres: an ordinary user is told what to do, by the script and by the program, with exit code 3, and nothing
// is made. Make answers 2, whatever its recipes answer.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	var nobody []string
	if os.Getuid() == 0 {
		nobody = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"}
	}
	// Where packages put one there is nothing.
	hidden := append([]string{"unshare", "-m", "sh", "-c", `for d in /usr/lib/postgresql /usr/local/pgsql; do [ ! -d $d ] || mount -t tmpfs none $d; done; exec "$0" "$@"`}, nobody...)
	for name, a := range map[string]struct {
		via []string
		env string
	}{
		"AVOUCH_POSTGRES_BIN": {nobody, "AVOUCH_POSTGRES_BIN=/nonexistent"}, "none": {hidden, "PATH=/usr/bin:/bin"}, "no PATH": {hidden, "PATH="},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt").CombinedOutput(); a.via != nil && a.via[0] == "unshare" && err != nil {
				t.Skipf("skipped: PostgreSQL cannot be hidden here (that takes root): %v: %s", err, out)
			}
			dir := scratch(t)
			if os.Getuid() == 0 {
				must(t, os.Chown(dir, 65534, 65534))
			}
			data := filepath.Join(dir, "data")
			for what, args := range map[string][]string{
				"setup-postgres": {"/bin/sh"}, "avouch dev": {program(t), "dev", "--dir", data, "--listen", "127.0.0.1:0"},
			} {
				argv := slices.Concat(a.via, []string{"/usr/bin/env", "-i", "HOME=" + dir, a.env}, args)
				cmd := exec.Command(argv[0], argv[1:]...)
				cmd.Dir, cmd.Stdin = "/", strings.NewReader(contents(t, "../../scripts/setup-postgres.sh")) // the repository may be closed to others
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState == nil {
					t.Fatal(err)
				}
				if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), "PostgreSQL") || !strings.Contains(string(out), "AVOUCH_POSTGRES_BIN") {
					t.Errorf("%s: exit %d: %s", what, code, out)
				}
			}
			if _, err := os.Stat(filepath.Join(data, "postgres", "data")); err == nil {
				t.Error("a cluster was made")
			}
		})
	}
}
