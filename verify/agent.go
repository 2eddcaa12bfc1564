package verify

import (
	"context"
	"slices"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Standing is what an agent is to its own organisation's Avouch, as of the epoch of Head: who decides by it appends at that epoch.
type Standing struct {
	Head   tenantdb.Head
	Agent  agent.ID
	Token  agent.TokenID
	Scopes []string
	Spends []tenantdb.Spend // the token's uses, if it has a number of them
}

// Agent is the standing of an agent that presents a token here, from memory: an unbound one, or one that names us. Whoever decided
// by it, and lost to a change, says so with again. The error is unauthenticated, and says no more.
func (r *Room) Agent(ctx context.Context, token string, again bool) (s Standing, err error) {
	f := &facts{request: Request{Token: token}, now: r.cfg.Now()}
	if err := r.examine(ctx, f); err != nil {
		return s, err
	}
	if f.forged != nil || f.kidGone {
		return s, unproved()
	}
	if again {
		r.registry.drop(tenantdb.Head{Tenant: f.claims.Tenant})
	}
	if f.owner, f.agent, err = r.registry.agent(ctx, f.claims.Tenant, f.claims.Agent); err != nil {
		return s, unreadable(err)
	}
	if err := r.inForce(f); err != nil {
		return s, err
	}
	if f.kidGone || f.owner == nil || f.agent == nil || !slices.Contains(f.claims.Audience, r.cfg.Issuer) {
		return s, unproved()
	}
	for _, rule := range []func(*facts) (verdict, bool){revoked, timely, suspended} {
		if _, stops := rule(f); stops {
			return s, unproved()
		}
	}
	s = Standing{Head: f.owner.head, Agent: f.claims.Agent, Token: f.claims.JTI, Scopes: f.agent.scopes}
	if f.claims.Uses > 0 {
		s.Spends = []tenantdb.Spend{{Tenant: f.claims.Tenant, Subject: tokenCounter + f.claims.JTI.String(), Limit: f.claims.Uses}}
	}
	return s, nil
}

func unproved() error {
	return problem.New(problem.Unauthenticated, "The token proves nothing here: it is not ours, its time is not now, it is for another service, or it was revoked.")
}
