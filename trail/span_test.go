package trail

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestSpans shows the spans of a request to the organisation that sent it, and not to one that another's service asked
// about; what was tampered with shows none, and breaks nothing.
func TestSpans(t *testing.T) {
	t.Parallel()
	var asked []audit.RequestID
	s := enter(t, func(c *Config) {
		c.Spans = func(id audit.RequestID) []Span {
			asked = append(asked, id)
			return []Span{{Name: "verify", ID: "1", Start: time.Now(), Duration: 12}}
		}
	})
	own, service := s.Caller(s.acme, "audit:read"), tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: s.acme, Actor: audit.Actor{Kind: audit.ActorService, ID: s.other.String()}, How: "api-key", RequestID: audit.NewRequestID(),
	})
	for _, c := range []tenantdb.Caller{own, service} {
		_, err := s.DB.Record(t.Context(), c, audit.Event{Type: "agent.verified"})
		must(t, err)
	}
	of := func(c tenantdb.Caller) []any {
		a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/requests/"+c.RequestID().String())
		if a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		return a.Body["spans"].([]any)
	}
	if got := of(own); len(got) != 1 || got[0].(map[string]any)["name"] != "verify" || got[0].(map[string]any)["duration_us"] != 12.0 {
		t.Errorf("our own request: %v", got)
	}
	if got := of(service); len(got) != 0 {
		t.Errorf("another's request: %v", got)
	}
	s.tamper(t, tampering{sql: []string{`UPDATE avouch.audit_entry SET body = '\x00' WHERE tenant_id = $1 AND seq = 1`}}, s.acme)
	if got := of(own); len(got) != 0 {
		t.Errorf("a request whose entry cannot be read: %v", got)
	}
	if len(asked) != 1 || asked[0] != own.RequestID() {
		t.Errorf("asked for the spans of %v", asked)
	}
}
