package layout

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
)

// variables finds package variables that change: assigned to in a function, in this package or another, or of a type
// that exists to be changed (a lock, a counter). A local name hides a package variable in its whole function, which
// overlooks the function that uses both; go vet's shadow would speak up there.
func variables(h *house) []Finding {
	var found []Finding
	for _, f := range h.all() {
		vars := map[string]bool{}
		for _, s := range f.files {
			for _, v := range packageVars(s) {
				for _, name := range v.Names {
					vars[name.Name] = true
					if p := madeOf(v.Type, s.imports()); p == "sync" || p == "sync/atomic" {
						found = append(found, h.at(name, f.path+"."+name.Name, "a package variable that exists to be changed: put it in a value that somebody owns"))
					}
				}
			}
		}
		h.changes(f, vars, func(n ast.Node, name string) {
			found = append(found, h.at(n, f.path+"."+name, "the package variable %s changes: put it in a value that somebody owns", name))
		})
	}
	return found
}

// madeOf is the package of a variable's written type.
func madeOf(t ast.Expr, known map[string]string) string {
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	p, _ := qualified(t, known)
	return p
}

func packageVars(s *source) []*ast.ValueSpec {
	var all []*ast.ValueSpec
	for _, d := range s.syntax.Decls {
		if decl, ok := d.(*ast.GenDecl); ok && decl.Tok == token.VAR {
			for _, spec := range decl.Specs {
				all = append(all, spec.(*ast.ValueSpec))
			}
		}
	}
	return all
}

// changes reports every assignment to one of the variables, or to a name of another package.
func (h *house) changes(f *folder, vars map[string]bool, report func(ast.Node, string)) {
	for _, s := range f.files {
		known := s.imports()
		for _, d := range s.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			local := locals(fn)
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				for _, to := range assigned(n) {
					base, name, foreign := target(to, known)
					if !local[base] && (foreign || vars[base]) {
						report(to, name)
					}
				}
				return true
			})
		}
	}
}

// assigned lists what a statement writes to, without new names.
func assigned(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		if fn, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (fn.Name == "delete" || fn.Name == "clear") {
			return n.Args[:1]
		}
	}
	return nil
}

// target is the variable that x is a part of: its leading identifier, its name as written, and whether it is another package's.
func target(x ast.Expr, known map[string]string) (base, name string, foreign bool) {
	for {
		switch e := x.(type) {
		case *ast.Ident:
			return e.Name, e.Name, false
		case *ast.SelectorExpr:
			if p, field := qualified(e, known); p != "" {
				base = e.X.(*ast.Ident).Name
				return base, base + "." + field, true
			}
			x = e.X
		case *ast.IndexExpr:
			x = e.X
		case *ast.StarExpr:
			x = e.X
		case *ast.ParenExpr:
			x = e.X
		default:
			return "", "", false
		}
	}
}

// locals lists the names that a function declares anywhere in it.
func locals(fn *ast.FuncDecl) map[string]bool {
	local := map[string]bool{}
	add := func(exprs ...ast.Expr) {
		for _, x := range exprs {
			if id, ok := x.(*ast.Ident); ok {
				local[id.Name] = true
			}
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				local[name.Name] = true
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				local[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				add(n.Lhs...)
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				add(n.Key, n.Value)
			}
		}
		return true
	})
	return local
}

// loggers finds the process-wide loggers. A record that goes there has lost its request id.
func loggers(h *house) []Finding {
	global := regexp.MustCompile(`^(Default|SetDefault|SetOutput|SetFlags|SetPrefix|(Debug|Info|Warn|Error)(Context)?|Log(Attrs)?|(Print|Fatal|Panic)(f|ln)?)$`)
	var found []Finding
	for _, f := range h.all() {
		if f.main() {
			continue
		}
		for _, s := range f.files {
			known := s.imports()
			ast.Inspect(s.syntax, func(n ast.Node) bool {
				if p, name := qualified(n, known); (p == "log" || p == "log/slog") && global.MatchString(name) {
					found = append(found, h.at(n, f.path, "no global logger: take a *slog.Logger as a parameter"))
				}
				return true
			})
		}
	}
	return found
}

// skips finds tests that step aside without saying so in the words that the summary of make test looks for.
func skips(h *house) []Finding {
	var found []Finding
	for _, f := range h.all() {
		for _, s := range f.tests {
			ast.Inspect(s.syntax, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Skip" && sel.Sel.Name != "Skipf" && sel.Sel.Name != "SkipNow" {
					return true
				}
				if len(call.Args) > 0 {
					if lit, ok := call.Args[0].(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, `"skipped: `) {
						return true
					}
				}
				found = append(found, h.at(n, s.path, `a test that skips says why, in a text that begins with "skipped: "`))
				return true
			})
		}
	}
	return found
}
