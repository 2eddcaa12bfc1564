package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// Progress is how far a rewrapping is. It says it again after a crash: what is wrapped anew needs nothing more, so each beginning
// goes on where the one before ended.
type Progress struct {
	Keys    int // found
	Wrapped int // anew, by this call
	Failed  int // that could not be, and stay as they are
}

// Failures are what something could not be done with, when it was done with all others.
type Failures []error

// Error says all of them, a line each.
func (f Failures) Error() string { return errors.Join(f...).Error() }

// Unwrap are the causes.
func (f Failures) Unwrap() []error { return f }

// Rewrap wraps the organisations' keys in the key store, and the mark of the store itself, under the newest version of the wrapper's
// key: nothing that they seal moves, and whoever reads meanwhile reads one or the other. It may be ended at any point and begun
// again, also by several processes at once. When it has returned without an error, no older version, and no wrapper before this one,
// is needed by the store. What does not open, or cannot be replaced, stays as it is and stops nothing else: the error is Failures then. progress,
// which may be nil, is told after each organisation.
func (r *Ring) Rewrap(ctx context.Context, progress func(Progress)) (p Progress, err error) {
	newest, err := r.wrapper.Describe(ctx)
	if err != nil {
		return p, fmt.Errorf("keyring.Rewrap: %w", err)
	}
	w := &walk{newest: newest}
	// The mark comes first: all processes follow it (Platform.Follow), so that what they make from then on needs no older version.
	if err := r.rewrapFile(ctx, filepath.Join(r.store.dir, markerFile), storeBinding, w); err != nil {
		return w.p, fmt.Errorf("keyring.Rewrap: %w", err)
	}
	if w.p.Wrapped > 0 {
		time.Sleep(2 * followLife) // until they have seen it
	}
	tenants, _, err := r.store.tenants()
	if err != nil {
		return w.p, fmt.Errorf("keyring.Rewrap: %w", err)
	}
	for _, t := range tenants {
		if err := r.rewrapTenant(ctx, t, w); err != nil {
			return w.p, fmt.Errorf("keyring.Rewrap: %w", errors.Join(err, errors.Join(w.failed...)))
		}
		if progress != nil {
			progress(w.p)
		}
	}
	if len(w.failed) > 0 {
		return w.p, fmt.Errorf("keyring.Rewrap: %w", w.failed)
	}
	return w.p, nil
}

// walk is one way through the key store.
type walk struct {
	newest Description
	p      Progress
	failed Failures
}

// goOn notes what could not be done with one key, or says that it is of no use to go on: nobody answers.
func (w *walk) goOn(ctx context.Context, t tenantdb.TenantID, item string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) { // destroyed meanwhile
		return ctx.Err()
	}
	err = fmt.Errorf("%s of %s: %w", item, t, err)
	if ctx.Err() != nil || errors.Is(err, ErrSilent) {
		return err
	}
	w.failed = append(w.failed, err)
	w.p.Failed++
	return nil
}

func (r *Ring) rewrapTenant(ctx context.Context, t tenantdb.TenantID, w *walk) error {
	// Before that lock, as Shred takes them.
	for _, note := range notes {
		if err := w.goOn(ctx, t, note, r.rewrapNote(ctx, t, note, w)); err != nil {
			return err
		}
	}
	release, err := r.store.lockOwn(ctx, t) // or what was read before a key moved to its organisation's own key would be put back after
	if err != nil {
		return w.goOn(ctx, t, ownLock, err)
	}
	defer release()
	for _, use := range tenantUses {
		n := keyName{tenant: t, use: use}
		versions, err := r.store.kept(n)
		if err := w.goOn(ctx, t, string(use), err); err != nil {
			return err
		}
		for _, v := range versions {
			if err := w.goOn(ctx, t, n.item(v), r.rewrapVersion(ctx, n, v, w)); err != nil {
				return err
			}
		}
	}
	return w.goOn(ctx, t, ownFile, r.rewrapOwn(ctx, t, w))
}

func (r *Ring) rewrapVersion(ctx context.Context, n keyName, v uint32, w *walk) error {
	if ended, err := r.store.finishOff(ctx, n, v); err != nil || ended { // where a crash came between
		return err
	}
	if err := r.rewrapFile(ctx, r.store.file(n, v), Binding{n.tenant, n.item(v)}, w); err != nil {
		return err
	}
	_, err := r.store.finishOff(ctx, n, v)
	return err
}

// rewrapOwn is for an organisation with an own key: what its key management wrapped stays as it is.
func (r *Ring) rewrapOwn(ctx context.Context, t tenantdb.TenantID, w *walk) error {
	file := r.store.ownPath(t)
	return r.rewrapFile(ctx, file, ownBinding(t), w)
}

