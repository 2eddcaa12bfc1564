package server

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/tenantdb"
)

// somebody is a person at a browser.
type somebody struct {
	n       *house
	browser *http.Client
	address string
	seed    string // of the authenticator app
	codes   []string
	step    int64 // the last that a code was made for
	bearer  string
	refresh string
}

const goodPassword = "a tin of blue paint, 1974"

// newBrowser is a browser without cookies.
func newBrowser(t testing.TB, n *house, address string) *somebody {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &somebody{n: n, address: address, browser: &http.Client{
		Timeout: time.Minute, Jar: jar, Transport: n.client.Transport, CheckRedirect: n.client.CheckRedirect,
	}}
}

// ask sends a request as a page of ours does.
func (p *somebody) ask(t testing.TB, method, path string, body any) reply {
	t.Helper()
	return p.match(t, method, path, "", body)
}

// match is ask of one version of what is changed.
func (p *somebody) match(t testing.TB, method, path, version string, body any) reply {
	t.Helper()
	var b []byte
	if body != nil {
		var err error
		b, err = json.Marshal(body)
		must(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, p.n.url+path, bytes.NewReader(b))
	must(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if version != "" {
		req.Header.Set("If-Match", version)
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	if p.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+p.bearer)
	} else {
		req.Header.Set("Origin", p.n.URL())
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	got, err := p.browser.Do(req)
	must(t, err)
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	must(t, err)
	return reply{got.StatusCode, got.Header, string(text)}
}

// reply is an answer to a person.
type reply struct {
	status int
	header http.Header
	text   string
}

func (r reply) want(t testing.TB, status int) map[string]any {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.text)
	}
	out := map[string]any{}
	if r.text != "" {
		must(t, json.Unmarshal([]byte(r.text), &out))
	}
	return out
}

var linkInMail = regexp.MustCompile(`#link=(avl_[a-z2-7]+)`)

// mailed waits for a mail to an address whose subject holds a word, and gives its text.
func (h *house) mailed(t testing.TB, to, subject string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, m := range h.inbox.Messages() {
			if m.To == to && strings.Contains(m.Subject, subject) {
				return m.Text
			}
		}
	}
	t.Fatalf("no mail about %q to %s came", subject, to)
	return ""
}

// code is the next code of the authenticator app.
func (p *somebody) code(t testing.TB) string {
	t.Helper()
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(p.seed, " ", ""))
	must(t, err)
	if step := p.n.now().Unix() / 30; step > p.step {
		p.step = step
	} else { // a code counts once
		p.n.later(30 * time.Second)
		p.step = p.n.now().Unix() / 30
	}
	return otp.Usual().Code(seed, uint64(p.step))
}

