package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The lives that a token may have, within what its tenant allows (organisation.token_lifetime).
const (
	MinLifetime = 5 * time.Minute
	MaxLifetime = 24 * time.Hour
	// longLife is how long a token with a scope of high risk lives without a warning.
	longLife = time.Hour
)

const (
	maxResource  = 256
	maxUses      = 1_000_000_000
	triesToIssue = 5
	fillTimeout  = 5 * time.Second
)

// Wish is what an owner wants of a new token. The zero Wish is the default: unbound, unlimited, for as long as the tenant
// allows.
type Wish struct {
	Resources []string
	Lifetime  time.Duration
	MaxUses   int64
}

// Issued is a new token. This is the only time that anybody sees it.
type Issued struct {
	Token    secret.String
	JTI      TokenID
	Expires  time.Time
	Warnings []string
	claims   Claims
}

// order is a token on its way into the database, signed already.
type order struct {
	claims   Claims
	by       string // who asked for it
	version  int64  // of the agent that it was signed for
	lifetime int64  // the tenant's, when it was signed
	now      time.Time
}

// issuerOf is a caller as rows keep them.
func issuerOf(c tenantdb.Caller) string { return string(c.Actor().Kind) + ":" + c.Actor().ID }

// errMoved says that the agent or its owner has changed since a token was signed: sign again.
var errMoved = errors.New("the agent has changed meanwhile")

func restless() error {
	return problem.New(problem.Conflict, "The agent is being changed all the time. Try again.")
}

func (w *Wish) check(issuer Issuer) error {
	at := func(where, format string, args ...any) error {
		p := problem.New(problem.Invalid, "No such token can be made. See `errors`.")
		p.Fields = []problem.Field{{Location: where, Message: fmt.Sprintf(format, args...)}}
		return p
	}
	switch {
	case w.Lifetime != 0 && (w.Lifetime < MinLifetime || w.Lifetime > MaxLifetime || w.Lifetime%time.Second != 0):
		return at("body.lifetime_seconds", "must be whole seconds from %d to %d", int64(MinLifetime/time.Second), int64(MaxLifetime/time.Second))
	case w.MaxUses < 0 || w.MaxUses > maxUses:
		return at("body.max_uses", "must be at most %d", maxUses)
	case len(w.Resources) > maxAudience:
		return at("body.resources", "at most %d resources", maxAudience)
	case slices.Equal(w.Resources, []string{issuer.url}):
		return at("body.resources", "the issuer alone is what unbound tokens name: name what the token is for")
	}
	for i, s := range w.Resources {
		if s == "" || len(s) > maxResource || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
			return at("body.resources", "a resource is 1 to %d bytes without white space: the name that the service gives as target_resource", maxResource)
		}
		if slices.Contains(w.Resources[:i], s) {
			return at("body.resources", "a resource is there twice")
		}
	}
	return nil
}

// mint makes and signs a token. It is not valid until it is in the database: whoever is told of it must know that first.
func (r *Room) mint(ctx context.Context, tenant tenantdb.TenantID, agent ID, generation, ownersLifetime int64, w Wish) (Issued, error) {
	most := min(time.Duration(ownersLifetime)*time.Second, MaxLifetime)
	if w.Lifetime > most {
		p := problem.New(problem.Invalid, "The organisation lets tokens live for %d seconds at most.", int64(most/time.Second))
		p.Fields = []problem.Field{{Location: "body.lifetime_seconds", Message: "is longer than the organisation allows"}}
		return Issued{}, p
	}
	if w.Lifetime == 0 {
		w.Lifetime = most
	}
	now := r.now().UTC()
	at := now.Truncate(time.Second)
	c := Claims{
		Issuer: r.issuer.url, Subject: r.issuer.DID(agent), Audience: w.Resources, Agent: agent, Tenant: tenant, JTI: id.At[tokenKind](now),
		Generation: generation, Uses: w.MaxUses, IssuedAt: at, NotBefore: at, Expires: at.Add(w.Lifetime),
	}
	if len(w.Resources) == 0 {
		c.Audience = []string{r.issuer.url}
	}
	b, err := c.encode()
	if err != nil {
		return Issued{}, fmt.Errorf("agent.mint: %w", err)
	}
	token, err := r.signing.Sign(ctx, keyring.TypeJWT, b)
	if err != nil {
		return Issued{}, problem.New(problem.Unavailable, "Tokens cannot be signed now. Try again shortly.").Because(err)
	}
	if len(token) > MaxToken {
		return Issued{}, problem.New(problem.Invalid, "The resources make the token longer than %d bytes.", MaxToken)
	}
	return Issued{Token: secret.Text(token), JTI: c.JTI, Expires: c.Expires, claims: c}, nil
}

