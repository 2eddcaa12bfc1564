package apikey

import (
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestNoEscalation tries to make and to change keys so that they reach further than the key that does it.
func TestNoEscalation(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	other := tenantdb.NewTenantID()
	soon := time.Now().Add(time.Hour)
	clerk := f.as(t, f.service(t, owner, NewKey{
		Name: "clerk", Scopes: []string{"keys:read", "keys:write", "verify"}, Resources: []string{"a", "b"}, Owners: []tenantdb.TenantID{id}, ExpiresAt: soon,
	}))
	verifier := f.as(t, f.service(t, owner, NewKey{Name: "verifier"}))
	base := func(change func(*NewKey)) NewKey {
		n := NewKey{Name: "child", Kind: Service, Scopes: []string{"verify"}, Resources: []string{"a"}, Owners: []tenantdb.TenantID{id}}
		change(&n)
		return n
	}
	allow := func(by tenantdb.Caller, what string, change func(*NewKey)) Created {
		t.Helper()
		made, err := f.room.Create(t.Context(), by, base(change))
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return made
	}
	deny := func(by tenantdb.Caller, what string, change func(*NewKey)) {
		t.Helper()
		_, err := f.room.Create(t.Context(), by, base(change))
		want(t, err, problem.Denied, what)
	}
	child := allow(clerk, "a narrower key", func(*NewKey) {})
	if !child.ExpiresAt.Equal(soon.UTC().Truncate(time.Microsecond)) {
		t.Errorf("the child of a key that ends at %v ends at %v", soon, child.ExpiresAt)
	}
	deny(verifier, "without keys:write", func(*NewKey) {})
	deny(clerk, "a capability it lacks", func(n *NewKey) { n.Scopes = []string{"verify", "agents:write"} })
	deny(clerk, "the default capabilities, of which it lacks one", func(n *NewKey) { n.Scopes = nil })
	deny(clerk, "an owner key", func(n *NewKey) { n.Kind, n.Scopes, n.Resources, n.Owners = Owner, nil, nil, nil })
	deny(clerk, "an owner key with its own capabilities", func(n *NewKey) { n.Kind, n.Resources, n.Owners = Owner, nil, nil })
	deny(clerk, "no resources", func(n *NewKey) { n.Resources = nil })
	deny(clerk, "another resource", func(n *NewKey) { n.Resources = []string{"a", "c"} })
	deny(clerk, "anybody's agents", func(n *NewKey) { n.Owners = nil })
	deny(clerk, "another's agents", func(n *NewKey) { n.Owners = []tenantdb.TenantID{id, other} })
	deny(clerk, "for ever", func(n *NewKey) { n.NeverExpires = true })
	deny(clerk, "for longer", func(n *NewKey) { n.ExpiresAt = soon.Add(time.Second) })
	deny(owner, "a quota above the installation's", func(n *NewKey) { n.MonthlyQuota = new(int64(1001)) })
	allow(owner, "for ever, by a key that lasts for ever", func(n *NewKey) { n.NeverExpires = true })
	allow(tenantdb.System(id, "operator"), "a higher quota, by the operator", func(n *NewKey) { n.MonthlyQuota = new(int64(5000)) })
	allow(f.Caller(id, "*"), "an owner key, by a person who may do everything", func(n *NewKey) {
		n.Kind, n.Scopes, n.Resources, n.Owners = Owner, nil, nil, nil
	})

	for what, ch := range map[string]Change{
		"widen the resources": {Resources: &[]string{}}, "other resources": {Resources: &[]string{"c"}},
		"widen the owners": {Owners: &[]tenantdb.TenantID{}}, "raise the quota": {MonthlyQuota: new(int64(1001))},
	} {
		_, err := f.room.Update(t.Context(), clerk, child.ID, "", ch)
		want(t, err, problem.Denied, what)
	}
	if _, err := f.room.Update(t.Context(), clerk, child.ID, "", Change{Resources: &[]string{"b"}, MonthlyQuota: new(int64(1))}); err != nil {
		t.Errorf("another of its own resources: %v", err)
	}
	_, err := f.room.Update(t.Context(), owner, owner.Actor().ID, "", Change{})
	want(t, err, problem.Denied, "an owner key changes itself")
}

func TestKeysAndThemselves(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	clerkKey := f.service(t, owner, NewKey{Scopes: []string{"keys:write", "verify"}})
	clerk, peer := f.as(t, clerkKey), f.service(t, owner, NewKey{Scopes: []string{"verify"}})
	stronger := f.service(t, owner, NewKey{Scopes: []string{"verify", "agents:write"}})

	_, err := f.room.Update(t.Context(), clerk, clerkKey.ID, "", Change{MonthlyQuota: new(int64(1))})
	want(t, err, problem.Denied, "change itself")
	_, err = f.room.Disable(t.Context(), clerk, clerkKey.ID)
	want(t, err, problem.Denied, "disable itself")
	for _, key := range []string{stronger.ID, owner.Actor().ID} {
		_, err = f.room.Revoke(t.Context(), clerk, key)
		want(t, err, problem.Denied, "revoke a stronger key")
		_, err = f.room.Disable(t.Context(), clerk, key)
		want(t, err, problem.Denied, "disable a stronger key")
		_, err = f.room.Update(t.Context(), clerk, key, "", Change{Name: new("mine")})
		want(t, err, problem.Denied, "change a stronger key")
	}
	if _, err := f.room.Disable(t.Context(), clerk, peer.ID); err != nil {
		t.Errorf("disable a weaker key: %v", err)
	}
	if _, err := f.room.Enable(t.Context(), clerk, peer.ID); err != nil {
		t.Errorf("enable it again: %v", err)
	}
	weak := f.as(t, peer)
	_, err = f.room.Revoke(t.Context(), weak, clerkKey.ID)
	want(t, err, problem.Denied, "revoke another without keys:write")
	if _, err := f.room.Revoke(t.Context(), weak, peer.ID); err != nil {
		t.Errorf("revoke itself without keys:write: %v", err)
	}
	if e := f.Last(t, id); e.Type != "key.revoked" || e.Target.ID != peer.ID || e.Actor.ID != peer.ID {
		t.Errorf("the entry is %+v", e)
	}
}

// TestRevokedKeyGivesNothingAway: a request that was authenticated before its key was revoked makes nothing after it.
func TestRevokedKeyGivesNothingAway(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	for what, end := range map[string]func(id string) error{
		"revoked":  func(id string) error { return second(f.room.Revoke(t.Context(), owner, id)) },
		"disabled": func(id string) error { return second(f.room.Disable(t.Context(), owner, id)) },
	} {
		made, err := f.room.Create(t.Context(), owner, NewKey{Name: "second", Kind: Owner})
		if err != nil {
			t.Fatal(err)
		}
		under := f.as(t, made)
		if err := end(made.ID); err != nil {
			t.Fatal(err)
		}
		_, err = f.room.Create(t.Context(), under, NewKey{Name: "x", Kind: Owner})
		want(t, err, problem.Unauthenticated, what+": create")
		_, err = f.room.Enable(t.Context(), under, made.ID)
		want(t, err, problem.Unauthenticated, what+": enable itself")
		_, err = f.room.Revoke(t.Context(), under, owner.Actor().ID)
		want(t, err, problem.Unauthenticated, what+": revoke another")
	}
}

// TestMutualRevocation: two owner keys revoke each other at once; one wins, and never both or none.
func TestMutualRevocation(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, root := f.owner(t, "Acme")
	for range 5 {
		var made [2]Created
		var as [2]tenantdb.Caller
		for i := range made {
			var err error
			if made[i], err = f.room.Create(t.Context(), root, NewKey{Name: "x", Kind: Owner}); err != nil {
				t.Fatal(err)
			}
			as[i] = f.as(t, made[i])
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i := range as {
			wg.Go(func() { _, errs[i] = f.room.Revoke(t.Context(), as[i], made[1-i].ID) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("outcomes: %v and %v", errs[0], errs[1])
		}
	}
}
