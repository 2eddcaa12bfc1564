package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what the room needs.
type Config struct {
	DB   *tenantdb.DB
	Ring *keyring.Ring
	Now  func() time.Time // nil is time.Now
}

// Room is the catalogue as organisations see it and add to it.
type Room struct{ cfg Config }

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Room{cfg}
}

// MaxOwn is how many scopes an organisation may add: every server keeps them in memory, and people must be able to read them.
const MaxOwn = 500

// List is the catalogue of the caller's organisation. Whoever is authenticated may see it.
func (r *Room) List(ctx context.Context, c tenantdb.Caller) (list Catalogue, err error) {
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		list, err = Load(ctx, tx)
		return err
	})
	if err != nil {
		return Catalogue{}, fmt.Errorf("policy.List: %w", err)
	}
	return list, nil
}

// Unknown is those of the names that are no scope of the transaction's organisation, for rooms that grant scopes.
func (r *Room) Unknown(ctx context.Context, tx *tenantdb.ReadTx, names []string) (unknown []string, err error) {
	list, err := Load(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("policy.Unknown: %w", err)
	}
	for _, n := range names {
		if !list.Known(n) {
			unknown = append(unknown, n)
		}
	}
	return unknown, nil
}

// Risk is the highest risk among scopes of the transaction's organisation: low, medium or high.
func (r *Room) Risk(ctx context.Context, tx *tenantdb.ReadTx, names []string) (string, error) {
	list, err := Load(ctx, tx)
	if err != nil {
		return "", fmt.Errorf("policy.Risk: %w", err)
	}
	return string(list.Risk(names...)), nil
}

// Add adds a scope of the organisation's own.
func (r *Room) Add(ctx context.Context, c tenantdb.Caller, s Scope) (Scope, error) {
	if c.Actor().Kind != audit.ActorSystem && !c.May("scopes:write") {
		return Scope{}, problem.New(problem.Denied, "Adding a scope needs the capability scopes:write.")
	}
	if p := s.check(); p != nil {
		return Scope{}, p
	}
	s.BuiltIn = false
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return Scope{}, fmt.Errorf("policy.Add: %w", err)
	}
	err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		list, err := Load(ctx, &tx.ReadTx)
		switch {
		case err != nil:
			return audit.Event{}, err
		case list.Known(s.Name):
			return audit.Event{}, problem.New(problem.Conflict, "There is a scope of this name already.")
		case len(list.own) >= MaxOwn:
			return audit.Event{}, problem.New(problem.Conflict, "The organisation has %d scopes of its own, and that is the most.", MaxOwn)
		}
		return added(s), insertScope(ctx, tx, s, r.cfg.Now())
	})
	if err != nil {
		return Scope{}, fmt.Errorf("policy.Add: %w", err)
	}
	return s, nil
}

// added alters decisions in so far as a scope that was unknown has become one that is not granted.
func added(s Scope) audit.Event {
	return audit.Event{
		Type: "scope.added", Target: audit.Target{Kind: "scope"}, Alters: true,
		Public:  []audit.Field{{Name: "risk", Value: string(s.Risk)}},
		Private: []audit.Field{{Name: "name", Value: s.Name}, {Name: "description", Value: s.Description}},
	}
}

func (s Scope) check() *problem.Error {
	p := problem.New(problem.Invalid, "The scope is not well formed. See `errors`.")
	if says := CheckName(s.Name); says != "" {
		p.Fields = append(p.Fields, problem.Field{Location: "body.name", Message: says})
	}
	if s.Risk.rank() < 0 {
		p.Fields = append(p.Fields, problem.Field{Location: "body.risk", Message: "is none of low, medium and high"})
	}
	if n := len([]rune(s.Description)); n == 0 || n > 500 {
		p.Fields = append(p.Fields, problem.Field{Location: "body.description", Message: "must have 1 to 500 characters"})
	}
	if len(p.Fields) == 0 {
		return nil
	}
	return p
}
