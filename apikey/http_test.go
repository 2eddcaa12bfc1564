package apikey

import (
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// api is the room's routes, with callers authenticated by the room itself.
func (f fixture) api() *web.API[tenantdb.Caller] {
	api := f.API(func(r *http.Request, m web.RequestMeta) (tenantdb.Caller, error) {
		return f.room.Authenticate(r.Context(), FromHeader(r.Header), m)
	})
	f.room.Routes(api)
	return api
}

type client struct {
	t   *testing.T
	api http.Handler
	key string
}

func (c client) do(method, path string, body any, header ...string) doortest.Answer {
	c.t.Helper()
	q := doortest.Request{Method: method, Path: "/api/v1/keys" + path, Key: c.key, Body: body, Header: map[string]string{}}
	for i := 0; i < len(header); i += 2 {
		q.Header[header[i]] = header[i+1]
	}
	return doortest.Call(c.t, c.api, q)
}

func (f fixture) client(t *testing.T) client {
	t.Helper()
	id := f.Tenant(t, "Acme")
	root, err := f.room.Create(t.Context(), tenantdb.System(id, "test"), NewKey{Name: "root", Kind: Owner, NeverExpires: true})
	if err != nil {
		t.Fatal(err)
	}
	return client{t, f.api(), root.Secret.Expose()}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	made := c.do("POST", "", map[string]any{
		"name": "checkout", "kind": "service", "scopes": []string{"verify", "read:identity"}, "resources": []string{"shop"},
		"expires_at": "never", "metadata": map[string]any{"team": "shop"}, "monthly_quota": 10,
	})
	b := made.Body
	if made.Status != http.StatusCreated || b["prefix"] != "avs_live" || b["name"] != "checkout" || b["kind"] != "service" || b["status"] != "active" ||
		b["expires_at"] != nil || b["monthly_quota"] != 10.0 || b["version"] != 1.0 || made.Header.Get("ETag") != `"1"` {
		t.Fatalf("create: %+v", made)
	}
	id, raw := b["key_id"].(string), b["key"].(string)
	if made.Header.Get("Location") != "/api/v1/keys/"+id || !strings.HasPrefix(raw, "avs_live_"+id+"_") || b["hint"] != "avs_live_"+id+"_..."+raw[66:] {
		t.Errorf("create: %+v", made)
	}
	got := c.do("GET", "/"+id, nil)
	if got.Status != http.StatusOK || got.Body["key"] != nil || strings.Contains(got.Raw, raw[21:64]) || got.Body["key_id"] != id {
		t.Errorf("get: %+v", got)
	}
	changed := c.do("PATCH", "/"+id, map[string]any{"name": "till", "resources": []string{"shop", "till"}, "owners": []string{}}, "If-Match", `"1"`)
	if changed.Status != http.StatusOK || changed.Body["name"] != "till" || len(changed.Body["resources"].([]any)) != 2 || changed.Header.Get("ETag") != `"2"` {
		t.Errorf("patch: %+v", changed)
	}
	if a := c.do("PATCH", "/"+id, `{"name":"late"}`, "If-Match", `"1"`); a.Status != http.StatusPreconditionFailed {
		t.Errorf("patch from an old version: %+v", a)
	}
	if a := c.do("PATCH", "/"+id, `{}`); a.Status != http.StatusOK || a.Body["version"] != 2.0 {
		t.Errorf("empty patch: %+v", a)
	}
	list := c.do("GET", "?kind=service&status=active&limit=1", nil)
	if keys := list.Body["keys"].([]any); list.Status != http.StatusOK || len(keys) != 1 || strings.Contains(list.Raw, raw[21:64]) || list.Body["next_cursor"] != nil {
		t.Errorf("list: %+v", list)
	}
	svc := client{t, c.api, raw}
	if a := svc.do("GET", "", nil); a.Status != http.StatusForbidden {
		t.Errorf("a service key lists: %+v", a)
	}
	for _, step := range [][2]string{{"disable", "disabled"}, {"enable", "active"}, {"revoke", "revoked"}} {
		if a := c.do("POST", "/"+id+"/"+step[0], nil); a.Status != http.StatusOK || a.Body["status"] != step[1] {
			t.Errorf("%s: %+v", step[0], a)
		}
	}
	if a := svc.do("GET", "", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("a revoked key: %+v", a)
	}
	if a := c.do("GET", "/"+strings.Repeat("0", 11), nil); a.Status != http.StatusNotFound {
		t.Errorf("a key that is not there: %+v", a)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	for range 4 {
		c.do("POST", "", `{"name":"k","kind":"service"}`)
	}
	seen, path := map[string]bool{}, "?limit=2"
	for range 3 {
		a := c.do("GET", path, nil)
		for _, k := range a.Body["keys"].([]any) {
			seen[k.(map[string]any)["key_id"].(string)] = true
		}
		next, _ := a.Body["next_cursor"].(string)
		path = "?limit=2&cursor=" + next
	}
	if len(seen) != 5 || path != "?limit=2&cursor=" {
		t.Errorf("saw %d keys, then %s", len(seen), path)
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	count := func() string { return f.Text(t, `SELECT count(*)::text FROM avouch.api_key`) }
	before := count()
	for field, value := range map[string]any{
		"max_uses": 5, "allowed_cidrs": []string{"10.0.0.0/8"}, "rate_limits": []any{map[string]any{"limit": 1}}, "allowed_cidr": "10.0.0.0/8",
		"scopes": "verify", "kind": "data", "expires_at": "tomorrow", "owners": []string{"acme"}, "metadata": "x",
	} {
		body := map[string]any{"name": "k", "kind": "service", field: value}
		a := c.do("POST", "", body)
		if a.Status != http.StatusBadRequest || !strings.Contains(a.Raw, "body."+field) && field != "kind" && field != "allowed_cidr" {
			t.Errorf("%s: %+v", field, a)
		}
	}
	if count() != before {
		t.Error("a key was made all the same")
	}
	if a := c.do("POST", "", `{"name":"k","kind":"service","max_uses":null,"allowed_cidrs":null,"scopes":null}`); a.Status != http.StatusCreated {
		t.Errorf("limits that are null: %+v", a)
	}
	if a := c.do("POST", "", `{"name":"k","kind":"service","MAX_USES":5}`); a.Status != http.StatusBadRequest {
		t.Errorf("a limit in upper case: %+v", a)
	}
	a := c.do("POST", "", `{"name":"k","kind":"service"}`)
	for _, field := range []string{"scopes", "expires_at", "max_uses", "kind"} {
		if a := c.do("PATCH", "/"+a.Body["key_id"].(string), map[string]any{field: nil}); a.Status != http.StatusBadRequest {
			t.Errorf("patch %s: %+v", field, a)
		}
	}
}

func TestIdempotentCreate(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	first := c.do("POST", "", `{"name":"k","kind":"service"}`, "Idempotency-Key", "one")
	again := c.do("POST", "", `{"name":"k","kind":"service"}`, "Idempotency-Key", "one")
	if first.Status != http.StatusCreated || first.Raw != again.Raw || first.Body["key"] == nil {
		t.Errorf("%+v and %+v", first, again)
	}
}
