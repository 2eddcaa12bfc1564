package vault

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

// endOf ends what a person has, as their removal does.
func (h *house) endOf(ctx context.Context, p *someone) (n int, err error) {
	err = h.DB.Change(ctx, tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		n, err = h.EndOfPerson(ctx, tx, p.id, "left")
		return audit.Event{Type: "person.removed", Target: audit.Target{Kind: "person", ID: p.id.String()}, Alters: true}, err
	})
	return n, err
}

// TestWhoSaw: who used an item in the last seven days, each use once, the newest first, page by page, with from where; the read is in the
// log. Of an erased person there is who, and not from where.
func TestWhoSaw(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	i, beside := h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID
	p, gone, b := h.member(t), h.member(t), h.robot(t, "read:codes")
	p.from = netip.MustParseAddr("2001:db8::7")
	for _, to := range []Actor{p.actor(), gone.actor(), b.actor()} {
		h.grant(t, i, to, ForSeed.of(to))
	}
	h.fetchAs(t, p.caller(), i)
	h.fetchAs(t, gone.caller(), i)
	_, err := h.ask(t, h, b, i, "")
	must(t, err)
	_, _, err = h.Export(ctx, p.caller(), Export{[]ID{i}, portable.FormatURI, portable.Protection{Clear: true}, "A new phone"})
	must(t, err)
	h.fetchAs(t, h.boss, beside)
	_, err = h.Uses(ctx, h.boss, i, time.Now().AddDate(0, 0, -7), 0, 1)
	must(t, err)
	if e := h.Last(t, h.acme); e.Type != "vault.uses_read" || e.Target.ID != i.String() {
		t.Errorf("the log says %s", e.Body)
	}
	must(t, h.Ring.DestroySubject(ctx, h.acme, gone.id))
	_, err = h.Code(ctx, h.member(t).caller(), i, "")
	refused(t, "who gets nothing", err, problem.Denied, "")
	var got []string
	for before := int64(0); ; {
		page, err := h.Uses(ctx, h.boss, i, time.Now().AddDate(0, 0, -7), before, 3)
		must(t, err)
		for _, u := range page {
			got = append(got, fmt.Sprint(u.Type, " ", u.By, " ", u.How, " ", u.Private))
			before = u.Seq
		}
		if len(page) < 3 {
			break
		}
	}
	want := []string{
		fmt.Sprint("vault.exported ", p.actor(), " session:password+totp [{address 2001:db8::7} {reason A new phone}]"), fmt.Sprint("vault.code_given ", b.actor(), " agent-token [{address 127.0.0.1}]"),
		fmt.Sprint("vault.code_given ", gone.actor(), " session:password+totp []"), fmt.Sprint("vault.code_given ", p.actor(), " session:password+totp [{address 2001:db8::7}]"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if later, err := h.Uses(ctx, h.boss, i, time.Now().Add(time.Hour), 0, 100); err != nil || len(later) != 0 {
		t.Errorf("later there are %d, %v", len(later), err)
	}
	must(t, h.Delete(ctx, h.boss, i, ""))
	auditor := h.person(t, "audit:read").caller()
	if all, err := h.Uses(ctx, auditor, i, time.Time{}, 0, 100); err != nil || len(all) != 4 {
		t.Errorf("of what is deleted an auditor sees %d, %v", len(all), err)
	}
	_, err = h.Uses(ctx, h.boss, i, time.Time{}, 0, 100)
	refused(t, "who decided about it", err, problem.Missing, "")
}

// of is the highest level that somebody may have.
func (l Level) of(a Actor) Level {
	if a.Kind != APerson && a.Kind != AGroup {
		return ForCode
	}
	return l
}

// TestReport: what somebody who leaves knew: what they put in, what they could have the seed of, by themselves, by a group, or for an hour,
// and what they took out, however long ago; each once, by name, the deleted too; and one that was altered hides no other. Afterwards
// nothing is granted to them.
func TestReport(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	p := h.person(t, "vault:read", "vault:write", "vault:code")
	item := func(name string) ID {
		n := seedOf(TOTP)
		n.About.Name = name
		return h.put(t, n).ID
	}
	mine, err := h.Add(ctx, p.caller(), seedOf(Secret))
	must(t, err)
	made, err := h.Add(ctx, p.caller(), seedOf(Secret))
	must(t, err)
	own, group, lent, past, taken, gone, codes := item("own"), item("group"), item("lent"), item("past"), item("taken"), item("gone"), item("codes")
	both, all := item("both"), mine.ID // granted and taken out; put in, granted and taken out
	grant := h.grant(t, past, p.actor(), ForSeed)
	_, err = h.Revoke(ctx, h.boss, past, grant.ID)
	must(t, err)
	h.grant(t, own, p.actor(), ForSeed)
	h.grant(t, group, h.group(t, p), ForSeed)
	h.grant(t, codes, p.actor(), ForCode)
	h.lend(t, p.caller(), lent, ForSeed, time.Hour)
	for _, i := range []ID{taken, gone} {
		g := h.grant(t, i, p.actor(), ForSeed)
		_, _, err := h.Export(ctx, p.caller(), Export{[]ID{i}, portable.FormatURI, portable.Protection{Clear: true}, "r"})
		must(t, err)
		_, err = h.Revoke(ctx, h.boss, i, g.ID)
		must(t, err)
		must(t, h.Delete(ctx, h.boss, i, ""))
	}
	for _, i := range []ID{both, all} {
		h.grant(t, i, p.actor(), ForSeed)
		_, _, err := h.Export(ctx, p.caller(), Export{[]ID{i}, portable.FormatAvouch, portable.Protection{Clear: true}, "r"})
		must(t, err)
	}
	h.fetchAs(t, p.caller(), codes)
	// The exports lie behind more uses than a page has.
	h.manyUses(t, p, codes, mostUses)
	want := map[string]string{made.ID.String(): "made Token", all.String(): "exported Token", both.String(): "exported both", own.String(): "seed own", group.String(): "seed group", lent.String(): "seed lent", past.String(): "seed past", taken.String(): "exported gone from here", gone.String(): "exported gone from here"}
	check := func(when string) {
		t.Helper()
		r, err := h.Left(ctx, h.boss, p.id)
		must(t, err)
		got := map[string]string{}
		for _, k := range r.Rotate {
			if got[k.Item.String()] != "" {
				t.Errorf("%s: %s is there twice", when, k.Name)
			}
			if got[k.Item.String()] = k.Why + " " + k.Name; k.Gone {
				got[k.Item.String()] += "gone from here"
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(r.Fetched) != mostUses || !r.More || r.Fetched[0].Type != "vault.code_given" {
			t.Errorf("%s: %d fetched, %v, %s", when, len(r.Fetched), r.More, diff)
		}
		if e := h.Last(t, h.acme); e.Type != "vault.report_read" || e.Target.ID != p.id.String() {
			t.Errorf("the log says %s", e.Body)
		}
	}
	check("before")
	n, err := h.endOf(ctx, p)
	must(t, err)
	if n != 5 { // own, codes, both, and what they put in
		t.Errorf("%d grants ended", n)
	}
	h.set(t, `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND person_id = $2`, h.acme, p.id)
	check("after")
	for _, i := range []ID{mine.ID, own, group, lent, codes} {
		if _, err := h.Code(ctx, p.caller(), i, ""); err == nil {
			t.Errorf("%s can be used", i)
		}
	}
	if live := h.Text(t, `SELECT count(*)::text FROM avouch.vault_grant WHERE grantee = $1 AND ended_at IS NULL`, p.id.String()); live != "0" {
		t.Errorf("%s grants live", live)
	}
	h.unguarded(t)
	h.Admin(t, `UPDATE avouch.vault_item SET about = secret WHERE item_id = $1`, own)
	want[own.String()] = "seed "
	check("altered")
	if h.alarms(t, h.acme) != own.String() {
		t.Error("it was not told of")
	}
}

// leave takes people out of a group, as the rooms do that decide about members.
func (h *house) leave(t testing.TB, group Actor, people ...*someone) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		ids := []tenantdb.PersonID{}
		for _, p := range people {
			ids = append(ids, p.id)
			if _, err := tx.Exec(t.Context(), `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2::uuid AND person_id = $3`, h.acme, group.ID, p.id); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Type: "test.left"}, h.Leave(t.Context(), tx, group.ID, ids)
	}))
}

