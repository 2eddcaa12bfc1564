package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Asked is what somebody signs in with.
type Asked struct {
	Address      string
	Password     secret.String
	Organisation tenantdb.TenantID // zero is the one that was signed in to last
	Session      Wanted
}

// Wanted is the session that is wanted.
type Wanted struct {
	Program bool   // tokens for a program, not a cookie
	Client  string // what a program calls itself: its refresh tokens are worth nothing without it; may be empty
	Device  string // what the person calls the device
}

// mostAccounts is among how many organisations of one address is chosen.
const mostAccounts = 20

// wrongPassword is the answer to whoever did not sign in, whatever the reason.
func wrongPassword() error {
	return problem.New(problem.Unauthenticated, "The address and the password do not belong together. If you are in several organisations, name the one.")
}

// SignIn begins a sign-in by address and password. Whether there is such an account, whether it has a password, and whether it is
// in force cannot be told from the answer or its time.
func (r *Room) SignIn(ctx context.Context, req Request, in Asked) (o Outcome, err error) {
	normal, address, err := r.cfg.Org.Address(ctx, in.Address)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.SignIn: %w", err)
	}
	who, known, err := r.find(ctx, req, address, in.Organisation)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.SignIn: %w", err)
	}
	try := func() error {
		o, err = r.byPassword(ctx, req, who, known, normal, address, in)
		return err
	}
	if known {
		return o, try()
	}
	return o, r.inSteps(ctx, r.cfg.Step, try)
}

// find is the account of an address, and whether the device is one of its person's. Of an address that nobody has it is nobody of
// the installation's own organisation, for whom everything is read as for others.
func (r *Room) find(ctx context.Context, req Request, address string, wanted tenantdb.TenantID) (who account, known bool, err error) {
	who = account{tenant: tenantdb.Platform}
	found, err := lookupPeople(ctx, r.cfg.DB, address, mostAccounts)
	if err != nil {
		return who, false, err
	}
	meant := func(a account) bool { return wanted.IsZero() || a.tenant == wanted }
	// An organisation that its own key management keeps closed is in no other's way.
	i := slices.IndexFunc(found, func(a account) bool { return meant(a) && r.cfg.Ring.Usable(ctx, a.tenant) == nil })
	if i < 0 {
		i = slices.IndexFunc(found, meant)
	}
	if i >= 0 {
		who = found[i]
	}
	err = r.cfg.DB.Read(ctx, tenantdb.System(who.tenant, "sign-in"), func(tx *tenantdb.ReadTx) error {
		known, err = r.cfg.Sessions.KnownDevice(ctx, tx, who.person, req.Device)
		return err
	})
	return who, known && !who.person.IsZero(), err
}

// let lets a guess at a password through, or refuses it.
func (r *Room) let(req Request, known bool, address string) (*guess, error) {
	if known {
		return r.guesses.known(address, strings.Split(req.Device, "."), r.cfg.Now())
	}
	return r.guesses.stranger(req.Meta.Address, address, r.cfg.Now())
}

func (r *Room) byPassword(ctx context.Context, req Request, who account, known bool, normal, address string, in Asked) (Outcome, error) {
	g, err := r.let(req, known, address)
	if err != nil {
		return Outcome{}, err
	}
	stored, ok, outdated, err := r.proved(ctx, who, known, in.Password)
	g.ended(err == nil && !ok, r.cfg.Now())
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.SignIn: %w", err)
	}
	if !ok {
		return Outcome{}, r.refuse(ctx, req, who, "password", wrongPassword())
	}
	var anew *password.Hash
	if outdated {
		h, err := r.cfg.Passwords.Hash(ctx, queue(known), who.tenant, who.person, in.Password)
		switch {
		case err == nil:
			anew = &h
		case !problem.Is(err, problem.Unavailable): // for want of a permit: the next sign-in may do it
			return Outcome{}, fmt.Errorf("signin.SignIn: %w", err)
		}
	}
	return r.change(ctx, req, who, nobody, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		switch now, err := r.cfg.Passwords.Load(ctx, &tx.ReadTx, who.person); {
		case err != nil:
			return Outcome{}, audit.Event{}, err
		case !now.Same(stored): // it was another one's turn while this one was compared
			return Outcome{}, audit.Event{}, wrongPassword()
		}
		if anew != nil {
			if _, err := r.cfg.Passwords.Upgrade(ctx, tx, stored, *anew); err != nil {
				return Outcome{}, audit.Event{}, err
			}
		}
		return r.advance(ctx, tx, s, progress{req: req, who: who, known: known, proofs: []string{"password"}, wanted: in.Session})
	})
}

