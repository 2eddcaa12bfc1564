package signin

import (
	"context"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Proving is a fresh proof under way, within a session.
type Proving struct {
	Attempt  secret.String
	Factors  []mfa.Factor
	Codes    int
	Password bool // there is no factor, so the password is asked for
	// Connection is the provider that proved the person when the session began: it can prove them again. Zero is none.
	Connection [16]byte
}

// BeginProof begins a fresh proof of who has a session.
func (r *Room) BeginProof(ctx context.Context, c tenantdb.Caller) (v Proving, err error) {
	p, err := r.person(c, false)
	if err != nil {
		return v, err
	}
	if err := r.prepare(ctx, account{c.Tenant(), p.ID}); err != nil {
		return v, fmt.Errorf("signin.BeginProof: %w", err)
	}
	err = r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		o, err := r.cfg.Factors.Offered(ctx, &tx.ReadTx, p.ID)
		if err != nil {
			return err
		}
		v.Factors, v.Codes, v.Password = o.Factors, o.RecoveryCodes, len(o.Factors) == 0
		a, raw := r.newAttempt(toProve, p.ID)
		id, err := session.ParseID(p.Session)
		if err != nil {
			return fmt.Errorf("signin.BeginProof: a session without an id: %w", err)
		}
		if v.Connection, err = sessionVia(ctx, &tx.ReadTx, id); err != nil {
			return err
		}
		if v.Password {
			s, err := r.cfg.Passwords.Load(ctx, &tx.ReadTx, p.ID)
			if err != nil {
				return err
			}
			v.Password = !s.IsZero()
		}
		a.session, v.Attempt = id, raw
		return r.begin(ctx, tx, a)
	})
	if err != nil {
		return Proving{}, fmt.Errorf("signin.BeginProof: %w", err)
	}
	return v, nil
}

// AskProof puts the question of a factor, within a session.
func (r *Room) AskProof(ctx context.Context, c tenantdb.Caller, raw secret.String, f mfa.ID) (mfa.Question, error) {
	if _, err := r.mine(ctx, c, raw); err != nil {
		return mfa.Question{}, err
	}
	return r.ask(ctx, raw, f, toProve)
}

// mine refuses an attempt that is not of the session that asks.
func (r *Room) mine(ctx context.Context, c tenantdb.Caller, raw secret.String) (p tenantdb.Person, err error) {
	if p, err = r.person(c, false); err != nil {
		return p, err
	}
	t, err := r.tenantOf(ctx, raw)
	if err != nil {
		return p, err
	}
	if t != c.Tenant() {
		return p, over()
	}
	err = r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		a, err := r.resume(ctx, tx, raw, toProve)
		if err == nil && (a.person != p.ID || session.ID(a.session).String() != p.Session) {
			err = over()
		}
		return err
	})
	return p, err
}

// Prove judges the answer of somebody who has a session, which is then proved anew. The secret is a browser's new cookie value;
// zero for a program.
func (r *Room) Prove(ctx context.Context, c tenantdb.Caller, req Request, in Proof) (value secret.String, err error) {
	p, err := r.mine(ctx, c, in.Attempt)
	if err != nil {
		return value, err
	}
	who := account{c.Tenant(), p.ID}
	if _, err := r.try(ctx, who.tenant, in, toProve); err != nil {
		return value, fmt.Errorf("signin.Prove: %w", err)
	}
	if err := r.prepare(ctx, who); err != nil {
		return value, fmt.Errorf("signin.Prove: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		a, err := r.again(ctx, tx, in.Attempt, toProve)
		if err != nil {
			return audit.Event{}, err
		}
		proof, err := r.cfg.Factors.Prove(ctx, tx, in.answer(a))
		if err != nil {
			return audit.Event{}, err
		}
		if proof.EnrolOnly && !(proof.Reset && provided(p.Methods)) {
			return audit.Event{}, problem.New(problem.Denied, "The rules of your organisation want another factor than you have: sign in again, and set one up.")
		}
		var ev audit.Event
		value, ev, err = r.renewed(ctx, tx, req, who, a, proof.Method)
		return ev, err
	})
	return value, r.refused(ctx, req, who, err)
}

// provided reports whether a session has a second factor without one of the person's own: a provider's word, or what a reset left and
// was proved in it before. Whoever has such a session is asked for no factor at a sign-in, so what a reset left must count here,
// or they could set up none for ever.
func provided(methods []string) bool {
	return slices.Contains(methods, "mfa") || slices.Contains(methods, mfa.Email)
}

