package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Skew is how far behind a server's clock may be that judges another server's token.
const Skew = 30 * time.Second

// Authenticate proves an agent to Avouch itself: with an unbound token, or one that names the issuer among its resources.
// A service that was given a token bound to itself cannot speak as the agent here. The agent's state is read from the
// database: it may say what it did, and use what its scopes and its organisation's vault let it.
func (r *Room) Authenticate(ctx context.Context, raw string, meta web.RequestMeta) (tenantdb.Caller, error) {
	now := r.now()
	claims, err := r.checker.Check(ctx, raw, now)
	if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForged) {
		return tenantdb.Caller{}, fmt.Errorf("agent.Authenticate: %w", err)
	}
	if err == nil {
		err = claims.ValidAt(now, Skew)
	}
	if err == nil && !slices.Contains(claims.Audience, r.issuer.url) {
		err = errElsewhere
	}
	if err != nil {
		return tenantdb.Caller{}, unproved(err)
	}
	caller := func(scopes []string) tenantdb.Caller {
		return tenantdb.NewCaller(tenantdb.CallerSpec{
			Tenant: claims.Tenant, Actor: audit.Actor{Kind: audit.ActorAgent, ID: claims.Agent.String()}, How: "agent-token",
			RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address, Scopes: Capabilities(scopes),
			Token: claims.JTI.String(),
		})
	}
	trusted, scopes := false, []string{}
	err = r.db.Read(ctx, caller(nil), func(tx *tenantdb.ReadTx) (err error) {
		trusted, scopes, err = stands(ctx, tx, &claims)
		return err
	})
	if err != nil {
		return tenantdb.Caller{}, fmt.Errorf("agent.Authenticate: %w", err)
	}
	if !trusted {
		return tenantdb.Caller{}, unproved(errUntrusted)
	}
	return caller(scopes), nil
}

// Capabilities are what an agent with these scopes may do at Avouch itself: say what it did, and use of the vault what was granted
// to it.
func Capabilities(scopes []string) []string {
	may := []string{"audit:write"}
	if slices.Contains(scopes, "read:codes") {
		may = append(may, "vault:code")
	}
	if slices.Contains(scopes, "use:secrets") {
		may = append(may, "vault:use")
	}
	return may
}

var (
	errElsewhere = errors.New("the token is bound to other resources")
	errUntrusted = errors.New("the agent, its token or its owner is trusted no more")
)

// unproved does not tell the caller which it was.
func unproved(cause error) error {
	return problem.New(problem.Unauthenticated, "The token proves nothing here: it is not ours, its time is not now, it is for another service, or it was revoked.").Because(cause)
}
