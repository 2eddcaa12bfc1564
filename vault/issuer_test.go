package vault

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// issue has somebody issue another token of an agent.
func (h *house) issue(t testing.TB, by tenantdb.Caller, b robot) robot {
	t.Helper()
	b, _ = h.issued(t, by, b)
	return b
}

func (h *house) issued(t testing.TB, by tenantdb.Caller, b robot) (robot, agent.TokenID) {
	t.Helper()
	token, err := h.agents.Issue(t.Context(), by, b.id, agent.Wish{})
	must(t, err)
	return robot{b.id, token.Token.Expose()}, token.JTI
}

// asks is a request of an agent.
func (h *house) asks(t testing.TB, b robot, i ID) Request {
	t.Helper()
	c, _, _, err := b.at(h.side).Stand(t.Context(), true)
	must(t, err)
	q, err := h.Ask(t.Context(), c, i, ForCode, "The nightly run", time.Hour)
	must(t, err)
	return q
}

// TestApproversOfAgents: nobody approves what an agent asks that they registered, or of which they issued a token that works, by a key either,
// and a key of nobody is one with every owner; a token of which nobody wrote down who issued it is anybody's. They refuse, as everybody does.
func TestApproversOfAgents(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	mighty := []string{"vault:read", "vault:code", "vault:manage", "agents:write"}
	mal, bob, owner := h.person(t, mighty...), h.person(t, mighty...), h.person(t, mighty...)
	h.rules.set(func(b *rulebook) { b.owners = append(b.owners, owner.id) })
	malsKey, nobodys := h.key(t, mal, mighty...), h.key(t, nil, mighty...)
	n := seedOf(TOTP)
	n.Policy.Approval = true
	i := h.put(t, n).ID
	for says, c := range map[string]struct {
		made func() robot
		by   tenantdb.Caller
		may  tenantdb.Caller // who may
	}{
		"who registered it":                    {func() robot { return h.robotOf(t, mal.caller(), "read:codes") }, mal.caller(), bob.caller()},
		"a key of who registered it":           {func() robot { return h.robotOf(t, mal.caller(), "read:codes") }, malsKey, bob.caller()},
		"whose key registered it":              {func() robot { return h.robotOf(t, malsKey, "read:codes") }, mal.caller(), bob.caller()},
		"who issued a token":                   {func() robot { b := h.robotOf(t, bob.caller(), "read:codes"); h.issue(t, mal.caller(), b); return b }, mal.caller(), h.fresh()},
		"whose key issued a token":             {func() robot { b := h.robotOf(t, bob.caller(), "read:codes"); h.issue(t, malsKey, b); return b }, mal.caller(), h.fresh()},
		"an owner, where a key of nobody did":  {func() robot { return h.robotOf(t, nobodys, "read:codes") }, owner.caller(), bob.caller()},
		"an owner, of a token of nobody's key": {func() robot { b := h.robotOf(t, mal.caller(), "read:codes"); h.issue(t, nobodys, b); return b }, owner.caller(), bob.caller()},
		"who registered it, when it asks anew": {func() robot { return h.issue(t, bob.caller(), h.robotOf(t, mal.caller(), "read:codes")) }, mal.caller(), h.fresh()},
		"anybody, where nobody wrote down whose": {func() robot {
			b := h.robot(t, "read:codes")
			h.set(t, `UPDATE avouch.agent_token SET issued_by = NULL WHERE agent_id = $1`, b.id)
			return b
		}, bob.caller(), tenantdb.Caller{}},
	} {
		b := c.made()
		h.grant(t, i, b.actor(), ForCode)
		q, other := h.asks(t, b, i), h.asks(t, b, i)
		_, err := h.Decide(ctx, c.by, q.ID, true)
		if !problem.Is(err, problem.Denied) {
			t.Errorf("%s approves: %v", says, err)
		}
		if _, err := h.ask(t, h, b, i, ""); err == nil {
			t.Errorf("%s: the agent has a code", says)
		}
		_, err = h.Decide(ctx, c.by, other.ID, false)
		must(t, err)
		if c.may.Tenant() != h.acme { // the agent comes with another token
			h.set(t, `UPDATE avouch.agent_token SET revoked_at = now() WHERE agent_id = $1`, b.id)
			b, c.may = h.issue(t, mal.caller(), b), bob.caller()
		}
		_, err = h.Decide(ctx, c.may, q.ID, true)
		must(t, err)
		_, err = h.ask(t, h, b, i, "")
		must(t, err)
	}

	// A token of theirs that works no longer is none.
	b := h.robotOf(t, bob.caller(), "read:codes")
	_, err := h.agents.Issue(ctx, mal.caller(), b.id, agent.Wish{Lifetime: agent.MinLifetime})
	must(t, err)
	q := h.asks(t, b, i)
	_, err = h.Decide(ctx, mal.caller(), q.ID, true)
	refused(t, "while it works", err, problem.Denied, "You registered this agent, or issued a token of it that works")
	h.clock.pass(agent.MinLifetime)
	_, err = h.Decide(ctx, mal.caller(), q.ID, true)
	must(t, err)
}

// TestLoansOfOwnTokens: a loan is not used with a token that its approver issued, before or since, by a key either, on any server; nor with one
// of which nobody wrote down who did. With others it is, and what is granted without approval is used as ever.
func TestLoansOfOwnTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	mighty := []string{"vault:read", "vault:code", "vault:manage", "agents:write"}
	mal, bob := h.person(t, mighty...), h.person(t, mighty...)
	other := h.server(t, h.Another(t))
	const says = "Who approved your request issued the token that you come with, or nothing says who did"
	for _, k := range []Kind{TOTP, HOTP} {
		n := seedOf(k)
		i := h.put(t, n).ID
		b := h.robotOf(t, bob.caller(), "read:codes")
		q := h.asks(t, b, i)
		_, err := h.Decide(ctx, mal.caller(), q.ID, true)
		must(t, err)
		own, byKey := h.issue(t, mal.caller(), b), h.issue(t, h.key(t, mal, mighty...), b)
		unknown, jti := h.issued(t, bob.caller(), b)
		h.set(t, `UPDATE avouch.agent_token SET issued_by = NULL WHERE jti = $1`, jti)
		for _, s := range []*side{h.side, other} {
			_, err := s.ask(t, h, b, i, "")
			must(t, err)
			counter := h.moved(t, i)
			for what, theirs := range map[string]robot{"a token": own, "by a key": byKey, "unknown": unknown} {
				_, err := s.ask(t, h, theirs, i, "")
				refused(t, string(k)+", "+what, err, problem.Denied, says)
			}
			if h.moved(t, i) != counter {
				t.Errorf("%s moved", k)
			}
		}
		h.grant(t, i, b.actor(), ForCode)
		_, err = h.ask(t, h, own, i, "")
		must(t, err)
		h.policy(t, i, Policy{Approval: true})
		_, err = other.ask(t, h, own, i, "")
		refused(t, string(k)+", with approval", err, problem.Denied, says)
		_, err = h.agents.RevokeToken(ctx, bob.caller(), b.id, jti)
		must(t, err)
		_, err = h.Decide(ctx, h.fresh(), h.asks(t, b, i).ID, true)
		must(t, err)
		_, err = other.ask(t, h, own, i, "") // another approved too
		must(t, err)
	}
}
