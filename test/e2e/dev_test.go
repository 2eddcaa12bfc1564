package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDevReadyLine holds `avouch dev --json` to the letter: one line, these names, and each value works.
func TestDevReadyLine(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	p, r := dev(t, dir, launch{})
	works(t, r)
	printed := p.printed()
	var names map[string]string
	must(t, json.Unmarshal([]byte(printed), &names))
	if strings.Count(printed, "\n") != 1 || !strings.HasSuffix(printed, "}\n") {
		t.Errorf("standard output is not one line of JSON: %d lines", strings.Count(printed, "\n"))
	}
	wanted := []string{
		"admin_database_url", "agent_did", "agent_id", "agent_token", "database_url", "owner_address", "owner_id", "owner_key", "owner_password", "service_key",
		"service_owner_key", "service_tenant_id", "tenant_id", "url", "vault_item_id",
	}
	if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, wanted) {
		t.Errorf("the line has %q", got)
	}
	for name, value := range names {
		if value == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if code := p.end(syscall.SIGTERM); code != 0 || p.printed() != printed {
		t.Errorf("SIGTERM: exit %d, and standard output holds %d bytes more", code, len(p.printed())-len(printed))
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// works uses every value of the line for what it is for.
func works(t testing.TB, r ready) verdict {
	t.Helper()
	want(t, 200, http.MethodGet, r.URL+"/readyz", "", nil, nil)
	for key, tenant := range map[string]string{r.OwnerKey: r.TenantID, r.ServiceOwnerKey: r.ServiceTenantID} {
		var o struct {
			ID string `json:"tenant_id"`
		}
		if want(t, 200, http.MethodGet, r.URL+"/api/v1/organisation", key, nil, &o); o.ID != tenant || tenant == "" {
			t.Errorf("a key is of organisation %s and not %s", o.ID, tenant)
		}
	}
	want(t, 200, http.MethodGet, r.URL+"/api/v1/agents/"+r.AgentID, r.OwnerKey, nil, nil)
	var step struct {
		State string `json:"state"`
	}
	sent := map[string]any{"address": r.OwnerAddress, "password": r.OwnerPassword}
	if want(t, 200, http.MethodPost, r.URL+"/api/v1/sign-in", "", sent, &step, "Origin", r.URL, "Sec-Fetch-Site", "same-origin"); step.State != "enrol" {
		t.Errorf("after the owner's password comes %q, and not a second factor", step.State)
	}
	v, err := verify(r.URL, r.ServiceKey, r.AgentToken)
	if must(t, err); !v.Allowed || v.Agent == nil || v.Agent.DID != r.AgentDID {
		t.Errorf("the token: %+v", v)
	}
	for url, role := range map[string]string{r.DatabaseURL: "avouch_server false", r.AdminDatabaseURL: "postgres true"} {
		db, err := Connect(t.Context(), url)
		must(t, err)
		got, err := db.Texts(t.Context(), "SELECT rolname || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user")
		db.Close()
		if must(t, err); fmt.Sprint(got) != "["+role+"]" {
			t.Errorf("a database URL is of %s and not of %s", got, role)
		}
	}
	return v
}

// processesOf lists the processes that work in a directory or name it.
func processesOf(t testing.TB, dir string) (found []string) {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		at, _ := os.Readlink(p + "/cwd") // those of one that has just ended are empty
		line, _ := os.ReadFile(p + "/cmdline")
		if strings.HasPrefix(at, dir) || strings.Contains(string(line), dir) {
			found = append(found, p+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// TestDevComesBack stops and kills everything in turn. Data, keys, issuer and port are there each time, and so is what was
// acknowledged.
func TestDevComesBack(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	var l ledger
	p, first := dev(t, dir, launch{})
	for _, how := range []struct {
		name string
		do   func()
		code int
	}{
		{"SIGINT", func() { p.signal(syscall.SIGINT) }, 0},
		{"kill -9 of avouch", func() { p.signal(syscall.SIGKILL) }, -1},
		{"kill -9 of the postmaster, then of avouch", func() { postmaster(t, dir, syscall.SIGKILL); p.signal(syscall.SIGKILL) }, -1},
		{"kill -9 of avouch, then of the postmaster", func() { p.signal(syscall.SIGKILL); postmaster(t, dir, syscall.SIGKILL) }, -1},
		{"SIGTERM", func() { p.signal(syscall.SIGTERM) }, 0},
	} {
		l.note(works(t, first), nil)
		how.do()
		if code := p.exit(time.Minute); code != how.code {
			t.Errorf("%s: exit %d: %s", how.name, code, p.said())
		}
		var again ready
		p, again = dev(t, dir, launch{})
		if again != first {
			t.Errorf("after %s it is not what it was: %s instead of %s, token the same: %v", how.name, again.URL, first.URL, again.AgentToken == first.AgentToken)
		}
	}
	devMendsPostgres(t, dir, first, &l)
	admin, err := Connect(t.Context(), first.AdminDatabaseURL)
	must(t, err)
	defer admin.Close()
	l.hold(&world{t: t, admin: admin, owner: first.TenantID, service: first.ServiceTenantID})
}

// devMendsPostgres kills PostgreSQL under a server that goes on. For a moment the processes of the killed one still answer.
func devMendsPostgres(t *testing.T, dir string, r ready, l *ledger) {
	t.Helper()
	killed := postmasterID(t, dir)
	postmaster(t, dir, syscall.SIGKILL)
	eventually(t, "PostgreSQL after it was killed", func() bool {
		now := postmasterID(t, dir)
		return now != 0 && now != killed
	})
	eventually(t, "answer after PostgreSQL was killed", func() bool {
		a, err := ask(http.MethodGet, r.URL+"/readyz", "", nil)
		v, verr := verify(r.URL, r.ServiceKey, r.AgentToken)
		return l.note(v, verr) == nil && err == nil && a.status == http.StatusOK
	})
	l.note(works(t, r), nil)
}

func postmaster(t testing.TB, dir string, sig syscall.Signal) {
	t.Helper()
	pid := postmasterID(t, dir)
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && strings.HasPrefix(at, dir) {
		syscall.Kill(pid, sig) // it may have ended this moment
	}
}

// postmasterID is 0 where PostgreSQL has ended, or has not written it yet.
func postmasterID(t testing.TB, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	line, _, whole := strings.Cut(string(b), "\n")
	if err != nil || !whole {
		return 0
	}
	pid, err := strconv.Atoi(line)
	if err != nil || pid < 2 {
		t.Fatalf("postmaster.pid begins with %q", line)
	}
	return pid
}

// TestDevTriesAgain kills PostgreSQL where it cannot be started again for a while. It is, as soon as that is possible.
func TestDevTriesAgain(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	p, r := dev(t, dir, launch{})
	running, data := postmasterID(t, dir), filepath.Join(dir, "postgres", "data")
	if running == 0 { // the process group of this test, to kill
		t.Fatal("PostgreSQL does not run")
	}
	must(t, os.Rename(data, data+".away"))
	must(t, syscall.Kill(running, syscall.SIGKILL))
	eventually(t, "report of the failure", func() bool { return strings.Contains(p.said(), "could not be started again") })
	eventually(t, "refusal without a database", func() bool { _, err := verify(r.URL, r.ServiceKey, r.AgentToken); return errors.Is(err, errRefused) })
	must(t, os.Rename(data+".away", data))
	eventually(t, "answer after the data were back", func() bool { v, err := verify(r.URL, r.ServiceKey, r.AgentToken); return err == nil && v.Allowed })
}

// TestDevSecondStart starts another in the directory of one that runs.
func TestDevSecondStart(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	p, r := dev(t, dir, launch{})
	for _, json := range []bool{true, false} {
		args := []string{"dev", "--dir", dir, "--listen", "127.0.0.1:0"}
		if json {
			args = append(args, "--json")
		}
		second := start(t, launch{args: args})
		code, said := second.exit(20*time.Second), second.said()
		if code != 3 || second.printed() != "" || !strings.Contains(said, dir) || !strings.Contains(said, "is in use by process "+strconv.Itoa(p.pid)) {
			t.Errorf("exit %d, %q on standard output, and: %s", code, second.printed(), said)
		}
	}
	works(t, r)
}

// TestDevAsOrdinaryUser starts it as somebody who owns nothing but the directory.
func TestDevAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("skipped: not root, so all other tests here show it")
	}
	needs(t, "setpriv")
	dir := scratch(t)
	must(t, os.Chown(dir, 65534, 65534))
	nobody := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"}
	if out, err := exec.Command(nobody[0], append(nobody[1:], program(t), "version")...).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("an ordinary user cannot run what was built in TMPDIR: %v: %s", err, out))
	}
	p, r := dev(t, dir, launch{via: nobody})
	want(t, 200, http.MethodGet, r.URL+"/readyz", "", nil, nil)
	if v, err := verify(r.URL, r.ServiceKey, r.AgentToken); err != nil || !v.Allowed {
		t.Errorf("verify: %+v %v", v, err)
	}
	for _, proc := range processesOf(t, dir) {
		pid, _, _ := strings.Cut(proc, " ")
		if info, err := os.Stat(pid); err == nil && info.Sys().(*syscall.Stat_t).Uid != 65534 && !strings.Contains(proc, "setpriv") {
			// A process that cannot be dumped belongs to root in /proc, whoever runs it: its status says who does.
			if status := contents(t, pid+"/status"); !strings.Contains(status, "Uid:\t65534\t65534\t65534\t65534") {
				t.Errorf("%s runs as somebody else", proc)
			}
		}
	}
	if code := p.end(syscall.SIGINT); code != 0 {
		t.Errorf("exit %d: %s", code, p.said())
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// TestDevCallsNobody runs it where there is no network but loopback, and reads the kernel's count of what was sent elsewhere.
func TestDevCallsNobody(t *testing.T) {
	t.Parallel()
	needs(t, "unshare", "nsenter", "ip", "bash", "timeout")
	if out, err := exec.Command("unshare", "-n", "true").CombinedOutput(); err != nil {
		t.Skipf("skipped: there is no network to take away here (that takes root): %v: %s", err, out)
	}
	dir := scratch(t)
	p, r := dev(t, dir, launch{via: []string{"unshare", "-n", "sh", "-c", `ip link set lo up && exec "$0" "$@"`}})
	within := func(name string, args ...string) ([]byte, error) {
		cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(p.pid), "-n", name}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "AVOUCH_URL=" + r.URL, "AVOUCH_API_KEY=" + r.ServiceKey, "AGENT_TOKEN=" + r.AgentToken}
		return cmd.CombinedOutput()
	}
	for range 3 {
		if out, err := within(program(t), "verify", "--resource", "your-service", "--scope", "read:data", "--json"); err != nil || !strings.Contains(string(out), `"allowed":true`) {
			t.Fatalf("verify where there is no network: %v: %s", err, out)
		}
		time.Sleep(500 * time.Millisecond)
	}
	if n := strays(t, p.pid); n != 0 {
		t.Errorf("%d packets had nowhere to go", n)
	}
	within("sh", "-c", `echo x | timeout 1 bash -c 'cat > /dev/udp/192.0.2.1/9'`) // the count counts
	if n := strays(t, p.pid); n == 0 {
		t.Error("the kernel does not count what has no route: this test shows nothing")
	}
}

// strays is how many packets a process's network had no route for, and how many were sent over anything but loopback.
func strays(t testing.TB, pid int) (n int) {
	t.Helper()
	at := fmt.Sprintf("/proc/%d/net/", pid)
	lines := strings.Split(contents(t, at+"snmp"), "\n")
	for i, field := range strings.Fields(lines[0]) {
		if field == "OutNoRoutes" {
			v, err := strconv.Atoi(strings.Fields(lines[1])[i])
			must(t, err)
			n += v
		}
	}
	for line := range strings.Lines(contents(t, at+"snmp6")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutNoRoutes" {
			v, err := strconv.Atoi(f[1])
			must(t, err)
			n += v
		}
	}
	for line := range strings.Lines(contents(t, at+"dev")) {
		name, numbers, ok := strings.Cut(line, ":")
		if f := strings.Fields(numbers); ok && strings.TrimSpace(name) != "lo" && len(f) > 9 && f[9] != "0" {
			n++
		}
	}
	return n
}

