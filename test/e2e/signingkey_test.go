package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/tenantdb"
)

// TestRevokedSigningKeyOnEveryServer revokes the key that signs, on one server. Every token that it signed is refused by the
// other from the answer on, whatever that one had remembered: the agent, its owner, the service's key, or nothing.
func TestRevokedSigningKeyOnEveryServer(t *testing.T) {
	t.Parallel()
	in := install(t)
	a, b := in.start(t), in.start(t)
	owner, service := a.organisation(t, "Owner"), a.organisation(t, "Service")
	key, _ := a.serviceKey(t, service, nil)
	for round := range 4 {
		known, unknown := a.agent(t, owner, "read:email"), a.agent(t, owner, "read:email")
		newKey, _ := a.serviceKey(t, service, nil)
		if b.ask(t, key, known.token).Body["allowed"] != true {
			t.Fatal("the token is not allowed before")
		}
		must(t, a.RevokeSigningKey(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), kidOf(t, known.token)))
		for _, q := range []struct{ what, key, token string }{
			{"a key and an agent that it does not know", newKey, unknown.token},
			{"an agent that it does not know", key, unknown.token},
			{"a key and an agent that it knows", key, known.token},
		} {
			if got := b.ask(t, q.key, q.token); got.text("decision") != "REVOKED" || got.Body["allowed"] != false {
				t.Errorf("round %d: %s: %s", round, q.what, got.Raw)
			}
		}
	}
}

// TestRevokedSigningKeySpeaksForNoAgent: a token of a revoked key proves its agent to Avouch itself no more either, on the
// server that has remembered the token.
func TestRevokedSigningKeySpeaksForNoAgent(t *testing.T) {
	t.Parallel()
	in := install(t)
	a, b := in.start(t), in.start(t)
	owner := a.organisation(t, "Owner")
	agent := a.agent(t, owner)
	says := func(token string) answer {
		return b.call(t, "POST", "/api/v1/audit/events", "", map[string]any{"action": "x"}, "X-Agent-Token", token)
	}
	says(agent.token).want(t, http.StatusOK)
	must(t, a.RevokeSigningKey(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), kidOf(t, agent.token)))
	says(agent.token).want(t, http.StatusUnauthorized)
	says(a.agent(t, owner).token).want(t, http.StatusOK)
}

// kidOf is the key that a token says it is signed with.
func kidOf(t testing.TB, token string) string {
	t.Helper()
	part, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	must(t, err)
	var header struct{ KID string }
	must(t, json.Unmarshal(text, &header))
	return header.KID
}
