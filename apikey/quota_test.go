package apikey

import (
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestSetQuota: the operator gives a key more than the installation's default, or no limit; nobody else does.
func TestSetQuota(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	key, operator := f.service(t, owner, NewKey{Scopes: []string{"verify"}}), tenantdb.System(id, "operator")
	epoch := func() string {
		return f.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, id.String())
	}
	for i, n := range []*int64{new(int64(1_000_000)), nil, nil, new(int64(0))} {
		before := epoch()
		got, err := f.room.SetQuota(t.Context(), operator, key.ID, n)
		if err != nil || quota(got.MonthlyQuota) != quota(n) || (epoch() == before) != (i == 2) {
			t.Errorf("to %s: %+v, %v; the epoch went from %s to %s", quota(n), got, err, before, epoch())
		}
	}
	entries := f.OfType(t, id, "key.changed")
	if len(entries) != 3 || entries[0].Field("monthly_quota") != "1000000" || entries[1].Field("monthly_quota") != "unlimited" || entries[2].Field("monthly_quota") != "0" {
		t.Errorf("the log is %+v", entries)
	}
	_, err := f.room.SetQuota(t.Context(), owner, key.ID, nil)
	want(t, err, problem.Denied, "an owner")
	_, err = f.room.SetQuota(t.Context(), operator, key.ID, new(int64(-1)))
	want(t, err, problem.Invalid, "below zero")
	_, err = f.room.SetQuota(t.Context(), operator, owner.Actor().ID, nil)
	want(t, err, problem.Invalid, "an owner key")
	other, _ := f.owner(t, "Globex")
	_, err = f.room.SetQuota(t.Context(), tenantdb.System(other, "operator"), key.ID, nil)
	want(t, err, problem.Missing, "a key of another organisation")
	if _, err := f.room.Revoke(t.Context(), owner, key.ID); err != nil {
		t.Fatal(err)
	}
	_, err = f.room.SetQuota(t.Context(), operator, key.ID, nil)
	want(t, err, problem.Conflict, "a revoked key")
}

// TestNoQuotaByRotation: no key comes by more verifications a month than it has, or those that made it have, by taking over a key
// that is not counted with it.
func TestNoQuotaByRotation(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	scopes := []string{"keys:write", "verify"}
	key := func(by tenantdb.Caller, quota int64) Created {
		return f.service(t, by, NewKey{Scopes: scopes, MonthlyQuota: new(quota)})
	}
	tight := key(owner, 10)
	child := f.service(t, f.as(t, tight), NewKey{Scopes: scopes})
	sibling := key(f.as(t, tight), 5)
	unlimited := key(owner, 7)
	must(t, second(f.room.SetQuota(t.Context(), tenantdb.System(id, "operator"), unlimited.ID, nil)))
	later := f.service(t, owner, NewKey{Scopes: scopes})
	grown := f.service(t, f.as(t, later), NewKey{Scopes: scopes})
	must(t, second(f.room.Update(t.Context(), owner, later.ID, "", Change{MonthlyQuota: new(int64(10))})))
	if _, err := f.room.Create(t.Context(), f.as(t, grown), NewKey{Name: "x", Kind: Service, Scopes: []string{"verify"}, MonthlyQuota: new(int64(11))}); !problem.Is(err, problem.Denied) {
		t.Errorf("a key gives away more than its maker has: %v", err)
	}
	for what, by := range map[string]Created{"a key of 10 a month": tight, "its child": child, "the child of a key that was given 10 later": grown} {
		for of, k := range map[string]Created{"11": key(owner, 11), "no limit": unlimited} {
			_, err := f.room.Rotate(t.Context(), f.as(t, by), k.ID, 0)
			want(t, err, problem.Denied, what+" rotates one of "+of)
		}
		must(t, second(f.room.Rotate(t.Context(), f.as(t, by), key(owner, 10).ID, 0)))
		must(t, second(f.room.Rotate(t.Context(), f.as(t, by), f.make(t, owner, NewKey{Kind: Data}).ID, 0)))
	}
	for range 2 { // 5 of the 10, and counted with them
		made, err := f.room.Rotate(t.Context(), f.as(t, child), sibling.ID, 0)
		must(t, err)
		sibling = made
	}
	must(t, second(f.room.Update(t.Context(), owner, sibling.ID, "", Change{MonthlyQuota: new(int64(1000))})))
	must(t, second(f.room.Rotate(t.Context(), f.as(t, child), sibling.ID, 0)))
	must(t, second(f.room.Rotate(t.Context(), owner, unlimited.ID, 0)))
}
