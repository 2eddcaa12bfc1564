package verify

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

const (
	itIs   = "The agent is who it says it is"
	reads  = "The agent has the scopes: read:email"
	noKey  = http.StatusUnauthorized
	signer = "The key that signed the token has been revoked"
)

// TestEveryChangeOnAnotherServer makes every change on one server and asks the other, which had remembered what was before,
// at once. e2e.TestRevocationHasNoWindowSoak does it under load.
func TestEveryChangeOnAnotherServer(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	ctx := t.Context()
	a, token := h.agent(t, "read:email")
	q := Request{Token: token, TargetResource: "ships", ScopesRequested: []string{"read:email"}}
	key, id := h.newKey(t, h.service, apikey.NewKey{})
	system, serviceSystem := tenantdb.System(h.owner.Tenant(), "operator"), tenantdb.System(h.service.Tenant(), "operator")
	change := func(_ any, err error) { t.Helper(); must(t, err) }
	expect := func(d Decision, reason string) {
		t.Helper()
		got := other.ask(t, key, q)
		if got.Body["decision"] != string(d) || got.Body["reason"] != reason {
			t.Errorf("%d %s\nwant %s: %s", got.Status, got.Raw, d, reason)
		}
	}
	refused := func() {
		t.Helper()
		if got := other.ask(t, key, q); got.Status != noKey {
			t.Errorf("answered %d %s", got.Status, got.Raw)
		}
	}
	expect(Allowed, reads)
	change(h.agents.SetScopes(ctx, h.owner, a.ID, "", []string{"browse:web"}))
	expect(Denied, "Agent lacks required scopes: read:email")
	change(h.agents.SetScopes(ctx, h.owner, a.ID, "", []string{"read:email"}))
	expect(Allowed, reads)
	change(h.agents.Suspend(ctx, h.owner, a.ID))
	expect(Denied, "The agent is suspended")
	change(h.agents.Resume(ctx, h.owner, a.ID))
	expect(Allowed, reads)
	must(t, h.orgs.Suspend(ctx, system, "unpaid"))
	expect(Denied, "The agent's owner is suspended")
	must(t, h.orgs.Resume(ctx, system, "paid"))
	expect(Allowed, reads)
	must(t, h.orgs.Suspend(ctx, serviceSystem, "unpaid"))
	refused()
	must(t, h.orgs.Resume(ctx, serviceSystem, "paid"))
	expect(Allowed, reads)
	change(h.keys.Disable(ctx, h.service, id))
	refused()
	change(h.keys.Enable(ctx, h.service, id))
	expect(Allowed, reads)
	k, err := h.keys.Get(ctx, h.service, id)
	must(t, err)
	change(h.keys.Update(ctx, h.service, id, web.ETag(k.Version), apikey.Change{Resources: &[]string{"planes"}}))
	expect(Denied, "Your key may not ask about this resource")
	change(h.keys.Update(ctx, h.service, id, web.ETag(k.Version+1), apikey.Change{Resources: &[]string{"ships"}, Owners: &[]tenantdb.TenantID{h.service.Tenant()}}))
	expect(Denied, "Your key may not ask about this owner's agents")
	change(h.keys.Update(ctx, h.service, id, web.ETag(k.Version+2), apikey.Change{Owners: &[]tenantdb.TenantID{h.owner.Tenant()}}))
	expect(Allowed, reads)
	name := "Robin the second"
	change(h.agents.Update(ctx, h.owner, a.ID, "", agent.Edit{Name: &name}))
	if got := other.ask(t, key, q); got.Body["agent"].(map[string]any)["name"] != name {
		t.Errorf("an old name: %s", got.Raw)
	}
	_, _, err = h.agents.RevokeTokens(ctx, h.owner, a.ID)
	must(t, err)
	expect(Revoked, "All tokens that the agent had have been revoked")
	fresh := h.token(t, a, agent.Wish{})
	q.Token = fresh.Token.Expose()
	expect(Allowed, reads)
	change(h.agents.RevokeToken(ctx, h.owner, a.ID, fresh.JTI))
	expect(Revoked, "The token has been revoked")
	q.Token = h.token(t, a, agent.Wish{}).Token.Expose()
	expect(Allowed, reads)
	change(h.agents.Revoke(ctx, h.owner, a.ID))
	expect(Revoked, "The agent has been revoked")
	change(h.keys.Revoke(ctx, h.service, id))
	refused()
}

