package layout

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Plan is what the rules are applied with: the floors of the house and the lists of who may do what.
type Plan struct {
	// Module is the module path of the tree's root. Modules nested in the tree keep the rules of style, not the floors.
	Module string
	// Floors lists the floors from the lowest up. A room imports only lower floors.
	Floors []Floor
	// Postgres lists the folders that may import the Postgres driver, beside files named sql.go.
	Postgres []string
	// Callers lists the folders that may make a tenantdb.Caller, because they authenticate.
	Callers []string
	// Docs lists the documents whose tests must exist, as `room.TestName`.
	Docs []string
	// Definers is the document that must name every SQL function that runs with its owner's rights.
	Definers string
	// Exceptions lists findings that are allowed, each with its reason.
	Exceptions []Exception
}

// Floor is a set of rooms at one height.
type Floor struct {
	Name string
	// Rooms are folders; one that ends in "/" stands for everything below it. The longest match decides.
	Rooms []string
	// Sideways allows imports inside the floor. Only plumbing that knows nothing of the product has it.
	Sideways bool
	// Doc demands a doc.go that says what the room promises and names its tests.
	Doc bool
}

// Exception allows one finding.
type Exception struct{ Rule, Name, Reason string }

// Finding is a place that breaks a rule.
type Finding struct {
	Rule string
	Path string
	Line int
	Name string // stable under edits elsewhere: what an Exception names
	Text string // what is wrong and what to do instead
}

// String is the finding as a compiler would print it.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s (%s)", f.Path, f.Line, f.Rule, f.Text, f.Name)
}

// Report is what a run found and counted.
type Report struct {
	Findings   []Finding
	Code       int // lines of Go of the root module, without tests and generated files
	Tests      int // lines of its tests
	Interfaces int // named interfaces in Code, type constraints aside
}

type rule struct {
	name string
	find func(*house) []Finding
}

func rules() []rule {
	return []rule{
		{"floor", floors},
		{"function-length", functionLength},
		{"file-length", fileLength},
		{"interface-methods", interfaceMethods},
		{"interface-ratio", interfaceRatio},
		{"init", inits},
		{"package-comment", packageComments},
		{"exported-comment", exportedComments},
		{"name", names},
		{"variable", variables},
		{"logger", loggers},
		{"postgres", postgres},
		{"caller", callers},
		{"promise", promises},
		{"document", documents},
		{"definer", definers},
		{"skip", skips},
		{"banner", banners},
		{"unfinished", unfinished},
		{"place", places},
	}
}

// Rules lists the names of the rules, in the order in which they run.
func Rules() []string {
	var all []string
	for _, r := range rules() {
		all = append(all, r.name)
	}
	return append(all, "exception")
}

// Check applies every rule to the tree.
func Check(tree fs.FS, plan Plan) (Report, error) {
	h, err := read(tree, plan)
	if err != nil {
		return Report{}, fmt.Errorf("layout.Check: %w", err)
	}
	var found []Finding
	for _, r := range rules() {
		for _, f := range r.find(h) {
			f.Rule = r.name
			found = append(found, f)
		}
	}
	found = plan.except(found)
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule))
	})
	code, tests := h.lines()
	return Report{Findings: found, Code: code, Tests: tests, Interfaces: len(h.interfaces())}, nil
}

func (p Plan) except(found []Finding) []Finding {
	used := make([]bool, len(p.Exceptions))
	found = slices.DeleteFunc(found, func(f Finding) bool {
		i := slices.IndexFunc(p.Exceptions, func(e Exception) bool { return e.Rule == f.Rule && e.Name == f.Name })
		if i < 0 {
			return false
		}
		used[i] = true
		return true
	})
	for i, e := range p.Exceptions {
		f := Finding{Rule: "exception", Path: "layout_test.go", Line: 1, Name: e.Rule + " " + e.Name}
		switch {
		case !used[i]:
			f.Text = "nothing needs this exception any more: remove it"
		case strings.TrimSpace(e.Reason) == "":
			f.Text = "an exception gives its reason"
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}
