// Package oidcprovider is an OpenID Connect provider for tests: discovery, authorization with PKCE, tokens, keys, userinfo. It is
// a real one, on a loopback address, and it is honest unless a test switches on a fault.
//
//  1. Two clients that know nothing of it sign in by it, and one that lies to it does not: TestGoOIDC, TestOpenIDClient.
//  2. A code works once, for its client, its redirect address and its verifier: TestCodes.
package oidcprovider

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Client is one that may ask.
type Client struct {
	ID, Secret string // without a secret it is a public client, and must use PKCE
	Redirects  []string
}

// User is who is signed in at the provider.
type User struct {
	Subject  string
	Claims   map[string]any // email, email_verified, name, groups, amr, acr ...
	SignedIn time.Time      // zero is now
}

// Faults are how the provider can be wrong.
type Faults struct {
	Claims       map[string]any // laid over those of each id token; nil takes one away
	Alg          string         // "none"; "HS256" signs with the published key as secret; "stranger" with a key that is not published
	OmitIssuer   bool           // no iss in the answer of the authorization endpoint
	ClaimIssuer  string         // another iss in that answer
	Announce     string         // another issuer in the discovery document
	Algorithms   []string       // other algorithms there
	TokenStatus  int            // of the token endpoint
	OmitAuthTime bool
	Replay       bool // codes work more than once, and PKCE is not checked
	Userinfo     map[string]any
}

// Provider is a provider that runs.
type Provider struct {
	URL string
	Now func() time.Time

	mu       sync.Mutex
	clients  map[string]Client
	user     User
	accounts map[string]User
	faults   Faults
	alg      jose.SignatureAlgorithm
	key      crypto.Signer
	kid      string
	rotated  int
	codes    map[string]grant
	access   map[string]grant
	requests map[string]int
	last     url.Values
}

type grant struct {
	client, redirect, nonce, challenge string
	user                               User
	scopes                             []string
	at                                 time.Time
}

// New starts a provider that signs with an algorithm and lets clients ask.
func New(t testing.TB, alg jose.SignatureAlgorithm, clients ...Client) *Provider {
	t.Helper()
	return open(t, alg, nil, clients)
}

// NewTLS is New over TLS.
func NewTLS(t testing.TB, alg jose.SignatureAlgorithm, cert tls.Certificate, clients ...Client) *Provider {
	t.Helper()
	return open(t, alg, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, clients)
}

func open(t testing.TB, alg jose.SignatureAlgorithm, over *tls.Config, clients []Client) *Provider {
	t.Helper()
	p := &Provider{
		Now: time.Now, clients: map[string]Client{}, alg: alg, codes: map[string]grant{}, access: map[string]grant{}, requests: map[string]int{},
	}
	for _, c := range clients {
		p.clients[c.ID] = c
	}
	p.Rotate()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /jwks", p.jwks)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	s := httptest.NewUnstartedServer(mux)
	if s.TLS = over; over != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

// Register adds a client, or another redirect address to one.
func (p *Provider) Register(c Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Redirects = append(c.Redirects, p.clients[c.ID].Redirects...)
	p.clients[c.ID] = c
}

// SignIn says who is signed in from now on.
func (p *Provider) SignIn(u User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user = u
}

// Ask has the provider ask each time who it is, on a page for people, and know these accounts by their names.
func (p *Provider) Ask(accounts map[string]User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accounts = accounts
}

// Fail switches faults on, and with the zero Faults off.
func (p *Provider) Fail(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// Rotate replaces the signing key: the old one is not published any more.
func (p *Provider) Rotate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rotated++
	p.kid = fmt.Sprintf("key-%d", p.rotated)
	p.key = newKey(p.alg)
}

func newKey(alg jose.SignatureAlgorithm) crypto.Signer {
	var key crypto.Signer
	var err error
	switch alg {
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(err)
	}
	return key
}

// Requests is how often an endpoint was asked: "discovery", "token", "jwks", "userinfo".
func (p *Provider) Requests(endpoint string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[endpoint]
}

// Asked is the query of the last authorization request.
func (p *Provider) Asked() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.last)
}

func (p *Provider) enter(endpoint string) func() {
	p.mu.Lock()
	p.requests[endpoint]++
	return p.mu.Unlock
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	defer p.enter("discovery")()
	issuer := p.URL
	if p.faults.Announce != "" {
		issuer = p.faults.Announce
	}
	algorithms := []string{string(p.alg)}
	if p.faults.Algorithms != nil {
		algorithms = p.faults.Algorithms
	}
	answer(w, http.StatusOK, map[string]any{
		"issuer": issuer, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
		"userinfo_endpoint": p.URL + "/userinfo", "response_types_supported": []string{"code"}, "response_modes_supported": []string{"query", "form_post"},
		"grant_types_supported": []string{"authorization_code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": algorithms, "scopes_supported": []string{"openid", "profile", "email"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "none"},
		"code_challenge_methods_supported":      []string{"S256"}, "authorization_response_iss_parameter_supported": true,
	})
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	defer p.enter("jwks")()
	answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.kid, Algorithm: string(p.alg), Use: "sig"}}})
}

