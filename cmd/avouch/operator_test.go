package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestOperatorsHaveNames: no command acts as an operator without a name, but for those that write nothing.
func TestOperatorsHaveNames(t *testing.T) {
	t.Parallel()
	nameless := map[string]string{
		"incidentsList.Run": "reads what is open", "incidents": "reads what is open", "demonstrator": "an organisation that the demonstration made",
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	named := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, is := d.(*ast.FuncDecl)
			if !is {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, is := n.(*ast.SelectorExpr)
				if !is {
					return true
				}
				from, _ := call.X.(*ast.Ident)
				switch {
				case from != nil && from.Name == "tenantdb" && call.Sel.Name == "System" && nameless[methodOf(fn)] == "":
					t.Errorf("%s: %s acts as nobody by name: take an operatorName", file, methodOf(fn))
				case from != nil && from.Name == "policy" && call.Sel.Name == "Operator":
					named++
				}
				return true
			})
		}
	}
	if named != 1 {
		t.Errorf("operators are named in %d places", named)
	}
}

// methodOf is a function's name, behind its receiver's.
func methodOf(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	of := fn.Recv.List[0].Type
	if p, is := of.(*ast.StarExpr); is {
		of = p.X
	}
	if id, is := of.(*ast.Ident); is {
		return id.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}