// ProvePassword is Prove of somebody who has no factor.
func (r *Room) ProvePassword(ctx context.Context, c tenantdb.Caller, req Request, raw, plain secret.String) (value secret.String, err error) {
	p, err := r.mine(ctx, c, raw)
	if err != nil {
		return value, err
	}
	who := account{c.Tenant(), p.ID}
	if err := r.own(ctx, who, p.Session, plain, false); err != nil {
		return value, fmt.Errorf("signin.ProvePassword: %w", err)
	}
	if err := r.prepare(ctx, who); err != nil {
		return value, fmt.Errorf("signin.ProvePassword: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		a, err := r.again(ctx, tx, raw, toProve)
		if err != nil {
			return audit.Event{}, err
		}
		o, err := r.cfg.Factors.Offered(ctx, &tx.ReadTx, p.ID)
		if err == nil && len(o.Factors) > 0 {
			err = problem.New(problem.Denied, "Prove one of your factors: a password alone is not enough for who has one.")
		}
		if err != nil {
			return audit.Event{}, err
		}
		var ev audit.Event
		value, ev, err = r.renewed(ctx, tx, req, who, a, "password")
		return ev, err
	})
	if err != nil {
		return value, fmt.Errorf("signin.ProvePassword: %w", err)
	}
	return value, nil
}

func (r *Room) renewed(ctx context.Context, tx *tenantdb.Tx, req Request, who account, a attempt, method string) (secret.String, audit.Event, error) {
	if err := r.end(ctx, tx, a); err != nil {
		return secret.String{}, audit.Event{}, err
	}
	value, err := r.cfg.Sessions.Proved(ctx, tx, a.session, []string{method}, r.instant())
	if err != nil {
		return secret.String{}, audit.Event{}, err
	}
	return value, r.event("session.proved", progress{req: req, who: who}, audit.Field{Name: "method", Value: method},
		audit.Field{Name: "session", Value: session.ID(a.session).String()}), nil
}

// Reproved says that a provider proved somebody anew, for a session that waits for it. The secret is a browser's new cookie value.
func (r *Room) Reproved(ctx context.Context, req Request, a Arrival, id session.ID) (value secret.String, err error) {
	who := account{a.Tenant, a.Person}
	if err := r.prepare(ctx, who); err != nil {
		return value, fmt.Errorf("signin.Reproved: %w", err)
	}
	err = r.cfg.DB.Change(ctx, caller(who.tenant, who.person, req.Meta), func(tx *tenantdb.Tx) (audit.Event, error) {
		s, err := r.cfg.Org.Standing(ctx, &tx.ReadTx, who.person)
		if err != nil {
			return audit.Event{}, err
		}
		if whose, err := sessionPerson(ctx, &tx.ReadTx, id); err != nil {
			return audit.Event{}, err
		} else if whose != who.person {
			return audit.Event{}, problem.New(problem.Denied, "The provider proved somebody else than you.")
		}
		if err := r.free(ctx, tx, s, a.Connection); err != nil {
			return audit.Event{}, err
		}
		if err := r.needsOwn(ctx, tx, s, a); err != nil {
			return audit.Event{}, err
		}
		methods := []string{a.Method}
		if a.Strong {
			methods = append(methods, "mfa")
		}
		if value, err = r.cfg.Sessions.Proved(ctx, tx, id, methods, a.ProvedAt); err != nil {
			return audit.Event{}, err
		}
		return r.event("session.proved", progress{req: req, who: who}, audit.Field{Name: "method", Value: a.Method}, audit.Field{Name: "session", Value: id.String()}), nil
	})
	if err != nil {
		return value, fmt.Errorf("signin.Reproved: %w", err)
	}
	return value, nil
}

// needsOwn refuses a provider's word where it did not ask for a second factor and one of the person's own is wanted.
func (r *Room) needsOwn(ctx context.Context, tx *tenantdb.Tx, s org.Standing, a Arrival) error {
	if a.ProvedAt.IsZero() {
		return problem.New(problem.Denied, "Your provider does not say when it proved you: prove one of your factors.")
	}
	if a.Strong && s.Factors == nil {
		return nil
	}
	o, err := r.cfg.Factors.Offered(ctx, &tx.ReadTx, s.Person)
	if err == nil && (len(o.Factors) > 0 || s.NeedsMFA) {
		err = problem.New(problem.Denied, "Your provider says nothing of a second factor: prove one of yours.")
	}
	return err
}
