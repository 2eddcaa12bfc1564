package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// Use makes a request with an item's secret in it, for somebody who does not see that: to the hosts of the item's policy. That it is
// made is in the log before it is sent, and what became of it before the answer leaves.
func (r *Room) Use(ctx context.Context, c tenantdb.Caller, id ID, req fetch.Request) (fetch.Response, error) {
	return r.use(ctx, c.Tenant(), caller{c}, id, req)
}

func (r *Room) use(ctx context.Context, t tenantdb.TenantID, who Asker, id ID, req fetch.Request) (out fetch.Response, err error) {
	g, err := r.permit(ctx, t, who, id, req)
	defer g.held.clear()
	if err != nil {
		return out, r.told(ctx, t, id, wrapped("Use", err))
	}
	out, err = r.cfg.Fetch.Do(ctx, *g.item.Policy.Fetch, secret.Own(g.held.Text), req)
	outcome := []audit.Field{field("status", fmt.Sprint(out.Status)), field("masked", fmt.Sprint(out.Masked))}
	if err != nil {
		outcome = []audit.Field{field("failed", fetch.Reason(err))}
	}
	e := used(g.caller, g.facts, "vault.secret_answered", outcome...)
	if err != nil {
		e.Outcome = audit.Failed
	}
	if _, bad := r.cfg.DB.Record(context.WithoutCancel(ctx), g.caller, e); bad != nil {
		return fetch.Response{}, wrapped("Use", bad)
	}
	if err != nil {
		return fetch.Response{}, unfetched(err)
	}
	return out, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// unfetched is what the asker learns of a request that was sent, and not answered as it should.
func unfetched(err error) error {
	var denied *fetch.Denied
	switch {
	case errors.As(err, &denied):
		return notAllowed(denied)
	case errors.Is(err, fetch.ErrTooLong):
		return &problem.Error{Kind: problem.Unavailable, Status: 502, Detail: "The host's answer is too long for the pointers to be followed in it. The request was sent."}
	case errors.Is(err, fetch.ErrCompressed):
		return &problem.Error{Kind: problem.Unavailable, Status: 502, Detail: "The host's answer is compressed and does not say so, and cannot be searched for the secret. Ask for its status alone. The request was sent."}
	case err != nil:
		p := problem.New(problem.Unavailable, "The host did not answer, or may not be reached. The request may have been sent.").Because(err)
		p.Status = 502
		return p
	}
	return nil
}

// notAllowed is what an item's policy does not allow, or what is wrong with the request itself.
func notAllowed(d *fetch.Denied) error {
	if d.Field != "" {
		return flawed("The request is none that can be sent.", d.Field, d.Why)
	}
	return problem.New(problem.Denied, "The item's policy does not allow this request: %s.", d.Why)
}

// permit decides, and has it in the log before anything is sent.
func (r *Room) permit(ctx context.Context, t tenantdb.TenantID, who Asker, id ID, req fetch.Request) (g gathered, err error) {
	times := 0
	_, err = r.cfg.DB.Decide(ctx, []tenantdb.TenantID{t}, func() ([]tenantdb.Draft, []tenantdb.Spend, error) {
		times++
		var to string
		for again := times > 1; ; again = true {
			g.held.clear()
			if g, err = r.gather(ctx, t, who, id, "vault:use", again); err != nil {
				return nil, nil, err
			}
			if to, err = target(g.item, req); err == nil {
				break
			}
			if again { // refused by the policy that there is, and not by one that is remembered
				return nil, nil, err
			}
		}
		spends := append(g.spends, g.counts(t, 0)...)
		if err := r.counters(ctx, t, spends); err != nil {
			return nil, nil, err
		}
		e := used(g.caller, g.facts, "vault.secret_used", field("method", method(req)))
		e.Private = append(e.Private, field("to", to))
		d, err := r.cfg.DB.Draft(ctx, g.caller, g.head, e)
		return []tenantdb.Draft{d}, spends, err
	})
	return g, r.spent(err, Code{})
}

// target is where a request goes, if the item's policy allows it.
func target(i *Item, req fetch.Request) (string, error) {
	if i.Kind.gives() {
		return "", problem.New(problem.Conflict, "The item gives codes: fetch one with POST /api/v1/vault/items/%s/code.", i.ID)
	}
	if i.Policy.Fetch == nil {
		return "", problem.New(problem.Conflict, "The item's policy has no fetch: nothing says to which hosts its secret may be sent.")
	}
	to, err := fetch.Target(*i.Policy.Fetch, req)
	var denied *fetch.Denied
	if errors.As(err, &denied) {
		return "", notAllowed(denied)
	}
	return to, err
}

// method is the request's, which was judged to be one of a policy.
func method(req fetch.Request) string { return orElse(req.Method, "GET") }
