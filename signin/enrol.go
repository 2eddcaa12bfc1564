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

// enrolling is somebody who must set up a first factor before anything else, and may do nothing else.
func enrolling(req Request, t tenantdb.TenantID, a attempt) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: t, Actor: audit.Actor{Kind: audit.ActorPerson, ID: a.person.String()}, How: "sign-in", RequestID: audit.RequestID(req.Meta.ID),
		CallerRequestID: req.Meta.CallerRequestID, Address: req.Meta.Address,
		Person: &tenantdb.Person{ID: a.person, ProvedAt: a.created, Methods: append(slices.Clone(a.proofs), mfa.MethodEnrol)},
	})
}

// Begin begins to set up a first factor.
func (r *Room) Begin(ctx context.Context, req Request, raw secret.String, w mfa.Wanted) (b mfa.Begun, err error) {
	c, err := r.enroller(ctx, req, raw)
	if err != nil {
		return b, fmt.Errorf("signin.Begin: %w", err)
	}
	if b, err = r.cfg.Factors.Begin(ctx, c, w); err != nil {
		return b, fmt.Errorf("signin.Begin: %w", err)
	}
	return b, nil
}

func (r *Room) enroller(ctx context.Context, req Request, raw secret.String) (c tenantdb.Caller, err error) {
	t, err := r.tenantOf(ctx, raw)
	if err != nil {
		return c, err
	}
	err = r.cfg.DB.Note(ctx, tenantdb.System(t, "sign-in"), func(tx *tenantdb.Tx) error {
		a, err := r.resume(ctx, tx, raw, toEnrol)
		if err != nil {
			return err
		}
		s, err := r.cfg.Org.Standing(ctx, &tx.ReadTx, a.person)
		if err == nil && (!s.Active || !s.Rules.Allows(req.Meta.Address)) {
			err = over()
		}
		c = enrolling(req, t, a)
		return err
	})
	return c, err
}

// Confirmed is the answer to an enrolment.
type Confirmed struct {
	Attempt    secret.String
	Factor     mfa.ID
	Code       secret.String
	Credential json.RawMessage
}

// Confirm adds a first factor, makes recovery codes beside it, and starts the session. If the answer is lost, the sign-in begins
// again, with the factor.
func (r *Room) Confirm(ctx context.Context, req Request, in Confirmed) (Outcome, error) {
	c, err := r.enroller(ctx, req, in.Attempt)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Confirm: %w", err)
	}
	f, err := r.cfg.Factors.Confirm(ctx, c, in.Factor, mfa.Confirmation{Code: in.Code, Credential: in.Credential})
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Confirm: %w", err)
	}
	codes, err := r.firstCodes(ctx, c, f)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Confirm: %w", err)
	}
	p, _ := c.Person()
	who := account{c.Tenant(), p.ID}
	o, err := r.changeAny(ctx, req, who, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		a, err := r.resume(ctx, tx, in.Attempt, toEnrol)
		if err == nil {
			err = r.free(ctx, tx, s, a.via)
		}
		if err != nil {
			return Outcome{}, audit.Event{}, err
		}
		on := r.progressOf(req, who, a)
		on.proofs = append(slices.Clone(on.proofs), f.Kind)
		return r.start(ctx, tx, s, on)
	})
	o.NewCodes = codes
	return o, err
}

// firstCodes makes recovery codes, where the rules allow any.
func (r *Room) firstCodes(ctx context.Context, c tenantdb.Caller, f mfa.Factor) ([]secret.String, error) {
	p, _ := c.Person()
	now := r.instant()
	proved := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: c.Tenant(), Actor: c.Actor(), How: "sign-in", RequestID: c.RequestID(), Address: c.Address(),
		Person: &tenantdb.Person{ID: p.ID, ProvedAt: now, Methods: append(slices.Clone(p.Methods), f.Kind)},
	})
	codes, err := r.cfg.Factors.NewRecoveryCodes(ctx, proved)
	if problem.Is(err, problem.Denied) {
		return nil, nil // the rules allow none
	}
	return codes, err
}
