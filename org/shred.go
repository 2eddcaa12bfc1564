package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// DeletionUnproved is the kind of the incidents of an organisation of which its row, its log and the key store do not say the same.
const DeletionUnproved = "organisation.deletion_unproved"

// Restore undoes the deletion, until the keys are destroyed. What others have taken since stays theirs (Config.Restored). by is as in
// Suspend. The key store is told first: whatever then goes wrong destroys nothing.
func (r *Room) Restore(ctx context.Context, by tenantdb.Caller, reason string) error {
	if by.Actor().Kind == audit.ActorSystem {
		if _, err := r.cfg.DB.Head(ctx, by.Tenant()); err != nil {
			return fmt.Errorf("org.Restore: %w", err)
		}
		release, err := r.cfg.Ring.HoldDeletion(ctx, by.Tenant())
		if err != nil {
			return fmt.Errorf("org.Restore: %w", err)
		}
		defer release()
		if err := r.takeBack(ctx, by); err != nil {
			return fmt.Errorf("org.Restore: %w", err)
		}
	}
	return r.operate(ctx, by, wasRestored, reason, func(tx *tenantdb.Tx, o *Organisation) (public []audit.Field, _ bool, err error) {
		if !o.ShreddedAt.IsZero() {
			return nil, false, problem.New(problem.Conflict, "The organisation's keys are destroyed: nothing brings it back.")
		}
		changed := !o.DeletedAt.IsZero()
		if changed {
			if o.SuspendedAt.Equal(o.DeletedAt) { // else the operator suspended it before
				o.SuspendedAt = time.Time{}
			}
			o.DeletedAt = time.Time{}
			if r.cfg.Restored != nil {
				public, err = r.cfg.Restored(ctx, tx)
			}
		}
		return public, changed, err
	})
}

// takeBack has the key store say that the deletion, and whatever it knows of, is taken back.
func (r *Room) takeBack(ctx context.Context, by tenantdb.Caller) error {
	f, err := r.fateOf(ctx, by)
	if err != nil || f.DeletedAt.IsZero() || !f.ShreddedAt.IsZero() {
		return err
	}
	d := keyring.Deletion{At: f.DeletedAt, Since: r.instant(), TakenBack: true}
	if f.noted.At.After(d.At) {
		d.At = f.noted.At
	}
	return r.cfg.Ring.NoteDeletion(ctx, by.Tenant(), d)
}

// fate is what three places say of an organisation's deletion. Two are in the database, where one who can write there can make them say
// anything.
type fate struct {
	Organisation
	last  audit.Entry      // the log's
	noted keyring.Deletion // the key store's
	// unread says that what the key store has there is damaged, or of somebody else.
	unread bool
}

func (r *Room) fateOf(ctx context.Context, by tenantdb.Caller) (f fate, err error) {
	f.noted, err = r.cfg.Ring.Deletion(ctx, by.Tenant())
	if errors.Is(err, keyring.ErrDamaged) || errors.Is(err, keyring.ErrSealed) {
		f.unread, err = true, nil
	}
	if err == nil {
		err = r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error { return f.read(ctx, tx, r.month()) })
	}
	return f, err
}

func (f *fate) read(ctx context.Context, tx *tenantdb.ReadTx, month int32) (err error) {
	if f.Organisation, err = load(ctx, tx, month); err == nil {
		f.last, err = lastOfDeletion(ctx, tx)
	}
	return err
}

// undecided is how long the key store may say that an organisation was deleted, and the database not yet: of a commit whose outcome is
// unknown, and of a server that is about to.
const undecided = time.Hour

// verdict is what is to be done about an organisation.
type verdict string

const (
	leave       verdict = ""
	destroy     verdict = "destroy"
	unproved    verdict = "unproved" // nothing, and somebody must look
	noteAnew    verdict = "note"     // what the key store does not know of, from now on
	letGo       verdict = "let go"   // what the key store alone knows of
	deletionFmt         = time.RFC3339
)

// judge says what is to be done, and what is wrong.
func (f *fate) judge(now time.Time) (v verdict, wrong string) {
	at := f.DeletedAt.UTC()
	switch {
	case f.unread:
		return unproved, "What the key store says of its deletion does not open. No key is destroyed."
	case at.IsZero() && (f.last.Type == wasDeleted || f.last.Type == wasShredded):
		return unproved, "The log says that it was deleted, and its row says that it is not. Somebody has written into the database, or put an older row back. No key is destroyed."
	case at.IsZero() && !f.noted.At.IsZero() && !f.noted.TakenBack && now.Sub(f.noted.Since) < undecided:
		return leave, ""
	case at.IsZero() && !f.noted.At.IsZero() && !f.noted.TakenBack:
		return letGo, fmt.Sprintf("The key store says that it was deleted at %s, and the database does not: an older backup was restored, or a server stopped while it deleted. It is not deleted: "+
			"if its owners want that still, they ask again.", f.noted.At.Format(deletionFmt))
	case at.IsZero():
		return leave, ""
	case !f.logged():
		return unproved, fmt.Sprintf("Its row says that it was deleted at %s, and the log does not. Somebody has written into the database. No key is destroyed: restore the organisation.", at.Format(deletionFmt))
	case f.noted.At.After(at) || f.noted.At.Equal(at) && f.noted.TakenBack:
		return unproved, fmt.Sprintf("The database says that it was deleted at %s; the key store knows that this was taken back, or of a later deletion. An older backup of the database was "+
			"restored. No key is destroyed: restore the organisation.", at.Format(deletionFmt))
	case !f.noted.At.Equal(at):
		return noteAnew, fmt.Sprintf("The database says that it was deleted at %s, and the key store does not. It is an older one, or somebody has written into the database. Its keys are destroyed in "+
			"%d days from now and not before: restore the organisation, if that is not meant.", at.Format(deletionFmt), int(Grace.Hours()/24))
	case now.Sub(at) < Grace || now.Sub(f.noted.Since) < Grace:
		return leave, ""
	}
	return destroy, ""
}

