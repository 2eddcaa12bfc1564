package session

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

const issuer = "https://avouch.test"

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// people are who the tests say that they are: what org tells of in a server.
type people struct {
	mu   sync.Mutex
	all  map[tenantdb.PersonID]Standing
	lent map[tenantdb.PersonID]time.Time // since when the glass is broken for them
}

func (p *people) Standing(_ context.Context, _ *tenantdb.ReadTx, of tenantdb.PersonID) (Standing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st, ok := p.all[of]
	if !ok {
		return st, problem.New(problem.Missing, "There is no such member.")
	}
	return st, nil
}

func (p *people) Lent(_ context.Context, _ *tenantdb.ReadTx, of tenantdb.PersonID, provedAt time.Time) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if since, ok := p.lent[of]; ok && provedAt.After(since) {
		return []string{"keys:write"}, nil
	}
	return nil, nil
}

func (p *people) set(of tenantdb.PersonID, change func(*Standing)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.all[of]
	st.Capabilities = slices.Clone(st.Capabilities)
	change(&st)
	p.all[of] = st
}

// house is a server with an organisation and a person.
type house struct {
	*doortest.Door
	room    *Room
	signing *keyring.Signing
	people  *people
	clock   *clock
	tenant  tenantdb.TenantID
	person  tenantdb.PersonID
	ticks   *atomic.Int64
}

func newHouse(t testing.TB) *house {
	t.Helper()
	d := doortest.Open(t)
	d.Install(t)
	h := &house{
		Door: d, clock: &clock{at: time.Now().UTC().Truncate(time.Microsecond)}, tenant: d.Tenant(t, "Acme"), ticks: &atomic.Int64{},
		people: &people{all: map[tenantdb.PersonID]Standing{}, lent: map[tenantdb.PersonID]time.Time{}},
	}
	h.open(t)
	h.person = h.join(t, Standing{Roles: []string{"member"}, Capabilities: []string{"agents:read", "agents:write"}})
	return h
}

func (h *house) open(t testing.TB) {
	t.Helper()
	w, err := h.Key.Wrapper(keyring.ForSigning)
	must(t, err)
	h.signing = keyring.NewSigning(keyring.NewSigningTable(h.DB, tenantdb.System(tenantdb.Platform, "signing")), w, h.tick)
	must(t, h.signing.Rotate(t.Context()))
	h.room, err = NewRoom(Config{DB: h.DB, Ring: h.Ring, Signing: h.signing, People: h.people, Glass: h.people, Issuer: issuer, Now: h.clock.now})
	must(t, err)
}

// tick is a clock that never stands: keys succeed each other by it.
func (h *house) tick() time.Time {
	return h.clock.now().Add(time.Duration(h.ticks.Add(1)) * time.Microsecond)
}

// another is a second server.
func (h *house) another(t testing.TB) *house {
	t.Helper()
	other := *h
	other.Door = h.Door.Another(t)
	other.open(t)
	return &other
}

func (h *house) join(t testing.TB, st Standing) tenantdb.PersonID {
	t.Helper()
	p := audit.NewSubjectID()
	st.Active = true
	h.people.set(p, func(s *Standing) { *s = st })
	name := strings.ReplaceAll(p.String(), "-", "")[:26]
	must(t, h.DB.Change(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.person (tenant_id, person_id, profile, address, created_at) VALUES ($1, $2, 'x', $3, now())`, tx.Tenant(), p, reversed(name))
		return audit.Event{Type: "test.joined"}, err
	}))
	return p
}

// reversed has what differs of an identifier of this millisecond in front: 26 characters of 32.
func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func browser(p tenantdb.PersonID) New {
	return New{
		Person: p, Kind: Browser, Methods: []string{"password", "totp"}, Device: "Ada's laptop", Address: netip.MustParseAddr("192.0.2.1"),
		Program: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
	}
}

func program(p tenantdb.PersonID) New {
	n := browser(p)
	n.Kind, n.Program, n.Device = Program, "avouch-cli/1.0", "build server"
	return n
}

func (h *house) start(t testing.TB, n New) (Session, string) {
	t.Helper()
	s, v, err := h.tryStart(t, n)
	must(t, err)
	return s, v.Expose()
}

func (h *house) tryStart(t testing.TB, n New) (s Session, v secret.String, err error) {
	t.Helper()
	must(t, h.room.Prepare(t.Context(), h.tenant, n.Person))
	err = h.DB.Change(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		s, v, err = h.room.Start(t.Context(), tx, n)
		return s.Event(), err
	})
	return s, v, err
}

func (h *house) change(t testing.TB, fn func(tx *tenantdb.Tx) error) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "test.changed"}, fn(tx)
	}))
}

func meta() web.RequestMeta {
	return web.RequestMeta{ID: web.RequestID(id.New[struct{}]()), Address: netip.MustParseAddr("192.0.2.1"), Secure: true}
}

// request is one with headers, of a page of our own.
func request(method string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, issuer+"/api/v1/things", nil)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func withCookie(v string) []string { return []string{"Cookie", "__Host-avouch=" + v} }

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// as authenticates a request with headers.
func (h *house) as(t testing.TB, headers []string) (tenantdb.Caller, error) {
	t.Helper()
	return patiently(func() (tenantdb.Caller, error) {
		c, there, err := h.room.Authenticate(t.Context(), request("POST", headers...), meta())
		if !there {
			t.Error("no credential of a session was seen")
		}
		return c, err
	})
}

// patiently tries again while the database is too slow, as a client would: on a machine that stands still for seconds.
func patiently[T any](fn func() (T, error)) (v T, err error) {
	for range 50 {
		if v, err = fn(); !problem.Is(err, problem.Unavailable) {
			break
		}
	}
	return v, err
}

func (h *house) tryRefresh(t testing.TB, n Renewal) (Tokens, error) {
	t.Helper()
	return patiently(func() (Tokens, error) { return h.room.Refresh(t.Context(), meta(), n) })
}

func (h *house) counts(t testing.TB, headers []string) {
	t.Helper()
	if _, err := h.as(t, headers); err != nil {
		t.Errorf("refused: %v", err)
	}
}

func (h *house) refused(t testing.TB, why string, headers []string) {
	t.Helper()
	c, err := h.as(t, headers)
	if !problem.Is(err, problem.Unauthenticated) || c.Actor().Kind != "" {
		t.Errorf("%s: %v is admitted, %v", why, c.Actor(), err)
	}
}

// api is the room's routes behind its own authentication.
func (h *house) api() *web.API[tenantdb.Caller] {
	api := h.API(func(r *http.Request, m web.RequestMeta) (tenantdb.Caller, error) {
		c, there, err := h.room.Authenticate(r.Context(), r, m)
		if !there {
			return c, problem.New(problem.Unauthenticated, "No credential.")
		}
		return c, err
	})
	h.room.Routes(api)
	return api
}

func call(t testing.TB, api http.Handler, method, path string, headers []string, body any) doortest.Answer {
	t.Helper()
	q := doortest.Request{Method: method, Path: path, Header: map[string]string{"Sec-Fetch-Site": "same-origin"}, Body: body}
	for i := 0; i < len(headers); i += 2 {
		q.Header[headers[i]] = headers[i+1]
	}
	return doortest.Call(t, api, q)
}

func names(all map[string]bool) []string { return slices.Sorted(maps.Keys(all)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
