package layout

import (
	"bytes"
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

// promises finds rooms that do not say what they promise, and promises whose test does not exist.
func promises(h *house) []Finding {
	var found []Finding
	for _, f := range h.own() {
		floor := h.floor(f.path)
		i := slices.IndexFunc(f.files, func(s *source) bool { return path.Base(s.path) == "doc.go" })
		if floor >= 0 && h.plan.Floors[floor].Doc && i < 0 {
			found = append(found, h.at(f.any().syntax.Name, f.path, "a room has a doc.go that says what it promises, each promise with its test"))
		}
		if i < 0 {
			continue
		}
		doc := f.files[i]
		body := doc.syntax.Doc.Text()
		refs := references(body)
		if floor >= 0 && h.plan.Floors[floor].Doc && len(refs) == 0 {
			found = append(found, h.at(doc.syntax.Name, f.path, "doc.go names no test that holds what it promises"))
		}
		for _, r := range refs {
			if r.room == "" && !h.tests(f.path)[r.test] || r.room != "" && !h.known(r) {
				found = append(found, h.at(doc.syntax.Name, f.path+": "+r.String(), "%s does not exist", r))
			}
		}
	}
	return found
}

// documents finds tests that a document names and that do not exist, and claims marked as still without one.
func documents(h *house) []Finding {
	var found []Finding
	for _, t := range h.texts {
		if !slices.Contains(h.plan.Docs, t.path) {
			continue
		}
		n := 0
		for line := range bytes.Lines(t.body) {
			n++
			add := func(name, format string, args ...any) {
				found = append(found, Finding{Path: t.path, Line: n, Name: t.path + ": " + name, Text: fmt.Sprintf(format, args...)})
			}
			if strings.Contains(string(line), unnamed) {
				add(unnamed, "a claim without a test: name the test, or say that it is not a claim of software")
			}
			for _, r := range references(string(line)) {
				switch {
				case r.awaited:
				case r.room == "":
					add(r.test, "write %s with its room: room.%s", r.test, r.test)
				case !h.known(r):
					add(r.String(), "%s does not exist", r)
				}
			}
		}
	}
	return found
}

// unnamed marks a claim whose test has no name yet; a name behind it says what is expected, and is not looked up.
const unnamed = "test: ?"

// reference is a test named in prose: room.TestName, or TestName alone.
type reference struct {
	room, test string
	awaited    bool
}

// String is the reference as it is written.
func (r reference) String() string { return strings.TrimPrefix(r.room+"."+r.test, ".") }

func references(body string) []reference {
	if !strings.Contains(body, "Test") && !strings.Contains(body, "Fuzz") {
		return nil
	}
	named := regexp.MustCompile(`(\? +\x60?)?(?:([a-z][a-z0-9_/]*)\.)?\b((?:Test|Fuzz)[A-Z]\w*)`)
	var all []reference
	for _, m := range named.FindAllStringSubmatch(body, -1) {
		all = append(all, reference{room: m[2], test: m[3], awaited: m[1] != ""})
	}
	return all
}

// known reports whether the test of a qualified reference exists. The room is a path, or its last element.
func (h *house) known(r reference) bool {
	for p, f := range h.folders {
		if (p == r.room || path.Base(p) == r.room || f.any().syntax.Name.Name == r.room) && h.tests(p)[r.test] {
			return true
		}
	}
	return false
}

// tests lists the tests and fuzz targets of a folder.
func (h *house) tests(p string) map[string]bool {
	all := map[string]bool{}
	for _, s := range h.folders[p].tests {
		for _, d := range s.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				all[fn.Name.Name] = true
			}
		}
	}
	return all
}

// definers finds SQL functions that run with their owner's rights and are not named in the document that lists them.
func definers(h *house) []Finding {
	header := regexp.MustCompile(`(?is)\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure)\s+([\w.]+)(.*?)\b(?:as|return|begin\s+atomic)\b`)
	definer := regexp.MustCompile(`(?i)\bsecurity\s+definer\b`)
	listed := ""
	for _, t := range h.texts {
		if t.path == h.plan.Definers {
			listed = string(t.body)
		}
	}
	var found []Finding
	for _, t := range h.texts {
		if path.Ext(t.path) != ".sql" || unbuilt(t.path) {
			continue
		}
		for _, m := range header.FindAllSubmatchIndex(t.body, -1) {
			name := string(t.body[m[2]:m[3]])
			if definer.Match(t.body[m[4]:m[5]]) && !strings.Contains(listed, "`"+name+"`") {
				line := 1 + bytes.Count(t.body[:m[0]], []byte("\n"))
				found = append(found, Finding{Path: t.path, Line: line, Name: name,
					Text: "runs with its owner's rights: list `" + name + "` with its reason in " + h.plan.Definers})
			}
		}
	}
	return found
}

// banners finds comments that are drawn rather than written.
func banners(h *house) []Finding {
	drawn := regexp.MustCompile(`^\s*(//|/\*|#|--)\s*([-=*#~_]\s?){4,}`)
	return h.grep(code, []string{"----", "====", "****", "####", "~~~~", "____", "- - -", "* * *", "= = =", "# # #"}, drawn, "no banner comments: a file is about one thing and needs no chapters")
}

// unfinished finds notes that promise later work.
func unfinished(h *house) []Finding {
	promise := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	return h.grep(code, []string{"TO" + "DO", "FIX" + "ME"}, promise, "do it now, sign a known gap as BUG(name), or write an issue")
}

// places finds paths of somebody's machine and hosts of package registries: neither is true for whoever clones the tree.
func places(h *house) []Finding {
	hints := []string{"proxy.golang" + ".org", "sum.golang" + ".org", "registry.npmjs" + ".org", "deb.debian" + ".org",
		"files.pythonhosted" + ".org", "repo1.maven" + ".org", "repo.maven" + ".apache.org"}
	place := regexp.MustCompile(strings.ReplaceAll(strings.Join(hints, "|"), ".", `\.`) + `|(^|[^\w./*~)}\-])/(work|farm|root|home/\w+|Users/\w+)/\w`)
	hints = append(hints, "/work/", "/farm/", "/root/", "/home/", "/Users/")
	return h.grep(func(string) bool { return true }, hints, place, "no path of a machine and no registry host in the tree")
}

// code reports whether a file is something that runs.
func code(p string) bool {
	ext := path.Ext(p)
	return slices.Contains([]string{".go", ".sql", ".sh", ".js", ".mjs", ".ts", ".py", ".yml", ".tla"}, ext) || path.Base(p) == "Makefile"
}

// grep finds lines that match, in files that the first argument chooses. Only lines with one of the hints are shown to the
// expression, which is a hundred times slower than looking for a fixed text.
func (h *house) grep(which func(string) bool, hints []string, what *regexp.Regexp, say string) []Finding {
	var found []Finding
	for _, t := range h.texts {
		if !which(t.path) || !hinted(t.body, hints) {
			continue
		}
		n := 0
		for line := range bytes.Lines(t.body) {
			n++
			if hinted(line, hints) && what.Match(line) {
				found = append(found, Finding{Path: t.path, Line: n, Name: t.path, Text: say})
			}
		}
	}
	return found
}

func hinted(b []byte, hints []string) bool {
	return slices.ContainsFunc(hints, func(hint string) bool { return bytes.Contains(b, []byte(hint)) })
}
