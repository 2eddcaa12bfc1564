package server

import (
	"strings"
	"testing"
	"time"
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
