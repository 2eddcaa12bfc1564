package signin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

const recoverLife = 30 * time.Minute

// Recover mails a link to whoever has the address, in each organisation that has an account of it. It answers alike whether there
// is one, as often as people need it and no more.
func (r *Room) Recover(ctx context.Context, req Request, address string) error {
	_, pseudonym, err := r.cfg.Org.Address(ctx, address)
	if err != nil {
		return fmt.Errorf("signin.Recover: %w", err)
	}
	// A step for each account that the address may have: each of them is a change of its own.
	return r.inSteps(ctx, mostAccounts*r.cfg.Step, func() error {
		g, err := r.asked.stranger(req.Meta.Address, pseudonym, r.cfg.Now())
		if err != nil {
			return err
		}
		g.ended(true, r.cfg.Now())
		found, err := lookupPeople(ctx, r.cfg.DB, pseudonym, mostAccounts)
		if err != nil {
			return fmt.Errorf("signin.Recover: %w", err)
		}
		if len(found) == 0 {
			return r.refuse(ctx, req, account{tenant: tenantdb.Platform}, "recover", nil)
		}
		var failed []error
		for _, who := range found { // an organisation whose keys are away is in no other's way
			if err := r.mailRecovery(ctx, req, who); err != nil {
				failed = append(failed, err)
			}
		}
		if len(failed) == len(found) {
			return fmt.Errorf("signin.Recover: %w", errors.Join(failed...))
		}
		return nil
	})
}

func (r *Room) mailRecovery(ctx context.Context, req Request, who account) error {
	if err := r.cfg.Ring.Prepare(ctx, who.tenant, who.person); err != nil {
		return err
	}
	p := progress{req: req, who: who}
	return r.cfg.DB.Change(ctx, caller(who.tenant, tenantdb.PersonID{}, req.Meta), func(tx *tenantdb.Tx) (audit.Event, error) {
		s, err := r.cfg.Org.Standing(ctx, &tx.ReadTx, who.person)
		if err != nil || !s.Active {
			ev := r.event("signin.refused", p, audit.Field{Name: "reason", Value: "recover"})
			ev.Outcome = audit.Denied
			return ev, err
		}
		made, err := r.cfg.Links.Make(ctx, tx, link.Recover, who.person, recoverLife, nil)
		if err != nil {
			return audit.Event{}, err
		}
		return r.event("signin.recovery_asked", p), r.tell(ctx, tx, mail.Recover, who.person, map[string]string{"link": made.String(), "expires": r.until(recoverLife)})
	})
}

// until is when something ends that begins now, as mails' jobs have it.
func (r *Room) until(life time.Duration) string { return r.instant().Add(life).Format(time.RFC3339) }

// tell asks for a mail to a person.
func (r *Room) tell(ctx context.Context, tx *tenantdb.Tx, t mail.Template, to tenantdb.PersonID, ids map[string]string) error {
	all := map[string]string{"person": to.String(), "at": r.instant().Format(time.RFC3339)}
	for k, v := range ids {
		all[k] = v
	}
	return tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: t, IDs: all})
}

// Renewed is a new password in exchange for a mailed link.
type Renewed struct {
	Link     secret.String
	Password secret.String
	Session  Wanted
}

// Renew gives a person a new password, ends what was signed in, and goes on as if the person had signed in with it: whoever
// reads the mailbox must still prove a factor, and before that nothing has changed.
func (r *Room) Renew(ctx context.Context, req Request, in Renewed) (Outcome, error) {
	t, err := r.cfg.Links.Tenant(ctx, in.Link, link.Recover)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Renew: %w", err)
	}
	who, err := r.linked(ctx, t, in.Link, link.Recover)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Renew: %w", err)
	}
	h, err := r.fresh(ctx, who, in.Password)
	if err != nil {
		return Outcome{}, fmt.Errorf("signin.Renew: %w", err)
	}
	return r.change(ctx, req, who, nobody, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		if _, err := r.cfg.Links.Spend(ctx, tx, in.Link, link.Recover); err != nil {
			return Outcome{}, audit.Event{}, err
		}
		return r.advance(ctx, tx, s, progress{req: req, who: who, proofs: []string{"password", "link"}, wanted: in.Session, password: h.Sealed()})
	})
}

// linked is whom a link is about.
func (r *Room) linked(ctx context.Context, t tenantdb.TenantID, l secret.String, p link.Purpose) (who account, err error) {
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "sign-in"), func(tx *tenantdb.ReadTx) error {
		f, err := r.cfg.Links.Look(ctx, tx, l, p)
		who = account{t, f.Subject}
		return err
	})
	return who, err
}

// fresh is the hash of a new password, if it is one that may be.
func (r *Room) fresh(ctx context.Context, who account, plain secret.String) (h password.Hash, err error) {
	var profile org.Profile
	err = r.cfg.DB.Read(ctx, tenantdb.System(who.tenant, "sign-in"), func(tx *tenantdb.ReadTx) error {
		profile, err = r.cfg.Org.Profile(ctx, tx, who.person)
		return err
	})
	if err != nil {
		return h, err
	}
	o, err := r.cfg.Org.Get(ctx, tenantdb.System(who.tenant, "sign-in"))
	if err == nil {
		err = r.cfg.Passwords.Check(ctx, plain, profile.Name, profile.Address, o.Name)
	}
	if err != nil {
		return h, err
	}
	return r.cfg.Passwords.Hash(ctx, password.KnownDevice, who.tenant, who.person, plain)
}

// forget ends a person's sessions, devices and attempts: whoever knew the old password is out.
func (r *Room) forget(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, why string) error {
	if _, err := r.cfg.Sessions.End(ctx, tx, p, why); err != nil {
		return err
	}
	return endAttempts(ctx, tx, p, r.instant())
}

// errNoAccount is for operations of who is signed in as something else than a person.
func errNoAccount() error {
	return problem.New(problem.Denied, "This is for people: sign in, and do it with your session.")
}
