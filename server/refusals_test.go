package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
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
	n.denials.flush(t.Context())
	got := map[string]string{}
	for _, e := range n.entries(t, tenantdb.Platform, "requests.refused")[clean:] {
		got[e.private["address"]+" "+e.field("kind")] = e.field("count")
		if strings.Contains(fmt.Sprint(e.Public), "192.0.2.7") || e.field("since") == "" || e.Outcome != audit.Denied {
			t.Errorf("the entry is %+v", e.Entry)
		}
	}
	want := map[string]string{"192.0.2.7 unauthenticated": "4", "192.0.2.7 invalid": "1", "2001:db8::1 missing": "1"}
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

// Many addresses in one minute must not take memory without bound, nor drop a count.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	n.denials.flush(t.Context())
	n.denials.mu.Lock()
	n.denials.db = nil // the count alone is looked at: nothing is to be written here
	n.denials.mu.Unlock()
	for i := range 3 * mostDenials {
		n.denials.add(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), "invalid")
	}
	n.denials.mu.Lock()
	defer n.denials.mu.Unlock()
	total := 0
	for _, c := range n.denials.counts {
		total += c
	}
	if len(n.denials.counts) > mostDenials+1 || total != 3*mostDenials {
		t.Errorf("%d counts, %d in all", len(n.denials.counts), total)
	}
	n.denials.counts, n.denials.db = map[denial]int{}, n.DB
}

// What was refused while the database was away is counted on, and written when it is back; and it is written at the end.
func TestRefusalsOutlastTheDatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	n.denials.flush(t.Context())
	n.denials.add(netip.MustParseAddr("192.0.2.7"), "invalid")
	release, err := s.admin.Hold(t.Context(), tenantdb.Platform.String())
	must(t, err)
	n.denials.flush(t.Context()) // refused after a few seconds
	release()
	n.denials.add(netip.MustParseAddr("192.0.2.7"), "invalid")
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
