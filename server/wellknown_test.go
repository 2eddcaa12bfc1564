package server

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fields reads security.txt as RFC 9116 has it (section 4): name, colon, space, value.
func fields(t testing.TB, text string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		name, value, ok := strings.Cut(line, ": ")
		if !ok || value == "" || strings.TrimSpace(value) != value {
			t.Fatalf("%q is no field", line)
		}
		all[strings.ToLower(name)] = append(all[strings.ToLower(name)], value)
	}
	return all
}

func TestSecurityTxt(t *testing.T) {
	t.Parallel()
	for contact, want := range map[string]string{
		"": "https://github.com/avouch-dev/avouch/security/advisories/new", "mailto:security@avouch.example": "mailto:security@avouch.example", "https://avouch.example/report": "https://avouch.example/report",
	} {
		s := newSite(t)
		s.issuer = "https://avouch.example"
		n := s.start(t, func(c *Config) { c.SecurityEmail, c.TrustedProxies = contact, []string{"127.0.0.1"} })
		a := n.call(t, ask{Method: "GET", Path: "/.well-known/security.txt", Header: map[string]string{"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}}).want(t, http.StatusOK)
		f := fields(t, a.Raw)
		if got := a.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("Content-Type is %q", got)
		}
		if len(f["contact"]) != 1 || f["contact"][0] != want {
			t.Errorf("contacts %q", f["contact"])
		}
		if len(f["expires"]) != 1 { // exactly one (2.5.5)
			t.Fatalf("expires %q", f["expires"])
		}
		at, err := time.Parse(time.RFC3339, f["expires"][0])
		if left := time.Until(at); err != nil || left < 30*24*time.Hour || left > 365*24*time.Hour {
			t.Errorf("it expires in %s (%v)", left, err)
		}
		if len(f["preferred-languages"]) > 1 || len(f["canonical"]) != 1 || f["canonical"][0] != s.issuer+"/.well-known/security.txt" {
			t.Errorf("%v", f)
		}
		for _, name := range []string{"contact", "canonical", "policy"} {
			for _, v := range f[name] {
				if u, err := url.Parse(v); err != nil || u.Scheme != "https" && u.Scheme != "mailto" { // web addresses are https (2.5.1)
					t.Errorf("%s is %q", name, v)
				}
			}
		}
	}
}

// A web address in security.txt must be https, so an installation on loopback says nothing of its own.
func TestSecurityTxtOnLoopback(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	if f := fields(t, n.get(t, "/.well-known/security.txt", "").want(t, http.StatusOK).Raw); len(f["canonical"]) != 0 || len(f["contact"]) != 1 {
		t.Errorf("%v", f)
	}
}

func TestDescription(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	a := n.get(t, "/.well-known/avouch.json", "").want(t, http.StatusOK)
	if a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Cache-Control") != "public, max-age=600" {
		t.Errorf("%v", a.Header)
	}
	for name, want := range map[string]string{
		"issuer": n.URL(), "jwks_uri": n.URL() + "/.well-known/jwks.json", "people_jwks_uri": n.URL() + "/.well-known/people-jwks.json", "verify_endpoint": n.URL() + "/api/v1/verify", "openapi": n.URL() + "/openapi.json", "version": "test",
	} {
		if a.text(name) != want {
			t.Errorf("%s is %q, want %q", name, a.text(name), want)
		}
	}
	for _, name := range []string{"jwks_uri", "people_jwks_uri", "openapi"} {
		n.get(t, strings.TrimPrefix(a.text(name), n.URL()), "").want(t, http.StatusOK)
	}
	n.call(t, ask{Method: "POST", Path: strings.TrimPrefix(a.text("verify_endpoint"), n.URL()), Body: map[string]any{}}).want(t, http.StatusUnauthorized)
}

// Key sets are fetched by every service and every browser: they are cached, and asked for again at little cost.
func TestJWKS(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	for _, path := range []string{"/.well-known/jwks.json", "/api/v1/.well-known/jwks.json"} {
		a := n.get(t, path, "").want(t, http.StatusOK)
		if got := a.Header.Get("Cache-Control"); got != "public, max-age=600" {
			t.Errorf("%s: Cache-Control is %q", path, got)
		}
		if a.Header.Get("Content-Type") != "application/jwk-set+json" || a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Etag") == "" {
			t.Errorf("%s: %v", path, a.Header)
		}
		var set struct{ Keys []map[string]string }
		must(t, json.Unmarshal([]byte(a.Raw), &set))
		if len(set.Keys) < 2 { // the one that signs and the one that will
			t.Errorf("%s: %d keys", path, len(set.Keys))
		}
		for _, k := range set.Keys {
			if k["kty"] != "EC" || k["alg"] != "ES256" || k["use"] != "sig" || k["kid"] == "" || k["d"] != "" {
				t.Errorf("%s: key %v", path, k)
			}
		}
		again := n.call(t, ask{Method: "GET", Path: path, Header: map[string]string{"If-None-Match": a.Header.Get("Etag")}}).want(t, http.StatusNotModified)
		if again.Raw != "" || again.Header.Get("Cache-Control") != "public, max-age=600" {
			t.Errorf("%s: not modified is %v %s", path, again.Header, again.Raw)
		}
		if head := n.call(t, ask{Method: "HEAD", Path: path}).want(t, http.StatusOK); head.Raw != "" {
			t.Errorf("%s: HEAD has a body", path)
		}
	}
}
