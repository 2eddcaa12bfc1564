package scim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// PersonID names a person.
type PersonID = tenantdb.PersonID

// Directory stands in managed_by for whatever has a key with scim:write.
var Directory = org.ConnectionID{0x5c, 0x1d, 6: 0x70, 8: 0x80, 15: 0x01}

// Config is what a Room is made of.
type Config struct {
	DB     *tenantdb.DB
	Ring   *keyring.Ring
	People *org.Room
	Public *url.URL // where this installation is reached
	// Owns says whether the organisation has proved a domain, and which roles its new people get.
	Owns func(ctx context.Context, tx *tenantdb.ReadTx, domain string) (roles []string, owned bool, err error)
	// Gain are those of some people who would give themselves what other rooms gave a group, when somebody (kind and id) puts them in;
	// alone says that an organisation's only owner does it. nil is nobody.
	Gain func(ctx context.Context, tx *tenantdb.ReadTx, by string, g org.GroupID, people []PersonID) (gain []PersonID, alone bool, err error)
	Now  func() time.Time // nil is time.Now
}

// Room is the directories of all organisations.
type Room struct{ cfg Config }

// New makes the room.
func New(c Config) *Room {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Room{c}
}

func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// location is the address of a resource.
func (r *Room) location(kind, name string) string {
	return strings.TrimSuffix(r.cfg.Public.String(), "/") + "/scim/v2/" + kind + "/" + name
}

func notFound(kind, name string) error {
	return &Error{http.StatusNotFound, "", "There is no " + kind + " " + name + "."}
}

func taken(what string) error {
	return &Error{http.StatusConflict, "uniqueness", "There is somebody or something with this " + what + " already."}
}

func forbidden(format string, args ...any) error {
	return &Error{http.StatusForbidden, "mutability", fmt.Sprintf(format, args...)}
}

// change is a change by a directory.
func (r *Room) change(ctx context.Context, c tenantdb.Caller, what string, fn func(*tenantdb.Tx) ([]audit.Event, error)) error {
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return fmt.Errorf("scim.%s: %w", what, err)
	}
	err := r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if c.Actor().Kind == audit.ActorKey {
			if err := r.cfg.People.StillHolds(ctx, &tx.ReadTx, "scim:write"); err != nil {
				return nil, err
			}
		}
		events, err := fn(tx)
		var real []audit.Event
		for _, e := range events {
			if e.Type != "" { // of what did not change
				real = append(real, e)
			}
		}
		return real, err
	})
	if err != nil {
		return fmt.Errorf("scim.%s: %w", what, err)
	}
	return nil
}

func (r *Room) read(ctx context.Context, c tenantdb.Caller, what string, fn func(*tenantdb.ReadTx) error) error {
	if err := r.cfg.DB.Read(ctx, c, fn); err != nil {
		return fmt.Errorf("scim.%s: %w", what, err)
	}
	return nil
}

// match refuses (412) a version that is not the present one, if the request names one.
func match(ifMatch string, version int64) error {
	if ifMatch == "" || ifMatch == "*" || strings.TrimPrefix(ifMatch, "W/") == fmt.Sprintf(`"%d"`, version) {
		return nil
	}
	return &Error{http.StatusPreconditionFailed, "", "It has changed since it was read."}
}

func tag(version int64) string { return fmt.Sprintf(`W/"%d"`, version) }

// asProblem makes a failure one that everybody here knows; what SCIM says of it is its cause.
func asProblem(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	kind := problem.Invalid
	switch e.Status {
	case http.StatusForbidden:
		kind = problem.Denied
	case http.StatusNotFound:
		kind = problem.Missing
	case http.StatusConflict, http.StatusPreconditionFailed:
		kind = problem.Conflict
	}
	p := problem.New(kind, "%s", e.Detail).Because(e)
	p.Status = e.Status
	return p
}

func field(name, value string) audit.Field { return audit.Field{Name: name, Value: value} }

// Adopt lets the directory decide about somebody who was a member before, or takes that away. The caller must be allowed to decide
// about them; the directory cannot take them by itself.
func (r *Room) Adopt(ctx context.Context, c tenantdb.Caller, id PersonID, managed bool) error {
	if err := r.cfg.People.Prepare(ctx, c.Tenant(), id); err != nil {
		return fmt.Errorf("scim.Adopt: %w", err)
	}
	return r.change(ctx, c, "Adopt", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if err := r.cfg.People.MayDecide(ctx, &tx.ReadTx, id); err != nil {
			return nil, err
		}
		f, err := r.cfg.People.Profile(ctx, &tx.ReadTx, id)
		if err != nil {
			return nil, err
		}
		by := org.ConnectionID{}
		if managed {
			if _, owned, err := r.cfg.Owns(ctx, &tx.ReadTx, domainOf(f.Address)); err != nil || !owned {
				return nil, errors.Join(err, problem.New(problem.Conflict, "The person's address is of no domain that your organisation has proved."))
			}
			by = Directory
		}
		e, err := r.cfg.People.Direct(ctx, tx, id, by, f)
		if e.Type != "" {
			e.Type = map[bool]string{true: "person.adopted", false: "person.released"}[managed]
		}
		return []audit.Event{e}, err
	})
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
