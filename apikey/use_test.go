package apikey

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// metering is the room's routes behind all gates that a server has.
func (f fixture) metering() *web.API[tenantdb.Caller] {
	api := f.API(func(r *http.Request, m web.RequestMeta) (tenantdb.Caller, error) {
		return f.room.Authenticate(r.Context(), FromHeader(r.Header), m)
	}, func(c *web.Config[tenantdb.Caller]) { c.Admit = f.room.Admit })
	f.room.Routes(api)
	return api
}

func (f fixture) counter(t *testing.T, subject string) string {
	t.Helper()
	return f.Text(t, `SELECT used::text FROM avouch.counter WHERE subject = $1`, subject)
}

// TestUsesAreExact: a key has exactly the requests that it was given, however many come at once on however many servers; what
// is denied for want of a capability spends none of them.
func TestUsesAreExact(t *testing.T) {
	t.Parallel()
	f := open(t)
	apis := []http.Handler{f.metering(), on(f.Another(t)).metering()}
	id, owner := f.owner(t, "Acme")
	const most = 20
	k := f.service(t, owner, NewKey{Scopes: []string{"keys:read"}, MaxUses: new(int64(most)), RateLimits: []RateLimit{hourly("r", 1000)}})
	for range 5 {
		a := client{t, apis[0], k.Secret.Expose()}.do("POST", "", `{"name":"x","kind":"data"}`)
		if a.Status != http.StatusForbidden {
			t.Errorf("without keys:write: %+v", a)
		}
	}
	if f.counter(t, "uses:"+k.ID) != "0" || f.counter(t, "rate:"+k.ID+":r") != "0" {
		t.Error("what was denied was counted")
	}
	var good, spent atomic.Int32
	var crowd sync.WaitGroup
	for i := range 64 {
		crowd.Go(func() {
			a := client{t, apis[i%2], k.Secret.Expose()}.do("GET", "?limit=1", nil)
			switch {
			case a.Status == http.StatusOK:
				good.Add(1)
			case a.Status == http.StatusTooManyRequests && a.Header.Get("Retry-After") == "" && strings.Contains(a.Raw, "uses are spent"):
				spent.Add(1)
			default:
				t.Errorf("%+v", a)
			}
		})
	}
	crowd.Wait()
	if good.Load() != most || spent.Load() != 64-most {
		t.Errorf("%d of %d requests were let in", good.Load(), most)
	}
	if n := f.counter(t, "rate:"+k.ID+":r"); n != strconv.Itoa(most) {
		t.Errorf("the rate limit counted %s", n)
	}
	entries := f.OfType(t, id, "key.used")
	if len(entries) != most || entries[0].Target.ID != k.ID || entries[0].Field("operation") != "list-keys" || entries[0].Actor.ID != k.ID {
		t.Errorf("%d entries: %+v", len(entries), entries[0])
	}
	free := f.service(t, owner, NewKey{Scopes: []string{"keys:read"}})
	if a := (client{t, apis[0], free.Secret.Expose()}).do("GET", "", nil); a.Status != http.StatusOK || len(f.OfType(t, id, "key.used")) != most {
		t.Errorf("a key that nothing meters: %+v", a)
	}
}

