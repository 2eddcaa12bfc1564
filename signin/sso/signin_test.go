package sso

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/oidcprovider"
)

func (s *scene) profile(t *testing.T, p PersonID) (f org.Profile, st org.Standing) {
	t.Helper()
	must(t, s.DB.Read(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.ReadTx) (err error) {
		if f, err = s.people.Profile(t.Context(), tx, p); err != nil {
			return err
		}
		st, err = s.people.Standing(t.Context(), tx, p)
		return err
	}))
	return f, st
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA} {
		s := openWith(t, alg)
		a, why := s.browser().signIn(t, user("grace-1", "Grace@Acme.Example"))
		if why != "" || a.Tenant != s.acme || a.Method != "oidc" || a.Connection != s.conn.ID || !a.ProvedAt.Equal(s.clock()) || a.Strong || a.Session != "" {
			t.Fatalf("%s: %+v, refused: %s", alg, a, why)
		}
		f, st := s.profile(t, a.Person)
		if f.Name != "Grace Hopper" || f.Address != "grace@acme.example" || len(st.Roles) != 1 || st.Roles[0] != org.RoleMember || st.ManagedBy != s.conn.ID.String() {
			t.Errorf("%s: admitted as %+v with %+v", alg, f, st)
		}
		s.provider.Rotate() // its keys are read again
		again, why := s.browser().signIn(t, user("grace-1", "grace@acme.example"))
		if why != "" || again.Person != a.Person {
			t.Errorf("%s: the second time: %+v, refused: %s", alg, again, why)
		}
		if n := len(s.OfType(t, s.acme, "person.joined")); n != 2 { // and the owner
			t.Errorf("%s: %d people joined", alg, n)
		}
		if n := len(s.OfType(t, s.acme, "identity.linked")); n != 1 {
			t.Errorf("%s: linked %d times", alg, n)
		}
	}
}

