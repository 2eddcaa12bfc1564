package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// openPlain opens a regular file and nothing else: opening a pipe or a device could wait for ever, and a symbolic link
// could lead to one.
func openPlain(fsys fs.FS, name string) (fs.File, error) {
	info, err := fs.Lstat(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the file is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	return f, nil
}

// readPlain reads at most one byte more than limit, whatever size the file claims or a compressed one unfolds to.
func readPlain(fsys fs.FS, name string, limit int) ([]byte, error) {
	f, err := openPlain(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return b, fmt.Errorf("the file cannot be read: %w", err)
	}
	return b, nil
}

// plainFiles gives others' code our way of reading files.
type plainFiles struct{ fs.FS }

// ReadFile is what fs.ReadFile calls.
func (p plainFiles) ReadFile(name string) ([]byte, error) {
	b, err := readPlain(p.FS, name, maxBundle)
	if err == nil && len(b) > maxBundle {
		err = errors.New("the file is too long")
	}
	return b, err
}
