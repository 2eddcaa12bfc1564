package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// refusals are requests of a known caller that are refused, each with the kind that its log must tell.
func refusals(narrow string, p party) map[string]struct {
	ask       ask
	status    int
	kind      string
	operation string
} {
	type refusal = struct {
		ask       ask
		status    int
		kind      string
		operation string
	}
	scope := map[string]any{"name": "do:this", "risk": "low", "description": "x"}
	return map[string]refusal{
		"malformed":  {ask{Method: "POST", Path: "/api/v1/scopes", Key: p.key, Body: `{"name":`}, 400, "invalid", "add-scope"},
		"unknown":    {ask{Method: "POST", Path: "/api/v1/scopes", Key: p.key, Body: map[string]any{"nmae": "x"}}, 400, "invalid", "add-scope"},
		"query":      {ask{Method: "GET", Path: "/api/v1/keys?limit=0", Key: p.key}, 400, "invalid", "list-keys"},
		"media type": {ask{Method: "POST", Path: "/api/v1/scopes", Key: p.key, Body: "x", Header: map[string]string{"Content-Type": "text/plain"}}, 415, "invalid", "add-scope"},
		"capability": {ask{Method: "POST", Path: "/api/v1/scopes", Key: narrow, Body: scope}, 403, "denied", "add-scope"},
		"missing":    {ask{Method: "GET", Path: "/api/v1/keys/nobodyskey0", Key: p.key}, 404, "missing", "get-key"},
		"stale":      {ask{Method: "PATCH", Path: "/api/v1/organisation", Key: p.key, Body: map[string]any{"name": "A"}, Header: map[string]string{"If-Match": `"99"`}}, 412, "conflict", "update-organisation"},
		"conflict":   {ask{Method: "POST", Path: "/api/v1/scopes", Key: p.key, Body: scope}, 409, "conflict", "add-scope"},
	}
}

func TestRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	narrow, _ := n.newKey(t, acme, map[string]any{"kind": "owner", "scopes": []string{"agents:read"}})
	n.call(t, ask{Method: "POST", Path: "/api/v1/scopes", Key: acme.key, Body: map[string]any{"name": "do:this", "risk": "low", "description": "x"}}).want(t, http.StatusCreated)
	for name, r := range refusals(narrow, acme) {
		before := len(n.entries(t, acme.id, "request.refused"))
		a := n.call(t, r.ask)
		if a.Status != r.status || a.kind() != r.kind {
			t.Errorf("%s: %d %s, want %d %s: %s", name, a.Status, a.kind(), r.status, r.kind, a.Raw)
		}
		found := n.entries(t, acme.id, "request.refused")[before:]
		if len(found) != 1 {
			t.Errorf("%s: %d entries", name, len(found))
			continue
		}
		e := found[0]
		if e.field("kind") != r.kind || e.Target.ID != r.operation || e.Outcome != audit.Denied || e.Actor.Kind != audit.ActorKey ||
			e.Request.String() != a.Header.Get("X-Request-Id") || e.private["address"] != "127.0.0.1" {
			t.Errorf("%s: the entry is %+v %v", name, e.Entry, e.private)
		}
		if key, _, _ := strings.Cut(strings.TrimPrefix(r.ask.Key, "avk_live_"), "_"); e.Actor.ID == "" || !strings.Contains(r.ask.Key, e.Actor.ID) {
			t.Errorf("%s: the actor is %q, the key %s…", name, e.Actor.ID, key)
		}
	}
}

