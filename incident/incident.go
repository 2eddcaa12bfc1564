package incident

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

type idKind struct{}

// ID names an incident.
type ID = id.ID[idKind]

// Incident is something that is or was wrong.
type Incident struct {
	ID       ID
	Kind     string // dotted, from a closed list: "log.broken"
	Subject  string // what it is about, an identifier; empty is the tenant itself
	Detail   string // a sentence for whoever must act
	Opened   time.Time
	Resolved time.Time // zero while it is open
}

// Room is the incidents of all tenants.
type Room struct {
	db     *tenantdb.DB
	now    func() time.Time
	opened func(context.Context, *tenantdb.Tx, Incident) error
}

// Config is what a Room is made of.
type Config struct {
	DB  *tenantdb.DB
	Now func() time.Time // nil is time.Now
	// Opened is told of an incident in the transaction that opens it: to enqueue a notice. Nil tells nobody.
	Opened func(ctx context.Context, tx *tenantdb.Tx, in Incident) error
}

// New makes the room.
func New(c Config) *Room {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Opened == nil {
		c.Opened = func(context.Context, *tenantdb.Tx, Incident) error { return nil }
	}
	return &Room{db: c.DB, now: c.Now, opened: c.Opened}
}

// The limits of an incident's words.
const (
	maxKind    = 64
	maxSubject = 128
	maxDetail  = 1000
)

// Raise opens an incident of the caller's tenant, unless one of the same kind and subject is open: then it does nothing,
// and says false.
func (r *Room) Raise(ctx context.Context, c tenantdb.Caller, kind, subject, detail string) (opened bool, err error) {
	if !word(kind, maxKind) || kind == "" || !word(subject, maxSubject) {
		return false, fmt.Errorf("incident.Raise: kind or subject is not an identifier")
	}
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "")
	}
	// Most of the time it is open already, and finding that must not take the head of a busy log.
	if known, err := r.isOpen(ctx, c, kind, subject); err != nil || known {
		return false, err
	}
	in := Incident{ID: id.At[idKind](r.now()), Kind: kind, Subject: subject, Detail: detail, Opened: r.now()}
	err = r.db.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		// The tenant's head is locked, so of two servers that come this far the second sees the first one's row.
		known, err := openedAlready(ctx, &tx.ReadTx, in.Kind, in.Subject)
		if opened = !known; err != nil || known {
			return audit.Event{}, err
		}
		if err := insert(ctx, tx, in); err != nil {
			return audit.Event{}, err
		}
		return in.event("incident.opened"), r.opened(ctx, tx, in)
	})
	if err != nil {
		return false, fmt.Errorf("incident.Raise: %w", err)
	}
	return opened, nil
}

func (r *Room) isOpen(ctx context.Context, c tenantdb.Caller, kind, subject string) (known bool, err error) {
	err = r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		known, err = openedAlready(ctx, tx, kind, subject)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("incident.Raise: %w", err)
	}
	return known, nil
}

// Resolve closes an incident of the caller's tenant. One that is closed already stays as it is.
func (r *Room) Resolve(ctx context.Context, c tenantdb.Caller, incident ID) error {
	err := r.db.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		in, err := resolve(ctx, tx, incident, r.now())
		if err != nil || in == nil {
			return audit.Event{}, err
		}
		return in.event("incident.resolved"), nil
	})
	if err != nil {
		return fmt.Errorf("incident.Resolve: %w", err)
	}
	return nil
}

// Get is one incident of the caller's tenant.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller, incident ID) (in Incident, err error) {
	err = r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		in, err = find(ctx, tx, incident)
		return err
	})
	if err != nil {
		return Incident{}, fmt.Errorf("incident.Get: %w", err)
	}
	return in, nil
}

// ParseID reads the canonical form.
func ParseID(s string) (ID, error) { return id.Parse[idKind](s) }

// Open is the open incidents of the caller's tenant, the oldest first.
func (r *Room) Open(ctx context.Context, c tenantdb.Caller) (all []Incident, err error) {
	all, err = r.list(ctx, c, true, ID{}, maxOpen)
	if err != nil {
		return nil, fmt.Errorf("incident.Open: %w", err)
	}
	return all, nil
}

// maxOpen bounds what Open returns: no kind and subject is open twice, so more than this means something else is wrong.
const maxOpen = 1000

func (r *Room) list(ctx context.Context, c tenantdb.Caller, open bool, after ID, most int) (all []Incident, err error) {
	err = r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		all, err = list(ctx, tx, open, after, most)
		return err
	})
	return all, err
}

func (in *Incident) event(what string) audit.Event {
	ev := audit.Event{
		Type: what, Target: audit.Target{Kind: "incident", ID: in.ID.String()},
		Public:  []audit.Field{{Name: "kind", Value: in.Kind}},
		Private: []audit.Field{{Name: "detail", Value: in.Detail}},
	}
	if in.Subject != "" {
		ev.Public = append(ev.Public, audit.Field{Name: "subject", Value: in.Subject})
	}
	return ev
}

// word reports whether s is of characters that identifiers have.
func word(s string, most int) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == ':', c == '-':
		default:
			return false
		}
	}
	return len(s) <= most
}

func missing() error {
	return problem.New(problem.Missing, "There is no such incident.")
}
