package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
)

// Risk is how much harm an agent can do with a scope.
type Risk string

// The risks, from the least.
const (
	Low    Risk = "low"
	Medium Risk = "medium"
	High   Risk = "high"
)

func (r Risk) rank() int { return slices.Index([]Risk{Low, Medium, High}, r) }

// Scope is something that agents can be allowed to do.
type Scope struct {
	Name        string `json:"name" doc:"What agents are granted and services ask for"`
	Risk        Risk   `json:"risk" enum:"low,medium,high" doc:"How much harm an agent can do with it"`
	Description string `json:"description"`
	BuiltIn     bool   `json:"built_in" doc:"Whether it is the same for everybody, or the organisation's own"`
}

var builtIn = []Scope{
	{"read:email", Medium, "Read email messages", true},
	{"write:email", High, "Send emails on behalf of user", true},
	{"read:calendar", Low, "Read calendar events", true},
	{"write:calendar", Medium, "Create and modify calendar events", true},
	{"read:files", Medium, "Read files and documents", true},
	{"write:files", High, "Create and edit files", true},
	{"browse:web", Low, "Fetch public web pages", true},
	{"submit:forms", High, "Submit web forms", true},
	{"execute:code", High, "Run code in a sandbox", true},
	{"read:database", High, "Query a database", true},
	{"call:agents", Medium, "Invoke other AI agents", true},
	{"read:identity", Low, "Verify other agents via Avouch", true},
	{"read:codes", High, "Fetch one-time codes that were granted to it", true},
	{"use:secrets", High, "Make requests with secrets that were granted to it, without seeing them", true},
}

var builtInByName = index(builtIn)

func index(scopes []Scope) map[string]Scope {
	m := make(map[string]Scope, len(scopes))
	for _, s := range scopes {
		m[s.Name] = s
	}
	return m
}

// BuiltInScopes lists the scopes that everybody has, in the order of the published catalogue.
func BuiltInScopes() []Scope { return slices.Clone(builtIn) }

// BuiltIn reports whether a scope is one of those that everybody has.
func BuiltIn(name string) bool {
	_, ok := builtInByName[name]
	return ok
}

// rules are the rules of a decision, in words. Whoever changes what /verify decides changes them, and so Version.
const rules = `precedence: signature, revoked, expired, denied
a token bound to resources is denied for any other resource
a scope that is neither built in nor the agent owner's own is denied
every scope asked for must be granted; none asked for is identity only`

// Version names the built-in catalogue and the rules that decide; it is in every decision. An organisation's own scopes
// are not part of it: their changes are in its own log.
var Version = version(rules, builtIn)

func version(rules string, scopes []Scope) string {
	h := sha256.New()
	fmt.Fprintf(h, "avouch/policy/v1\n%q\n", rules)
	for _, s := range scopes {
		fmt.Fprintf(h, "%q %q %q\n", s.Name, s.Risk, s.Description)
	}
	return "avouch-1-" + hex.EncodeToString(h.Sum(nil)[:6])
}

var nameSyntax = regexp.MustCompile(`^[a-z][a-z0-9_-]*:[a-z][a-z0-9_.-]*$`)

// capabilityLike finds names such as keys:write: noun first, as capabilities of keys have it. A scope of that name would
// be taken for one by people, and some day by a program.
var capabilityLike = regexp.MustCompile(`:(read|write)$`)

// CheckName says what is wrong with the name of an organisation's own scope, in words for its maker; "" is nothing.
func CheckName(name string) string {
	switch {
	case len(name) > 64:
		return "is longer than 64 characters"
	case !nameSyntax.MatchString(name):
		return "is not verb:noun in lower case, such as approve:invoices"
	case BuiltIn(name):
		return "is a built-in scope"
	case capabilityLike.MatchString(name):
		return "reads like a capability of an API key: put the verb first, such as read:invoices"
	}
	return ""
}

// Catalogue is the scopes that one organisation knows, at one instant.
type Catalogue struct {
	own    []Scope
	byName map[string]Scope
}

func newCatalogue(own []Scope) Catalogue { return Catalogue{own, index(own)} }

// All lists the built-in scopes and then the organisation's own, by name.
func (c Catalogue) All() []Scope { return slices.Concat(builtIn, c.own) }

// Find is the scope of a name. A built-in scope is found first, so that nothing can stand in for it.
func (c Catalogue) Find(name string) (Scope, bool) {
	if s, ok := builtInByName[name]; ok {
		return s, true
	}
	s, ok := c.byName[name]
	return s, ok
}

// Known reports whether there is a scope of the name.
func (c Catalogue) Known(name string) bool {
	_, ok := c.Find(name)
	return ok
}

// Risk is the highest risk among scopes; one that is not known counts as high, since nobody has judged it.
func (c Catalogue) Risk(names ...string) Risk {
	highest := Low
	for _, n := range names {
		s, ok := c.Find(n)
		if !ok {
			return High
		}
		if s.Risk.rank() > highest.rank() {
			highest = s.Risk
		}
	}
	return highest
}