// TestRevokedSigningKey: a key that is revoked on one server signs nothing for the other one either, whatever that one had
// remembered: the agent and the service's key, one of them, or neither.
func TestRevokedSigningKey(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	_, known := h.agent(t)
	_, unknown := h.agent(t)
	newKey, _ := h.newKey(t, h.service, apikey.NewKey{})
	if a := other.ask(t, h.key, Request{Token: known}); a.Body["allowed"] != true {
		t.Fatal(a.Raw)
	}
	kid := kidOf(t, known)
	must(t, h.signing.Revoke(t.Context(), keyring.NewSigningTable(h.DB, tenantdb.System(tenantdb.Platform, "operator")), kid))
	must(t, h.DB.MoveEpochs(t.Context()))
	for what, q := range map[string]struct{ key, token string }{
		"neither known": {newKey, unknown}, "the agent unknown": {h.key, unknown}, "the key unknown": {newKey, known}, "both known": {h.key, known},
	} {
		// Each on a server of its own, which has seen one verification and no more.
		cold := h.server(t, h.Another(t))
		for server, s := range map[string]*side{"a server that has seen it": other, "one that just started": cold} {
			if a := s.ask(t, q.key, Request{Token: q.token}); a.Body["reason"] != signer || a.Body["decision"] != "REVOKED" || a.Body["agent"] != nil {
				t.Errorf("%s, %s: %s", what, server, a.Raw)
			}
		}
	}
	_, again := h.agent(t)
	h.clock.forward(time.Second)
	if a := other.ask(t, h.key, Request{Token: again}); a.Body["allowed"] != true {
		t.Errorf("a token of the next key: %s", a.Raw)
	}
}

// TestNarrowedKeys: what a service key was made for, it may, and nothing else.
func TestNarrowedKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t, "read:email")
	who, scope := Request{Token: token, TargetResource: "ships"}, Request{Token: token, TargetResource: "ships", ScopesRequested: []string{"read:email"}}
	identity, _ := h.newKey(t, h.service, apikey.NewKey{Scopes: []string{"read:identity"}})
	h.expectFor(t, identity, who, Allowed, itIs)
	h.expectFor(t, identity, scope, Denied, "Your key may ask who an agent is, and not for scopes")
	ships, _ := h.newKey(t, h.service, apikey.NewKey{Resources: []string{"ships", "boats"}})
	h.expectFor(t, ships, scope, Allowed, reads)
	h.expectFor(t, ships, Request{Token: token, TargetResource: "planes"}, Denied, "Your key may not ask about this resource")
	h.expectFor(t, ships, Request{Token: token}, Denied, "Your key may not ask about this resource")
	strangers, _ := h.newKey(t, h.service, apikey.NewKey{Owners: []tenantdb.TenantID{h.service.Tenant()}})
	h.expectFor(t, strangers, scope, Denied, "Your key may not ask about this owner's agents")
	owners, _ := h.newKey(t, h.service, apikey.NewKey{Owners: []tenantdb.TenantID{h.owner.Tenant()}})
	h.expectFor(t, owners, scope, Allowed, reads)
	writer, _ := h.newKey(t, h.service, apikey.NewKey{Scopes: []string{"audit:write"}})
	h.refused(t, writer, who, http.StatusForbidden)
	soon, _ := h.newKey(t, h.service, apikey.NewKey{ExpiresAt: h.clock.now().Add(time.Hour)})
	h.expectFor(t, soon, scope, Allowed, reads)
	h.clock.forward(time.Hour)
	h.refused(t, soon, scope, noKey)
	for _, key := range []string{"", "avs_live_nonsense", soon[:len(soon)-1] + "0", token} {
		h.refused(t, key, who, noKey)
	}
}

