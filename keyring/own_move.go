package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestKMS has a key management wrap and unwrap a key that is nobody's, bound to an organisation, and makes sure that the binding
// counts: an engine that ignores it would open one organisation's key in the place of another's.
func TestKMS(ctx context.Context, t tenantdb.TenantID, w KeyWrapper) (Description, error) {
	d, err := w.Describe(ctx)
	if err != nil {
		return d, fmt.Errorf("keyring.TestKMS: %w", err)
	}
	key, bound := newKey(), Binding{t, "test/" + audit.NewEntryID().String()}
	defer key.Clear()
	wrapped, err := w.Wrap(ctx, key, bound)
	if err == nil {
		err = wrapped.check()
	}
	if err != nil {
		return d, fmt.Errorf("keyring.TestKMS: %w", err)
	}
	again, err := w.Unwrap(ctx, wrapped, bound)
	if err != nil {
		return d, fmt.Errorf("keyring.TestKMS: %w", err)
	}
	defer again.Clear()
	if !again.Equal(key) {
		return d, fmt.Errorf("keyring.TestKMS: %w", errOtherKey)
	}
	if other, err := w.Unwrap(ctx, wrapped, Binding{t, bound.Item + "/other"}); err == nil {
		other.Clear()
		return d, errors.New("keyring.TestKMS: the key management does not heed what a wrapped key is bound to")
	}
	return d, nil
}

// HandOver gives an organisation's keys under a key management of its own, which a setting names; or under another one, if it has one
// that lets it. It may be ended at any point and begun again, also by several processes: each key opens at every instant. From the
// first step on, which puts a new own key into the key store as that key management wrapped it, what is made is made under that.
func (r *Ring) HandOver(ctx context.Context, t tenantdb.TenantID, s SettingID, w KeyWrapper) (p Progress, err error) {
	if t == tenantdb.Platform || s == (SettingID{}) {
		return p, errors.New("keyring.HandOver: the platform's own keys are under the platform's wrapper")
	}
	release, err := r.store.lockOwn(ctx, t)
	if err != nil {
		return p, fmt.Errorf("keyring.HandOver: %w", err)
	}
	defer release()
	defer r.ForgetOwner(t)
	o, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) || err == nil && o.setting != s {
		o, err = r.beginOwn(ctx, t, o, s, w, &p)
	}
	if err == nil {
		err = r.gather(ctx, t, o, w, &p)
	}
	if err != nil {
		return p, fmt.Errorf("keyring.HandOver: %w", err)
	}
	return p, nil
}

// Gather brings under an organisation's own key what is not yet: it ends a HandOver to a setting that was left half way. It does nothing
// if the organisation's keys are not under that setting any more.
func (r *Ring) Gather(ctx context.Context, t tenantdb.TenantID, s SettingID) error {
	release, err := r.store.lockOwn(ctx, t)
	if err != nil {
		return fmt.Errorf("keyring.Gather: %w", err)
	}
	defer release()
	o, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) || err == nil && o.setting != s {
		return nil
	}
	if err == nil {
		err = r.gather(ctx, t, o, nil, &Progress{})
	}
	if err != nil {
		return fmt.Errorf("keyring.Gather: %w", err)
	}
	return nil
}

// beginOwn draws a new own key and puts it into the own file, with the one before, if there was one: keys are still under that.
func (r *Ring) beginOwn(ctx context.Context, t tenantdb.TenantID, before owned, s SettingID, w KeyWrapper, p *Progress) (o owned, err error) {
	first := newKey()
	defer first.Clear()
	keys := []secret.Bytes{first}
	if len(before.keys) > 0 {
		if len(before.keys) > 1 { // what came before this one was not ended
			if err := r.gather(ctx, t, before, w, p); err != nil {
				return o, err
			}
		}
		last, err := r.openBefore(ctx, t, before, w)
		if err != nil {
			return o, err
		}
		defer last.Clear()
		keys = append(keys, last)
	}
	o.setting = s
	for _, key := range keys {
		k, err := wrapOwn(ctx, w, t, key)
		if err != nil {
			return o, err
		}
		o.keys = append(o.keys, k)
	}
	return o, r.putOwn(ctx, t, o, len(before.keys) == 0)
}

// wrapOwn has a key management wrap an own key, and proves that it opens there.
func wrapOwn(ctx context.Context, w KeyWrapper, t tenantdb.TenantID, key secret.Bytes) (k ownedKey, err error) {
	k.sum = checkOf(key)
	if k.wrapped, err = w.Wrap(ctx, key, ownBinding(t)); err != nil {
		return k, err
	}
	if err := k.wrapped.check(); err != nil {
		return k, err
	}
	proof, err := unwrapOwn(ctx, w, t, k)
	if err != nil {
		return k, fmt.Errorf("what was wrapped does not open, and nothing was replaced: %w", err)
	}
	proof.Clear()
	return k, nil
}

