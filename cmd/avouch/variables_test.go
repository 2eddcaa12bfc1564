package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// setting is what the program knows of a variable that it reads.
type setting struct {
	defaults []string
	secret   bool // it is no argument: its flag is hidden, or it has none and is called a key or a password
}

var (
	rowOfTable    = regexp.MustCompile("(?m)^\\| `(AVOUCH_[A-Z0-9_]+)` \\|(.*)\\|$")
	readElsewhere = regexp.MustCompile(`(?:[gG]etenv\(|LookupEnv\(|Env += )"(AVOUCH_[A-Z0-9_]+)"`)
	named         = regexp.MustCompile(`\bAVOUCH_[A-Z0-9]+(?:_[A-Z0-9]+)*\b`)
)

// read are the variables that the program reads: those of its flags, and those that some code asks for by name.
func read(t *testing.T, sources map[string]string) map[string]setting {
	t.Helper()
	k, err := kong.New(&root{}) // without the variables that follow from a flag's place
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]setting{}
	err = kong.Visit(k.Model, func(n kong.Visitable, next kong.Next) error {
		if f, ok := n.(*kong.Flag); ok {
			for _, name := range f.Envs {
				s := found[name]
				s.secret = s.secret || f.Hidden
				if f.Default != "" {
					s.defaults = append(s.defaults, f.Default)
				}
				found[name] = s
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range sources {
		for _, m := range readElsewhere.FindAllStringSubmatch(text, -1) {
			s := found[m[1]]
			s.secret = s.secret || strings.HasSuffix(m[1], "_KEY") || strings.HasSuffix(m[1], "_PASSWORD")
			found[m[1]] = s
		}
	}
	return found
}

// programText is the source of the program, by path.
func programText(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != top && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			b, err := os.ReadFile(path)
			texts[path] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// documented are the rows of the table in docs/operations.md: what it says, the default, and whether it is secret.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "\n## Every variable\n")
	if !found {
		t.Fatal("docs/operations.md has no table of the variables")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	rows := map[string][]string{}
	for _, m := range rowOfTable.FindAllStringSubmatch(table, -1) {
		cells := strings.Split(m[2], " | ")
		if len(cells) != 3 {
			t.Errorf("the row of %s has %d columns after its name", m[1], len(cells))
			continue
		}
		if rows[m[1]] != nil {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = cells
	}
	return rows
}

func TestEveryVariableIsDocumented(t *testing.T) {
	t.Parallel()
	sources := programText(t)
	known, rows := read(t, sources), documented(t)
	for _, name := range slices.Sorted(maps.Keys(known)) {
		row, there := rows[name]
		if !there {
			t.Errorf("%s is read, and not in the table of docs/operations.md", name)
			continue
		}
		for _, d := range known[name].defaults {
			if !strings.Contains(row[1], "`"+d+"`") {
				t.Errorf("the default of %s is %s; the table says %s", name, d, row[1])
			}
		}
		if secret := strings.HasPrefix(strings.TrimSpace(row[2]), "yes"); known[name].secret && !secret {
			t.Errorf("%s is secret; the table says %s", name, row[2])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if _, there := known[name]; !there {
			t.Errorf("the table of docs/operations.md has %s, which nothing reads", name)
		}
	}
	if len(known) < 30 || len(sources) < 100 {
		t.Errorf("only %d variables in %d files were found: the test tests nothing", len(known), len(sources))
	}
}

// Messages and comments send people to variables that there are.
func TestNamedVariablesExist(t *testing.T) {
	t.Parallel()
	sources := programText(t)
	known := read(t, sources)
	k, err := newParser(&root{})
	if err != nil {
		t.Fatal(err)
	}
	err = kong.Visit(k.Model, func(n kong.Visitable, next kong.Next) error {
		if f, ok := n.(*kong.Flag); ok {
			for _, name := range f.Envs {
				known[name] = setting{}
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range sources {
		for _, name := range named.FindAllString(text, -1) {
			if _, there := known[name]; !there {
				t.Errorf("%s names %s, which nothing reads", path, name)
			}
		}
	}
}