// TestServe runs servers beside `avouch dev` on its database, and starts some that must not.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	_, r := dev(t, dir, launch{})
	env := func(change ...string) []string {
		return append([]string{
			"AVOUCH_DATABASE_URL=" + r.DatabaseURL, "AVOUCH_PLATFORM_KEY_FILE=" + filepath.Join(dir, "keys", "platform.key"),
			"AVOUCH_KEY_STORE=" + filepath.Join(dir, "keystore"), "AVOUCH_PUBLIC_URL=" + r.URL,
		}, change...)
	}
	t.Run("together", func(t *testing.T) {
		one, two := serve(t, env()), serve(t, env())
		for _, s := range []*served{one, two} {
			if v, err := verify(s.url, r.ServiceKey, r.AgentToken); err != nil || !v.Allowed {
				t.Errorf("verify: %+v %v", v, err)
			}
		}
		want(t, 200, http.MethodPost, one.url+"/api/v1/agents/"+r.AgentID+"/suspend", r.OwnerKey, nil, nil, "If-Match", tagOf(t, r))
		for _, url := range []string{one.url, two.url, r.URL} {
			if v, err := verify(url, r.ServiceKey, r.AgentToken); err != nil || v.Allowed {
				t.Errorf("after the agent was suspended through another server: %+v %v", v, err)
			}
		}
		for _, s := range []*served{one, two} {
			if code := s.end(syscall.SIGINT); code != 0 {
				t.Errorf("exit %d", code)
			}
		}
	})
	for name, c := range map[string]struct {
		env  []string
		says []string
	}{
		"superuser":     {env("AVOUCH_DATABASE_URL=" + r.AdminDatabaseURL), []string{"superuser", "avouch_server"}},
		"no key":        {env("AVOUCH_PLATFORM_KEY_FILE="), []string{"AVOUCH_PLATFORM_KEY_FILE"}},
		"gone key":      {env("AVOUCH_PLATFORM_KEY_FILE=" + filepath.Join(dir, "gone")), []string{filepath.Join(dir, "gone"), "no such file"}},
		"other issuer":  {env("AVOUCH_PUBLIC_URL=https://other.example"), []string{"AVOUCH_PUBLIC_URL", r.URL, "https://other.example"}},
		"not migrated":  {env("AVOUCH_DATABASE_URL=" + strings.Replace(r.DatabaseURL, "/avouch?", "/postgres?", 1)), []string{"avouch migrate"}},
		"no PostgreSQL": {env("AVOUCH_DATABASE_URL=postgres://avouch_server@/avouch?host=" + filepath.Join(dir, "nowhere")), []string{"nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, launch{args: []string{"serve", "--listen", "127.0.0.1:0", "--json"}, env: c.env})
			if code := p.exit(30 * time.Second); code != 3 || p.printed() != "" {
				t.Errorf("exit %d, %q on standard output", code, p.printed())
			}
			for _, words := range c.says {
				if !strings.Contains(p.said(), words) {
					t.Errorf("the message does not say %q: %s", words, p.said())
				}
			}
		})
	}
}
