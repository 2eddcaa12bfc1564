package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// authenticate is the first gate. Who passes it sent the request, and may see its trace.
func (s *Server) authenticate(r *http.Request, meta web.RequestMeta) (tenantdb.Caller, error) {
	c, err := s.prove(r, meta)
	if err == nil {
		s.traces.recent.sent(r.Context(), c.Tenant())
	}
	return c, err
}

// prove says who sent a request: by a session, by an API key, or by an agent's token, which may come in X-Agent-Token too.
func (s *Server) prove(r *http.Request, meta web.RequestMeta) (tenantdb.Caller, error) {
	if c, is, err := s.Sessions.Authenticate(r.Context(), r, meta); is {
		return c, err
	}
	credential := apikey.FromHeader(r.Header)
	if credential == "" && r.Header.Get("Authorization") == "" {
		credential = strings.TrimSpace(strings.TrimPrefix(r.Header.Get("X-Agent-Token"), "Bearer "))
	}
	switch {
	case credential == "":
		return tenantdb.Caller{}, apikey.Unsent(r.Header)
	case strings.HasPrefix(credential, "ey"):
		return s.agent(r.Context(), credential, meta)
	}
	c, err := s.Keys.Authenticate(r.Context(), credential, meta)
	if err == nil { // a request of a metered key has an entry of its own
		s.Keys.Used(apikey.Identity{Tenant: c.Tenant(), KeyID: c.Actor().ID}, apikey.LastUse{At: meta.Start, Address: meta.Address, Agent: r.UserAgent()}, c.Metered())
	}
	return c, err
}

// agent proves an agent by its token. Another server may have revoked the key that signed it a moment ago, so the keys are
// read again; only for a token that is good as far as this server knows, lest forged ones make it read. A flood of a good one
// shares its reads (keyring.Signing.Refresh).
func (s *Server) agent(ctx context.Context, credential string, meta web.RequestMeta) (tenantdb.Caller, error) {
	c, err := s.Agents.Authenticate(ctx, credential, meta)
	if err != nil {
		return c, err
	}
	if err := s.Signing.Refresh(ctx); err != nil {
		return tenantdb.Caller{}, problem.New(problem.Unavailable, "The signing keys cannot be read now, so no token can be checked. Try again shortly.").Because(err)
	}
	if _, err := s.Agents.Checker().Check(ctx, credential, s.now()); err != nil {
		return s.Agents.Authenticate(ctx, credential, meta) // which says what is wrong
	}
	return c, nil
}

// allow is the second gate: what the credential may do.
func allow(_ context.Context, c tenantdb.Caller, capability string) error {
	if c.May(capability) {
		return nil
	}
	if p, _ := c.Person(); slices.Contains(p.Unproved, capability) || slices.Contains(p.Unproved, tenantdb.Everything) {
		return problem.New(problem.Denied, "Prove yourself again: the capability %s was given to you after you did so last.", capability)
	}
	return problem.New(problem.Denied, "This needs the capability %s, which the credential does not have.", capability)
}

// recheck says whether a caller whose stream of the log was opened some time ago might open it now. Agents open none.
func (s *Server) recheck(ctx context.Context, c tenantdb.Caller) error {
	switch c.Actor().Kind {
	case audit.ActorKey:
	case audit.ActorPerson:
		now, err := s.Sessions.Again(ctx, c)
		if err != nil {
			return err
		}
		return allow(ctx, now, "audit:read")
	default:
		return problem.New(problem.Denied, "Only keys and people may keep a stream open.")
	}
	k, err := s.Keys.Get(ctx, tenantdb.System(c.Tenant(), "stream"), c.Actor().ID)
	if err != nil {
		return err
	}
	if k.Status(s.now()) != apikey.Active || !k.AllowedFrom(c.Address()) {
		return apikey.Refused()
	}
	if !slices.Contains(k.Scopes, "audit:read") && !slices.Contains(k.Scopes, tenantdb.Everything) {
		return problem.New(problem.Denied, "The key may not read the log any more.")
	}
	o, err := s.Org.Get(ctx, tenantdb.System(c.Tenant(), "stream"))
	if err != nil {
		return err
	}
	if !o.SuspendedAt.IsZero() {
		return apikey.Refused()
	}
	return nil
}

// refused records what was refused: in the caller's log if it is known who asked, counted by address if not. Faults of ours
// are no refusals. If the denial of a known caller cannot be recorded now, the caller has been denied all the same, and it
// is counted.
func (s *Server) refused(ctx context.Context, meta web.RequestMeta, c *tenantdb.Caller, operation string, p *problem.Error) {
	known, single, sender := c != nil && !c.Tenant().IsZero(), singleRequests, tenantdb.Platform
	if known {
		sender = c.Tenant()
	}
	s.traces.recent.sent(ctx, sender) // operations that authenticate for themselves say here whom they refused
	switch {
	case p.Kind == problem.TenantKey: // its log cannot be written while it is closed; that it is so has been said once
		return
	case p.Kind == problem.Internal || p.Kind == problem.Unavailable && !known && !p.Busy:
		return
	case !known:
		s.denials.nobodys(meta.Address, p.Kind)
		return
	case p.Kind == problem.Unavailable:
		single = 0 // it may be the log that is away: nobody is to wait for it once more
	}
	if operation == "" {
		operation = "none"
	}
	err := s.denials.record(ctx, *c, audit.Event{
		Type: "request.refused", Outcome: audit.Denied, Target: audit.Target{Kind: "operation", ID: operation},
		Public: []audit.Field{{Name: "kind", Value: string(p.Kind)}}, Private: []audit.Field{{Name: "address", Value: meta.Address.String()}},
	}, single)
	if err != nil {
		s.log.ErrorContext(ctx, "a denial was not recorded", "operation", operation, "request_id", meta.ID, "error", err)
	}
}

// keyRefused records that a key was used that does not work. Whoever has one, of whatever organisation it was, could
// otherwise write to that organisation's log for ever.
func (s *Server) keyRefused(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
	return s.denials.record(ctx, c, ev, singleKeys)
}

// leaked is told of a credential that came where it may have been seen. If it is real, its owner's log says so, and the
// owner gets a notice; of what follows in the same minute, the log has the count.
func (s *Server) leaked(ctx context.Context, credential string) {
	meta := web.MetaOf(ctx)
	who, err := s.Keys.IdentifyFrom(ctx, credential, meta.Address)
	if err != nil {
		var p *problem.Error
		if errors.As(err, &p) && p.Kind == problem.Unavailable {
			s.log.ErrorContext(ctx, "a leaked credential could not be looked up", "request_id", meta.ID, "error", err)
		}
		return
	}
	c := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: who.Tenant, Actor: audit.Actor{Kind: audit.ActorNobody}, How: "none", RequestID: audit.RequestID(meta.ID), Address: meta.Address,
	})
	ev := audit.Event{
		Type: "key.leaked", Target: audit.Target{Kind: "key", ID: who.KeyID}, Outcome: audit.Denied,
		Public: []audit.Field{{Name: "where", Value: "request"}}, Private: []audit.Field{{Name: "address", Value: meta.Address.String()}},
	}
	if !s.denials.take(denialOf(c, ev), c, singleLeaks) {
		return
	}
	err = s.Keys.Leaked(ctx, c, who.KeyID, apikey.Leak{
		Where: "in the address of a request, or over plain HTTP", Via: "request", Request: audit.RequestID(meta.ID),
	})
	if err != nil {
		s.denials.take(denialOf(c, ev), c, 0)
		s.log.ErrorContext(ctx, "a leaked key's owner was not told", "request_id", meta.ID, "error", err)
	}
}
