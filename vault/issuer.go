package vault

import (
	"context"
	"slices"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Who holds an agent's token is the agent. So the second person for what an agent asks is nobody who registered it, or issued the token
// that it comes with.

// isNot refuses an approval of what an agent asked by who may be that agent. A token of which nobody wrote down who issued it, before there
// was a column for it, is anybody's.
func (r *Room) isNot(ctx context.Context, tx *tenantdb.ReadTx, by, agent Actor) error {
	registrar, names, err := readIssuers(ctx, tx, agent.ID, r.now())
	if err != nil {
		return err
	}
	if slices.Contains(names, "") {
		return problem.New(problem.Denied, "Nothing says who issued one of this agent's tokens: it is of before an upgrade, and may be yours. Revoke the agent's tokens, or wait: they end within 24 hours.")
	}
	var issuers []Actor
	for _, n := range append(names, registrar) {
		issuers = append(issuers, actorIn(n))
	}
	me, err := r.self(ctx, tx, by, issuers)
	if err == nil && slices.ContainsFunc(issuers, me.is) {
		err = problem.New(problem.Denied, "You registered this agent, or issued a token of it that works, you, a key of yours, or one of nobody: somebody else decides about what it asks for.")
	}
	return err
}

// bar takes from what is decided from what was lent to an agent by who issued the token that it comes with, whenever that was.
func (r *Room) bar(ctx context.Context, tx *tenantdb.ReadTx, c tenantdb.Caller, f *facts) error {
	issuer, err := readIssuer(ctx, tx, c.Token())
	if err != nil {
		return err
	}
	loans, approvers := f.loans(), []Actor{}
	for k := range loans {
		approvers = append(approvers, loans[k].approver())
	}
	me, err := r.self(ctx, tx, actorIn(issuer), approvers)
	if err != nil {
		return err
	}
	f.requests = slices.DeleteFunc(loans, func(q Request) bool { return issuer == "" || me.is(q.approver()) })
	f.barred = len(f.requests) < len(approvers)
	return nil
}

// approver is who approved a request.
func (q *Request) approver() Actor {
	if q.DecidedBy == nil {
		return Actor{}
	}
	return actorIn(*q.DecidedBy)
}

// loans are the requests that lend something to the asker now.
func (f *facts) loans() (own []Request) {
	for _, q := range f.requests {
		if q.By == f.asker && q.lends(f.now) {
			own = append(own, q)
		}
	}
	return own
}
