package policy

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

type useKind struct{}

// UseID names a use of break-glass.
type UseID = id.ID[useKind]

// ParseUseID reads the canonical form.
func ParseUseID(s string) (UseID, error) { return id.Parse[useKind](s) }

// GlassRules are an organisation's rules of break-glass. The zero value lends nothing.
type GlassRules struct {
	Approval     string        // ByPerson, ByDelay or ByExternal; anything else is ByPerson
	Delay        time.Duration // before it opens by itself; 0 is defaultDelay, and the least is minDelay
	MaxLife      time.Duration // of one use; 0 is defaultMaxLife, and none lives longer than mostLife
	Capabilities []string      // what may be lent; never Everything, nor what break-glass itself takes
	HookURL      string        // of the external approval system
}

// Who lets the glass be broken.
const (
	ByPerson   = "person"   // another person with breakglass:approve
	ByDelay    = "delay"    // nobody refuses for a while
	ByExternal = "external" // a system of the organisation's own
	byOperator = "operator" // nobody: an operator of the installation, who could take more than this gives
)

const (
	defaultDelay   = time.Hour
	minDelay       = 5 * time.Minute
	defaultMaxLife = time.Hour
	mostLife       = 24 * time.Hour
	patience       = 24 * time.Hour // what nobody answers for so long lapses
	reviewWithin   = 7 * 24 * time.Hour
	mostAsked      = 10 // by one person in a day: each is a mail to every owner
)

// Organisations knows what break-glass must know of the transaction's organisation.
type Organisations interface {
	GlassRules(ctx context.Context, tx *tenantdb.ReadTx) (GlassRules, error)
	// Owners are the active owners, who are told.
	Owners(ctx context.Context, tx *tenantdb.ReadTx) ([]tenantdb.PersonID, error)
	// StillHolds refuses the transaction's caller if they lost a capability, or were signed out, since their request came.
	StillHolds(ctx context.Context, tx *tenantdb.ReadTx, capability string) error
}

// GlassConfig is what break-glass needs.
type GlassConfig struct {
	DB    *tenantdb.DB
	Ring  *keyring.Ring
	Rules Organisations
	Log   SliceReader
	// Client calls external approval systems: addresses that customers choose, so one of internal/outbound.
	Client *http.Client
	URL    string           // of this installation, without a slash at its end
	Now    func() time.Time // nil is time.Now
}

// Glass is break-glass: capabilities that are lent to a person for a while, and the only way in which an operator with a
// shell opens what is an organisation's.
type Glass struct{ cfg GlassConfig }

// NewGlass makes the room's other half.
func NewGlass(cfg GlassConfig) *Glass {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Glass{cfg}
}

func (g *Glass) now() time.Time { return g.cfg.Now().UTC().Truncate(time.Microsecond) }

// Use is one breaking of the glass: asked for, maybe opened, and looked at when it is over.
type Use struct {
	ID           UseID
	Person       tenantdb.PersonID // zero if Operator opened it
	Operator     string
	Capabilities []string
	Life         time.Duration
	Approval     string
	AskedAt      time.Time
	DueAt        time.Time // when what waits opens by itself, or lapses
	DecidedBy    string    // a person's id, or "external"
	DecidedAt    time.Time
	OpenedAt     time.Time
	ExpiresAt    time.Time
	ClosedAt     time.Time
	Outcome      string
	ReviewedBy   string // a person's id
	ReviewedAt   time.Time
	Reason       string // empty if the person was erased
	Remark       string

	reason, remark []byte // sealed
}

// The states of a use.
const (
	Waiting = "waiting"
	Opened  = "open"
	Refused = "refused"
	Lapsed  = "lapsed"  // nobody answered, or the rules changed while it waited
	Ended   = "ended"   // before its time
	Expired = "expired" // by its time
)

// State is how a use stands.
func (u *Use) State(now time.Time) string {
	switch {
	case !u.ClosedAt.IsZero():
		return u.Outcome
	case u.OpenedAt.IsZero() && u.Approval != ByDelay && !now.Before(u.DueAt):
		return Lapsed
	case u.OpenedAt.IsZero():
		return Waiting
	case !now.Before(u.ExpiresAt):
		return Expired
	}
	return Opened
}

// Overdue reports whether a use has waited too long for its review.
func (u *Use) Overdue(now time.Time) bool {
	return !u.OpenedAt.IsZero() && u.ReviewedAt.IsZero() && now.Sub(u.OpenedAt) > reviewWithin
}

// Lent is what break-glass lends a person now, in a session that was proved at provedAt: nothing, unless it was proved since
// the glass was broken. A session that somebody else took over before gains nothing.
func (g *Glass) Lent(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, provedAt time.Time) ([]string, error) {
	lent, err := readLent(ctx, tx, p, provedAt.UTC(), g.now())
	if err != nil || len(lent) == 0 {
		return nil, wrapped("Lent", err)
	}
	rules, err := g.rules(ctx, tx) // as they are now: what the organisation lends no more ends at once
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(lent, func(c string) bool { return !slices.Contains(rules.Capabilities, c) }), nil
}

