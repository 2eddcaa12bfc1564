package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// judge says what a look over everything means, and when the next one is due.
//
// A look that finds nothing under an older version is the last only if it began when no server sealed under one any more (settling).
// Nothing is destroyed then. It is looked again when what was carried elsewhere has come home (lingering), and when what was kept for
// backups has been kept for long enough; if one of them finds something, the time begins anew.
func (w *work) judge(ctx context.Context) error {
	settled := w.run.MadeAt.Add(settling)
	w.run.place, w.run.after = "", nil
	if w.run.found == 0 && !w.run.passAt.Before(settled) {
		return w.clean(ctx)
	}
	w.run.CleanAt, w.run.lookedAt, w.run.DueAt = time.Time{}, time.Time{}, settled
	if w.run.Failed > 0 {
		w.run.DueAt = w.instant().Add(again)
	}
	// The row comes first: a worker that was suspended learns there that the run is another's, and what that has had the key store say counts.
	// If this one is killed in between, the next look that finds nothing says it anew all the same.
	if err := w.note(ctx); err != nil {
		return err
	}
	return w.say(ctx, time.Time{})
}

// clean is a look that found nothing, when nothing came any more.
func (w *work) clean(ctx context.Context) error {
	if err := w.newer(); err != nil {
		return err
	}
	first := w.run.CleanAt.IsZero()
	if !first {
		said, read, err := w.said(ctx)
		if err != nil {
			return err
		}
		if first = said.IsZero(); first {
			err = w.unproved(ctx, said, read)
		} else if said.After(w.run.CleanAt) {
			w.run.CleanAt = said
		}
		if err != nil {
			return err
		}
	}
	if first {
		if err := w.note(ctx); err != nil { // or it is another worker's
			return err
		}
		w.run.CleanAt = w.run.passAt
		if err := w.say(ctx, w.run.CleanAt); err != nil {
			return err
		}
	}
	w.run.lookedAt = w.run.passAt
	until, linger := w.KeptUntil(w.run), w.run.CleanAt.Add(lingering)
	switch {
	case !w.run.passAt.Before(until):
		return w.end(ctx)
	case w.run.lookedAt.Before(linger):
		w.run.DueAt = linger
	default:
		w.run.DueAt = until
	}
	if !first {
		return w.note(ctx)
	}
	return w.cfg.DB.Change(ctx, w.by, func(tx *tenantdb.Tx) (audit.Event, error) {
		return w.run.event("wrapped", field("rows", w.run.Rows), field("keys", w.run.Keys), field("kept_until", until.Format(time.DateOnly))),
			save(ctx, tx, w.run, w.worker, w.cfg.Lease)
	})
}

// end destroys the older versions. The entry comes first: whatever a crash leaves, the next worker goes on from there.
func (w *work) end(ctx context.Context) error {
	w.run.endingAt, w.run.DueAt = w.instant(), w.instant()
	err := w.cfg.DB.Change(ctx, w.by, func(tx *tenantdb.Tx) (audit.Event, error) {
		return w.run.event("destroyed", field("wrap_before", w.run.Wrap), field("subjects_before", w.run.Subjects)), save(ctx, tx, w.run, w.worker, w.cfg.Lease)
	})
	if err != nil {
		return err
	}
	w.cfg.at("ending")
	return w.destroy(ctx)
}

// newer makes sure that there are the versions that everything is under: the key store may be one of before.
func (w *work) newer() error {
	for use, made := range w.versions() {
		live, _, err := w.cfg.Ring.Versions(w.by.Tenant(), use)
		if err == nil && live < made {
			err = fmt.Errorf("the key store has version %d of %s, and everything should be under %d: %w", live, use, made, keyring.ErrLost)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *work) versions() map[keyring.Use]uint32 {
	return map[keyring.Use]uint32{keyring.UseWrap: w.run.Wrap, keyring.UseSubjects: w.run.Subjects}
}

func (w *work) destroy(ctx context.Context) error {
	if err := w.newer(); err != nil {
		return err
	}
	if said, read, err := w.said(ctx); err != nil {
		return err
	} else if err := w.cfg.DB.ClockAgrees(ctx); err != nil {
		return err
	} else if said.IsZero() || w.instant().Before(said.Add(w.cfg.Kept)) {
		return w.anew(ctx, said, read)
	}
	for use, made := range w.versions() {
		for v := uint32(1); v < made; v++ {
			// A version that is lost is not there, which is all that is wanted.
			if err := w.cfg.Ring.Destroy(ctx, w.by.Tenant(), use, v); err != nil && !errors.Is(err, keyring.ErrLost) {
				return err
			}
			w.cfg.at("destroyed")
		}
	}
	w.run.FinishedAt = w.instant()
	return nil
}

// said is since when nothing has needed the older versions, by what the key store says; zero if it does not, or what it says does not open.
func (w *work) said(ctx context.Context) (since time.Time, read bool, err error) {
	since, err = w.cfg.Ring.Unneeded(ctx, w.by.Tenant(), w.run.Wrap, w.run.Subjects)
	if errors.Is(err, keyring.ErrDamaged) || errors.Is(err, keyring.ErrSealed) {
		return time.Time{}, false, nil
	}
	return since, true, err
}

// say has the key store say it, before the row does.
func (w *work) say(ctx context.Context, since time.Time) error {
	return w.cfg.Ring.NoteUnneeded(ctx, w.by.Tenant(), keyring.Unneeded{Wrap: w.run.Wrap, Subjects: w.run.Subjects, Since: since})
}

// anew looks at everything again, where the row says that the older versions are to be destroyed and the key store does not.
func (w *work) anew(ctx context.Context, said time.Time, read bool) error {
	if err := w.unproved(ctx, said, read); err != nil {
		return err
	}
	w.run.CleanAt, w.run.lookedAt, w.run.endingAt, w.run.DueAt = time.Time{}, time.Time{}, time.Time{}, w.instant()
	w.run.place, w.run.after = "", nil
	return w.note(ctx)
}

// Unproved is the kind of the incident of a rotation whose row says more than the key store.
const Unproved = "keyring.rotation_unproved"

// unproved tells the operator that nothing was destroyed.
func (w *work) unproved(ctx context.Context, said time.Time, read bool) error {
	store, why := "the key store says nothing of it", "Somebody has written into the database, or one of the two was restored from a backup."
	switch {
	case !read:
		store, why = "what the key store says does not open", "Its file "+w.by.Tenant().String()+"/unneeded is damaged, or another's; or somebody has written into the database, too."
	case !said.IsZero():
		store = "the key store says that it is so since " + said.Format(time.RFC3339)
	}
	_, err := w.cfg.Raise(ctx, tenantdb.System(tenantdb.Platform, "rotation"), Unproved, w.by.Tenant().String(), fmt.Sprintf(
		"The row of rotation %s of organisation %s says that nothing has needed its older keys for as long as they are kept; %s. %s "+
			"No key was destroyed: everything is looked at again, and the time begins anew.", w.run.ID, w.by.Tenant(), store, why))
	return err
}

// abandon ends a run of an organisation whose keys were destroyed.
func (w *work) abandon(ctx context.Context) error {
	w.run.FinishedAt = w.instant()
	return w.cfg.DB.Change(ctx, w.by, func(tx *tenantdb.Tx) (audit.Event, error) {
		return w.run.event("abandoned", field("why", "the organisation's keys are destroyed")), leave(ctx, tx, w.run, w.worker)
	})
}