// TestRatesAreAllOrNone, with when to come again.
func TestRatesAreAllOrNone(t *testing.T) {
	t.Parallel()
	f := open(t)
	api := f.metering()
	_, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{Scopes: []string{"keys:read"}, RateLimits: []RateLimit{hourly("hour", 3), {"day", 2, 86400}}, MaxUses: new(int64(100))})
	c := client{t, api, k.Secret.Expose()}
	for range 2 {
		if a := c.do("GET", "", nil); a.Status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
	}
	for range 3 {
		a := c.do("GET", "", nil)
		after, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if a.Status != http.StatusTooManyRequests || err != nil || after < 86300 || after > 86400 || !strings.Contains(a.Raw, "day") {
			t.Errorf("%+v", a)
		}
	}
	if h, d, u := f.counter(t, "rate:"+k.ID+":hour"), f.counter(t, "rate:"+k.ID+":day"), f.counter(t, "uses:"+k.ID); h != "2" || d != "2" || u != "2" {
		t.Errorf("counted %s, %s, %s: what one limit refuses spends others", h, d, u)
	}
	brief := f.service(t, owner, NewKey{RateLimits: []RateLimit{{"second", 1, 1}}})
	for range 3 {
		start := time.Now()
		for err := error(problem.New(problem.TooMany, "")); err != nil; err = f.use(t.Context(), brief) {
			if !problem.Is(err, problem.TooMany) || time.Since(start) > 20*time.Second {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestSpentKeyRevokesItself, and nothing else.
func TestSpentKeyRevokesItself(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{Scopes: []string{"keys:read", "keys:write", "verify"}, MaxUses: new(int64(2))})
	child := f.make(t, f.as(t, k), NewKey{Kind: Service, Scopes: []string{"verify"}})
	child2 := f.make(t, f.as(t, k), NewKey{Kind: Service, Scopes: []string{"verify"}})
	c := client{t, f.metering(), k.Secret.Expose()}
	if a := c.do("GET", "", nil); a.Status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	if a := c.do("POST", "/"+child.ID+"/revoke", nil); a.Status != http.StatusOK {
		t.Errorf("revoke another with the last use: %+v", a)
	}
	if a := c.do("POST", "/"+child2.ID+"/revoke", nil); a.Status != http.StatusTooManyRequests {
		t.Errorf("revoke another when all is spent: %+v", a)
	}
	if a := c.do("POST", "/"+k.ID+"/revoke", nil); a.Status != http.StatusOK || a.Body["status"] != "revoked" {
		t.Errorf("revoke itself: %+v", a)
	}
	weak := f.service(t, owner, NewKey{Scopes: []string{"verify"}, MaxUses: new(int64(1))})
	if a := (client{t, c.api, weak.Secret.Expose()}).do("POST", "/"+child2.ID+"/revoke", nil); a.Status != http.StatusForbidden || f.counter(t, "uses:"+weak.ID) != "0" {
		t.Errorf("revoke another without keys:write: %+v", a)
	}
}

// TestAdmitReadsAgain: what is counted is what holds at that moment, not what held when the request came.
func TestAdmitReadsAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{MaxUses: new(int64(5))})
	under := f.as(t, k)
	must(t, second(f.room.Update(t.Context(), owner, k.ID, "", Change{MaxUses: new(int64(1))})))
	must(t, f.room.Admit(t.Context(), under, "x"))
	want(t, f.room.Admit(t.Context(), under, "x"), problem.TooMany, "a limit that was lowered")
	must(t, second(f.room.Update(t.Context(), owner, k.ID, "", Change{MaxUses: new(int64(3))})))
	must(t, f.room.Admit(t.Context(), under, "x"))
	must(t, second(f.room.Disable(t.Context(), owner, k.ID)))
	want(t, f.room.Admit(t.Context(), under, "x"), problem.Unauthenticated, "a key that was stopped meanwhile")
	must(t, second(f.room.Enable(t.Context(), owner, k.ID)))
	f.DB.Close()
	want(t, f.room.Admit(t.Context(), under, "x"), problem.Unavailable, "without a database")
}

