package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// A note is what the key store says of an organisation beside its keys: what must be so before some of them are destroyed, and who
// writes into the database alone cannot say. It is wrapped as keys are, by the installation's wrapper: no organisation's key management
// is asked for it.
//
//	tenants/<tenant>/<note>        what it says
//	tenants/<tenant>/<note>.lock   held by who changes it
var notes = []string{deletionFile, unneededFile}

func lockOf(note string) string { return note + ".lock" }

func (s *store) notePath(t tenantdb.TenantID, note string) string {
	return filepath.Join(s.tenantDir(t), note)
}

// note is what a note says; nil if there is none.
func (r *Ring) note(ctx context.Context, t tenantdb.TenantID, note string) ([]byte, error) {
	var w Wrapped
	err := twice(func() (err error) { w, err = r.store.readFile(r.store.notePath(t, note)); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := r.wrapper.Unwrap(ctx, w, Binding{t, note})
	if err != nil {
		return nil, outage(r.doubted(ctx, err))
	}
	return plain.Expose(), nil
}

// setNote replaces what a note says, once that has opened as it was wrapped. The caller holds its lock.
func (r *Ring) setNote(ctx context.Context, t tenantdb.TenantID, note string, says []byte) error {
	if err := r.opensStore(ctx, followLife); err != nil {
		return outage(err)
	}
	plain, b, file := secret.Own(says), Binding{t, note}, r.store.notePath(t, note)
	w, err := r.wrapper.Wrap(ctx, plain, b)
	if err == nil {
		err = proves(ctx, r.wrapper, w, b, plain)
	}
	if err == nil {
		err = r.store.replace(ctx, file, w)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	won, err := r.store.link(file, w)
	if err == nil && !won {
		err = fmt.Errorf("%s: %w", file, fs.ErrExist) // somebody wrote it without the lock
	}
	return err
}

// rewrapNote is for an organisation that has the note, which most have not.
func (r *Ring) rewrapNote(ctx context.Context, t tenantdb.TenantID, note string, w *walk) error {
	file := r.store.notePath(t, note)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	release, err := r.store.lock(ctx, t, lockOf(note))
	if err != nil {
		return err
	}
	defer release()
	return r.rewrapFile(ctx, file, Binding{t, note}, w)
}
