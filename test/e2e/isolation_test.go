package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/server"
)

// exposed is an organisation with one of everything, and the words by which any of it would be known.
type exposed struct {
	party
	agent      registered
	key, keyID string
	request    string
	words      []string
}

func (n *node) exposed(t testing.TB) exposed {
	t.Helper()
	v := exposed{party: n.organisation(t, "Victim's name")}
	n.call(t, "POST", "/api/v1/scopes", v.party.key, map[string]any{"name": "guard:victim", "risk": "low", "description": "victim's scope"}).want(t, http.StatusCreated)
	v.agent = n.agent(t, v.party, "guard:victim", "read:email")
	hide := n.call(t, "PATCH", "/api/v1/agents/"+v.agent.id, v.party.key, map[string]any{"visibility": "none", "name": "victim's agent"}).want(t, http.StatusOK)
	v.request = hide.Header.Get("X-Request-Id")
	v.key, v.keyID = n.serviceKey(t, v.party, map[string]any{"name": "victim's key"})
	proof := n.call(t, "GET", "/api/v1/audit/proofs/0", v.party.key, nil).want(t, http.StatusOK)
	v.words = []string{v.id.String(), "ictim", v.agent.id, v.agent.jti, v.agent.token, v.keyID, v.key, v.party.key, proof.text("log_id"), proof.text("leaf")}
	return v
}

// shows fails if an answer holds anything of the organisation's, but for what the question held already.
func (v exposed) shows(t testing.TB, a answer) {
	t.Helper()
	for _, word := range v.words {
		if bytes.Contains(a.Raw, []byte(word)) && !strings.Contains(a.asked, word) {
			t.Errorf("%s shows %s: %.400s", a.asked, word, a.Raw)
		}
	}
}

// operation is a line of the published description.
type operation struct {
	id, method, path string
	open             bool // to everybody
	body             bool
}

func (n *node) operations(t testing.TB) (all []operation) {
	t.Helper()
	for path, methods := range n.call(t, "GET", "/openapi.json", "", nil).want(t, http.StatusOK).Body["paths"].(map[string]any) {
		for method, described := range methods.(map[string]any) {
			d := described.(map[string]any)
			all = append(all, operation{d["operationId"].(string), strings.ToUpper(method), path, d["security"] == nil, d["requestBody"] != nil})
		}
	}
	return all
}