// TestRequestToProvider: what is asked of a provider, and the cookie that binds the answer to this browser.
func TestRequestToProvider(t *testing.T) {
	t.Parallel()
	s := open(t)
	b := s.browser()
	w := b.send(t, 0, http.MethodPost, "/api/v1/sso/start", `{"address":"grace@acme.example","return_to":"/console"}`, "Content-Type", "application/json")
	var out struct {
		Kind     string
		Redirect string `json:"redirect_url"`
	}
	must(t, json.Unmarshal(w.Body.Bytes(), &out))
	u, err := url.Parse(out.Redirect)
	must(t, err)
	q := u.Query()
	if out.Kind != "oidc" || !strings.HasPrefix(out.Redirect, s.provider.URL+"/authorize?") || q.Get("response_type") != "code" || q.Get("client_id") != "avouch" ||
		q.Get("redirect_uri") != public+"/api/v1/sso/"+s.conn.ID.String()+"/callback" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 ||
		len(q.Get("state")) != 43 || len(q.Get("nonce")) != 43 || q.Get("scope") != "openid profile email" || q.Get("prompt") != "" {
		t.Errorf("the provider is asked %v", q)
	}
	k := w.Result().Cookies()
	if len(k) != 1 || !strings.HasPrefix(k[0].Name, "__Host-avouch_sso_") || !k[0].Secure || !k[0].HttpOnly || k[0].SameSite != http.SameSiteLaxMode || k[0].Path != "/" ||
		k[0].MaxAge != 600 || k[0].Domain != "" {
		t.Errorf("the cookie is %+v", k)
	}
	for _, secret := range []string{q.Get("nonce"), q.Get("state"), s.conn.Settings.OIDC.ClientSecret} {
		if strings.Contains(k[0].Value, secret) {
			t.Error("the cookie shows what it holds")
		}
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("the answer may be kept")
	}
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	s := open(t)
	now := s.clock()
	for name, tt := range map[string]struct {
		faults oidcprovider.Faults
		reason Reason
	}{
		"alg none":                            {oidcprovider.Faults{Alg: "none"}, ReasonToken},
		"HS256 with the public key":           {oidcprovider.Faults{Alg: "HS256"}, ReasonToken},
		"signed by a stranger":                {oidcprovider.Faults{Alg: "stranger"}, ReasonToken},
		"another nonce":                       {oidcprovider.Faults{Claims: map[string]any{"nonce": "other"}}, ReasonNonce},
		"no nonce":                            {oidcprovider.Faults{Claims: map[string]any{"nonce": nil}}, ReasonNonce},
		"another audience":                    {oidcprovider.Faults{Claims: map[string]any{"aud": "other"}}, ReasonToken},
		"a second audience, no azp":           {oidcprovider.Faults{Claims: map[string]any{"aud": []string{"avouch", "other"}}}, ReasonAudience},
		"azp of another client":               {oidcprovider.Faults{Claims: map[string]any{"azp": "other"}}, ReasonAudience},
		"expired beyond the skew":             {oidcprovider.Faults{Claims: map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}}, ReasonToken},
		"issued in the future":                {oidcprovider.Faults{Claims: map[string]any{"iat": now.Add(2 * time.Minute).Unix()}}, ReasonEarly},
		"not valid yet":                       {oidcprovider.Faults{Claims: map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}}, ReasonEarly},
		"issued before it was asked for":      {oidcprovider.Faults{Claims: map[string]any{"iat": now.Add(-time.Hour).Unix()}}, ReasonToken},
		"another issuer in the token":         {oidcprovider.Faults{Claims: map[string]any{"iss": "https://evil.example"}}, ReasonToken},
		"no subject":                          {oidcprovider.Faults{Claims: map[string]any{"sub": ""}}, ReasonToken},
		"another access token":                {oidcprovider.Faults{Claims: map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}, ReasonToken},
		"mix-up: another issuer in the way":   {oidcprovider.Faults{ClaimIssuer: "https://evil.example"}, ReasonIssuer},
		"mix-up: the issuer is not announced": {oidcprovider.Faults{OmitIssuer: true}, ReasonIssuer},
		"the token endpoint fails":            {oidcprovider.Faults{TokenStatus: 500}, ReasonCode},
	} {
		s.provider.Fail(tt.faults)
		a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example"))
		if why != tt.reason {
			t.Errorf("%s: refused: %q, want %q; %+v", name, why, tt.reason, a)
		}
	}
	for name, f := range map[string]oidcprovider.Faults{
		"expired within the skew": {Claims: map[string]any{"exp": now.Add(-30 * time.Second).Unix()}},
		"a clock that goes ahead": {Claims: map[string]any{"iat": now.Add(30 * time.Second).Unix(), "nbf": now.Add(30 * time.Second).Unix(), "auth_time": now.Add(30 * time.Second).Unix()}},
		"two audiences and azp":   {Claims: map[string]any{"aud": []string{"avouch", "other"}, "azp": "avouch"}},
	} {
		s.provider.Fail(f)
		if a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != "" || a.ProvedAt.After(now) {
			t.Errorf("%s: refused: %s; %+v", name, why, a)
		}
	}
	if len(s.OfType(t, s.acme, "person.joined")) != 2 {
		t.Error("a forged token made a person")
	}
}

// TestAlgorithms: a provider that says that it signs with a shared secret, or not at all, is not believed to.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, tt := range []struct{ announced, believed []string }{
		{[]string{"none", "HS256", "ES256", "RS512"}, []string{"ES256", "RS512"}}, {[]string{}, []string{"RS256"}}, {[]string{"HS256"}, nil}, {[]string{"none"}, nil},
	} {
		s.provider.Fail(oidcprovider.Faults{Algorithms: tt.announced})
		f := s.rooms[0].askProvider(t.Context(), s.conn.Settings.OIDC)
		if !slices.Equal(f.algs, tt.believed) || (f.err == nil) != (tt.believed != nil) {
			t.Errorf("%v: %v, %v", tt.announced, f.algs, f.err)
		}
	}
}

func TestBroughtBackOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.provider.SignIn(user("grace-1", "grace@acme.example"))
	s.provider.Fail(oidcprovider.Faults{Replay: true}) // a provider that does not notice
	fresh := func(b *browser) string {
		back, _ := oidcprovider.Visit(t, b.start(t, map[string]any{"connection_id": s.conn.ID.String()}))
		return back
	}
	b := s.browser()
	back := fresh(b)
	kept := map[string]string{}
	for name, value := range b.cookies {
		kept[name] = value
	}
	if w := b.back(t, 0, back); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for server := range 2 {
		b.cookies = kept // a thief has the cookie, too
		if _, why := s.arrival(t, b.back(t, server, back)); why != ReasonReplay {
			t.Errorf("brought back again to server %d: %q", server, why)
		}
	}
	n := len(s.arrived)
	if w := s.browser().back(t, 0, fresh(s.browser())); w.Code != http.StatusUnauthorized {
		t.Errorf("in another browser (a forged sign-in): %d", w.Code)
	}
	mine, theirs := s.browser(), s.browser()
	mine.start(t, map[string]any{"connection_id": s.conn.ID.String()})
	if w := mine.back(t, 0, fresh(theirs)); w.Code != http.StatusUnauthorized {
		t.Errorf("with the cookie of another flow: %d", w.Code)
	}
	late := s.browser()
	back = fresh(late)
	s.wait(flowLife + time.Second)
	if w := late.back(t, 0, back); w.Code != http.StatusUnauthorized {
		t.Errorf("too late: %d", w.Code)
	}
	twice := s.browser()
	back = fresh(twice)
	if w := twice.back(t, 0, back+"&state=x"); w.Code == http.StatusSeeOther {
		t.Errorf("with two states: %d", w.Code)
	}
	if len(s.arrived) != n {
		t.Error("somebody arrived")
	}
}

