package trail

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

const eventsPath = "/api/v1/audit/events"

func agent(tenant tenantdb.TenantID, callerRequest string) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: tenant, Actor: audit.Actor{Kind: audit.ActorAgent, ID: "agent-7"}, How: "agent-token",
		RequestID: audit.NewRequestID(), CallerRequestID: callerRequest,
	})
}

func TestStatement(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := agent(s.acme, "")
	parent := audit.NewRequestID()
	sum := sha256.Sum256([]byte("what came out"))
	a := s.post(t, c, eventsPath, map[string]any{
		"action": "mail.sent", "object": "ada@example.com", "outcome": "delivered", "output_sha256": hex.EncodeToString(sum[:]),
		"parent_request_id": parent.String(), "detail": map[string]any{"subject": "Hello", "size": 12345678901234567},
	})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	e := s.Last(t, s.acme)
	place := a.Body["audit"].(map[string]any)
	leaf := audit.Leaf(e.Body)
	if a.Body["request_id"] != c.RequestID().String() || place["log"] != e.Log.String() || place["seq"] != float64(e.Seq) || place["leaf"] != hex.EncodeToString(leaf[:]) {
		t.Errorf("%s, and the log ends with %+v", a.Raw, e)
	}
	if e.Type != "statement" || e.Outcome != audit.Stated || e.Actor != (audit.Actor{Kind: audit.ActorAgent, ID: "agent-7"}) ||
		e.Field("output_sha256") != hex.EncodeToString(sum[:]) || e.Field("parent_request_id") != parent.String() {
		t.Errorf("the entry is %+v", e)
	}
	want := map[string]string{"action": "mail.sent", "object": "ada@example.com", "outcome": "delivered", "detail": `{"size":12345678901234567,"subject":"Hello"}`}
	for name, value := range want {
		if e.Private[name] != value {
			t.Errorf("%s is kept as %q", name, e.Private[name])
		}
		if strings.Contains(string(e.Body), value) {
			t.Errorf("%s is in the entry", name)
		}
	}
}

