package vault

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// TestRefusals: whatever is missing, the code is not given, the text says what is missing, and nothing of a use is in the log.
func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	for _, k := range []Kind{TOTP, HOTP, Codes} {
		for says, c := range map[string]struct {
			how  func(i ID, p *someone) tenantdb.Caller
			kind problem.Kind
			text string // golden; {item} is the item
		}{
			"not granted": {func(_ ID, p *someone) tenantdb.Caller { return p.caller() }, problem.Denied,
				"This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"granted to another": {func(i ID, p *someone) tenantdb.Caller { h.anybody(t, i); return p.caller() }, problem.Denied,
				"This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"not approved": {func(i ID, p *someone) tenantdb.Caller {
				h.grant(t, i, p.actor(), ForSeed)
				h.policy(t, i, Policy{Approval: true})
				return p.caller()
			}, problem.Denied, "A second person must approve before you use this item. Ask with POST /api/v1/vault/items/{item}/requests."},
			"approved for a minute that is over": {func(i ID, p *someone) tenantdb.Caller {
				h.lend(t, p.caller(), i, ForCode, time.Minute)
				h.fetchAs(t, p.caller(), i)
				h.clock.pass(time.Minute)
				return p.caller()
			}, problem.Denied, "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"granted until now": {func(i ID, p *someone) tenantdb.Caller {
				end := h.clock.at().Add(time.Hour)
				_, err := h.Grant(ctx, h.boss, i, p.actor(), ForCode, &end)
				must(t, err)
				h.fetchAs(t, p.caller(), i)
				h.clock.set(end)
				return p.caller()
			}, problem.Denied, "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"revoked": {func(i ID, p *someone) tenantdb.Caller {
				g := h.grant(t, i, p.actor(), ForCode)
				h.fetchAs(t, p.caller(), i)
				_, err := h.Revoke(ctx, h.boss, i, g.ID)
				must(t, err)
				return p.caller()
			}, problem.Denied, "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"revoked between the request's approval and the fetch": {func(i ID, p *someone) tenantdb.Caller {
				g := h.grant(t, i, p.actor(), ForCode)
				h.policy(t, i, Policy{Approval: true})
				h.lend(t, p.caller(), i, ForCode, time.Hour)
				_, err := h.Revoke(ctx, h.boss, i, g.ID)
				must(t, err)
				return p.caller()
			}, problem.Denied, "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"the group of which was left": {func(i ID, p *someone) tenantdb.Caller {
				g := h.group(t, p)
				h.grant(t, i, g, ForCode)
				h.fetchAs(t, p.caller(), i)
				h.set(t, `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND person_id = $2`, h.acme, p.id)
				return p.caller()
			}, problem.Denied, "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"the request was withdrawn": {func(i ID, p *someone) tenantdb.Caller {
				q := h.lend(t, p.caller(), i, ForCode, time.Hour)
				h.fetchAs(t, p.caller(), i)
				_, err := h.Withdraw(ctx, h.boss, q.ID)
				must(t, err)
				return p.caller()
			}, problem.Denied, "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/{item}/requests."},
			"at the wrong time": {func(i ID, p *someone) tenantdb.Caller {
				h.grant(t, i, p.actor(), ForSeed)
				now := h.clock.at()
				h.policy(t, i, Policy{Hours: &Hours{From: now.Add(time.Hour).Format("15:04"), To: now.Add(2 * time.Hour).Format("15:04"), Zone: "UTC"}})
				return p.caller()
			}, problem.Denied, "This item may be used from {from} to {to} only, UTC, on the days of its policy."},
			"from the wrong place": {func(i ID, p *someone) tenantdb.Caller {
				h.grant(t, i, p.actor(), ForSeed)
				h.policy(t, i, Policy{CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
				return p.caller()
			}, problem.Denied, "This item may not be used from this address."},
			"without the capability": {func(i ID, p *someone) tenantdb.Caller {
				h.grant(t, i, p.actor(), ForSeed)
				p.caps = []string{"vault:read", "vault:use"}
				return p.caller()
			}, problem.Denied, "This needs the capability vault:code, which the credential does not have."},
			"deleted": {func(i ID, p *someone) tenantdb.Caller {
				h.grant(t, i, p.actor(), ForSeed)
				h.fetchAs(t, p.caller(), i)
				must(t, h.Delete(ctx, h.boss, i, ""))
				return p.caller()
			}, problem.Missing, "There is no such item in your vault."},
		} {
			i := h.put(t, seedOf(k)).ID
			p := h.member(t)
			caller := c.how(i, p)
			before, counter := h.given(t, "vault.code_given"), h.moved(t, i)
			got, err := h.Code(ctx, caller, i, "")
			now := h.clock.at()
			want := strings.NewReplacer("{item}", i.String(), "{from}", now.Add(time.Hour).Format("15:04"), "{to}", now.Add(2*time.Hour).Format("15:04")).Replace(c.text)
			if q := problem.Of(err); q == nil || q.Kind != c.kind || q.Detail != want {
				t.Errorf("%s, %s: %v", k, says, err)
			}
			if got != (Code{}) || h.given(t, "vault.code_given") != before || h.moved(t, i) != counter {
				t.Errorf("%s, %s: refused, and got %+v", k, says, got)
			}
		}
	}
}

