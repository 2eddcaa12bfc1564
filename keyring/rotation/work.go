package rotation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Damaged is the kind of the incident that a value is which does not open.
const Damaged = "keyring.damaged"

// subjectsPlace is where the keys of data subjects are gone over, after all columns.
const subjectsPlace = "subjects"

// work is one worker on one run.
type work struct {
	*Room
	by     tenantdb.Caller
	worker ID
	run    Run
	live   uint32 // the newest version
	newest []byte // what everything begins with that is under it
	tell   func(Run)
}

// Work goes on with the rotation of the caller's organisation that is due, as far as it can be gone on with now: one look over all
// values at most. did is false if there is none, or another worker has it. Nothing is done where this server's clock is not the
// database's. tell, which may be nil, is told after each step.
func (r *Room) Work(ctx context.Context, by tenantdb.Caller, tell func(Run)) (n Run, did bool, err error) {
	if err := operator(by); err != nil {
		return n, false, err
	}
	if tell == nil {
		tell = func(Run) {}
	}
	if err := r.cfg.DB.ClockAgrees(ctx); err != nil {
		return n, false, wrapped("Work", err)
	}
	w := &work{Room: r, by: by, worker: id.New[rotationKind](), tell: tell}
	err = r.cfg.DB.Note(ctx, by, func(tx *tenantdb.Tx) error {
		w.run, did, err = claim(ctx, tx, w.worker, r.cfg.Lease, r.instant())
		return err
	})
	if err != nil || !did {
		return w.run, false, wrapped("Work", err)
	}
	err = w.do(ctx)
	if left := w.leave(context.WithoutCancel(ctx)); err == nil {
		err = left
	}
	if errors.Is(err, errTaken) {
		return w.run, false, nil
	}
	return w.run, true, wrapped("Work", err)
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("rotation.%s: %w", what, err)
}

func (w *work) do(ctx context.Context) error {
	live, _, err := w.cfg.Ring.Versions(w.by.Tenant(), keyring.UseWrap)
	switch {
	case err != nil:
		return err
	case live == 0:
		return w.abandon(ctx)
	case !w.run.endingAt.IsZero():
		return w.destroy(ctx)
	case w.run.MadeAt.IsZero():
		err = w.make(ctx)
	default:
		w.cfg.Ring.ForgetTenant(w.by.Tenant()) // the newest may be another process's, of a moment ago
	}
	if err == nil {
		err = w.look(ctx)
	}
	w.cfg.at("looked")
	if err == nil {
		err = w.judge(ctx)
	}
	if errors.Is(err, errShredded) {
		return w.abandon(ctx)
	}
	return err
}

// errShredded says that nothing opens because the organisation's keys were destroyed on the way.
var errShredded = errors.New("the organisation's keys are destroyed")

// make makes the new versions. The row is there before: whatever a crash leaves, the next worker goes on to the same versions.
func (w *work) make(ctx context.Context) error {
	t := w.by.Tenant()
	if err := w.cfg.Ring.RenewTo(ctx, t, keyring.UseWrap, w.run.Wrap); err != nil {
		return err
	}
	w.cfg.at("made")
	if err := w.cfg.Ring.RenewTo(ctx, t, keyring.UseSubjects, w.run.Subjects); err != nil {
		return err
	}
	w.run.MadeAt = w.instant()
	return w.note(ctx)
}

// look goes over everything once, on from where the worker before came to.
func (w *work) look(ctx context.Context) error {
	live, _, err := w.cfg.Ring.Versions(w.by.Tenant(), keyring.UseWrap)
	if err != nil {
		return err
	}
	w.live, w.newest = live, keyring.SealedPrefix(live)
	places := make([]string, 0, len(w.cfg.Columns)+1)
	for _, col := range w.cfg.Columns {
		places = append(places, col.Name())
	}
	places = append(places, subjectsPlace)
	at := slices.Index(places, w.run.place)
	if at < 0 {
		at = 0
		w.run.place, w.run.after, w.run.found, w.run.Failed, w.run.passAt = places[0], nil, 0, 0, w.instant()
		if err := w.note(ctx); err != nil {
			return err
		}
	}
	for ; at < len(places); at++ {
		if places[at] != w.run.place {
			w.run.place, w.run.after = places[at], nil
		}
		step := w.subjects
		if at < len(w.cfg.Columns) {
			step = func(ctx context.Context) (bool, error) { return w.chunk(ctx, w.cfg.Columns[at]) }
		}
		for more := true; more; {
			if more, err = step(ctx); err != nil {
				return fmt.Errorf("%s: %w", places[at], err)
			}
			w.tell(w.run)
		}
	}
	if w.by.Tenant() != tenantdb.Platform || w.cfg.Beside == nil {
		return nil
	}
	return w.beside(ctx)
}

// besidePlace is where the settings of organisations' own key managements are, which the installation's own key wraps.
const besidePlace = "own_kms.settings"

// beside goes over what the installation's own key wraps in rows of others.
func (w *work) beside(ctx context.Context) error {
	all, err := w.cfg.Beside(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", besidePlace, err)
	}
	var failed []string
	for _, v := range all {
		if !w.concerns(v.Under) {
			continue
		}
		w.run.found++
		if v.Failed != "" {
			failed = append(failed, v.Failed)
		}
	}
	w.run.Failed += int64(len(failed))
	return w.report(ctx, besidePlace, failed)
}

// concerns reports whether what is not under the newest version keeps this run's older ones: it is under one of them, or nobody knows
// under which it is. What is under a version that this run made, or a later one, is a later run's matter.
func (w *work) concerns(under uint32) bool { return under < w.run.Wrap || under >= w.live }