// TestRefusedKeyIsRecorded: a real key that does not work is in its organisation's log each time it is used; a server counts
// a flood of them.
func TestRefusedKeyIsRecorded(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	key, id := h.newKey(t, h.service, apikey.NewKey{})
	_, err := h.keys.Revoke(t.Context(), h.service, id)
	must(t, err)
	for n := 1; n <= 3; n++ {
		h.refused(t, key, Request{Token: token}, noKey)
		if found := h.OfType(t, h.service.Tenant(), "key.refused"); len(found) != n || found[n-1].Target.ID != id || found[n-1].Field("reason") != "revoked" {
			t.Fatalf("after %d tries the log has %+v", n, found)
		}
	}
	if n := len(h.verified(t, h.service.Tenant())); n != 0 {
		t.Errorf("%d verifications with a key that does not work", n)
	}
}

// TestCustomScopes: a scope of the owner's own can be had and asked for; one of the service's is known, and nobody has it.
func TestCustomScopes(t *testing.T) {
	t.Parallel()
	h := open(t)
	add := func(c tenantdb.Caller, name string) {
		_, err := h.scopes.Add(t.Context(), c, policy.Scope{Name: name, Risk: policy.Low, Description: "own"})
		must(t, err)
	}
	_, before := h.agent(t)
	h.expect(t, Request{Token: before, ScopesRequested: []string{"weld:hulls"}}, Denied, "Unknown scopes: weld:hulls")
	add(h.owner, "weld:hulls")
	add(h.service, "pilot:ships")
	_, token := h.agent(t, "weld:hulls")
	h.expect(t, Request{Token: token, ScopesRequested: []string{"weld:hulls"}}, Allowed, "The agent has the scopes: weld:hulls")
	h.expect(t, Request{Token: token, ScopesRequested: []string{"weld:hulls", "pilot:ships"}}, Denied, "Agent lacks required scopes: pilot:ships")
	h.expect(t, Request{Token: token, ScopesRequested: []string{"pilot:hulls", "fly:moon"}}, Denied, "Unknown scopes: pilot:hulls, fly:moon")
	add(h.service, "weld:hulls") // the same word, and the owner's decides
	h.expect(t, Request{Token: token, ScopesRequested: []string{"weld:hulls"}}, Allowed, "The agent has the scopes: weld:hulls")
	h.expect(t, Request{Token: before, ScopesRequested: []string{"weld:hulls"}}, Denied, "Agent lacks required scopes: weld:hulls")
}

// TestOwnService verifies an organisation's agents by its own service while the organisation changes all the time: what
// is known of the one and of the other must be of one instant.
func TestOwnService(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	a, token := h.agent(t, "read:email")
	key, _ := h.newKey(t, h.owner, apikey.NewKey{})
	q := Request{Token: token, ScopesRequested: []string{"read:email"}}
	var answers atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	for i := range 6 {
		s := []*side{h.side, other}[i%2]
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := s.ask(t, key, q); got.Body["allowed"] != true {
					t.Errorf("%d %s", got.Status, got.Raw)
				}
				answers.Add(1)
			}
		})
	}
	for n := range 40 {
		name := "Robin " + itoa(int64(n))
		_, err := h.agents.Update(t.Context(), h.owner, a.ID, "", agent.Edit{Name: &name})
		must(t, err)
	}
	close(stop)
	all.Wait()
	if n := int64(len(h.verified(t, h.owner.Tenant()))); n != answers.Load() {
		t.Errorf("%d entries of %d verifications", n, answers.Load())
	}
}