// TestKindIsNotTold: who may not use an item is not told of which kind it is by the refusal.
func TestKindIsNotTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	hush, code := h.put(t, seedOf(Secret)).ID, h.put(t, seedOf(TOTP)).ID
	nothing, member, b := h.person(t), h.member(t), h.robot(t, "read:email")
	for _, i := range []ID{hush, code} {
		for says, c := range map[string]struct {
			who  Asker
			text string
		}{"no capability": {caller{nothing.caller()}, "This needs the capability vault:"}, "no grant": {caller{member.caller()}, "This item has not been granted to you."}, "no scope": {b.at(h.side), "The agent lacks the scope "}} {
			_, err := h.code(ctx, h.acme, c.who, i, "")
			refused(t, says+", a code", err, problem.Denied, c.text)
			_, err = h.use(ctx, h.acme, c.who, i, fetch.Request{URL: "https://x.example"})
			refused(t, says+", a request", err, problem.Denied, c.text)
		}
	}
	h.grant(t, hush, member.actor(), ForCode)
	h.grant(t, code, member.actor(), ForCode)
	_, err := h.Code(ctx, member.caller(), hush, "")
	refused(t, "a code of a secret", err, problem.Conflict, "nobody sees")
	_, err = h.Use(ctx, member.caller(), code, fetch.Request{URL: "https://x.example"})
	refused(t, "a request with a seed", err, problem.Conflict, "gives codes")
}

// TestRevokeEndsLoans: with a grant ends what was lent to the same one, and nobody else; each has an entry.
func TestRevokeEndsLoans(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i, p, q := h.put(t, seedOf(TOTP)).ID, h.member(t), h.member(t)
	one := h.lend(t, p.caller(), i, ForCode, time.Hour)
	two := h.lend(t, q.caller(), i, ForCode, time.Hour)
	g := h.grant(t, i, p.actor(), ForCode)
	_, err := h.Revoke(t.Context(), h.boss, i, g.ID)
	must(t, err)
	_, err = h.Code(t.Context(), p.caller(), i, "")
	refused(t, "lent to the same one", err, problem.Denied, "has not been granted")
	h.fetchAs(t, q.caller(), i)
	for _, c := range []struct {
		request Request
		state   string
	}{{one, "ended"}, {two, "approved"}} {
		if now, err := h.Request(t.Context(), h.boss, c.request.ID); err != nil || now.State(h.clock.at()) != c.state {
			t.Errorf("%s, want %s, %v", now.State(h.clock.at()), c.state, err)
		}
	}
	if all := h.OfType(t, h.acme, "vault.request_ended"); len(all) != 1 || all[0].Target.ID != one.ID.String() {
		t.Errorf("%d entries", len(all))
	}
}

