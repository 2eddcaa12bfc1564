package web

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestCredentialInQuery: an API request with a credential in its address is refused, and the owner is warned.
func TestCredentialInQuery(t *testing.T) {
	t.Parallel()
	service := strings.Replace(goodKey, "avk_live", "avs_test", 1)
	for _, c := range []struct {
		query string
		leaks []string
	}{
		{"key=" + goodKey, []string{goodKey}},
		{goodKey, []string{goodKey}},
		{"a=1&api_key=" + service + "&b=2", []string{service}},
		{"token=" + goodJWT, []string{goodJWT}},
		{"token=" + strings.ReplaceAll(goodJWT, ".", "%2E"), []string{goodJWT}},
		{"key=" + strings.ReplaceAll(goodKey, "_", "%5f"), []string{goodKey}},
		{"key=" + strings.ReplaceAll(goodKey, "_", "%255f"), []string{goodKey}},
		{"x=%61vk" + goodKey[3:], []string{goodKey}},
		{"a=" + goodKey + "&b=" + goodJWT, []string{goodKey, goodJWT}},
		{"a=avk_live_short", nil},
		{"a=avx_live_0123456789A_x", nil},
		{"a=eyJhbGci", nil},
		{"cursor=MTIz", nil},
	} {
		t.Run(c.query[:6], func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			r := b.ask("GET", "/api/v1/things?"+c.query, "")
			if c.leaks != nil {
				problemIn(t, r, 400)
			}
			if text := bodyOf(t, r); strings.Contains(text, goodKey) || strings.Contains(text, "eyJ") {
				t.Errorf("the answer repeats it: %s", text)
			}
			if !slices.Equal(b.leaks, c.leaks) {
				t.Errorf("leaked %d, want %d", len(b.leaks), len(c.leaks))
			}
			if log := b.log.String(); strings.Contains(log, "avk_") || strings.Contains(log, "eyJ") {
				t.Error("it is in the log")
			}
		})
	}
}

// TestCredentialInPath: the same for what stands in the path, wherever that leads, however it is escaped and whatever else is wrong
// with the address; and what only looks a little like a key is none.
func TestCredentialInPath(t *testing.T) {
	t.Parallel()
	data := strings.Replace(goodKey, "avk_live", "avd_live", 1)
	for _, c := range []struct {
		method, target string
		leaks          []string
	}{
		{"GET", "/api/v1/things/" + goodKey, []string{goodKey}},
		{"POST", "/api/v1/things/" + data + "/revoke", []string{data}},
		{"DELETE", "/api/v1/things/x" + goodKey, []string{goodKey}},
		{"GET", "/api/v1/things/" + strings.ReplaceAll(goodKey, "_", "%5f"), []string{goodKey}},
		{"GET", "/api/v1/things/" + strings.ReplaceAll(goodKey, "_", "%255F"), []string{goodKey}},
		{"GET", "/%61vk" + goodKey[3:] + ".txt", []string{goodKey}},
		{"GET", "/nowhere/" + goodJWT, []string{goodJWT}},
		{"GET", "/docs/" + goodKey, []string{goodKey}},
		{"GET", "//api/../" + goodKey, []string{goodKey}},
		{"GET", "/api/v1/things/" + goodKey + "%00", []string{goodKey}},
		{"GET", "/api/v1/things?a=%zz&k=" + goodKey, []string{goodKey}},
		{"GET", "/api/v1/things/" + goodKey + "?k=" + goodKey + "&j=" + data, []string{goodKey, data}},
		{"GET", "/api/v1/things/" + thingID, nil},
		{"GET", "/agents/" + thingID + "/did.json", nil},
		{"GET", "/api/v1/things/" + goodKey[9:20], nil},
		{"GET", "/api/v1/things/avk_live_short", nil},
		{"GET", "/api/v1/things?link=" + mailed, []string{mailed}},
	} {
		b := newBench(t)
		r := b.ask(c.method, c.target, "", asAlice)
		if c.leaks != nil {
			problemIn(t, r, 400)
		}
		if !slices.Equal(b.leaks, c.leaks) {
			t.Errorf("%s %s: %d leaks, want %d", c.method, c.target, len(b.leaks), len(c.leaks))
		}
		if log := b.log.String(); strings.Contains(log, "avk_") || strings.Contains(log, "avd_") || strings.Contains(log, "eyJ") {
			t.Errorf("%s: it is in the log", c.target)
		}
	}
}

