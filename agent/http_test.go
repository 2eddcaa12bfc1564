package agent

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// wire is the room behind its routes. The key of a request says what its sender may do; "other" is another organisation's.
func (h *house) wire(t testing.TB) http.Handler {
	t.Helper()
	other := h.Caller(h.Tenant(t, "Other"), tenantdb.Everything)
	api := h.API(func(r *http.Request, _ web.RequestMeta) (tenantdb.Caller, error) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch key {
		case "":
			return tenantdb.Caller{}, problem.New(problem.Unauthenticated, "Send a key.")
		case "other":
			return other, nil
		}
		return h.Caller(h.tenant, key), nil
	})
	h.room.Routes(api)
	return api
}

func TestRegisterOnTheWire(t *testing.T) {
	t.Parallel()
	h := open(t)
	api := h.wire(t)
	p256 := goodKey(t, "P-256")
	ed := goodKey(t, "Ed25519")
	public, err := ed.jwk()
	must(t, err)
	body := map[string]any{
		"name": "Robin", "description": "reads", "capabilities": []string{"read:email"}, "signing_key_pub": string(pemOf(t, publicOf("P-256"))), "key_algorithm": "ES256",
		"keys": []any{map[string]any{"use": "web-bot-auth", "jwk": public}},
	}
	q := doortest.Request{Method: "POST", Path: "/api/v1/agents/register", Key: "agents:write", Body: body, Header: map[string]string{"Idempotency-Key": "once"}}
	a := doortest.Call(t, api, q)
	if a.Status != http.StatusCreated || a.Header.Get("ETag") != `"1"` || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	claims, err := h.room.Checker().Check(t.Context(), a.Body["token"].(string), h.clock.now())
	must(t, err)
	if a.Body["did"] != claims.Subject || a.Body["agent_id"] != claims.Agent.String() || a.Body["token_expires_at"] != claims.Expires.Format(time.RFC3339) ||
		a.Body["created_at"] == nil || a.Body["jti"] != claims.JTI.String() {
		t.Errorf("%v beside %+v", a.Body, claims)
	}
	if again := doortest.Call(t, api, q); again.Raw != a.Raw || len(h.OfType(t, h.tenant, "agent.registered")) != 1 {
		t.Error("the same request again made another agent")
	}
	got := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/agents/" + claims.Agent.String(), Key: "agents:read"})
	if keys, _ := json.Marshal(got.Body["keys"]); !strings.Contains(string(keys), p256.KID) || !strings.Contains(string(keys), ed.KID) || strings.Contains(got.Raw, "eyJ") {
		t.Errorf("%s", got.Raw)
	}
	for name, change := range map[string]func(map[string]any){
		"body.signing_key_pub": func(b map[string]any) { b["signing_key_pub"] = badPEMs(t)["PKCS #8"] },
		"body.key_algorithm":   func(b map[string]any) { delete(b, "signing_key_pub") },
		"body.keys[0]":         func(b map[string]any) { b["keys"] = []any{map[string]any{"use": "signing"}} },
		"body.keys[1]": func(b map[string]any) {
			b["keys"] = []any{map[string]any{"jwk": public}, map[string]any{"pem": badPEMs(t)["certificate"]}}
		},
		"body.keys[0].use":  func(b map[string]any) { b["keys"] = []any{map[string]any{"use": "other", "jwk": public}} },
		"body.capabilities": func(b map[string]any) { b["capabilities"] = []string{"fly:plane"} },
		"body.name":         func(b map[string]any) { b["name"] = "" },
		"body.nonsense":     func(b map[string]any) { b["nonsense"] = 1 },
	} {
		bad := map[string]any{}
		for k, v := range body {
			bad[k] = v
		}
		change(bad)
		a := doortest.Call(t, api, doortest.Request{Method: "POST", Path: "/api/v1/agents/register", Key: "agents:write", Body: bad})
		if a.Status != http.StatusBadRequest || !strings.Contains(a.Raw, `"`+name+`"`) {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
}

// TestEveryRoute calls each route with the capability, without it, without a key, and as another organisation.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	h := open(t)
	api := h.wire(t)
	a, token := h.register(t, "read:email")
	one := "/api/v1/agents/" + a.ID.String()
	for _, c := range []struct {
		method, path, may string
		body              any
		status            int
	}{
		{"GET", "/api/v1/agents", mayRead, nil, 200},
		{"GET", one, mayRead, nil, 200},
		{"PATCH", one, mayWrite, map[string]any{"name": "Robin II"}, 200},
		{"PUT", one + "/scopes", mayWrite, map[string]any{"scopes": []string{"browse:web"}}, 200},
		{"POST", one + "/suspend", mayWrite, nil, 200},
		{"POST", one + "/resume", mayWrite, map[string]any{}, 200},
		{"POST", one + "/tokens", mayWrite, map[string]any{"resources": []string{"x"}, "lifetime_seconds": 300, "max_uses": 2}, 201},
		{"GET", one + "/tokens", mayRead, nil, 200},
		{"POST", one + "/tokens/" + token.JTI.String() + "/revoke", mayWrite, nil, 200},
		{"POST", one + "/tokens/revoke-all", mayWrite, nil, 200},
		{"POST", one + "/revoke", mayWrite, nil, 200},
	} {
		ask := func(key string) doortest.Answer {
			return doortest.Call(t, api, doortest.Request{Method: c.method, Path: c.path, Key: key, Body: c.body})
		}
		if x := ask(""); x.Status != http.StatusUnauthorized {
			t.Errorf("%s %s without a key: %d", c.method, c.path, x.Status)
		}
		if x := ask("verify"); x.Status != http.StatusForbidden {
			t.Errorf("%s %s without the capability: %d", c.method, c.path, x.Status)
		}
		if x := ask("other"); c.path != "/api/v1/agents" && x.Status != http.StatusNotFound {
			t.Errorf("%s %s as another: %d", c.method, c.path, x.Status)
		}
		if x := ask(c.may); x.Status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, x.Status, x.Raw)
		}
		if x := ask(c.may); c.status == 200 && c.method == "POST" && x.Status != http.StatusConflict && !strings.HasSuffix(c.path, "-all") {
			t.Errorf("%s %s twice: %d", c.method, c.path, x.Status)
		}
	}
}