// chunk wraps the next values of a column anew. They are read and wrapped before the head is locked, and put back where they still are
// what was read.
func (w *work) chunk(ctx context.Context, col keyring.SealedColumn) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, context.Cause(ctx)
	}
	var all []value
	err = w.cfg.DB.Read(ctx, w.by, func(tx *tenantdb.ReadTx) error {
		all, err = readChunk(ctx, tx, col, w.newest, w.run.after, w.cfg.Chunk)
		return err
	})
	if err != nil || len(all) == 0 {
		return false, err
	}
	w.cfg.at("read")
	var was, is []value
	var failed []string
	var found int64
	for _, v := range all {
		under, _ := keyring.SealedUnder(v.sealed)
		ours := w.concerns(under)
		if ours {
			found++
		}
		sealed, anew, err := w.cfg.Ring.RewrapSealed(ctx, w.by.Tenant(), col.Item(v.key), v.sealed)
		switch {
		case keyring.Unreadable(err):
			if ours {
				failed = append(failed, fmt.Sprintf("%.80q", v.key))
			}
		case err != nil:
			return false, err
		case anew:
			was, is = append(was, v), append(is, value{v.key, sealed})
		}
	}
	w.cfg.at("wrapped")
	w.run.after = all[len(all)-1].key
	if err := w.report(ctx, col.Name(), failed); err != nil {
		return false, err
	}
	began := time.Now()
	w.run.found += found // also what is not wrapped anew, because this server does not know the newest version yet
	w.run.Failed += int64(len(failed))
	err = w.moved(ctx, len(was), len(failed), func(tx *tenantdb.Tx) (int64, error) { return swap(ctx, tx, col, was, is) })
	w.rest(ctx, time.Since(began))
	return len(col.Key) > 0 && len(all) == w.cfg.Chunk, err
}

// subjects wraps the keys of the next data subjects anew.
func (w *work) subjects(ctx context.Context) (more bool, err error) {
	after := ""
	if len(w.run.after) == 1 {
		after = w.run.after[0]
	}
	step, err := w.cfg.Ring.RewrapSubjects(ctx, w.by.Tenant(), after, w.cfg.Chunk)
	if err != nil {
		return false, err
	}
	w.cfg.at("subjects")
	var failed []string
	if ours := step.Before(w.run.Subjects); ours {
		w.run.found += int64(step.Wrapped + len(step.Failed))
		for _, s := range step.Failed {
			failed = append(failed, s.String())
		}
	}
	if err := w.report(ctx, subjectsPlace, failed); err != nil {
		return false, err
	}
	w.run.after = []string{step.Last}
	w.run.Keys += int64(step.Wrapped)
	w.run.Failed += int64(len(failed))
	return step.More, w.moved(ctx, step.Wrapped, len(failed), func(*tenantdb.Tx) (int64, error) { return 0, nil })
}

// moved commits a step: what was put back, how far the run is, and an entry if there was something to wrap.
func (w *work) moved(ctx context.Context, found, failed int, put func(*tenantdb.Tx) (int64, error)) error {
	if found == 0 {
		return w.note(ctx)
	}
	run := w.run
	err := w.cfg.DB.Change(ctx, w.by, func(tx *tenantdb.Tx) (audit.Event, error) {
		w.run = run
		n, err := put(tx)
		if err != nil {
			return audit.Event{}, err
		}
		w.run.Rows += n
		if w.run.place == subjectsPlace {
			n = int64(found)
		}
		w.cfg.at("put")
		more := []audit.Field{field("place", w.run.place), field("wrapped", n)}
		if failed > 0 {
			more = append(more, field("failed", failed))
		}
		return w.run.event("step", more...), save(ctx, tx, w.run, w.worker, w.cfg.Lease)
	})
	w.cfg.at("committed")
	return err
}

// report opens incidents about values that do not open, the installation's and the organisation's own. They stay as they are, and so do
// the older versions.
func (w *work) report(ctx context.Context, place string, failed []string) error {
	if len(failed) == 0 {
		return nil
	}
	t := w.by.Tenant()
	if live, _, err := w.cfg.Ring.Versions(t, keyring.UseWrap); err != nil || live == 0 {
		return cmp.Or(err, errShredded)
	}
	w.cfg.Log.ErrorContext(ctx, "what is sealed does not open, and was left as it is", "tenant", t, "place", place, "how many", len(failed), "first", failed[0])
	const says = "%d values of %s%s do not open: they are damaged, or their key is. They were left as they are when the keys were rotated, and the older keys are kept for them. " +
		"Restore them from a backup, or remove them."
	of, first := " of organisation "+t.String(), ", the first that of "+failed[0]+","
	if t == tenantdb.Platform {
		of += first
	}
	_, err := w.cfg.Raise(ctx, tenantdb.System(tenantdb.Platform, "rotation"), Damaged, t.String()+":"+place, fmt.Sprintf(says, len(failed), place, of))
	if t != tenantdb.Platform {
		_, own := w.cfg.Raise(ctx, w.by, Damaged, place, fmt.Sprintf(says, len(failed), place, first))
		err = errors.Join(err, own)
	}
	return err
}

// rest leaves the log's head to others for as long as a step has held it.
func (w *work) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(min(d, time.Second))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// note keeps how far the run is.
func (w *work) note(ctx context.Context) error {
	return w.cfg.DB.Note(ctx, w.by, func(tx *tenantdb.Tx) error { return save(ctx, tx, w.run, w.worker, w.cfg.Lease) })
}

// leave lets others go on.
func (w *work) leave(ctx context.Context) error {
	return w.cfg.DB.Note(ctx, w.by, func(tx *tenantdb.Tx) error { return leave(ctx, tx, w.run, w.worker) })
}