// Issue makes a token for an agent. It is signed before any lock is taken and stored with those of others in one commit.
func (r *Room) Issue(ctx context.Context, c tenantdb.Caller, agent ID, w Wish) (Issued, error) {
	if err := gives(c); err != nil {
		return Issued{}, err
	}
	if err := w.check(r.issuer); err != nil {
		return Issued{}, err
	}
	if err := r.prepare(ctx, c.Tenant()); err != nil {
		return Issued{}, err
	}
	for range triesToIssue {
		f, err := r.facts(ctx, c, agent)
		if err != nil {
			return Issued{}, fmt.Errorf("agent.Issue: %w", err)
		}
		token, err := r.mint(ctx, c.Tenant(), agent, f.generation, f.lifetime, w)
		if problem.Is(err, problem.Invalid) && f.remembered {
			err = errMoved // perhaps: only what was read for this very call may refuse
		}
		if err == nil {
			err = r.orders.Do(ctx, c, &order{claims: token.claims, by: issuerOf(c), version: f.version, lifetime: f.lifetime, now: r.now()})
		}
		if err == nil {
			token.Warnings = warnings(&token.claims, f.high)
			return token, nil
		}
		r.recent.drop(c.Tenant(), agent)
		if !errors.Is(err, errMoved) {
			return Issued{}, fmt.Errorf("agent.Issue: %w", err)
		}
	}
	return Issued{}, restless()
}

// fill stores the tokens of a group. It runs under the lock of the tenant's head, so what it reads stays true until its
// commit, on all servers.
func fill(tx *tenantdb.Tx, orders []*order) ([]audit.Event, []error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fillTimeout)
	defer cancel()
	var agents []ID
	now := orders[0].now
	for _, o := range orders {
		if !slices.Contains(agents, o.claims.Agent) {
			agents = append(agents, o.claims.Agent)
		}
		if o.now.After(now) {
			now = o.now
		}
	}
	states, err := loadStates(ctx, &tx.ReadTx, agents, now)
	if err != nil {
		return nil, nil, err
	}
	events, refused := make([]audit.Event, len(orders)), make([]error, len(orders))
	var good []*Claims
	var by []string
	for i, o := range orders {
		if refused[i] = states[o.claims.Agent].admit(o); refused[i] != nil {
			continue
		}
		good, by = append(good, &o.claims), append(by, o.by)
		events[i] = about(o.claims.Agent, "token.issued", false, tokenFields(&o.claims)...)
		if o.claims.Bound() {
			events[i].Private = []audit.Field{{Name: "resources", Value: strings.Join(o.claims.Audience, " ")}}
		}
	}
	if len(good) == 0 {
		return events, refused, nil
	}
	return events, refused, insertTokens(ctx, tx, good, by)
}

// admit counts the token in, or says why not.
func (s *state) admit(o *order) error {
	if err := s.refuse(); err != nil {
		return err
	}
	if s.version != o.version || s.lifetime != o.lifetime {
		return errMoved
	}
	if s.live >= s.most {
		return problem.New(problem.TooMany, "The agent has %d live tokens, which is as many as it may have. Revoke some, or let them expire.", s.live)
	}
	s.live++
	return nil
}

func (s *state) refuse() error {
	switch {
	case s == nil:
		return missing()
	case s.revoked:
		return revokedForGood()
	case s.suspended:
		return problem.New(problem.Conflict, "The agent is suspended: resume it first.")
	case s.ownerGone:
		return ownerSuspended()
	}
	return nil
}

// warnings say what an owner may not have meant.
func warnings(t *Claims, high bool) []string {
	found := []string{}
	if life := t.Expires.Sub(t.IssuedAt); life > longLife && high {
		found = append(found, fmt.Sprintf("The token lives for %d seconds and the agent has a scope of high risk: consider an hour or less.", int64(life/time.Second)))
	}
	if !t.Bound() {
		found = append(found, "The token is bound to no resource: a service that receives it could use it elsewhere. Name the resources that it is for.")
	}
	return found
}

// facts are what a token is signed from.
type facts struct {
	generation, version int64
	lifetime            int64
	high                bool // the agent has a scope of high risk
	at                  time.Time
	remembered          bool
}

// factMemory holds what was last read of agents, so that issuing need not read first. Nothing is decided from it: fill
// compares under the head's lock, and what memory had wrong is read and signed anew. Only the warnings trust it, for
// factLife.
type factMemory struct {
	mu    sync.Mutex
	facts map[factName]facts
}

type factName struct {
	tenant tenantdb.TenantID
	agent  ID
}

const (
	factLife  = 30 * time.Second
	factLimit = 20_000
)

func (m *factMemory) get(t tenantdb.TenantID, a ID, now time.Time) (facts, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.facts[factName{t, a}]
	f.remembered = true
	return f, ok && now.Sub(f.at) < factLife
}

func (m *factMemory) put(t tenantdb.TenantID, a ID, f facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.facts == nil || len(m.facts) >= factLimit {
		m.facts = map[factName]facts{}
	}
	m.facts[factName{t, a}] = f
}

func (m *factMemory) drop(t tenantdb.TenantID, a ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.facts, factName{t, a})
}

func (r *Room) facts(ctx context.Context, c tenantdb.Caller, agent ID) (facts, error) {
	now := r.now()
	if f, ok := r.recent.get(c.Tenant(), agent, now); ok {
		return f, nil
	}
	var s *state
	var high bool
	err := r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		states, err := loadStates(ctx, tx, []ID{agent}, now)
		if err != nil {
			return err
		}
		if s = states[agent]; s.refuse() != nil {
			return s.refuse()
		}
		high, err = r.risky(ctx, tx, s.scopes)
		return err
	})
	if err != nil {
		return facts{}, err
	}
	f := facts{generation: s.generation, version: s.version, lifetime: s.lifetime, high: high, at: now}
	r.recent.put(c.Tenant(), agent, f)
	return f, nil
}