// putOwn writes an own file, which is a new one or is there.
func (r *Ring) putOwn(ctx context.Context, t tenantdb.TenantID, o owned, anew bool) error {
	plain := secret.Own(o.append(nil))
	defer plain.Clear()
	w, err := r.wrapper.Wrap(ctx, plain, ownBinding(t))
	if err == nil {
		err = proves(ctx, r.wrapper, w, ownBinding(t), plain)
	}
	if err != nil {
		return err
	}
	if !anew {
		return r.store.replace(ctx, r.store.ownPath(t), w)
	}
	won, err := r.store.link(r.store.ownPath(t), w)
	if err == nil && !won {
		err = fs.ErrExist // somebody wrote it without the lock
	}
	return err
}

// gather brings all of an organisation's keys under the first of its own keys, and ends the one before.
func (r *Ring) gather(ctx context.Context, t tenantdb.TenantID, o owned, next KeyWrapper, p *Progress) error {
	own, err := r.openOwn(ctx, t, o, next)
	if err != nil {
		return err
	}
	if err := r.moveKeys(ctx, t, own, own.first, p); err != nil || len(o.keys) == 1 {
		return err
	}
	return r.putOwn(ctx, t, owned{o.setting, o.keys[:1]}, false)
}

// TakeBack gives an organisation's keys back to the platform, as long as its own key management lets it: when the last one is there, the
// own key goes. If it cannot be done nothing has changed, or HandOver mends it.
func (r *Ring) TakeBack(ctx context.Context, t tenantdb.TenantID) error {
	release, err := r.store.lockOwn(ctx, t)
	if err != nil {
		return fmt.Errorf("keyring.TakeBack: %w", err)
	}
	defer release()
	defer r.ForgetOwner(t)
	o, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var own *ownKeys
	if err == nil {
		own, err = r.openOwn(ctx, t, o, nil)
	}
	if err != nil {
		return fmt.Errorf("keyring.TakeBack: %w", err)
	}
	if err = r.moveKeys(ctx, t, own, ownSum{}, &Progress{}); err != nil {
		err = errors.Join(err, r.moveKeys(context.WithoutCancel(ctx), t, own, own.first, &Progress{}))
	} else {
		err = r.store.takeAway(r.store.ownPath(t))
	}
	if err != nil {
		return fmt.Errorf("keyring.TakeBack: %w", err)
	}
	return nil
}

// Opens says whether a wrapper opens an organisation's own key as it lies there: for a setting that is mended while it is closed.
func (r *Ring) Opens(ctx context.Context, t tenantdb.TenantID, w KeyWrapper) error {
	o, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoOwnKMS
	}
	if err == nil {
		_, err = openOwned(ctx, w, t, o)
	}
	if err != nil {
		return fmt.Errorf("keyring.Opens: %w", err)
	}
	return nil
}

// DestroyOwn ends an organisation's own key for good, if it has one, and all that processes that were killed left of any of its keys: for
// when they were destroyed. It needs no key management.
func (r *Ring) DestroyOwn(ctx context.Context, t tenantdb.TenantID) error {
	file := r.store.ownPath(t)
	err := r.endOwn(ctx, t, file)
	if err == nil {
		err = r.store.eraseTemps(r.store.tenantDir(t))
	}
	if err != nil {
		return fmt.Errorf("keyring.DestroyOwn: %w", err)
	}
	return nil
}

func (r *Ring) endOwn(ctx context.Context, t tenantdb.TenantID, file string) error {
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	release, err := r.store.lockOwn(ctx, t)
	if err == nil {
		defer release()
		err = overwrite(file)
	}
	if err == nil {
		err = errors.Join(remove(file), syncDir(filepath.Dir(file)))
	}
	r.ForgetOwner(t)
	if errors.Is(err, fs.ErrNotExist) { // another process may have done the same
		err = nil
	}
	return err
}

// ForgetOwner drops what this process has in memory of an organisation, and of what its own key management let it have.
func (r *Ring) ForgetOwner(t tenantdb.TenantID) {
	r.leases.Delete(t)
	r.owners.drop(func(o tenantdb.TenantID) bool { return o == t })
	r.ForgetTenant(t)
}

