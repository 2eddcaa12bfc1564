package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestNoGroupForThemselves: an administrator who grants a seed to a group, and goes into that, does not come in;
// another puts them in. What they could see by it stays in the report about them, also when the group is gone. The only owner goes in, and
// the log says so.
func TestNoGroupForThemselves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.place(t, "Acme")
	admin, second := p.person(t, org.RoleAdmin), p.person(t, org.RoleAdmin)
	item := p.made(t, p.owner, "/api/v1/vault/items", "item_id", object{"name": "AWS root", "type": "totp", "secret": rfcSeed})
	joins := func(by tenantdb.PersonID, group string, who tenantdb.PersonID, want int) answer {
		t.Helper()
		cookie, _ := p.signed(t, by)
		return p.call(t, ask{Method: "PUT", Path: "/api/v1/groups/" + group + "/members/" + who.String(), Header: p.fromPage(cookie)}).want(t, want)
	}
	for _, how := range []string{"one leaves", "the group is deleted"} {
		group := p.made(t, admin, "/api/v1/groups", "group_id", object{"name": how})
		p.as(t, admin, "POST", "/api/v1/vault/items/"+item+"/grants", object{"group_id": group, "level": "seed"})
		if a := joins(admin, group, admin, http.StatusForbidden); !strings.Contains(a.text("detail"), "nobody grants to themselves") {
			t.Errorf("%s", a.Raw)
		}
		joins(second, group, admin, http.StatusOK)
		who := "/members/" + admin.String()
		if how != "one leaves" {
			who = ""
		}
		cookie, _ := p.signed(t, second)
		if a := p.call(t, ask{Method: "DELETE", Path: "/api/v1/groups/" + group + who, Header: p.fromPage(cookie)}); a.Status >= 300 {
			t.Errorf("%s: %d %s", how, a.Status, a.Raw)
		}
		report := p.as(t, p.owner, "GET", "/api/v1/vault/people/"+admin.String()+"/report", nil)
		if !strings.Contains(report.Raw, item) {
			t.Errorf("%s: %s", how, report.Raw)
		}
		item = p.made(t, p.owner, "/api/v1/vault/items", "item_id", object{"name": "Another", "type": "totp", "secret": rfcSeed})
	}
	group := p.made(t, p.owner, "/api/v1/groups", "group_id", object{"name": "alone"})
	p.as(t, p.owner, "POST", "/api/v1/vault/items/"+item+"/grants", object{"group_id": group})
	p.call(t, ask{Method: "PUT", Path: "/api/v1/groups/" + group + "/members/" + p.owner.String(), Key: p.key}).want(t, http.StatusForbidden) // a key of nobody
	joins(p.owner, group, p.owner, http.StatusOK)
	added := p.entries(t, p.id, "group.member_added")
	if e := added[len(added)-1]; e.field("alone") != "true" || len(added) != 3 || added[0].field("alone") != "" {
		t.Errorf("the log says %+v", e)
	}
}

// TestRetriesHoldNoHashOfSecrets: what a request is known by for its Idempotency-Key is no hash of the request alone, whose body may hold a
// secret that can be guessed: the same request of two organisations is known by two things.
func TestRetriesHoldNoHashOfSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	for _, name := range []string{"Acme", "Other"} {
		q := ask{Method: "POST", Path: "/api/v1/vault/items", Key: n.organisation(t, name).key, Header: map[string]string{"Idempotency-Key": "k"}, Body: object{"name": "PIN", "type": "secret", "secret": "Summer-4711-of-2026"}}
		first := n.call(t, q).want(t, http.StatusCreated)
		if again := n.call(t, q).want(t, http.StatusCreated); again.Raw != first.Raw || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("the retry: %s", again.Raw)
		}
		q.Body = object{"name": "PIN", "type": "secret", "secret": "Summer-4712-of-2026"}
		n.call(t, q).want(t, http.StatusConflict)
	}
	known, err := s.admin.Texts(t.Context(), `SELECT DISTINCT encode(request, 'hex') FROM avouch.idempotency WHERE key = 'k'`)
	must(t, err)
	if len(known) != 2 {
		t.Errorf("two organisations' requests are known by %v", known)
	}
	s.nothingReadable(t, "Summer-4711-of-2026")
}
