package sso

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/pace"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

type connectionKind struct{}

// ID names a connection. It is no secret: it is in the addresses that an identity provider is told.
type ID = id.ID[connectionKind]

// ParseID reads the canonical form.
func ParseID(s string) (ID, error) { return id.Parse[connectionKind](s) }

// PersonID names a person.
type PersonID = tenantdb.PersonID

// Arrival is a person whom an identity provider has proved.
type Arrival struct {
	Tenant     tenantdb.TenantID
	Person     PersonID
	Method     string // "oidc" or "saml"
	Connection ID
	// ProvedAt is when the provider proved the person, which may have been long ago; zero if it does not say.
	ProvedAt time.Time
	Until    time.Time // when the provider's own session ends; zero if it does not say
	Strong   bool      // the provider says that it asked for several factors, and the connection believes it
	Session  string    // the session that is to be proved anew; empty to begin one
	Device   string    // what the person calls the device
	Known    string    // what the device kept when the sign-in began: a page of the provider's that posts sends no cookie along
	Return   string    // the local path to go to afterwards, also if more is to be proved first
}

// Ended says which sessions end.
type Ended struct {
	Person PersonID // whose; zero is everybody's
	Via    ID       // that began by this connection; zero is any
	NotVia ID       // that did not begin by this connection; zero is any
}

// Notice is something that the owners of an organisation must know.
type Notice struct {
	Kind       string // NoticeConfigurer, NoticeDomainLapsing, NoticeDomainLost
	Connection ID
	Domain     string
}

// What owners are told.
const (
	NoticeConfigurer    = "connection_configurer_left" // who set up a connection has left, or may not do so any more
	NoticeDomainLapsing = "domain_lapsing"             // the record that proves a domain is gone
	NoticeDomainLost    = "domain_lost"                // and was for so long that the domain counts as proved no more
)

// Config is what a Room is made of.
type Config struct {
	DB     *tenantdb.DB
	Ring   *keyring.Ring
	People *org.Room
	Public *url.URL     // where this installation is reached
	Client *http.Client // of internal/outbound: providers are addresses that customers choose
	// Arrive makes a session of an arrival and writes its cookie, or says where the browser goes to prove more.
	Arrive func(w http.ResponseWriter, req *http.Request, meta web.RequestMeta, a Arrival) (next string, err error)
	// DeviceOf reads what a device keeps from a Cookie header; nil is nothing.
	DeviceOf func(cookies string) string
	// EndSessions ends sessions, and says how many.
	EndSessions func(ctx context.Context, tx *tenantdb.Tx, e Ended, why string) (int, error)
	// Lasts says whether a session is in force still; nil believes that all are.
	Lasts func(ctx context.Context, tx *tenantdb.ReadTx, session string) (bool, error)
	// Takes refuses that the caller has a connection decide who is in a group, if they could give themselves by it what other rooms gave
	// the group; alone says that an organisation's only owner does it. Gain are those of some people who would give themselves that,
	// when the connection puts them in that was configured by somebody (kind and id). nil is nothing.
	Takes func(ctx context.Context, tx *tenantdb.ReadTx, g org.GroupID) (alone bool, err error)
	Gain  func(ctx context.Context, tx *tenantdb.ReadTx, by string, g org.GroupID, people []PersonID) (gain []PersonID, alone bool, err error)
	// Tell enqueues a mail to the owners.
	Tell func(ctx context.Context, tx *tenantdb.Tx, n Notice) error
	// LookupTXT asks DNS; nil is the system's resolver.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// Refused records a refusal of somebody who had begun here. A server bounds here what a flood of them writes to the log of an
	// organisation; nil writes each.
	Refused func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error
	// StartsPerMinute is how many sign-ins one address may begin or bring back in a minute, on each server; 0 is 300: many people
	// can be behind one address.
	StartsPerMinute int
	Now             func() time.Time // nil is time.Now
}

// Room is the connections of all organisations.
type Room struct {
	cfg       Config
	starts    *pace.Pace
	providers providers
}

// New makes the room.
func New(c Config) *Room {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.LookupTXT == nil {
		c.LookupTXT = net.DefaultResolver.LookupTXT
	}
	if c.StartsPerMinute == 0 {
		c.StartsPerMinute = 300
	}
	if c.Refused == nil {
		c.Refused = func(ctx context.Context, caller tenantdb.Caller, ev audit.Event) error {
			_, err := c.DB.Record(ctx, caller, ev)
			return err
		}
	}
	return &Room{cfg: c, starts: pace.New(c.StartsPerMinute, time.Minute), providers: newProviders()}
}

func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// address is a path under the public URL.
func (r *Room) address(path string) string {
	return strings.TrimSuffix(r.cfg.Public.String(), "/") + path
}

// fresh refuses a person who did not prove to be there just now. A key has nobody who could.
func (r *Room) fresh(c tenantdb.Caller) error {
	if p, ok := c.Person(); ok {
		return p.Fresh(r.cfg.Now())
	}
	return nil
}

// need refuses who may not change connections: what break-glass lends is not enough, since a connection lasts.
func need(c tenantdb.Caller, capability string) error {
	if c.Actor().Kind == audit.ActorSystem || c.Holds(capability) {
		return nil
	}
	return problem.New(problem.Denied, "This takes the capability %s, held for good.", capability)
}

// change is a Change with a fresh proof and the right to write.
func (r *Room) change(ctx context.Context, c tenantdb.Caller, what string, fn func(*tenantdb.Tx) (audit.Event, error)) error {
	if err := errors.Join(need(c, "sso:write"), r.fresh(c)); err != nil {
		return fmt.Errorf("sso.%s: %w", what, err)
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return fmt.Errorf("sso.%s: %w", what, err)
	}
	err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := r.still(ctx, tx); err != nil {
			return audit.Event{}, err
		}
		return fn(tx)
	})
	if err != nil {
		return fmt.Errorf("sso.%s: %w", what, err)
	}
	return nil
}

// still refuses a person who was removed, suspended, signed out or lost a capability since the request came, and a key that has ended.
func (r *Room) still(ctx context.Context, tx *tenantdb.Tx) error {
	if err := r.cfg.People.StillHolds(ctx, &tx.ReadTx, "sso:write"); err != nil {
		return err
	}
	p, ok := tx.Caller().Person()
	if !ok {
		return nil
	}
	s, err := r.cfg.People.Standing(ctx, &tx.ReadTx, p.ID)
	if problem.Is(err, problem.Missing) || err == nil && (!s.Active || !within(s.Capabilities, tx.Caller().Scopes())) {
		return problem.New(problem.Denied, "You may not do this any more.")
	}
	return err
}

func (r *Room) read(ctx context.Context, c tenantdb.Caller, what string, fn func(*tenantdb.ReadTx) error) error {
	if c.Actor().Kind != audit.ActorSystem && !c.May("sso:read") {
		return fmt.Errorf("sso.%s: %w", what, problem.New(problem.Denied, "This takes the capability sso:read."))
	}
	if err := r.cfg.DB.Read(ctx, c, fn); err != nil {
		return fmt.Errorf("sso.%s: %w", what, err)
	}
	return nil
}

func field(name, value string) audit.Field { return audit.Field{Name: name, Value: value} }

func event(typ string, connection ID, public ...audit.Field) audit.Event {
	return audit.Event{Type: typ, Target: audit.Target{Kind: "connection", ID: connection.String()}, Public: public}
}

// within reports whether each capability is among those that are held.
func within(held, capabilities []string) bool {
	return slices.Contains(held, tenantdb.Everything) || !slices.ContainsFunc(capabilities, func(c string) bool { return !slices.Contains(held, c) })
}
