package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/tenantdb"
)

// caller is an agent of a party's, and what a service sends to have it verified.
func (n *live) caller(t testing.TB, p party) map[string]any {
	t.Helper()
	_, token, err := n.Agents.Register(t.Context(), tenantdb.System(p.id, "test"), agent.Registration{Name: "Reader", Scopes: []string{"read:email"}})
	must(t, err)
	return map[string]any{"token": token.Token.Expose(), "scopes_requested": []string{}}
}

// A quota that the operator's command has set holds on the servers that run, from its end on.
func TestQuotaOnAnotherServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.start(t), s.start(t)
	acme := one.organisation(t, "Acme")
	service, serviceID := one.newKey(t, acme, nil)
	body := one.caller(t, acme)
	operator, err := Operate(t.Context(), s.config(), s.log(t))
	must(t, err)
	t.Cleanup(operator.Close)
	by := tenantdb.System(acme.id, "operator")
	ask := func(n *live, key string, status int) {
		t.Helper()
		n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Key: key, Body: body}).want(t, status)
	}
	quota := func(most *int64) { t.Helper(); must(t, operator.Org.SetQuota(t.Context(), by, most)) }
	keyQuota := func(most *int64) {
		t.Helper()
		_, err := operator.Keys.SetQuota(t.Context(), by, serviceID, most)
		must(t, err)
	}
	used := func(want any) {
		t.Helper()
		if got := one.get(t, "/api/v1/organisation", acme.key).want(t, http.StatusOK); got.Body["used_this_month"] != want {
			t.Errorf("used %v, want %v", got.Body["used_this_month"], want)
		}
	}
	ask(one, acme.key, http.StatusOK)
	ask(two, acme.key, http.StatusOK)
	used(nil)
	quota(new(int64(2)))
	ask(two, acme.key, http.StatusOK)
	ask(one, acme.key, http.StatusOK)
	ask(two, acme.key, http.StatusTooManyRequests)
	ask(one, acme.key, http.StatusTooManyRequests)
	used(2.0)
	ask(one, service, http.StatusOK) // it has its own
	quota(new(int64(3)))
	ask(two, acme.key, http.StatusOK)
	ask(two, acme.key, http.StatusTooManyRequests)
	quota(nil)
	ask(one, acme.key, http.StatusOK)

	keyQuota(new(int64(0)))
	ask(one, service, http.StatusTooManyRequests)
	ask(two, service, http.StatusTooManyRequests)
	keyQuota(new(int64(1)))
	ask(two, service, http.StatusOK)
	ask(one, service, http.StatusTooManyRequests)
	keyQuota(nil)
	ask(one, service, http.StatusOK)
	if found := one.entries(t, acme.id, "organisation.quota_changed"); len(found) != 3 || found[2].field("monthly_quota") != "unlimited" || found[2].Actor.ID != "operator" {
		t.Errorf("the log has %+v", found)
	}
}

// Only the organisation itself shows its verifications in public, and only what it shows is told.
func TestBadgeIsItsOwnDecision(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	weak, _ := n.newKey(t, acme, map[string]any{"kind": "owner", "scopes": []string{"organisation:read", "verify"}})
	narrow, _ := n.newKey(t, acme, map[string]any{"kind": "owner", "scopes": []string{"organisation:write"}})
	n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Key: acme.key, Body: n.caller(t, acme)}).want(t, http.StatusOK)
	page := func() string {
		return n.get(t, "/verified?service="+acme.id.String(), "").want(t, http.StatusOK).Raw
	}
	set := func(key, version string, on bool) answer {
		return n.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation", Key: key, Body: map[string]any{"badge": on}, Header: map[string]string{"If-Match": version}})
	}
	unknown := n.get(t, "/verified?service="+tenantdb.NewTenantID().String(), "").Raw
	set(weak, `"1"`, true).want(t, http.StatusForbidden)
	set(acme.key, `"2"`, true).want(t, http.StatusPreconditionFailed)
	if on := set(other.key, `"1"`, true).want(t, http.StatusOK); on.text("tenant_id") != other.id.String() || on.Body["badge"] != true {
		t.Errorf("the other's is %s", on.Raw)
	}
	if page() != unknown {
		t.Errorf("shown, though it never asked for that: %s", page())
	}
	set(narrow, `"1"`, true).want(t, http.StatusOK)
	verified := n.entries(t, acme.id, "agent.verified")
	last := verified[len(verified)-1]
	for _, part := range []string{"Acme verifies the AI agents", last.Time.UTC().Format("2 January 2006, 15:04 UTC"), "Signed statement", last.Log.String()} {
		if !strings.Contains(page(), part) {
			t.Errorf("the page lacks %q: %s", part, page())
		}
	}
	set(other.key, `"2"`, false).want(t, http.StatusOK)
	if page() == unknown {
		t.Error("another's key switched it off")
	}
	set(narrow, `"2"`, false).want(t, http.StatusOK)
	if page() != unknown {
		t.Error("shown, though switched off")
	}
}
