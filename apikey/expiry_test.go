package apikey

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// TestNotice: the borders of when a notice is due.
func TestNotice(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		left    time.Duration
		noticed int
		want    int
	}{
		{90 * day, 0, 0}, {30*day + 1, 0, 0}, {30 * day, 0, 30}, {30 * day, 30, 0}, {8 * day, 0, 30}, {7*day + 1, 30, 0}, {7 * day, 30, 7}, {7 * day, 0, 7}, {7 * day, 7, 0},
		{day + 1, 7, 0}, {day, 7, 1}, {day, 30, 1}, {time.Minute, 0, 1}, {1, 1, 0}, {1, 7, 1}, {0, 7, 0}, {-day, 0, 0},
	} {
		k := Key{ExpiresAt: now.Add(tt.left), Noticed: tt.noticed}
		if got := notice(k, now); got != tt.want {
			t.Errorf("%v before its end, told at %d days: the notice is that of %d days", tt.left, tt.noticed, got)
		}
		k.RevokedAt = now
		if notice(k, now) != 0 {
			t.Error("a revoked key is announced")
		}
		k.RevokedAt, k.ReplacedBy = time.Time{}, "other"
		if notice(k, now) != 0 {
			t.Error("a key that was replaced is announced")
		}
	}
	if notice(Key{}, now) != 0 {
		t.Error("the end of a key that has none is announced")
	}
	for left, want := range map[time.Duration]int{day: 1, day + 1: 2, time.Hour: 1, 30 * day: 30, 5*day - time.Hour: 5} {
		if got := daysTo(now.Add(left), now); got != want {
			t.Errorf("%v are %d days", left, got)
		}
	}
}

// TestNotices walks a clock past the ends of keys, with two servers that look at the same time: each notice once, at its time,
// and none for keys that nobody waits for.
func TestNotices(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	rooms := []fixture{f, f.beside(t)}
	id, owner := f.owner(t, "Acme")
	other, theirs := f.owner(t, "Globex")
	names := map[string]string{}
	keep := func(name string, k Created) Created { names[k.ID] = name; return k }
	in := func(d time.Duration) NewKey { return NewKey{ExpiresAt: now.Now().Add(d)} }
	keep("default", f.service(t, owner, NewKey{}))
	keep("five days", f.service(t, owner, in(5*day)))
	keep("ten days", f.make(t, owner, NewKey{Kind: Data, GivenTo: "alice", ExpiresAt: now.Now().Add(10 * day)}))
	keep("an hour", f.service(t, owner, in(time.Hour)))
	keep("for ever", f.service(t, owner, NewKey{NeverExpires: true}))
	keep("theirs", f.service(t, theirs, in(40*day)))
	revoked, replaced, disabled := keep("revoked", f.service(t, owner, in(20*day))), keep("replaced", f.service(t, owner, in(35*day))), keep("disabled", f.service(t, owner, in(2*day)))
	must(t, second(f.room.Revoke(t.Context(), owner, revoked.ID)))
	must(t, second(f.room.Disable(t.Context(), owner, disabled.ID)))
	made, err := f.room.Rotate(t.Context(), owner, replaced.ID, MostOverlap)
	must(t, err)
	keep("replacement", made)

	start := now.Now()
	for now.Now().Before(start.Add(92 * day)) {
		for _, tenant := range []tenantdb.TenantID{id, other} {
			var crowd sync.WaitGroup
			for i := range 4 {
				crowd.Go(func() {
					if _, err := rooms[i%2].room.Notify(t.Context(), tenantdb.System(tenant, "keys")); err != nil {
						t.Error(err)
					}
				})
			}
			crowd.Wait()
		}
		now.move(12 * time.Hour)
	}
	mailed := map[string]int{}
	for _, j := range f.jobs(t) {
		if j.Template != "key_expiring" || j.IDs["count"] != fmt.Sprint(len(strings.Fields(j.IDs["keys"]))) {
			t.Errorf("a mail of %s about %v", j.Template, j.IDs)
		}
		for _, key := range strings.Fields(j.IDs["keys"]) {
			name := names[key]
			mailed[name]++
			if (name == "theirs") != (j.Tenant == other.String()) {
				t.Errorf("the mail about %s goes to %s", name, j.Tenant)
			}
		}
	}
	got := map[string][]string{}
	for _, tenant := range []tenantdb.TenantID{id, other} {
		for _, e := range f.OfType(t, tenant, "key.expiring") {
			got[names[e.Target.ID]] = append(got[names[e.Target.ID]], e.Field("days"))
		}
	}
	want := map[string][]string{
		"default": {"30", "7", "1"}, "five days": {"7", "1"}, "ten days": {"30", "7", "1"}, "an hour": {"1"}, "theirs": {"30", "7", "1"}, "disabled": {"7", "1"},
		"replacement": {"30", "7", "1"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the notices are %v, want %v", got, want)
	}
	for name, notices := range want {
		if mailed[name] != len(notices) {
			t.Errorf("%d mails say that %s ends, and there are %d notices", mailed[name], name, len(notices))
		}
	}
	var logged []string
	for _, e := range f.OfType(t, id, "key.expiring") {
		if names[e.Target.ID] == "default" {
			logged = append(logged, e.Field("days"))
			if e.Field("expires_at") == "" || e.Actor.ID != "keys" {
				t.Errorf("the entry is %+v", e)
			}
		}
	}
	if !slices.Equal(logged, []string{"30", "7", "1"}) {
		t.Errorf("the log has %v", logged)
	}
}

// TestNoticeIsOneCommit: a notice that cannot be queued is not noted as given, and comes when it can.
func TestNoticeIsOneCommit(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	id, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{ExpiresAt: now.Now().Add(day)})
	f.Admin(t, `ALTER TABLE avouch_jobs.river_job RENAME TO away`)
	if told, err := f.room.Notify(t.Context(), tenantdb.System(id, "keys")); told != 0 || err == nil || strings.Contains(err.Error(), k.Secret.Expose()[21:64]) {
		t.Errorf("told %d, %v", told, err)
	}
	f.Admin(t, `ALTER TABLE avouch_jobs.away RENAME TO river_job`)
	if n := len(f.OfType(t, id, "key.expiring")); n != 0 {
		t.Errorf("%d entries of what was not told", n)
	}
	if told, err := f.room.Notify(t.Context(), tenantdb.System(id, "keys")); told != 1 || err != nil || len(f.jobs(t)) != 1 {
		t.Errorf("told %d, %v", told, err)
	}
}

