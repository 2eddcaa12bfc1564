package signin

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// person is the person that asks, and with which proof.
func (r *Room) person(c tenantdb.Caller, fresh bool) (tenantdb.Person, error) {
	p, ok := c.Person()
	if !ok {
		return p, errNoAccount()
	}
	if fresh {
		return p, p.Fresh(r.cfg.Now())
	}
	return p, nil
}

// SetPassword gives a person another password, or the first one, and ends all other sessions. It wants the old one, if there is
// one, and a fresh proof.
func (r *Room) SetPassword(ctx context.Context, c tenantdb.Caller, req Request, old, anew secret.String) error {
	p, err := r.person(c, true)
	if err != nil {
		return err
	}
	who := account{c.Tenant(), p.ID}
	if err := r.own(ctx, who, p.Session, old, true); err != nil {
		return fmt.Errorf("signin.SetPassword: %w", err)
	}
	h, err := r.fresh(ctx, who, anew)
	if err != nil {
		return fmt.Errorf("signin.SetPassword: %w", err)
	}
	if err := r.cfg.Ring.Prepare(ctx, who.tenant, who.person); err != nil {
		return fmt.Errorf("signin.SetPassword: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := r.lasts(ctx, tx, p); err != nil {
			return audit.Event{}, err
		}
		if err := r.cfg.Passwords.Store(ctx, tx, p.ID, h); err != nil {
			return audit.Event{}, err
		}
		if err := r.cfg.Links.End(ctx, tx, link.Recover, p.ID); err != nil {
			return audit.Event{}, err
		}
		ended, err := r.endOthers(ctx, tx, p, "password_changed")
		if err != nil {
			return audit.Event{}, err
		}
		ev := r.event("person.password_changed", progress{req: req, who: who}, audit.Field{Name: "sessions_ended", Value: fmt.Sprint(ended)})
		return ev, r.tell(ctx, tx, mail.PasswordChanged, p.ID, nil)
	})
	if err != nil {
		return fmt.Errorf("signin.SetPassword: %w", err)
	}
	return nil
}

// lasts refuses whose session was ended while the request was under way.
func (r *Room) lasts(ctx context.Context, tx *tenantdb.Tx, p tenantdb.Person) error {
	id, err := session.ParseID(p.Session)
	if err != nil {
		return fmt.Errorf("signin: a session without an id: %w", err)
	}
	lasts, err := r.cfg.Sessions.Lasts(ctx, &tx.ReadTx, id)
	if err == nil && !lasts {
		err = problem.New(problem.Denied, "You have been signed out.")
	}
	return err
}

// endOthers ends all of a person's sessions but the one that asks, and what else somebody who knew the password may have.
func (r *Room) endOthers(ctx context.Context, tx *tenantdb.Tx, p tenantdb.Person, why string) (int, error) {
	id, err := session.ParseID(p.Session)
	if err != nil {
		return 0, fmt.Errorf("signin: a session without an id: %w", err)
	}
	n, err := r.cfg.Sessions.EndOthers(ctx, tx, p.ID, id, why)
	if err == nil {
		err = endAttempts(ctx, tx, p.ID, r.instant())
	}
	if err == nil {
		_, err = r.cfg.Sessions.ForgetDevices(ctx, tx, p.ID)
	}
	return n, err
}

// own compares a password with that of somebody who has a session. Guesses of a session are bounded by themselves. Without a
// password there is nothing to compare, if that may be.
func (r *Room) own(ctx context.Context, who account, session string, plain secret.String, mayLack bool) error {
	var stored bool
	err := r.cfg.DB.Read(ctx, tenantdb.System(who.tenant, "account"), func(tx *tenantdb.ReadTx) error {
		s, err := r.cfg.Passwords.Load(ctx, tx, who.person)
		stored = !s.IsZero()
		return err
	})
	switch {
	case err != nil:
		return err
	case !stored && mayLack:
		return nil
	case !stored:
		return problem.New(problem.Denied, "You have no password: you sign in by your provider.")
	}
	g, err := r.guesses.own(session, r.cfg.Now())
	if err != nil {
		return err
	}
	_, ok, _, err := r.proved(ctx, who, true, plain)
	g.ended(err == nil && !ok, r.cfg.Now())
	if err == nil && !ok {
		err = problem.New(problem.Denied, "This is not your password.")
	}
	return err
}

const addressLife = 24 * time.Hour

