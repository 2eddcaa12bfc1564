package apikey

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// fill has a crowd of 32 make keys of one owner on two servers at once, some by import, and returns how many were made.
func fill(t *testing.T, rooms []fixture, by tenantdb.Caller, owner string) int {
	t.Helper()
	var made atomic.Int32
	var crowd sync.WaitGroup
	for i := range 32 {
		crowd.Go(func() {
			room, err := rooms[i%2].room, error(nil)
			if i%5 == 0 {
				_, err = room.Import(t.Context(), by, []Foreign{foreign(strings.Repeat("x", 20+i)+owner, NewKey{GivenTo: owner})})
			} else {
				_, err = room.Create(t.Context(), by, NewKey{Name: "x", Kind: []Kind{Data, Service}[i%2], GivenTo: owner})
			}
			switch {
			case err == nil:
				made.Add(1)
			case !problem.Is(err, problem.Conflict):
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	return int(made.Load())
}

// TestOwnerCapSoak: a crowd on two servers makes keys of one owner after the other, and each has as many as he may have.
func TestOwnerCapSoak(t *testing.T) {
	t.Parallel()
	rounds := 5
	if soak() {
		rounds = 100
	}
	f, _ := open(t).still(func(c *Config) { c.KeysPerOwner = 7 })
	rooms := []fixture{f, f.beside(t)}
	_, owner := f.owner(t, "Acme")
	made := 0
	for n := range rounds {
		name, most := fmt.Sprintf("user %d", n), 7
		if n%2 == 1 {
			most = 1 + n%31
			must(t, second(f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: name, MaxKeys: &most})))
		}
		got := fill(t, rooms, owner, name)
		if made += got; got != most {
			t.Errorf("%s may have %d keys; %d were made", name, most, got)
		}
	}
	t.Logf("measured: caps of owners: %d crowds of 32 on two servers made %d keys, none over its owner's cap", rounds, made)
}

// TestOwnerCap: of a crowd that makes keys of one owner, exactly as many succeed as the owner may have.
func TestOwnerCap(t *testing.T) {
	t.Parallel()
	f, now := open(t).still(func(c *Config) { c.KeysPerOwner = 7 })
	rooms := []fixture{f, f.beside(t)}
	id, owner := f.owner(t, "Acme")
	_, theirs := f.owner(t, "Globex")
	must(t, second(f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: "bob", MaxKeys: new(12)})))
	must(t, second(f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: "eve", MaxKeys: new(1)})))
	for name, most := range map[string]int{"alice": 7, "bob": 12, "eve": 1} {
		made := fill(t, rooms, owner, name)
		there := f.Text(t, `SELECT count(*)::int::text FROM avouch.api_key WHERE tenant_id = $1 AND owner = $2`, id.String(), name)
		if made != most || there != strconv.Itoa(most) {
			t.Errorf("%s may have %d keys; %d were made, %s are there", name, most, made, there)
		}
	}
	if made := fill(t, rooms, owner, ""); made != 32 {
		t.Errorf("of keys of nobody in particular, %d are made", made)
	}
	f.make(t, theirs, NewKey{Kind: Data, GivenTo: "alice"}) // another's alice is another
	more := NewKey{Name: "more", Kind: Data, GivenTo: "alice"}
	full := func(what string) {
		t.Helper()
		_, err := f.room.Create(t.Context(), owner, more)
		want(t, err, problem.Conflict, what)
	}
	full("one more")
	keys, err := f.room.List(t.Context(), owner, Filter{Owner: "alice"}, nil, 10)
	must(t, err)
	if len(keys) != 7 {
		t.Fatalf("alice has %d", len(keys))
	}
	must(t, second(f.room.Rotate(t.Context(), owner, keys[0].ID, time.Hour)))
	full("one more after a rotation")
	next, err := f.room.Get(t.Context(), owner, keys[0].ID)
	must(t, err)
	must(t, second(f.room.Revoke(t.Context(), owner, next.ReplacedBy)))
	full("one more while the generation before the one that was revoked goes on")
	must(t, second(f.room.Disable(t.Context(), owner, keys[1].ID)))
	full("one more after one was disabled")
	must(t, second(f.room.Revoke(t.Context(), owner, keys[2].ID)))
	f.make(t, owner, more)
	full("one more than the one that was revoked")
	now.move(DefaultLife + time.Hour)
	fresh, err := f.room.Create(t.Context(), tenantdb.System(id, "test"), more)
	if err != nil || fresh.GivenTo != "alice" {
		t.Errorf("when all others have expired: %+v, %v", fresh.Key, err)
	}
	must(t, second(f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: "alice", MaxKeys: new(1)})))
	full("one more than a cap that was lowered")
}

