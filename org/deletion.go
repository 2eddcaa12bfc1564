package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Grace is how long an organisation that was deleted can be restored.
const Grace = 30 * 24 * time.Hour

// deletionLife is how long a deletion that one owner asked for waits for another.
const deletionLife = 7 * 24 * time.Hour

// ownersCount is how long somebody counts as an owner after they were one, and not yet after they became one: else whoever took one
// owner's session would send the others away first, or make an owner who agrees.
const ownersCount = 7 * 24 * time.Hour

// mostConfirmers bounds how many owners an entry names.
const mostConfirmers = 100

// The entries about the deletion of an organisation. The newest says how it stands.
const (
	deletionAsked     = "organisation.deletion_asked"
	deletionWithdrawn = "organisation.deletion_withdrawn"
	deletionLapsed    = "organisation.deletion_lapsed"
	wasDeleted        = "organisation.deleted"
	wasRestored       = "organisation.restored"
	wasShredded       = "organisation.shredded"
)

type deletionKind struct{}

// DeletionID names a deletion that waits for another owner.
type DeletionID = id.ID[deletionKind]

// ParseDeletionID reads the canonical form.
func ParseDeletionID(s string) (DeletionID, error) { return id.Parse[deletionKind](s) }

// Deletion is the deletion of an organisation: done, or asked for by one owner while it waits for another.
type Deletion struct {
	ID        DeletionID // zero if nobody else had to be asked
	AskedBy   PersonID
	AskedAt   time.Time
	LapsesAt  time.Time
	DeletedAt time.Time // zero while it waits

	confirmers []PersonID // of whom one must agree
}

func deletionTarget(t tenantdb.TenantID) audit.Target {
	return audit.Target{Kind: tenantdb.Deletion, ID: t.String()}
}

// event is an entry about a deletion that was asked for.
func (d *Deletion) event(typ string, t tenantdb.TenantID) audit.Event {
	return audit.Event{Type: typ, Target: deletionTarget(t), Public: []audit.Field{field("deletion", d.ID.String()), field("asked_by", d.AskedBy.String())}}
}

// asked is the deletion that the newest entry asks for; false if it asks for none.
func asked(e audit.Entry) (d Deletion, ok bool) {
	if e.Type != deletionAsked {
		return d, false
	}
	said := map[string]string{}
	for _, f := range e.Public {
		said[f.Name] = f.Value
	}
	var errs [4]error
	d.ID, errs[0] = ParseDeletionID(said["deletion"])
	errs[1] = d.AskedBy.UnmarshalText([]byte(said["asked_by"]))
	d.AskedAt, errs[2] = time.Parse(time.RFC3339Nano, said["asked_at"])
	d.LapsesAt, errs[3] = time.Parse(time.RFC3339Nano, said["lapses_at"])
	for _, name := range strings.Fields(said["may_confirm"]) {
		var p PersonID
		if p.UnmarshalText([]byte(name)) == nil {
			d.confirmers = append(d.confirmers, p)
		}
	}
	return d, errors.Join(errs[:]...) == nil
}

// waitingDeletion is the deletion that waits; false if none does.
func (r *Room) waitingDeletion(ctx context.Context, tx *tenantdb.ReadTx) (Deletion, bool, error) {
	e, err := lastOfDeletion(ctx, tx)
	if err != nil {
		return Deletion{}, false, err
	}
	d, ok := asked(e)
	return d, ok && r.cfg.Now().Before(d.LapsesAt), nil
}

// GetDeletion is the deletion of the caller's organisation that waits for another owner.
func (r *Room) GetDeletion(ctx context.Context, c tenantdb.Caller) (d Deletion, err error) {
	if err := need(c, "organisation:read"); err != nil {
		return Deletion{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		var waits bool
		if d, waits, err = r.waitingDeletion(ctx, tx); err == nil && !waits {
			err = noDeletion()
		}
		return err
	})
	if err != nil {
		return Deletion{}, fmt.Errorf("org.GetDeletion: %w", err)
	}
	return d, nil
}

func noDeletion() error {
	return problem.New(problem.Missing, "There is no such deletion that waits: it was withdrawn, or has lapsed.")
}

// checkEnd refuses what cannot be whoever asks.
func checkEnd(c tenantdb.Caller, reason string) error {
	switch {
	case c.Tenant() == tenantdb.Platform:
		return problem.New(problem.Invalid, "The installation's own organisation cannot be deleted.")
	case len(reason) > 1000:
		return problem.New(problem.Invalid, "The reason is longer than 1000 bytes.")
	}
	return need(c, "organisation:write")
}