// goodBodies would be taken if the object were the asker's own.
func (v exposed) goodBodies() map[string]any {
	return map[string]any{
		"update-agent": map[string]any{"visibility": "all"}, "set-agent-scopes": map[string]any{"scopes": []string{"read:email"}}, "issue-token": map[string]any{},
		"update-key": map[string]any{"name": "taken"}, "update-organisation": map[string]any{"name": "Taken"}, "create-key": map[string]any{"name": "mine", "kind": "service"},
		"register-agent": map[string]any{"name": "mine"}, "add-scope": map[string]any{"name": "do:mine", "risk": "low", "description": "x"}, "sign-up": map[string]any{"name": "Third"},
		"state-audit-events": map[string]any{"action": "x"}, "rotate-key": map[string]any{"overlap_seconds": 60}, "revoke-key": map[string]any{"children": true}, "put-key-owner": map[string]any{"max_keys": 2},
		"create-group": map[string]any{"name": "mine"}, "update-group": map[string]any{"name": "taken"}, "create-role": map[string]any{"name": "mine", "capabilities": []string{"agents:read"}},
		"update-role": map[string]any{"description": "taken"}, "create-invitation": map[string]any{"address": "thief@elsewhere.example", "roles": []string{"viewer"}},
		"update-member": map[string]any{"name": "taken"}, "update-me": map[string]any{"name": "mine"}, "adopt-person": map[string]any{"managed": false}, "update-rules": map[string]any{"retention_days": 0},
		"transfer-organisation": map[string]any{"to": v.agent.id}, "delete-organisation": map[string]any{"confirm": "Victim's name"},
		"confirm-deletion": map[string]any{"confirm": "Victim's name"},
		"ask-break-glass":  map[string]any{"reason": "only to have a look", "capabilities": []string{"agents:write"}}, "review-break-glass": map[string]any{"remark": "nothing was wrong with it"},
		"sign-break-glass-week": map[string]any{"remark": "nothing was wrong with it"}, "begin-factor": map[string]any{"kind": "totp", "name": "mine"}, "confirm-factor": map[string]any{"code": "000000"},
		"rename-factor": map[string]any{"name": "mine"}, "set-password": map[string]any{"new": "a password of the thief's"}, "change-address": map[string]any{"address": "thief@elsewhere.example"},
		"confirm-address": map[string]any{"link": "x"}, "prove-yourself": map[string]any{"do": "begin"}, "prove-by-sso": map[string]any{"connection_id": v.agent.id},
		"create-connection": map[string]any{"kind": "oidc", "name": "mine", "oidc": map[string]any{"issuer": "https://idp.thief.example", "client_id": "x"}},
		"update-connection": map[string]any{"name": "taken"}, "create-domain": map[string]any{"domain": "thief.example"}, "update-domain": map[string]any{},
		"add-vault-item": map[string]any{"name": "mine", "type": "totp", "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}, "update-vault-item": map[string]any{"name": "taken"},
		"replace-vault-secret": map[string]any{"secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}, "resync-vault-item": map[string]any{"counter": 5}, "grant-vault-item": map[string]any{"agent_id": v.agent.id},
		"request-vault-item": map[string]any{"reason": "the pager went off"}, "import-vault": map[string]any{"format": "uri", "data": "otpauth://totp/mine?secret=JBSWY3DPEHPK3PXP", "dry_run": true},
		"export-vault": map[string]any{"items": []string{v.agent.id}, "reason": "to see", "clear": true}, "use-vault-secret": map[string]any{"url": "https://elsewhere.example/"},
		"set-kms":    map[string]any{"kind": "transit", "transit": map[string]any{"address": "https://kms.thief.example", "key": "mine", "token": "s.token"}},
		"verify-key": map[string]any{"key": v.key}, "import-keys": map[string]any{"keys": []any{map[string]any{"hash": strings.Repeat("ab", 32), "name": "mine"}}},
	}
}

// TestOthersCredentials walks every operation with each sort of credential that another organisation has (its owner's key
// is server.TestOtherTenantGetsNothing), with the ids of the victim's things.
func TestOthersCredentials(t *testing.T) {
	t.Parallel()
	n := install(t).start(t)
	v, thief := n.exposed(t), n.organisation(t, "Thief")
	service, _ := n.serviceKey(t, thief, map[string]any{"scopes": []string{"verify", "read:identity", "agents:read", "agents:write", "audit:read", "audit:write", "organisation:read"}})
	before := n.call(t, "GET", "/api/v1/agents/"+v.agent.id, v.party.key, nil).want(t, http.StatusOK)
	bodies := v.goodBodies()
	for what, credential := range map[string][]string{
		"a service key": {"Authorization", "Bearer " + service}, "an agent's token": {"X-Agent-Token", n.agent(t, thief).token}, "a key in another header": {"X-API-Key", service},
		"the victim's token, damaged": {"X-Agent-Token", v.agent.token[:len(v.agent.token)-4] + "AAAA"},
	} {
		for _, o := range n.operations(t) {
			// What a verification tells is verify.TestAnswerTellsNothingOfTheOwnersLog; the thief's log has the token's own words.
			if o.open || o.id == "verify" || strings.HasSuffix(o.path, "/stream") {
				continue
			}
			id := v.agent.id
			switch {
			case strings.Contains(o.path, "/keys/"):
				id = v.keyID
			case strings.Contains(o.path, "/requests/"):
				id = v.request
			}
			path := strings.NewReplacer("{id}", id, "{session_id}", id, "{person_id}", id, "{owner}", "user_17", "{jti}", v.agent.jti, "{seq}", "1000000").Replace(o.path)
			if o.body && bodies[o.id] == nil {
				t.Errorf("%s: say here what a good request is", o.id)
			}
			a := n.call(t, o.method, path, "", bodies[o.id], append(credential, "If-Match", `"1"`)...)
			v.shows(t, a)
			if refused := a.Status == 401 || a.Status == 403 || a.Status == 404; strings.Contains(o.path, "{") && !refused {
				t.Errorf("%s with %s: %d %.300s", o.id, what, a.Status, a.Raw)
			}
			if a.Status >= 500 {
				t.Errorf("%s with %s: %d", o.id, what, a.Status)
			}
		}
	}
	if after := n.call(t, "GET", "/api/v1/agents/"+v.agent.id, v.party.key, nil); string(after.Raw) != string(before.Raw) {
		t.Errorf("the victim's agent became %s", after.Raw)
	}
}

// TestOthersPlaces: a cursor, a filter and an Idempotency-Key of one organisation lead nowhere in another.
func TestOthersPlaces(t *testing.T) {
	t.Parallel()
	n := install(t).start(t)
	v, thief := n.exposed(t), n.organisation(t, "Thief")
	n.agent(t, v.party)
	n.serviceKey(t, v.party, nil)
	for path, list := range map[string]string{"/api/v1/agents": "agents", "/api/v1/keys": "keys", "/api/v1/audit/entries": "entries", "/api/v1/scopes": "scopes"} {
		page := n.call(t, "GET", path+"?limit=1", v.party.key, nil).want(t, http.StatusOK)
		cursor := page.text("next_cursor")
		if cursor == "" {
			t.Fatalf("%s has no second page: %s", path, page.Raw)
		}
		a := n.call(t, "GET", path+"?cursor="+cursor, thief.key, nil)
		v.shows(t, a)
		if all, _ := a.Body[list].([]any); path == "/api/v1/agents" && len(all) != 0 {
			t.Errorf("%s has %d things of nobody", path, len(all))
		}
	}
	for _, filter := range []string{"actor=" + v.keyID, "target=" + v.agent.id, "request_id=" + v.request} {
		a := n.call(t, "GET", "/api/v1/audit/entries?"+filter, thief.key, nil).want(t, http.StatusOK)
		if all := a.Body["entries"].([]any); len(all) != 0 {
			t.Errorf("%s finds %s", filter, a.Raw)
		}
	}
	register := func(p party) answer {
		return n.call(t, "POST", "/api/v1/agents/register", p.key, map[string]any{"name": "the same"}, "Idempotency-Key", "the-same").want(t, http.StatusCreated)
	}
	first, theirs, again := register(v.party), register(thief), register(v.party)
	if theirs.text("token") == first.text("token") || theirs.Header.Get("Idempotency-Replayed") != "" || again.text("token") != first.text("token") {
		t.Error("an Idempotency-Key of one organisation is another's, or not its own")
	}
}

// TestReusedRequestID: the caller's own request id is for its eyes. Used again and again, also by another organisation, it
// suppresses no answer and no entry.
func TestReusedRequestID(t *testing.T) {
	t.Parallel()
	n := install(t).start(t)
	owner, service := n.organisation(t, "Owner"), n.organisation(t, "Service")
	key, _ := n.serviceKey(t, service, nil)
	agent := n.agent(t, owner, "read:email")
	const id, times = "00000000-0000-7000-8000-000000000001", 12
	seen := map[string]bool{}
	for range times {
		for _, k := range []string{key, owner.key} {
			a := n.call(t, "POST", "/api/v1/verify", k, map[string]any{"token": agent.token}, "X-Request-Id", id).want(t, http.StatusOK)
			seen[a.text("request_id")] = true
			n.call(t, "POST", "/api/v1/audit/events", k, map[string]any{"action": "x"}, "X-Request-Id", id).want(t, http.StatusOK)
		}
	}
	if len(seen) != 2*times || seen[id] {
		t.Errorf("%d requests have %d ids", 2*times, len(seen))
	}
	for who, p := range map[string]struct {
		party
		verified int
	}{"owner": {owner, 2 * times}, "service": {service, times}} {
		count := map[string]int{}
		for _, e := range n.entries(t, p.party) {
			count[e["type"].(string)]++
		}
		if count["agent.verified"] != p.verified || count["statement"] != times {
			t.Errorf("the %s's log has %v", who, count)
		}
	}
}

// entries is the newest 200 of an organisation's log.
func (n *node) entries(t testing.TB, p party) (all []map[string]any) {
	t.Helper()
	for _, e := range n.call(t, "GET", "/api/v1/audit/entries?limit=200", p.key, nil).want(t, http.StatusOK).Body["entries"].([]any) {
		all = append(all, e.(map[string]any))
	}
	return all
}

// TestConnectionsMixNothing: organisations that share two connections, asking at once, see each their own, whoever had the
// connection before.
func TestConnectionsMixNothing(t *testing.T) {
	t.Parallel()
	n := install(t).start(t, func(c *server.Config) { c.DatabaseConnections = 2 })
	parties := make([]exposed, 6)
	for i := range parties {
		parties[i] = n.exposed(t)
		parties[i].words = []string{parties[i].id.String(), parties[i].agent.id, parties[i].keyID, parties[i].agent.jti}
	}
	var all sync.WaitGroup
	for i, me := range parties {
		all.Go(func() {
			for range 10 {
				var seen []byte
				for _, path := range []string{"/api/v1/agents", "/api/v1/keys", "/api/v1/organisation", "/api/v1/agents/" + me.agent.id + "/tokens", "/api/v1/audit/entries"} {
					seen = append(seen, n.call(t, "GET", path, me.party.key, nil).want(t, http.StatusOK).Raw...)
				}
				for j, other := range parties {
					for _, word := range other.words {
						if bytes.Contains(seen, []byte(word)) != (i == j) {
							t.Errorf("organisation %d sees of %d: %t", i, j, i != j)
						}
					}
				}
			}
		})
	}
	all.Wait()
}

// TestAgentToken: an agent speaks for itself with X-Agent-Token, and only to say what it did; a token that is for another
// service proves nothing to Avouch, and no token is a key.
func TestAgentToken(t *testing.T) {
	t.Parallel()
	n := install(t).start(t)
	owner := n.organisation(t, "Owner")
	agent := n.agent(t, owner)
	event := map[string]any{"action": "mail.sent"}
	n.call(t, "POST", "/api/v1/audit/events", "", event, "X-Agent-Token", agent.token).want(t, http.StatusOK)
	n.call(t, "POST", "/api/v1/audit/events", agent.token, event).want(t, http.StatusOK)
	stated := n.entries(t, owner)[0]
	if actor := fmt.Sprint(stated["actor"]); !strings.Contains(actor, agent.id) || stated["outcome"] != "stated" {
		t.Errorf("the log says %v", stated)
	}
	bound := n.call(t, "POST", "/api/v1/agents/"+agent.id+"/tokens", owner.key, map[string]any{"resources": []string{"elsewhere"}}).want(t, http.StatusCreated).text("token")
	n.call(t, "POST", "/api/v1/audit/events", "", event, "X-Agent-Token", bound).want(t, http.StatusUnauthorized)
	n.call(t, "GET", "/api/v1/agents", "", nil, "X-Agent-Token", agent.token).want(t, http.StatusForbidden)
	n.call(t, "POST", "/api/v1/verify", "", map[string]any{"token": agent.token}, "X-Agent-Token", agent.token).want(t, http.StatusUnauthorized)
	n.call(t, "POST", "/api/v1/verify", agent.token, map[string]any{"token": agent.token}).want(t, http.StatusUnauthorized)
}
