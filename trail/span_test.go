package trail

import (
	"fmt"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestSpans shows what a request was spent on to the organisation that sent it, with entries or without, and to nobody else.
// Where it is not known who sent it, entries say so; what was tampered with shows no spans, and breaks nothing.
func TestSpans(t *testing.T) {
	t.Parallel()
	remembered := map[audit.RequestID]tenantdb.TenantID{}
	s := enter(t, func(c *Config) {
		c.Spans = func(id audit.RequestID) ([]Span, tenantdb.TenantID) {
			if sender, ok := remembered[id]; ok {
				return []Span{{Name: "verify", ID: "1", Start: time.Now(), Duration: 12}}, sender
			}
			return nil, tenantdb.TenantID{}
		}
	})
	for name, c := range map[string]struct {
		sender         tenantdb.TenantID // whom the server remembers; zero is nobody
		actor          audit.ActorKind   // of the entry in our log; empty is none
		forgotten      bool
		status, spans  int
		stranger, root int // the status for another organisation, and for the platform
	}{
		"ours, with an entry":        {s.acme, audit.ActorKey, false, 200, 1, 404, 404},
		"ours, without":              {s.acme, "", false, 200, 1, 404, 404},
		"ours, forgotten":            {s.acme, audit.ActorKey, true, 200, 0, 404, 404},
		"ours, without, forgotten":   {s.acme, "", true, 404, 0, 404, 404},
		"another's, about our agent": {s.other, audit.ActorService, false, 200, 0, 200, 404},
		"another's":                  {s.other, "", false, 404, 0, 200, 404},
		"nobody's":                   {tenantdb.Platform, "", false, 404, 0, 404, 200},
		"nobody's, with a key of ours that is void": {tenantdb.Platform, audit.ActorKey, false, 200, 0, 404, 200},
		"not known, an entry of our key":            {tenantdb.TenantID{}, audit.ActorKey, false, 200, 1, 404, 404},
		"not known, about our agent":                {tenantdb.TenantID{}, audit.ActorService, false, 200, 0, 404, 404},
		"not known, a key of ours leaked":           {tenantdb.TenantID{}, audit.ActorNobody, false, 200, 0, 404, 404},
		"not known, without":                        {tenantdb.TenantID{}, "", false, 404, 0, 404, 404},
	} {
		id := audit.NewRequestID()
		if !c.forgotten {
			remembered[id] = c.sender
		}
		if c.actor != "" {
			by := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: s.acme, Actor: audit.Actor{Kind: c.actor, ID: s.other.String()}, How: "api-key", RequestID: id})
			_, err := s.DB.Record(t.Context(), by, audit.Event{Type: "agent.verified"})
			must(t, err)
		}
		a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/requests/"+id.String())
		shown, _ := a.Body["spans"].([]any)
		if a.Status != c.status || len(shown) != c.spans {
			t.Errorf("%s: %d with %d spans, want %d with %d: %s", name, a.Status, len(shown), c.status, c.spans, a.Raw)
		}
		if _, ok := a.Body["entries"].([]any); a.Status == 200 && !ok {
			t.Errorf("%s: no list of entries: %s", name, a.Raw)
		}
		for whose, is := range map[tenantdb.TenantID]int{s.other: c.stranger, tenantdb.Platform: c.root} {
			if a := s.get(t, s.Caller(whose, "audit:read"), "/api/v1/requests/"+id.String()); a.Status != is {
				t.Errorf("%s: %s is answered %d, want %d", name, whose, a.Status, is)
			}
		}
	}
	c := s.Caller(s.acme, "audit:read")
	pos, err := s.DB.Record(t.Context(), c, audit.Event{Type: "agent.verified"})
	must(t, err)
	remembered[c.RequestID()] = tenantdb.TenantID{}
	s.tamper(t, tampering{sql: []string{fmt.Sprintf(`UPDATE avouch.audit_entry SET body = '\x00' WHERE tenant_id = $1 AND seq = %d`, pos.Seq)}}, s.acme)
	if a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/requests/"+c.RequestID().String()); a.Status != 200 || len(a.Body["spans"].([]any)) != 0 {
		t.Errorf("a request whose entry cannot be read: %d %s", a.Status, a.Raw)
	}
}