// TestLosesToChanges: a decision that loses to changes time after time is made under the locks of both logs in the end,
// and is right then too.
func TestLosesToChanges(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, token := h.agent(t, "read:email")
	var calls atomic.Int64
	h.cfg.Remembered = func(head tenantdb.Head) tenantdb.Head {
		if n := calls.Add(1); n <= 2*attempts {
			head.Epoch++ // a change has come between
			if n == 2*attempts {
				_, err := h.agents.SetScopes(context.WithoutCancel(t.Context()), h.owner, a.ID, "", []string{"browse:web"})
				must(t, err)
			}
		}
		return head
	}
	h.expect(t, Request{Token: token, ScopesRequested: []string{"read:email"}}, Denied, "Agent lacks required scopes: read:email")
	h.expect(t, Request{Token: token, ScopesRequested: []string{"browse:web"}}, Allowed, "The agent has the scopes: browse:web")
	if calls.Load() != 2*attempts+4 {
		t.Errorf("%d drafts", calls.Load())
	}
	for _, tenant := range []tenantdb.TenantID{h.owner.Tenant(), h.service.Tenant()} {
		if n := len(h.verified(t, tenant)); n != 2 {
			t.Errorf("%d entries", n)
		}
	}
}

// TestChangeCostsOneMoreTry: what a change made old is read again once, and not decided from again.
func TestChangeCostsOneMoreTry(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	a, token := h.agent(t)
	var drafts atomic.Int64
	other.cfg.Remembered = func(head tenantdb.Head) tenantdb.Head {
		drafts.Add(1)
		return head
	}
	for n, want := range []int64{2, 2, 4, 2} {
		if n == 2 {
			_, err := h.agents.Suspend(t.Context(), h.owner, a.ID)
			must(t, err)
		}
		drafts.Store(0)
		if got := other.ask(t, h.key, Request{Token: token}); got.Body["allowed"] != (n < 2) || drafts.Load() != want {
			t.Errorf("time %d: %d drafts, want %d: %s", n, drafts.Load(), want, got.Raw)
		}
	}
}

// TestRequestLimits: what does not fit the description is an invalid request, and not logged as a decision.
func TestRequestLimits(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	many := make([]string, mostScopes)
	for i := range many {
		many[i] = "a:" + strings.Repeat("b", mostScope-4) + itoa(int64(10+i))
	}
	h.expect(t, Request{Token: token, TargetResource: strings.Repeat("r", mostResource), ScopesRequested: many}, Denied, "Unknown scopes: "+strings.Join(many, ", "))
	for what, q := range map[string]Request{
		"no token": {}, "a long resource": {Token: token, TargetResource: strings.Repeat("r", mostResource+1)},
		"an empty scope": {Token: token, ScopesRequested: []string{""}}, "a long scope": {Token: token, ScopesRequested: []string{strings.Repeat("s", mostScope+1)}},
		"many scopes": {Token: token, ScopesRequested: append(many, "one:more")},
	} {
		if a := h.ask(t, h.key, q); a.Status != http.StatusBadRequest || len(a.Body["errors"].([]any)) != 1 {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	for what, body := range map[string]string{
		"no JSON": `{`, "a token that is a number": `{"token":1}`, "two tokens": `{"token":"a","token":"b"}`, "a field of another name": `{"Token":"a"}`, "an array": `[]`,
	} {
		a := doortest.Call(t, h.api, doortest.Request{Method: "POST", Path: "/api/v1/verify", Key: h.key, Body: body})
		if a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	if n := len(h.verified(t, h.service.Tenant())); n != 1 {
		t.Errorf("%d decisions are in the log", n)
	}
	if e := h.Last(t, h.service.Tenant()); e.Type != "agent.verified" || e.Actor.Kind != audit.ActorKey {
		t.Errorf("the last entry is %s", e.Type)
	}
}