// TestCredentialInQueryElsewhere: one-time links outside of the API are not the guard's business; odd spellings of the
// API's path are.
func TestCredentialInQueryElsewhere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	problemIn(t, b.ask("GET", "/verified?token="+goodJWT, ""), 404)
	if len(b.leaks) != 0 {
		t.Error("outside of the API it was taken for a leak")
	}
	b.ask("GET", "/%61pi/v1/things?token="+goodJWT, "")
	if len(b.leaks) != 1 {
		t.Error("an escaped path went round the guard")
	}
}

func public(cfg *Config[caller]) {
	cfg.PublicURL = &url.URL{Scheme: "https", Host: "id.example.com"}
	cfg.TrustedProxies = prefixes("10.0.0.0/8")
}

// TestPlainHTTP: known by an https address, the service redirects what is harmless and refuses the rest.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, target, header string
		status                 int
		location               string
		leaks                  int
	}{
		{"GET", "/docs", "", 308, "https://id.example.com/docs", 0},
		{"HEAD", "/api/v1/things?limit=3", "", 308, "https://id.example.com/api/v1/things?limit=3", 0},
		{"GET", "/%65vil%0d%0aSet-Cookie:x", "", 308, "https://id.example.com/%65vil%0d%0aSet-Cookie:x", 0},
		{"POST", "/api/v1/things", "", 400, "", 0},
		{"GET", "/api/v1/things", asAlice, 400, "", 1},
		{"GET", "/api/v1/things", "X-API-Key: " + goodKey, 400, "", 1},
		{"GET", "/verified?token=" + goodJWT, "", 400, "", 1},
		{"GET", "/verified/" + goodKey, "", 400, "", 1},
		{"GET", "/docs", "Cookie: theme=dark", 308, "https://id.example.com/docs", 0},
		{"GET", "/docs", "Cookie: theme=dark; __Host-session=abc", 400, "", 1},
		{"GET", "/docs", "X-Forwarded-Proto: https", 308, "https://id.example.com/docs", 0}, // said by nobody trusted
	} {
		t.Run(c.method+c.target[:5]+c.header[:min(len(c.header), 8)], func(t *testing.T) {
			t.Parallel()
			b := newBench(t, public)
			var header []string
			if c.header != "" {
				header = []string{c.header}
			}
			r := b.ask(c.method, c.target, "", header...)
			if r.StatusCode != c.status || r.Header.Get("Location") != c.location || len(b.leaks) != c.leaks {
				t.Errorf("%d to %q, %d leaks; want %d %q %d", r.StatusCode, r.Header.Get("Location"), len(b.leaks), c.status, c.location, c.leaks)
			}
			if r.Header.Get("X-Request-Id") == "" || r.Header.Get("Strict-Transport-Security") != "" {
				t.Errorf("headers %v", r.Header)
			}
			if c.status == 400 {
				problemIn(t, r, 400)
			}
		})
	}
}

func TestBehindTrustedProxy(t *testing.T) {
	t.Parallel()
	b := newBench(t, public)
	Handle(b.API, Op{ID: "whoami", Method: "GET", Path: "/api/v1/whoami", Summary: "See the address", Access: Public}, whoami)
	r := httptest.NewRequest("GET", "/api/v1/whoami", nil)
	r.RemoteAddr = "10.1.1.1:9"
	r.Header.Set("X-Forwarded-For", "203.0.113.7")
	r.Header.Set("X-Forwarded-Proto", "https")
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	if got := w.Body.String(); w.Code != 200 || got != "{\"address\":\"203.0.113.7\",\"secure\":true}\n" {
		t.Errorf("%d %s", w.Code, got)
	}
	if got := w.Header().Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("HSTS %q", got)
	}
}

// TestPlainHTTPForProbes: an operation can be left open to the probes of a load balancer.
func TestPlainHTTPForProbes(t *testing.T) {
	t.Parallel()
	b := newBench(t, public)
	b.Mount(Op{ID: "healthz", Method: "GET", Path: "/healthz", PlainHTTP: true}, answerText("well"))
	if r := b.ask("GET", "/healthz", ""); r.StatusCode != 200 || bodyOf(t, r) != "well" {
		t.Errorf("%d", r.StatusCode)
	}
}

func TestNoRedirectInDevelopment(t *testing.T) {
	t.Parallel()
	if r := newBench(t).ask("GET", "/api/v1/secret", "", asAlice); r.StatusCode != 403 {
		t.Errorf("%d: with a plain public URL nothing is redirected or refused for being plain", r.StatusCode)
	}
}

