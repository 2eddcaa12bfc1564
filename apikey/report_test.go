package apikey

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func codes(risks []Risk) (out []string) {
	for _, r := range risks {
		out = append(out, r.Code)
	}
	return out
}

// TestRiskReport: page by page, each key that needs looking after once, with what is known of it, and no other's.
func TestRiskReport(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	_, owner := f.owner(t, "Acme")
	_, theirs := f.owner(t, "Globex")
	f.service(t, theirs, NewKey{NeverExpires: true})
	fine := f.service(t, owner, NewKey{GivenTo: "alice"})
	ever := f.service(t, owner, NewKey{GivenTo: "alice", NeverExpires: true})
	thief, spent, both := f.service(t, owner, NewKey{GivenTo: "a"}), f.service(t, owner, NewKey{GivenTo: "a"}), f.service(t, owner, NewKey{GivenTo: "a"})
	present := func(k Created) {
		_, err := f.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
		want(t, err, problem.Unauthenticated, "a key that has ended")
	}
	must(t, second(f.room.Revoke(t.Context(), owner, thief.ID)))
	present(thief)
	must(t, second(f.room.Disable(t.Context(), owner, both.ID)))
	present(both) // not after its revocation
	must(t, second(f.room.Revoke(t.Context(), owner, both.ID)))
	must(t, second(f.room.Revoke(t.Context(), owner, spent.ID)))
	must(t, f.room.Flush(t.Context()))
	got, pages := map[string][]string{}, 0
	for after := (*Position)(nil); ; pages++ {
		found, more, err := f.room.Risks(t.Context(), owner, after, 2)
		must(t, err)
		for _, k := range found {
			if got[k.ID] != nil {
				t.Errorf("%s is there twice", k.Name)
			}
			got[k.ID] = codes(k.Risks)
		}
		if after = more; more == nil {
			break
		}
	}
	if pages != 2 || len(got) != 3 {
		t.Errorf("%d pages more, with %v", pages, got)
	}
	if !slices.Equal(got[thief.ID], []string{"revoked_in_use"}) || !slices.Contains(got[ever.ID], "never_expires") || got[fine.ID] != nil || got[spent.ID] != nil || got[both.ID] != nil ||
		!slices.Contains(got[owner.Actor().ID], "everything") {
		t.Errorf("the risks are %v", got)
	}
	now.move(DefaultLife - soon + time.Millisecond)
	replaced := f.service(t, owner, NewKey{GivenTo: "alice"})
	must(t, second(f.room.Rotate(t.Context(), owner, replaced.ID, time.Hour)))
	found, _, err := f.room.Risks(t.Context(), owner, nil, 100)
	must(t, err)
	for _, k := range found {
		got[k.ID] = codes(k.Risks)
	}
	if got[replaced.ID] != nil {
		t.Errorf("a key that was rotated, and has an hour left, has the risks %v", got[replaced.ID])
	}
	if !slices.Equal(got[fine.ID], []string{"expires_soon", "never_used"}) {
		t.Errorf("a week before its end its risks are %v", got[fine.ID])
	}
}

func TestRiskRoute(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	for range 3 {
		c.do("POST", "", `{"name":"k","kind":"service","owner":"alice"}`)
	}
	id := c.do("POST", "", `{"name":"k","kind":"service","expires_at":"never"}`).Body["key_id"]
	first := c.do("GET", "/risks?limit=2", nil)
	keys, _ := first.Body["keys"].([]any)
	if first.Status != http.StatusOK || len(keys) != 1 || keys[0].(map[string]any)["key_id"] != id || keys[0].(map[string]any)["key"] != nil {
		t.Fatalf("the first page is %+v", first)
	}
	if risk := keys[0].(map[string]any)["risks"].([]any)[0].(map[string]any); risk["code"] != "never_expires" || risk["severity"] != "medium" || risk["advice"] == "" {
		t.Errorf("the risk is %v", risk)
	}
	next := c.do("GET", "/risks?limit=2&cursor="+first.Body["next_cursor"].(string), nil)
	if keys := next.Body["keys"].([]any); len(keys) != 0 || next.Body["next_cursor"] == nil {
		t.Errorf("a page of keys without risks is %+v", next)
	}
	last := c.do("GET", "/risks?limit=2&cursor="+next.Body["next_cursor"].(string), nil)
	if keys := last.Body["keys"].([]any); len(keys) != 1 || last.Body["next_cursor"] != nil {
		t.Errorf("the last page is %+v", last)
	}
	tenant, err := tenantdb.ParseTenantID(f.Text(t, `SELECT tenant_id::text FROM avouch.api_key WHERE key_id = $1`, id))
	must(t, err)
	must(t, f.room.Leaked(t.Context(), nobody(tenant), id.(string), Leak{Where: "x", Via: "request"}))
	for severity, want := range map[string]int{"low": 2, "medium": 2, "high": 1, "critical": 1} { // with the key that asks, which may do everything
		found := c.do("GET", "/risks?limit=200&severity="+severity, nil).Body["keys"].([]any)
		if len(found) != want || want == 1 && found[0].(map[string]any)["key_id"] != id {
			t.Errorf("%s: %v", severity, found)
		}
	}
	if a := c.do("GET", "/risks?severity=bad", nil); a.Status != http.StatusBadRequest {
		t.Errorf("a severity that there is not: %+v", a)
	}
}
