package scim

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Comparison is one "attribute eq value" of a filter.
type Comparison struct {
	Attribute string // lower case, with its sub-attribute: "emails.value"
	Value     any    // string, bool, float64 or nil
}

// equals reports whether a value is the one that is wanted. Text is compared without regard to case, as RFC 7643 has it for all
// attributes here but ids.
func (c Comparison) equals(v any) bool {
	want, text := c.Value.(string)
	got, same := v.(string)
	if text && same {
		return strings.EqualFold(want, got)
	}
	return v == c.Value
}

// Filter is comparisons that must all hold.
type Filter []Comparison

const (
	maxFilter   = 2048
	maxCompared = 8
)

// ParseFilter reads "a eq 1 and b eq 2". That is what directories ask; everything else of RFC 7644 is refused, which that allows.
func ParseFilter(s string) (Filter, error) {
	if len(s) > maxFilter {
		return nil, errFilter("is too long")
	}
	p := parser{rest: s}
	f, err := p.comparisons()
	if err == nil && strings.TrimSpace(p.rest) != "" {
		err = errFilter("goes on after its end")
	}
	return f, err
}

type parser struct{ rest string }

func (p *parser) comparisons() (Filter, error) {
	var f Filter
	for {
		c, err := p.comparison()
		if err != nil {
			return nil, err
		}
		if f = append(f, c); len(f) > maxCompared {
			return nil, errFilter("compares too much")
		}
		before := p.rest
		if word := p.word(); !strings.EqualFold(word, "and") {
			p.rest = before
			return f, nil
		}
	}
}

func (p *parser) comparison() (Comparison, error) {
	name := attribute(p.word())
	if name == "" {
		return Comparison{}, errFilter("lacks an attribute")
	}
	if op := p.word(); !strings.EqualFold(op, "eq") {
		return Comparison{}, errFilter("compares by something else than eq and and")
	}
	v, err := p.value()
	return Comparison{name, v}, err
}

// word is what stands before the next space or bracket.
func (p *parser) word() string {
	p.rest = strings.TrimLeft(p.rest, " ")
	n := strings.IndexAny(p.rest, " []()\"")
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

func (p *parser) value() (any, error) {
	p.rest = strings.TrimLeft(p.rest, " ")
	if !strings.HasPrefix(p.rest, `"`) {
		var v any
		word := p.word()
		if err := json.Unmarshal([]byte(strings.ToLower(word)), &v); err != nil { // Entra writes True
			return nil, errFilter("has a value that is none")
		}
		return v, nil
	}
	for end := 1; end < len(p.rest); end++ {
		switch p.rest[end] {
		case '\\':
			end++
		case '"':
			var v string
			if err := json.Unmarshal([]byte(p.rest[:end+1]), &v); err != nil {
				return nil, errFilter("has a text that is none")
			}
			p.rest = p.rest[end+1:]
			return v, nil
		}
	}
	return nil, errFilter("has a text without an end")
}

// attribute is the name of an attribute in lower case, without the URN of its schema; empty if it is no name.
func attribute(s string) string {
	s = strings.ToLower(s)
	for _, schema := range []string{schemaUser, schemaGroup} {
		if rest, ok := strings.CutPrefix(s, strings.ToLower(schema)+":"); ok {
			s = rest
		}
	}
	if len(s) > 300 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.:$") != "" || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") {
		return ""
	}
	return s
}

// Path is what a PATCH operation is about.
type Path struct {
	Attribute string // lower case
	Filter    Filter // which of its values; nil is all
	Sub       string // lower case; empty is the whole value
}

// ParsePath reads "name", "name.givenName", `emails[type eq "work"]` and `emails[type eq "work"].value`.
func ParsePath(s string) (Path, error) {
	bad := func(what string) (Path, error) { return Path{}, &Error{400, "invalidPath", "The path " + what + "."} }
	if len(s) > maxFilter {
		return bad("is too long")
	}
	p := parser{rest: strings.TrimSpace(s)}
	name := attribute(p.word())
	if name == "" {
		return bad("names no attribute")
	}
	if foreign(name) { // dots are part of such a URN
		if p.rest != "" {
			return bad("goes on after its end")
		}
		return Path{Attribute: name}, nil
	}
	if p.rest == "" {
		name, sub, _ := strings.Cut(name, ".")
		if strings.Contains(sub, ".") {
			return bad("goes too deep")
		}
		return Path{Attribute: name, Sub: sub}, nil
	}
	if !strings.HasPrefix(p.rest, "[") || strings.Contains(name, ".") {
		return bad("is no path")
	}
	p.rest = p.rest[1:]
	f, err := p.comparisons()
	if err != nil {
		return bad("holds a filter that is none")
	}
	p.rest = strings.TrimLeft(p.rest, " ")
	if !strings.HasPrefix(p.rest, "]") {
		return bad("lacks a bracket")
	}
	rest := p.rest[1:]
	if rest == "" {
		return Path{name, f, ""}, nil
	}
	sub, ok := strings.CutPrefix(rest, ".")
	if sub = attribute(sub); !ok || sub == "" || strings.Contains(sub, ".") {
		return bad("goes on after its bracket")
	}
	return Path{name, f, sub}, nil
}

// foreign is an attribute of a schema that is not kept here, such as the enterprise extension: it is taken and forgotten.
func foreign(name string) bool { return strings.HasPrefix(name, "urn:") }

// Error is a failure as SCIM tells it (RFC 7644, section 3.12).
type Error struct {
	Status int
	Type   string // scimType: a word of the standard's list; may be empty
	Detail string
}

// Error says it for the log.
func (e *Error) Error() string { return fmt.Sprintf("scim: %d %s: %s", e.Status, e.Type, e.Detail) }

func errFilter(what string) error { return &Error{400, "invalidFilter", "The filter " + what + "."} }

func errValue(format string, args ...any) error {
	return &Error{400, "invalidValue", fmt.Sprintf(format, args...)}
}
