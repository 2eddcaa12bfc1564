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