// Require says whether a caller may open what an organisation keeps secret, as far as that is break-glass's to say: Avouch
// itself and its operators may not, unless a use that the caller opened is open in the caller's organisation. Everybody else
// needs capabilities, which are asked for elsewhere.
func (g *Glass) Require(ctx context.Context, tx *tenantdb.ReadTx, c tenantdb.Caller) error {
	switch c.Actor().Kind {
	case audit.ActorPerson, audit.ActorKey, audit.ActorAgent, audit.ActorService:
		return nil
	}
	name, is := strings.CutPrefix(c.Actor().ID, operatorPrefix)
	if !is || c.Tenant() != tx.Tenant() {
		return noGlass()
	}
	open, err := operatorOpen(ctx, tx, name, g.now())
	if err != nil {
		return wrapped("Require", err)
	}
	for i := range open {
		// A row that was written past this room has no reason that opens: a superuser's is none.
		if err := g.read(ctx, c.Tenant(), &open[i]); err == nil && open[i].Reason != "" {
			return nil
		}
	}
	return noGlass()
}

func noGlass() error {
	return problem.New(problem.Denied, "This opens what belongs to the organisation, so the glass must be broken first: avouch break-glass open. It is logged, and the organisation's owners are told.")
}

// End ends what a person has open and withdraws what waits, in the transaction of whoever offboards or suspends the person.
// It returns how many uses there were.
func (g *Glass) End(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, _ string) (int, error) {
	n, err := closeAll(ctx, tx, p, g.now())
	return int(n), wrapped("End", err)
}

// rules are the organisation's, with what is always so.
func (g *Glass) rules(ctx context.Context, tx *tenantdb.ReadTx) (GlassRules, error) {
	r, err := g.cfg.Rules.GlassRules(ctx, tx)
	if err != nil {
		return GlassRules{}, fmt.Errorf("policy.Glass: rules: %w", err)
	}
	if r.Approval != ByDelay && r.Approval != ByExternal {
		r.Approval = ByPerson
	}
	if r.Delay <= 0 {
		r.Delay = defaultDelay
	}
	if r.MaxLife <= 0 {
		r.MaxLife = defaultMaxLife
	}
	r.Delay, r.MaxLife = max(r.Delay, minDelay), min(r.MaxLife, mostLife)
	known := tenantdb.Capabilities()
	r.Capabilities = slices.DeleteFunc(slices.Clone(r.Capabilities), func(c string) bool {
		return !slices.Contains(known, c) || strings.HasPrefix(c, "breakglass:")
	})
	return r, nil
}

// fits reports whether the rules still let a use open as it was asked for.
func (u *Use) fits(r GlassRules) bool {
	for _, c := range u.Capabilities {
		if !slices.Contains(r.Capabilities, c) {
			return false
		}
	}
	return u.Approval == r.Approval && u.Life <= r.MaxLife
}

// holder is the person who asks, if the person has the capability of itself: what break-glass lends neither prolongs itself
// nor lends to others.
func holder(c tenantdb.Caller, capability string) (tenantdb.Person, error) {
	p, is := c.Person()
	switch {
	case !is:
		return p, problem.New(problem.Denied, "Only a person who is signed in does this.")
	case !c.Holds(capability):
		return p, problem.New(problem.Denied, "This needs the capability %s, and not one that is lent.", capability)
	}
	return p, nil
}

// tell asks for a mail to every owner.
func (g *Glass) tell(ctx context.Context, tx *tenantdb.Tx, what mail.Template, ids map[string]string) error {
	owners, err := g.cfg.Rules.Owners(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	return mail.ToEach(ctx, tx, tx.Tenant().String(), owners, what, ids)
}

// event is what happened to a use.
func (u *Use) event(what string, more ...audit.Field) audit.Event {
	e := audit.Event{Type: "break_glass." + what, Target: audit.Target{Kind: "break_glass", ID: u.ID.String()}, Subject: u.Person}
	if u.Operator == "" {
		e.Public = append(e.Public, audit.Field{Name: "person", Value: u.Person.String()})
	} else {
		e.Public = append(e.Public, audit.Field{Name: "operator", Value: u.Operator})
	}
	e.Public = append(e.Public, more...)
	return e
}

// terms are the public fields of what was asked for.
func (u *Use) terms() []audit.Field {
	return []audit.Field{
		{Name: "capabilities", Value: strings.Join(u.Capabilities, " ")}, {Name: "minutes", Value: fmt.Sprint(int(u.Life / time.Minute))},
		{Name: "approval", Value: u.Approval},
	}
}

// aad binds a sealed text to its use. The reason of an operator's is bound to whose it is and until when: that it opens is the
// proof that OperatorOpen was there, which a superuser of the database alone cannot make.
func (u *Use) aad(name string) []byte {
	b := []byte("avouch/glass/" + name + "/")
	if u.Operator != "" && name == "reason" {
		b = fmt.Appendf(b, "%s/%d/", u.Operator, u.ExpiresAt.UnixMicro())
	}
	return append(b, u.ID[:]...)
}

// seal seals a text about a use so that erasing the person erases it.
func (g *Glass) seal(ctx context.Context, t tenantdb.TenantID, u *Use, field, text string) ([]byte, error) {
	return g.cfg.Ring.SealFields(ctx, t, u.Person, []byte(text), u.aad(field))
}

func wrapped(what string, err error) error {
	if err != nil {
		return fmt.Errorf("policy.Glass.%s: %w", what, err)
	}
	return nil
}

func noUse() error { return problem.New(problem.Missing, "There is no such use of break-glass.") }