// mayEnd refuses who is no owner in person, and what is deleted already or is another organisation than they mean.
func (r *Room) mayEnd(ctx context.Context, tx *tenantdb.ReadTx, a authority, confirm string) error {
	if err := a.ownerInPerson(r.cfg.Now()); err != nil {
		return err
	}
	o, err := load(ctx, tx, r.month())
	switch {
	case err != nil:
		return err
	case !o.DeletedAt.IsZero():
		return problem.New(problem.Conflict, "The organisation is deleted already.")
	case confirm != o.Name:
		return problem.New(problem.Invalid, "`confirm` is not the organisation's name.")
	}
	return nil
}

// Delete ends the caller's organisation where its asker is the only owner, and was for some days; otherwise it asks the other
// owners, of whom one confirms it. Every owner is told of either. confirm is its name, so that nobody deletes another one than they
// mean.
func (r *Room) Delete(ctx context.Context, c tenantdb.Caller, confirm, reason string) (d Deletion, err error) {
	if err := checkEnd(c, reason); err != nil {
		return d, err
	}
	var others []PersonID
	check := func(tx *tenantdb.ReadTx, a authority) error {
		if err := r.mayEnd(ctx, tx, a, confirm); err != nil {
			return err
		}
		others, err = r.besides(ctx, tx, a)
		return err
	}
	if err = r.looks(ctx, c, check); err == nil && len(others) > 0 {
		d, err = r.askToDelete(ctx, c, reason, check, &others)
	} else if err == nil {
		d, err = r.end(ctx, c, reason, Deletion{}, func(tx *tenantdb.ReadTx, a authority) error {
			err := check(tx, a)
			if err == nil && len(others) > 0 {
				err = problem.New(problem.Conflict, "Somebody else has become an owner at this moment. Ask again.")
			}
			return err
		})
	}
	if err != nil {
		return Deletion{}, fmt.Errorf("org.Delete: %w", err)
	}
	return d, nil
}

// besides are the owners beside who asks, of whom one must agree: those who are it for some days or, where there is none, the others. It
// refuses who asks again, and where of those who were it some days ago the asker alone is left.
func (r *Room) besides(ctx context.Context, tx *tenantdb.ReadTx, a authority) ([]PersonID, error) {
	if a.system {
		return nil, nil
	}
	d, waits, err := r.waitingDeletion(ctx, tx)
	if err != nil {
		return nil, err
	}
	if waits {
		return nil, problem.New(problem.Conflict, "A deletion waits already, until %s: another owner confirms it, or any owner withdraws it.", d.LapsesAt.Format(time.RFC3339))
	}
	me, _ := a.caller.Person()
	others := func(all []PersonID, err error) ([]PersonID, error) {
		return slices.DeleteFunc(all, func(p PersonID) bool { return p == me.ID }), err
	}
	now := r.cfg.Now()
	old, err := others(ownersSince(ctx, tx, now.Add(-ownersCount)))
	if err != nil || len(old) > 0 {
		return old, err
	}
	if from, err := r.othersCount(ctx, tx); err != nil {
		return nil, err
	} else if !from.IsZero() {
		return nil, problem.New(problem.Conflict, "There was another owner a few days ago, without whom the organisation can be deleted from %s.", from.UTC().Format(time.RFC3339))
	}
	return others(owners(ctx, tx))
}

// othersCount is until when somebody counts who was an owner lately and is one no more, or cannot act; zero if nobody does.
func (r *Room) othersCount(ctx context.Context, tx *tenantdb.ReadTx) (time.Time, error) {
	at, err := ownedUntil(ctx, tx)
	if until := at.Add(ownersCount); err == nil && r.cfg.Now().Before(until) {
		return until, nil
	}
	return time.Time{}, err
}

