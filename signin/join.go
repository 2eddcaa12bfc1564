package signin

import (
	"context"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Joined is what somebody who was invited joins with.
type Joined struct {
	Link     secret.String
	Name     string
	Password secret.String
	Session  Wanted
}

// Invited is what an invitation says to whoever has its link.
type Invited struct {
	Organisation  string
	Name, Address string
}

// Look shows an invitation, and does not spend its link.
func (r *Room) Look(ctx context.Context, l secret.String) (in Invited, err error) {
	t, err := r.cfg.Links.Tenant(ctx, l, link.Join)
	if err != nil {
		return Invited{}, fmt.Errorf("signin.Look: %w", err)
	}
	c := tenantdb.System(t, "sign-in")
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		f, err := r.cfg.Links.Look(ctx, tx, l, link.Join)
		if err != nil {
			return err
		}
		p, err := r.cfg.Org.Invitation(ctx, tx, f.Subject)
		in.Name, in.Address = p.Name, p.Address
		return err
	})
	if err != nil {
		return Invited{}, fmt.Errorf("signin.Look: %w", err)
	}
	o, err := r.cfg.Org.Get(ctx, c)
	if err != nil {
		return Invited{}, fmt.Errorf("signin.Look: %w", err)
	}
	in.Organisation = o.Name
	return in, nil
}

// Join makes the person whom an invitation was for, with a password, and goes on as if the person had signed in with it.
func (r *Room) Join(ctx context.Context, req Request, in Joined) (o Outcome, err error) {
	shown, err := r.Look(ctx, in.Link)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Join: %w", err)
	}
	if err := r.cfg.Passwords.Check(ctx, in.Password, in.Name, shown.Address, shown.Organisation); err != nil {
		return Outcome{}, fmt.Errorf("signin.Join: %w", err)
	}
	t, err := r.cfg.Links.Tenant(ctx, in.Link, link.Join)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Join: %w", err)
	}
	who := account{t, audit.NewSubjectID()}
	if err := errors.Join(r.cfg.Org.Prepare(ctx, t, who.person), r.prepare(ctx, who)); err != nil {
		return Outcome{}, fmt.Errorf("signin.Join: %w", err)
	}
	h, err := r.cfg.Passwords.Hash(ctx, password.KnownDevice, t, who.person, in.Password)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Join: %w", err)
	}
	err = r.cfg.DB.ChangeAll(ctx, caller(t, who.person, req.Meta), func(tx *tenantdb.Tx) ([]audit.Event, error) {
		f, err := r.cfg.Links.Spend(ctx, tx, in.Link, link.Join)
		if err != nil {
			return nil, err
		}
		_, joined, err := r.cfg.Org.Join(ctx, tx, f.Subject, org.NewPerson{ID: who.person, Name: in.Name})
		if err != nil {
			return nil, err
		}
		if err := r.cfg.Passwords.Store(ctx, tx, who.person, h); err != nil {
			return nil, err
		}
		s, err := r.cfg.Org.Standing(ctx, &tx.ReadTx, who.person)
		if err != nil {
			return nil, err
		}
		if !s.Active { // the organisation is suspended or deleted
			return nil, link.Refused()
		}
		if err := r.free(ctx, tx, s, nobody); err != nil {
			return nil, err
		}
		p := progress{req: req, who: who, proofs: []string{"password", "link"}, wanted: in.Session}
		var ev audit.Event
		o, ev, err = r.advance(ctx, tx, s, p)
		return []audit.Event{joined, ev}, err
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Join: %w", err)
	}
	return r.withAccess(ctx, o)
}
