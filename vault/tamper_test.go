package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
	"github.com/avouch-dev/avouch/vault/portable"
)

// TestFlippedBytes: each byte of what is sealed, the wrap of its key too, and each field beside it: an item with another one is not what
// the log says, or does not open as it.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(TOTP))
	h.policy(t, i.ID, Policy{Approval: true})
	row := func() (out Item) {
		must(t, h.DB.Read(t.Context(), h.boss, func(tx *tenantdb.ReadTx) error {
			found, err := readItem(t.Context(), tx, i.ID)
			out = *found
			return err
		}))
		return out
	}
	good := row()
	bad := func(i *Item) error {
		if err := h.DB.Read(t.Context(), h.boss, func(tx *tenantdb.ReadTx) error { return vouched(t.Context(), tx, i) }); err != nil {
			return err
		}
		return h.opens(t.Context(), h.acme, i)
	}
	must(t, bad(&good))
	for name, at := range map[string]func(*Item) *[]byte{"about": func(i *Item) *[]byte { return &i.about }, "secret": func(i *Item) *[]byte { return &i.secret }} {
		whole := *at(&good)
		for k := range whole {
			for _, flip := range []byte{1, 0x80, 0xff} {
				x := good
				*at(&x) = bytes.Clone(whole)
				(*at(&x))[k] ^= flip
				if err := bad(&x); !errors.Is(err, errAltered) {
					t.Errorf("byte %d of %d of %s ^ %#x: %v", k, len(whole), name, flip, err)
				}
			}
		}
		for _, cut := range [][]byte{nil, whole[:1], whole[:len(whole)-1], slices.Concat(whole, []byte{0})} {
			x := good
			if *at(&x) = cut; !errors.Is(bad(&x), errAltered) {
				t.Errorf("%d bytes of %d of %s are taken", len(cut), len(whole), name)
			}
		}
	}
	for name, change := range map[string]func(*Item){
		"kind": func(i *Item) { i.Kind = HOTP }, "listed": func(i *Item) { i.Listed = true }, "policy": func(i *Item) { i.Policy = Policy{} }, "version": func(i *Item) { i.Version++ },
		"secret version": func(i *Item) { i.secretVersion++ }, "mark": func(i *Item) { i.mark = slices.Concat(i.mark[:31], []byte{i.mark[31] ^ 1}) }, "no mark": func(i *Item) { i.mark = nil }, "creator": func(i *Item) { i.Creator.ID = "me" }, "creator's kind": func(i *Item) { i.Creator.Kind = AKey },
		"id": func(i *Item) { i.ID[15] ^= 1 }, "a policy that nobody reads": func(i *Item) { i.unread = true },
	} {
		x := good
		if change(&x); !errors.Is(bad(&x), errAltered) {
			t.Errorf("another %s is taken", name)
		}
	}
}

// unguarded takes the nets of the database away, as its superuser can.
func (h *house) unguarded(t *testing.T) {
	t.Helper()
	for _, sql := range []string{
		`ALTER TABLE avouch.vault_item DISABLE TRIGGER ALL`, `ALTER TABLE avouch.vault_grant DISABLE TRIGGER ALL`, `ALTER TABLE avouch.vault_request DISABLE TRIGGER ALL`,
		`ALTER TABLE avouch.incident DISABLE TRIGGER ALL`, `ALTER TABLE avouch.audit_entry DISABLE TRIGGER ALL`,
	} {
		h.Admin(t, sql)
	}
}

// attack is what somebody does to the database as its superuser.
type attack struct {
	says   string
	before func(t *testing.T, h *house, i ID) // changes by the rooms, once what there was is kept in the table kept
	sql    []string                           // $1 is the item, {other} another one
}

