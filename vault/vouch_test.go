package vault

import (
	"errors"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestPutBack: where an item stands that gives one code after the other is what the entry of its last code, or of its last change, says. The
// row of before, whole, gives nothing, and everybody is told.
func TestPutBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.unguarded(t)
	h.put(t, seedOf(TOTP)) // which lists show
	// A device that is ahead is followed, a secret replaced, a name changed, and what others do lies between: it is no alteration.
	fetch := func(t *testing.T, i ID) { h.fetchAs(t, h.boss, i) }
	steps := map[string]func(*testing.T, ID){
		"a code": fetch,
		"codes, and uses that move nothing": func(t *testing.T, i ID) {
			fetch(t, i)
			for range 6 {
				_, err := h.DB.Record(t.Context(), h.boss, used(h.boss, &facts{item: &Item{ID: i, Kind: HOTP}}, "vault.code_asked"))
				must(t, err)
			}
		},
		"a code, and another name": func(t *testing.T, i ID) {
			fetch(t, i)
			h.policy(t, i, Policy{})
		},
		"another name, and a code": func(t *testing.T, i ID) {
			h.policy(t, i, Policy{})
			fetch(t, i)
		},
	}
	for _, kind := range []Kind{HOTP, Codes} {
		for says, moves := range steps {
			i := h.put(t, seedOf(kind)).ID
			h.Admin(t, `DROP TABLE IF EXISTS kept`)
			h.Admin(t, `CREATE TABLE kept AS SELECT * FROM avouch.vault_item`)
			moves(t, i)
			must(t, h.Check(t.Context(), tenantdb.System(h.acme, "test")))
			if a := h.alarms(t, h.acme); a != "" {
				t.Fatalf("%s of %s is taken for an alteration: %s", says, kind, a)
			}
			h.Admin(t, `UPDATE avouch.vault_item v SET counter = k.counter, taken = k.taken FROM kept k WHERE k.item_id = v.item_id AND v.item_id = $1`, i)
			h.altered(t, says+" of "+string(kind), h.boss, i)
			must(t, h.Delete(t.Context(), h.boss, i, ""))
			h.Admin(t, `UPDATE avouch.incident SET resolved_at = now() WHERE resolved_at IS NULL`)
		}
	}
	i := h.put(t, seedOf(HOTP)).ID
	fetch(t, i)
	at := int64(0)
	_, err := h.Resync(t.Context(), h.boss, i, nil, &at)
	must(t, err)
	fetch(t, i)
	other := seedOf(HOTP)
	other.content.Key = []byte("another key of twenty")
	_, err = h.Replace(t.Context(), h.boss, i, "", other.content, 7)
	must(t, err)
	fetch(t, i)
	fetch(t, i)
}