// moved is what fetches move of an item, as the row has it.
func (h *house) moved(t testing.TB, i ID) string {
	t.Helper()
	return h.Text(t, `SELECT coalesce((SELECT counter::text || taken::text FROM avouch.vault_item WHERE item_id = $1), '')`, i)
}

// TestSelfApproval: nobody approves what they asked for: not directly, not by a key of theirs, not what a key of theirs asked, and not by
// another key of theirs. A key of nobody is no second person: it decides nothing, and no owner about what it asked. No key decides about a seed.
func TestSelfApproval(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(TOTP))
	h.policy(t, i.ID, Policy{Approval: true})
	mighty := []string{"vault:read", "vault:write", "vault:code", "vault:manage"}
	p := h.person(t, mighty...)
	one, two, other := h.key(t, p, mighty...), h.key(t, p, mighty...), h.key(t, h.person(t), mighty...)
	for _, asker := range []tenantdb.Caller{p.caller(), one} {
		q, err := h.Ask(t.Context(), asker, i.ID, ForCode, "I want it", time.Hour)
		must(t, err)
		for what, c := range map[string]tenantdb.Caller{"themselves": p.caller(), "a key of theirs": one, "another key of theirs": two} {
			_, err := h.Decide(t.Context(), c, q.ID, true)
			refused(t, what, err, problem.Denied, "Nobody decides about what they asked for themselves.")
		}
		_, err = h.Code(t.Context(), asker, i.ID, "")
		if err == nil {
			t.Error("it was used")
		}
		_, err = h.Decide(t.Context(), other, q.ID, true)
		must(t, err)
		h.fetchAs(t, asker, i.ID)
		_, err = h.Decide(t.Context(), other, q.ID, true)
		refused(t, "a second time", err, problem.Conflict, "The request is approved: there is nothing to decide.")
	}
	owner, admin := h.person(t, mighty...), h.person(t, mighty...)
	h.rules.set(func(b *rulebook) { b.owners = append(b.owners, owner.id) })
	nobodys := h.key(t, nil, mighty...)
	ownersKey := h.key(t, owner, mighty...)
	for what, asker := range map[string]tenantdb.Caller{"a member": h.member(t).caller(), "an owner": owner.caller(), "another key of nobody": h.key(t, nil, mighty...)} {
		q, err := h.Ask(t.Context(), asker, i.ID, ForCode, "I want it", time.Hour)
		must(t, err)
		for _, approve := range []bool{true, false} {
			_, err = h.Decide(t.Context(), nobodys, q.ID, approve)
			refused(t, "a key of nobody decides about what was asked by "+what, err, problem.Denied, "This key belongs to nobody")
		}
	}
	asked, err := h.Ask(t.Context(), nobodys, i.ID, ForCode, "I want it", time.Hour)
	must(t, err)
	for what, c := range map[string]tenantdb.Caller{"an owner": owner.caller(), "an owner's key": ownersKey} {
		_, err = h.Decide(t.Context(), c, asked.ID, true)
		refused(t, what+" decides about what a key of nobody asked", err, problem.Denied, "Nobody decides about what they asked for themselves.")
	}
	_, err = h.Decide(t.Context(), admin.caller(), asked.ID, true)
	must(t, err)
	asked, err = h.Ask(t.Context(), h.member(t).caller(), i.ID, ForSeed, "I want it", time.Hour)
	must(t, err)
	for _, approve := range []bool{true, false} {
		_, err = h.Decide(t.Context(), other, asked.ID, approve)
		refused(t, "a key decides about a seed", err, problem.Denied, "Only a person who is signed in")
	}
	_, err = h.Decide(t.Context(), admin.caller(), asked.ID, true)
	must(t, err)
	// The database holds to it too.
	q, err := h.Ask(t.Context(), h.member(t).caller(), i.ID, ForCode, "I want it", time.Hour)
	must(t, err)
	if err := h.AsServer(t, h.acme, `UPDATE avouch.vault_request SET outcome = 'approved', decided_by = asker, decided_at = now(), until = now() WHERE request_id = $1`, q.ID); err == nil {
		t.Error("the row says that its asker decided")
	}
}