// openOwn opens an organisation's own keys. It asks the key management, and no memory. Where the setting that was used so far is of no
// use any more, next may open them: another credential for the same key.
func (r *Ring) openOwn(ctx context.Context, t tenantdb.TenantID, o owned, next KeyWrapper) (own *ownKeys, err error) {
	err = r.asking(ctx, t, o, next, func(w KeyWrapper) (err error) {
		own, err = openOwned(ctx, w, t, o)
		return err
	})
	return own, err
}

// openBefore opens the first of the own keys so that another key management can wrap it.
func (r *Ring) openBefore(ctx context.Context, t tenantdb.TenantID, o owned, next KeyWrapper) (key secret.Bytes, err error) {
	err = r.asking(ctx, t, o, next, func(w KeyWrapper) (err error) {
		key, err = unwrapOwn(ctx, w, t, o.keys[0])
		return err
	})
	return key, err
}

func (r *Ring) asking(ctx context.Context, t tenantdb.TenantID, o owned, next KeyWrapper, open func(KeyWrapper) error) error {
	w, err := (&lease{ring: r, tenant: t}).wrapperOf(ctx, o.setting)
	if err == nil {
		err = open(w)
	}
	if err != nil && next != nil && open(next) == nil {
		return nil
	}
	return err
}

// moveKeys wraps those keys of an organisation under one of its own keys that are not; with zero, under the platform's wrapper alone.
func (r *Ring) moveKeys(ctx context.Context, t tenantdb.TenantID, own *ownKeys, to ownSum, p *Progress) error {
	for _, use := range tenantUses {
		n := keyName{tenant: t, use: use}
		versions, err := r.store.kept(n)
		if err != nil {
			return err
		}
		for _, v := range versions {
			if ended, err := r.store.finishOff(ctx, n, v); err != nil || ended {
				if err != nil {
					return err
				}
				continue
			}
			err := r.moveFile(ctx, r.store.file(n, v), own, to, Binding{t, n.item(v)}, p)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // destroyed meanwhile
				return err
			}
			if _, err := r.store.finishOff(ctx, n, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Ring) moveFile(ctx context.Context, file string, own *ownKeys, to ownSum, b Binding, p *Progress) error {
	var w Wrapped
	if err := twice(func() (err error) { w, err = r.store.readFile(file); return err }); err != nil {
		return err
	}
	p.Keys++
	key, under, err := r.openFile(ctx, w, own, b)
	if err != nil {
		return err
	}
	defer key.Clear()
	if under == to {
		return nil
	}
	var anew Wrapped
	if to == (ownSum{}) {
		anew, err = r.wrapper.Wrap(ctx, key, b)
	} else {
		anew, err = r.wrapTwice(ctx, own.aeads[to], to, key, b)
	}
	if err != nil {
		return err
	}
	again, _, err := r.openFile(ctx, anew, own, b)
	if err != nil || !again.Equal(key) {
		return fmt.Errorf("what was wrapped does not open, and nothing was replaced: %w", errors.Join(err, ErrSealed))
	}
	again.Clear()
	if err := r.store.replace(ctx, file, anew); err != nil {
		return err
	}
	p.Wrapped++
	return nil
}

// openFile opens a key with own keys that were opened, and says which of them it is under.
func (r *Ring) openFile(ctx context.Context, w Wrapped, own *ownKeys, b Binding) (key secret.Bytes, under ownSum, err error) {
	outer, err := r.wrapper.Unwrap(ctx, w, b)
	if err != nil {
		return outer, under, err
	}
	inner, under, err := innerOf(outer)
	if err == nil && under == (ownSum{}) {
		return outer, under, nil
	}
	defer outer.Clear()
	if err == nil && own.aeads[under] == nil {
		err = errMoved
	}
	if err != nil {
		return secret.Bytes{}, under, err
	}
	key, err = unwrapUnder(own.aeads[under], inner, b)
	return key, under, err
}

// takeAway removes a file that nothing needs any more, in an order in which nobody reads half of it.
func (s *store) takeAway(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Remove(file), syncDir(filepath.Dir(file))); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(zero(f), f.Close())
}

// lockOwn waits until nobody else writes an organisation's own file, or one of its keys, on any server that shares the key store.
func (s *store) lockOwn(ctx context.Context, t tenantdb.TenantID) (release func(), err error) {
	return s.lock(ctx, t, ownLock)
}

// lock waits for one of the locks in an organisation's directory.
func (s *store) lock(ctx context.Context, t tenantdb.TenantID, name string) (release func(), err error) {
	f, err := s.open(filepath.Join(s.tenantDir(t), name), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", t, ErrUnknownTenant)
	}
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
