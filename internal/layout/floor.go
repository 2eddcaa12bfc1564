package layout

import (
	"go/ast"
	"slices"
	"strings"
)

// floors finds imports that climb or go sideways, and folders that have no floor. Tests are free: the compiler already
// refuses a test that closes a circle, and a test of a low room may well stand on a higher one.
func floors(h *house) []Finding {
	var found []Finding
	for _, f := range h.own() {
		own := h.floor(f.path)
		if own < 0 {
			found = append(found, h.at(f.any().syntax.Name, f.path, "this folder has no floor: a new room is a decision, write it into layout_test.go"))
			continue
		}
		for _, s := range f.files {
			for _, spec := range s.syntax.Imports {
				target, ours := h.ours(spec)
				if !ours {
					continue
				}
				switch to := h.floor(target); {
				case to > own:
					found = append(found, h.at(spec, f.path+" -> "+target, "the import climbs: declare a small interface here and let server pass %s in", target))
				case to == own && !h.plan.Floors[own].Sideways:
					found = append(found, h.at(spec, f.path+" -> "+target, "the import goes sideways: declare a small interface here and let server pass %s in", target))
				}
			}
		}
	}
	return found
}

// floor is the height of a folder, or -1.
func (h *house) floor(p string) int {
	best, height := -1, -1
	for i, f := range h.plan.Floors {
		for _, room := range f.Rooms {
			if in([]string{room}, p) && len(room) > best {
				best, height = len(room), i
			}
		}
	}
	return height
}

// ours is the folder of an import of the root module.
func (h *house) ours(spec *ast.ImportSpec) (string, bool) {
	p := strings.Trim(spec.Path.Value, `"`)
	if p == h.plan.Module {
		return ".", true
	}
	return strings.CutPrefix(p, h.plan.Module+"/")
}

func (f *folder) any() *source {
	if len(f.files) > 0 {
		return f.files[0]
	}
	return f.tests[0]
}

// postgres finds imports of the driver outside the door. SQL that is written elsewhere escapes the door's five nets.
func postgres(h *house) []Finding {
	var found []Finding
	for _, f := range h.own() {
		if in(h.plan.Postgres, f.path) {
			continue
		}
		for _, s := range slices.Concat(f.files, f.tests) {
			if s.path == f.path+"/sql.go" {
				continue
			}
			for _, spec := range s.syntax.Imports {
				if strings.HasPrefix(spec.Path.Value, `"github.com/jackc/pgx`) {
					found = append(found, h.at(spec, s.path, "the Postgres driver is imported only by %s and files named sql.go", strings.Join(h.plan.Postgres, ", ")))
				}
			}
		}
	}
	return found
}

// callers finds rooms that make a Caller without being the ones who authenticate.
func callers(h *house) []Finding {
	var found []Finding
	for _, f := range h.own() {
		if in(h.plan.Callers, f.path) {
			continue
		}
		for _, s := range f.files {
			known := s.imports()
			ast.Inspect(s.syntax, func(n ast.Node) bool {
				if p, name := qualified(n, known); p == h.plan.Module+"/tenantdb" && name == "NewCaller" {
					found = append(found, h.at(n, f.path, "only rooms that authenticate make a Caller: take it as a parameter"))
				}
				return true
			})
		}
	}
	return found
}

// qualified is the package path and the name of pkg.Name, or two empty strings.
func qualified(n ast.Node, known map[string]string) (string, string) {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok || known[x.Name] == "" {
		return "", ""
	}
	return known[x.Name], sel.Sel.Name
}