// TestRequests: what is asked, by whom it is decided, in time, and what the owners and the log learn.
func TestRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	i := h.put(t, seedOf(TOTP))
	p, b := h.member(t), h.robot(t, "read:codes")
	for what, c := range map[string]struct {
		level  Level
		reason string
		span   time.Duration
	}{
		"no reason": {ForCode, "", time.Hour}, "a long reason": {ForCode, strings.Repeat("a", 1001), time.Hour}, "a moment": {ForCode, "r", time.Second},
		"a month": {ForCode, "r", 30 * 24 * time.Hour}, "no level": {"all", "r", time.Hour},
	} {
		_, err := h.Ask(ctx, p.caller(), i.ID, c.level, c.reason, c.span)
		refused(t, what, err, problem.Invalid, "This cannot be asked for.")
	}
	robin, _, _, err := b.at(h.side).Stand(ctx, true)
	must(t, err)
	_, err = h.Ask(ctx, robin, i.ID, ForSeed, "r", time.Hour)
	refused(t, "an agent that asks for the seed", err, problem.Denied, "Only people may have a seed")
	_, err = h.Ask(ctx, h.person(t, "vault:read").caller(), i.ID, ForCode, "r", time.Hour)
	refused(t, "somebody who may fetch nothing", err, problem.Denied, "vault:code")
	_, err = h.Ask(ctx, h.boss, i.ID, ForCode, "r", time.Hour)
	refused(t, "somebody who has it", err, problem.Conflict, "without asking")

	q, err := h.Ask(ctx, p.caller(), i.ID, ForCode, "The secret reason", time.Hour)
	must(t, err)
	e := h.Last(t, h.acme)
	if e.Type != "vault.requested" || e.Private["reason"] != "The secret reason" || strings.Contains(string(e.Body), "secret reason") || e.Field("by") != p.actor().String() {
		t.Errorf("the log says %s", e.Body)
	}
	if n := h.Text(t, `SELECT count(*)::text FROM avouch_jobs.river_job WHERE args->>'template' = 'vault_requested'`); n != "2" {
		t.Errorf("%s owners are mailed", n)
	}
	for n := range mostOpen {
		_, err = h.Ask(ctx, p.caller(), i.ID, ForCode, "again", time.Hour)
		if (err == nil) != (n < mostOpen-1) {
			t.Errorf("request %d: %v", n+2, err)
		}
	}
	for what, c := range map[string]tenantdb.Caller{"another member": h.member(t).caller(), "an agent": robin} {
		for verb, do := range map[string]func() error{
			"reads it":  func() error { _, err := h.Request(ctx, c, q.ID); return err },
			"decides":   func() error { _, err := h.Decide(ctx, c, q.ID, true); return err },
			"withdraws": func() error { _, err := h.Withdraw(ctx, c, q.ID); return err },
		} {
			refused(t, what+" "+verb, do(), problem.Missing, "There is no such request.")
		}
		if all, _, err := h.Requests(ctx, c, "", RequestID{}, 100); err != nil || len(all) != 0 {
			t.Errorf("%s lists %d, %v", what, len(all), err)
		}
	}
	old := h.fresh()
	h.clock.pass(tenantdb.FreshProof + time.Second)
	_, err = h.Decide(ctx, old, q.ID, true)
	refused(t, "an old proof", err, problem.Denied, "Prove yourself again")
	got, err := h.Decide(ctx, h.fresh(), q.ID, false)
	must(t, err)
	if _, err := h.Code(ctx, p.caller(), i.ID, ""); err == nil || got.State(h.clock.at()) != "refused" || h.Last(t, h.acme).Type != "vault.request_refused" {
		t.Errorf("refused: %+v", got)
	}
	h.clock.pass(requestLasts)
	all, _, err := h.Requests(ctx, h.boss, "lapsed", RequestID{}, 100)
	must(t, err)
	if len(all) != 2 || all[0].Reason != "again" {
		t.Errorf("lapsed are %+v", all)
	}
	_, err = h.Decide(ctx, h.fresh(), all[0].ID, true)
	refused(t, "too late", err, problem.Conflict, "The request is lapsed")
}