// TestAddresses: a key that is bound to networks works from there, however its address is written, and from elsewhere it is
// refused as all others are, with the reason in its organisation's log.
func TestAddresses(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{AllowedCIDRs: nets("192.0.2.0/24", "2001:db8::/32")})
	other := f.service(t, owner, NewKey{AllowedCIDRs: nets("::/0")})
	all := f.service(t, owner, NewKey{})
	from := func(k Created, address string) error {
		a, _ := netip.ParseAddr(address) // none is one that is not known
		return second(f.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{Address: a}))
	}
	for _, address := range []string{"192.0.2.0", "192.0.2.255", "::ffff:192.0.2.7", "2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"} {
		if err := from(k, address); err != nil {
			t.Errorf("from %s: %v", address, err)
		}
		must(t, from(all, address))
	}
	for _, address := range []string{"192.0.3.0", "192.0.1.255", "::ffff:192.0.3.1", "2001:db9::1", "::1", "127.0.0.1", "2001:db8::1%eth0", "::c000:207", ""} {
		err := from(k, address)
		want(t, err, problem.Unauthenticated, "from "+address)
		if fmt.Sprint(*problem.Of(err)) != fmt.Sprint(*problem.Of(Refused())) {
			t.Errorf("from %s the refusal is another: %v", address, err)
		}
		e := f.Last(t, id)
		if e.Type != "key.refused" || e.Field("reason") != "address" || e.Target.ID != k.ID || e.Outcome != audit.Denied || e.Private["address"] != address {
			t.Errorf("from %s the entry is %+v", address, e)
		}
		must(t, from(all, address))
	}
	want(t, from(other, "192.0.2.1"), problem.Unauthenticated, "all of v6 is none of v4")
	want(t, from(other, "::ffff:192.0.2.1"), problem.Unauthenticated, "v4 that is written as v6")
	must(t, second(f.room.Update(t.Context(), owner, k.ID, "", Change{AllowedCIDRs: new(nets("198.51.100.0/24"))})))
	want(t, from(k, "192.0.2.0"), problem.Unauthenticated, "after it was bound to others")
	must(t, from(k, "198.51.100.1"))
	must(t, second(f.room.Update(t.Context(), owner, k.ID, "", Change{AllowedCIDRs: &[]netip.Prefix{}})))
	must(t, from(k, "192.0.3.0"))
}

// TestDataKeysAreNobody: whatever their scopes say, and they may say anything, data keys let nobody into Avouch.
func TestDataKeysAreNobody(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	api := f.metering()
	unknown, _ := mint(Data, true)
	none := client{t, api, unknown.Expose()}.do("GET", "", nil)
	for _, scopes := range [][]string{nil, {"*"}, {"keys:read", "keys:write", "verify"}} {
		k := f.make(t, owner, NewKey{Kind: Data, Scopes: scopes})
		_, err := f.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
		want(t, err, problem.Unauthenticated, "a data key")
		if e := f.Last(t, id); e.Type != "key.refused" || e.Field("reason") != "data_key" || e.Target.ID != k.ID {
			t.Errorf("the entry is %+v", e)
		}
		for _, q := range [][3]string{
			{"POST", "keys", `{"name":"x","kind":"owner"}`}, {"GET", "keys"}, {"GET", "keys/" + k.ID}, {"PATCH", "keys/" + k.ID, `{"name":"x"}`}, {"POST", "keys/" + k.ID + "/revoke"},
			{"POST", "keys/" + k.ID + "/rotate"}, {"POST", "keys/import", `{"keys":[{"hash":"` + strings.Repeat("ab", 32) + `","name":"x"}]}`}, {"GET", "keys/risks"}, {"GET", "key-owners"},
		} {
			for _, header := range [][]string{nil, {"Authorization", "", "X-API-Key", k.Secret.Expose()}} {
				a := client{t, api, k.Secret.Expose()}.at(q[0], "/api/v1/"+q[1], q[2], header...)
				if a.Status != http.StatusUnauthorized || a.Body["detail"] != none.Body["detail"] || a.Body["type"] != none.Body["type"] || len(a.Body) != len(none.Body) {
					t.Errorf("%s %s: %+v, and of an unknown key %+v", q[0], q[1], a, none)
				}
			}
		}
		if got := f.seen(t, owner, k.ID); got.Status(f.now.Now()) != Active || got.Version != 1 {
			t.Errorf("it is %+v", got.Key)
		}
	}
}

// TestPendingKeys work from their time on.
func TestPendingKeys(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	id, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{NotBefore: now.Now().Add(time.Hour)})
	now.move(time.Hour - time.Microsecond)
	refused(t, f, id, k, "pending")
	made, err := f.room.Rotate(t.Context(), owner, k.ID, time.Hour)
	must(t, err)
	refused(t, f, id, made, "pending")
	now.move(time.Microsecond)
	f.as(t, k)
	f.as(t, made)
}