// logged reports whether the newest entry about it says what the row does.
func (f *fate) logged() bool {
	typ := wasDeleted
	if !f.ShreddedAt.IsZero() {
		typ = wasShredded
	}
	return f.last.Type == typ && slices.Contains(f.last.Public, f.gone())
}

// Shred destroys the keys of an organisation that was deleted longer than Grace ago, and says whether it did. What was sealed
// under them opens no more, whatever is restored; the log, which holds hashes of it, can be verified as before. The entry comes
// first: whatever a crash then leaves, the next call goes on from there. Where row, log and key store do not say the same nothing is
// destroyed, and an incident is opened; and nothing where this server's clock is not the database's. by is as in Suspend.
func (r *Room) Shred(ctx context.Context, by tenantdb.Caller) (done bool, err error) {
	if by.Actor().Kind != audit.ActorSystem {
		return false, problem.New(problem.Denied, "Only the operator does this with organisations.")
	}
	if by.Tenant() == tenantdb.Platform {
		return false, nil
	}
	f, err := r.fateOf(ctx, by)
	if err == nil {
		if v, _ := f.judge(r.cfg.Now()); v != leave {
			done, err = r.settle(ctx, by)
		}
	}
	if err != nil {
		return false, fmt.Errorf("org.Shred: %w", err)
	}
	return done, nil
}

// settle does what is to be done about an organisation, alone.
func (r *Room) settle(ctx context.Context, by tenantdb.Caller) (done bool, err error) {
	release, err := r.cfg.Ring.HoldDeletion(ctx, by.Tenant())
	if err != nil {
		return false, err
	}
	defer release()
	if err := r.cfg.DB.ClockAgrees(ctx); err != nil { // between two judgements: what one wrong instant found does not count
		return false, err
	}
	f, err := r.fateOf(ctx, by)
	if err != nil {
		return false, err
	}
	v, wrong := f.judge(r.cfg.Now())
	switch v {
	case destroy:
		return r.destroyAll(ctx, by, f)
	case noteAnew:
		err = r.cfg.Ring.NoteDeletion(ctx, by.Tenant(), keyring.Deletion{At: f.DeletedAt, Since: r.instant()})
	case letGo:
		err = r.cfg.Ring.NoteDeletion(ctx, by.Tenant(), keyring.Deletion{At: f.noted.At, Since: r.instant(), TakenBack: true})
	case leave: // somebody was faster
	case unproved:
	}
	if wrong != "" {
		err = errors.Join(err, r.unproved(ctx, by.Tenant(), wrong))
	}
	return false, err
}

// unproved tells the operator, and the organisation if its keys let that be written into its log.
func (r *Room) unproved(ctx context.Context, t tenantdb.TenantID, wrong string) error {
	if r.cfg.Raise == nil {
		return nil
	}
	_, err := r.cfg.Raise(ctx, tenantdb.System(tenantdb.Platform, "deletion"), DeletionUnproved, t.String(), "Of organisation "+t.String()+": "+wrong)
	_, own := r.cfg.Raise(ctx, tenantdb.System(t, "deletion"), DeletionUnproved, "", wrong)
	if problem.Is(own, problem.TenantKey) || errors.Is(own, keyring.ErrDestroyed) {
		own = nil
	}
	return errors.Join(err, own)
}

// destroyAll ends all keys of an organisation.
func (r *Room) destroyAll(ctx context.Context, by tenantdb.Caller, f fate) (done bool, err error) {
	if f.ShreddedAt.IsZero() {
		meanwhile := problem.New(problem.Conflict, "The organisation has changed at this moment.")
		err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
			if err := f.read(ctx, &tx.ReadTx, r.month()); err != nil {
				return audit.Event{}, err
			}
			if v, _ := f.judge(r.cfg.Now()); v != destroy || !f.ShreddedAt.IsZero() {
				return audit.Event{}, meanwhile
			}
			f.ShreddedAt = r.instant()
			f.Version++
			return audit.Event{Type: wasShredded, Target: deletionTarget(f.ID), Alters: true, Public: []audit.Field{f.gone()}}, update(ctx, tx, f.Organisation)
		})
	}
	if err != nil {
		return false, err
	}
	for _, use := range []keyring.Use{keyring.UseWrap, keyring.UseAPIKey, keyring.UsePseudonym, keyring.UseSubjects, keyring.UsePII} {
		left, failed := r.destroy(ctx, by.Tenant(), use)
		done, err = done || left > 0, errors.Join(err, failed)
	}
	err = errors.Join(err, r.cfg.Ring.DestroyOwn(ctx, by.Tenant()))
	return done && err == nil, err
}

// destroy ends all versions of a key, and says whether one was left. It goes over those that ended before, too: a crash may have
// left their bytes. One that is lost is not there, which is all that is wanted; what fails keeps no other.
func (r *Room) destroy(ctx context.Context, t tenantdb.TenantID, use keyring.Use) (left int, failed error) {
	live, last, err := r.cfg.Ring.Versions(t, use)
	if errors.Is(err, keyring.ErrLost) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for v := uint32(1); v <= last; v++ {
		if err := r.cfg.Ring.Destroy(ctx, t, use, v); err != nil && !errors.Is(err, keyring.ErrLost) {
			failed = errors.Join(failed, err)
		}
	}
	return int(live), failed
}
