package vault

import (
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestAgentIsOfTheItemsEpoch: what a server remembers of an agent does not count for an item that it reads later, after another server took
// the scope away; the append would compare the item's epoch alone.
func TestAgentIsOfTheItemsEpoch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.server(t, h.Another(t))
	known, unknown := h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID
	b := h.robot(t, "read:codes")
	h.grant(t, known, b.actor(), ForCode)
	h.grant(t, unknown, b.actor(), ForCode)
	_, err := other.ask(t, h, b, known, "") // which remembers the agent
	must(t, err)
	_, err = h.agents.SetScopes(t.Context(), h.Caller(h.acme, tenantdb.Everything), b.id, "", []string{"use:secrets"})
	must(t, err)
	c, err := other.ask(t, h, b, unknown, "")
	if refused(t, "without the scope", err, problem.Denied, "The agent lacks the scope read:codes."); c.Code != "" {
		t.Errorf("it got %+v", c)
	}
}