func (r *Ring) rewrapFile(ctx context.Context, file string, b Binding, to *walk) error {
	var w Wrapped
	if err := twice(func() (err error) { w, err = r.store.readFile(file); return err }); err != nil { // it may be being replaced at this moment
		return err
	}
	to.p.Keys++
	if w.KeyID == to.newest.KeyID && w.KeyVersion == to.newest.Version {
		return nil
	}
	key, err := r.wrapper.Unwrap(ctx, w, b)
	if err != nil {
		return err
	}
	defer key.Clear()
	anew, err := r.wrapper.Wrap(ctx, key, b)
	if err != nil {
		return err
	}
	if err := proves(ctx, r.wrapper, anew, b, key); err != nil {
		return err
	}
	if err := r.store.replace(ctx, file, anew); err != nil {
		return err
	}
	to.p.Wrapped++
	return nil
}

// Under says what wraps the mark of a key store, and since when its file is so: as long as no time is known at which a version was made,
// that is the nearest to it. A copy of the store that does not keep times makes it look younger.
func Under(dir string) (Wrapping, time.Time, error) {
	file := filepath.Join(dir, markerFile)
	info, err := os.Stat(file)
	if err != nil {
		return Wrapping{}, time.Time{}, fmt.Errorf("keyring.Under: %w", err)
	}
	w, err := (&store{dir}).readFile(file)
	if err != nil {
		return Wrapping{}, time.Time{}, fmt.Errorf("keyring.Under: %w", err)
	}
	return Wrapping{w.KeyID, w.KeyVersion}, info.ModTime(), nil
}

// Needed counts the keys of the store by what opens them: key id and version of wrappers. What is not in it can be taken away, unless there is
// an error: Failures are the files that cannot be read.
func (r *Ring) Needed(ctx context.Context) (map[Wrapping]int, error) {
	tenants, _, err := r.store.tenants()
	if err != nil {
		return nil, fmt.Errorf("keyring.Needed: %w", err)
	}
	needed, failed := map[Wrapping]int{}, Failures(nil)
	count := func(file string) {
		w, err := r.store.readFile(file)
		switch {
		case err == nil:
			needed[Wrapping{w.KeyID, w.KeyVersion}]++
		case !errors.Is(err, fs.ErrNotExist):
			failed = append(failed, err)
		}
	}
	count(filepath.Join(r.store.dir, markerFile))
	for _, t := range tenants {
		count(r.store.ownPath(t))
		for _, note := range notes {
			count(r.store.notePath(t, note))
		}
		for _, use := range tenantUses {
			n := keyName{tenant: t, use: use}
			versions, err := r.store.kept(n)
			if err != nil {
				failed = append(failed, err)
			}
			for _, v := range versions {
				count(r.store.file(n, v))
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("keyring.Needed: %w", err)
		}
	}
	if len(failed) > 0 {
		return needed, fmt.Errorf("keyring.Needed: %w", failed)
	}
	return needed, nil
}

// Strays are the names among those of organisations that are none's. Nothing looks into them: an operating system leaves some, and a
// directory that was renamed is one.
func (r *Ring) Strays() ([]string, error) {
	_, strays, err := r.store.tenants()
	if err != nil {
		return nil, fmt.Errorf("keyring.Strays: %w", err)
	}
	return strays, nil
}

// Wrapping is what opens a wrapped key.
type Wrapping struct {
	KeyID   string
	Version uint32
}

// tenants are those that have keys, the decoy's among them, in the order of their ids; and the paths beside them that are nobody's.
func (s *store) tenants() (all []tenantdb.TenantID, strays []string, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "tenants"))
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		t, err := tenantdb.ParseTenantID(e.Name())
		if err != nil {
			strays = append(strays, filepath.Join(s.dir, "tenants", e.Name()))
			continue
		}
		all = append(all, t)
	}
	return all, strays, nil
}

// kept are the versions of a tenant's key that have a file and no tombstone. The decoy's tenant has one use alone.
func (s *store) kept(n keyName) ([]uint32, error) {
	entries, err := os.ReadDir(s.keyDir(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []uint32
	for _, e := range entries {
		v, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || fileName(uint32(v)) != e.Name() || v == 0 {
			continue
		}
		all = append(all, uint32(v))
	}
	slices.Sort(all)
	return all, nil
}

// replace puts a key wrapped anew in the place of its file, which must be there: durable first, then by its name. The bytes before are
// overwritten, since what opens them may be taken away for a reason.
func (s *store) replace(ctx context.Context, file string, w Wrapped) error {
	before, err := hold(ctx, file)
	if err != nil {
		return err
	}
	temp, err := s.temp(file, encodeKeyFile(w))
	if err != nil {
		return errors.Join(err, before.Close())
	}
	err = os.Rename(temp, file)
	if errors.Is(err, fs.ErrNotExist) { // not as where the key is gone, which callers are content with
		err = fmt.Errorf("%s is gone before it was put in its place", temp)
	}
	if err := errors.Join(err, syncDir(filepath.Dir(file))); err != nil {
		return errors.Join(err, before.Close(), s.erase(filepath.Base(temp)))
	}
	return errors.Join(zero(before), before.Close())
}

// finishOff ends a version that has a tombstone and a file: it was destroyed while it was wrapped anew, and its name was given back.
// A tombstone that comes after this look finds the name itself.
func (s *store) finishOff(ctx context.Context, n keyName, v uint32) (ended bool, err error) {
	if _, err := os.Lstat(s.file(n, v) + tombstone); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, s.destroy(ctx, n, v)
}
