package org

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// spend counts verifications of a month, as the verify room's append does.
func (f fixture) spend(t *testing.T, id tenantdb.TenantID, used, period string) {
	t.Helper()
	f.Admin(t, `UPDATE avouch.counter SET used = $2::bigint, period = $3::int WHERE tenant_id = $1 AND subject = 'verify'`, id.String(), used, period)
}

func TestQuota(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, owner := f.create(t, "Acme", "")
	operator := tenantdb.System(made.ID, "operator")
	epoch := func() string {
		return f.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, made.ID.String())
	}
	want(t, f.room.SetQuota(t.Context(), owner, new(int64(1))), problem.Denied, "an owner gives itself a quota")
	want(t, f.room.SetQuota(t.Context(), operator, new(int64(-1))), problem.Invalid, "a quota below zero")
	want(t, f.room.SetQuota(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), nil), problem.Invalid, "the installation's own")
	want(t, f.room.SetQuota(t.Context(), tenantdb.System(tenantdb.NewTenantID(), "operator"), nil), problem.Missing, "one that is not there")
	for i, quota := range []*int64{new(int64(0)), new(int64(0)), nil, nil, new(int64(7))} {
		before := epoch()
		if err := f.room.SetQuota(t.Context(), operator, quota); err != nil {
			t.Fatal(err)
		}
		if moved := epoch() != before; moved != (i%2 == 0) {
			t.Errorf("change %d moved the epoch: %v", i, moved)
		}
		got, err := f.room.Get(t.Context(), owner)
		if err != nil || (got.MonthlyQuota == nil) != (quota == nil) || quota != nil && *got.MonthlyQuota != *quota {
			t.Errorf("change %d: %+v, %v", i, got, err)
		}
	}
	var was []string
	for _, e := range f.OfType(t, made.ID, "organisation.quota_changed") {
		was = append(was, e.Field("before")+">"+e.Field("monthly_quota"))
	}
	if got := strings.Join(was, " "); got != "10000>0 0>unlimited unlimited>7" {
		t.Errorf("the log has %s", got)
	}
	if got, err := f.room.Update(t.Context(), owner, `"4"`, Change{LiveTokens: new(3)}); err != nil || *got.MonthlyQuota != 7 {
		t.Errorf("a change of something else: %+v, %v", got, err)
	}
}

// TestUsed: what is used of a quota is what was counted in this month, and nothing is said where nobody counts.
func TestUsed(t *testing.T) {
	t.Parallel()
	f := open(t)
	now := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	f.room.cfg.Now = func() time.Time { return now }
	made, owner := f.create(t, "Acme", "")
	used := func() *int64 {
		t.Helper()
		o, err := f.room.Get(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		return o.Used
	}
	if made.Used == nil || *made.Used != 0 || *used() != 0 {
		t.Error("a new organisation has used something")
	}
	f.spend(t, made.ID, "41", "24323") // 2026*12 + 11
	if n := used(); *n != 41 {
		t.Errorf("used %d", *n)
	}
	now = now.Add(time.Second)
	if n := used(); *n != 0 {
		t.Errorf("in the next month %d are used", *n)
	}
	if err := f.room.SetQuota(t.Context(), tenantdb.System(made.ID, "operator"), nil); err != nil || used() != nil {
		t.Errorf("unlimited: %v, %v", used(), err)
	}
}

func TestEach(t *testing.T) {
	t.Parallel()
	f := open(t)
	if err := f.room.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	acme, _ := f.create(t, "Acme", "ops@acme.example")
	globex, _ := f.create(t, "Globex", "")
	if err := f.room.Suspend(t.Context(), tenantdb.System(globex.ID, "operator"), ""); err != nil {
		t.Fatal(err)
	}
	f.spend(t, acme.ID, "3", "1")
	var got []Organisation
	if err := f.room.Each(t.Context(), func(o Organisation) error { got = append(got, o); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].ID != acme.ID || got[0].Name != "Acme" || *got[0].Used != 0 || got[1].ID != globex.ID || got[1].SuspendedAt.IsZero() {
		t.Errorf("all: %+v", got)
	}
	stop := problem.New(problem.Internal, "enough")
	if err := f.room.Each(t.Context(), func(Organisation) error { return stop }); !problem.Is(err, problem.Internal) {
		t.Errorf("stopped: %v", err)
	}
}