// TestMixUp: what is sent back to one connection's address never reaches another connection's provider.
func TestMixUp(t *testing.T) {
	t.Parallel()
	s := open(t)
	other := s.connect(t, Admission{}, nil)
	s.provider.SignIn(user("grace-1", "grace@acme.example"))
	b := s.browser()
	back, _ := oidcprovider.Visit(t, b.start(t, map[string]any{"connection_id": s.conn.ID.String()}))
	asked := s.provider.Requests("token")
	w := b.back(t, 0, strings.Replace(back, s.conn.ID.String(), other.ID.String(), 1))
	if _, why := s.arrival(t, w); why != ReasonIssuer || s.provider.Requests("token") != asked {
		t.Errorf("refused: %q, and the code went to the provider: %v", why, s.provider.Requests("token") > asked)
	}
}

// TestInjectedCode: a code that was made for another browser is worth nothing here, by PKCE; and where a provider does not hold
// that, by the nonce.
func TestInjectedCode(t *testing.T) {
	t.Parallel()
	for _, careless := range []bool{false, true} {
		s := open(t)
		s.provider.Fail(oidcprovider.Faults{Replay: careless})
		s.provider.SignIn(user("grace-1", "grace@acme.example"))
		victim, thief := s.browser(), s.browser()
		theirs, _ := oidcprovider.Visit(t, victim.start(t, map[string]any{"connection_id": s.conn.ID.String()}))
		mine, _ := oidcprovider.Visit(t, thief.start(t, map[string]any{"connection_id": s.conn.ID.String()}))
		stolen, err := url.Parse(theirs)
		must(t, err)
		u, err := url.Parse(mine)
		must(t, err)
		q := u.Query()
		q.Set("code", stolen.Query().Get("code"))
		u.RawQuery = q.Encode()
		want := map[bool]Reason{false: ReasonCode, true: ReasonNonce}[careless]
		if _, why := s.arrival(t, thief.back(t, 0, u.String())); why != want {
			t.Errorf("careless %v: refused: %q", careless, why)
		}
	}
}

