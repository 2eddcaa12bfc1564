package verify

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what the room needs.
type Config struct {
	DB      *tenantdb.DB
	Keys    *apikey.Room
	Tokens  *agent.Checker
	Signing *keyring.Signing
	Issuer  string
	Now     func() time.Time
	// Remembered is a failpoint for tests: it may replace the epoch that a decision says it was made at. Nil in a server.
	Remembered func(tenantdb.Head) tenantdb.Head
}

// Room verifies.
type Room struct {
	cfg      Config
	registry *registry
	front    *front
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Room{cfg: cfg, registry: newRegistry(cfg.DB, cfg.Signing.Refresh), front: newFront(cfg.Now, cfg.Signing.KeyInForce)}
}

// Asker is who asks, once the key has proved it.
type Asker struct {
	apikey.Identity
	Request       audit.RequestID
	CallerRequest string
	Address       netip.Addr
}

func (a Asker) caller() tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: a.Tenant, Actor: audit.Actor{Kind: audit.ActorKey, ID: a.KeyID}, How: "api-key", RequestID: a.Request, CallerRequestID: a.CallerRequest,
	})
}

// attempts is how often a decision may lose to changes before it takes the heads for itself.
const attempts = 3

// Verify decides and records. Errors are problems: unauthenticated or denied for the key, too-many for its quota,
// unavailable if the decision could not be recorded.
func (r *Room) Verify(ctx context.Context, who Asker, req Request) (*Answer, error) {
	f := &facts{request: req, address: who.Address}
	var c *conclusion
	done, err := r.conclude(ctx, decision{
		tenants: func() []tenantdb.TenantID {
			if f.owner != nil {
				return []tenantdb.TenantID{who.Tenant, f.owner.head.Tenant}
			}
			return []tenantdb.TenantID{who.Tenant}
		},
		make: func(ctx context.Context) (_ []tenantdb.Draft, _ []tenantdb.Spend, err error) {
			if err := r.gather(ctx, f, who); err != nil {
				return nil, nil, err
			}
			if c, err = r.prepare(ctx, f, who); err != nil {
				return nil, nil, err
			}
			return c.drafts, c.spends, nil
		},
		spent: f.spent,
	})
	if err != nil {
		return nil, err
	}
	return c.answer(f, who, done.Positions[0]), nil
}

// decision is made from what tenants' states are at their epochs, and is made again if one of them has moved on.
type decision struct {
	tenants func() []tenantdb.TenantID // whose states it is made from
	make    func(context.Context) ([]tenantdb.Draft, []tenantdb.Spend, error)
	spent   func(*tenantdb.SpentError) error // takes note that a counter is spent; an error ends it
}

// conclude makes a decision from memory, and lets the append say whether that was right. One that has lost to changes again
// and again is made while it holds the heads of its tenants. The signing keys are read under them too. Read before, they
// could miss a revocation that moved the epochs between that read and the locks, and what is remembered at an epoch vouches
// for the keys: it would let the revoked key sign for as long as the epoch stays. No reading waits for a head, and the
// keyring bounds how many a caller waits for, whatever others ask of it.
func (r *Room) conclude(ctx context.Context, d decision) (done tenantdb.Receipt, err error) {
	for n := 0; ; n++ {
		if n < attempts {
			drafts, spends, bad := d.make(ctx)
			if errors.Is(bad, errMoving) {
				continue
			}
			if bad != nil {
				return done, bad
			}
			done, err = r.cfg.DB.AppendSpending(ctx, drafts, spends...)
		} else {
			tenants := d.tenants()
			done, err = r.cfg.DB.AppendLocked(ctx, tenants, func() ([]tenantdb.Draft, []tenantdb.Spend, error) {
				for _, t := range tenants {
					r.registry.drop(tenantdb.Head{Tenant: t})
				}
				return d.make(ctx)
			})
		}
		var stale *tenantdb.StaleError
		var spent *tenantdb.SpentError
		switch {
		case errors.As(err, &stale):
			for _, h := range stale.Heads {
				r.registry.drop(h)
			}
		case errors.As(err, &spent):
			if err := d.spent(spent); err != nil {
				return done, err
			}
		default:
			return done, err
		}
	}
}

// spent takes note that the token's uses are spent; what is the key's or its tenant's ends it.
func (f *facts) spent(e *tenantdb.SpentError) error {
	if strings.HasPrefix(e.Subject, tokenCounter) {
		f.usesSpent = true
		return nil
	}
	if m, ok := f.key.Meter(e.Subject); ok {
		return apikey.Spent(m, e.Anew, f.now)
	}
	return problem.New(problem.TooMany, "The quota of verifications for this month is spent. It starts anew on the first of the next month, UTC.")
}

