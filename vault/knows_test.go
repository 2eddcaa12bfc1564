package vault

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

// anew puts the secret of an item in once more, as its own.
func (h *house) anew(t testing.TB, c tenantdb.Caller, i ID) {
	t.Helper()
	s, err := h.memory.state(t.Context(), h.acme, i, true)
	must(t, err)
	held, err := h.reveal(t.Context(), h.acme, s.item)
	must(t, err)
	_, err = h.Replace(t.Context(), c, i, "", held, 0)
	must(t, err)
}

// TestNobodyGuessesByImports: an import says that a secret is there to who put it in, or could export it now, and to nobody else: not to who
// decides about the item, may have its codes, by a group or a loan, or put in the one before. Else it would tell the right one of ten thousand.
func TestNobodyGuessesByImports(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	guess := Import{Format: portable.FormatAvouch, Data: []byte(`{"format": "avouch-vault/1", "entries": [{"kind": "secret", "name": "a", "text": "Summer4711!"},
{"kind": "codes", "name": "b", "codes": [{"code": "1111"}, {"code": "2222"}]}, {"kind": "totp", "name": "c", "secret": "JBSWY3DP", "algorithm": "SHA1", "digits": 6, "period": 30}]}`)}
	all := []string{"vault:read", "vault:write", "vault:code", "vault:manage"}
	each := func(items []ID, do func(ID)) {
		for _, i := range items {
			do(i)
		}
	}
	for says, c := range map[string]struct {
		by   func(items []ID, p *someone) tenantdb.Caller
		want int
	}{
		"who decides about them": {func(_ []ID, p *someone) tenantdb.Caller { return p.caller() }, 0},
		"granted for codes": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) { h.grant(t, i, p.actor(), ForCode) })
			return p.caller()
		}, 0},
		"a group, for codes": {func(items []ID, p *someone) tenantdb.Caller {
			g := h.group(t, p)
			each(items, func(i ID) { h.grant(t, i, g, ForCode) })
			return p.caller()
		}, 0},
		"lent for codes": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) { h.lend(t, p.caller(), i, ForCode, time.Hour) })
			return p.caller()
		}, 0},
		"a key to which codes are granted": {func(items []ID, p *someone) tenantdb.Caller {
			key := h.key(t, p, all...)
			each(items, func(i ID) { h.grant(t, i, actorOf(key.Actor()), ForCode) })
			return key
		}, 0},
		"the seed, when a second person approves": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) { h.grant(t, i, p.actor(), ForSeed); h.policy(t, i, Policy{Approval: true}) })
			return p.caller()
		}, 0},
		"who put in the ones before": {func(items []ID, _ *someone) tenantdb.Caller {
			other := h.person(t, all...)
			each(items, func(i ID) { h.anew(t, other.caller(), i) })
			return h.boss
		}, 0},
		"as whose somebody wrote it into the row": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) {
				h.set(t, `UPDATE avouch.vault_item SET creator = $2 WHERE item_id = $1`, i, p.actor().ID)
			})
			return p.caller()
		}, 0},
		"who put them in": {func([]ID, *someone) tenantdb.Caller { return h.boss }, 3},
		"a key of theirs": {func([]ID, *someone) tenantdb.Caller { return h.key(t, &someone{h: h, id: h.rules.owners[0]}, all...) }, 3},
		"who put in others": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) { h.anew(t, p.caller(), i) })
			return p.caller()
		}, 3},
		"the seed": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) { h.grant(t, i, p.actor(), ForSeed) })
			return p.caller()
		}, 3},
		"the seed, and a second person approved": {func(items []ID, p *someone) tenantdb.Caller {
			each(items, func(i ID) { h.policy(t, i, Policy{Approval: true}); h.lend(t, p.caller(), i, ForSeed, time.Hour) })
			return p.caller()
		}, 3},
	} {
		put, err := h.Import(ctx, h.fresh(), guess)
		must(t, err)
		var items []ID
		for _, i := range put.Items {
			items = append(items, i.Item)
		}
		tried := guess
		tried.DryRun = true
		out, err := h.Import(ctx, c.by(items, h.person(t, all...)), tried)
		must(t, err)
		n := 0
		for _, i := range out.Items {
			if i.Duplicate {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s is told of %d", says, n)
		}
		each(items, func(i ID) { must(t, h.Delete(ctx, h.boss, i, "")) })
	}
}
