package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestEntries does everything once and reads what the log says.
func TestEntries(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	a, _ := h.register(t, "write:email")
	token, err := h.room.Issue(ctx, h.owner, a.ID, Wish{Resources: []string{"https://secret-customer.example"}, MaxUses: 2})
	must(t, err)
	name, text, listed := "Robin of Locksley", "takes from the rich", VisibleToListed
	friends := []tenantdb.TenantID{tenantdb.NewTenantID()}
	_, err = h.room.Update(ctx, h.owner, a.ID, "", Edit{&name, &text, &listed, &friends})
	must(t, err)
	must(t, errors.Join(
		second(h.room.SetScopes(ctx, h.owner, a.ID, "", []string{"browse:web"})), second(h.room.Suspend(ctx, h.owner, a.ID)),
		second(h.room.Resume(ctx, h.owner, a.ID)), second(h.room.RevokeToken(ctx, h.owner, a.ID, token.JTI)),
	))
	_, _, err = h.room.RevokeTokens(ctx, h.owner, a.ID)
	must(t, err)
	must(t, second(h.room.Revoke(ctx, h.owner, a.ID)))
	entries := h.Entries(t, h.tenant)[1:]
	want := []string{"agent.registered", "token.issued", "agent.updated", "agent.scopes_changed", "agent.suspended", "agent.resumed", "token.revoked", "tokens.revoked", "agent.revoked"}
	if len(entries) != len(want) {
		t.Fatalf("%d entries, want %d", len(entries), len(want))
	}
	for i, e := range entries {
		if e.Type != want[i] || e.Target != (audit.Target{Kind: "agent", ID: a.ID.String()}) || e.Outcome != audit.Done {
			t.Errorf("entry %d is %s of %+v", i, e.Type, e.Target)
		}
		for _, word := range []string{"Robin", "reads", "rich", "write:email", "browse:web", "secret-customer", "eyJ", "https:"} {
			if strings.Contains(string(e.Body), word) {
				t.Errorf("the entry %s holds %q in the open", e.Type, word)
			}
		}
	}
	if e := entries[0]; e.Private["name"] != "Robin the reader" || e.Private["scopes"] != "write:email" || e.Field("jti") == "" || e.Field("scopes") != "1" {
		t.Errorf("registered: %+v", e)
	}
	if e := entries[1]; e.Field("jti") != token.JTI.String() || e.Field("max_uses") != "2" || e.Field("resources") != "1" || e.Private["resources"] != "https://secret-customer.example" {
		t.Errorf("issued: %+v", e)
	}
	if e := entries[2]; e.Field("changed") != "name description visibility" || e.Field("visible_to") != friends[0].String() || e.Private["name"] != name {
		t.Errorf("updated: %+v", e)
	}
	if e := entries[3]; e.Private["added"] != "browse:web" || e.Private["removed"] != "write:email" || e.Field("added") != "1" {
		t.Errorf("scopes: %+v", e)
	}
	if e := entries[7]; e.Field("generation") != "2" || e.Field("count") != "1" {
		t.Errorf("all revoked: %+v", e)
	}
	if log := h.Logged(); strings.Contains(log, "eyJ") || strings.Contains(log, "Robin") {
		t.Error("the server's log holds what it must not")
	}
}

func second[T any](_ T, err error) error { return err }

// TestWhatMovesTheEpoch: whatever can alter a decision does, and nothing else.
func TestWhatMovesTheEpoch(t *testing.T) {
	t.Parallel()
	h := open(t)
	epoch := func() string {
		return h.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, h.tenant)
	}
	a, token := h.register(t)
	_, writes := h.operations(t, a.ID, token.JTI)
	text, none := "other", VisibleToNone
	writes["register"] = func(tenantdb.Caller) error { h.register(t); return nil }
	writes["description"] = func(c tenantdb.Caller) error {
		return second(h.room.Update(t.Context(), c, a.ID, "", Edit{Description: &text}))
	}
	writes["visibility"] = func(c tenantdb.Caller) error {
		return second(h.room.Update(t.Context(), c, a.ID, "", Edit{Visibility: &none}))
	}
	for _, step := range []struct {
		what  string
		moves bool
	}{
		{"register", false}, {"issue", false}, {"description", false}, {"update", true}, {"visibility", true}, {"scopes", true},
		{"suspend", true}, {"resume", true}, {"revoke token", true}, {"revoke all", true}, {"revoke", true},
	} {
		before := epoch()
		must(t, writes[step.what](h.owner))
		if moved := epoch() != before; moved != step.moves {
			t.Errorf("%s moves the epoch: %t", step.what, moved)
		}
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, _ := h.register(t)
	for range 3 {
		_, err := h.room.Issue(t.Context(), h.owner, a.ID, Wish{MaxUses: 1})
		must(t, err)
	}
	system := tenantdb.System(h.tenant, "purge")
	purge := func(want int64) {
		t.Helper()
		if n, err := h.room.Purge(t.Context(), system); err != nil || n != want {
			t.Errorf("purged %d of %d: %v", n, want, err)
		}
	}
	purge(0)
	h.clock.forward(24*time.Hour + 30*time.Minute)
	must(t, h.room.signing.Rotate(t.Context()))
	purge(0)
	entries := len(h.Entries(t, h.tenant))
	h.clock.forward(time.Hour)
	live, err := h.room.Issue(t.Context(), h.owner, a.ID, Wish{MaxUses: 1})
	must(t, err)
	purge(4)
	purge(0)
	tokens, err := h.room.Tokens(t.Context(), h.owner, a.ID, nil, "", 10)
	must(t, err)
	if len(tokens) != 1 || tokens[0].JTI != live.JTI {
		t.Errorf("left: %+v", tokens)
	}
	if n := h.Text(t, `SELECT count(*)::text FROM avouch.counter WHERE tenant_id = $1 AND subject LIKE 'token:%'`, h.tenant); n != "1" {
		t.Errorf("%s counters are left", n)
	}
	if e := h.Last(t, h.tenant); e.Type != "tokens.purged" || e.Field("count") != "4" || int(e.Seq) != entries+1 || e.Actor.Kind != audit.ActorSystem {
		t.Errorf("the last entry: %+v", e)
	}
}
