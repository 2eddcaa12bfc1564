package server

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestKeyIsNoWayAroundAProof: what wants a fresh proof of a person is not had without one by a key that they make first.
func TestKeyIsNoWayAroundAProof(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	h.later(time.Hour)
	if r := ada.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": "eve@else.example", "roles": []string{"owner"}}); r.status != 403 {
		t.Fatalf("an owner is invited without a fresh proof: %d %s", r.status, r.text)
	}
	for _, scope := range []string{"*", "sso:write"} {
		if r := ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "k", "kind": "owner", "scopes": []string{scope}}); r.status != 403 || !strings.Contains(r.text, "Prove yourself again") {
			t.Errorf("a key with %s, an hour after the last proof: %d", scope, r.status)
		}
	}
	ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "k", "kind": "service", "scopes": []string{"verify"}}).want(t, 201)
	ada.prove(t)
	made := ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "k", "kind": "owner", "scopes": []string{"*"}}).want(t, 201)
	h.later(time.Hour)
	if r := ada.ask(t, "POST", "/api/v1/keys/"+made["key_id"].(string)+"/rotate", map[string]any{}); r.status != 403 {
		t.Errorf("rotated: %d", r.status)
	}
	ada.ask(t, "POST", "/api/v1/keys/"+made["key_id"].(string)+"/revoke", map[string]any{}).want(t, 200) // which only takes away
}

// TestLentMakesNoAgent: what break-glass lends makes nothing that is there when it is over.
func TestLentMakesNoAgent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "viewer")
	id := bob.personID(t)
	by := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorPerson, ID: id.String()}, How: "session:password", Scopes: []string{"agents:read"}, RequestID: audit.NewRequestID(),
		Person: &tenantdb.Person{ID: id, ProvedAt: h.now(), Lent: []string{"agents:write", "scopes:write", "keys:write"}},
	})
	if _, _, err := h.Agents.Register(t.Context(), by, agent.Registration{Name: "mine"}); !problem.Is(err, problem.Denied) {
		t.Errorf("registered: %v", err)
	}
	there, _, err := h.Agents.Register(t.Context(), tenantdb.System(acme.id, "test"), agent.Registration{Name: "theirs"})
	must(t, err)
	if _, err := h.Agents.Issue(t.Context(), by, there.ID, agent.Wish{}); !problem.Is(err, problem.Denied) {
		t.Errorf("a token: %v", err)
	}
	if _, err := h.Agents.SetScopes(t.Context(), by, there.ID, "", []string{"browse:web"}); !problem.Is(err, problem.Denied) {
		t.Errorf("scopes: %v", err)
	}
	if _, err := h.Agents.Suspend(t.Context(), by, there.ID); err != nil {
		t.Errorf("to stop an agent is what it is lent for: %v", err)
	}
	if _, err := h.Agents.Resume(t.Context(), by, there.ID); !problem.Is(err, problem.Denied) {
		t.Errorf("resumed: %v", err)
	}
}