// Alone reports whether a person is the organisation's only owner, for what two owners do otherwise: nobody becomes that by sending the
// others away, but after some days.
func (r *Room) Alone(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (bool, error) {
	all, err := owners(ctx, tx)
	if err != nil || len(all) != 1 || all[0] != p {
		return false, err
	}
	until, err := r.othersCount(ctx, tx)
	return err == nil && until.IsZero(), err
}

// askToDelete asks the other owners, whom the check finds.
func (r *Room) askToDelete(ctx context.Context, c tenantdb.Caller, reason string, check func(*tenantdb.ReadTx, authority) error, others *[]PersonID) (d Deletion, err error) {
	err = r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if err := check(&tx.ReadTx, a); err != nil {
			return audit.Event{}, err
		}
		if len(*others) == 0 {
			return audit.Event{}, problem.New(problem.Conflict, "The other owners have left at this moment. Ask again.")
		}
		me, _ := a.caller.Person()
		now := r.instant()
		d = Deletion{ID: id.At[deletionKind](now), AskedBy: me.ID, AskedAt: now, LapsesAt: now.Add(deletionLife)}
		e := d.event(deletionAsked, tx.Tenant())
		names := make([]string, min(len(*others), mostConfirmers))
		for i := range names {
			names[i] = (*others)[i].String()
		}
		e.Public = append(e.Public, field("asked_at", d.AskedAt.Format(time.RFC3339Nano)), field("lapses_at", d.LapsesAt.Format(time.RFC3339Nano)), field("may_confirm", strings.Join(names, " ")))
		if reason != "" {
			e.Private = []audit.Field{field("reason", reason)}
		}
		return e, r.tellOwners(ctx, tx, mail.DeletionAsked, map[string]string{"by": a.by(), "at": d.AskedAt.Format(time.RFC3339), "lapses": d.LapsesAt.Format(time.RFC3339)})
	})
	return d, err
}

// ConfirmDeletion ends the caller's organisation, as another owner has asked for: by an owner in person of those who
// were asked. confirm is its name.
func (r *Room) ConfirmDeletion(ctx context.Context, c tenantdb.Caller, which DeletionID, confirm, reason string) (d Deletion, err error) {
	if err := checkEnd(c, reason); err != nil {
		return d, err
	}
	check := func(tx *tenantdb.ReadTx, a authority) error {
		if err := a.ownerInPerson(r.cfg.Now()); err != nil {
			return err
		}
		var waits bool
		if d, waits, err = r.waitingDeletion(ctx, tx); err != nil {
			return err
		}
		if !waits || d.ID != which {
			return noDeletion()
		}
		if err := r.mayEnd(ctx, tx, a, confirm); err != nil {
			return err
		}
		return mayConfirm(ctx, tx, a, d)
	}
	if err = r.looks(ctx, c, check); err == nil {
		d, err = r.end(ctx, c, reason, d, check)
	}
	if err != nil {
		return Deletion{}, fmt.Errorf("org.ConfirmDeletion: %w", err)
	}
	return d, nil
}

// mayConfirm refuses all but another owner than the asker, who is one still. Who became one since may have been made one by the asker.
func mayConfirm(ctx context.Context, tx *tenantdb.ReadTx, a authority, d Deletion) error {
	me, isPerson := a.caller.Person()
	if !isPerson || me.ID == d.AskedBy || !slices.Contains(d.confirmers, me.ID) {
		return problem.New(problem.Denied, "Only another owner confirms a deletion, who was one when it was asked for, and for some days before if there is such a one.")
	}
	all, err := owners(ctx, tx)
	if err == nil && !slices.Contains(all, d.AskedBy) {
		err = problem.New(problem.Conflict, "Whoever asked for the deletion is no owner any more: withdraw it, and ask anew.")
	}
	return err
}

// WithdrawDeletion ends a deletion that waits; every owner can, and every owner is told.
func (r *Room) WithdrawDeletion(ctx context.Context, c tenantdb.Caller, which DeletionID) (d Deletion, err error) {
	err = r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if !a.owns() {
			return audit.Event{}, problem.New(problem.Denied, "Only an owner withdraws this.")
		}
		var waits bool
		if d, waits, err = r.waitingDeletion(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		if !waits || d.ID != which {
			return audit.Event{}, noDeletion()
		}
		return d.event(deletionWithdrawn, tx.Tenant()), r.tellOwners(ctx, tx, mail.DeletionEnded, map[string]string{"by": a.by(), "at": r.instant().Format(time.RFC3339)})
	})
	if err != nil {
		return Deletion{}, fmt.Errorf("org.WithdrawDeletion: %w", err)
	}
	return d, nil
}