// development has mail kept in a page, and a clock that a test may put forward.
func development(ahead *atomic.Int64) func(*Config) {
	return func(c *Config) {
		c.Development, c.quick = true, true
		c.clock.at = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
}

// house is a server where people sign in.
type house struct {
	*live
	ahead atomic.Int64
}

func newHouse(t testing.TB, change ...func(*Config)) *house {
	t.Helper()
	h := &house{}
	h.live = newSite(t).start(t, append([]func(*Config){development(&h.ahead)}, change...)...)
	return h
}

// later puts the clock forward.
func (h *house) later(d time.Duration) { h.ahead.Add(int64(d)) }

// owner makes an organisation and its owner, who has joined and has an authenticator app.
func (h *house) owner(t testing.TB, name string) (party, *somebody) {
	t.Helper()
	made := h.organisation(t, name)
	in, err := h.Org.InviteOwner(t.Context(), tenantdb.System(made.id, "operator"), "ada@"+strings.ToLower(name)+".example", "Ada")
	must(t, err)
	p := newBrowser(t, h, in.Address)
	p.join(t, h.linkOf(t, made.id, in.ID))
	return made, p
}

// member is somebody whom an owner has invited, with roles.
func (h *house) member(t testing.TB, by *somebody, address string, roles ...string) *somebody {
	t.Helper()
	in := by.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": address, "roles": roles}).want(t, 201)
	id, err := org.ParseInvitationID(in["invitation_id"].(string))
	must(t, err)
	p := newBrowser(t, h, address)
	p.join(t, h.linkOf(t, by.tenant(t), id))
	return p
}

// linkOf is the link that the mail about something says: nobody waits for the mail.
func (h *house) linkOf(t testing.TB, tenant tenantdb.TenantID, subject [16]byte) string {
	t.Helper()
	var id link.ID
	must(t, h.DB.Read(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT link_id FROM avouch.link WHERE tenant_id = $1 AND subject = $2 AND spent_at IS NULL ORDER BY created_at DESC LIMIT 1`, tenant, subject).Scan(&id)
	}))
	s, err := h.Links.Secret(t.Context(), tenant, id)
	must(t, err)
	return s.Expose()
}

func (p *somebody) tenant(t testing.TB) tenantdb.TenantID {
	t.Helper()
	id, err := tenantdb.ParseTenantID(p.ask(t, "GET", "/api/v1/session", nil).want(t, 200)["tenant_id"].(string))
	must(t, err)
	return id
}

func (p *somebody) id(t testing.TB) string {
	t.Helper()
	return p.ask(t, "GET", "/api/v1/session", nil).want(t, 200)["person_id"].(string)
}

// join takes an invitation up, and sets up an authenticator app if one is wanted.
func (p *somebody) join(t testing.TB, link string) {
	t.Helper()
	step := p.ask(t, "POST", "/api/v1/join", map[string]any{"do": "join", "link": link, "name": "Somebody", "password": goodPassword}).want(t, 200)
	if step["state"] == "enrol" {
		p.enrol(t, step["attempt"].(string))
	}
}

func (p *somebody) enrol(t testing.TB, attempt string) {
	t.Helper()
	begun := p.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": attempt, "do": "enrol", "kind": "totp", "name": "phone"}).want(t, 200)["enrolment"].(map[string]any)
	p.seed = begun["secret"].(string)
	done := p.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": attempt, "do": "confirm", "factor": begun["id"], "code": p.code(t)}).want(t, 200)
	if done["state"] != "signed_in" {
		t.Fatalf("%v", done)
	}
	for _, c := range done["recovery_codes"].([]any) {
		p.codes = append(p.codes, c.(string))
	}
}

// signIn signs in by password, and by the app if that is wanted.
func (p *somebody) signIn(t testing.TB, more map[string]any) map[string]any {
	t.Helper()
	body := map[string]any{"address": p.address, "password": goodPassword}
	for k, v := range more {
		body[k] = v
	}
	step := p.ask(t, "POST", "/api/v1/sign-in", body).want(t, 200)
	if step["state"] == "factor" {
		factor := step["factors"].([]any)[0].(map[string]any)["id"]
		step = p.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": step["attempt"], "do": "prove", "factor": factor, "code": p.code(t)}).want(t, 200)
	}
	if step["state"] != "signed_in" {
		t.Fatalf("%v", step)
	}
	return step
}

// TestFirstOwner is the way of an organisation's first person: a mail, a password, a factor, a session; and the next sign-in.
func TestFirstOwner(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme := h.organisation(t, "Acme")
	ada := newBrowser(t, h, "ada@acme.example")
	_, err := h.Org.InviteOwner(t.Context(), tenantdb.System(acme.id, "operator"), ada.address, "Ada")
	must(t, err)
	ada.join(t, linkInMail.FindStringSubmatch(h.mailed(t, ada.address, "Invitation"))[1])
	me := ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	if me["tenant_id"] != acme.id.String() || fmt.Sprint(me["roles"]) != "[owner]" || len(ada.codes) != 10 {
		t.Errorf("%v, %d recovery codes", me, len(ada.codes))
	}
	ada.ask(t, "GET", "/api/v1/organisation", nil).want(t, 200)
	ada.ask(t, "POST", "/api/v1/sign-out", nil).want(t, 204)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
	ada.signIn(t, nil)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	program := ada.program(t)
	program.ask(t, "GET", "/api/v1/organisation", nil).want(t, 200)
	h.mailed(t, ada.address, "new device")
}

// program is a program of the person's: it has tokens and no cookie.
func (p *somebody) program(t testing.TB) *somebody {
	t.Helper()
	other := newBrowser(t, p.n, p.address)
	other.seed, other.step = p.seed, p.step
	tokens := other.signIn(t, map[string]any{"kind": "program"})
	other.bearer, other.refresh = tokens["access_token"].(string), tokens["refresh_token"].(string)
	p.step = other.step
	return other
}

func (p *somebody) url() *url.URL {
	u, _ := url.Parse(p.n.url) // it was dialled
	return u
}

// plant puts a cookie into the browser, as an attacker of a neighbouring host could.
func (p *somebody) plant(name, value string) {
	p.browser.Jar.SetCookies(p.url(), []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// provide has people of a domain sign in by a provider, as a proof of the domain and a connection do.
func (h *house) provide(t testing.TB, tenant tenantdb.TenantID, domain string) {
	t.Helper()
	c := tenantdb.System(tenant, "test")
	must(t, h.DB.Change(t.Context(), c, func(tx *tenantdb.Tx) (audit.Event, error) {
		connection := tenantdb.NewTenantID()
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.connection (tenant_id, connection_id, kind, name, config, enabled, configured_by, created_at)
			VALUES ($1, $2, 'oidc', 'test', '', true, 'system:test', now())`, tenant, connection)
		must(t, err)
		_, err = tx.Exec(t.Context(), `INSERT INTO avouch.domain (tenant_id, domain, token, connection_id, required, created_at, proved_at) VALUES ($1, $2, 'x', $3, true, now(), now())`,
			tenant, domain, connection)
		return audit.Event{Type: "test.provided"}, err
	}))
}