// AskAddress mails a link to a new address; with it, the address becomes the person's.
func (r *Room) AskAddress(ctx context.Context, c tenantdb.Caller, req Request, address string) error {
	p, err := r.person(c, true)
	if err != nil {
		return err
	}
	normal, _, err := r.cfg.Org.Address(ctx, address)
	if err == nil {
		err = r.asked.mail(p.ID, r.cfg.Now())
	}
	if err != nil {
		return fmt.Errorf("signin.AskAddress: %w", err)
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return fmt.Errorf("signin.AskAddress: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := r.keepsAddress(ctx, tx, p); err != nil {
			return audit.Event{}, err
		}
		if err := r.cfg.Org.CheckMail(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		sealed, err := r.cfg.Ring.SealFields(ctx, tx.Tenant(), p.ID, []byte(normal), []byte(linkedAddress))
		if err != nil {
			return audit.Event{}, err
		}
		made, err := r.cfg.Links.Make(ctx, tx, link.Address, p.ID, addressLife, sealed)
		if err != nil {
			return audit.Event{}, err
		}
		ev := r.event("person.address_asked", progress{req: req, who: account{tx.Tenant(), p.ID}})
		ev.Private = append(ev.Private, audit.Field{Name: "new_address", Value: normal})
		return ev, r.tell(ctx, tx, mail.AddressChange, p.ID, map[string]string{"link": made.String(), "expires": r.until(addressLife)})
	})
	if err != nil {
		return fmt.Errorf("signin.AskAddress: %w", err)
	}
	return nil
}

// keepsAddress refuses another address to who signs in by a provider alone: with one of another domain they would not need to.
func (r *Room) keepsAddress(ctx context.Context, tx *tenantdb.Tx, p tenantdb.Person) error {
	if err := r.lasts(ctx, tx, p); err != nil {
		return err
	}
	s, err := r.cfg.Org.Standing(ctx, &tx.ReadTx, p.ID)
	if err == nil {
		err = r.free(ctx, tx, s, nobody)
	}
	return err
}

// linkedAddress binds a sealed address to its place.
const linkedAddress = "link.address"

// oldAddress binds the sealed address that a job carries to the person who had it.
const oldAddress = "mail.old_address"

// OldAddress opens what a job carries that tells an address that it is its person's no longer.
func (r *Room) OldAddress(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID, sealed string) (string, error) {
	b, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil {
		return "", fmt.Errorf("signin.OldAddress: %w", err)
	}
	plain, err := r.cfg.Ring.OpenFields(ctx, t, p, b, []byte(oldAddress))
	if err != nil {
		return "", fmt.Errorf("signin.OldAddress: %w", err)
	}
	return string(plain), nil
}

// LinkedAddress opens what a link to a new address carries, for the mail that brings it.
func (r *Room) LinkedAddress(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID, id link.ID) (address string, err error) {
	var sealed []byte
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "notice"), func(tx *tenantdb.ReadTx) error {
		sealed, err = r.cfg.Links.Data(ctx, tx, id)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("signin.LinkedAddress: %w", err)
	}
	plain, err := r.cfg.Ring.OpenFields(ctx, t, p, sealed, []byte(linkedAddress))
	if err != nil {
		return "", fmt.Errorf("signin.LinkedAddress: %w", err)
	}
	return string(plain), nil
}

// SetAddress makes an address the person's who was mailed there. The old address is told.
func (r *Room) SetAddress(ctx context.Context, c tenantdb.Caller, l secret.String) error {
	p, err := r.person(c, false)
	if err != nil {
		return err
	}
	if err := r.cfg.Org.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return fmt.Errorf("signin.SetAddress: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		f, err := r.cfg.Links.Spend(ctx, tx, l, link.Address)
		if err != nil {
			return audit.Event{}, err
		}
		if f.Subject != p.ID {
			return audit.Event{}, link.Refused()
		}
		if err := r.keepsAddress(ctx, tx, p); err != nil {
			return audit.Event{}, err
		}
		plain, err := r.cfg.Ring.OpenFields(ctx, tx.Tenant(), p.ID, f.Data, []byte(linkedAddress))
		if err != nil {
			return audit.Event{}, err
		}
		before, ev, err := r.cfg.Org.Readdress(ctx, tx, p.ID, string(plain))
		if err == nil { // a link that was mailed to the old address is whose that is now
			err = r.cfg.Links.End(ctx, tx, link.Recover, p.ID)
		}
		if err != nil {
			return audit.Event{}, err
		}
		old, err := r.cfg.Ring.SealFields(ctx, tx.Tenant(), p.ID, []byte(before), []byte(oldAddress))
		if err != nil {
			return audit.Event{}, err
		}
		return ev, r.tell(ctx, tx, mail.AddressChanged, p.ID, map[string]string{"old": base64.RawStdEncoding.EncodeToString(old)})
	})
	if err != nil {
		return fmt.Errorf("signin.SetAddress: %w", err)
	}
	return nil
}
