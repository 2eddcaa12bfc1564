package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/tenantdb"
)

// rfcSeed is the secret of RFC 6238's vectors for SHA-1, in base32.
const rfcSeed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// robot is an agent of a party, with scopes, and a token of it.
func (n *live) robot(t testing.TB, p party, scopes ...string) (id, token string) {
	t.Helper()
	a := n.call(t, ask{Method: "POST", Path: "/api/v1/agents/register", Key: p.key, Body: map[string]any{"name": "Robot", "capabilities": scopes}}).want(t, http.StatusCreated)
	return a.text("agent_id"), a.text("token")
}

// TestVault goes the way of an item: put in, granted to an agent, fetched by it, revoked.
func TestVault(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	made := n.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: acme.key, Body: map[string]any{
		"name": "AWS root", "uri": "otpauth://totp/AWS:root?secret=" + rfcSeed + "&issuer=AWS&digits=8", "folder": "cloud", "tags": []string{"root", "aws"},
	}}).want(t, http.StatusCreated)
	item := "/api/v1/vault/items/" + made.text("item_id")
	if made.text("name") != "AWS root" || made.text("issuer") != "AWS" || made.text("type") != "totp" || strings.Contains(made.Raw, rfcSeed) {
		t.Errorf("made: %s", made.Raw)
	}
	code := n.get(t, item+"/code", acme.key).want(t, 200)
	if len(code.text("code")) != 8 || code.Body["period"] != 30.0 || code.Body["expires_in"].(float64) < 1 || code.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("code: %s", code.Raw)
	}
	id, token := n.robot(t, acme, "read:codes")
	as := func(token string) answer { return n.call(t, ask{Method: "POST", Path: item + "/code", Key: token}) }
	as(token).want(t, http.StatusForbidden)
	g := n.call(t, ask{Method: "POST", Path: item + "/grants", Key: acme.key, Body: map[string]any{"agent_id": id}}).want(t, http.StatusCreated)
	got := as(token).want(t, 200)
	scheme := otp.Scheme{Algorithm: otp.SHA1, Digits: 8, Period: 30}
	now := scheme.Step(n.now())
	if c := got.text("code"); c != scheme.Code([]byte("12345678901234567890"), uint64(now)) && c != scheme.Code([]byte("12345678901234567890"), uint64(now-1)) {
		t.Errorf("the agent's code: %s", got.Raw)
	}
	_, unable := n.robot(t, acme, "read:email")
	as(unable).want(t, http.StatusForbidden)
	_, foreign := n.robot(t, other, "read:codes")
	as(foreign).want(t, http.StatusNotFound)
	as(other.key).want(t, http.StatusNotFound)
	as("").want(t, http.StatusUnauthorized)
	n.get(t, item, other.key).want(t, http.StatusNotFound)
	uses := n.get(t, item+"/uses", acme.key).want(t, 200)
	if list := uses.Body["uses"].([]any); len(list) != 2 || list[0].(map[string]any)["kind"] != "agent" || list[0].(map[string]any)["by"] != id {
		t.Errorf("uses: %s", uses.Raw)
	}
	n.call(t, ask{Method: "POST", Path: item + "/grants/" + g.text("grant_id") + "/revoke", Key: acme.key}).want(t, 200)
	as(token).want(t, http.StatusForbidden)
	listed := n.get(t, "/api/v1/vault/items?folder=cloud&tag=aws&q=aws", acme.key).want(t, 200)
	if len(listed.Body["items"].([]any)) != 1 {
		t.Errorf("listed: %s", listed.Raw)
	}
	n.call(t, ask{Method: "DELETE", Path: item, Key: acme.key, Header: map[string]string{"If-Match": made.Header.Get("ETag")}}).want(t, http.StatusNoContent)
	n.get(t, item+"/code", acme.key).want(t, http.StatusNotFound)
}

// TestNoticeOfItemThatIsGone: who takes a seed out and deletes the item at once does not keep the owners from being told.
func TestNoticeOfItemThatIsGone(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	const gone = "01a2029e-0686-7f37-b0e5-671e55b4fb90"
	if item, kind, err := (notice{s: n.Server, c: tenantdb.System(acme.id, "notice")}).vaultItem(t.Context(), gone); err != nil || item.ID != gone || item.Name == "" || kind != "" {
		t.Errorf("%+v, %q, %v", item, kind, err)
	}
}
