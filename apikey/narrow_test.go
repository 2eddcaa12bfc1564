package apikey

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// from authenticates a key that is presented from an address.
func (f fixture) from(t *testing.T, made Created, address string) tenantdb.Caller {
	t.Helper()
	c, err := f.room.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{Address: netip.MustParseAddr(address)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f fixture) make(t *testing.T, by tenantdb.Caller, n NewKey) Created {
	t.Helper()
	if n.Name == "" {
		n.Name = "key"
	}
	made, err := f.room.Create(t.Context(), by, n)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// use presents a key and counts a request of it, as a server does.
func (f fixture) use(ctx context.Context, made Created) error {
	c, err := f.room.Authenticate(ctx, made.Secret.Expose(), web.RequestMeta{})
	if err != nil {
		return err
	}
	return f.room.Admit(ctx, c, "test")
}

func nets(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// hourly is a rate limit that does not begin anew while a test runs.
func hourly(name string, limit int64) RateLimit { return RateLimit{name, limit, 3600} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChildrenAreNarrower(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	clerkKey := f.service(t, owner, NewKey{
		Scopes: []string{"keys:read", "keys:write", "verify"}, AllowedCIDRs: nets("10.0.0.0/8", "2001:db8::/32"), MaxUses: new(int64(10)),
		RateLimits: []RateLimit{hourly("burst", 100)}, MonthlyQuota: new(int64(7)),
	})
	clerk := f.from(t, clerkKey, "10.1.2.3")
	base := func(change func(*NewKey)) NewKey {
		n := NewKey{Name: "child", Kind: Service, Scopes: []string{"verify"}}
		change(&n)
		return n
	}
	for what, change := range map[string]func(*NewKey){
		"addresses of its own": func(n *NewKey) { n.AllowedCIDRs = nets("10.1.0.0/16", "2001:db8:1::/48") },
		"all its addresses":    func(n *NewKey) { n.AllowedCIDRs = nets("10.0.0.0/8", "2001:db8::/32") },
		"as many uses":         func(n *NewKey) { n.MaxUses = new(int64(10)) },
		"its quota":            func(n *NewKey) { n.MonthlyQuota = new(int64(7)) },
		"higher rates":         func(n *NewKey) { n.RateLimits = []RateLimit{hourly("burst", 1000)} }, // which count beside the clerk's
	} {
		made := f.make(t, clerk, base(change))
		if !slices.Equal(made.Shares, []string{owner.Actor().ID, clerkKey.ID}) {
			t.Errorf("%s: the child spends from %v", what, made.Shares)
		}
	}
	child := f.make(t, clerk, base(func(*NewKey) {}))
	if !slices.Equal(child.AllowedCIDRs, clerkKey.AllowedCIDRs) || child.MaxUses == nil || *child.MaxUses != 10 || *child.MonthlyQuota != 7 || !child.ExpiresAt.Equal(clerkKey.ExpiresAt) {
		t.Errorf("a child that asks for nothing is %+v", child.Key)
	}
	for what, change := range map[string]func(*NewKey){
		"another network":          func(n *NewKey) { n.AllowedCIDRs = nets("11.0.0.0/8") },
		"one of its networks more": func(n *NewKey) { n.AllowedCIDRs = nets("10.1.0.0/16", "192.0.2.0/24") },
		"a wider network":          func(n *NewKey) { n.AllowedCIDRs = nets("10.0.0.0/7") },
		"anywhere in v4":           func(n *NewKey) { n.AllowedCIDRs = nets("0.0.0.0/0") },
		"anywhere in v6":           func(n *NewKey) { n.AllowedCIDRs = nets("::/0") },
		"more uses":                func(n *NewKey) { n.MaxUses = new(int64(11)) },
		"a larger quota":           func(n *NewKey) { n.MonthlyQuota = new(int64(8)) },
		"another capability":       func(n *NewKey) { n.Scopes = []string{"verify", "audit:write"} },
		"everything":               func(n *NewKey) { n.Kind, n.Scopes = Owner, []string{tenantdb.Everything} },
		"another kind":             func(n *NewKey) { n.Kind = Owner },
		"a longer life":            func(n *NewKey) { n.ExpiresAt = clerkKey.ExpiresAt.Add(time.Second) },
		"for ever":                 func(n *NewKey) { n.NeverExpires = true },
		"a data key for ever":      func(n *NewKey) { n.Kind, n.NeverExpires = Data, true },
	} {
		_, err := f.room.Create(t.Context(), clerk, base(change))
		want(t, err, problem.Denied, what)
	}
	for what, ch := range map[string]Change{
		"other addresses": {AllowedCIDRs: new(nets("11.0.0.0/8"))}, "any address": {AllowedCIDRs: &[]netip.Prefix{}}, "more uses": {MaxUses: new(int64(11))},
		"a larger quota": {MonthlyQuota: new(int64(8))},
	} {
		_, err := f.room.Update(t.Context(), clerk, child.ID, "", ch)
		want(t, err, problem.Denied, "change a child to "+what)
	}
}

// TestChildrenSpendTheirParents: a key, its children, their children, and all their generations have together no more uses
// than the key was given, and a child not more than itself was.
func TestChildrenSpendTheirParents(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	scopes := []string{"keys:write", "verify"}
	rotate := func(k Created) Created {
		t.Helper()
		made, err := f.room.Rotate(t.Context(), owner, k.ID, time.Hour)
		must(t, err)
		return made
	}
	parent := f.service(t, owner, NewKey{Scopes: scopes, MaxUses: new(int64(10))})
	child := f.make(t, f.as(t, parent), NewKey{Kind: Service, Scopes: scopes})
	small := f.make(t, f.as(t, parent), NewKey{Kind: Service, Scopes: scopes, MaxUses: new(int64(2))})
	grand := f.make(t, f.as(t, child), NewKey{Kind: Service, Scopes: scopes})
	parent2, child2 := rotate(parent), rotate(child)
	late := f.make(t, f.as(t, child2), NewKey{Kind: Service, Scopes: scopes})
	for i, k := range []Created{parent, parent2, child, child2, grand, late, small, small} {
		if err := f.use(t.Context(), k); err != nil {
			t.Fatalf("use %d: %v", i, err)
		}
	}
	want(t, f.use(t.Context(), small), problem.TooMany, "more than the child was given")
	must(t, f.use(t.Context(), grand))
	must(t, f.use(t.Context(), parent2))
	for i, k := range []Created{parent, parent2, child, child2, grand, late, small} {
		if err := f.use(t.Context(), k); !problem.Is(err, problem.TooMany) {
			t.Errorf("key %d, when all is spent: %v", i, err)
		}
	}
	third := f.make(t, f.as(t, child2), NewKey{Kind: Service, Scopes: scopes})
	want(t, f.use(t.Context(), third), problem.TooMany, "a child that is made when all is spent")
}

// TestLimitsGivenLater: limits that a key is given after it made others bind these too, on every server, and end with it; and what
// none of its line limits is counted nowhere.
func TestLimitsGivenLater(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := f.beside(t)
	id, owner := f.owner(t, "Acme")
	maker := f.service(t, owner, NewKey{Scopes: maker})
	child := f.make(t, f.as(t, maker), NewKey{Kind: Service, Scopes: []string{"keys:write", "verify"}})
	grand := f.make(t, f.as(t, child), NewKey{Kind: Service, Scopes: []string{"verify"}})
	good := func(k Created, tries int) (n int) {
		t.Helper()
		for i := range tries {
			switch err := []fixture{f, other}[i%2].use(t.Context(), k); {
			case err == nil:
				n++
			case !problem.Is(err, problem.TooMany):
				t.Error(err)
			}
		}
		return n
	}
	entries := len(f.Entries(t, id))
	if good(grand, 4) != 4 || len(f.Entries(t, id)) != entries || f.as(t, grand).Metered() {
		t.Error("a key that nothing limits is counted")
	}
	change := func(ch Change) { must(t, second(f.room.Update(t.Context(), owner, maker.ID, "", ch))) }
	change(Change{MaxUses: new(int64(3))})
	if n := good(grand, 5); n != 3 || good(child, 1) != 0 || good(maker, 1) != 0 {
		t.Errorf("of 3 uses that its maker's maker was given it has %d", n)
	}
	change(Change{NoMaxUses: true, RateLimits: &[]RateLimit{hourly("r", 2)}})
	next, err := f.room.Rotate(t.Context(), owner, maker.ID, time.Hour)
	must(t, err)
	if n := good(child, 5); n != 2 {
		t.Errorf("of 2 uses in an hour it has %d", n)
	}
	must(t, second(f.room.Update(t.Context(), owner, next.ID, "", Change{RateLimits: &[]RateLimit{}})))
	entries = len(f.Entries(t, id))
	if good(grand, 4)+good(child, 4)+good(maker, 4) != 12 || len(f.Entries(t, id)) != entries || f.as(t, grand).Metered() || f.as(t, maker).Metered() {
		t.Error("what no longer has limits is counted")
	}
}

// TestFamilySpendsExactly has a family's keys used by a crowd on two servers, while generations change.
func TestFamilySpendsExactly(t *testing.T) {
	t.Parallel()
	f := open(t)
	rooms := []fixture{f, on(f.Another(t))}
	_, owner := f.owner(t, "Acme")
	const most = 24
	parent := f.service(t, owner, NewKey{Scopes: []string{"keys:write", "verify"}, MaxUses: new(int64(most)), RateLimits: []RateLimit{hourly("r", 1000)}})
	keys := []Created{parent}
	for range 3 {
		keys = append(keys, f.make(t, f.as(t, parent), NewKey{Kind: Service, Scopes: []string{"verify"}}))
	}
	var good atomic.Int64
	var crowd sync.WaitGroup
	for i := range 16 {
		crowd.Go(func() {
			for range 3 {
				switch err := rooms[i%2].use(t.Context(), keys[i%len(keys)]); {
				case err == nil:
					good.Add(1)
				case !problem.Is(err, problem.TooMany):
					t.Error(err)
				}
			}
		})
	}
	_, err := f.room.Rotate(t.Context(), owner, parent.ID, time.Hour)
	must(t, err)
	crowd.Wait()
	if good.Load() != most {
		t.Errorf("%d uses of %d", good.Load(), most)
	}
	if used := f.Text(t, `SELECT used::text FROM avouch.counter WHERE subject = $1`, "rate:"+parent.ID+":r"); used != "24" {
		t.Errorf("the rate limit counted %s: what is refused for one limit spends another", used)
	}
}

// TestNoKeyLoosensItself: not through another generation of itself, nor through a child, nor by taking over a key whose uses
// nobody counts.
func TestNoKeyLoosensItself(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	scopes := []string{"keys:write", "verify"}
	tight := f.service(t, owner, NewKey{Scopes: scopes, RateLimits: []RateLimit{hourly("r", 2)}})
	child := f.make(t, f.as(t, tight), NewKey{Kind: Service, Scopes: scopes})
	next, err := f.room.Rotate(t.Context(), owner, tight.ID, time.Hour)
	must(t, err)
	for what, pair := range map[string][2]Created{
		"itself": {tight, tight}, "the next generation": {tight, next}, "the one before": {next, tight}, "who made it": {child, next}, "its maker's old generation": {child, tight},
	} {
		for field, ch := range map[string]Change{
			"rates": {RateLimits: &[]RateLimit{}}, "higher rates": {RateLimits: &[]RateLimit{hourly("r", 3)}}, "uses": {MaxUses: new(int64(1000))},
			"metadata": {Metadata: &map[string]any{"admin": true}}, "name": {Name: new("x")}, "addresses": {AllowedCIDRs: new(nets("10.0.0.0/8"))},
			"resources": {Resources: &[]string{"x"}}, "quota": {MonthlyQuota: new(int64(1))},
		} {
			_, err := f.room.Update(t.Context(), f.as(t, pair[0]), pair[1].ID, "", ch)
			want(t, err, problem.Denied, "a key changes the "+field+" of "+what)
		}
	}
	free := f.service(t, owner, NewKey{Scopes: scopes})
	for what, k := range map[string]Created{"a limited key": next, "its child": child} {
		_, err := f.room.Rotate(t.Context(), f.as(t, k), free.ID, 0)
		want(t, err, problem.Denied, what+" rotates one that is not limited")
	}
	taken, err := f.room.Rotate(t.Context(), f.as(t, next), child.ID, 0)
	must(t, err)
	if !slices.Equal(taken.Shares, []string{owner.Actor().ID, tight.ID}) {
		t.Errorf("a rotated child spends from %v", taken.Shares)
	}
	must(t, f.use(t.Context(), taken))
	must(t, f.use(t.Context(), next))
	want(t, f.use(t.Context(), taken), problem.TooMany, "the child that was rotated")
	if _, err := f.room.Update(t.Context(), f.as(t, free), child.ID, "", Change{RateLimits: &[]RateLimit{}}); err != nil {
		t.Errorf("a key that nothing limits changes a narrower one: %v", err)
	}
}

// TestLimitsAreLifted: by whoever may give as much, on the wire with null, which is not what is absent.
func TestLimitsAreLifted(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	made := c.do("POST", "", `{"name":"k","kind":"data","max_uses":3,"rate_limits":[{"name":"r","limit":9,"duration_seconds":60}]}`)
	id := made.Body["key_id"].(string)
	for body, uses := range map[string]any{`{"name":"n"}`: 3.0, `{"name":"m","rate_limits":null,"metadata":null,"monthly_quota":null}`: 3.0} {
		if a := c.do("PATCH", "/"+id, body); a.Status != http.StatusOK || a.Body["max_uses"] != uses || len(a.Body["rate_limits"].([]any)) != 1 {
			t.Errorf("%s: %+v", body, a)
		}
	}
	if a := c.do("PATCH", "/"+id, `{"max_uses":null}`); a.Status != http.StatusOK || a.Body["max_uses"] != nil || a.Body["version"] != 4.0 {
		t.Errorf("max_uses null: %+v", a)
	}
	if a := c.do("PATCH", "/"+id, `{"max_uses":null}`); a.Status != http.StatusOK || a.Body["version"] != 4.0 {
		t.Errorf("once more: %+v", a)
	}
	for _, wrong := range []string{`{"max_uses":0}`, `{"max_uses":"none"}`, `{"max_uses":{}}`} {
		if a := c.do("PATCH", "/"+id, wrong); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", wrong, a)
		}
	}
	service := c.do("POST", "", `{"name":"k","kind":"service","monthly_quota":5}`).Body["key_id"].(string)
	if a := c.do("PATCH", "/"+service, `{"monthly_quota":null}`); a.Status != http.StatusForbidden || !strings.Contains(a.Raw, "1000") {
		t.Errorf("a quota that the installation has: %+v", a)
	}
	for _, without := range []bool{false, true} {
		room := f
		if without {
			room, _ = f.still(func(c *Config) { c.ServiceQuota = nil })
		}
		_, owner := room.owner(t, "Globex")
		clerk := room.as(t, room.service(t, owner, NewKey{Scopes: []string{"keys:write", "verify"}, MaxUses: new(int64(10)), MonthlyQuota: new(int64(7))}))
		peer := room.service(t, owner, NewKey{Scopes: []string{"verify"}, MaxUses: new(int64(5)), MonthlyQuota: new(int64(5))})
		for what, ch := range map[string]Change{"uses": {NoMaxUses: true}, "quota": {NoQuota: true}} {
			_, err := room.room.Update(t.Context(), clerk, peer.ID, "", ch)
			want(t, err, problem.Denied, "a key lifts the "+what+" that it has itself")
		}
		got, err := room.room.Update(t.Context(), owner, peer.ID, "", Change{NoMaxUses: true})
		if err != nil || got.MaxUses != nil || got.MonthlyQuota == nil {
			t.Errorf("an owner key lifts the uses: %+v, %v", got, err)
		}
		got, err = room.room.Update(t.Context(), owner, peer.ID, "", Change{NoQuota: true})
		if without && (err != nil || got.MonthlyQuota != nil) || !without && !problem.Is(err, problem.Denied) {
			t.Errorf("an owner key lifts the quota, without a default: %t: %+v, %v", without, got, err)
		}
		got, err = room.room.Update(t.Context(), tenantdb.System(owner.Tenant(), "operator"), peer.ID, "", Change{NoQuota: true})
		if err != nil || got.MonthlyQuota != nil {
			t.Errorf("the operator lifts the quota: %+v, %v", got, err)
		}
	}
}

// TestNarrowKeysAndOthers: no key ends, changes or takes over one that may do more.
func TestNarrowKeysAndOthers(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	clerk := f.from(t, f.service(t, owner, NewKey{Scopes: []string{"keys:write", "verify"}, AllowedCIDRs: nets("10.0.0.0/8"), Resources: []string{"a"}}), "10.0.0.1")
	within := NewKey{Scopes: []string{"verify"}, AllowedCIDRs: nets("10.1.0.0/16"), Resources: []string{"a"}}
	for what, change := range map[string]func(*NewKey){
		"more capabilities": func(n *NewKey) { n.Scopes = []string{"verify", "audit:read"} },
		"more addresses":    func(n *NewKey) { n.AllowedCIDRs = nil },
		"more resources":    func(n *NewKey) { n.Resources = []string{"a", "b"} },
		"another kind":      func(n *NewKey) { n.Kind, n.Resources = Owner, nil },
	} {
		n := within
		n.Name, n.Kind = "other", Service
		change(&n)
		k := f.make(t, owner, n)
		for verb, do := range map[string]func() error{
			"revoke": func() error { return second(f.room.Revoke(t.Context(), clerk, k.ID)) }, "disable": func() error { return second(f.room.Disable(t.Context(), clerk, k.ID)) },
			"enable": func() error { return second(f.room.Enable(t.Context(), clerk, k.ID)) },
			"rotate": func() error { return second(f.room.Rotate(t.Context(), clerk, k.ID, 0)) },
			"change": func() error { return second(f.room.Update(t.Context(), clerk, k.ID, "", Change{Name: new("x")})) },
		} {
			want(t, do(), problem.Denied, verb+" a key with "+what)
		}
		if got, err := f.room.Get(t.Context(), owner, k.ID); err != nil || got.Status(f.now.Now()) != Active || got.Version != 1 {
			t.Errorf("%s: afterwards %+v, %v", what, got, err)
		}
	}
	k := f.service(t, owner, within)
	_, err := f.room.Rotate(t.Context(), clerk, k.ID, 0)
	must(t, err)
}

// doings are all that can be done with keys, and the capability that each needs.
func (f fixture) doings(t *testing.T, id string) map[string]map[string]func(tenantdb.Caller) error {
	ctx := t.Context()
	return map[string]map[string]func(tenantdb.Caller) error{
		"keys:write": {
			"create":  func(c tenantdb.Caller) error { return second(f.room.Create(ctx, c, NewKey{Name: "x", Kind: Data})) },
			"update":  func(c tenantdb.Caller) error { return second(f.room.Update(ctx, c, id, "", Change{Name: new("x")})) },
			"revoke":  func(c tenantdb.Caller) error { return second(f.room.Revoke(ctx, c, id)) },
			"disable": func(c tenantdb.Caller) error { return second(f.room.Disable(ctx, c, id)) },
			"enable":  func(c tenantdb.Caller) error { return second(f.room.Enable(ctx, c, id)) },
			"rotate":  func(c tenantdb.Caller) error { return second(f.room.Rotate(ctx, c, id, 0)) },
			"import": func(c tenantdb.Caller) error {
				return second(f.room.Import(ctx, c, []Foreign{{NewKey: NewKey{Name: "x"}}}))
			},
			"put owner":    func(c tenantdb.Caller) error { return second(f.room.PutOwner(ctx, c, "", KeyOwner{Owner: "x"})) },
			"delete owner": func(c tenantdb.Caller) error { _, err := f.room.DeleteOwner(ctx, c, "there"); return err },
		},
		"keys:read": {
			"get":         func(c tenantdb.Caller) error { return second(f.room.Get(ctx, c, id)) },
			"list":        func(c tenantdb.Caller) error { return second(f.room.List(ctx, c, Filter{}, nil, 10)) },
			"risks":       func(c tenantdb.Caller) error { _, _, err := f.room.Risks(ctx, c, nil, 10); return err },
			"get owner":   func(c tenantdb.Caller) error { return second(f.room.GetOwner(ctx, c, "there")) },
			"list owners": func(c tenantdb.Caller) error { return second(f.room.ListOwners(ctx, c, "", 10)) },
		},
	}
}

// TestEveryCapability: who has every capability but the one that is needed gets nothing, also from a key whose request was
// let in before the key was narrowed or ended; and another organisation finds nothing.
func TestEveryCapability(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	_, theirs := f.owner(t, "Globex")
	target := f.make(t, owner, NewKey{Kind: Data})
	_, err := f.room.PutOwner(t.Context(), owner, "", KeyOwner{Owner: "there"})
	must(t, err)
	endedKey := f.make(t, owner, NewKey{Kind: Owner})
	ended := f.as(t, endedKey)
	must(t, second(f.room.Revoke(t.Context(), owner, endedKey.ID)))
	before := f.state(t)
	for capability, all := range f.doings(t, target.ID) {
		others := slices.DeleteFunc(tenantdb.Capabilities(), func(s string) bool { return s == capability })
		for what, do := range all {
			want(t, do(f.Caller(id, others...)), problem.Denied, what+" without "+capability)
			if capability == "keys:write" {
				want(t, do(ended), problem.Unauthenticated, what+" with a key that was revoked meanwhile")
			}
			switch what {
			case "create", "import", "put owner", "list", "risks", "list owners": // which name nothing of anybody's
			default:
				want(t, do(theirs), problem.Missing, what+", of another organisation")
			}
		}
	}
	if f.state(t) != before {
		t.Error("something changed")
	}
	for _, all := range f.doings(t, target.ID) {
		for what, do := range all {
			if err := do(f.Caller(id, "keys:read", "keys:write")); err != nil && !problem.Is(err, problem.Conflict) && !problem.Is(err, problem.Missing) {
				t.Errorf("with the capability, %s: %v", what, err)
			}
		}
	}
}

func (f fixture) state(t *testing.T) string {
	t.Helper()
	return f.Text(t, `SELECT coalesce((SELECT string_agg(k::text, ' ' ORDER BY key_id) FROM avouch.api_key k), '') || coalesce((SELECT string_agg(i::text, ' ' ORDER BY owner) FROM avouch.api_identity i), '')`)
}

// TestRoutesNeedCapabilities: the same on the wire.
func TestRoutesNeedCapabilities(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	made := c.do("POST", "", map[string]any{"name": "verifier", "kind": "service"})
	target := c.do("POST", "", map[string]any{"name": "target", "kind": "data"}).Body["key_id"].(string)
	weak := client{t, c.api, made.Body["key"].(string)}
	before := f.state(t)
	for _, q := range [][3]string{
		{"POST", "keys", `{"name":"x","kind":"data"}`}, {"GET", "keys"}, {"GET", "keys/" + target}, {"PATCH", "keys/" + target, `{"name":"x"}`},
		{"POST", "keys/" + target + "/revoke"}, {"POST", "keys/" + target + "/disable"}, {"POST", "keys/" + target + "/enable"}, {"POST", "keys/" + target + "/rotate"},
		{"POST", "keys/import", `{"keys":[{"hash":"` + strings.Repeat("ab", 32) + `","name":"x"}]}`}, {"GET", "keys/risks"},
		{"GET", "key-owners"}, {"GET", "key-owners/x"}, {"PUT", "key-owners/x", `{}`}, {"DELETE", "key-owners/x"},
	} {
		a := weak.at(q[0], "/api/v1/"+q[1], q[2])
		if a.Status != http.StatusForbidden || strings.Contains(a.Raw, target) {
			t.Errorf("%s %s: %+v", q[0], q[1], a)
		}
	}
	if f.state(t) != before {
		t.Error("something changed")
	}
}

// at sends a request to any address.
func (c client) at(method, path, body string, header ...string) doortest.Answer {
	c.t.Helper()
	q := doortest.Request{Method: method, Path: path, Key: c.key, Header: map[string]string{}}
	if body != "" {
		q.Body = body
	}
	for i := 0; i < len(header); i += 2 {
		q.Header[header[i]] = header[i+1]
	}
	return doortest.Call(c.t, c.api, q)
}
