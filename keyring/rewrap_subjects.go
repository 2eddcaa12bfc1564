package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// RenewTo makes this version of a tenant's key, unless it is there: the next one after the last. Unlike Renew it can be said again
// after a crash and makes no other.
func (r *Ring) RenewTo(ctx context.Context, t tenantdb.TenantID, use Use, version uint32) error {
	n := keyName{tenant: t, use: use}
	live, last, err := r.store.versions(n)
	if err != nil {
		return fmt.Errorf("keyring.RenewTo: %w", err)
	}
	if version <= last {
		r.ForgetTenant(t) // another process may have made it a moment ago
		return nil
	}
	if version != last+1 || live == 0 { // a tenant whose key was destroyed begins anew with Renew alone
		return fmt.Errorf("keyring.RenewTo: version %d of %s/%s, which has %d of which %d is in use: %w", version, t, use, last, live, ErrLost)
	}
	if err := r.makeVersion(ctx, n, version); err != nil {
		return fmt.Errorf("keyring.RenewTo: %w", err)
	}
	r.ForgetTenant(t)
	return nil
}

// SubjectsStep is what one step of RewrapSubjects did.
type SubjectsStep struct {
	Last    string            // the last that it looked at: the next step goes on after it
	More    bool              // whether there are others after it
	Wrapped int               // keys, anew
	Failed  []audit.SubjectID // whose keys do not open, and stay as they are
	oldest  uint32            // version that one of all these was under; 0 if one does not say
}

// Before reports whether something was under a version before this one, or does not say under which.
func (s *SubjectsStep) Before(version uint32) bool {
	return s.Wrapped+len(s.Failed) > 0 && s.oldest < version
}

// RewrapSubjects wraps the keys of a tenant's data subjects under the newest version of its own: of at most so many subjects, those
// that come after one, "" being before all. What they sealed is neither opened nor moved. It may be ended at any point and begun again, on any server; who
// is erased meanwhile stays erased.
func (r *Ring) RewrapSubjects(ctx context.Context, t tenantdb.TenantID, after string, most int) (step SubjectsStep, err error) {
	newest, err := r.key(ctx, heldName{t, UseSubjects, 0})
	if err != nil {
		return step, fmt.Errorf("keyring.RewrapSubjects: %w", err)
	}
	all, err := r.store.subjects(t)
	if err != nil {
		return step, fmt.Errorf("keyring.RewrapSubjects: %w", err)
	}
	step.Last, step.oldest = after, newest.version
	for _, s := range all {
		if s.String() <= after {
			continue
		}
		if most--; most < 0 {
			step.More = true
			return step, nil
		}
		if err := ctx.Err(); err != nil {
			return step, fmt.Errorf("keyring.RewrapSubjects: %w", err)
		}
		err := r.rewrapSubject(ctx, keyName{t, usePerson, s}, newest, &step)
		step.Last = s.String()
		switch {
		case isDamage(err):
			step.Failed = append(step.Failed, s)
		case err != nil:
			return step, fmt.Errorf("keyring.RewrapSubjects: subject %s: %w", s, err)
		}
	}
	return step, nil
}

// rewrapSubject goes on over what does not open, and says so in the end.
func (r *Ring) rewrapSubject(ctx context.Context, n keyName, newest held, step *SubjectsStep) (failed error) {
	versions, err := r.store.kept(n)
	if err != nil {
		step.oldest = 0
		return err
	}
	for _, v := range versions {
		if ended, err := r.store.finishOff(ctx, n, v); err != nil || ended { // where a crash came between
			failed = errors.Join(failed, err)
			continue
		}
		under, again, err := r.rewrapSubjectKey(ctx, n, v, newest)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDestroyed) { // erased meanwhile
			err = nil
		} else if again || err != nil {
			step.oldest = min(step.oldest, under)
		}
		if again && err == nil {
			step.Wrapped++
			_, err = r.store.finishOff(ctx, n, v)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (r *Ring) rewrapSubjectKey(ctx context.Context, n keyName, v uint32, newest held) (under uint32, again bool, err error) {
	w, err := r.store.read(n, v)
	if err != nil {
		return 0, false, err
	}
	if w.KeyID != string(UseSubjects) {
		return 0, false, fmt.Errorf("wrapped under %q: %w", w.KeyID, ErrDamaged)
	}
	if w.KeyVersion >= newest.version {
		return w.KeyVersion, false, nil
	}
	again, err = r.rewrapFrom(ctx, n, v, w, newest)
	return w.KeyVersion, again, err
}

// rewrapFrom wraps anew what was read under an older version.
func (r *Ring) rewrapFrom(ctx context.Context, n keyName, v uint32, w Wrapped, newest held) (again bool, err error) {
	old, err := r.key(ctx, heldName{n.tenant, UseSubjects, w.KeyVersion})
	if err != nil {
		return false, err
	}
	b := Binding{n.tenant, n.item(v)}
	key, err := unwrapUnder(old.aead, w, b)
	if err != nil {
		return false, err
	}
	defer key.Clear()
	anew := wrapUnder(newest.aead, string(UseSubjects), newest.version, key, b)
	proof, err := unwrapUnder(newest.aead, anew, b) // it takes the place of the only other copy
	if err != nil {
		return false, err
	}
	defer proof.Clear()
	if !proof.Equal(key) {
		return false, fmt.Errorf("what was wrapped opens as another key, and nothing was replaced: %w", ErrSealed)
	}
	return true, r.store.replace(ctx, r.store.file(n, v), anew)
}

// subjects are a tenant's data subjects that have a directory, in the order of their names.
func (s *store) subjects(t tenantdb.TenantID) ([]audit.SubjectID, error) {
	entries, err := os.ReadDir(filepath.Join(s.tenantDir(t), string(usePerson)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []audit.SubjectID
	for _, e := range entries { // sorted, and their form sorts as they do
		var id audit.SubjectID
		if id.UnmarshalText([]byte(e.Name())) == nil {
			all = append(all, id)
		}
	}
	return all, nil
}