func TestStatementsTogether(t *testing.T) {
	t.Parallel()
	s := enter(t)
	var all []map[string]any
	for i := range maxStatements {
		all = append(all, map[string]any{"action": fmt.Sprint("step ", i)})
	}
	a := s.post(t, agent(s.acme, ""), eventsPath, map[string]any{"events": all})
	places, ok := a.Body["entries"].([]any)
	if a.Status != 200 || !ok || len(places) != maxStatements || fmt.Sprint(places[maxStatements-1]) != fmt.Sprint(a.Body["audit"]) {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	for i, e := range s.OfType(t, s.acme, "statement") {
		if e.Private["action"] != fmt.Sprint("step ", i) || places[i].(map[string]any)["seq"] != float64(e.Seq) {
			t.Errorf("statement %d: %+v", i, e)
		}
	}
	before := s.size(t, s.acme)
	all[50]["object"] = strings.Repeat("x", maxObject+1)
	if a := s.post(t, agent(s.acme, ""), eventsPath, map[string]any{"events": all}); a.Status != http.StatusBadRequest {
		t.Errorf("one bad among a hundred: %d", a.Status)
	}
	if now := s.size(t, s.acme); now != before {
		t.Errorf("%d of them were appended", now-before)
	}
}

func TestWhoMayState(t *testing.T) {
	t.Parallel()
	s := enter(t)
	for _, c := range []struct {
		caller tenantdb.Caller
		status int
	}{
		{agent(s.acme, ""), 200}, {s.Caller(s.acme, "audit:write"), 200}, {s.Caller(s.acme, "*"), 200},
		{s.Caller(s.acme, "audit:read", "verify", "agents:write"), 403}, {s.Caller(s.acme), 403},
	} {
		if a := s.post(t, c.caller, eventsPath, map[string]any{"action": "x"}); a.Status != c.status {
			t.Errorf("%v: %d, want %d", c.caller.Scopes(), a.Status, c.status)
		}
	}
	if n := len(s.OfType(t, s.acme, "statement")); n != 3 {
		t.Errorf("%d statements", n)
	}
	if n := len(s.Entries(t, s.other)); n != 1 {
		t.Errorf("the other organisation's log has %d entries", n)
	}
}

func TestStatementsThatAreRefused(t *testing.T) {
	t.Parallel()
	s := enter(t)
	before := s.size(t, s.acme)
	many := make([]any, maxStatements+1)
	for i := range many {
		many[i] = map[string]any{"action": "x"}
	}
	for name, body := range map[string]any{
		"nothing":          map[string]any{},
		"no action":        map[string]any{"object": "x"},
		"both forms":       map[string]any{"action": "x", "events": []any{map[string]any{"action": "y"}}},
		"too many":         map[string]any{"events": many},
		"long action":      map[string]any{"action": strings.Repeat("x", maxAction+1)},
		"long outcome":     map[string]any{"action": "x", "outcome": strings.Repeat("x", maxOutcome+1)},
		"long detail":      map[string]any{"action": "x", "detail": map[string]any{"d": strings.Repeat("x", maxDetail)}},
		"detail a list":    map[string]any{"action": "x", "detail": []any{1}},
		"detail a text":    map[string]any{"action": "x", "detail": "y"},
		"hash too short":   map[string]any{"action": "x", "output_sha256": "ab"},
		"hash upper case":  map[string]any{"action": "x", "output_sha256": strings.Repeat("AB", 32)},
		"hash no hash":     map[string]any{"action": "x", "output_sha256": strings.Repeat("zz", 32)},
		"parent no id":     map[string]any{"action": "x", "parent_request_id": "x"},
		"unknown field":    map[string]any{"action": "x", "actor": "somebody else"},
		"outcome a number": map[string]any{"action": "x", "outcome": 1},
		"name twice":       `{"action":"x","action":"y"}`,
		"no UTF-8":         "{\"action\":\"\xff\"}",
		"no JSON":          `action=x`,
	} {
		if a := s.post(t, agent(s.acme, ""), eventsPath, body); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	if now := s.size(t, s.acme); now != before {
		t.Errorf("%d entries were appended", now-before)
	}
}

// TestReusedRequestIDSuppressesNothing says the same thing under the same id of the caller's own: it is there each time.
func TestReusedRequestIDSuppressesNothing(t *testing.T) {
	t.Parallel()
	s := enter(t)
	for range 3 {
		if a := s.post(t, agent(s.acme, "my-request"), eventsPath, map[string]any{"action": "x"}); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
	}
	found := s.OfType(t, s.acme, "statement")
	seen := map[audit.RequestID]bool{}
	for _, e := range found {
		seen[e.Request] = true
		if e.Private["caller_request_id"] != "my-request" || strings.Contains(string(e.Body), "my-request") {
			t.Errorf("%+v", e)
		}
	}
	if len(found) != 3 || len(seen) != 3 {
		t.Errorf("%d entries of %d requests", len(found), len(seen))
	}
}

// TestRepeatedKeyStatesOnce sends one statement twice with one Idempotency-Key: that is what such a key is for.
func TestRepeatedKeyStatesOnce(t *testing.T) {
	t.Parallel()
	s := enter(t)
	api := s.api(agent(s.acme, ""))
	for range 2 {
		a := doortest.Call(t, api, doortest.Request{Method: http.MethodPost, Path: eventsPath, Body: map[string]any{"action": "x"}, Header: map[string]string{"Idempotency-Key": "k1"}})
		if a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
	}
	if n := len(s.OfType(t, s.acme, "statement")); n != 1 {
		t.Errorf("%d statements", n)
	}
}

// TestStatementsBesideChanges states while the organisation's rules change: every statement is there once.
func TestStatementsBesideChanges(t *testing.T) {
	t.Parallel()
	s := enter(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				if _, err := s.room.State(t.Context(), agent(s.acme, ""), []Statement{{Action: "x"}, {Action: "y"}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 40 {
			err := s.DB.Change(t.Context(), tenantdb.System(s.acme, "test"), func(*tenantdb.Tx) (audit.Event, error) {
				return audit.Event{Type: "rules.changed", Alters: true}, nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	found := s.OfType(t, s.acme, "statement")
	for i := 0; i+1 < len(found); i += 2 {
		if found[i].Seq+1 != found[i+1].Seq || found[i].Request != found[i+1].Request {
			t.Errorf("two that belong together are at %d and %d", found[i].Seq, found[i+1].Seq)
		}
	}
	if len(found) != 200 {
		t.Errorf("%d statements, want 200", len(found))
	}
}
