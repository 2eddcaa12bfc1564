package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/test/browser"
	"github.com/avouch-dev/avouch/test/oidcprovider"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

// providerHost is another site than localhost's, as browsers see it.
const providerHost = "provider.test"

const (
	grace = "grace@" + domain
	mary  = "mary@" + domain
)

// identities is a provider, of either kind.
type identities struct {
	settings map[string]any // of the connection to it
	told     func(connection answer)
	groups   func(address string, groups ...string) // which the provider says somebody is in
}

// provided is an organisation with a provider, and a browser of its people.
type provided struct {
	*organised
	b          *browser.Tab
	idp        *identities
	connection string
	group      string
}

// TestProviders goes with a browser through an OpenID Connect provider, from the first time to the last.
func TestProviders(t *testing.T) {
	t.Parallel()
	o := organise(t, "", "", "")
	provider := oidcprovider.New(t, jose.ES256)
	lives(t, &provided{organised: o, idp: overOIDC(provider, "query"), b: browser.Open(t)})
	if asked := provider.Asked(); asked.Get("code_challenge_method") != "S256" || len(asked.Get("nonce")) < 43 {
		t.Errorf("the provider was asked %v", asked)
	}
}

// TestProvidersOverTLS is TestProviders over TLS, where the provider posts a form from another site.
func TestProvidersOverTLS(t *testing.T) {
	t.Parallel()
	cert, key, ca := authority(t)
	own, err := tls.LoadX509KeyPair(cert, key)
	must(t, err)
	o := organise(t, cert, key, ca)
	lives(t, &provided{organised: o, idp: overOIDC(oidcprovider.NewTLS(t, jose.RS256, own), "form_post"), b: browser.Open(t, browser.Trusting(t, ca))})
}

const clientSecret = "hush: what the provider knows us by"

// overOIDC has a provider ask on its page, and know three people, who signed in there half an hour ago.
func overOIDC(p *oidcprovider.Provider, mode string) *identities {
	accounts := map[string]oidcprovider.User{}
	for i, address := range []string{grace, mary, "eve@elsewhere.example"} {
		accounts[address] = oidcprovider.User{Subject: fmt.Sprintf("subject-%d", i), SignedIn: time.Now().Add(-30 * time.Minute), Claims: map[string]any{
			"email": address, "email_verified": true, "name": "Somebody of the provider's",
		}}
	}
	groups := func(address string, groups ...string) {
		with := map[string]oidcprovider.User{}
		for name, u := range accounts {
			with[name] = u
		}
		u := with[address]
		u.Claims = map[string]any{"email": address, "email_verified": true, "name": "Grace Hopper", "groups": groups}
		with[address] = u
		p.Ask(with)
	}
	p.Ask(accounts)
	return &identities{
		settings: map[string]any{"kind": "oidc", "oidc": map[string]any{"issuer": p.URL, "client_id": "avouch", "client_secret": clientSecret, "response_mode": mode}},
		told: func(a answer) {
			p.Register(oidcprovider.Client{ID: "avouch", Secret: clientSecret, Redirects: []string{a.text("redirect_uri")}})
		},
		groups: groups,
	}
}

// TestProvidersBySAML is TestProviders with a SAML provider, on another site, over TLS; and brings back what was captured, and
// what nobody asked for.
func TestProvidersBySAML(t *testing.T) {
	t.Parallel()
	cert, key, ca := authority(t)
	o := organise(t, cert, key, ca)
	s := newSAMLSite(t, cert, key)
	p := &provided{organised: o, idp: s.identities(), b: browser.Open(t, browser.Trusting(t, ca), chromedp.Flag("host-resolver-rules",
		"MAP "+providerHost+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))}
	p.connects(t)
	s.captured(t, p)
	s.unasked(t, p)
	p.lives(t)
}

// samlSite is a SAML provider on a site of its own, which keeps what it answered last.
type samlSite struct {
	*samlprovider.Provider
	url string

	mu       sync.Mutex
	attrs    map[string][]string
	answered []byte
	tile     []byte
	entity   string
	acs      string
}

func newSAMLSite(t testing.TB, cert, key string) *samlSite {
	t.Helper()
	s := &samlSite{attrs: map[string][]string{}}
	server := httptest.NewUnstartedServer(s)
	own, err := tls.LoadX509KeyPair(cert, key)
	must(t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = strings.Replace(server.URL, "127.0.0.1", providerHost, 1)
	s.Provider, err = samlprovider.New(samlprovider.Config{EntityID: s.url + "/metadata", SignedIn: 30 * time.Minute, Attributes: s.attributes})
	must(t, err)
	return s
}

func (s *samlSite) attributes(name string) []samlprovider.Attribute {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []samlprovider.Attribute{{Name: "displayName", Values: []string{"Grace Hopper"}}}
	if groups := s.attrs[name]; len(groups) > 0 {
		all = append(all, samlprovider.Attribute{Name: "groups", Values: groups})
	}
	return all
}

// ServeHTTP also shows again what was answered last, at /again, and an answer to nothing, at /tile.
func (s *samlSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	kept := map[string][]byte{"/again": s.answered, "/tile": s.tile}[r.URL.Path]
	s.mu.Unlock()
	if kept != nil {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(kept)
		return
	}
	rec := httptest.NewRecorder()
	s.Provider.ServeHTTP(rec, r)
	if r.Method == http.MethodPost {
		s.mu.Lock()
		s.answered = rec.Body.Bytes()
		s.mu.Unlock()
	}
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes())
}

