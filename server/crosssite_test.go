package server

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
)

// fromElsewhere are the operations that pages of other sites send browsers to. There are no more.
func fromElsewhere() map[string]string {
	return map[string]string{
		"finish-saml":     "a provider's page posts its assertion; the request's state is in a cookie of its own",
		"finish-sso-form": "a provider's page posts its answer (form_post); the request's state is in a cookie of its own",
	}
}

// ownProof are the operations that look for a credential themselves, and for no cookie.
func ownProof() []string { return []string{"verify", "verify-key"} }

// TestLinksMoveNothing: who is signed in and follows a link to a code, whatever their browser says of where it comes from, gets none:
// a counter moves, or a window is spent. A page of ours gets one.
func TestLinksMoveNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.place(t, "Acme")
	cookie, _ := p.signed(t, p.person(t, org.RoleOwner))
	made := h.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Header: h.fromPage(cookie), Body: `{"name": "Counter", "type": "hotp", "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}`})
	made.want(t, http.StatusCreated)
	code := "/api/v1/vault/items/" + made.text("item_id") + "/code"
	for _, says := range []map[string]string{
		{}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
	} {
		says["Cookie"] = "avouch=" + cookie
		for _, method := range []string{"GET", "HEAD"} {
			h.call(t, ask{Method: method, Path: code, Header: says}).want(t, http.StatusForbidden)
		}
	}
	h.call(t, ask{Method: "GET", Path: code, Header: map[string]string{"Cookie": "avouch=" + cookie, "Sec-Fetch-Site": "same-origin"}}).want(t, http.StatusOK)
	if a := h.call(t, ask{Method: "POST", Path: code, Header: h.fromPage(cookie)}); a.Status != http.StatusOK || a.Body["counter"] != 1.0 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

// TestOtherSitesSendNothing: whatever changes something refuses the page of another site, with a cookie or without one, so that
// nobody is signed in to another's account by it; but for the two operations that providers come back to. Programs, which say
// nothing of where a page stands, go on.
func TestOtherSitesSendNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.place(t, "Acme")
	cookie, _ := p.signed(t, p.person(t, org.RoleOwner))
	elsewhere := []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"},
		{"Origin": "https://evil.example"}, {"Origin": "null"},
	}
	here := []map[string]string{{}, {"Origin": h.URL()}, {"Sec-Fetch-Site": "same-origin", "Origin": h.URL()}, {"Sec-Fetch-Site": "none"}}
	refused := func(a answer) bool {
		return a.Status == http.StatusForbidden && strings.Contains(a.text("detail"), "by a page of another site")
	}
	names, seen := regexp.MustCompile(`\{[^}]*\}`), 0
	for _, o := range h.api.Operations() {
		if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, o.Method) {
			continue
		}
		ask := func(from map[string]string, cookie string) answer {
			header := maps.Clone(from)
			if cookie != "" {
				header["Cookie"] = "avouch=" + cookie
			}
			return h.call(t, ask{Method: o.Method, Path: names.ReplaceAllString(o.Path, "x"), Body: "{}", Header: header})
		}
		seen++
		for _, from := range elsewhere {
			a, signed := ask(from, ""), ask(from, cookie)
			switch {
			case fromElsewhere()[o.ID] != "":
				if refused(a) || refused(signed) {
					t.Errorf("%s from %v: %s", o.ID, from, a.Raw)
				}
			case slices.Contains(ownProof(), o.ID):
				if a.Status != http.StatusUnauthorized || signed.Status != http.StatusUnauthorized {
					t.Errorf("%s takes a cookie: %d %s", o.ID, signed.Status, signed.Raw)
				}
			case !refused(signed), o.Access == web.Public && !refused(a), o.Access != web.Public && a.Status != http.StatusUnauthorized:
				t.Errorf("%s from %v: %d %s\nwith a cookie: %d %s", o.ID, from, a.Status, a.Raw, signed.Status, signed.Raw)
			}
		}
		for _, from := range here {
			if a := ask(from, ""); o.Access == web.Public && refused(a) {
				t.Errorf("%s from %v: %s", o.ID, from, a.Raw)
			}
		}
	}
	if seen < 60 {
		t.Errorf("%d operations were asked", seen)
	}
	h.call(t, ask{Method: "GET", Path: "/api/v1/session", Header: h.fromPage(cookie)}).want(t, http.StatusOK) // nothing was done with it
}