// A wrong method or an address that leads nowhere is asked before anybody is authenticated: it is nobody's.
func TestRefusalsOfNobodyAreCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	acme := n.organisation(t, "Acme")
	before := n.entries(t, acme.id, "")
	n.denials.flush(t.Context())
	clean := len(n.entries(t, tenantdb.Platform, "requests.refused"))
	from := func(address string, q ask) ask {
		q.Header = map[string]string{"X-Forwarded-For": address}
		return q
	}
	for range 3 {
		n.call(t, from("192.0.2.7", ask{Method: "GET", Path: "/api/v1/keys"})).want(t, http.StatusUnauthorized)
	}
	n.call(t, from("192.0.2.7", ask{Method: "GET", Path: "/api/v1/keys", Key: "avk_live_nonsense"})).want(t, http.StatusUnauthorized)
	n.call(t, from("192.0.2.7", ask{Method: "DELETE", Path: "/api/v1/keys", Key: acme.key})).want(t, http.StatusMethodNotAllowed)
	n.call(t, from("2001:db8::1", ask{Method: "GET", Path: "/api/v1/nothing", Key: acme.key})).want(t, http.StatusNotFound)
	away := problem.New(problem.Unavailable, "It may be the log that is away.")
	busy := problem.New(problem.Unavailable, "Too many at once.")
	busy.Busy = true
	for _, p := range []*problem.Error{away, busy, busy} {
		n.refused(t.Context(), web.RequestMeta{Address: netip.MustParseAddr("192.0.2.8")}, nil, "sign-in", p)
	}
	n.denials.flush(t.Context())
	got := map[string]string{}
	for _, e := range n.entries(t, tenantdb.Platform, "requests.refused")[clean:] {
		got[e.private["address"]+" "+e.field("kind")] = e.field("count")
		if strings.Contains(fmt.Sprint(e.Public), "192.0.2.7") || e.field("since") == "" || e.Outcome != audit.Denied {
			t.Errorf("the entry is %+v", e.Entry)
		}
	}
	want := map[string]string{"192.0.2.7 unauthenticated": "4", "192.0.2.7 invalid": "1", "192.0.2.8 unavailable": "2", "2001:db8::1 missing": "1"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if after := n.entries(t, acme.id, ""); len(after) != len(before) {
		t.Errorf("the organisation's log grew by %d entries", len(after)-len(before))
	}
	n.denials.flush(t.Context())
	if again := len(n.entries(t, tenantdb.Platform, "requests.refused")); again != clean+len(want) {
		t.Errorf("a second flush wrote %d entries more", again-clean-len(want))
	}
}

// tallies counts apart from any server.
func tallies(t *testing.T) (*denials, *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	d := newDenials(nil, nil)
	d.now = func() time.Time { return now }
	return d, &now
}

// total is how many refusals are owed to a log, in how many entries.
func total(found map[tenantdb.TenantID][]owed, tenant tenantdb.TenantID) (refusals, entries int) {
	for _, o := range found[tenant] {
		refusals += o.count
	}
	return refusals, len(found[tenant])
}

// Many addresses, callers and operations in one minute must not take memory without bound, nor drop a count; and who makes
// many does not have others counted together.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	d, _ := tallies(t)
	const many = 3 * mostOfPlatform
	for i := range many {
		d.nobodys(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), problem.Invalid)
	}
	noisy, calm := tenantdb.NewTenantID(), tenantdb.NewTenantID()
	refuse := func(tenant tenantdb.TenantID, key, operation string, address byte) bool {
		c := tenantdb.NewCaller(tenantdb.CallerSpec{
			Tenant: tenant, Actor: audit.Actor{Kind: audit.ActorKey, ID: key}, RequestID: audit.NewRequestID(), Address: netip.AddrFrom4([4]byte{192, 0, 2, address}),
		})
		return d.take(denialOf(c, audit.Event{
			Type: "request.refused", Target: audit.Target{Kind: "operation", ID: operation}, Public: []audit.Field{{Name: "kind", Value: "invalid"}},
		}), c, 1)
	}
	singly := 0
	for i := range many {
		if refuse(noisy, fmt.Sprint("key", i%30), fmt.Sprint("operation", i), byte(i)) {
			singly++
		}
	}
	refuse(calm, "key", "verify", 1)
	refuse(calm, "key", "verify", 1)
	if len(d.tallies) > mostOfPlatform+mostOfTenant+3 {
		t.Errorf("%d tallies", len(d.tallies))
	}
	due := d.due()
	for who, log := range map[string]struct {
		tenant           tenantdb.TenantID
		refusals, atMost int
	}{"platform": {tenantdb.Platform, many, mostOfPlatform + 1}, "noisy": {noisy, many - singly, mostOfTenant + 1}, "calm": {calm, 1, 1}} {
		if refusals, entries := total(due, log.tenant); refusals != log.refusals || entries > log.atMost {
			t.Errorf("%s: %d refusals in %d entries, want %d", who, refusals, entries, log.refusals)
		}
	}
	if singly > mostOfTenant {
		t.Errorf("%d entries of their own", singly)
	}
	if e := due[calm][0]; e.caller().Actor().ID != "key" || e.event().Private[0].Value != "192.0.2.1" {
		t.Errorf("the calm one's entry is by %v: %+v", e.caller().Actor(), e.event())
	}
	for _, o := range slices.Concat(due[noisy], due[tenantdb.Platform]) {
		if a := o.event().Private[0].Value; o.count > 1 && (a != "others" || o.caller().Actor().Kind != audit.ActorSystem) {
			t.Errorf("what is counted together is said to be of %s, by %v", a, o.caller().Actor())
		}
	}
}

