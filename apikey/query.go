package apikey

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Query is a question about permissions: scopes joined by AND and OR, AND first, with parentheses. The zero Query asks for
// nothing and holds.
//
// A wildcard in a query asks for all that it stands for: documents:* holds for who was granted documents:* or *, and not
// for who was granted every scope beneath it that there happens to be today.
type Query struct{ top clause }

// clause is one scope, or several clauses of which all or any must hold. Without either it asks for nothing.
type clause struct {
	scope string
	any   bool
	parts []clause // two at least; none of them is joined like the clause itself
}

// The bounds of a query, so that one costs as little as the key that comes with it.
const (
	maxQuery      = 1000 // bytes
	maxQueryNames = 50
	maxQueryDepth = 20 // parentheses in one another
	maxScope      = 256
)

// QueryFault is why a text is no query. It quotes nothing of the text: somebody may have sent a key instead.
type QueryFault struct {
	Byte int // where, from 1
	Says string
}

// Error is the place and what was expected there.
func (f *QueryFault) Error() string { return fmt.Sprintf("at byte %d: %s", f.Byte, f.Says) }

// ParseQuery reads a query. An error is a *QueryFault.
func ParseQuery(text string) (Query, error) {
	if len(text) > maxQuery {
		return Query{}, &QueryFault{maxQuery + 1, fmt.Sprintf("expected the end: a query has at most %d bytes", maxQuery)}
	}
	r := queryReader{text: text}
	r.next()
	if r.word == "" && r.fault == nil {
		return Query{}, nil
	}
	top := r.either(0)
	if r.fault == nil && r.word != "" {
		r.expect("AND, OR or the end")
	}
	if r.fault != nil {
		return Query{}, r.fault
	}
	q := Query{top}
	if len(text)+2*r.names > maxQuery && len(q.String()) > maxQuery { // only then can the spaces that were saved matter
		return Query{}, &QueryFault{len(text) + 1, fmt.Sprintf("expected less: with spaces around AND and OR it has more than %d bytes", maxQuery)}
	}
	return q, nil
}

// queryReader reads a query word by word. After a fault there are no more words, so that whoever reads comes to an end.
type queryReader struct {
	text  string
	at    int    // behind the word
	word  string // the present one; empty is the end
	names int
	fault *QueryFault
}

func (r *queryReader) fail(at int, says string) {
	if r.fault == nil {
		r.fault = &QueryFault{at + 1, says}
	}
	r.word, r.at = "", len(r.text)
}

// expect fails at the present word.
func (r *queryReader) expect(what string) { r.fail(r.at-len(r.word), "expected "+what) }

func (r *queryReader) next() {
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
	start := r.at
	for r.at < len(r.text) && inScope(r.text[r.at]) {
		r.at++
	}
	switch {
	case r.at > start:
	case r.at < len(r.text) && (r.text[r.at] == '(' || r.text[r.at] == ')'):
		r.at++
	case r.at < len(r.text):
		r.fail(r.at, "expected a scope, AND, OR or a parenthesis: this character can be in none")
		return
	}
	r.word = r.text[start:r.at]
}

// inScope reports whether a byte can be in a scope.
func inScope(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || strings.IndexByte("_.:/-*", c) >= 0
}

func (r *queryReader) is(word string) bool { return strings.EqualFold(r.word, word) }

func (r *queryReader) either(depth int) clause {
	return r.joined(true, "OR", func() clause { return r.joined(false, "AND", func() clause { return r.term(depth) }) })
}

func (r *queryReader) joined(anyOf bool, by string, part func() clause) clause {
	parts := []clause{}
	add := func(c clause) {
		if c.scope == "" && c.any == anyOf {
			parts = append(parts, c.parts...) // (a OR b) OR c is a OR b OR c
		} else {
			parts = append(parts, c)
		}
	}
	for add(part()); r.is(by); add(part()) {
		r.next()
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return clause{any: anyOf, parts: parts}
}

func (r *queryReader) term(depth int) clause {
	switch {
	case r.word == "(" && depth == maxQueryDepth:
		r.expect(fmt.Sprintf("a scope: parentheses nest at most %d deep", maxQueryDepth))
		return clause{}
	case r.word == "(":
		r.next()
		c := r.either(depth + 1)
		if r.word != ")" {
			r.expect("AND, OR or )")
		}
		r.next()
		return c
	case r.word == "" || r.word == ")" || r.is("and") || r.is("or"):
		r.expect("a scope or (")
		return clause{}
	}
	if err := ParseScope(r.word); err != nil {
		r.fail(r.at-len(r.word), "expected a scope: it "+err.Error())
		return clause{}
	}
	if r.names++; r.names > maxQueryNames {
		r.expect(fmt.Sprintf("the end: a query names at most %d scopes", maxQueryNames))
		return clause{}
	}
	c := clause{scope: r.word}
	r.next()
	return c
}

// ParseScope says what is wrong with a scope that is to be granted, if anything: words that go on after "it".
func ParseScope(s string) error {
	name, all := strings.CutSuffix(s, "*")
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxScope:
		return fmt.Errorf("has more than %d bytes", maxScope)
	case strings.ContainsFunc(s, func(c rune) bool { return c > '~' || !inScope(byte(c)) }):
		return errors.New("holds a character that is none of A-Z a-z 0-9 _ . : / - *")
	case strings.Contains(name, "*"), all && name != "" && strings.IndexByte(".:/", name[len(name)-1]) < 0:
		return errors.New("has a * that is not the whole last part, as in documents:* or *")
	case strings.EqualFold(s, "and"), strings.EqualFold(s, "or"):
		return errors.New("is a word of queries, so nobody could ask for it")
	}
	return nil
}

// covered reports whether something granted stands for all that a scope does. What was granted and is no scope covers at
// most its own text.
func covered(granted []string, scope string) bool {
	return slices.ContainsFunc(granted, func(g string) bool {
		if g == scope || g == "*" {
			return true
		}
		above, all := strings.CutSuffix(g, "*")
		return all && above != "" && strings.IndexByte(".:/", above[len(above)-1]) >= 0 && len(scope) > len(above) && strings.HasPrefix(scope, above)
	})
}

// Holds reports whether what was granted is enough.
func (q Query) Holds(granted []string) bool { return q.top.holds(granted) }

func (c *clause) holds(granted []string) bool {
	if c.scope != "" {
		return covered(granted, c.scope)
	}
	for i := range c.parts {
		if c.parts[i].holds(granted) == c.any {
			return c.any
		}
	}
	return !c.any
}

// Missing lists what would be enough beside what was granted: of alternatives, one that lacks the fewest. Nothing is
// missing if the query holds.
func (q Query) Missing(granted []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(q.top.missing(granted))))
}

func (c *clause) missing(granted []string) []string {
	if c.holds(granted) {
		return nil
	}
	if c.scope != "" {
		return []string{c.scope}
	}
	var lacks []string
	for i := range c.parts {
		more := c.parts[i].missing(granted)
		switch {
		case !c.any:
			lacks = append(lacks, more...)
		case i == 0 || len(more) < len(lacks):
			lacks = more
		}
	}
	return lacks
}

// String is the query with as few parentheses as it can have. It reads back as the same query.
func (q Query) String() string { return q.top.text() }

func (c *clause) text() string {
	if len(c.parts) == 0 {
		return c.scope
	}
	by, texts := " AND ", make([]string, len(c.parts))
	if c.any {
		by = " OR "
	}
	for i := range c.parts {
		if texts[i] = c.parts[i].text(); c.parts[i].any {
			texts[i] = "(" + texts[i] + ")"
		}
	}
	return strings.Join(texts, by)
}
