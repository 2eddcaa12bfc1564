package apikey

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

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

// TestDescriptions: what the description of the API says of revocation is what revocation does.
func TestDescriptions(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	spec := c.at("GET", "/openapi.json", "").Body
	revoke := spec["paths"].(map[string]any)["/api/v1/keys/{id}/revoke"].(map[string]any)["post"].(map[string]any)
	said := revoke["description"].(string)
	for _, word := range []string{"It ends alone", "children_left", `{"children": true}`} {
		if !strings.Contains(said, word) {
			t.Errorf("revoke-key does not say %s: %s", word, said)
		}
	}
	for _, schema := range spec["components"].(map[string]any)["schemas"].(map[string]any) {
		properties, _ := schema.(map[string]any)["properties"].(map[string]any)
		by, ok := properties["made_by"].(map[string]any)
		if text, _ := by["description"].(string); ok && (!strings.Contains(text, "only with children") || strings.Contains(text, "so is this one")) {
			t.Errorf("made_by says %s", text)
		}
	}
	maker := c.do("POST", "", `{"name":"m","kind":"service","scopes":["keys:write","verify"]}`).Body
	child := client{t, c.api, maker["key"].(string)}.do("POST", "", `{"name":"c","kind":"data"}`).Body["key_id"].(string)
	if a := c.do("POST", "/"+maker["key_id"].(string)+"/revoke", nil); a.Body["children_left"] != 1.0 || a.Body["children_revoked"] != 0.0 || c.do("GET", "/"+child, nil).Body["status"] != "active" {
		t.Errorf("it does %+v", a)
	}
}