// TestAgentsScope: an agent needs the scope and the grant, both, at each fetch; nobody's secret is used with the scope of codes.
func TestAgentsScope(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	all := h.Caller(h.acme, tenantdb.Everything)
	other := h.server(t, h.Another(t))
	for _, k := range []Kind{TOTP, HOTP} {
		i := h.put(t, seedOf(k))
		b := h.robot(t, "read:codes")
		for n, s := range []*side{h.side, other} {
			_, err := s.ask(t, h, b, i.ID, "")
			refused(t, "without a grant", err, problem.Denied, "has not been granted")
			g := h.grant(t, i.ID, b.actor(), ForCode) // on the one server
			_, err = s.ask(t, h, b, i.ID, "")
			must(t, err)
			_, err = h.agents.SetScopes(t.Context(), all, b.id, "", []string{"use:secrets"})
			must(t, err)
			_, err = s.ask(t, h, b, i.ID, "")
			refused(t, "without the scope", err, problem.Denied, "The agent lacks the scope read:codes.")
			_, err = h.agents.SetScopes(t.Context(), all, b.id, "", []string{"read:codes"})
			must(t, err)
			_, err = s.ask(t, h, b, i.ID, "")
			must(t, err)
			_, err = h.Revoke(t.Context(), h.boss, i.ID, g.ID)
			must(t, err)
			_, err = s.ask(t, h, b, i.ID, "")
			refused(t, fmt.Sprint("revoked, server ", n), err, problem.Denied, "has not been granted")
		}
		h.grant(t, i.ID, b.actor(), ForCode)
		for _, s := range []*side{h.side, other} {
			_, err := s.ask(t, h, b, i.ID, "")
			must(t, err)
		}
		_, err := h.agents.Revoke(t.Context(), all, b.id)
		must(t, err)
		for _, s := range []*side{other, h.side} {
			got, err := s.ask(t, h, b, i.ID, "")
			refused(t, "a revoked agent", err, problem.Unauthenticated, "proves nothing")
			if got != (Code{}) {
				t.Errorf("%s: a revoked agent got %+v", k, got)
			}
		}
	}
}