// TestClientAddress: what a header says counts only as far as a trusted proxy said it.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := prefixes("10.0.0.0/8", "fd00::/8")
	for _, c := range []struct {
		by     ForwardedBy
		remote string
		header string
		want   string
		secure bool
	}{
		{XForwarded, "192.0.2.1:5", "", "192.0.2.1", false},
		{XForwarded, "192.0.2.1:5", "X-Forwarded-For: 203.0.113.7|X-Forwarded-Proto: https", "192.0.2.1", false},
		{XForwarded, "10.0.0.1:5", "", "10.0.0.1", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 203.0.113.7", "203.0.113.7", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 1.1.1.1, 203.0.113.7", "203.0.113.7", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 1.1.1.1|X-Forwarded-For: 203.0.113.7", "203.0.113.7", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 10.9.9.9, 10.0.0.2", "10.9.9.9", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 203.0.113.7, nonsense, 10.0.0.2", "10.0.0.2", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 203.0.113.7,", "10.0.0.1", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-For: 203.0.113.7:4711", "203.0.113.7", false},
		{XForwarded, "[fd00::1]:5", "X-Forwarded-For: [2001:db8::9]:80", "2001:db8::9", false},
		{XForwarded, "[::ffff:10.0.0.1]:5", "X-Forwarded-For: ::ffff:203.0.113.7", "203.0.113.7", false},
		{XForwarded, "[fe80::1%eth0]:5", "", "fe80::1", false},
		{XForwarded, "10.0.0.1:5", "Forwarded: for=1.1.1.1;proto=https", "10.0.0.1", false},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-Proto: https", "10.0.0.1", true},
		{XForwarded, "10.0.0.1:5", "X-Forwarded-Proto: https, http", "10.0.0.1", false},
		{XForwarded, "@", "X-Forwarded-For: 1.1.1.1", "invalid IP", false},
		{Forwarded, "10.0.0.1:5", "Forwarded: for=203.0.113.7", "203.0.113.7", false},
		{Forwarded, "10.0.0.1:5", `Forwarded: for=1.1.1.1, For="[2001:db8::9]:47";Proto=https;by=10.0.0.2`, "2001:db8::9", true},
		{Forwarded, "10.0.0.1:5", `Forwarded: for="1.1.1.1, for=2.2.2.2"`, "10.0.0.1", false},
		{Forwarded, "10.0.0.1:5", "Forwarded: for=203.0.113.7, for=_hidden", "10.0.0.1", false},
		{Forwarded, "10.0.0.1:5", "Forwarded: for=203.0.113.7, proto=https", "10.0.0.1", true},
		{Forwarded, "10.0.0.1:5", "X-Forwarded-For: 1.1.1.1|X-Forwarded-Proto: https", "10.0.0.1", false},
		{Forwarded, "192.0.2.1:5", "Forwarded: for=1.1.1.1;proto=https", "192.0.2.1", false},
	} {
		t.Run(fmt.Sprint(c.by, c.remote, c.header), func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.remote
			for line := range strings.SplitSeq(c.header, "|") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					r.Header.Add(name, value)
				}
			}
			got, secure := clientOf(r, trusted, c.by)
			if got.String() != c.want || secure != c.secure {
				t.Errorf("%v, %v; want %s, %v", got, secure, c.want, c.secure)
			}
		})
	}
}

// FuzzForwarded: whatever the headers hold, the address is the peer's or one that stands in them, and an untrusted
// peer is never talked into another.
func FuzzForwarded(f *testing.F) {
	f.Add("203.0.113.7, 10.0.0.2", "https")
	f.Add(`for="[2001:db8::9]:47";proto=https, for=_x`, "http")
	f.Add(`for="a\"b,c`, "https,https")
	trusted := prefixes("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, chain, proto string) {
		for _, by := range []ForwardedBy{XForwarded, Forwarded} {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set(string(by), chain)
			r.Header.Set("X-Forwarded-Proto", proto)
			r.RemoteAddr = "192.0.2.1:5"
			if a, secure := clientOf(r, trusted, by); a != netip.MustParseAddr("192.0.2.1") || secure {
				t.Fatalf("%s of an untrusted peer made it %v %v", by, a, secure)
			}
			r.RemoteAddr = "10.0.0.1:5"
			if a, _ := clientOf(r, trusted, by); !a.IsValid() || a.Zone() != "" || a.Is4In6() {
				t.Fatalf("%s %q gave %v", by, chain, a)
			}
		}
	})
}