// TestRemaining: how many uses are left of a key is said to whoever reads it, without the key itself: of its own and of those of
// the keys that made it the fewest.
func TestRemaining(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	owner, err := f.room.Authenticate(t.Context(), c.key, web.RequestMeta{})
	must(t, err)
	maker := f.service(t, owner, NewKey{Scopes: []string{"keys:write", "verify"}, MaxUses: new(int64(10))})
	child := f.make(t, f.as(t, maker), NewKey{Kind: Service, Scopes: []string{"verify"}})
	small := f.make(t, f.as(t, maker), NewKey{Kind: Service, Scopes: []string{"verify"}, MaxUses: new(int64(2))})
	rated := f.service(t, owner, NewKey{RateLimits: []RateLimit{hourly("r", 5)}})
	data := f.make(t, owner, NewKey{Kind: Data, MaxUses: new(int64(4))})
	left := func(what string, want map[string]any) {
		t.Helper()
		listed := map[string]any{}
		for _, k := range c.do("GET", "", nil).Body["keys"].([]any) {
			k := k.(map[string]any)
			listed[k["key_id"].(string)] = k["remaining"]
		}
		for id, n := range want {
			got, ok := c.do("GET", "/"+id, nil).Body["remaining"]
			if !ok || got != n || listed[id] != n {
				t.Errorf("%s, %s: %v is left, in the list %v, want %v", what, id, got, listed[id], n)
			}
		}
	}
	left("at first", map[string]any{maker.ID: 10.0, child.ID: 10.0, small.ID: 2.0, rated.ID: nil, data.ID: 4.0, owner.Actor().ID: nil})
	for _, k := range []Created{maker, child, child, small, rated} {
		must(t, f.use(t.Context(), k))
	}
	next, err := f.room.Rotate(t.Context(), owner, small.ID, time.Hour)
	must(t, err)
	left("after some", map[string]any{maker.ID: 6.0, child.ID: 6.0, small.ID: 1.0, next.ID: 1.0, rated.ID: nil})
	must(t, second(f.room.Update(t.Context(), owner, next.ID, "", Change{MaxUses: new(int64(50))})))
	must(t, second(f.room.Update(t.Context(), owner, maker.ID, "", Change{MaxUses: new(int64(3))})))
	left("with others' limits", map[string]any{maker.ID: 0.0, child.ID: 0.0, small.ID: 0.0, next.ID: 0.0})
	must(t, second(f.room.Update(t.Context(), owner, maker.ID, "", Change{NoMaxUses: true})))
	left("without its maker's", map[string]any{maker.ID: nil, small.ID: 49.0, next.ID: 49.0})
	if a := c.do("POST", "", `{"name":"k","kind":"data"}`); a.Body["remaining"] != nil {
		t.Errorf("where it was not looked at it is said: %+v", a)
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
		"max_uses": 0, "allowed_cidrs": []string{"10.0.0.0/33"}, "rate_limits": []any{map[string]any{"limit": 1}}, "allowed_cidr": "10.0.0.0/8",
		"scopes": "verify", "kind": "person", "expires_at": "tomorrow", "owners": []string{"acme"}, "metadata": "x",
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
	for _, field := range []string{"scopes", "expires_at", "owner", "kind"} {
		if a := c.do("PATCH", "/"+a.Body["key_id"].(string), map[string]any{field: nil}); a.Status != http.StatusBadRequest {
			t.Errorf("patch %s: %+v", field, a)
		}
	}
}

// TestMetadataComesBackAsSent: what cannot is refused, and not changed.
func TestMetadataComesBackAsSent(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	id := c.do("POST", "", `{"name":"k","kind":"data"}`).Body["key_id"].(string)
	for metadata, status := range map[string]int{
		`{"user":9007199254740991,"low":-9007199254740991,"half":0.5,"text":"1234567890123456789","none":null,"deep":[{"a":[true]}]}`: http.StatusOK,
		`{"user":1234567890123456789}`: http.StatusBadRequest, `{"user":9007199254740993}`: http.StatusBadRequest, `{"a":[{"b":-1e300}]}`: http.StatusBadRequest,
		`{"a":[{"b":0.12345678901234567890}]}`: http.StatusBadRequest, `{"a":1e-400}`: http.StatusBadRequest, `{"a":1.50e1}`: http.StatusOK,
		`{"a":"\u0000"}`: http.StatusBadRequest, `{"a\u0000":[]}`: http.StatusBadRequest,
	} {
		a := c.do("PATCH", "/"+id, `{"metadata":`+metadata+`}`)
		if a.Status != status || status == http.StatusBadRequest && !strings.Contains(a.Raw, "body.metadata") {
			t.Errorf("%s: %d %s", metadata, a.Status, a.Raw)
		}
		if strings.Contains(metadata, "0.123") && !strings.Contains(a.Raw, `"body.metadata.a[0].b"`) {
			t.Errorf("%s: the place is not told: %s", metadata, a.Raw)
		}
		if got, _ := json.Marshal(a.Body["metadata"]); status == http.StatusOK && !sameJSON(string(got), metadata) {
			t.Errorf("%s comes back as %s", metadata, got)
		}
	}
}

// sameJSON reports whether two texts are the same JSON, whatever the order of names.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// TestOverlapOfTheWire: a number of seconds that is too large is refused, also one that is small again once it has overflowed.
func TestOverlapOfTheWire(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	id := c.do("POST", "", `{"name":"k","kind":"data"}`).Body["key_id"].(string)
	for _, seconds := range []string{"-1", "2592001", "18446744074", "9223372036854775807", "9223372036854775808", "1e30", "0.5"} {
		if a := c.do("POST", "/"+id+"/rotate", `{"overlap_seconds":`+seconds+`}`); a.Status != http.StatusBadRequest {
			t.Errorf("%s seconds: %d %s", seconds, a.Status, a.Raw)
		}
	}
	if a := c.do("POST", "/"+id+"/rotate", `{"overlap_seconds":2592001}`); !strings.Contains(a.Raw, "must be at most 2592000") {
		t.Errorf("a bound is not said in digits: %s", a.Raw)
	}
	first := c.do("POST", "/"+id+"/rotate", `{"overlap_seconds":3600}`)
	until, err := time.Parse(time.RFC3339, first.Body["old_works_until"].(string))
	if must(t, err); first.Status != http.StatusCreated || time.Until(until).Round(time.Minute) != time.Hour || first.Body["ended"] != nil {
		t.Errorf("rotated: %d %s", first.Status, first.Raw)
	}
	again := c.do("POST", "/"+first.Body["key_id"].(string)+"/rotate", `{}`)
	until, err = time.Parse(time.RFC3339, again.Body["old_works_until"].(string))
	if must(t, err); again.Status != http.StatusCreated || time.Until(until) > 0 || again.Body["ended"] != id {
		t.Errorf("rotated again: %d %s", again.Status, again.Raw)
	}
}

// TestFaultsHaveTheirPlace: what is wrong in a list is told with its place, counted as JSON counts, and not repeated.
func TestFaultsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	for more, place := range map[string]string{
		`"allowed_cidrs":["10.0.0.0/8","10.0.0.1/8"]`: "body.allowed_cidrs[1]", `"allowed_cidrs":["planted"]`: "body.allowed_cidrs[0]",
		`"rate_limits":[{"name":"a","limit":1,"duration_seconds":1},{"name":"a","limit":1,"duration_seconds":1}]`: "body.rate_limits[1]",
		`"scopes":["b:c","a b"]`: "body.scopes[1]", `"scopes":["z","planted scope","a"]`: "body.scopes[1]",
		`"rate_limits":[{"name":"a","limit":0,"duration_seconds":1}]`:       "body.rate_limits[0].limit",
		`"rate_limits":[{"name":"a","limit":1,"duration_seconds":2678401}]`: "body.rate_limits[0].duration_seconds",
	} {
		a := c.do("POST", "", `{"name":"k","kind":"data",`+more+`}`)
		if a.Status != http.StatusBadRequest || !strings.Contains(a.Raw, `"`+place+`"`) || strings.Contains(a.Raw, "planted") {
			t.Errorf("%s: %d %s", more, a.Status, a.Raw)
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
