package e2e

import (
	"encoding/base64"
	"encoding/json"
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
		other := a.agent(t, a.organisation(t, "Another"), "read:email")
		if b.ask(t, key, known.token).Body["allowed"] != true {
			t.Fatal("the token is not allowed before")
		}
		must(t, a.RevokeSigningKey(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), kidOf(t, known.token)))
		for what, token := range map[string]string{"an agent that it knows": known.token, "an agent that it does not": unknown.token, "an owner that it does not": other.token} {
			if got := b.ask(t, key, token); got.text("decision") != "REVOKED" || got.Body["allowed"] != false {
				t.Errorf("round %d: %s: %s", round, what, got.Raw)
			}
		}
	}
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