// TestSharedLimits: what the keys of one owner share, they share, whichever is used on whichever server.
func TestSharedLimits(t *testing.T) {
	t.Parallel()
	f := open(t)
	rooms := []fixture{f, on(f.Another(t))}
	_, owner := f.owner(t, "Acme")
	alice := KeyOwner{Owner: "alice", RateLimits: []RateLimit{hourly("day", 9), hourly("burst", 100)}}
	must(t, second(f.room.PutOwner(t.Context(), owner, "", alice)))
	one, two := f.service(t, owner, NewKey{GivenTo: "alice"}), f.service(t, owner, NewKey{GivenTo: "alice", RateLimits: []RateLimit{hourly("day", 3)}})
	others := f.service(t, owner, NewKey{GivenTo: "bob"})
	var good [2]atomic.Int32
	var crowd sync.WaitGroup
	for i := range 24 {
		crowd.Go(func() {
			switch err := rooms[i/2%2].use(t.Context(), []Created{one, two}[i%2]); {
			case err == nil:
				good[i%2].Add(1)
			case !problem.Is(err, problem.TooMany):
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	if a, b := good[0].Load(), good[1].Load(); a+b != 9 || b > 3 {
		t.Errorf("%d and %d uses of 9 together and 3 of the second", a, b)
	}
	for range 3 {
		must(t, f.use(t.Context(), others))
	}
	alice.RateLimits = []RateLimit{hourly("day", 10)}
	must(t, second(f.room.PutOwner(t.Context(), owner, "", alice)))
	must(t, f.use(t.Context(), one))
	want(t, f.use(t.Context(), one), problem.TooMany, "after the limit was raised by one")
	must(t, second(f.room.DeleteOwner(t.Context(), owner, "alice")))
	must(t, f.use(t.Context(), one))
	if c := f.as(t, one); c.Metered() {
		t.Error("nothing is shared any more, and its uses are counted")
	}
}

// TestGivenKeysStayWithTheirOwner: a key of an owner whose keys share limits makes none that do not share them, and has no
// say in what they are.
func TestGivenKeysStayWithTheirOwner(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	must(t, second(f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: "alice", MaxKeys: new(3), RateLimits: []RateLimit{hourly("r", 2)}})))
	scopes := []string{"keys:write", "verify"}
	alice := f.as(t, f.service(t, owner, NewKey{Scopes: scopes, GivenTo: "alice"}))
	bobs := f.service(t, owner, NewKey{Scopes: []string{"verify"}, GivenTo: "bob"})
	nobodys := f.service(t, owner, NewKey{Scopes: []string{"verify"}})
	child := f.make(t, alice, NewKey{Kind: Service, Scopes: []string{"verify"}})
	data := f.make(t, alice, NewKey{Kind: Data})
	if child.GivenTo != "alice" || data.GivenTo != "alice" {
		t.Errorf("what her key makes is %q's and %q's", child.GivenTo, data.GivenTo)
	}
	_, err := f.room.Create(t.Context(), alice, NewKey{Name: "x", Kind: Data})
	want(t, err, problem.Conflict, "more keys than she may have")
	if p := problem.Of(err); !strings.Contains(p.Detail, "may have 3 keys in force, and has 3:") || !strings.Contains(p.Detail, "PUT /api/v1/key-owners") {
		t.Errorf("what is to be done: %s", p.Detail)
	}
	if keysOf(1) != "1 key" {
		t.Errorf("one is %s", keysOf(1))
	}
	for _, kind := range []Kind{Service, Data} {
		_, err = f.room.Create(t.Context(), alice, NewKey{Name: "x", Kind: kind, GivenTo: "bob"})
		want(t, err, problem.Denied, "a key for somebody else")
	}
	must(t, f.use(t.Context(), child))
	must(t, f.use(t.Context(), child))
	want(t, f.use(t.Context(), child), problem.TooMany, "what she shares")
	must(t, second(f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: "alice", RateLimits: []RateLimit{hourly("r", 1000)}})))
	for _, k := range []Created{bobs, nobodys} {
		for what, do := range map[string]func() error{
			"revoke": func() error { return second(f.room.Revoke(t.Context(), alice, k.ID)) },
			"rotate": func() error { return second(f.room.Rotate(t.Context(), alice, k.ID, 0)) },
			"change": func() error { return second(f.room.Update(t.Context(), alice, k.ID, "", Change{Name: new("x")})) },
		} {
			want(t, do(), problem.Denied, what+" another's key")
		}
	}
	bob := f.as(t, f.service(t, owner, NewKey{Scopes: scopes, GivenTo: "bob"}))
	for what, err := range map[string]error{
		"raise her own limits": second(f.room.PutOwner(t.Context(), alice, "", KeyOwner{Owner: "alice"})), "lift them": second(f.room.DeleteOwner(t.Context(), alice, "alice")),
		"limit bob": second(f.room.PutOwner(t.Context(), alice, "", KeyOwner{Owner: "bob"})),
		"let himself have more keys than everybody": second(f.room.PutOwner(t.Context(), bob, "", KeyOwner{Owner: "bob", MaxKeys: new(1000)})),
		"limit somebody who has no key":             second(f.room.PutOwner(t.Context(), bob, "", KeyOwner{Owner: "carol"})),
	} {
		want(t, err, problem.Denied, what)
	}
	carols := f.make(t, bob, NewKey{Kind: Service, Scopes: scopes, GivenTo: "carol"})
	childs := f.make(t, bob, NewKey{Kind: Service, Scopes: scopes})
	if childs.GivenTo != "bob" {
		t.Errorf("the child of his key is %q's", childs.GivenTo)
	}
	for what, k := range map[string]Created{"her own key, which his made": carols, "a child of his key": childs} {
		want(t, second(f.room.PutOwner(t.Context(), f.as(t, k), "", KeyOwner{Owner: "bob", MaxKeys: new(1000)})), problem.Denied, "raise his limits with "+what)
	}
}