// examine checks the token itself. What it finds holds whatever tenants do meanwhile, but for the signing key's state.
func (r *Room) examine(ctx context.Context, f *facts) error {
	f.claims, f.forged = r.cfg.Tokens.Check(ctx, f.request.Token, f.now)
	return f.judge()
}

// judge tells a token that proves nothing, and one whose key was revoked, from what is not the token's fault.
func (f *facts) judge() error {
	f.kidGone = errors.Is(f.forged, keyring.ErrRevokedKey)
	switch {
	case f.kidGone:
		f.forged = nil
	case f.forged != nil && !errors.Is(f.forged, agent.ErrMalformed) && !errors.Is(f.forged, agent.ErrForged):
		return f.forged // not the token's fault
	}
	return nil
}

// gather collects what is known of the service, its key, the owner and the agent, and refuses a key that may not ask.
func (r *Room) gather(ctx context.Context, f *facts, who Asker) (err error) {
	f.now = r.cfg.Now()
	if err := r.examine(ctx, f); err != nil {
		return err
	}
	if err := r.gatherAsker(ctx, f, who); err != nil {
		return err
	}
	f.owner, f.agent = nil, nil
	if f.forged != nil || f.kidGone {
		return nil
	}
	if f.owner, f.agent, err = r.registry.agent(ctx, f.claims.Tenant, f.claims.Agent); err != nil {
		return unreadable(closedOwner(err, f.claims.Tenant, who))
	}
	if err := r.oneEpoch(ctx, f, who); err != nil {
		return err
	}
	return r.inForce(f)
}

// gatherAsker collects what is known of the service and its key, and refuses a key that may not ask.
func (r *Room) gatherAsker(ctx context.Context, f *facts, who Asker) (err error) {
	if f.service, f.key, err = r.registry.key(ctx, who.Tenant, who.KeyID); err != nil {
		return unreadable(err)
	}
	if keyProblem(f) == nil {
		return nil
	}
	if f.service, f.key, err = r.registry.keyAnew(ctx, who.Tenant, who.KeyID); err != nil {
		return unreadable(err)
	}
	return keyProblem(f)
}

// inForce asks again whether the key that signed the token is in force, now that the epochs are chosen: the keys have been
// read since (registry.keys), so a key whose revocation moved the epochs before is known to be revoked.
func (r *Room) inForce(f *facts) error {
	if f.forged = r.cfg.Tokens.InForce(f.claims); f.forged == nil {
		return nil
	}
	f.claims, f.owner, f.agent = agent.Claims{}, nil, nil
	return f.judge()
}

// oneEpoch makes sure that a service and an agent of one tenant were read at one epoch: their entry is appended at one.
func (r *Room) oneEpoch(ctx context.Context, f *facts, who Asker) (err error) {
	for range readings {
		if f.owner == nil || f.owner.head.Tenant != who.Tenant || f.owner.head.Epoch == f.service.head.Epoch {
			return nil
		}
		r.registry.drop(tenantdb.Head{Tenant: who.Tenant})
		if f.service, f.key, err = r.registry.key(ctx, who.Tenant, who.KeyID); err == nil {
			f.owner, f.agent, err = r.registry.agent(ctx, f.claims.Tenant, f.claims.Agent)
		}
		if err != nil {
			return unreadable(err)
		}
		if err := keyProblem(f); err != nil {
			return err
		}
	}
	return unreadable(errMoving)
}

// readings is how often a service and an agent of one tenant are read before that is done with the head in hand.
const readings = 4

var errMoving = errors.New("the tenant's epoch moved with each reading")

func unreadable(err error) error {
	return problem.New(problem.Unavailable, "The registry cannot be read now, so nothing can be verified. Try again shortly.").Because(err)
}

// closedOwner words for a service what it cannot mend: another organisation's own key management keeps that closed, and with it the log
// that the decision would have to be in.
func closedOwner(err error, owner tenantdb.TenantID, who Asker) error {
	if owner == who.Tenant || !problem.Is(err, problem.TenantKey) {
		return err
	}
	return problem.New(problem.TenantKey, "The agent's owner keeps its keys under its own key management, which does not open them now. Until it does, none of its agents can be verified.")
}

// keyProblem is why the key may not verify at all, or nil.
func keyProblem(f *facts) error {
	switch {
	case f.service == nil || f.key == nil || f.service.suspended || f.key.Kind == apikey.Data || f.key.Status(f.now) != apikey.Active || !f.key.AllowedFrom(f.address):
		return apikey.Refused()
	case f.aboutKeys && !f.key.May("verify"):
		return problem.New(problem.Denied, "This key may not verify keys: it lacks the capability verify.")
	case !f.key.May("verify") && !f.key.May("read:identity"):
		return problem.New(problem.Denied, "This key may not verify agents: it has neither the capability verify nor read:identity.")
	}
	return nil
}