func (s *samlSite) identities() *identities {
	return &identities{
		settings: map[string]any{"kind": "saml", "saml": map[string]any{
			"metadata": string(s.Metadata(s.url + "/sso")), "name_attribute": "displayName", "groups_attribute": "groups",
		}},
		told: func(a answer) { s.entity, s.acs = a.text("service_provider_entity_id"), a.text("acs_url") },
		groups: func(address string, groups ...string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.attrs[address] = groups
		},
	}
}

var formValue = regexp.MustCompile(`name="(SAMLResponse|RelayState)" value="([^"]*)"`)

// captured signs in, and brings the same response back: in the same browser, with the cookie that it came with, and for another
// sign-in that somebody begins.
func (s *samlSite) captured(t *testing.T, p *provided) {
	t.Helper()
	p.b.Go(p.site + "/sign-in")
	p.b.Fill("#address", grace)
	p.b.Click("#with-provider")
	p.b.Sees("input[name=name]")
	var flow *network.Cookie
	for _, c := range p.b.Cookies(p.site) {
		if strings.HasPrefix(c.Name, "__Host-avouch_sso_") {
			flow = c
		}
	}
	if flow == nil || flow.SameSite != network.CookieSameSiteNone || !flow.Secure || !flow.HTTPOnly {
		t.Fatalf("the cookie of the sign-in: %+v", flow)
	}
	p.atProvider(grace)
	p.b.Until(`location.pathname === '/account'`)
	p.b.Go(s.url + "/again")
	p.b.Says("main", "not begun in this browser")
	p.b.Go(p.site + "/account")
	p.b.Click("#sign-out")
	p.b.Until(`location.pathname === '/sign-in'`)

	form := url.Values{}
	s.mu.Lock()
	for _, m := range formValue.FindAllSubmatch(s.answered, -1) {
		form.Set(string(m[1]), strings.ReplaceAll(string(m[2]), "&#43;", "+"))
	}
	s.mu.Unlock()
	post := func(cookie string) answer {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.acs, strings.NewReader(form.Encode()))
		must(t, err)
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		q.Header.Set("Origin", s.url)
		q.Header.Set("Cookie", cookie)
		q.Header.Set("Accept", "text/html")
		return p.sends(t, q)
	}
	if a := post(flow.Name + "=" + flow.Value); a.Status != http.StatusUnauthorized || !strings.Contains(string(a.Raw), "brought back before") || len(a.Header["Set-Cookie"]) > 0 {
		t.Errorf("the same once more: %d %s", a.Status, a.Raw)
	}
	begun := p.asks(t, "POST", "/api/v1/sso/start", "", map[string]any{"address": grace}).want(t, http.StatusOK)
	cookie, _, _ := strings.Cut(begun.Header.Get("Set-Cookie"), ";")
	form.Set("RelayState", mustURL(t, begun.text("redirect_url")).Query().Get("RelayState"))
	if a := post(cookie); a.Status != http.StatusUnauthorized || !strings.Contains(string(a.Raw), "cannot be accepted") || slices.ContainsFunc(a.Header["Set-Cookie"], signsIn) {
		t.Errorf("for another sign-in: %d %s", a.Status, a.Raw)
	}
}

// signsIn says whether a Set-Cookie header gives a session.
func signsIn(header string) bool { return strings.HasPrefix(header, "__Host-avouch=") }

// unasked has the provider's own page post a right response that nobody asked for.
func (s *samlSite) unasked(t *testing.T, p *provided) {
	t.Helper()
	response := samlprovider.Bytes(s.Signed(s.Answer(s.entity, s.acs, "", grace)))
	s.mu.Lock()
	s.tile = fmt.Appendf(nil, `<!doctype html><form method="post" action="%s"><input type="hidden" name="SAMLResponse" value="%s"></form><script>document.forms[0].submit()</script>`, s.acs, encode64(response))
	s.mu.Unlock()
	p.b.Go(s.url + "/tile")
	p.b.Says("main", "not begun in this browser")
	p.b.Go(p.site + "/account")
	p.b.Until(`location.pathname === '/sign-in'`)
}

// api asks the API as the page that the browser shows.
func api(b *browser.Tab, method, path string) (status int, body map[string]any) {
	got := browser.Value[struct {
		Status int
		Text   string
	}](b, fmt.Sprintf(`fetch(%q, { method: %q }).then(async (r) => ({ Status: r.status, Text: await r.text() }))`, path, method))
	_ = json.Unmarshal([]byte(got.Text), &body)
	return got.Status, body
}

// atProvider signs in at the provider's page.
func (p *provided) atProvider(address string) {
	p.b.Fill("input[name=name]", address)
	p.b.Click("#sign-in")
}

// byProvider goes from the sign-in page by the provider, to wherever that leads.
func (p *provided) byProvider(address string) {
	p.b.Go(p.site + "/sign-in")
	p.b.Fill("#address", address)
	p.b.Click("#with-provider")
	p.atProvider(address)
}

func (p *provided) out() {
	p.b.Go(p.site + "/account")
	p.b.Click("#sign-out")
	p.b.Until(`location.pathname === '/sign-in'`)
}

func (p *provided) roles(t testing.TB) []string {
	t.Helper()
	status, body := api(p.b, "GET", "/api/v1/session")
	if status != http.StatusOK {
		t.Fatalf("the session: %d %v", status, body)
	}
	return texts(body["roles"])
}

// picture keeps how the page looks, if AVOUCH_PICTURES names a directory: on a desk and on a telephone, light and dark.
func (p *provided) picture(t testing.TB, name string) {
	t.Helper()
	dir := os.Getenv("AVOUCH_PICTURES")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 360} {
			p.b.Size(width, 800, scheme)
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), p.b.Shot(), 0o644))
		}
	}
	p.b.Size(1280, 800, "light")
}
