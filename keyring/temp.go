package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What is written lies in the key store's tmp/ until it is whole, and a process that is killed leaves it there: a key that nobody reads, and
// that would open all the same. So it is named for the file that it is to be, is overwritten when that key is destroyed, and at any rate
// when it is older than anything that somebody still writes.
//
//	tmp/key-<path of the file, with dots>.*
//	tmp/dir-*       the first versions of an organisation's keys, or of a data subject's
//	tmp/gone-*      one of these that is being removed
const staleTemp = time.Hour

func (s *store) tmp() string { return filepath.Join(s.dir, "tmp") }

// temps is what the names begin with of all that is to be a file.
func (s *store) temps(file string) (string, error) {
	path, err := filepath.Rel(s.dir, file)
	return "key-" + strings.ReplaceAll(path, string(filepath.Separator), ".") + ".", err
}

// temp writes a whole, durable file that is to have the name of another.
func (s *store) temp(file string, content []byte) (name string, err error) {
	begins, err := s.temps(file)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(s.tmp(), begins+"*") // O_EXCL, mode 0600
	if err != nil {
		return "", err
	}
	if err := s.give(f); err != nil {
		return "", errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err := complete(f, content); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// open opens a file that may have to be made, of no content.
func (s *store) open(file string, how int) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|syscall.O_NOFOLLOW|how, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.give(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeDir makes a directory, which may be there.
func (s *store) makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.giveDir(dir)
}

func (s *store) giveDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(s.give(d), d.Close())
}

// give leaves a file or directory to whom the key store belongs.
func (s *store) give(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	home, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	to, known := home.Sys().(*syscall.Stat_t)
	if !ok || !known || is.Uid == to.Uid {
		return nil
	}
	if !info.IsDir() && is.Nlink != 1 {
		return fmt.Errorf("%s has another name elsewhere, and is not given away", f.Name())
	}
	if err := f.Chown(int(to.Uid), int(to.Gid)); err != nil {
		return fmt.Errorf("the key store %s belongs to the user %d, and this process runs as %d and cannot leave to that user what it makes; "+
			"run it as that user or as root: %w", s.dir, to.Uid, os.Geteuid(), err)
	}
	return nil
}

// sweep overwrites and removes what a crash left in tmp/. Nothing there was ever used: a key counts from the moment it has its name.
func (s *store) sweep() error {
	entries, err := os.ReadDir(s.tmp())
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(info.ModTime()) < staleTemp {
			continue
		}
		if err := errors.Join(err, s.erase(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// eraseTemps overwrites and removes what was to be a file.
func (s *store) eraseTemps(file string) error {
	begins, err := s.temps(file)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.tmp())
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), begins) {
			err = errors.Join(err, s.erase(e.Name()))
		}
	}
	return err
}

// erase takes a name in tmp/ away, so that whoever wakes up late can give what it has to nobody any more; then the bytes, unless they have
// another name already: what was linked a moment before is a key in use.
func (s *store) erase(name string) error {
	gone := filepath.Join(s.tmp(), "gone-"+strings.TrimPrefix(name, "gone-"))
	if err := os.Rename(filepath.Join(s.tmp(), name), gone); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	err := filepath.WalkDir(gone, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // another process does the same
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
		if err != nil { // it goes all the same
			return nil
		}
		err = remove(file)
		if info, bad := f.Stat(); err == nil && bad == nil {
			if is, ok := info.Sys().(*syscall.Stat_t); ok && is.Nlink == 0 {
				err = zero(f)
			}
		}
		return errors.Join(err, f.Close())
	})
	return errors.Join(err, os.RemoveAll(gone), syncDir(s.tmp()))
}

// SweepStore overwrites and removes what processes that were killed left in the key store an hour ago or earlier.
func (r *Ring) SweepStore() error {
	if err := r.store.sweep(); err != nil {
		return fmt.Errorf("keyring.SweepStore: %w", err)
	}
	return nil
}