// LapseDeletion says of a deletion that waited too long that it does no more, and tells every owner. by is Avouch itself.
func (r *Room) LapseDeletion(ctx context.Context, by tenantdb.Caller) (lapsed bool, err error) {
	if by.Actor().Kind != audit.ActorSystem {
		return false, problem.New(problem.Denied, "This is done by Avouch itself.")
	}
	over := func(tx *tenantdb.ReadTx) (Deletion, error) {
		e, err := lastOfDeletion(ctx, tx)
		d, ok := asked(e)
		lapsed = ok && !r.cfg.Now().Before(d.LapsesAt)
		return d, err
	}
	err = r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error { _, err := over(tx); return err })
	if err == nil && lapsed {
		err = r.change(ctx, by, "organisation:write", func(tx *tenantdb.Tx, _ authority) (audit.Event, error) {
			d, err := over(&tx.ReadTx)
			if err != nil || !lapsed {
				return audit.Event{}, err
			}
			return d.event(deletionLapsed, tx.Tenant()), r.tellOwners(ctx, tx, mail.DeletionEnded, map[string]string{"at": d.LapsesAt.Format(time.RFC3339)})
		})
	}
	if err != nil {
		return false, fmt.Errorf("org.LapseDeletion: %w", err)
	}
	return lapsed, nil
}

// looks runs a check of whether the caller may do something, before anything is made for it.
func (r *Room) looks(ctx context.Context, c tenantdb.Caller, check func(*tenantdb.ReadTx, authority) error) error {
	return r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		a, err := r.authority(ctx, tx)
		if err != nil {
			return err
		}
		return check(tx, a)
	})
}

// end ends an organisation: its people, keys and agents are refused from the moment that this returns. Every owner is told, and for as long
// as Grace the operator can restore it. The key store is told first: what it says of a deletion that came to nothing destroys nothing,
// and a deletion that it does not know of might be anybody's who can write into the database.
func (r *Room) end(ctx context.Context, c tenantdb.Caller, reason string, d Deletion, check func(*tenantdb.ReadTx, authority) error) (Deletion, error) {
	release, err := r.cfg.Ring.HoldDeletion(ctx, c.Tenant())
	if err != nil {
		return d, err
	}
	defer release()
	if err := r.looks(ctx, c, check); err != nil { // another may have come before
		return d, err
	}
	if err := r.cfg.DB.ClockAgrees(ctx); err != nil { // the keys are destroyed so long after this
		return d, err
	}
	d.DeletedAt = r.instant()
	noted := keyring.Deletion{At: d.DeletedAt, Since: d.DeletedAt}
	if err := r.cfg.Ring.NoteDeletion(ctx, c.Tenant(), noted); err != nil {
		return d, err
	}
	err = r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if err := check(&tx.ReadTx, a); err != nil {
			return audit.Event{}, err
		}
		return r.ended(ctx, tx, a, d, reason)
	})
	if problem.Uncertain(err) { // it may be deleted: if it is not, Shred finds the note and takes it back
		return d, err
	}
	if err != nil {
		noted.TakenBack = true
		return d, errors.Join(err, r.cfg.Ring.NoteDeletion(context.WithoutCancel(ctx), c.Tenant(), noted))
	}
	return d, nil
}

func (r *Room) ended(ctx context.Context, tx *tenantdb.Tx, a authority, d Deletion, reason string) (audit.Event, error) {
	o, err := load(ctx, &tx.ReadTx, r.month())
	if err != nil {
		return audit.Event{}, err
	}
	if o.DeletedAt = d.DeletedAt; o.SuspendedAt.IsZero() {
		o.SuspendedAt = o.DeletedAt
	}
	o.Version++
	e := audit.Event{Type: wasDeleted, Target: deletionTarget(o.ID), Alters: true, Public: []audit.Field{o.gone()}}
	about := map[string]string{"by": a.by(), "at": d.DeletedAt.Format(time.RFC3339), "gone": o.gone().Value}
	if !d.ID.IsZero() {
		e.Public = append(e.Public, d.event("", o.ID).Public...)
		about["asked"] = "person:" + d.AskedBy.String()
	}
	if reason != "" {
		e.Private = []audit.Field{field("reason", reason)}
	}
	if err := r.tellOwners(ctx, tx, mail.OrganisationDeleted, about); err != nil {
		return audit.Event{}, err
	}
	return e, update(ctx, tx, o)
}

// gone names a deletion in the log: by when its keys are destroyed.
func (o *Organisation) gone() audit.Field {
	return field("keys_destroyed_after", o.DeletedAt.Add(Grace).UTC().Format(time.RFC3339))
}