func attacks() []attack {
	policies := func(p ...Policy) func(*testing.T, *house, ID) {
		return func(t *testing.T, h *house, i ID) {
			for _, one := range p {
				h.policy(t, i, one)
			}
		}
	}
	replaced := func(t *testing.T, h *house, i ID) {
		n := seedOf(TOTP)
		n.content.Key = []byte("a newer key of twenty")
		_, err := h.Replace(t.Context(), h.boss, i, "", n.content, 0)
		must(t, err)
	}
	const put = `UPDATE avouch.vault_item v SET (about, secret, secret_version, counter, taken, policy, listed, creator_kind, creator, version) =
(k.about, k.secret, k.secret_version, k.counter, k.taken, k.policy, k.listed, k.creator_kind, k.creator, k.version) FROM kept k WHERE k.item_id = v.item_id AND v.item_id = $1`
	const of = ` FROM avouch.vault_item o WHERE o.item_id = '{other}' AND v.item_id = $1`
	return []attack{
		{"another item's secret", nil, []string{`UPDATE avouch.vault_item v SET secret = o.secret` + of}},
		{"another item's name", nil, []string{`UPDATE avouch.vault_item v SET about = o.about` + of}},
		{"another item whole", nil, []string{`UPDATE avouch.vault_item v SET about = o.about, secret = o.secret, version = o.version, secret_version = o.secret_version` + of}},
		{"the secret where the name was", nil, []string{`UPDATE avouch.vault_item SET about = secret WHERE item_id = $1`}},
		{"the name where the secret was", nil, []string{`UPDATE avouch.vault_item SET secret = about WHERE item_id = $1`}},
		{"another version of the secret", nil, []string{`UPDATE avouch.vault_item SET secret_version = 2 WHERE item_id = $1`}},
		{"approval taken out", policies(Policy{Approval: true}), []string{`UPDATE avouch.vault_item SET policy = '{}' WHERE item_id = $1`}},
		{"a policy that is a list", nil, []string{`UPDATE avouch.vault_item SET policy = '[]' WHERE item_id = $1`}},
		{"a policy of other types", nil, []string{`UPDATE avouch.vault_item SET policy = '{"hours": 5}' WHERE item_id = $1`}},
		{"another kind", nil, []string{`UPDATE avouch.vault_item SET kind = 'hotp' WHERE item_id = $1`}},
		{"shown to everybody", nil, []string{`UPDATE avouch.vault_item SET listed = true WHERE item_id = $1`}},
		{"another who made it", nil, []string{`UPDATE avouch.vault_item SET creator = gen_random_uuid()::text WHERE item_id = $1`}},
		{"the row of before its policy", policies(Policy{Approval: true}), []string{put}},
		{"the row of before its policy changed twice, to the same", policies(Policy{Approval: true}, Policy{}), []string{put}},
		{"the row of before its secret was replaced", replaced, []string{put}},
		{"the older row with the older grants", func(t *testing.T, h *house, i ID) {
			replaced(t, h, i)
			all, err := h.Grants(t.Context(), h.boss, i)
			must(t, err)
			for _, g := range all {
				_, err := h.Revoke(t.Context(), h.boss, i, g.ID)
				must(t, err)
			}
		}, []string{put, `UPDATE avouch.vault_grant SET ended_at = NULL, ended_by = NULL WHERE item_id = $1`}},
		{"a deleted item's row", func(t *testing.T, h *house, i ID) { must(t, h.Delete(t.Context(), h.boss, i, "")) },
			[]string{`INSERT INTO avouch.vault_item SELECT * FROM kept WHERE item_id = $1`, `INSERT INTO avouch.vault_grant SELECT * FROM kept_grant WHERE item_id = $1`}},
	}
}

// TestDatabaseAttacks: whatever a superuser of the database puts into an item's row, the item is used for nothing by whoever reads it,
// both organisations that it concerns have an incident, a check finds it as well, and other items go on.
func TestDatabaseAttacks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.unguarded(t)
	other := h.put(t, seedOf(TOTP))
	for _, a := range attacks() {
		n := seedOf(TOTP)
		n.About.Name = a.says
		i := h.put(t, n).ID
		p := h.boss
		h.grant(t, i, h.member(t).actor(), ForSeed)
		h.Admin(t, `DROP TABLE IF EXISTS kept, kept_grant`)
		h.Admin(t, `CREATE TABLE kept AS SELECT * FROM avouch.vault_item`)
		h.Admin(t, `CREATE TABLE kept_grant AS SELECT * FROM avouch.vault_grant`)
		if a.before != nil {
			a.before(t, h, i)
		}
		for _, sql := range a.sql {
			h.Admin(t, strings.ReplaceAll(sql, "{other}", other.ID.String()), i)
		}
		h.altered(t, a.says, p, i)
		h.fetchAs(t, p, other.ID)
		must(t, h.Delete(t.Context(), p, i, "")) // which it does not keep anybody from
	}
	for says, sql := range map[string]string{
		"a row that was copied": `INSERT INTO avouch.vault_item SELECT * FROM jsonb_populate_record(NULL::avouch.vault_item, (SELECT to_jsonb(v) || jsonb_build_object('item_id', $1::text) FROM avouch.vault_item v WHERE v.item_id = '{other}'))`,
	} {
		i := ID(tenantdb.NewTenantID())
		h.Admin(t, strings.ReplaceAll(sql, "{other}", other.ID.String()), i)
		h.altered(t, says, h.boss, i)
		h.Admin(t, `DELETE FROM avouch.vault_item WHERE item_id = $1`, i)
	}
	h.fetchAs(t, h.boss, other.ID)
}

