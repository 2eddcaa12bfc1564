package signin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// advance says what is wanted next of a person who has proved this much: a factor, a first factor, or nothing more.
func (r *Room) advance(ctx context.Context, tx *tenantdb.Tx, s org.Standing, p progress) (Outcome, audit.Event, error) {
	// A provider's word that it asked for several factors says not of which kinds: where only some count it is none of them.
	if p.own() || p.strong() && s.Factors == nil {
		return r.start(ctx, tx, s, p)
	}
	o, had, err := r.offered(ctx, &tx.ReadTx, p)
	if err != nil {
		return Outcome{}, audit.Event{}, err
	}
	switch {
	case len(o.Factors) > 0 || o.RecoveryCodes > 0:
		return r.wait(ctx, tx, p, Outcome{State: Factor, Factors: o.Factors, Codes: o.RecoveryCodes}, toSignIn)
	case had:
		return Outcome{}, audit.Event{}, errSameMailbox()
	}
	return r.enough(ctx, tx, p, func(p progress) (Outcome, audit.Event, error) {
		if o.Enrol || s.NeedsMFA {
			return r.wait(ctx, tx, p, Outcome{State: Enrol}, toEnrol)
		}
		return r.start(ctx, tx, s, p)
	})
}

// enough goes on with a person who has proved all that there is to prove. Now, and not before, a password that was set by a mailed
// link is theirs: who reads the mail of somebody who has a factor must not be somebody else's password and mailbox afterwards.
func (r *Room) enough(ctx context.Context, tx *tenantdb.Tx, p progress, on func(progress) (Outcome, audit.Event, error)) (Outcome, audit.Event, error) {
	if p.password == nil {
		return on(p)
	}
	err := r.cfg.Passwords.Store(ctx, tx, p.who.person, password.Kept(p.who.tenant, p.who.person, p.password))
	if err == nil {
		err = r.forget(ctx, tx, p.who.person, "password_recovered")
	}
	if err == nil {
		err = r.tell(ctx, tx, mail.RecoverDone, p.who.person, nil)
	}
	if err != nil {
		return Outcome{}, audit.Event{}, err
	}
	p.password = nil
	o, ev, err := on(p)
	ev.Public = append(ev.Public, audit.Field{Name: "password", Value: "renewed"})
	return o, ev, err
}

// offered are the factors that may be used now, and whether there were any. Who has come by a mailed link has proved the mailbox:
// a code sent there would prove it once more, and nothing else; but for what an administrator's reset left, who vouched for it.
func (r *Room) offered(ctx context.Context, tx *tenantdb.ReadTx, p progress) (o mfa.Offer, had bool, err error) {
	o, err = r.cfg.Factors.Offered(ctx, tx, p.who.person)
	had = len(o.Factors) > 0
	if slices.Contains(p.proofs, "link") {
		o.Factors = slices.DeleteFunc(o.Factors, func(f mfa.Factor) bool { return f.Kind == mfa.Email && !f.Reset })
	}
	return o, had, err
}

// wait writes down how far the person has come.
func (r *Room) wait(ctx context.Context, tx *tenantdb.Tx, p progress, o Outcome, purpose string) (Outcome, audit.Event, error) {
	a, raw := r.newAttempt(purpose, p.who.person)
	a.proofs, a.via, a.until, a.provedAt = p.proofs, p.via, p.until, p.provedAt
	a.state = attemptState{Program: p.wanted.Program, Client: p.wanted.Client, Device: p.wanted.Device, Known: p.known, Password: p.password}
	if err := r.begin(ctx, tx, a); err != nil {
		return Outcome{}, audit.Event{}, err
	}
	o.Tenant, o.Person, o.Attempt = p.who.tenant, p.who.person, raw
	return o, r.event("signin.begun", p, audit.Field{Name: "proved", Value: strings.Join(p.proofs, "+")}, audit.Field{Name: "wants", Value: string(o.State)}), nil
}

// start begins the session.
func (r *Room) start(ctx context.Context, tx *tenantdb.Tx, s org.Standing, p progress) (Outcome, audit.Event, error) {
	if p.attempt != nil {
		if err := r.end(ctx, tx, *p.attempt); err != nil {
			return Outcome{}, audit.Event{}, err
		}
	}
	at := p.provedAt
	if at.IsZero() || p.own() {
		at = r.instant()
	}
	n := session.New{
		Person: p.who.person, Kind: session.Browser, Methods: p.proofs, Via: p.via, Until: p.until, ProvedAt: at,
		Binding: p.wanted.Client, Device: p.wanted.Device, Program: p.req.Program, Address: p.req.Meta.Address, Idle: s.Rules.IdleTimeout, Life: s.Rules.SessionLifetime,
	}
	if p.wanted.Program {
		n.Kind, n.Life, n.Idle = session.Program, s.Rules.ProgramLifetime, s.Rules.ProgramLifetime
	}
	started := &Started{}
	var err error
	if started.Session, started.Value, err = r.cfg.Sessions.Start(ctx, tx, n); err != nil {
		return Outcome{}, audit.Event{}, err
	}
	if !p.known {
		if started.Device, err = r.cfg.Sessions.RememberDevice(ctx, tx, p.who.person, p.req.Device); err != nil {
			return Outcome{}, audit.Event{}, err
		}
		if err := r.tell(ctx, tx, mail.NewDevice, p.who.person, map[string]string{"session": started.Session.ID.String()}); err != nil {
			return Outcome{}, audit.Event{}, err
		}
	}
	return Outcome{State: SignedIn, Tenant: p.who.tenant, Person: p.who.person, Started: started}, started.Session.Event(), nil
}

func (r *Room) event(typ string, p progress, public ...audit.Field) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "person", ID: p.who.person.String()}, Subject: p.who.person, Public: public, Private: from(p.req.Meta.Address),
	}
}

// withAccess gives a program its first access token.
func (r *Room) withAccess(ctx context.Context, o Outcome) (Outcome, error) {
	if o.Started == nil || o.Started.Session.Kind != session.Program {
		return o, nil
	}
	t, err := r.cfg.Sessions.Tokens(ctx, o.Tenant, o.Started.Session.ID, o.Started.Value)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin: %w", err)
	}
	o.Started.Access = t.Access
	return o, nil
}
