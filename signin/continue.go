package signin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Ask puts the question of a factor: it has a code sent, or says what a passkey is to sign.
func (r *Room) Ask(ctx context.Context, attempt secret.String, f mfa.ID) (q mfa.Question, err error) {
	return r.ask(ctx, attempt, f, toSignIn)
}

func (r *Room) ask(ctx context.Context, raw secret.String, f mfa.ID, purpose string) (q mfa.Question, err error) {
	t, err := r.tenantOf(ctx, raw)
	if err != nil {
		return q, err
	}
	err = r.cfg.DB.Note(ctx, tenantdb.System(t, "sign-in"), func(tx *tenantdb.Tx) error {
		a, err := r.resume(ctx, tx, raw, purpose)
		if err != nil {
			return err
		}
		q, a.state.Question, err = r.cfg.Factors.Ask(ctx, tx, mfa.Asked{Attempt: a.digest, Person: a.person, Factor: f, Sending: a.sends + 1, SentAt: a.sent})
		if err != nil {
			return err
		}
		if a.state.Factor = f.String(); q.SentTo != "" {
			a.sends, a.sent = a.sends+1, r.instant()
		}
		return r.keep(ctx, tx, a)
	})
	if err != nil {
		return mfa.Question{}, fmt.Errorf("signin.Ask: %w", err)
	}
	return q, nil
}

// Proof is an answer.
type Proof struct {
	Attempt      secret.String
	Factor       mfa.ID
	Code         secret.String
	RecoveryCode secret.String
	Assertion    json.RawMessage
}

func (p Proof) answer(a attempt) mfa.Answer {
	return mfa.Answer{
		Attempt: a.digest, State: a.state.Question, Person: a.person, Factor: p.Factor, Code: p.Code, RecoveryCode: p.RecoveryCode, Assertion: p.Assertion,
	}
}

// Continue judges an answer, and starts the session if it is right.
func (r *Room) Continue(ctx context.Context, req Request, in Proof) (o Outcome, err error) {
	t, err := r.tenantOf(ctx, in.Attempt)
	if err != nil {
		return Outcome{}, err
	}
	a, err := r.try(ctx, t, in, toSignIn, toPasskey)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Continue: %w", err)
	}
	if a.purpose == toPasskey {
		return r.byPasskey(ctx, req, in, a)
	}
	who := account{t, a.person}
	o, err = r.change(ctx, req, who, a.via, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		a, err := r.again(ctx, tx, in.Attempt, toSignIn)
		if err != nil {
			return Outcome{}, audit.Event{}, err
		}
		on := r.progressOf(req, who, a)
		if on.password != nil { // all attempts end with the proof: they are locked before what is spent, as in try
			if err := lockAttempts(ctx, tx, who.person); err != nil {
				return Outcome{}, audit.Event{}, err
			}
		}
		o, _, err := r.offered(ctx, &tx.ReadTx, on)
		if err != nil {
			return Outcome{}, audit.Event{}, err
		}
		proof, err := r.cfg.Factors.Prove(ctx, tx, in.answer(a))
		if err != nil {
			return Outcome{}, audit.Event{}, err
		}
		if proof.Method == mfa.Email && !slices.ContainsFunc(o.Factors, func(f mfa.Factor) bool { return f.ID == proof.Factor }) {
			return Outcome{}, audit.Event{}, errSameMailbox()
		}
		return r.proven(ctx, tx, s, on, proof)
	})
	return o, r.refused(ctx, req, who, err)
}

// errSameMailbox refuses a code by mail of somebody who came by a mailed link.
func errSameMailbox() error {
	return problem.New(problem.Denied, "You came by a link in a mail, so a code in a mail proves nothing more. Use another factor or a recovery code, or ask an administrator to reset your factors.")
}

// proven goes on with what was proved.
func (r *Room) proven(ctx context.Context, tx *tenantdb.Tx, s org.Standing, p progress, proof mfa.Proof) (Outcome, audit.Event, error) {
	p.proofs = append(slices.Clone(p.proofs), proof.Method)
	return r.enough(ctx, tx, p, func(p progress) (Outcome, audit.Event, error) {
		if !proof.EnrolOnly {
			return r.start(ctx, tx, s, p)
		}
		if p.attempt != nil {
			if err := r.end(ctx, tx, *p.attempt); err != nil {
				return Outcome{}, audit.Event{}, err
			}
		}
		return r.wait(ctx, tx, p, Outcome{State: Enrol}, toEnrol)
	})
}

func (r *Room) progressOf(req Request, who account, a attempt) progress {
	return progress{
		req: req, who: who, known: a.state.Known, proofs: a.proofs, wanted: Wanted{a.state.Program, a.state.Client, a.state.Device}, via: a.via, until: a.until, provedAt: a.provedAt,
		attempt: &a, password: a.state.Password,
	}
}