// TestReportIsComplete: what somebody knew by a group that they left before, or that lost it before; what they put in the place of another's,
// and what is deleted since; what keys of theirs put in, and what codes those got, also by keys that ended.
func TestReportIsComplete(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	all := []string{"vault:read", "vault:write", "vault:code", "vault:manage"}
	p, beside := h.person(t, all...), h.person(t, all...)
	key, others := h.key(t, p, all...), h.key(t, beside, all...)
	g := h.group(t, p, beside)
	before, after, own, codes := h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID
	ended := h.grant(t, before, g, ForSeed)
	_, err := h.Revoke(ctx, h.boss, before, ended.ID)
	must(t, err)
	h.grant(t, after, g, ForSeed)
	h.grant(t, own, g, ForSeed)
	h.grant(t, own, p.actor(), ForSeed)
	h.grant(t, codes, g, ForCode)
	h.leave(t, g, p, beside)
	h.set(t, `INSERT INTO avouch.group_member (tenant_id, group_id, person_id) VALUES ($1, $2::uuid, $3)`, h.acme, g.ID, p.id)
	h.leave(t, g, p)
	late := h.put(t, seedOf(TOTP)).ID
	h.grant(t, late, g, ForSeed)
	if n := h.Text(t, `SELECT count(*)::text FROM avouch.vault_grant WHERE grantee = $1`, p.id.String()); n != "3" { // each once
		t.Errorf("%s grants are theirs", n)
	}
	put, gone, by, keys := h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID
	for i, c := range map[ID]tenantdb.Caller{put: p.caller(), gone: p.caller(), keys: key, by: others} {
		_, err := h.Replace(ctx, c, i, "", content{Key: []byte("another key of twenty"), Algorithm: "SHA1", Digits: 6, Period: 30}, 0)
		must(t, err)
	}
	must(t, h.Delete(ctx, h.boss, gone, ""))
	made, err := h.Add(ctx, key, seedOf(HOTP))
	must(t, err)
	theirs, err := h.Add(ctx, others, seedOf(HOTP))
	must(t, err)
	h.grant(t, made.ID, actorOf(others.Actor()), ForCode)
	h.fetchAs(t, key, made.ID)
	h.fetchAs(t, others, made.ID)
	h.fetchAs(t, others, theirs.ID)
	h.fetchAs(t, p.caller(), own)
	h.fetchAs(t, key, made.ID)
	h.set(t, `UPDATE avouch.api_key SET revoked_at = now() WHERE tenant_id = $1 AND key_id = $2`, h.acme, key.Actor().ID)
	want := map[string]string{}
	for i, why := range map[ID]string{before: "seed", after: "seed", own: "seed", put: "made", gone: "made", keys: "made", made.ID: "made"} {
		want[i.String()] = why
	}
	check := func(when string) {
		t.Helper()
		r, err := h.Left(ctx, h.boss, p.id)
		must(t, err)
		got, fetched := map[string]string{}, ""
		for _, k := range r.Rotate {
			got[k.Item.String()] = k.Why
		}
		for _, u := range r.Fetched {
			fetched += u.By.String() + " " + u.Item.String() + "\n"
		}
		mine := actorOf(key.Actor()).String() + " " + made.ID.String() + "\n"
		if diff := cmp.Diff(want, got); diff != "" || fetched != mine+p.actor().String()+" "+own.String()+"\n"+mine {
			t.Errorf("%s: %s, fetched\n%s", when, diff, fetched)
		}
	}
	check("before they leave")
	_, err = h.endOf(ctx, p)
	must(t, err)
	check("afterwards")
}

// manyUses writes uses of a person as if they had fetched, without the limit of a minute.
func (h *house) manyUses(t *testing.T, p *someone, i ID, n int) {
	t.Helper()
	must(t, h.DB.ChangeAll(t.Context(), p.caller(), func(*tenantdb.Tx) ([]audit.Event, error) {
		f := &facts{item: &Item{ID: i, Kind: TOTP}, address: h.local}
		return slices.Repeat([]audit.Event{used(p.caller(), f, "vault.code_given")}, n), nil
	}))
}

// TestEndOfPerson: also what waits is ended, and nobody lends it afterwards.
func TestEndOfPerson(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i, p := h.put(t, seedOf(TOTP)).ID, h.member(t)
	q, err := h.Ask(t.Context(), p.caller(), i, ForCode, "r", time.Hour)
	must(t, err)
	if _, err := h.endOf(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	_, err = h.Decide(t.Context(), h.fresh(), q.ID, true)
	refused(t, "a request of who left", err, problem.Conflict, "The request is ended")
	_, err = h.Code(t.Context(), p.caller(), i, "")
	refused(t, "who left", err, problem.Denied, "")
}