// proved compares a password with that of an account, as it was read.
func (r *Room) proved(ctx context.Context, who account, known bool, plain secret.String) (stored password.Stored, ok, outdated bool, err error) {
	err = r.cfg.DB.Read(ctx, tenantdb.System(who.tenant, "sign-in"), func(tx *tenantdb.ReadTx) error {
		stored, err = r.cfg.Passwords.Load(ctx, tx, who.person)
		return err
	})
	if err != nil {
		return stored, false, false, err
	}
	ok, outdated, err = r.cfg.Passwords.Verify(ctx, queue(known), stored, plain)
	return stored, ok, outdated, err
}

// queue is where somebody waits for a hash.
func queue(known bool) password.From {
	if known {
		return password.KnownDevice
	}
	return password.Stranger
}

// nobody is the connection of whom no provider brings.
var nobody [16]byte

// change makes a change for a person who is on the way in, is in force, and may come so: by a connection, or by none. Errors:
// wrongPassword for one who is not in force.
func (r *Room) change(ctx context.Context, req Request, who account, via [16]byte, fn func(*tenantdb.Tx, org.Standing) (Outcome, audit.Event, error)) (Outcome, error) {
	elsewhere := false
	o, err := r.changeAny(ctx, req, who, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		if err := r.free(ctx, tx, s, via); err != nil {
			elsewhere = problem.Is(err, problem.Denied)
			return Outcome{}, audit.Event{}, err
		}
		return fn(tx, s)
	})
	if elsewhere {
		err = r.refuse(ctx, req, who, "provider", err)
	}
	return o, err
}

// free refuses somebody who signs in by another connection alone.
func (r *Room) free(ctx context.Context, tx *tenantdb.Tx, s org.Standing, via [16]byte) error {
	p, err := r.cfg.Org.Profile(ctx, &tx.ReadTx, s.Person)
	if err != nil {
		return err
	}
	by, err := r.cfg.Provided(ctx, &tx.ReadTx, p.Address, s.Roles)
	if err == nil && by != nobody && by != via {
		err = problem.New(problem.Denied, "Your organisation signs in by its provider: go on there.")
	}
	return err
}

func (r *Room) changeAny(ctx context.Context, req Request, who account, fn func(*tenantdb.Tx, org.Standing) (Outcome, audit.Event, error)) (o Outcome, err error) {
	if err := r.prepare(ctx, who); err != nil {
		return Outcome{}, fmt.Errorf("signin.change: %w", err)
	}
	out := ""
	err = r.cfg.DB.Change(ctx, caller(who.tenant, who.person, req.Meta), func(tx *tenantdb.Tx) (ev audit.Event, err error) {
		s, err := r.cfg.Org.Standing(ctx, &tx.ReadTx, who.person)
		if err != nil {
			return audit.Event{}, err
		}
		if !s.Active {
			out = s.Why
			return audit.Event{}, nil
		}
		if !s.Rules.Allows(req.Meta.Address) {
			out = "address"
			return audit.Event{}, nil
		}
		o, ev, err = fn(tx, s)
		return ev, err
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.change: %w", err)
	}
	if out != "" {
		return Outcome{}, r.refuse(ctx, req, who, out, wrongPassword())
	}
	return r.withAccess(ctx, o)
}

// prepare brings into memory what is needed while the head is locked.
func (r *Room) prepare(ctx context.Context, who account) error {
	if err := r.cfg.Sessions.Prepare(ctx, who.tenant, who.person); err != nil {
		return err
	}
	return r.cfg.Factors.Prepare(ctx, who.tenant, who.person)
}

// refuse records that somebody did not get in: with the account's organisation, or with the installation if there is none.
func (r *Room) refuse(ctx context.Context, req Request, who account, reason string, as error) error {
	ev := audit.Event{
		Type: "signin.refused", Outcome: audit.Denied, Target: audit.Target{Kind: "person", ID: target(who.person)}, Subject: who.person,
		Public: []audit.Field{{Name: "reason", Value: reason}}, Private: from(req.Meta.Address),
	}
	record := r.record // of what bounds of guesses let through; to count some of them would tell addresses that are somebody's by the time
	if reason == "factor" {
		record = r.cfg.Refused
	}
	if err := record(ctx, caller(who.tenant, tenantdb.PersonID{}, req.Meta), ev); err != nil {
		return fmt.Errorf("signin.refuse: %w", err)
	}
	return as
}

func (r *Room) record(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
	_, err := r.cfg.DB.Record(ctx, c, ev)
	return err
}

func target(p tenantdb.PersonID) string {
	if p.IsZero() {
		return ""
	}
	return p.String()
}

// progress is how far somebody has come.
type progress struct {
	req      Request
	who      account
	known    bool // the device
	proofs   []string
	wanted   Wanted
	via      [16]byte // the connection, if a provider proved the person
	until    time.Time
	provedAt time.Time // by a provider; zero is now
	attempt  *attempt  // that goes on
	password []byte    // to become the person's, once this is enough
}

func asRefusal(err error, to **mfa.Refusal) bool { return errors.As(err, to) }
