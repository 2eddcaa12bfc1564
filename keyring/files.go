package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// writeTemp leaves a complete, durable file of mode 0600 under a name of its own. A reader never sees the final name
// before the content is on disk, because that name is linked to it afterwards.
func writeTemp(dir, pattern string, content []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, pattern) // O_EXCL, mode 0600
	if err != nil {
		return "", err
	}
	if err := complete(f, content); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// complete writes a file that was made, makes it durable and closes it.
func complete(f *os.File, content []byte) error {
	_, err := f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// hold opens the file of a name, and keeps others who hold it from replacing or removing it until it is closed. Otherwise one could overwrite
// the bytes of a file that had lost its name a moment ago, and leave those of the one that has it.
func hold(ctx context.Context, file string) (*os.File, error) {
	for {
		f, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err == nil {
			var named os.FileInfo
			if named, err = os.Lstat(file); err == nil && os.SameFile(mine, named) {
				return f, nil
			}
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// How long a lock is waited for: who holds one may hang or be suspended, and a server must be able to stop meanwhile. Who moves an
// organisation's keys holds one for some calls of a key management for each key.
const (
	lockPatience = 30 * time.Second
	lockAgain    = 50 * time.Millisecond
)

// flock takes the lock of an open file. It waits as long as the context lasts, and no longer than lockPatience.
func flock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, lockAgain) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("%s cannot be locked: %w", f.Name(), err)
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return problem.New(problem.Unavailable, "Somebody else has these keys in hand, and has not let go of them. Try again; the operator must see to it if it lasts.").
				Because(fmt.Errorf("%s: %w: %w", f.Name(), ErrHeld, ctx.Err()))
		}
	}
}

// overwrite replaces a file's content in place with zeros and makes that durable.
func overwrite(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(zero(f), f.Close())
}

func zero(f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	return errors.Join(err, f.Sync())
}

// remove is os.Remove of what may be gone already.
func remove(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