// A flood that goes on has an entry a minute; after a quiet minute the next refusal has its own again, and nothing is kept.
func TestRefusalsEachMinute(t *testing.T) {
	t.Parallel()
	d, now := tallies(t)
	c := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: tenantdb.NewTenantID(), Actor: audit.Actor{Kind: audit.ActorKey, ID: "key"}, Address: netip.MustParseAddr("192.0.2.1")})
	elsewhere := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: c.Tenant(), Actor: c.Actor(), Address: netip.MustParseAddr("192.0.2.2")})
	k := denialOf(c, audit.Event{Type: "key.refused", Public: []audit.Field{{Name: "reason", Value: "revoked"}}})
	for minute := range 5 {
		entries, counted := 0, 0
		for range 100 {
			if d.take(k, c, singleKeys) {
				entries++
			}
		}
		d.take(k, elsewhere, singleKeys)
		since := *now
		*now = now.Add(time.Minute)
		for _, o := range d.due()[c.Tenant()] {
			entries++
			counted += o.count
			if e := o.event(); !o.since.Equal(since) || e.Private[0].Value != "several" || e.Type != "key.refused" || o.caller().Actor() != c.Actor() {
				t.Errorf("minute %d: %+v", minute, e)
			}
		}
		if minute == 0 && (entries != 2 || counted != 100) || minute > 0 && (entries != 1 || counted != 101) {
			t.Errorf("minute %d: %d entries, which count %d", minute, entries, counted)
		}
	}
	*now = now.Add(quiet)
	if due := d.due(); len(due) != 0 || len(d.tallies) != 0 || len(d.apart) != 0 {
		t.Errorf("after a quiet minute there are %d owed, %d tallies, %d logs", len(due), len(d.tallies), len(d.apart))
	}
	if !d.take(k, c, singleKeys) {
		t.Error("the first after a quiet minute has no entry of its own")
	}
}

// What was refused while the database was away is counted on, and written when it is back; and it is written at the end.
func TestRefusalsOutlastTheDatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	n.denials.flush(t.Context())
	n.denials.nobodys(netip.MustParseAddr("192.0.2.7"), problem.Invalid)
	release, err := s.admin.Hold(t.Context(), tenantdb.Platform.String())
	must(t, err)
	n.denials.flush(t.Context()) // refused after a few seconds
	release()
	n.denials.nobodys(netip.MustParseAddr("192.0.2.7"), problem.Invalid)
	n.stop()
	after := s.start(t)
	total := 0
	for _, e := range after.entries(t, tenantdb.Platform, "requests.refused") {
		if e.private["address"] == "192.0.2.7" {
			total++
			if e.field("count") != "2" {
				t.Errorf("an entry counts %s", e.field("count"))
			}
		}
	}
	if total != 1 {
		t.Errorf("%d entries", total)
	}
}
