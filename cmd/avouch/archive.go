package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/avouch-dev/avouch/audit"
)

// errArchive means that an archive is none, or not one of an export.
var errArchive = errors.New("this is not the archive of an export")

// unpack writes the files of an export's archive under a directory: regular files of an export's names, each once, and no
// more bytes than most. None of these names is a folder of another one.
func unpack(from io.Reader, root *os.Root, most int64) error {
	zipped, err := gzip.NewReader(from)
	if err != nil {
		return fmt.Errorf("%w: %w", errArchive, err)
	}
	names := regexp.MustCompile(`^(checkpoint|log\.vkey|records\.ndjson|tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,6}[0-9]{3}(\.p/[0-9]{1,3})?)$`)
	left := &io.LimitedReader{R: zipped, N: most + 1}
	files := tar.NewReader(left)
	for written := int64(0); ; {
		head, err := files.Next()
		if left.N <= 0 {
			return fmt.Errorf("%w: it unpacks to far more than it is", errArchive)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errArchive, err)
		}
		name := strings.TrimPrefix(head.Name, "./") // as tar writes it of a folder named .
		if head.Typeflag == tar.TypeDir {
			continue
		}
		if head.Typeflag != tar.TypeReg || !fs.ValidPath(name) || !names.MatchString(name) {
			return fmt.Errorf("%w: it holds %q", errArchive, head.Name)
		}
		// The holes of a sparse file are nowhere in the archive, and so not in what is left of it.
		if written += head.Size; head.Size > most || written > most {
			return fmt.Errorf("%w: it unpacks to far more than it is", errArchive)
		}
		if err := unpackFile(files, root, name); err != nil {
			return err
		}
	}
	// A connection that broke right behind the last file shows in gzip's checksum.
	if _, err := io.Copy(io.Discard, left); err != nil {
		return fmt.Errorf("%w: %w", errArchive, err)
	}
	return nil
}

func unpackFile(from io.Reader, root *os.Root, name string) error {
	file, err := audit.Into(root)(name)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s is in it twice", errArchive, name)
	}
	if err != nil {
		return lacks("it cannot be unpacked: %w", err)
	}
	source := &failing{r: from}
	_, err = io.Copy(file, source)
	if e := file.Close(); err == nil {
		err = e
	}
	switch {
	case source.err != nil:
		return fmt.Errorf("%w: %w", errArchive, source.err)
	case err != nil:
		return lacks("it cannot be unpacked: %w", err)
	}
	return nil
}

// failing remembers whether reading failed, so that a bad archive is not taken for a full disk.
type failing struct {
	r   io.Reader
	err error
}

// Read is for io.Reader.
func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
