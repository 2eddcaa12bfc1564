package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// installation is what the servers of one test share: a database, a key store, an issuer. Those that start opens run in this
// process, each with its own memory, connections and listener.
type installation struct {
	pg     *pgtest.DB
	dir    string
	issuer string // the first server's address
}

func install(t testing.TB) *installation {
	t.Helper()
	pg := pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate})
	in := &installation{pg: pg, dir: t.TempDir()}
	_, err := keyring.CreatePlatformKeyFile(in.platformKey())
	must(t, err)
	return in
}

func (in *installation) platformKey() string { return filepath.Join(in.dir, "platform.key") }

func (in *installation) config() server.Config {
	return server.Config{
		DatabaseURL: in.pg.URL, PlatformKeyFile: in.platformKey(), KeyStore: filepath.Join(in.dir, "keystore"), PublicURL: in.issuer,
		TenantQuota: -1, ServiceQuota: -1, Version: "test",
	}
}

// node is one server of an installation.
type node struct {
	*server.Server
	url  string // where it listens, http://127.0.0.1:port
	addr string
	env  []string // of the process that it is; nil if it runs in this one
}

// operate runs an operator's command beside a server that is a process, and waits for its end.
func (n *node) operate(t testing.TB, args ...string) {
	t.Helper()
	p := start(t, launch{args: args, env: n.env})
	if code := p.exit(time.Minute); code != 0 {
		t.Fatalf("avouch %v ended with %d: %s", args, code, p.said())
	}
}

// start opens a server and serves until the test ends.
func (in *installation) start(t testing.TB, set ...func(*server.Config)) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n := &node{url: "http://" + l.Addr().String(), addr: l.Addr().String()}
	if in.issuer == "" {
		in.issuer = n.url
	}
	cfg := in.config()
	for _, change := range set {
		change(&cfg)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	n.Server, err = server.Open(t.Context(), cfg, n.addr, log)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		n.Close()
	})
	return n
}

// serveBeside serves a handler on a listener of its own, until the test ends.
func serveBeside(t testing.TB, h http.Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// party is an organisation, with the key of its owner.
type party struct {
	id  tenantdb.TenantID
	key string
}

func (n *node) organisation(t testing.TB, name string) party {
	t.Helper()
	made, err := n.Org.Create(t.Context(), org.NewOrganisation{Name: name})
	must(t, err)
	return party{made.ID, made.OwnerKey.Expose()}
}

// serviceKey makes a key for one of a party's services; more is what else the request says.
func (n *node) serviceKey(t testing.TB, p party, more map[string]any) (key, id string) {
	t.Helper()
	body := map[string]any{"name": "service", "kind": "service"}
	for k, v := range more {
		body[k] = v
	}
	a := n.call(t, "POST", "/api/v1/keys", p.key, body).want(t, http.StatusCreated)
	return a.text("key"), a.text("key_id")
}

// registered is an agent, with its first token.
type registered struct{ id, did, token, jti, etag string }

func (n *node) agent(t testing.TB, p party, scopes ...string) registered {
	t.Helper()
	a := n.call(t, "POST", "/api/v1/agents/register", p.key, map[string]any{"name": "agent", "capabilities": scopes}).want(t, http.StatusCreated)
	return registered{a.text("agent_id"), a.text("did"), a.text("token"), a.text("jti"), a.Header.Get("ETag")}
}

// answer is what a server answered.
type answer struct {
	Status int
	Header http.Header
	Body   map[string]any // nil if it is no JSON object
	Raw    []byte
	asked  string
}

func (a answer) text(name string) string {
	s, _ := a.Body[name].(string)
	return s
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("%s: status %d, want %d: %.300s", a.asked, a.Status, status, a.Raw)
	}
	return a
}

// call asks a server. header holds names and values, alternating.
func (n *node) call(t testing.TB, method, path, key string, body any, header ...string) answer {
	t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = bytes.NewReader([]byte(b))
	default:
		encoded, err := json.Marshal(b)
		must(t, err)
		content = bytes.NewReader(encoded)
	}
	q, err := http.NewRequestWithContext(t.Context(), method, n.url+path, content)
	must(t, err)
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		q.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	r, err := client.Do(q)
	must(t, err)
	defer r.Body.Close()
	a := answer{Status: r.StatusCode, Header: r.Header, asked: method + " " + path}
	a.Raw, err = io.ReadAll(r.Body)
	must(t, err)
	if json.Unmarshal(a.Raw, &a.Body) != nil {
		a.Body = nil
	}
	return a
}

// client follows no redirects: an answer is looked at as it is.
var client = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask verifies a token with a key.
func (n *node) ask(t testing.TB, key, token string, scopes ...string) answer {
	t.Helper()
	return n.call(t, "POST", "/api/v1/verify", key, map[string]any{"token": token, "target_resource": "here", "scopes_requested": scopes})
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	must(t, err)
	return u
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
