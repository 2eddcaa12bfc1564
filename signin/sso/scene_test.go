package sso

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
	"github.com/avouch-dev/avouch/test/oidcprovider"
)

const public = "https://avouch.test"

// scene is an organisation with an owner, a proved domain (acme.example) and a connection to a provider that runs, on two servers.
type scene struct {
	*doortest.Door
	people   *org.Room
	rooms    [2]*Room
	apis     [2]http.Handler
	acme     tenantdb.TenantID
	ada      PersonID // the owner
	owner    tenantdb.Caller
	provider *oidcprovider.Provider
	dns      *dnsServer
	conn     Connection

	mu      sync.Mutex
	now     time.Time
	arrived []Arrival
	told    []Notice
}

func (s *scene) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *scene) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func open(t *testing.T) *scene { return openWith(t, jose.ES256) }

func openWith(t *testing.T, alg jose.SignatureAlgorithm) *scene {
	t.Helper()
	d := doortest.Open(t)
	d.Install(t)
	s := &scene{Door: d, now: time.Now().UTC().Truncate(time.Second), dns: newDNS(t)}
	s.people = org.New(org.Config{DB: d.DB, Ring: d.Ring, Now: s.clock, Restored: func(ctx context.Context, tx *tenantdb.Tx) ([]audit.Field, error) { return s.rooms[1].Restored(ctx, tx) },
		Link: func(context.Context, *tenantdb.Tx, string, [16]byte, time.Duration) (string, error) { return "", nil }})
	s.acme = d.Tenant(t, "Acme")
	s.ada = s.member(t, s.acme, "ada@acme.example", org.RoleOwner)
	s.owner = s.caller(s.acme, s.ada, 0, tenantdb.Everything)
	s.provider = oidcprovider.New(t, alg)
	s.provider.Now = s.clock
	s.rooms[0], s.rooms[1] = s.room(t, d), s.room(t, d.Another(t))
	for i, r := range s.rooms {
		s.apis[i] = s.api(d, r, s.owner)
	}
	s.conn = s.connect(t, Admission{JIT: true}, nil)
	s.prove(t, "acme.example", s.conn.ID)
	return s
}

// room is a server's room: sessions are rows, and arrivals and notices are written down.
func (s *scene) room(t *testing.T, d *doortest.Door) *Room {
	t.Helper()
	client, err := outbound.Client(outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := url.Parse(public)
	return New(Config{
		DB: d.DB, Ring: d.Ring, People: s.people, Public: at, Client: client, Now: s.clock, LookupTXT: s.dns.resolver().LookupTXT, EndSessions: endSessions, StartsPerMinute: 1000,
		Arrive: func(w http.ResponseWriter, _ *http.Request, _ web.RequestMeta, a Arrival) (string, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.arrived = append(s.arrived, a)
			w.Header().Add("Set-Cookie", "session=made")
			return "", nil
		},
		Tell: func(_ context.Context, _ *tenantdb.Tx, n Notice) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, n)
			return nil
		},
	})
}

func (s *scene) api(d *doortest.Door, r *Room, c tenantdb.Caller) http.Handler {
	api := d.API(doortest.As(c), func(cfg *web.Config[tenantdb.Caller]) {
		cfg.PublicURL, _ = url.Parse(public)
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	r.Routes(api)
	return behindTLS{api}
}

// behindTLS is the proxy that ends TLS in front.
type behindTLS struct{ next http.Handler }

func (b behindTLS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-For", "127.0.0.1")
	b.next.ServeHTTP(w, r)
}

const endSessionsSQL = `UPDATE avouch.session SET ended_at = now(), ended_why = $2 WHERE tenant_id = $1 AND ended_at IS NULL
  AND ($3::uuid IS NULL OR person_id = $3) AND ($4::uuid IS NULL OR via = $4) AND ($5::uuid IS NULL OR via IS DISTINCT FROM $5)`

func endSessions(ctx context.Context, tx *tenantdb.Tx, e Ended, why string) (int, error) {
	n, err := tx.Exec(ctx, endSessionsSQL, tx.Tenant(), why, orNull(e.Person), orNull(e.Via), orNull(e.NotVia))
	return int(n), err
}

// caller is a person whose last proof is so old.
func (s *scene) caller(t tenantdb.TenantID, p PersonID, old time.Duration, capabilities ...string) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: t, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.String()}, How: "session:password+totp", Scopes: capabilities, RequestID: audit.NewRequestID(),
		Address: netip.MustParseAddr("127.0.0.1"), Person: &tenantdb.Person{ID: p, Session: "0198a000-0000-7000-8000-000000000001", ProvedAt: s.clock().Add(-old)},
	})
}

// member makes a person.
func (s *scene) member(t *testing.T, tenant tenantdb.TenantID, address string, roles ...string) PersonID {
	t.Helper()
	n := org.NewPerson{ID: audit.NewSubjectID(), Name: "Somebody", Address: address, Roles: []string{org.RoleMember}, Verified: true, Via: "test"}
	must(t, s.people.Prepare(t.Context(), tenant, n.ID))
	system := tenantdb.System(tenant, "test")
	must(t, s.DB.Change(t.Context(), system, func(tx *tenantdb.Tx) (e audit.Event, err error) {
		_, e, err = s.people.Admit(t.Context(), tx, n)
		return e, err
	}))
	if len(roles) > 0 {
		_, err := s.people.UpdatePerson(t.Context(), system, n.ID, "", org.PersonChange{Roles: &roles})
		must(t, err)
	}
	return n.ID
}