func TestOwnerRoutes(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	const alice = "/api/v1/key-owners/user%3Aalice%2F7"
	body := `{"max_keys":2,"rate_limits":[{"name":"day","limit":10,"duration_seconds":86400}],"metadata":{"plan":"pro"}}`
	put := func(body string, status int, etag string, header ...string) {
		t.Helper()
		if a := c.at("PUT", alice, body, header...); a.Status != status || a.Header.Get("ETag") != etag {
			t.Errorf("put %s %v: %+v", body, header, a)
		}
	}
	if a := c.at("GET", alice, ""); a.Status != http.StatusNotFound {
		t.Errorf("before: %+v", a)
	}
	put(body, http.StatusPreconditionFailed, "", "If-Match", `"1"`)
	put(body, http.StatusOK, `"1"`)
	put(`{"max_keys":3}`, http.StatusPreconditionFailed, "", "If-Match", `"2"`)
	a := c.at("GET", alice, "")
	if a.Status != http.StatusOK || a.Body["owner"] != "user:alice/7" || a.Body["max_keys"] != 2.0 || !strings.Contains(a.Raw, `"limit":10,"duration_seconds":86400`) || !strings.Contains(a.Raw, `"plan":"pro"`) {
		t.Errorf("it is %+v", a)
	}
	put(`{"max_keys":3}`, http.StatusOK, `"2"`, "If-Match", `"1"`)
	if b := c.at("GET", alice, ""); b.Body["created_at"] != a.Body["created_at"] || b.Body["version"] != 2.0 || strings.Contains(b.Raw, "plan") {
		t.Errorf("it is %+v", b)
	}
	for _, wrong := range []string{`{"max_keys":0}`, `{"max_keys":1000001}`, `{"rate_limits":[{"name":"A","limit":1,"duration_seconds":1}]}`, `{"max_kyes":1}`, `{"metadata":{"a":"` + strings.Repeat("x", 5000) + `"}}`} {
		put(wrong, http.StatusBadRequest, "")
	}
	if a := c.at("PUT", "/api/v1/key-owners/a%0Ab", `{}`); a.Status != http.StatusBadRequest {
		t.Errorf("a name with a line end: %+v", a)
	}
	c.at("PUT", "/api/v1/key-owners/bob", `{}`)
	list := c.at("GET", "/api/v1/key-owners?limit=1", "")
	next, _ := list.Body["next_cursor"].(string)
	if owners := list.Body["owners"].([]any); len(owners) != 1 || owners[0].(map[string]any)["owner"] != "bob" || next == "" {
		t.Errorf("the list is %+v", list)
	}
	if list = c.at("GET", "/api/v1/key-owners?limit=1&cursor="+next, ""); !strings.Contains(list.Raw, "user:alice/7") || list.Body["next_cursor"] != nil {
		t.Errorf("the rest is %+v", list)
	}
	key := c.do("POST", "", `{"name":"k","kind":"data","owner":"user:alice/7"}`).Body["key_id"].(string)
	if a := c.at("DELETE", alice, ""); a.Status != http.StatusOK || a.Body["max_keys"] != 3.0 {
		t.Errorf("delete: %+v", a)
	}
	if a := c.at("DELETE", alice, ""); a.Status != http.StatusNotFound {
		t.Errorf("delete again: %+v", a)
	}
	if a := c.do("GET", "/"+key, nil); a.Body["status"] != "active" || a.Body["owner"] != "user:alice/7" {
		t.Errorf("its key is %+v", a)
	}
	root, err := Parse(c.key)
	must(t, err)
	id, err := tenantdb.ParseTenantID(f.Text(t, `SELECT tenant_id::text FROM avouch.api_key WHERE key_id = $1`, root.ID))
	must(t, err)
	var types []string
	for _, e := range f.Entries(t, id) {
		if e.Target.Kind == "key_owner" {
			types = append(types, e.Type)
			if strings.Contains(string(e.Body), "alice") || strings.Contains(string(e.Body), "pro") || e.Private["owner"] == "" || e.Actor.ID != root.ID {
				t.Errorf("the entry is %+v", e)
			}
		}
	}
	if strings.Join(types, " ") != "key_owner.set key_owner.set key_owner.set key_owner.deleted" {
		t.Errorf("the log holds %v", types)
	}
}