func TestOddRequests(t *testing.T) {
	t.Parallel()
	h := open(t)
	api := h.wire(t)
	a, _ := h.register(t, "read:email")
	one := "/api/v1/agents/" + a.ID.String()
	for _, c := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", "/api/v1/agents/nonsense", nil, 400},
		{"GET", "/api/v1/agents?status=odd", nil, 400},
		{"GET", "/api/v1/agents?cursor=odd", nil, 400},
		{"GET", "/api/v1/agents?limit=0", nil, 400},
		{"PUT", one + "/scopes", map[string]any{}, 400},
		{"PUT", one + "/scopes", map[string]any{"scopes": nil}, 400},
		{"PUT", one + "/scopes", map[string]any{"scopes": []any{nil}}, 400},
		{"PATCH", one, map[string]any{"visibility": "some"}, 400},
		{"PATCH", one, map[string]any{"visibility": "listed", "visible_to": []string{"x"}}, 400},
		{"PATCH", one, map[string]any{"status": "active"}, 400},
		{"POST", one + "/tokens", map[string]any{"lifetime_seconds": 299}, 400},
		{"POST", one + "/tokens", map[string]any{"lifetime_seconds": 86401}, 400},
		{"POST", one + "/tokens", map[string]any{"lifetime_seconds": 3600.5}, 400},
		{"POST", one + "/tokens", map[string]any{"max_uses": 0}, 400},
		{"POST", one + "/tokens", map[string]any{"max_uses": 1e18}, 400},
		{"POST", one + "/tokens/nonsense/revoke", nil, 400},
		{"DELETE", one, nil, 405},
	} {
		if x := doortest.Call(t, api, doortest.Request{Method: c.method, Path: c.path, Key: "*", Body: c.body}); x.Status != c.status {
			t.Errorf("%s %s %v: %d %s", c.method, c.path, c.body, x.Status, x.Raw)
		}
	}
	if got, err := h.room.Get(t.Context(), h.owner, a.ID); err != nil || got.Version != 1 {
		t.Errorf("something has changed: %v, version %d", err, got.Version)
	}
	stale := doortest.Request{Method: "PUT", Path: one + "/scopes", Key: "*", Body: map[string]any{"scopes": []string{}}, Header: map[string]string{"If-Match": `"9"`}}
	if x := doortest.Call(t, api, stale); x.Status != http.StatusPreconditionFailed {
		t.Errorf("an old version: %d", x.Status)
	}
}