// authorize answers at once for the user who is signed in, unless it is to ask.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	defer p.enter("authorize")()
	q := r.URL.Query()
	p.last = q
	c, known := p.clients[q.Get("client_id")]
	if !known || !slices.Contains(c.Redirects, q.Get("redirect_uri")) {
		http.Error(w, "the client or its redirect address is unknown", http.StatusBadRequest)
		return
	}
	out := url.Values{"state": {q.Get("state")}}
	if !p.faults.OmitIssuer {
		out.Set("iss", p.URL)
	}
	if p.faults.ClaimIssuer != "" {
		out.Set("iss", p.faults.ClaimIssuer)
	}
	user := p.user
	if p.accounts != nil {
		if !q.Has("name") {
			askPage(w, q)
			return
		}
		user = p.accounts[q.Get("name")]
	}
	if user.SignedIn.IsZero() || q.Get("prompt") == "login" || q.Get("max_age") == "0" {
		user.SignedIn = p.Now()
	}
	switch {
	case q.Get("response_type") != "code" || !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		out.Set("error", "invalid_request")
	case c.Secret == "" && q.Get("code_challenge") == "", q.Get("code_challenge") != "" && q.Get("code_challenge_method") != "S256":
		out.Set("error", "invalid_request")
	case q.Has("refuse"):
		out.Set("error", "access_denied")
	case user.Subject == "" || q.Get("prompt") == "none":
		out.Set("error", "login_required")
	default:
		code := rand.Text()
		p.codes[code] = grant{
			c.ID, q.Get("redirect_uri"), q.Get("nonce"), q.Get("code_challenge"), user, strings.Fields(q.Get("scope")), p.Now(),
		}
		out.Set("code", code)
	}
	if q.Get("response_mode") == "form_post" {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<form method=post action=%q>", q.Get("redirect_uri"))
		for name := range out {
			fmt.Fprintf(w, "<input type=hidden name=%q value=%q>", name, out.Get(name))
		}
		fmt.Fprint(w, "</form><script>document.forms[0].submit()</script>")
		return
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+out.Encode(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	defer p.enter("token")()
	if p.faults.TokenStatus != 0 {
		answer(w, p.faults.TokenStatus, map[string]any{"error": "server_error"})
		return
	}
	_ = r.ParseForm()
	id, secret, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	c, known := p.clients[id]
	if !known || subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) != 1 {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	code := r.PostForm.Get("code")
	g, there := p.codes[code]
	if !p.faults.Replay {
		delete(p.codes, code)
	}
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	proved := g.challenge == "" || p.faults.Replay || base64.RawURLEncoding.EncodeToString(sum[:]) == g.challenge
	if r.PostForm.Get("grant_type") != "authorization_code" || !there || g.client != id || g.redirect != r.PostForm.Get("redirect_uri") || !proved {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	access := rand.Text()
	p.access[access] = g
	answer(w, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": p.idToken(g, access)})
}

func (p *Provider) idToken(g grant, access string) string {
	now := p.Now()
	sum := sha256.Sum256([]byte(access))
	claims := map[string]any{
		"iss": p.URL, "aud": g.client, "sub": g.user.Subject, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": g.user.SignedIn.Unix(),
	}
	if p.alg != jose.EdDSA { // whose hash is of 64 bytes, and is optional here
		claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	}
	if p.faults.OmitAuthTime {
		delete(claims, "auth_time")
	}
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	maps.Copy(claims, g.user.Claims)
	for name, v := range p.faults.Claims {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return p.sign(payload)
}

func (p *Provider) sign(payload []byte) string {
	if p.faults.Alg == "none" {
		head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
		return head + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	key := jose.SigningKey{Algorithm: p.alg, Key: jose.JSONWebKey{Key: p.key, KeyID: p.kid}}
	switch p.faults.Alg {
	case "HS256":
		public, err := json.Marshal(jose.JSONWebKey{Key: p.key.Public()})
		if err != nil {
			panic(err)
		}
		key = jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: public, KeyID: p.kid}}
	case "stranger":
		key.Key = jose.JSONWebKey{Key: newKey(p.alg), KeyID: p.kid}
	}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	defer p.enter("userinfo")()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g, there := p.access[token]
	if !there {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	claims := map[string]any{"sub": g.user.Subject}
	maps.Copy(claims, g.user.Claims)
	maps.Copy(claims, p.faults.Userinfo)
	answer(w, http.StatusOK, claims)
}

// Visit is a browser at an authorization address: it comes back with the redirect's address, or with the form that it would post.
func Visit(t testing.TB, address string) (redirect string, form url.Values) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode == http.StatusFound {
		return a.Header.Get("Location"), nil
	}
	if a.StatusCode != http.StatusOK {
		t.Fatalf("the authorization endpoint answered %d", a.StatusCode)
	}
	return readForm(t, a.Body)
}