// conclusion is a verdict with the entries that record it.
type conclusion struct {
	verdict verdict
	drafts  []tenantdb.Draft
	spends  []tenantdb.Spend
}

const tokenCounter = "token:"

// prepare decides and drafts the entries: the service's first, then the owner's if it is another.
func (r *Room) prepare(ctx context.Context, f *facts, who Asker) (*conclusion, error) {
	c := &conclusion{verdict: decide(f)}
	unproven := ""
	if f.agent == nil || f.forged != nil {
		name, err := r.cfg.Keys.NameOf(ctx, who.Tenant, f.request.Token)
		if err != nil {
			return nil, unreadable(err)
		}
		unproven = name
	}
	ev := event(f, c.verdict, unproven)
	if err := r.add(ctx, c, who.caller(), f.service.head, ev); err != nil {
		return nil, err
	}
	if f.owner != nil && f.agent != nil && f.owner.head.Tenant != who.Tenant {
		asked := tenantdb.NewCaller(tenantdb.CallerSpec{
			Tenant: f.owner.head.Tenant, Actor: audit.Actor{Kind: audit.ActorService, ID: who.Tenant.String()}, How: "api-key", RequestID: who.Request,
		})
		if err := r.add(ctx, c, asked, f.owner.head, ev); err != nil {
			return nil, closedOwner(err, f.owner.head.Tenant, who)
		}
	}
	c.spends = spends(f, c.verdict)
	return c, nil
}

func (r *Room) add(ctx context.Context, c *conclusion, caller tenantdb.Caller, head tenantdb.Head, ev audit.Event) error {
	if r.cfg.Remembered != nil {
		head = r.cfg.Remembered(head)
	}
	d, err := r.cfg.DB.Draft(ctx, caller, head, ev)
	if err != nil {
		return problem.New(problem.Unavailable, "The decision cannot be recorded now, so none was made.").Because(err)
	}
	c.drafts = append(c.drafts, d)
	return nil
}

// event says what was decided. Scopes and resources are the caller's own words, so they are private. The token is named by its
// jti if it proves something. If not, it may be anything, a key of somebody's too, of which a hash would let whoever has a dump
// test a guess: then unproven names it (apikey.NameOf).
func event(f *facts, v verdict, unproven string) audit.Event {
	e := audit.Event{Type: "agent.verified", Decision: string(v.decision), Policy: policy.Version, Target: audit.Target{Kind: "token", ID: unproven}}
	if v.decision != Allowed {
		e.Outcome = audit.Denied
	}
	if unproven == "" {
		e.Target = audit.Target{Kind: "agent", ID: f.claims.Agent.String()}
		e.Public = append(e.Public, audit.Field{Name: "jti", Value: f.claims.JTI.String()}, audit.Field{Name: "owner", Value: f.claims.Tenant.String()})
	}
	e.Private = append(e.Private, audit.Field{Name: "reason", Value: v.reason})
	if f.request.TargetResource != "" {
		e.Private = append(e.Private, audit.Field{Name: "target_resource", Value: f.request.TargetResource})
	}
	if asked := f.request.ScopesRequested; len(asked) > 0 {
		e.Private = append(e.Private, audit.Field{Name: "scopes_requested", Value: strings.Join(asked, " ")})
	}
	return e
}

// spends are the counters that this verification moves: the quotas of the key and of those that made it, or its tenant's, and
// the token's uses.
func spends(f *facts, v verdict) []tenantdb.Spend {
	out := f.key.Spends(f.service.head.Tenant, 1)
	now := f.now.UTC()
	month := int64(now.Year()*12 + int(now.Month()) - 1)
	for _, q := range f.key.Quotas {
		out = append(out, tenantdb.Spend{Tenant: f.service.head.Tenant, Subject: q.Subject, Period: month, Limit: q.Limit})
	}
	if f.key.Kind != apikey.Service && f.service.monthlyQuota != nil {
		out = append(out, tenantdb.Spend{Tenant: f.service.head.Tenant, Subject: "verify", Period: month, Limit: *f.service.monthlyQuota})
	}
	if v.decision == Allowed && f.claims.Uses > 0 {
		out = append(out, tenantdb.Spend{Tenant: f.claims.Tenant, Subject: tokenCounter + f.claims.JTI.String(), Limit: f.claims.Uses})
	}
	return out
}