func TestListsGoOn(t *testing.T) {
	t.Parallel()
	h := open(t)
	api := h.wire(t)
	made := map[string]bool{}
	var last Agent
	for range 7 {
		h.clock.forward(time.Second)
		last, _ = h.register(t)
		made[last.ID.String()] = true
	}
	_, err := h.room.Suspend(t.Context(), h.owner, last.ID)
	must(t, err)
	collect := func(path, list, name string) (seen []string) {
		t.Helper()
		for cursor := ""; ; {
			a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: path + cursor, Key: "agents:read"})
			if a.Status != http.StatusOK {
				t.Fatalf("%s: %s", path, a.Raw)
			}
			for _, x := range a.Body[list].([]any) {
				seen = append(seen, x.(map[string]any)[name].(string))
			}
			next, more := a.Body["next_cursor"].(string)
			if !more {
				return seen
			}
			cursor = "&cursor=" + next
		}
	}
	seen := collect("/api/v1/agents?limit=3", "agents", "agent_id")
	for _, id := range seen {
		delete(made, id)
	}
	if len(seen) != 7 || len(made) != 0 || seen[0] != last.ID.String() {
		t.Errorf("seen %v, missed %v", seen, made)
	}
	if found := collect("/api/v1/agents?limit=1&status=suspended", "agents", "agent_id"); len(found) != 1 || found[0] != last.ID.String() {
		t.Errorf("suspended: %v", found)
	}
	if found := collect("/api/v1/agents?limit=2&status=active", "agents", "agent_id"); len(found) != 6 {
		t.Errorf("active: %v", found)
	}
	tokens := "/api/v1/agents/" + seen[1] + "/tokens?limit=2"
	id, err := ParseID(seen[1])
	must(t, err)
	for range 4 {
		_, err := h.room.Issue(t.Context(), h.owner, id, Wish{Lifetime: MinLifetime})
		must(t, err)
	}
	all := collect(tokens, "tokens", "jti")
	jti, err := ParseTokenID(all[0])
	must(t, err)
	_, err = h.room.RevokeToken(t.Context(), h.owner, id, jti)
	must(t, err)
	h.clock.forward(MinLifetime)
	live, revoked, expired := collect(tokens+"&status=live", "tokens", "status"), collect(tokens+"&status=revoked", "tokens", "status"), collect(tokens+"&status=expired", "tokens", "status")
	if len(all) != 5 || len(live) != 1 || len(revoked) != 1 || len(expired) != 3 || live[0] != "live" || expired[0] != "expired" || revoked[0] != "revoked" {
		t.Errorf("tokens: %v, live %v, revoked %v, expired %v", all, live, revoked, expired)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	h := open(t)
	api := h.wire(t)
	a, _, err := h.room.Register(t.Context(), h.owner, Registration{Name: "Secret Robin", Description: "reads", Scopes: []string{"read:email"}, Keys: []PublicKey{goodKey(t, "P-256")}})
	must(t, err)
	path := "/agents/" + a.ID.String() + "/did.json"
	get := func(header map[string]string) doortest.Answer {
		return doortest.Call(t, api, doortest.Request{Method: "GET", Path: path, Header: header})
	}
	first := get(nil)
	if first.Status != http.StatusOK || first.Header.Get("Content-Type") != didType || first.Header.Get("Cache-Control") != "public, max-age=600" {
		t.Fatalf("%d %v", first.Status, first.Header)
	}
	if first.Body["id"] != mustIssuer(t, testIssuer).DID(a.ID) || !strings.Contains(first.Raw, a.Keys[0].KID) {
		t.Errorf("%s", first.Raw)
	}
	for _, word := range []string{"Robin", "reads", "email", h.tenant.String(), "Acme"} {
		if strings.Contains(first.Raw, word) {
			t.Errorf("the document tells %q", word)
		}
	}
	if x := get(map[string]string{"If-None-Match": first.Header.Get("ETag")}); x.Status != http.StatusNotModified || x.Raw != "" {
		t.Errorf("unchanged: %d", x.Status)
	}
	for _, other := range []string{"/agents/01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0e/did.json", "/agents/nonsense/did.json"} {
		if x := doortest.Call(t, api, doortest.Request{Method: "GET", Path: other}); x.Status != http.StatusNotFound {
			t.Errorf("%s: %d", other, x.Status)
		}
	}
	for visibility, status := range map[Visibility]int{VisibleToNone: http.StatusNotFound, VisibleToListed: http.StatusOK} {
		_, err := h.room.Update(t.Context(), h.owner, a.ID, "", Edit{Visibility: &visibility})
		must(t, err)
		if x := get(nil); x.Status != status {
			t.Errorf("visible to %s: %d", visibility, x.Status)
		}
	}
	all := VisibleToAll
	must(t, second(h.room.Update(t.Context(), h.owner, a.ID, "", Edit{Visibility: &all})))
	must(t, second(h.room.Revoke(t.Context(), h.owner, a.ID)))
	if x := get(nil); x.Status != http.StatusOK || x.Body["deactivated"] != true || strings.Contains(x.Raw, a.Keys[0].KID) {
		t.Errorf("revoked: %d %s", x.Status, x.Raw)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	meta := web.RequestMeta{CallerRequestID: "mine"}
	try := func(token Issued) error {
		_, err := h.room.Authenticate(ctx, token.Token.Expose(), meta)
		return err
	}
	allow := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	deny := func(what string, err error) { t.Helper(); wantKind(t, what, err, problem.Unauthenticated) }
	a, first := h.register(t)
	issue := func(w Wish) Issued {
		t.Helper()
		token, err := h.room.Issue(ctx, h.owner, a.ID, w)
		must(t, err)
		return token
	}
	c, err := h.room.Authenticate(ctx, first.Token.Expose(), meta)
	must(t, err)
	if c.Tenant() != h.tenant || c.Actor().ID != a.ID.String() || c.Actor().Kind != "agent" || len(c.Scopes()) != 1 || !c.May("audit:write") || c.May("agents:read") {
		t.Errorf("the caller %+v may %v", c.Actor(), c.Scopes())
	}
	deny("bound elsewhere", try(issue(Wish{Resources: []string{"x"}})))
	allow("bound here too", try(issue(Wish{Resources: []string{"x", testIssuer}})))
	deny("garbage", second(h.room.Authenticate(ctx, "x.y.z", meta)))
	deny("forged", second(h.room.Authenticate(ctx, first.Token.Expose()[:len(first.Token.Expose())-86]+strings.Repeat("A", 86), meta)))
	short := issue(Wish{Lifetime: MinLifetime})
	allow("short", try(short))
	h.clock.forward(MinLifetime)
	deny("expired", try(short))
	limited := issue(Wish{MaxUses: 1})
	allow("unused", try(limited))
	h.Admin(t, `UPDATE avouch.counter SET used = 1 WHERE subject = $1`, "token:"+limited.JTI.String())
	deny("used up", try(limited))
	must(t, second(h.room.Suspend(ctx, h.owner, a.ID)))
	deny("suspended agent", try(first))
	must(t, second(h.room.Resume(ctx, h.owner, a.ID)))
	allow("resumed", try(first))
	h.set(t, `UPDATE avouch.organisation SET suspended_at = $1`, h.clock.now())
	deny("suspended owner", try(first))
	_, err = h.room.Issue(ctx, h.owner, a.ID, Wish{})
	wantKind(t, "a token of a suspended owner", err, problem.Denied)
	_, _, err = h.room.Register(ctx, h.owner, Registration{Name: "x"})
	wantKind(t, "an agent of a suspended owner", err, problem.Denied)
	h.set(t, `UPDATE avouch.organisation SET suspended_at = $1`, nil)
	must(t, second(h.room.RevokeToken(ctx, h.owner, a.ID, first.JTI)))
	deny("revoked token", try(first))
	fresh := issue(Wish{})
	allow("fresh", try(fresh))
	_, _, err = h.room.RevokeTokens(ctx, h.owner, a.ID)
	must(t, err)
	deny("revoked with all", try(fresh))
	last := issue(Wish{})
	must(t, second(h.room.Revoke(ctx, h.owner, a.ID)))
	deny("revoked agent", try(last))
	if err := try(last); strings.Contains(err.Error(), last.Token.Expose()) {
		t.Error("the error holds the token")
	}
}