// TestEveryChangeOnAnotherServer makes each change that takes something away on one server, and fetches at once on another that remembers
// what was before; and what gives something, which is not withheld.
func TestEveryChangeOnAnotherServer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.server(t, h.Another(t))
	ctx := t.Context()
	for _, k := range []Kind{TOTP, HOTP} {
		i := h.put(t, seedOf(k)).ID
		p := h.member(t)
		may := func(what string, want bool) {
			t.Helper()
			if c, err := other.Code(ctx, p.caller(), i, ""); (err == nil) != want || want != (c.Code != "") {
				t.Errorf("%s, %s: %+v, %v", k, what, c, err)
			}
		}
		may("nothing was granted", false)
		for range 3 {
			g := h.grant(t, i, p.actor(), ForCode)
			may("it was granted", true)
			_, err := h.Revoke(ctx, h.boss, i, g.ID)
			must(t, err)
			may("it was revoked", false)
		}
		q := h.lend(t, p.caller(), i, ForCode, time.Hour)
		may("it was lent", true)
		_, err := h.Withdraw(ctx, h.boss, q.ID)
		must(t, err)
		may("what was lent ended", false)
		h.grant(t, i, p.actor(), ForCode)
		may("it was granted again", true)
		h.policy(t, i, Policy{Approval: true})
		may("approval is needed now", false)
		h.policy(t, i, Policy{CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
		may("it may be used elsewhere only", false)
		h.policy(t, i, Policy{})
		may("everywhere again", true)
		n := seedOf(k)
		n.content.Key = []byte("another key of twenty")
		_, err = h.Replace(ctx, h.boss, i, "", n.content, 0)
		must(t, err)
		if c, err := other.Code(ctx, p.caller(), i, ""); err != nil || !strings.Contains(codesAround(n.content, k, h.clock.at()), c.Code) {
			t.Errorf("%s: the other server gives %+v of the old secret, %v", k, c, err)
		}
		// The other changes what the first did, at the first attempt.
		_, err = other.Update(ctx, h.boss, i, "", Change{About: func(a *About) { a.Name = "Anew" }})
		must(t, err)
		h.set(t, `UPDATE avouch.person SET removed_at = now() WHERE tenant_id = $1 AND person_id = $2`, h.acme, p.id)
		must(t, endPerson(ctx, h, p))
		may("they left", false)
		must(t, h.Delete(ctx, h.boss, i, ""))
		may("it was deleted", false)
	}
}

// codesAround are codes that a secret may give now.
func codesAround(c content, k Kind, now time.Time) string {
	if k == TOTP {
		return c.scheme().Code(c.Key, uint64(c.scheme().Step(now)))
	}
	return c.scheme().Code(c.Key, 0)
}

func endPerson(ctx context.Context, h *house, p *someone) error {
	_, err := h.endOf(ctx, p)
	return err
}

// TestLosesToChanges: an agent that is revoked after its fetch was decided, and before that is in the log, gets nothing, and moves nothing.
func TestLosesToChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, k := range []Kind{TOTP, HOTP, Codes} {
		i := h.put(t, seedOf(k)).ID
		b := h.robot(t, "read:codes")
		h.grant(t, i, b.actor(), ForCode)
		s := h.server(t, h.Another(t))
		_, err := s.ask(t, h, b, i, "")
		must(t, err)
		before, counter, looks := h.given(t, "vault.code_given"), h.moved(t, i), 0
		s.cfg.Now = func() time.Time {
			if looks++; looks == 1 { // everything was read, and nothing is decided
				_, err := h.agents.Revoke(t.Context(), h.Caller(h.acme, tenantdb.Everything), b.id)
				must(t, err)
			}
			return h.clock.at()
		}
		got, err := s.ask(t, h, b, i, "")
		refused(t, string(k), err, problem.Unauthenticated, "proves nothing")
		if looks == 0 || got != (Code{}) || h.given(t, "vault.code_given") != before || h.moved(t, i) != counter {
			t.Errorf("%s: %d looks, %+v", k, looks, got)
		}
	}
}

// moving is an asker after each of whose looks something changes, as long as there is something.
type moving struct {
	Asker
	changes *int
	change  func()
}

func (m moving) Stand(ctx context.Context, again bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error) {
	c, head, spends, err := m.Asker.Stand(ctx, again)
	if *m.changes > 0 {
		*m.changes--
		m.change()
	}
	return c, head, spends, err
}

// TestDecidedInTheEnd: who changes an organisation all the time keeps nobody from a code.
func TestDecidedInTheEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.robot(t, "read:codes")
	for k, changes := range map[Kind]int{TOTP: 20, HOTP: 12} { // fewer than the tries before the head is held
		i := h.put(t, seedOf(k)).ID
		b := h.robot(t, "read:codes")
		h.grant(t, i, b.actor(), ForCode)
		left := changes
		got, err := h.code(t.Context(), h.acme, moving{b.at(h.side), &left, func() {
			name := fmt.Sprint(k, left)
			_, err := h.agents.Update(t.Context(), h.Caller(h.acme, tenantdb.Everything), other.id, "*", agent.Edit{Name: &name})
			must(t, err)
		}}, i, "")
		if err != nil || got.Code == "" || left != 0 {
			t.Errorf("%s: %+v, %v, with %d changes left", k, got, err, left)
		}
	}
}
