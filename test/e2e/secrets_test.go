package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// hunt knows secrets, and finds them in whatever form they may be written.
type hunt struct {
	forms map[[8]byte][]form // by their first bytes
	begin [1 << 16]bool      // by their first two, to pass over text quickly
	names map[string]bool
}

// form is one way to write a secret. The name tells nothing of it.
type form struct {
	name string
	text []byte
}

func newHunt() *hunt { return &hunt{forms: map[[8]byte][]form{}, names: map[string]bool{}} }

// add takes a secret. What is so short that it could be there by chance is refused.
func (h *hunt) add(t testing.TB, name string, value []byte) {
	t.Helper()
	if len(value) < 16 {
		t.Fatalf("%s has %d bytes: too few to look for", name, len(value))
	}
	all := [][]byte{value, []byte(hex.EncodeToString(value)), []byte(strings.ToUpper(hex.EncodeToString(value)))}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// Inside a longer text the characters depend on where the secret begins: those at its ends are left out.
		for skip := range 3 {
			text := e.EncodeToString(append(make([]byte, skip), value...))
			all = append(all, []byte(text[(skip*8+5)/6:len(text)-1]))
		}
	}
	h.put(name, all...)
}

func (h *hunt) put(name string, all ...[]byte) {
	h.names[name] = true
	for _, text := range all {
		key := [8]byte(text)
		h.forms[key] = append(h.forms[key], form{name, text})
		h.begin[binary.LittleEndian.Uint16(text)] = true
	}
}

