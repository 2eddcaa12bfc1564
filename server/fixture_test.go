package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/e2e"
)

// site is what the servers of one installation share: a database, a key store, a platform key, an issuer.
type site struct {
	pg     *pgtest.DB
	admin  *e2e.Database // past all nets, to see what is stored and to break it
	dir    string
	issuer string // the first server's address, unless a test chooses
	logged *buffer
}

func newSite(t testing.TB) *site {
	t.Helper()
	pg := pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate})
	admin, err := e2e.Connect(t.Context(), pg.AdminURL)
	must(t, err)
	t.Cleanup(admin.Close)
	s := &site{pg: pg, admin: admin, dir: t.TempDir(), logged: &buffer{}}
	_, err = keyring.CreatePlatformKeyFile(s.keyFile())
	must(t, err)
	return s
}

func (s *site) keyFile() string { return filepath.Join(s.dir, "platform.key") }

func (s *site) log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewMultiHandler(
		slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}), slog.NewTextHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}),
	))
}

func (s *site) config() Config {
	return Config{
		DatabaseURL: s.pg.URL, DatabaseConnections: 4, PlatformKeyFile: s.keyFile(), KeyStore: filepath.Join(s.dir, "keystore"), PublicURL: s.issuer,
		SignUp: true, TenantQuota: -1, ServiceQuota: -1, TraceSeconds: 1000, Version: "test",
	}
}

// live is a server that answers, in this process, on a listener of its own.
type live struct {
	*Server
	addr, url string
	client    *http.Client // follows no redirects
	stop      func()       // ends it as SIGTERM does, and waits
}

// start opens a server and serves until the test ends.
func (s *site) start(t testing.TB, change ...func(*Config)) *live {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	cfg := s.config()
	for _, c := range change {
		c(&cfg)
	}
	n := &live{addr: l.Addr().String(), client: &http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	n.url = "http://" + n.addr
	if cfg.TLSCertFile != "" {
		n.url = "https://" + n.addr
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL, s.issuer = n.url, n.url
	}
	n.Server, err = Open(t.Context(), cfg, n.addr, s.log(t))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, l) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		n.Close()
		n.client.CloseIdleConnections()
	})
	t.Cleanup(n.stop)
	return n
}

// party is an organisation with the key of its owner.
type party struct {
	id  tenantdb.TenantID
	key string
}

func (n *live) organisation(t testing.TB, name string) party {
	t.Helper()
	made, err := n.Org.Create(t.Context(), org.NewOrganisation{Name: name, ContactEmail: "owner@" + strings.ToLower(name) + ".example"})
	must(t, err)
	return party{made.ID, made.OwnerKey.Expose()}
}

// newKey makes a key of a party, with what else the request says.
func (n *live) newKey(t testing.TB, p party, more map[string]any) (key, id string) {
	t.Helper()
	body := map[string]any{"name": "a key", "kind": "service"}
	for k, v := range more {
		body[k] = v
	}
	a := n.call(t, ask{Method: "POST", Path: "/api/v1/keys", Key: p.key, Body: body}).want(t, http.StatusCreated)
	return a.text("key"), a.text("key_id")
}

// ask is a request.
type ask struct {
	Method, Path, Key string
	Body              any // a string is sent as it is, anything else as JSON, nil not at all
	Header            map[string]string
}

// answer is what a server answered.
type answer struct {
	Status int
	Header http.Header
	Raw    string
	Body   map[string]any // nil if it is no JSON object
	asked  string
}

func (a answer) text(name string) string {
	s, _ := a.Body[name].(string)
	return s
}

// kind is the kind of a problem document, or "".
func (a answer) kind() string {
	_, kind, _ := strings.Cut(a.text("type"), "/problems/")
	return kind
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("%s: status %d, want %d: %.400s", a.asked, a.Status, status, a.Raw)
	}
	return a
}

func (n *live) request(ctx context.Context, q ask) (*http.Request, error) {
	var body io.Reader
	switch b := q.Body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, n.url+q.Path, body)
	if err != nil {
		return nil, err
	}
	if q.Body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.Key != "" {
		r.Header.Set("Authorization", "Bearer "+q.Key)
	}
	for name, value := range q.Header {
		r.Header.Set(name, value)
	}
	return r, nil
}

// try asks, for callers beside the test's own goroutine.
func (n *live) try(ctx context.Context, q ask) (a answer, err error) {
	r, err := n.request(ctx, q)
	if err != nil {
		return a, err
	}
	got, err := n.client.Do(r)
	if err != nil {
		return a, err
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	a = answer{Status: got.StatusCode, Header: got.Header, Raw: string(b), asked: q.Method + " " + q.Path}
	if json.Unmarshal(b, &a.Body) != nil {
		a.Body = nil
	}
	return a, err
}

func (n *live) call(t testing.TB, q ask) answer {
	t.Helper()
	a, err := n.try(t.Context(), q)
	must(t, err)
	return a
}

func (n *live) get(t testing.TB, path, key string) answer {
	t.Helper()
	return n.call(t, ask{Method: "GET", Path: path, Key: key})
}

// entry is an entry of a log, with its private fields opened.
type entry struct {
	audit.Entry
	private map[string]string
}

func (e entry) field(name string) string {
	for _, f := range e.Public {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// entries is those of a tenant's log that have the type, in order; all of them if it is empty.
func (n *live) entries(t testing.TB, tenant tenantdb.TenantID, typ string) (found []entry) {
	t.Helper()
	must(t, n.DB.Read(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.ReadTx) error {
		rows, err := tx.Query(t.Context(), `SELECT entry_id, body, sealed FROM avouch.audit_entry ORDER BY seq`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id [16]byte
			var body, sealed []byte
			if err := rows.Scan(&id, &body, &sealed); err != nil {
				return err
			}
			e, err := audit.Decode(body)
			if err != nil {
				return err
			}
			if typ == "" || e.Type == typ {
				found = append(found, entry{e, n.opened(t, tenant, e, sealed, id)})
			}
		}
		return rows.Err()
	}))
	return found
}

func (n *live) opened(t testing.TB, tenant tenantdb.TenantID, e audit.Entry, sealed []byte, id [16]byte) map[string]string {
	t.Helper()
	private := map[string]string{}
	for _, c := range e.Commitments {
		plain, err := n.Ring.OpenFields(t.Context(), tenant, c.Subject, sealed, id[:])
		must(t, err)
		fields, err := audit.Reveal(plain, c.Sum)
		must(t, err)
		for _, f := range fields {
			private[f.Name] = f.Value
		}
	}
	return private
}

// buffer is a log that several servers write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the log.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is the whole log.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