// TestManyNoticesAreOneMail: however many keys of an organisation end, and however many servers look, a pass is one mail. It
// names the first to end, counts all, and the log has each.
func TestManyNoticesAreOneMail(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	other := f.beside(t)
	id, owner := f.owner(t, "Acme")
	const many = 2*mostNoticed + 30
	keys := make([]Foreign, many)
	for i := range keys {
		keys[i] = Foreign{NewKey: NewKey{Name: "old", ExpiresAt: now.Now().Add(5*day + time.Duration(i)*time.Second)}, Hash: [32]byte{1, byte(i), byte(i >> 8)}}
	}
	made, err := f.room.Import(t.Context(), owner, keys)
	must(t, err)
	var crowd sync.WaitGroup
	for _, r := range []*Room{f.room, other.room} {
		crowd.Go(func() {
			if _, err := r.Notify(t.Context(), tenantdb.System(id, "keys")); err != nil {
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	for range 3 { // what one server left to the other, if that happened
		must(t, second(f.room.Notify(t.Context(), tenantdb.System(id, "keys"))))
	}
	jobs := f.jobs(t)
	if len(jobs) != 1 {
		t.Fatalf("%d mails about %d keys", len(jobs), many)
	}
	named := strings.Fields(jobs[0].IDs["keys"])
	if len(named) != mostNamed || named[0] != made[0].KeyID || jobs[0].IDs["count"] != fmt.Sprint(many) || jobs[0].IDs["days"] != "5" {
		t.Errorf("the mail is about %v", jobs[0].IDs)
	}
	if n := len(f.OfType(t, id, "key.expiring")); n != many {
		t.Errorf("%d entries about %d keys", n, many)
	}
}
