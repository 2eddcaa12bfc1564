package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/otp"
)

// visitor is a person at a browser, with what they must keep to themselves.
type visitor struct {
	*scene
	name     string
	password string
	seed     []byte
	codes    []string
	cookie   string // as a header's value
	refresh  string
	access   string
	all      []string // what has a form of ours, and so may be put anywhere
}

// step is an answer of a sign-in.
type step struct {
	State    string
	Attempt  string
	Factors  []struct{ ID string }
	Codes    []string `json:"recovery_codes"`
	Access   string   `json:"access_token"`
	Refresh  string   `json:"refresh_token"`
	Secret   string
	ID       string                      `json:"connection_id"`
	Enrolled struct{ ID, Secret string } `json:"enrolment"`
}

// keep takes a secret of the person's that has a form of ours, such as avl_.
func (v *visitor) keep(name, value string) {
	v.t.Helper()
	v.h.add(v.t, name, []byte(value))
	if i := strings.IndexByte(value, '_'); i > 0 {
		v.h.add(v.t, name, []byte(value[i+1:]))
	}
	v.all = append(v.all, value)
}

// page sends a request as a page of ours does, and wants it to work.
func (v *visitor) page(status int, method, path string, body any) (s step) {
	v.t.Helper()
	got := want(v.t, status, method, v.r.URL+path, "", body, &s, v.headers()...)
	for _, c := range (&http.Response{Header: got.header}).Cookies() {
		if c.Value != "" {
			v.h.add(v.t, "cookie", []byte(c.Value))
		}
		if c.Name == "avouch" {
			v.cookie = c.Name + "=" + c.Value
		}
	}
	if s.Attempt != "" && !slices.Contains(v.all, s.Attempt) {
		v.keep("attempt", s.Attempt)
	}
	return s
}

func (v *visitor) headers() []string {
	h := []string{"Origin", v.r.URL, "Sec-Fetch-Site", "same-origin"}
	if v.cookie != "" {
		h = append(h, "Cookie", v.cookie)
	}
	return h
}

var linkInPage = regexp.MustCompile(`#link=(avl_[a-z2-7]+)`)

// mailed waits for the mail to the person with a link that was not seen before.
func (v *visitor) mailed() string {
	v.t.Helper()
	link := ""
	eventually(v.t, "mail to the person", func() bool {
		for n := 1; ; n++ {
			got, err := ask(http.MethodGet, fmt.Sprintf("%s/dev/inbox/%d", v.r.URL, n), "", nil)
			must(v.t, err)
			if got.status != http.StatusOK {
				return false
			}
			found := linkInPage.FindSubmatch(got.body)
			if found != nil && bytes.Contains(got.body, []byte(v.name+"@")) && !slices.Contains(v.all, string(found[1])) {
				link = string(found[1])
				return true
			}
		}
	})
	v.keep("link", link)
	return link
}