// in names the secrets that a text holds.
func (h *hunt) in(text []byte) []string {
	found := map[string]bool{}
	for i := 0; i+8 <= len(text); i++ {
		if !h.begin[binary.LittleEndian.Uint16(text[i:])] {
			continue
		}
		for _, f := range h.forms[[8]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], f.text) {
				found[f.name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// key adds an API key, whole and without the part that is public.
func (h *hunt) key(t testing.TB, name, key string) {
	t.Helper()
	const public = len("avk_live_") + 11 + 1
	if len(key) < public+16 || strings.Count(key, "_") < 3 {
		t.Fatalf("%s does not look like a key", name)
	}
	h.add(t, name, []byte(key))
	h.add(t, name, []byte(key[public:]))
}

// token adds a token by what makes it one: its signature.
func (h *hunt) token(t testing.TB, name, token string) {
	t.Helper()
	part := strings.Split(token, ".")
	h.add(t, name, []byte(token))
	h.add(t, name, []byte(part[2]))
	signature, err := base64.RawURLEncoding.DecodeString(part[2])
	must(t, err)
	h.add(t, name, signature)
}

// keys adds the bytes of the platform key, of every organisation's keys and of the signing keys, opened as a server would.
func (h *hunt) keys(t testing.TB, dir string, admin *Database) {
	t.Helper()
	file := filepath.Join(dir, "keys", "platform.key")
	text := strings.TrimSpace(contents(t, file))
	raw, err := base64.StdEncoding.DecodeString(text[strings.LastIndex(text, ":")+1:])
	must(t, err)
	h.add(t, "platform key", raw)
	platform, err := keyring.LoadPlatform(secret.String{}, file)
	must(t, err)
	store, err := platform.Wrapper(keyring.ForKeyStore)
	must(t, err)
	n := 0
	must(t, filepath.WalkDir(filepath.Join(dir, "keystore", "tenants"), func(path string, d fs.DirEntry, err error) error {
		part := strings.Split(path, "/")
		if err != nil || d.IsDir() || slices.Contains(part, "subject") {
			return err // the keys of data subjects are wrapped under another of these
		}
		tenant, use, version := part[len(part)-3], part[len(part)-2], part[len(part)-1]
		id, err := tenantdb.ParseTenantID(tenant)
		must(t, err)
		key, err := store.Unwrap(t.Context(), wrapped(t, []byte(contents(t, path))), keyring.Binding{Tenant: id, Item: "key/" + use + "/" + version})
		must(t, err)
		h.add(t, "organisation key "+use, key.Expose())
		n++
		return nil
	}))
	if n < 15 {
		t.Fatalf("only %d keys of organisations were opened", n)
	}
	h.signing(t, platform, admin)
}

func (h *hunt) signing(t testing.TB, platform *keyring.Platform, admin *Database) {
	t.Helper()
	w, err := platform.Wrapper(keyring.ForSigning)
	must(t, err)
	rows, err := admin.Texts(t.Context(), "SELECT CASE WHEN use = 'token' THEN '' ELSE use || '/' END || kid || ' ' || encode(private_key, 'hex') FROM avouch.signing_key")
	must(t, err)
	kinds := map[string]bool{}
	for _, row := range rows {
		item, text, _ := strings.Cut(row, " ")
		b, err := hex.DecodeString(text)
		must(t, err)
		der, err := w.Unwrap(t.Context(), wrapped(t, b), keyring.Binding{Tenant: tenantdb.Platform, Item: "signing/" + item})
		must(t, err)
		key, err := x509.ParsePKCS8PrivateKey(der.Expose())
		must(t, err)
		kinds[fmt.Sprintf("%T", key)] = true
		switch key := key.(type) {
		case *ecdsa.PrivateKey:
			d, err := key.Bytes()
			must(t, err)
			h.add(t, "signing key", d)
		case *rsa.PrivateKey:
			h.add(t, "signing key", key.D.Bytes())
			h.add(t, "signing key", key.Primes[0].Bytes())
		}
	}
	if len(rows) < 3 || len(kinds) != 2 {
		t.Fatalf("there are %d signing keys, of the kinds %v", len(rows), kinds)
	}
}

// wrapped reads a wrapped key out of a stored form.
func wrapped(t testing.TB, b []byte) keyring.Wrapped {
	t.Helper()
	_, b, ok := bytes.Cut(b, []byte("W\x01"))
	if !ok || len(b) < 8 {
		t.Fatal("not a wrapped key")
	}
	n := int(b[0])
	size := int(binary.BigEndian.Uint16(b[n+5:]))
	return keyring.Wrapped{KeyID: string(b[1 : n+1]), KeyVersion: binary.BigEndian.Uint32(b[n+1:]), Blob: b[n+7 : n+7+size]}
}

// collector takes traces and keeps all that was sent, headers too.
type collector struct {
	mu       sync.Mutex
	received bytes.Buffer
	url      string
}

func collect(t testing.TB) *collector {
	t.Helper()
	c := &collector{}
	c.url = "http://" + serveBeside(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.Header.Write(&c.received)
		io.Copy(&c.received, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	return c
}

func (c *collector) all() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.received.Bytes())
}

// TestSecretsStayPut lets an installation do all that it does with secrets, well and badly, and looks for them in everything
// that it leaves: logs, traces, refusals, answers, metrics, arguments and environments of processes, dumps and files. In
// each place the same search finds what was put there on purpose, in every form.
func TestSecretsStayPut(t *testing.T) {
	t.Parallel()
	control := strings.ToLower(rand.Text())
	h := newHunt()
	h.add(t, "control", []byte(control))
	dir := filepath.Join(scratch(t), control)
	traces := collect(t)
	p, r := dev(t, dir, launch{env: []string{"AVOUCH_OTLP_ENDPOINT=" + traces.url, "PATH=" + os.Getenv("PATH") + ":/" + control}})
	admin, err := Connect(t.Context(), r.AdminDatabaseURL)
	must(t, err)
	defer admin.Close()
	s := &scene{t: t, h: h, r: r}
	s.work(control)
	v := s.people()
	s.misuse(control)
	v.misuse()
	s.stall(admin)
	h.keys(t, dir, admin)
	h.add(t, "control: a request", []byte(s.request))

	found := map[string][]string{}
	note := func(place string, text []byte) { found[place] = append(found[place], h.in(text)...) }
	note("refusals", s.refusals.Bytes())
	note("answers", s.answers.Bytes())
	note("metrics", want(t, 200, http.MethodGet, r.URL+"/metrics", "", nil, nil).body)
	arguments, environments := processes(t, dir, p.pid)
	note("arguments", arguments)
	note("environments", environments)
	note("dump", dump(t, r.AdminDatabaseURL))
	for _, sql := range []string{"DO $$ BEGIN RAISE LOG '" + control + "'; END $$", "CHECKPOINT"} {
		_, err = admin.Exec(t.Context(), sql)
		must(t, err)
	}
	postmaster(t, dir, syscall.SIGKILL) // what PostgreSQL says when it recovers
	before := filepath.Join(dir, "postgres", "postgres.log.1")
	eventually(t, "new start of PostgreSQL", func() bool { _, err := os.Stat(before); return err == nil }) // its processes answer a while without it
	eventually(t, "answer after PostgreSQL was killed", func() bool { _, err := verify(r.URL, r.ServiceKey, r.AgentToken); return err == nil })
	p.end(syscall.SIGTERM)
	note("server's log", []byte(p.said()))
	note("traces", traces.all())
	for _, log := range []string{"postgres.log", "postgres.log.1"} {
		note("PostgreSQL's log", []byte(contents(t, filepath.Join(dir, "postgres", log))))
	}
	note("files", files(t, dir))
	s.judge(found)
}

// judge wants the controls wherever they can be, and nothing else anywhere.
func (s *scene) judge(found map[string][]string) {
	controls := map[string]string{
		"server's log": "control", "PostgreSQL's log": "control", "arguments": "control", "environments": "control", "dump": "control", "files": "control",
		"traces": "control: a request", "refusals": "control", "answers": "control", "metrics": "",
	}
	for place, control := range controls {
		if control != "" && !slices.Contains(found[place], control) {
			s.t.Errorf("%s: the control was not found: this shows nothing", place)
		}
	}
	for place, names := range found {
		if _, known := controls[place]; !known {
			s.t.Errorf("%s: no control", place)
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
			if !strings.HasPrefix(name, "control") {
				s.t.Errorf("%s: %s", place, name)
			}
		}
	}
	s.t.Logf("measured: %d kinds of secrets looked for in 9 forms in %d places", len(s.h.names)-2, len(found))
}

// scene is what the test does with an installation, and what it was answered.
type scene struct {
	t                 testing.TB
	h                 *hunt
	r                 ready
	request           string
	refusals, answers bytes.Buffer
}

// shows asks for something whose answer has no business to hold a secret.
func (s *scene) shows(method, path, key string, body any, header ...string) reply {
	s.t.Helper()
	got, err := ask(method, s.r.URL+path, key, body, header...)
	must(s.t, err)
	into := &s.answers
	if got.status >= 400 {
		into = &s.refusals
	}
	got.header.Write(into)
	into.Write(got.body)
	return got
}

// work makes keys, agents and tokens, each twice with an Idempotency-Key, and uses them. The control is an agent's name.
func (s *scene) work(control string) {
	t, r := s.t, s.r
	t.Helper()
	for name, key := range map[string]string{"owner key": r.OwnerKey, "service's owner key": r.ServiceOwnerKey, "service key": r.ServiceKey} {
		s.h.key(t, name, key)
	}
	s.h.add(t, "owner's password", []byte(r.OwnerPassword))
	s.h.token(t, "demo's token", r.AgentToken)
	var made struct {
		Key      string `json:"key"`
		OwnerKey string `json:"owner_key"`
		Token    string `json:"token"`
		Agent    string `json:"agent_id"`
	}
	for range 2 {
		want(t, 201, http.MethodPost, r.URL+"/api/v1/keys", r.OwnerKey, map[string]any{"name": "extra", "kind": "owner"}, &made, "Idempotency-Key", "key-1")
		s.h.key(t, "new key", made.Key)
	}
	want(t, 201, http.MethodPost, r.URL+"/api/v1/organisations", "", map[string]any{"name": "Third", "contact_email": "third@third.example"}, &made)
	s.h.key(t, "new organisation's key", made.OwnerKey)
	for i, name := range [][]byte{[]byte(control), []byte(hex.EncodeToString([]byte(control))), []byte(base64.StdEncoding.EncodeToString([]byte(control))), []byte(base64.URLEncoding.EncodeToString([]byte("--" + control)))} {
		for range 2 {
			want(t, 201, http.MethodPost, r.URL+"/api/v1/agents/register", r.OwnerKey, map[string]any{"name": string(name), "capabilities": []string{"read:data"}}, &made,
				"Idempotency-Key", fmt.Sprint("agent-", i))
			s.h.token(t, "new agent's token", made.Token)
		}
		if only := s.shows(http.MethodGet, "/api/v1/agents/"+made.Agent, r.OwnerKey, nil); !slices.Contains(s.h.in(only.body), "control") {
			t.Errorf("form %d of the control is not found", i)
		}
	}
	want(t, 201, http.MethodPost, r.URL+"/api/v1/agents/"+made.Agent+"/tokens", r.OwnerKey, map[string]any{"resources": []string{"your-service"}}, &made, "Idempotency-Key", "token-1")
	s.h.token(t, "new token", made.Token)
	for _, token := range []string{r.AgentToken, made.Token} {
		v, err := verify(r.URL, r.ServiceKey, token)
		must(t, err)
		s.request = v.RequestID
	}
	for _, path := range []string{"agents", "keys", "organisation", "audit/entries", "scopes", "incidents", "agents/" + made.Agent + "/tokens", "requests/" + s.request} {
		s.shows(http.MethodGet, "/api/v1/"+path, r.OwnerKey, nil)
		s.shows(http.MethodGet, "/api/v1/"+path, r.ServiceOwnerKey, nil)
	}
	s.shows(http.MethodPost, "/api/v1/audit/events", "", map[string]any{"action": "read", "object": "x"}, "X-Agent-Token", r.AgentToken)
}

// misuse puts secrets where they do not belong, and sends what must be refused.
func (s *scene) misuse(control string) {
	r := s.r
	s.t.Helper()
	before := s.refusals.Len()
	for _, c := range []string{r.OwnerKey, r.ServiceKey, r.AgentToken} {
		s.shows(http.MethodGet, "/api/v1/agents?key="+c, "", nil)
		s.shows(http.MethodGet, "/api/v1/agents/"+c, r.OwnerKey, nil)
		s.shows(http.MethodDelete, "/api/v1/keys/"+c, r.OwnerKey, nil)
		s.shows(http.MethodGet, "/nowhere/"+c+"?token="+c, "", nil)
		s.shows(http.MethodGet, "/api/v1/agents", c[:len(c)-1]+"x", nil, "User-Agent", c, "Referer", "http://127.0.0.1/"+c)
		s.shows(http.MethodPost, "/api/v1/verify", r.ServiceKey, map[string]any{"token": 5, c: c})
		s.shows(http.MethodPost, "/api/v1/verify", r.ServiceKey, map[string]any{"token": c + "x", "target_resource": strings.Repeat("x", 5000)})
		s.shows(http.MethodPost, "/api/v1/verify", r.ServiceKey, map[string]any{"token": c, "scopes_requested": []string{c + c}})
		s.shows(http.MethodPost, "/api/v1/verify", r.ServiceKey, c)
		s.shows(http.MethodPost, "/api/v1/verify", r.ServiceKey, map[string]any{"token": c + strings.Repeat(c, 30000)})
		s.shows(http.MethodPost, "/api/v1/agents/register", r.OwnerKey, map[string]any{"name": "", "capabilities": []string{c}, "signing_key_pub": c})
		s.shows(http.MethodPatch, "/api/v1/agents/"+r.AgentID, r.OwnerKey, map[string]any{"name": "x"}, "If-Match", c)
		s.shows(http.MethodPost, "/api/v1/keys", r.OwnerKey, map[string]any{"name": "other", "kind": "owner"}, "Idempotency-Key", "key-1")
	}
	// A caller's own words come back to the caller, so the control can be had in a refusal.
	s.shows(http.MethodPost, "/api/v1/verify", r.ServiceKey, map[string]any{"token": "x", control: 1})
	if s.refusals.Len() < before+10_000 {
		s.t.Errorf("only %d bytes of refusals", s.refusals.Len()-before)
	}
}

// stall makes the server and PostgreSQL speak of failed statements.
func (s *scene) stall(admin *Database) {
	s.t.Helper()
	release, err := admin.Hold(s.t.Context(), s.r.TenantID)
	must(s.t, err)
	defer release()
	refused := make(chan error)
	go func() {
		_, err := verify(s.r.URL, s.r.ServiceKey, s.r.AgentToken)
		refused <- err
	}()
	s.shows(http.MethodPost, "/api/v1/keys", s.r.OwnerKey, map[string]any{"name": "late", "kind": "owner"})
	if err := <-refused; !errors.Is(err, errRefused) {
		s.t.Errorf("with the head held: %v", err)
	}
}

// processes reads the arguments of the server and of PostgreSQL's processes, and the environments of the latter: the
// server's own may hold the platform key.
func processes(t testing.TB, dir string, server int) (arguments, environments []byte) {
	t.Helper()
	n := 0
	for _, found := range processesOf(t, dir) {
		at, _, _ := strings.Cut(found, " ")
		line, err1 := os.ReadFile(at + "/cmdline")
		env, err2 := os.ReadFile(at + "/environ")
		if err1 != nil || err2 != nil {
			continue // it has ended
		}
		arguments = append(arguments, line...)
		if at != fmt.Sprintf("/proc/%d", server) {
			environments = append(environments, env...)
			n++
		}
	}
	if n < 5 {
		t.Errorf("only %d processes of PostgreSQL were seen", n)
	}
	return arguments, environments
}

// dump is what a backup by pg_dump holds.
func dump(t testing.TB, url string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	program := "pg_dump"
	if b, err := devpg.Find(); err == nil {
		if beside := filepath.Join(b.Dir, "pg_dump"); exists(beside) {
			program = beside
		}
	}
	out, err := exec.CommandContext(ctx, program, "--inserts", "--dbname", url).Output()
	if errors.Is(err, exec.ErrNotFound) {
		missing(t, "there is no pg_dump here")
	}
	var end *exec.ExitError
	if errors.As(err, &end) {
		t.Fatalf("pg_dump: %v: %s", err, end.Stderr)
	}
	must(t, err)
	return out
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// files is everything in the directory of `avouch dev` but the two files that are there to hold secrets, which nobody but
// their owner can read.
func files(t testing.TB, dir string) (all []byte) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if rel, _ := filepath.Rel(dir, path); rel == "dev.json" || rel == "keys/platform.key" {
			if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v (%v)", rel, info.Mode(), err)
			}
			return nil
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	}))
	return all
}
