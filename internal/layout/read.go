package layout

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

type house struct {
	plan    Plan
	fset    *token.FileSet
	folders map[string]*folder
	texts   []text
	nested  []string // folders that hold a module of their own
}

type folder struct {
	path  string
	files []*source
	tests []*source
}

type source struct {
	path      string
	syntax    *ast.File
	lines     int
	generated bool
}

type text struct {
	path string
	body []byte
}

func read(tree fs.FS, plan Plan) (*house, error) {
	h := &house{plan: plan, fset: token.NewFileSet(), folders: map[string]*folder{}}
	ignored := ignores(tree)
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p == ".git" || ignored(p, true) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || ignored(p, false) {
			return nil
		}
		body, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		return h.add(p, body)
	})
	return h, err
}

func (h *house) add(p string, body []byte) error {
	if bytes.IndexByte(body[:min(len(body), 8000)], 0) >= 0 {
		return nil
	}
	h.texts = append(h.texts, text{p, body})
	if path.Base(p) == "go.mod" && p != "go.mod" {
		h.nested = append(h.nested, path.Dir(p))
	}
	if path.Ext(p) != ".go" || unbuilt(p) {
		return nil
	}
	syntax, err := parser.ParseFile(h.fset, p, body, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	f := h.folders[path.Dir(p)]
	if f == nil {
		f = &folder{path: path.Dir(p)}
		h.folders[f.path] = f
	}
	s := &source{path: p, syntax: syntax, lines: bytes.Count(body, []byte("\n")), generated: ast.IsGenerated(syntax)}
	if strings.HasSuffix(p, "_test.go") {
		f.tests = append(f.tests, s)
	} else {
		f.files = append(f.files, s)
	}
	return nil
}

// unbuilt reports whether the go command would pass over the file: testdata, and names that begin with a dot or underscore.
func unbuilt(p string) bool {
	return slices.ContainsFunc(strings.Split(p, "/"), func(part string) bool {
		return part == "testdata" || strings.HasPrefix(part, "_") || strings.HasPrefix(part, ".")
	})
}

// ignores reads the forms of .gitignore that this repository uses: "/path", "name" and "*.ext", each with or without a
// trailing slash. Asking git instead would fail in an unpacked archive, and in a clone that belongs to another user.
func ignores(tree fs.FS) func(p string, dir bool) bool {
	body, _ := fs.ReadFile(tree, ".gitignore") // a tree without one ignores nothing
	var patterns []string
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	return func(p string, dir bool) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			pattern, onlyDir := strings.CutSuffix(pattern, "/")
			if onlyDir && !dir {
				return false
			}
			rooted, ok := strings.CutPrefix(pattern, "/")
			if ok {
				match, _ := path.Match(rooted, p)
				return match
			}
			match, _ := path.Match(pattern, path.Base(p))
			return match
		})
	}
}

// own lists the folders of the root module, in order of path.
func (h *house) own() []*folder {
	return slices.DeleteFunc(h.all(), func(f *folder) bool {
		return slices.ContainsFunc(h.nested, func(n string) bool { return within(f.path, n) })
	})
}

// all lists the folders of every module of the tree, in order of path.
func (h *house) all() []*folder {
	var all []*folder
	for _, f := range h.folders {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *folder) int { return strings.Compare(a.path, b.path) })
	return all
}

func (h *house) lines() (code, tests int) {
	for _, f := range h.own() {
		for _, s := range f.files {
			if !s.generated {
				code += s.lines
			}
		}
		for _, s := range f.tests {
			tests += s.lines
		}
	}
	return code, tests
}

func (h *house) at(n ast.Node, name, format string, args ...any) Finding {
	pos := h.fset.Position(n.Pos())
	return Finding{Path: pos.Filename, Line: pos.Line, Name: name, Text: fmt.Sprintf(format, args...)}
}

func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// main reports whether the folder holds a program.
func (f *folder) main() bool { return len(f.files) > 0 && f.files[0].syntax.Name.Name == "main" }

// in reports whether the folder is in the list; an entry that ends in "/*" or "/" stands for what is below it.
func in(list []string, p string) bool {
	return slices.ContainsFunc(list, func(e string) bool {
		base, below := strings.CutSuffix(strings.TrimSuffix(e, "*"), "/")
		return p == base && !below || below && strings.HasPrefix(p, base+"/")
	})
}

// imports maps the name under which a file knows a package to the package's path. Without the compiler the name of an
// unnamed import is its last element, less a version: right for every import of this repository.
func (s *source) imports() map[string]string {
	known := map[string]string{}
	for _, spec := range s.syntax.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		name := path.Base(p)
		if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		known[name] = p
	}
	return known
}
