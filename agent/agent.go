package agent

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

type agentKind struct{}

// ID names an agent. It is public: it is part of the DID.
type ID = id.ID[agentKind]

// ParseID reads the canonical form.
func ParseID(s string) (ID, error) { return id.Parse[agentKind](s) }

// Status is what an agent may do at present.
type Status string

// The states. Revoked is final.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
	Revoked   Status = "revoked"
)

// Visibility says which organisations may verify an agent, beside its owner, who always may.
type Visibility string

// The settings of visibility.
const (
	VisibleToAll    Visibility = "all"
	VisibleToListed Visibility = "listed"
	VisibleToNone   Visibility = "none"
)

// Agent is an agent as its owner sees it.
type Agent struct {
	ID          ID
	Name        string
	Description string
	Scopes      []string
	Visibility  Visibility
	VisibleTo   []tenantdb.TenantID // with VisibleToListed
	CreatedAt   time.Time
	SuspendedAt *time.Time
	RevokedAt   *time.Time
	Generation  int64 // tokens of earlier ones are revoked
	Version     int64
	Keys        []PublicKey // read with one agent, not with a list
}

// Status is the agent's state.
func (a *Agent) Status() Status {
	switch {
	case a.RevokedAt != nil:
		return Revoked
	case a.SuspendedAt != nil:
		return Suspended
	}
	return Active
}

// Catalogue is the scopes that may be granted: the built-in ones and the tenant's own (package policy).
type Catalogue interface {
	// Unknown is those of the names that are no scope of the transaction's tenant.
	Unknown(ctx context.Context, tx *tenantdb.ReadTx, names []string) ([]string, error)
	// Risk is the highest risk among scopes: low, medium or high.
	Risk(ctx context.Context, tx *tenantdb.ReadTx, names []string) (string, error)
}

// Config is what the room stands on.
type Config struct {
	DB      *tenantdb.DB
	Ring    *keyring.Ring
	Signing *keyring.Signing
	Scopes  Catalogue
	Issuer  Issuer
	Now     func() time.Time // nil is time.Now
}

// Room is the agents of all tenants: what may be done to them, one method each. The caller is the first to be asked.
type Room struct {
	db      *tenantdb.DB
	ring    *keyring.Ring
	signing *keyring.Signing
	scopes  Catalogue
	issuer  Issuer
	now     func() time.Time
	checker *Checker
	orders  *tenantdb.Group[*order]
	recent  factMemory
}

// New makes the room.
func New(cfg Config) *Room {
	r := &Room{
		db: cfg.DB, ring: cfg.Ring, signing: cfg.Signing, scopes: cfg.Scopes, issuer: cfg.Issuer, now: cfg.Now,
		checker: NewChecker(cfg.Issuer, cfg.Signing),
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.orders = tenantdb.NewGroup(cfg.DB, fill)
	return r
}

// DID is an agent's decentralised identifier, did:web of the issuer.
func (r *Room) DID(a ID) string { return r.issuer.DID(a) }

// Checker is the room's checker of tokens, so that all who check share what it remembers.
func (r *Room) Checker() *Checker { return r.checker }

// The capabilities that a caller needs.
const (
	mayRead  = "agents:read"
	mayWrite = "agents:write"
)

func may(c tenantdb.Caller, capability string) error {
	if c.May(capability) {
		return nil
	}
	return problem.New(problem.Denied, "This credential lacks the capability %s.", capability)
}

// gives is may of what makes or widens something that lasts: what break-glass lends does not.
func gives(c tenantdb.Caller) error {
	if err := may(c, mayWrite); err != nil || c.Holds(mayWrite) {
		return err
	}
	return problem.New(problem.Denied, "This lasts, so it needs the capability %s for good, and not one that is lent.", mayWrite)
}

func missing() error { return problem.New(problem.Missing, "There is no such agent.") }

// The limits of what an owner writes.
const (
	maxName        = 200
	maxDescription = 2000
	maxScopes      = 50
	maxScope       = 64
	maxVisibleTo   = 100
	maxKeys        = 10
)

func checkName(name string) *problem.Field {
	if name != strings.TrimSpace(name) || name == "" || utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return &problem.Field{Location: "body.name", Message: fmt.Sprintf("must be 1 to %d characters on one line, without white space around them", maxName)}
	}
	return nil
}

func checkDescription(text string) *problem.Field {
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }
	if utf8.RuneCountInString(text) > maxDescription || !utf8.ValidString(text) || strings.ContainsFunc(text, control) {
		return &problem.Field{Location: "body.description", Message: fmt.Sprintf("must be at most %d characters, without control characters", maxDescription)}
	}
	return nil
}

// invalid is a problem of the fields that are not nil, or nil.
func invalid(fields ...*problem.Field) error {
	p := problem.New(problem.Invalid, "The agent cannot be kept like this. See `errors`.")
	for _, f := range fields {
		if f != nil {
			p.Fields = append(p.Fields, *f)
		}
	}
	if len(p.Fields) == 0 {
		return nil
	}
	return p
}

// checkScopes looks at the names alone.
func checkScopes(scopes []string, where string) *problem.Field {
	at := func(format string, args ...any) *problem.Field {
		return &problem.Field{Location: where, Message: fmt.Sprintf(format, args...)}
	}
	if len(scopes) > maxScopes {
		return at("at most %d scopes", maxScopes)
	}
	seen := map[string]bool{}
	for _, s := range scopes {
		if s == "" || len(s) > maxScope || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return at("a scope is a name of 1 to %d visible ASCII characters", maxScope)
		}
		if seen[s] {
			return at("%s is there twice", s)
		}
		seen[s] = true
	}
	return nil
}

// knows refuses scopes that the tenant's catalogue lacks: nobody could ask for them.
func (r *Room) knows(ctx context.Context, tx *tenantdb.ReadTx, scopes []string, where string) error {
	unknown, err := r.scopes.Unknown(ctx, tx, scopes)
	if err == nil && len(unknown) > 0 {
		err = invalid(&problem.Field{Location: where, Message: "not in the catalogue: " + strings.Join(unknown, ", ")})
	}
	return err
}

// risky reports whether the highest risk among scopes is high.
func (r *Room) risky(ctx context.Context, tx *tenantdb.ReadTx, scopes []string) (bool, error) {
	risk, err := r.scopes.Risk(ctx, tx, scopes)
	return risk == "high", err
}

// prepare makes ready to seal what owners wrote, so that the key store is not read under a head's lock.
func (r *Room) prepare(ctx context.Context, t tenantdb.TenantID) error {
	if err := r.ring.Prepare(ctx, t, audit.SubjectID{}); err != nil {
		return problem.New(problem.Unavailable, "The organisation's keys cannot be read now, so nothing can be recorded. Try again shortly.").Because(err)
	}
	return nil
}

// about begins an event of an agent.
func about(a ID, kind string, alters bool, public ...audit.Field) audit.Event {
	return audit.Event{Type: kind, Target: audit.Target{Kind: "agent", ID: a.String()}, Alters: alters, Public: public}
}