// people has somebody join, sign in by a browser and a program, connect a provider and an approval system, and recover: with
// everything that is secret about that.
func (s *scene) people() *visitor {
	s.t.Helper()
	v := &visitor{scene: s, name: strings.ToLower(rand.Text()), password: rand.Text() + " is what I chose"}
	s.h.add(s.t, "password", []byte(v.password))
	want(s.t, 201, http.MethodPost, s.r.URL+"/api/v1/invitations", s.r.OwnerKey, map[string]any{"address": v.name + "@people.example", "name": "Somebody", "roles": []string{"owner"}}, nil)
	joined := v.page(200, http.MethodPost, "/api/v1/join", map[string]any{"do": "join", "link": v.mailed(), "name": "Somebody", "password": v.password})
	begun := v.page(200, http.MethodPost, "/api/v1/sign-in/continue", map[string]any{"attempt": joined.Attempt, "do": "enrol", "kind": "totp", "name": "phone"}).Enrolled
	text := strings.ReplaceAll(begun.Secret, " ", "")
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	must(s.t, err)
	for _, form := range [][]byte{seed, []byte(text), []byte(strings.ToLower(text))} {
		s.h.add(s.t, "seed of an authenticator app", form)
	}
	v.seed = seed
	done := v.page(200, http.MethodPost, "/api/v1/sign-in/continue", map[string]any{"attempt": joined.Attempt, "do": "confirm", "factor": begun.ID, "code": otp.Usual().Code(seed, uint64(time.Now().Unix()/30))})
	v.codes = done.Codes
	for _, code := range v.codes {
		s.h.add(s.t, "recovery code", []byte(code))
		s.h.add(s.t, "recovery code", []byte(strings.ReplaceAll(code, "-", "")))
	}
	v.connects()
	v.program()
	v.recovers()
	for _, path := range []string{"session", "sessions", "me", "factors", "members", "invitations", "connections", "organisation/rules", "break-glass", "audit/entries?limit=200"} {
		if got := s.shows(http.MethodGet, "/api/v1/"+path, "", nil, v.headers()...); got.status != http.StatusOK {
			s.t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	return v
}

// connects gives away what providers and approval systems are known by.
func (v *visitor) connects() {
	v.t.Helper()
	client := rand.Text() + rand.Text()
	v.h.add(v.t, "client secret", []byte(client))
	oidc := map[string]any{"issuer": "https://127.0.0.1:9", "client_id": "avouch", "client_secret": client}
	made := v.page(201, http.MethodPost, "/api/v1/connections", map[string]any{"kind": "oidc", "name": "Provider", "oidc": oidc})
	v.shows(http.MethodPost, "/api/v1/connections/"+made.ID+"/test", "", nil, v.headers()...)
	v.shows(http.MethodPatch, "/api/v1/connections/"+made.ID, "", map[string]any{"oidc": map[string]any{"issuer": client, "client_secret": client, "response_mode": client}}, append(v.headers(), "If-Match", "*")...)
	hook := v.page(200, http.MethodPut, "/api/v1/break-glass/hook", nil).Secret
	v.keep("hook secret", hook)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(hook, "whsec_"))
	must(v.t, err)
	v.h.add(v.t, "hook secret", raw)
	v.all = v.all[:len(v.all)-1] // nothing looks for it in an address
	v.page(200, http.MethodPost, "/api/v1/session/prove", map[string]any{"do": "begin"})
}

// program signs in by a recovery code, for the app's is spent, and renews its tokens.
func (v *visitor) program() {
	v.t.Helper()
	browser := v.cookie
	v.cookie = ""
	begun := v.page(200, http.MethodPost, "/api/v1/sign-in", map[string]any{"address": v.name + "@people.example", "password": v.password, "kind": "program", "client_id": "cli"})
	done := v.page(200, http.MethodPost, "/api/v1/sign-in/continue", map[string]any{"attempt": begun.Attempt, "do": "prove", "recovery_code": v.codes[0]})
	v.access, v.refresh = done.Access, done.Refresh
	for _, algorithm := range []string{"RS256", "ES256"} {
		want(v.t, 200, http.MethodPatch, v.r.URL+"/api/v1/organisation/rules", "", map[string]any{"access_algorithm": algorithm}, nil, "Origin", v.r.URL, "Cookie", browser, "If-Match", "*")
		v.h.token(v.t, "access token", v.access)
		v.keep("refresh token", v.refresh)
		v.all = append(v.all, v.access)
		done = v.page(200, http.MethodPost, "/api/v1/session/refresh", map[string]any{"refresh_token": v.refresh, "client_id": "cli"})
		v.access, v.refresh = done.Access, done.Refresh
	}
	v.shows(http.MethodGet, "/api/v1/session", v.access, nil)
	v.cookie = browser
}

// recovers sets a new password by a mailed link, which ends the sessions, and signs in with it.
func (v *visitor) recovers() {
	v.t.Helper()
	before := v.cookie
	v.cookie = ""
	v.page(202, http.MethodPost, "/api/v1/recovery", map[string]any{"address": v.name + "@people.example"})
	link := v.mailed()
	v.password = rand.Text() + " is what I chose next"
	v.h.add(v.t, "password", []byte(v.password))
	begun := v.page(200, http.MethodPost, "/api/v1/recovery/finish", map[string]any{"link": link, "password": v.password})
	v.page(200, http.MethodPost, "/api/v1/sign-in/continue", map[string]any{"attempt": begun.Attempt, "do": "prove", "recovery_code": v.codes[1]})
	if v.cookie == "" || v.cookie == before {
		v.t.Error("the recovery ended in no session of its own")
	}
}

// misuse puts the person's secrets where they do not belong, and sends what must be refused.
func (v *visitor) misuse() {
	v.t.Helper()
	before := v.refusals.Len()
	for _, c := range v.all {
		v.shows(http.MethodGet, "/api/v1/session?token="+c, "", nil)
		v.shows(http.MethodPost, "/api/v1/invitations/"+c+"/revoke", "", nil, v.headers()...)
		v.shows(http.MethodGet, "/nowhere/"+c, "", nil, "Referer", v.r.URL+"/join?link="+c)
		v.shows(http.MethodGet, "/api/v1/session", c, nil, "User-Agent", c)
		v.shows(http.MethodGet, "/api/v1/session", "", nil, "X-Api-Key", c)
		v.shows(http.MethodPost, "/api/v1/sign-in/continue", "", map[string]any{"attempt": c + "x", "do": "look", c: 1})
		v.shows(http.MethodPost, "/api/v1/join", "", map[string]any{"do": "look", "link": c})
		v.shows(http.MethodPost, "/api/v1/session/refresh", "", map[string]any{"refresh_token": c})
	}
	value := v.cookie[strings.IndexByte(v.cookie, '=')+1:]
	for _, c := range []string{v.password, value, base32.StdEncoding.EncodeToString(v.seed), v.codes[2], v.codes[0]} {
		v.shows(http.MethodPost, "/api/v1/sign-in", "", map[string]any{"address": c, "password": c + "x"})
		v.shows(http.MethodPost, "/api/v1/sign-in", "", map[string]any{"address": v.name + "@people.example", "password": c + "x", "device": c})
		v.shows(http.MethodPost, "/api/v1/sign-in", "", map[string]any{"address": v.name + "@people.example", "password": []string{c}, "organisation": c, "kind": c})
		v.shows(http.MethodPost, "/api/v1/sign-in", "", c)
		v.shows(http.MethodPost, "/api/v1/sign-in", "", map[string]any{"address": strings.Repeat(c, 30), "password": strings.Repeat(c, 100)})
		v.shows(http.MethodPut, "/api/v1/password", "", map[string]any{"old": c + "x", "new": c}, v.headers()...)
		v.shows(http.MethodPost, "/api/v1/factors", "", map[string]any{"kind": c, "to": c}, v.headers()...)
		v.shows(http.MethodPost, "/api/v1/address", "", map[string]any{"address": c}, v.headers()...)
		v.shows(http.MethodGet, "/api/v1/session", c, nil)
		v.shows(http.MethodGet, "/api/v1/session", "", nil, "Cookie", "avouch="+c+"; avouch="+value)
		v.shows(http.MethodPost, "/api/v1/sign-out", "", nil, "Cookie", v.cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
		v.shows(http.MethodPost, "/api/v1/session/refresh", "", map[string]any{"refresh_token": c, "client_id": c})
	}
	if v.refusals.Len() < before+20_000 {
		v.t.Errorf("only %d bytes of refusals", v.refusals.Len()-before)
	}
}