// TestPlantedGrants: what is granted or lent of an item is what the last entries about that say. A row that nobody gave by us, that says more
// than was given, or that was taken away since, lets nobody use the item, and everybody is told; taking it away mends it.
func TestPlantedGrants(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.unguarded(t)
	h.Admin(t, `DROP INDEX avouch.vault_grant_live`)
	ctx := t.Context()
	const grant = `INSERT INTO avouch.vault_grant (tenant_id, grant_id, item_id, kind, grantee, level, granted_by, granted_at) SELECT tenant_id, gen_random_uuid(), item_id, 'person', $2, 'seed', $2, now() FROM avouch.vault_item WHERE item_id = $1`
	const lent = `INSERT INTO avouch.vault_request (tenant_id, request_id, item_id, kind, asker, level, reason, seconds, granted, asked_at, due_at, decided_by, decided_at, outcome, until)
SELECT tenant_id, gen_random_uuid(), item_id, 'person', $2, 'code', '', 60, false, now(), now(), 'person:x', now(), 'approved', now() + interval '1 day' FROM avouch.vault_item WHERE item_id = $1`
	revoked := func(t *testing.T, i ID, p *someone) {
		all, err := h.Grants(ctx, h.boss, i)
		must(t, err)
		for _, g := range all {
			if g.To == p.actor() {
				_, err := h.Revoke(ctx, h.boss, i, g.ID)
				must(t, err)
			}
		}
	}
	granted := func(t *testing.T, i ID, p *someone) { h.grant(t, i, p.actor(), ForCode) }
	asked := func(t *testing.T, i ID, p *someone) { h.lend(t, p.caller(), i, ForCode, time.Hour) }
	type before = func(*testing.T, ID, *someone)
	for says, a := range map[string]struct {
		before []before
		sql    string
	}{
		"a grant that nobody gave":        {nil, grant},
		"a loan that nobody gave":         {nil, lent},
		"the level seed":                  {[]before{granted}, `UPDATE avouch.vault_grant SET level = 'seed' WHERE item_id = $1 AND grantee = $2`},
		"another's grant":                 {nil, `UPDATE avouch.vault_grant SET grantee = $2 WHERE item_id = $1`},
		"a grant that was revoked":        {[]before{granted, revoked}, `UPDATE avouch.vault_grant SET ended_at = NULL, ended_by = NULL WHERE item_id = $1 AND grantee = $2`},
		"a longer one":                    {[]before{granted}, `UPDATE avouch.vault_grant SET expires_at = now() + interval '9 years' WHERE item_id = $1 AND grantee = $2`},
		"a longer loan":                   {[]before{asked}, `UPDATE avouch.vault_request SET until = until + interval '1 day' WHERE item_id = $1 AND asker = $2`},
		"a loan of the seed":              {[]before{asked}, `UPDATE avouch.vault_request SET level = 'seed' WHERE item_id = $1 AND asker = $2`},
		"a loan that needs no grant":      {[]before{granted, func(t *testing.T, i ID, _ *someone) { h.policy(t, i, Policy{Approval: true}) }, asked}, `UPDATE avouch.vault_request SET granted = false WHERE item_id = $1 AND asker = $2`},
		"a loan that was ended":           {[]before{granted, func(t *testing.T, i ID, _ *someone) { h.policy(t, i, Policy{Approval: true}) }, asked, revoked}, `UPDATE avouch.vault_request SET ended_at = NULL WHERE item_id = $1 AND asker = $2`},
		"a grant that another took over":  {[]before{granted, granted}, `UPDATE avouch.vault_grant SET ended_at = NULL, ended_by = NULL WHERE item_id = $1 AND grantee = $2`},
		"what whoever added it had first": {nil, ``},
	} {
		i, p := h.put(t, seedOf(TOTP)).ID, h.member(t)
		if says == "what whoever added it had first" {
			boss, _ := h.boss.Person()
			p = &someone{h: h, id: boss.ID, caps: h.boss.Scopes(), from: h.local}
			revoked(t, i, p)
			a.sql = `UPDATE avouch.vault_grant SET ended_at = NULL, ended_by = NULL WHERE item_id = $1 AND grantee = $2`
		}
		for _, step := range a.before {
			step(t, i, p)
		}
		h.Admin(t, a.sql, i, p.id.String())
		uses := map[string]func() error{
			"a code":    func() error { _, err := h.Code(ctx, p.caller(), i, ""); return err },
			"a request": func() error { _, err := h.Ask(ctx, h.member(t).caller(), i, ForCode, "r", shortestTime); return err },
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
			if own := h.alarms(t, h.acme); own != i.String() {
				t.Errorf("%s: after %s, incidents about %q", says, what, own)
			}
		}
		h.mended(t, says, i)
		must(t, h.Delete(ctx, h.boss, i, ""))
	}
}

// mended holds that an item is used again once all that is granted and lent of it was taken away, and granted anew.
func (h *house) mended(t *testing.T, says string, i ID) {
	t.Helper()
	ctx := t.Context()
	all, err := h.Grants(ctx, h.boss, i)
	must(t, err)
	for _, g := range all {
		_, err := h.Revoke(ctx, h.boss, i, g.ID)
		must(t, err)
	}
	requests, _, err := h.Requests(ctx, h.boss, "", RequestID{}, 100)
	must(t, err)
	for _, q := range requests {
		if q.Item == i && q.lends(h.clock.at()) {
			_, err := h.Withdraw(ctx, h.boss, q.ID)
			must(t, err)
		}
	}
	p := h.member(t)
	h.grant(t, i, p.actor(), ForCode)
	h.policy(t, i, Policy{})
	if _, err := h.Code(ctx, p.caller(), i, ""); err != nil {
		t.Errorf("%s, taken away: %v", says, err)
	}
}
