package verify

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// as authenticates a key.
func (h *house) as(t testing.TB, key string) tenantdb.Caller {
	t.Helper()
	c, err := h.keys.Authenticate(t.Context(), key, web.RequestMeta{})
	must(t, err)
	return c
}

// TestChildrenShareTheirMakersQuota: a service key, what came from it and all generations of them have together no more
// verifications a month than it was given, and a child not more than itself was. It needs nothing else that is counted.
func TestChildrenShareTheirMakersQuota(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	_, token := h.agent(t)
	scopes := []string{"keys:write", "verify"}
	parent, parentID := h.newKey(t, h.service, apikey.NewKey{Scopes: scopes, MonthlyQuota: new(int64(9))})
	child, childID := h.newKey(t, h.as(t, parent), apikey.NewKey{Scopes: scopes})
	small, _ := h.newKey(t, h.as(t, parent), apikey.NewKey{Scopes: []string{"verify"}, MonthlyQuota: new(int64(2))})
	grand, _ := h.newKey(t, h.as(t, child), apikey.NewKey{Scopes: []string{"verify"}})
	next, err := h.keys.Rotate(t.Context(), h.service, childID, time.Hour)
	must(t, err)
	late, _ := h.newKey(t, h.as(t, next.Secret.Expose()), apikey.NewKey{Scopes: []string{"verify"}})
	for i, k := range []string{parent, child, grand, next.Secret.Expose(), late, small, small} {
		if a := []*side{h.side, other}[i%2].ask(t, k, Request{Token: token}); a.Status != http.StatusOK {
			t.Fatalf("use %d: %d %s", i, a.Status, a.Raw)
		}
	}
	h.refused(t, small, Request{Token: token}, http.StatusTooManyRequests)
	spend(t, []*side{h.side, other}, late, Request{Token: token}, "the rest", 2, http.StatusTooManyRequests)
	for _, k := range []string{parent, child, grand, next.Secret.Expose(), late, small} {
		h.refused(t, k, Request{Token: token}, http.StatusTooManyRequests)
	}
	fresh, _ := h.newKey(t, h.as(t, parent), apikey.NewKey{Scopes: []string{"verify"}})
	h.refused(t, fresh, Request{Token: token}, http.StatusTooManyRequests)
	if c := h.as(t, fresh); c.Metered() {
		t.Error("each request of a key that shares a quota gets an entry of its own")
	}
	must(t, second(h.keys.SetQuota(t.Context(), tenantdb.System(h.service.Tenant(), "operator"), parentID, new(int64(10)))))
	if a := other.ask(t, fresh, Request{Token: token}); a.Status != http.StatusOK {
		t.Errorf("when its maker was given one more: %d %s", a.Status, a.Raw)
	}
	h.refused(t, late, Request{Token: token}, http.StatusTooManyRequests)
}

// TestQuotaGivenLater: a quota that a key is given after it made others holds for them too, and that of a newest generation for
// the ones before.
func TestQuotaGivenLater(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	operator := tenantdb.System(h.service.Tenant(), "operator")
	old, oldID := h.newKey(t, h.service, apikey.NewKey{Scopes: []string{"keys:write", "verify"}, NeverExpires: true})
	must(t, second(h.keys.SetQuota(t.Context(), operator, oldID, nil)))
	child, childID := h.newKey(t, h.as(t, old), apikey.NewKey{Scopes: []string{"verify"}})
	must(t, second(h.keys.SetQuota(t.Context(), operator, childID, nil)))
	next, err := h.keys.Rotate(t.Context(), h.service, oldID, time.Hour)
	must(t, err)
	for _, k := range []string{old, child, next.Secret.Expose()} {
		if a := h.side.ask(t, k, Request{Token: token}); a.Status != http.StatusOK {
			t.Errorf("without any: %d %s", a.Status, a.Raw)
		}
	}
	must(t, second(h.keys.SetQuota(t.Context(), operator, next.ID, new(int64(2)))))
	for i, k := range []string{child, old} {
		if a := h.side.ask(t, k, Request{Token: token}); a.Status != http.StatusOK {
			t.Errorf("use %d: %d %s", i, a.Status, a.Raw)
		}
	}
	for _, k := range []string{child, old, next.Secret.Expose()} {
		a := h.side.ask(t, k, Request{Token: token})
		if a.Status != http.StatusTooManyRequests || !strings.Contains(a.Raw, "quota of verifications") {
			t.Errorf("when it is spent: %d %s", a.Status, a.Raw)
		}
	}
}

func second[T any](_ T, err error) error { return err }
