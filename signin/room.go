package signin

import (
	"context"
	"net/netip"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pace"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what the room needs.
type Config struct {
	DB        *tenantdb.DB
	Ring      *keyring.Ring
	Org       *org.Room
	Passwords *password.Room
	Factors   *mfa.Room
	Sessions  *session.Room
	Links     *link.Links
	// Provided is the connection by which alone somebody with an address and roles signs in; zero is any way. Nil is nobody.
	Provided func(ctx context.Context, tx *tenantdb.ReadTx, address string, roles []string) (by [16]byte, err error)
	// Refused records that somebody did not prove a factor, such as a passkey: anybody can without end, so a server bounds here what
	// a flood of that writes to a log. Nil writes each.
	Refused func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error
	Guesses Guesses // DefaultGuesses if zero
	Mails   Guesses // that strangers have sent, DefaultMails if zero: each counts, right or wrong, and apart from guesses
	// Step is what the answers to strangers take a whole number of, so that they say nothing of the work behind them; 0 is none.
	Step time.Duration
	Now  func() time.Time // nil is time.Now
}

// DefaultStep hides the difference between an account and none, which is some milliseconds.
const DefaultStep = 50 * time.Millisecond

// Room is how people arrive.
type Room struct {
	cfg     Config
	guesses *guesses
	asked   *guesses   // for links: each costs somebody a mail
	begun   *pace.Pace // sign-ins by a passkey, of which each is a row before anybody is known
}

// begunPerMinute is how many sign-ins by a passkey one address may begin in a minute: many people can be behind one.
const begunPerMinute = 300

// DefaultMails lets a person ask again whose mail is late, and nobody have a mailbox filled. It has no bound of all together: strangers
// with many addresses would keep everybody from recovering, and each person's mails are bounded anyway.
func DefaultMails() Guesses {
	return Guesses{Network: Allowance{10, time.Minute}, Account: Allowance{3, 20 * time.Minute}}
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Guesses == (Guesses{}) {
		cfg.Guesses = DefaultGuesses()
	}
	if cfg.Mails == (Guesses{}) {
		cfg.Mails = DefaultMails()
	}
	if cfg.Provided == nil {
		cfg.Provided = func(context.Context, *tenantdb.ReadTx, string, []string) (by [16]byte, err error) { return by, nil }
	}
	r := &Room{cfg, newGuesses(cfg.Guesses), newGuesses(cfg.Mails), pace.New(begunPerMinute, time.Minute)}
	if cfg.Refused == nil {
		r.cfg.Refused = r.record
	}
	return r
}

func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// Request is what is known of who asks, before it is known who that is.
type Request struct {
	Meta    web.RequestMeta
	Program string // User-Agent
	Device  string // what a device keeps that somebody signed in from before; empty if it keeps nothing
}

// State says what a sign-in wants next.
type State string

// The states.
const (
	SignedIn State = "signed_in" // there is a session
	Factor   State = "factor"    // one of the factors is to be proved
	Enrol    State = "enrol"     // a first factor is to be set up
)

// Outcome is where a sign-in stands.
type Outcome struct {
	State   State
	Tenant  tenantdb.TenantID
	Person  tenantdb.PersonID
	Attempt secret.String // what the next step is asked with; of no worth once SignedIn
	Factors []mfa.Factor  // to choose from
	Codes   int           // recovery codes that are left
	Started *Started
	// NewCodes are recovery codes that were made with the first factor: this is the only sight of them.
	NewCodes []secret.String
}

// Started is the session that a sign-in ended in.
type Started struct {
	Session session.Session
	Value   secret.String // the cookie's, or the first refresh token
	Access  secret.String // of a program
	Device  secret.String // for a device that was not known
}

// caller is somebody who is on the way to a session, and may do nothing yet.
func caller(t tenantdb.TenantID, p tenantdb.PersonID, meta web.RequestMeta) tenantdb.Caller {
	actor := audit.Actor{Kind: audit.ActorNobody}
	if !p.IsZero() {
		actor = audit.Actor{Kind: audit.ActorPerson, ID: p.String()}
	}
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: t, Actor: actor, How: "sign-in", RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address,
	})
}

func from(a netip.Addr) []audit.Field {
	if !a.IsValid() {
		return nil
	}
	return []audit.Field{{Name: "address", Value: a.String()}}
}

// inSteps runs fn, and returns when a whole number of steps has passed since it began: what it did cannot be told from how long
// it took, as long as it took less than a step more or less.
func (r *Room) inSteps(ctx context.Context, step time.Duration, fn func() error) error {
	began := time.Now()
	err := fn()
	if step <= 0 {
		return err
	}
	wait := step - time.Since(began)%step
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return err
}
