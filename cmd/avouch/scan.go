package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/avouch-dev/avouch/apikey"
)

type keysScan struct {
	Paths []string `arg:"" name:"path" help:"A file, a directory with all that lies in it, or - for standard input."`
}

// Help is shown under the usage.
func (*keysScan) Help() string {
	return `Looks for keys of any installation where none should be: a checkout, a log, a dump. It asks no server, and never prints a key: what is shown is its id, by which it is revoked. Every file is read, those of programs and of .git too; what is compressed is not unpacked. In directories, symbolic links are not followed, and devices and pipes not read.

Exit code 1 if there is a key, 3 if there is none but not everything could be read.

    avouch keys scan .
    git log --all --patch | avouch keys scan -`
}

// Run scans.
func (c *keysScan) Run(ctx context.Context, g *globals) error {
	s := search{g: g, page: g.page(), out: redacted{g.Out}} // a file may be called like a key
	s.page.to = s.out
	done := make(chan error, 1)
	go func() { done <- s.all(c.Paths) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // standard input may stay silent for ever
		return ctx.Err()
	}
}

// search is a scan under way.
type search struct {
	g    *globals
	page page
	out  io.Writer

	files, with, keys, unread int64
	failed                    error // to print
}

// leak is a key that was found, or a file in which one could not be looked for.
type leak struct {
	Path   string `json:"path"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	KeyID  string `json:"key_id,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Live   *bool  `json:"live,omitempty"`
	Hint   string `json:"hint,omitempty"`
	Error  string `json:"error,omitempty"`
}

// all looks at every path, and says how it went.
func (s *search) all(paths []string) error {
	for _, path := range paths {
		switch info, err := os.Stat(path); {
		case path == "-":
			s.read(path, s.g.In)
		case err != nil:
			s.lacks(path, err)
		case info.IsDir():
			s.tree(path)
		default:
			s.file(path)
		}
	}
	if s.failed == nil && !s.g.JSON {
		s.failed = s.sum()
	}
	switch {
	case s.failed != nil:
		return s.failed
	case s.keys > 0:
		return &exit{code: exitFalse}
	case s.unread > 0:
		return lacks("whether a key is in what could not be read is not known")
	}
	return nil
}

// tree looks at all regular files of a directory. A named directory may be a link, those in it are not followed.
func (s *search) tree(dir string) {
	err := filepath.WalkDir(dir+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		switch {
		case s.failed != nil:
			return s.failed
		case err != nil:
			s.lacks(path, err)
		case d.Type().IsRegular():
			s.file(path)
		}
		return nil
	})
	if err != nil && s.failed == nil {
		s.lacks(dir, err)
	}
}

func (s *search) file(path string) {
	f, err := os.Open(path)
	if err != nil {
		s.lacks(path, err)
		return
	}
	defer f.Close()
	s.read(path, f)
}

func (s *search) read(name string, from io.Reader) {
	before := s.keys
	err := apikey.Scan(from, func(f apikey.Finding) {
		s.keys++
		s.tell(leak{Path: name, Line: f.Line, Column: f.Column, KeyID: f.ID, Kind: string(f.Kind), Live: &f.Live, Hint: f.Hint})
	})
	if s.files++; s.keys > before {
		s.with++
	}
	if err != nil {
		s.lacks(name, err)
	}
}

func (s *search) lacks(path string, err error) {
	s.unread++
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err // its path is said already
	}
	if s.g.JSON {
		s.tell(leak{Path: path, Error: err.Error()})
		return
	}
	fmt.Fprintf(s.g.Err, "avouch: %s could not be read: %s\n", clean(called(path)), plainly(err.Error()))
}

// tell prints what was found at once: a scan may take long.
func (s *search) tell(l leak) {
	if s.failed != nil {
		return
	}
	if s.g.JSON {
		s.failed = encode(s.out, l)
		return
	}
	kind := l.Kind
	if !*l.Live {
		kind += ", for trying"
	}
	place := fmt.Sprintf("%s:%d:%d", clean(called(l.Path)), l.Line, l.Column)
	_, s.failed = fmt.Fprintln(s.page.to, strings.Join([]string{place, "key " + s.page.paint(l.KeyID, bold), s.page.paint(l.Hint, faint), kind}, gap))
}

func called(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// sum says in a line what came of it.
func (s *search) sum() error {
	head, says := s.page.paint("NONE", good), fmt.Sprintf("No key in %s.", plural(s.files, "file", "files"))
	switch {
	case s.keys > 0:
		head = s.page.paint("FOUND", bad)
		says = fmt.Sprintf("%s in %s of %s. Revoke each with avouch keys revoke KEY-ID: who could read it has it.",
			plural(s.keys, "key", "keys"), grouped(s.with), plural(s.files, "file", "files"))
	case s.unread > 0:
		head = s.page.paint("UNCLEAR", warn)
	}
	_, err := fmt.Fprintln(s.page.to, head+gap+says)
	return err
}