func TestFormPost(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.conn = s.connect(t, Admission{JIT: true}, func(o *OIDC) { o.ResponseMode = "form_post" })
	s.prove(t, "forms.example", s.conn.ID)
	s.provider.SignIn(user("grace-1", "grace@forms.example"))
	b := s.browser()
	w := b.send(t, 0, http.MethodPost, "/api/v1/sso/start", `{"address":"grace@forms.example"}`, "Content-Type", "application/json")
	var out struct {
		Redirect string `json:"redirect_url"`
	}
	must(t, json.Unmarshal(w.Body.Bytes(), &out))
	if k := w.Result().Cookies()[0]; k.SameSite != http.SameSiteNoneMode || !k.Secure {
		t.Errorf("a cookie that a form of the provider's page does not bring: %+v", k)
	}
	action, form := oidcprovider.Visit(t, out.Redirect)
	target := strings.TrimPrefix(action, public)
	if w := b.send(t, 0, http.MethodPost, target+"?state=x", form.Encode(), "Content-Type", "application/x-www-form-urlencoded"); w.Code != http.StatusBadRequest {
		t.Errorf("a form with a query: %d", w.Code)
	}
	w = b.send(t, 1, http.MethodPost, target, form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Origin", s.provider.URL)
	if a, why := s.arrival(t, w); why != "" || a.Connection != s.conn.ID {
		t.Errorf("refused: %q, %s", why, w.Body)
	}
}

func TestDeclined(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, why := s.browser().signIn(t, oidcprovider.User{}); why != ReasonDeclined {
		t.Errorf("refused: %q", why)
	}
}

// TestFreshness: a sign-in is as fresh as the provider says, and a proof that was wanted anew is one.
func TestFreshness(t *testing.T) {
	t.Parallel()
	s := open(t)
	u := user("grace-1", "grace@acme.example")
	u.SignedIn = s.clock().Add(-3 * time.Hour)
	a, why := s.browser().signIn(t, u)
	if why != "" || !a.ProvedAt.Equal(u.SignedIn) {
		t.Fatalf("proved at %v, refused: %s", a.ProvedAt, why)
	}
	s.provider.Fail(oidcprovider.Faults{OmitAuthTime: true})
	if a, why := s.browser().signIn(t, u); why != "" || a.ProvedAt.IsZero() || s.clock().Sub(a.ProvedAt) < 24*time.Hour {
		t.Errorf("without auth_time: proved at %v, refused: %s", a.ProvedAt, why)
	}
	s.apis[0] = s.api(s.Door, s.rooms[0], s.caller(s.acme, a.Person, time.Hour))
	prove := func(f oidcprovider.Faults, u oidcprovider.User) (Arrival, Reason) {
		s.provider.Fail(f)
		s.provider.SignIn(u)
		b := s.browser()
		back, _ := oidcprovider.Visit(t, b.begin(t, "/api/v1/sso/prove", map[string]any{"connection_id": s.conn.ID.String()}))
		return s.arrival(t, b.back(t, 0, back))
	}
	got, why := prove(oidcprovider.Faults{}, u)
	if q := s.provider.Asked(); q.Get("prompt") != "login" || q.Get("max_age") != "0" {
		t.Errorf("the provider was asked %v", q)
	}
	if why != "" || !got.ProvedAt.Equal(s.clock()) || got.Session == "" || got.Person != a.Person {
		t.Errorf("%+v, refused: %s", got, why)
	}
	if _, why := prove(oidcprovider.Faults{Claims: map[string]any{"auth_time": s.clock().Add(-time.Hour).Unix()}}, u); why != ReasonStale {
		t.Errorf("a provider that did not ask: %q", why)
	}
	if _, why := prove(oidcprovider.Faults{OmitAuthTime: true}, u); why != ReasonStale {
		t.Errorf("a provider that does not say: %q", why)
	}
	if _, why := prove(oidcprovider.Faults{}, user("mallory-1", "mallory@acme.example")); why != ReasonOther {
		t.Errorf("somebody else came back: %q", why)
	}
}

func TestStrong(t *testing.T) {
	t.Parallel()
	s := open(t)
	strong := func(claims ...any) bool {
		a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example", claims...))
		if why != "" {
			t.Fatal(why)
		}
		return a.Strong
	}
	if strong("amr", []string{"mfa"}) {
		t.Error("a provider's word counts though nobody said so")
	}
	o := *s.conn.Settings.OIDC
	o.TrustMFA = []string{"mfa", "phrh"}
	s.reconfigure(t, s.owner, Reconfigure{OIDC: &o})
	if !strong("amr", []string{"pwd", "mfa"}) || !strong("amr", "mfa") || !strong("acr", "phrh") {
		t.Error("a trusted word does not count")
	}
	if strong("amr", []string{"pwd"}) || strong("acr", "") || strong() || strong("amr", map[string]any{"mfa": true}) {
		t.Error("another word counts")
	}
}

func TestUserinfo(t *testing.T) {
	t.Parallel()
	s := open(t)
	bare := oidcprovider.Faults{Claims: map[string]any{"email": nil, "email_verified": nil, "name": nil}}
	s.provider.Fail(bare)
	if _, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != ReasonUnverified || s.provider.Requests("userinfo") != 0 {
		t.Errorf("refused: %q after %d requests for userinfo, which nobody wanted", why, s.provider.Requests("userinfo"))
	}
	o := *s.conn.Settings.OIDC
	o.Userinfo = true
	s.reconfigure(t, s.owner, Reconfigure{OIDC: &o})
	bare.Userinfo = map[string]any{"sub": "somebody-else"}
	s.provider.Fail(bare)
	if _, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != ReasonToken {
		t.Errorf("userinfo of somebody else: %q", why)
	}
	bare.Userinfo = nil
	s.provider.Fail(bare)
	if a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != "" {
		t.Errorf("refused: %q", why)
	} else if f, _ := s.profile(t, a.Person); f.Name != "Grace Hopper" {
		t.Errorf("%+v", f)
	}
}