func (s *scene) connect(t *testing.T, a Admission, change func(*OIDC)) Connection {
	t.Helper()
	o := &OIDC{Issuer: s.provider.URL, ClientID: "avouch", ClientSecret: "the client's secret"}
	if change != nil {
		change(o)
	}
	n, err := s.rooms[0].Connect(t.Context(), s.owner, KindOIDC, "Acme's provider", Settings{OIDC: o, Admission: a})
	must(t, err)
	s.provider.Register(oidcprovider.Client{ID: "avouch", Secret: o.ClientSecret, Redirects: []string{s.rooms[0].callbackAddress(n.ID)}})
	n, err = s.rooms[0].Switch(t.Context(), s.owner, n.ID, true)
	must(t, err)
	return n
}

// reconfigure changes the scene's connection.
func (s *scene) reconfigure(t *testing.T, c tenantdb.Caller, ch Reconfigure) {
	t.Helper()
	now, err := s.rooms[0].Get(t.Context(), s.owner, s.conn.ID)
	must(t, err)
	s.conn, err = s.rooms[0].Update(t.Context(), c, s.conn.ID, web.ETag(now.Version), ch)
	must(t, err)
}

func (s *scene) prove(t *testing.T, name string, connection ID) Domain {
	t.Helper()
	d, err := s.rooms[0].AddDomain(t.Context(), s.owner, name, connection)
	must(t, err)
	s.dns.set(d.Record(), d.Token)
	d, err = s.rooms[0].Prove(t.Context(), s.owner, name)
	must(t, err)
	return d
}

// browser holds cookies, as far as they belong to us.
type browser struct {
	s       *scene
	cookies map[string]string
}

func (s *scene) browser() *browser { return &browser{s, map[string]string{}} }

func (b *browser) send(t *testing.T, server int, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.s.apis[server].ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		if b.cookies[k.Name] = k.Value; k.MaxAge < 0 {
			delete(b.cookies, k.Name)
		}
	}
	return w
}

// start begins to sign in, and says where the browser goes.
func (b *browser) start(t *testing.T, body map[string]any) string {
	t.Helper()
	return b.begin(t, "/api/v1/sso/start", body)
}

func (b *browser) begin(t *testing.T, path string, body map[string]any) string {
	t.Helper()
	text, err := json.Marshal(body)
	must(t, err)
	w := b.send(t, 0, http.MethodPost, path, string(text), "Content-Type", "application/json")
	var out struct {
		Kind     string
		Redirect string `json:"redirect_url"`
	}
	if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &out) != nil || out.Kind == "password" {
		t.Fatalf("%s answered %d %s", path, w.Code, w.Body)
	}
	return out.Redirect
}

// back brings what the provider said to a server.
func (b *browser) back(t *testing.T, server int, address string) *httptest.ResponseRecorder {
	t.Helper()
	return b.send(t, server, http.MethodGet, strings.TrimPrefix(address, public), "")
}

// signIn goes the whole way, and says who arrived.
func (b *browser) signIn(t *testing.T, u oidcprovider.User) (Arrival, Reason) {
	t.Helper()
	b.s.provider.SignIn(u)
	to := b.start(t, map[string]any{"connection_id": b.s.conn.ID.String(), "return_to": "/console"})
	back, _ := oidcprovider.Visit(t, to)
	return b.s.arrival(t, b.back(t, 1, back))
}

// arrival is who arrived with an answer, or why nobody did, as the log says.
func (s *scene) arrival(t *testing.T, w *httptest.ResponseRecorder) (Arrival, Reason) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.Code == http.StatusSeeOther {
		if len(s.arrived) == 0 {
			return Arrival{}, ""
		}
		return s.arrived[len(s.arrived)-1], ""
	}
	refusals := s.OfType(t, s.acme, "sso.refused")
	if len(refusals) == 0 {
		return Arrival{}, ReasonState // which has no organisation to tell
	}
	return Arrival{}, Reason(refusals[len(refusals)-1].Field("reason"))
}

func user(subject, address string, claims ...any) oidcprovider.User {
	u := oidcprovider.User{Subject: subject, Claims: map[string]any{"name": "Grace Hopper"}}
	if address != "" {
		u.Claims["email"], u.Claims["email_verified"] = address, true
	}
	for i := 0; i+1 < len(claims); i += 2 {
		if u.Claims[claims[i].(string)] = claims[i+1]; claims[i+1] == nil {
			delete(u.Claims, claims[i].(string))
		}
	}
	return u
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err error, kind problem.Kind, what string) {
	t.Helper()
	if !problem.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

// dnsServer is a DNS server on loopback that knows TXT records.
type dnsServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	records map[string]string
	broken  bool
}

func newDNS(t *testing.T) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	d := &dnsServer{conn: conn, records: map[string]string{}}
	t.Cleanup(func() { conn.Close() })
	go d.serve()
	return d
}

func (d *dnsServer) set(name, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records[name+"."] = text
}

func (d *dnsServer) fail(broken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = broken
}

func (d *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}

func (d *dnsServer) serve() {
	buf := make([]byte, 4096)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var m dnsmessage.Message
		if err != nil || m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		if out, err := d.answer(m); err == nil {
			d.conn.WriteTo(out, from)
		}
	}
}

func (d *dnsServer) answer(m dnsmessage.Message) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	text, there := d.records[strings.ToLower(q.Name.String())]
	switch {
	case d.broken:
		m.RCode = dnsmessage.RCodeServerFailure
	case !there:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeTXT:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.TXTResource{TXT: []string{text}},
		}}
	}
	return m.Pack()
}
