package server

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// moment is a time of an answer.
func moment(t testing.TB, in object, name string) time.Time {
	t.Helper()
	text, _ := in[name].(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	must(t, err)
	return at
}

// algorithm is what a token says that it is signed by.
func algorithm(t testing.TB, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	must(t, err)
	var h struct{ Alg string }
	must(t, json.Unmarshal(b, &h))
	return h.Alg
}

// TestRulesReachSessions: how long sessions of browsers and of programs last, and by what tokens are signed, is as the organisation's
// rules say: for those that begin, and at once for those that are there.
func TestRulesReachSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	day := 24 * time.Hour
	near := func(what string, at time.Time, life time.Duration) { // of what began no more than an hour ago
		t.Helper()
		if left := at.Sub(h.now()); left > life || left < life-time.Hour {
			t.Errorf("%s ends in %s, and should last %s", what, left, life)
		}
	}
	begin := func() (browser, program *somebody, refreshed object) {
		t.Helper()
		browser = h.stranger(t, ada)
		browser.signIn(t, nil)
		program = browser.program(t)
		ada.step = browser.step
		refreshed = program.ask(t, "POST", "/api/v1/session/refresh", object{"refresh_token": program.refresh}).want(t, 200)
		program.bearer = refreshed["access_token"].(string)
		return browser, program, refreshed
	}
	lasts := func(when string, browser, program *somebody, life, programs time.Duration) {
		t.Helper()
		near(when+", the browser's session", moment(t, browser.ask(t, "GET", "/api/v1/session", nil).want(t, 200), "expires_at"), life)
		near(when+", the program's session", moment(t, program.ask(t, "GET", "/api/v1/session", nil).want(t, 200), "expires_at"), programs)
	}
	browser, program, refreshed := begin()
	lasts("at first", browser, program, 7*day, 90*day)
	near("at first, the refresh token", moment(t, refreshed, "refresh_expires_at"), 30*day)
	if a := algorithm(t, program.bearer); a != "ES256" {
		t.Errorf("at first: %s", a)
	}

	ada.prove(t)
	h.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation/rules", Header: h.fromPage(ada.cookie()), Body: object{
		"access_algorithm": "RS256", "session_lifetime_seconds": 2 * 86400, "program_lifetime_seconds": 5 * 86400,
	}}).want(t, 200)
	lasts("those that were there", browser, program, 2*day, 5*day)
	browser, program, refreshed = begin()
	lasts("those that begin", browser, program, 2*day, 5*day)
	near("the refresh token", moment(t, refreshed, "refresh_expires_at"), 5*day)
	if a := algorithm(t, program.bearer); a != "RS256" {
		t.Errorf("signed by %s", a)
	}
	for hours := 0; hours < 40; hours += 8 { // never idle
		h.later(8 * time.Hour)
		browser.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	}
	h.later(9 * time.Hour)
	browser.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
	h.later(3*day + time.Hour)
	program.ask(t, "POST", "/api/v1/session/refresh", object{"refresh_token": refreshed["refresh_token"]}).want(t, 401)
}
