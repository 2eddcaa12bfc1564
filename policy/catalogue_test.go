package policy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestBuiltInCatalogue holds the catalogue to its published text, which customers have copied into their own systems.
func TestBuiltInCatalogue(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/catalogue.golden")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, s := range BuiltInScopes() {
		fmt.Fprintf(&got, "%s\t%s\t%s\n", s.Name, s.Risk, s.Description)
		if !s.BuiltIn || !BuiltIn(s.Name) {
			t.Errorf("%s is not built in", s.Name)
		}
	}
	if got.String() != string(golden) {
		t.Errorf("the catalogue is\n%s", got.String())
	}
	BuiltInScopes()[0].Name = "changed"
	if !BuiltIn("read:email") || BuiltInScopes()[0].Name != "read:email" {
		t.Error("a caller can change the catalogue")
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	const frozen = "avouch-1-9956ae515232"
	if Version != frozen {
		t.Errorf("Version is %s: if a scope or a rule of decisions has changed on purpose, freeze it anew", Version)
	}
	seen := map[string]string{}
	try := func(what, rules string, change func([]Scope) []Scope) {
		v := version(rules, change(BuiltInScopes()))
		if other, there := seen[v]; there {
			t.Errorf("%s and %s have the same version", what, other)
		}
		seen[v] = what
	}
	same := func(s []Scope) []Scope { return s }
	try("as it is", rules, same)
	try("other rules", rules+".", same)
	try("one less", rules, func(s []Scope) []Scope { return s[1:] })
	try("another name", rules, func(s []Scope) []Scope { s[3].Name += "s"; return s })
	try("another risk", rules, func(s []Scope) []Scope { s[3].Risk = High; return s })
	try("another description", rules, func(s []Scope) []Scope { s[3].Description += "."; return s })
	try("a moved space", rules, func(s []Scope) []Scope { s[0].Description = " " + s[0].Description; return s })
	if version(rules, BuiltInScopes()) != Version {
		t.Error("the version is not of its input alone")
	}
}

func TestOwnScopeNames(t *testing.T) {
	t.Parallel()
	allow := func(name string) {
		if says := CheckName(name); says != "" {
			t.Errorf("%s: %s", name, says)
		}
	}
	deny := func(name string) {
		if CheckName(name) == "" {
			t.Errorf("%q is allowed", name)
		}
	}
	allow("approve:invoices")
	allow("read:invoices")
	allow("a:b")
	allow("sign-off:purchase_orders.eu")
	allow("x:" + strings.Repeat("a", 62))
	for _, s := range BuiltInScopes() {
		deny(s.Name)
	}
	for _, name := range []string{
		"", "verify", "*", "approve", ":", "a:", ":b", "Approve:invoices", "approve:Invoices", "approve: invoices", "approve:invoices ",
		"approve:invoices\n", "a:b:c", "keys:write", "agents:read", "audit:write", "1st:thing", "read:émail", "read:emаil", // the last has a Cyrillic a
		"x:" + strings.Repeat("a", 63),
	} {
		deny(name)
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"approve:invoices", "read:email", "keys:write", "a:b:c", "A:B", "read:email\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != "" {
			return
		}
		verb, noun, ok := strings.Cut(name, ":")
		if !ok || verb == "" || noun == "" || strings.Contains(noun, ":") || BuiltIn(name) || len(name) > 64 {
			t.Errorf("%q is allowed", name)
		}
		for _, c := range name {
			if c <= ' ' || c > '~' || 'A' <= c && c <= 'Z' {
				t.Errorf("%q is allowed and holds %q", name, c)
			}
		}
	})
}

func TestRisk(t *testing.T) {
	t.Parallel()
	// An own scope that took a built-in name, which CheckName forbids, would still not stand in for it.
	c := newCatalogue([]Scope{{Name: "pay:bills", Risk: High}, {Name: "see:menu", Risk: Low}, {Name: "write:email", Risk: Low}})
	for _, tt := range []struct {
		names []string
		want  Risk
	}{
		{nil, Low},
		{[]string{"read:calendar"}, Low},
		{[]string{"read:calendar", "read:email"}, Medium},
		{[]string{"read:email", "write:email"}, High},
		{[]string{"see:menu"}, Low},
		{[]string{"see:menu", "pay:bills"}, High},
		{[]string{"see:menu", "unheard:of"}, High},
	} {
		if got := c.Risk(tt.names...); got != tt.want {
			t.Errorf("%v is %s, not %s", tt.names, got, tt.want)
		}
	}
	if !c.Known("pay:bills") || c.Known("unheard:of") || newCatalogue(nil).Known("pay:bills") {
		t.Error("Known is wrong")
	}
	all := c.All()
	if len(all) != 17 || all[14].Name != "pay:bills" || !slices.ContainsFunc(all[:14], func(s Scope) bool { return s.Name == "read:identity" }) {
		t.Errorf("All is %v", all)
	}
}