// altered holds that an item is used for nothing by a server that reads it, and that everybody is told.
func (h *house) altered(t *testing.T, says string, c tenantdb.Caller, i ID) {
	t.Helper()
	ctx := t.Context()
	uses := map[string]func() error{
		"a code":     func() error { _, err := h.Code(ctx, c, i, ""); return err },
		"its detail": func() error { _, err := h.Get(ctx, c, i); return err },
		"a change": func() error {
			_, err := h.Update(ctx, c, i, "", Change{About: func(a *About) { a.Name = "x" }})
			return err
		},
		"a grant": func() error {
			_, err := h.Grant(ctx, c, i, h.member(t).actor(), ForCode, nil)
			return err
		},
		"a request": func() error {
			_, err := h.Ask(ctx, h.member(t).caller(), i, ForCode, "r", shortestTime)
			return err
		},
		"an export": func() error {
			_, _, err := h.Export(ctx, h.fresh(), Export{[]ID{i}, portable.FormatURI, portable.Protection{Clear: true}, "r"})
			return err
		},
		"the list": func() error {
			all, err := h.List(ctx, c, Filter{}, ID{}, 100)
			if slices.ContainsFunc(all, func(s Seen) bool { return s.ID == i }) || err != nil || len(all) == 0 {
				return err
			}
			return altered() // left out, as it is to be
		},
		"a check": func() error {
			if err := h.Check(ctx, tenantdb.System(h.acme, "test")); err != nil {
				return err
			}
			return altered()
		},
	}
	for what, use := range uses {
		h.Admin(t, `UPDATE avouch.incident SET resolved_at = now() WHERE resolved_at IS NULL`)
		h.memory = newMemory(h.DB, h.cfg.Now)
		if err := use(); !errors.Is(err, errAltered) || !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: %s gave %v", says, what, err)
		}
		if own, all := h.alarms(t, h.acme), h.alarms(t, tenantdb.Platform); own != i.String() || all != h.acme.String() {
			t.Errorf("%s: after %s, incidents about %q, and of the platform about %q", says, what, own, all)
		}
	}
}

// TestOtherTenantsRow: a row with all of its log's look-ups, carried to another organisation, opens nothing there.
func TestOtherTenantsRow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(TOTP)).ID
	other := h.Tenant(t, "Other")
	h.unguarded(t)
	h.Admin(t, `INSERT INTO avouch.vault_item SELECT * FROM jsonb_populate_record(NULL::avouch.vault_item, (SELECT to_jsonb(v) || jsonb_build_object('tenant_id', $2::text) FROM avouch.vault_item v WHERE v.item_id = $1))`, i, other)
	_, err := h.Code(t.Context(), h.Caller(other, tenantdb.Everything), i, "")
	if !errors.Is(err, errAltered) || h.alarms(t, other) != i.String() || h.alarms(t, h.acme) != "" {
		t.Errorf("%v, %s", err, h.alarms(t, other))
	}
	// With an entry that says so, it is not opened either: the organisation is in what it is sealed with.
	var row Item
	must(t, h.DB.Read(t.Context(), h.boss, func(tx *tenantdb.ReadTx) error {
		found, err := readItem(t.Context(), tx, i)
		row = *found
		return err
	}))
	if err := h.opens(t.Context(), other, &row); !errors.Is(err, errAltered) {
		t.Errorf("it opens: %v", err)
	}
	h.fetchAs(t, h.boss, i)
}

