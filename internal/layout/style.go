package layout

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFunction   = 60
	maxFile       = 500
	maxMethods    = 3
	ratioFrom     = 2000 // lines of code from which interfaces are counted: below, one of them is a large share
	maxPerKiloLoC = 1
)

func functionLength(h *house) []Finding {
	var found []Finding
	h.functions(func(f *folder, fn *ast.FuncDecl) {
		if n := h.fset.Position(fn.End()).Line - h.fset.Position(fn.Pos()).Line + 1; n > maxFunction {
			found = append(found, h.at(fn, f.path+"."+called(fn), "%d lines: a function has at most %d", n, maxFunction))
		}
	})
	return found
}

func fileLength(h *house) []Finding {
	var found []Finding
	for _, f := range h.all() {
		for _, s := range slices.Concat(f.files, f.tests) {
			if s.lines > maxFile && !s.generated {
				found = append(found, Finding{Path: s.path, Line: maxFile + 1, Name: s.path, Text: "more than 500 lines: a file is about one thing"})
			}
		}
	}
	return found
}

func interfaceMethods(h *house) []Finding {
	var found []Finding
	for _, f := range h.all() {
		for _, s := range f.files {
			name := f.path
			ast.Inspect(s.syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.TypeSpec:
					name = f.path + "." + n.Name.Name
				case *ast.InterfaceType:
					if c := methods(n); c > maxMethods {
						found = append(found, h.at(n, name, "%d methods: an interface has at most %d, declared where it is used", c, maxMethods))
					}
				}
				return true
			})
		}
	}
	return found
}

// methods counts what an interface asks for; an embedded interface counts once, a type constraint not at all.
func methods(t *ast.InterfaceType) int {
	n := 0
	for _, m := range t.Methods.List {
		switch m.Type.(type) {
		case *ast.BinaryExpr, *ast.UnaryExpr:
			return 0
		}
		n += max(1, len(m.Names))
	}
	return n
}

// interfaces lists the named interfaces of the root module, type constraints aside.
func (h *house) interfaces() []*ast.TypeSpec {
	var all []*ast.TypeSpec
	for _, f := range h.own() {
		for _, s := range f.files {
			ast.Inspect(s.syntax, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok {
					if t, ok := spec.Type.(*ast.InterfaceType); ok && methods(t) > 0 {
						all = append(all, spec)
					}
				}
				return true
			})
		}
	}
	return all
}

func interfaceRatio(h *house) []Finding {
	code, _ := h.lines()
	all := h.interfaces()
	if code < ratioFrom || len(all)*1000 < code*maxPerKiloLoC {
		return nil
	}
	return []Finding{h.at(all[len(all)-1], "interfaces", "%d interfaces in %d lines: fewer than one in 1,000 lines", len(all), code)}
}

func inits(h *house) []Finding {
	var found []Finding
	h.functions(func(f *folder, fn *ast.FuncDecl) {
		if fn.Recv == nil && fn.Name.Name == "init" && !within(f.path, "cmd") {
			found = append(found, h.at(fn, f.path, "no init outside cmd: what runs is called by somebody"))
		}
	})
	return found
}

func packageComments(h *house) []Finding {
	var found []Finding
	for _, f := range h.all() {
		group := f.files
		if len(group) == 0 {
			group = f.tests
		}
		said := slices.ContainsFunc(group, func(s *source) bool { return s.syntax.Doc.Text() != "" })
		if !said {
			found = append(found, h.at(group[0].syntax.Name, f.path, "no file of the package says what the package is"))
		}
	}
	return found
}

func exportedComments(h *house) []Finding {
	var found []Finding
	miss := func(f *folder, n ast.Node, name string) {
		found = append(found, h.at(n, f.path+"."+name, "%s is exported and has no comment", name))
	}
	h.functions(func(f *folder, fn *ast.FuncDecl) {
		receiver, _, method := strings.Cut(called(fn), ".")
		if fn.Name.IsExported() && fn.Doc.Text() == "" && (!method || ast.IsExported(receiver)) {
			miss(f, fn, called(fn))
		}
	})
	for _, f := range h.all() {
		for _, s := range f.files {
			for _, d := range s.syntax.Decls {
				decl, ok := d.(*ast.GenDecl)
				if !ok || s.generated {
					continue
				}
				for _, spec := range decl.Specs {
					for _, name := range undocumented(decl, spec) {
						miss(f, name, name.Name)
					}
				}
			}
		}
	}
	return found
}

// undocumented lists the exported names of a declaration without a comment before, behind, or over their group.
func undocumented(decl *ast.GenDecl, spec ast.Spec) []*ast.Ident {
	var names []*ast.Ident
	var doc, behind *ast.CommentGroup
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		names, doc, behind = []*ast.Ident{spec.Name}, spec.Doc, spec.Comment
	case *ast.ValueSpec:
		names, doc, behind = spec.Names, spec.Doc, spec.Comment
	}
	if decl.Doc.Text() != "" || doc.Text() != "" || behind.Text() != "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(n *ast.Ident) bool { return !n.IsExported() })
}

// names finds packages, files and types that are called after nothing.
func names(h *house) []Finding {
	empty := regexp.MustCompile(`^(utils?|common|base|misc|managers?|services?|helpers?|impl|dto)$`)
	suffix := regexp.MustCompile(`(Utils?|Manager|Helper|Impl|DTO)$`)
	var found []Finding
	for _, f := range h.all() {
		if empty.MatchString(path.Base(f.path)) {
			found = append(found, h.at(f.any().syntax.Name, f.path, "the name says nothing: use a noun that a customer knows"))
		}
		for _, s := range slices.Concat(f.files, f.tests) {
			if stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(s.path), ".go"), "_test"); empty.MatchString(stem) {
				found = append(found, h.at(s.syntax.Name, s.path, "the file's name says nothing: name it after what it holds"))
			}
			for _, d := range s.syntax.Decls {
				for _, t := range types(d) {
					if suffix.MatchString(t.Name.Name) {
						found = append(found, h.at(t, f.path+"."+t.Name.Name, "the name says nothing: name the thing, or the verb"))
					}
				}
			}
		}
	}
	return found
}

func types(d ast.Decl) []*ast.TypeSpec {
	decl, ok := d.(*ast.GenDecl)
	if !ok || decl.Tok != token.TYPE {
		return nil
	}
	var all []*ast.TypeSpec
	for _, spec := range decl.Specs {
		all = append(all, spec.(*ast.TypeSpec))
	}
	return all
}

// functions visits every function that is neither a test nor generated.
func (h *house) functions(visit func(*folder, *ast.FuncDecl)) {
	for _, f := range h.all() {
		for _, s := range f.files {
			for _, d := range s.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && !s.generated {
					visit(f, fn)
				}
			}
		}
	}
}

// called is the name of a function, with its receiver's type before a dot if it is a method.
func called(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}