// try counts an answer before it is judged, in a transaction of its own: what counts guesses must not roll back with a wrong one.
func (r *Room) try(ctx context.Context, t tenantdb.TenantID, in Proof, purposes ...string) (a attempt, err error) {
	err = r.cfg.DB.Note(ctx, tenantdb.System(t, "sign-in"), func(tx *tenantdb.Tx) error {
		if a, err = r.resume(ctx, tx, in.Attempt, purposes...); err != nil {
			return err
		}
		if !a.person.IsZero() {
			if err := r.cfg.Factors.Try(ctx, tx, in.answer(a)); err != nil {
				return err
			}
		}
		a.tries++
		return r.keep(ctx, tx, a)
	})
	return a, err
}

// again is an attempt whose try was counted: the last one may be used up.
func (r *Room) again(ctx context.Context, tx *tenantdb.Tx, raw secret.String, purposes ...string) (attempt, error) {
	return r.load(ctx, tx, raw, MaxTries+1, purposes...)
}

// refused records an answer that was wrong.
func (r *Room) refused(ctx context.Context, req Request, who account, err error) error {
	var wrong *mfa.Refusal
	if !asRefusal(err, &wrong) {
		return err
	}
	if told := r.cfg.Factors.Tell(ctx, caller(who.tenant, tenantdb.PersonID{}, req.Meta), who.person, err); told != nil {
		return told
	}
	return r.refuse(ctx, req, who, "factor", err)
}

// beginPasskey makes a challenge for whoever has a passkey.
func (r *Room) beginPasskey(ctx context.Context, req Request, wanted Wanted) (*Step, error) {
	if wait := r.begun.Take(req.Meta.Address, r.cfg.Now()); wait > 0 {
		many := problem.New(problem.TooMany, "Too many sign-ins begin from your address.")
		many.RetryAfter = wait
		return nil, many
	}
	q, state, err := r.cfg.Factors.AskPasskey(ctx)
	if err != nil {
		return nil, fmt.Errorf("signin.beginPasskey: %w", err)
	}
	a, raw := r.newAttempt(toPasskey, tenantdb.PersonID{})
	a.state = attemptState{Program: wanted.Program, Client: wanted.Client, Device: wanted.Device, Question: state}
	if err := r.cfg.Ring.Prepare(ctx, tenantdb.Platform, tenantdb.PersonID{}); err != nil {
		return nil, fmt.Errorf("signin.beginPasskey: %w", err)
	}
	err = r.cfg.DB.Note(ctx, tenantdb.System(tenantdb.Platform, "sign-in"), func(tx *tenantdb.Tx) error { return r.begin(ctx, tx, a) })
	if err != nil {
		return nil, fmt.Errorf("signin.beginPasskey: %w", err)
	}
	return &Step{State: Factor, Attempt: raw.Expose(), Question: q.Options}, nil
}

// byPasskey signs in whom a passkey names. The challenge was counted as tried; it is spent before the answer is judged, so it
// counts once on all servers, whatever becomes of the rest.
func (r *Room) byPasskey(ctx context.Context, req Request, in Proof, a attempt) (Outcome, error) {
	err := r.cfg.DB.Note(ctx, tenantdb.System(tenantdb.Platform, "sign-in"), func(tx *tenantdb.Tx) error {
		first, err := r.again(ctx, tx, in.Attempt, toPasskey)
		if err != nil {
			return err
		}
		return r.end(ctx, tx, first)
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.byPasskey: %w", err)
	}
	owner, err := r.cfg.Factors.FindPasskey(ctx, in.Assertion)
	if err != nil {
		return Outcome{}, r.refused(ctx, req, account{tenant: tenantdb.Platform}, err)
	}
	who := account{owner.Tenant, owner.Person}
	o, err := r.change(ctx, req, who, nobody, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		answer := in.answer(a)
		answer.Person, answer.Factor = owner.Person, owner.Factor
		answer.Code, answer.RecoveryCode = secret.String{}, secret.String{} // the passkey stands in for the password: nothing else does
		proof, err := r.cfg.Factors.Prove(ctx, tx, answer)
		if err != nil {
			return Outcome{}, audit.Event{}, err
		}
		p := r.progressOf(req, who, a)
		if p.known, err = r.cfg.Sessions.KnownDevice(ctx, &tx.ReadTx, who.person, req.Device); err != nil {
			return Outcome{}, audit.Event{}, err
		}
		p.attempt = nil
		return r.proven(ctx, tx, s, p, proof)
	})
	return o, r.refused(ctx, req, who, err)
}