// TestAlteredLookUps: what an item is compared with is found by columns beside the entries. Who alters those, so that an older row
// passes or a use is not seen, is found by the verification pass.
func TestAlteredLookUps(t *testing.T) {
	t.Parallel()
	for says, sql := range map[string]string{
		"the last change is not found": `UPDATE avouch.audit_entry SET about = NULL WHERE about = $1 AND seq = (SELECT max(seq) FROM avouch.audit_entry WHERE about = $1)`,
		"a use is not found":           `UPDATE avouch.audit_entry SET about = NULL WHERE about = overlay($1::uuid::text placing '8' from 15)::uuid`,
		"a use is another's":           `UPDATE avouch.audit_entry SET person = gen_random_uuid() WHERE about = overlay($1::uuid::text placing '8' from 15)::uuid`,
		"an entry is found too":        `UPDATE avouch.audit_entry SET about = $1 WHERE about IS NULL AND tenant_id = (SELECT tenant_id FROM avouch.vault_item WHERE item_id = $1)`,
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			i := h.put(t, seedOf(TOTP)).ID
			h.fetchAs(t, h.boss, i)
			h.policy(t, i, Policy{Approval: true})
			if f := h.pass(t); f != "" {
				t.Fatalf("before: %s", f)
			}
			h.unguarded(t)
			h.Admin(t, sql, i)
			if f := h.pass(t); !strings.Contains(f, "not found by what it is about, or by who acted") {
				t.Errorf("the pass says %q", f)
			}
		})
	}
}

// pass is what the verification pass finds of the organisation's log.
func (h *house) pass(t *testing.T) (fault string) {
	t.Helper()
	must(t, trail.CheckDatabase(t.Context(), h.DB, h.Ring, func(r trail.LogReport) error {
		if r.Tenant == h.acme && r.Fault != nil {
			fault = r.Fault.Reason
		}
		return nil
	}))
	return fault
}

// TestSealedPlainly: nothing of what an item holds, or is known by, is in the database or the log of the server in clear.
func TestSealedPlainly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, k := range []Kind{TOTP, HOTP, Codes, Secret} {
		n := seedOf(k)
		n.About.Notes, n.About.Name = "a note that is nobody's business", "a name that is nobody's business"
		i := h.put(t, n)
		if k.gives() {
			h.fetchAs(t, h.boss, i.ID)
		}
	}
	dump := h.Text(t, `SELECT string_agg(v::text, ' ') FROM avouch.vault_item v`) + h.Text(t, `SELECT string_agg(v::text || encode(v.body, 'escape'), ' ') FROM avouch.audit_entry v`) + h.Logged()
	for _, clear := range []string{string(rfcKey), "alpha-1", "bravo-2", "sk_live_", "nobody's business"} {
		if strings.Contains(dump, clear) || strings.Contains(dump, hexOf(clear)) {
			t.Errorf("%q is there in clear", clear)
		}
	}
}

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// TestRotatedUnderneath: a server that remembers an item goes on when its keys were rotated and the old ones destroyed; an item that was
// not wrapped anew, or put back from before, is not taken.
func TestRotatedUnderneath(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	items := map[Kind]ID{}
	for _, k := range []Kind{TOTP, HOTP, Secret} {
		items[k] = h.put(t, seedOf(k)).ID
	}
	left := h.put(t, seedOf(TOTP)).ID
	for _, i := range []ID{items[TOTP], items[HOTP], left} {
		h.fetchAs(t, h.boss, i)
	}
	_, err := h.Ring.Renew(ctx, h.acme, "wrap")
	must(t, err)
	for _, i := range items {
		rewrap(ctx, t, h, i)
	}
	must(t, h.Ring.Destroy(ctx, h.acme, "wrap", 1))
	h.Ring.ForgetTenant(h.acme)
	h.fetchAs(t, h.boss, items[TOTP])
	h.fetchAs(t, h.boss, items[HOTP])
	must(t, h.Check(ctx, tenantdb.System(h.acme, "test")))
	if got := h.alarms(t, h.acme); got != left.String() {
		t.Errorf("a check finds %q", got)
	}
	_, err = h.Code(ctx, h.boss, left, "")
	refused(t, "what was left behind", err, problem.Unavailable, "not what the log says")
}

func rewrap(ctx context.Context, t *testing.T, h *house, i ID) {
	t.Helper()
	must(t, h.DB.Change(ctx, tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		found, err := readItem(ctx, &tx.ReadTx, i)
		must(t, err)
		for _, sealed := range []*[]byte{&found.about, &found.secret} {
			*sealed, _, err = h.Ring.RewrapSealed(ctx, h.acme, place(i), *sealed)
			must(t, err)
		}
		return audit.Event{Type: "test.rewrapped"}, updateItem(ctx, tx, found)
	}))
}
