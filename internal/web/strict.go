package web

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// maxDepth is how deep JSON may nest.
const maxDepth = 64

// fault is where strict JSON is broken, and how. It quotes no value, since a value may be a secret.
type fault struct{ at, says string }

// Error is the place and the fault.
func (f *fault) Error() string { return f.at + ": " + f.says }

// under moves a fault one step outwards.
func (f *fault) under(step string) *fault {
	if f == nil {
		return nil
	}
	if f.at != "" && !strings.HasPrefix(f.at, "[") {
		step += "."
	}
	return &fault{step + f.at, f.says}
}

// checkJSON says whether b is one JSON text that every reader understands alike (RFC 8259 narrowed by RFC 7493): valid
// UTF-8, nothing after it, no name twice in an object, no half of a surrogate pair, no U+0000 (PostgreSQL has no place
// for it), nested at most maxDepth deep. With a schema, a name that it does not know is refused too, and so is one that differs from
// a field's only in case: encoding/json would take it for that field. The schema may be nil.
func checkJSON(b []byte, schemas huma.Registry, schema *huma.Schema) *fault {
	if !utf8.Valid(b) {
		return &fault{"", "is not UTF-8"}
	}
	s := scan{b: b, schemas: schemas}
	if f := s.value(schema, 0); f != nil {
		return f
	}
	if s.peek() != 0 || s.i < len(b) {
		return s.syntax()
	}
	return nil
}

// scan is a reader of one JSON text.
type scan struct {
	b       []byte
	i       int
	schemas huma.Registry
	free    bool                            // within what is read into any: its numbers become float64
	member  func(name string, value []byte) // told of each member of the outermost object, if it is there
}

// syntax is the fault of a text that is no JSON from here on.
func (s *scan) syntax() *fault {
	return &fault{"", "is not JSON: something is wrong at byte " + strconv.Itoa(min(s.i, len(s.b))+1)}
}

// at is the byte at an index, 0 after the end. A 0 inside of the text is no JSON either.
func (s *scan) at(i int) byte {
	if i < len(s.b) {
		return s.b[i]
	}
	return 0
}

// peek is the next byte after white space.
func (s *scan) peek() byte {
	for s.at(s.i) == ' ' || s.at(s.i) == '\t' || s.at(s.i) == '\n' || s.at(s.i) == '\r' {
		s.i++
	}
	return s.at(s.i)
}

func (s *scan) value(schema *huma.Schema, depth int) *fault {
	if depth > maxDepth {
		return &fault{"", "nests too deep"}
	}
	if schema != nil && schema.Ref != "" {
		schema = s.schemas.SchemaFromRef(schema.Ref)
	}
	switch s.peek() {
	case '{':
		return s.object(schema, depth)
	case '[':
		return s.array(schema, depth)
	case '"':
		_, f := s.text()
		return f
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	start := s.i
	if f := s.number(); f != nil || !s.free || comesBack(string(s.b[start:s.i])) {
		return f
	}
	return &fault{"", "is a number that would come back as another: send it as a text"}
}

// comesBack reports whether a number is the same after it has been a float64: 1.50 is, which is 1.5.
func comesBack(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	return err == nil && decimal(number) == decimal(strconv.FormatFloat(f, 'e', -1, 64))
}

// decimal is the one form of a number but for its sign: its digits from the first to the last that is not 0, and a power of ten.
func decimal(number string) string {
	mantissa, power, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(number, "-")), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent, _ := strconv.Atoi(power) // of what is no float64 it may be too large: that is refused or 0 by then
	all := strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(all, "0")
	if short == "" {
		return "0"
	}
	return short + "e" + strconv.Itoa(exponent-len(fraction)+len(all)-len(short))
}

func (s *scan) word(w string) *fault {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return s.syntax()
	}
	s.i += len(w)
	return nil
}

func (s *scan) number() *fault {
	if s.at(s.i) == '-' {
		s.i++
	}
	if s.at(s.i) == '0' {
		s.i++
	} else if !s.digits() {
		return s.syntax()
	}
	if s.at(s.i) == '.' {
		if s.i++; !s.digits() {
			return s.syntax()
		}
	}
	if c := s.at(s.i); c == 'e' || c == 'E' {
		s.i++
		if c := s.at(s.i); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.syntax()
		}
	}
	return nil
}

// digits reports whether there was one at least.
func (s *scan) digits() bool {
	start := s.i
	for c := s.at(s.i); '0' <= c && c <= '9'; c = s.at(s.i) {
		s.i++
	}
	return s.i > start
}

// more reads what stands between two members, and reports whether there is another one. A trailing comma is left for
// the next member to trip over.
func (s *scan) more(first bool, end byte) (bool, *fault) {
	switch c := s.peek(); {
	case c == end:
		s.i++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.i++
		return true, nil
	}
	return false, s.syntax()
}

func (s *scan) array(schema *huma.Schema, depth int) *fault {
	var items *huma.Schema
	if schema != nil {
		items = schema.Items
	}
	s.i++
	for n := 0; ; n++ {
		if more, f := s.more(n == 0, ']'); f != nil || !more {
			return f
		}
		if f := s.value(items, depth+1); f != nil {
			return f.under("[" + strconv.Itoa(n) + "]")
		}
	}
}

func (s *scan) object(schema *huma.Schema, depth int) *fault {
	var few [12]string
	seen := names{list: few[:0]}
	s.i++
	for first := true; ; first = false {
		if more, f := s.more(first, '}'); f != nil || !more {
			return f
		}
		if s.peek() != '"' {
			return s.syntax()
		}
		quoted, f := s.text()
		if f != nil {
			return f
		}
		name := unescape(quoted)
		if seen.add(name) {
			return &fault{name, "is there twice"}
		}
		field, f := fieldOf(schema, name)
		if f != nil {
			return f
		}
		if s.peek() != ':' {
			return s.syntax()
		}
		s.i++
		s.peek()
		start, outer := s.i, s.free
		s.free = outer || field != nil && field == valuesOf(schema) && field.Type == "" && field.Ref == ""
		f = s.value(field, depth+1)
		if s.free = outer; f != nil {
			return f.under(name)
		}
		if s.member != nil && depth == 0 {
			s.member(name, s.b[start:s.i])
		}
	}
}

// fieldOf is the schema of a field, nil if it is not known.
func fieldOf(schema *huma.Schema, name string) (*huma.Schema, *fault) {
	if schema == nil {
		return nil, nil
	}
	if p := schema.Properties[name]; p != nil {
		return p, nil
	}
	for known := range schema.Properties {
		if strings.EqualFold(known, name) {
			return nil, &fault{name, "is not a field: names are in lower case"}
		}
	}
	if schema.AdditionalProperties == false {
		return nil, &fault{name, "is not a field of this operation"}
	}
	return valuesOf(schema), nil
}

// valuesOf is the schema of what an object has under names that are not known before, nil if it has none such.
func valuesOf(schema *huma.Schema) *huma.Schema {
	if schema == nil {
		return nil
	}
	values, _ := schema.AdditionalProperties.(*huma.Schema)
	return values
}

// names tells what was seen before: a list while there are few, a set when there are many.
type names struct {
	list []string
	set  map[string]struct{}
}

// add reports whether the name was there already.
func (n *names) add(name string) bool {
	if n.set == nil && len(n.list) < cap(n.list) {
		for _, s := range n.list {
			if s == name {
				return true
			}
		}
		n.list = append(n.list, name)
		return false
	}
	if n.set == nil {
		n.set = make(map[string]struct{}, 2*len(n.list))
		for _, s := range n.list {
			n.set[s] = struct{}{}
		}
	}
	_, there := n.set[name]
	n.set[name] = struct{}{}
	return there
}

// text reads a string, and gives it back with its quotes.
func (s *scan) text() ([]byte, *fault) {
	start := s.i
	for s.i++; ; s.i++ {
		switch c := s.at(s.i); {
		case c == '"':
			s.i++
			return s.b[start:s.i], nil
		case c < ' ': // the end of the text too
			return nil, s.syntax()
		case c == '\\':
			if f := s.escape(); f != nil {
				return nil, f
			}
		}
	}
}

// unescape is the content of a string that was read by text.
func unescape(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var out string
	if json.Unmarshal(quoted, &out) != nil {
		return string(quoted) // cannot be: text has read every escape
	}
	return out
}

// escape stands at a backslash and leaves at the last byte of the escape; a pair of surrogates is read whole.
func (s *scan) escape() *fault {
	s.i++
	if strings.IndexByte(`"\/bfnrt`, s.at(s.i)) >= 0 {
		return nil
	}
	c, ok := s.code()
	if !ok {
		return s.syntax()
	}
	switch {
	case c == 0:
		return &fault{"", "holds U+0000"}
	case utf16.IsSurrogate(c):
		low := rune(0)
		if s.at(s.i+1) == '\\' && s.at(s.i+2) == 'u' {
			s.i += 2
			if low, ok = s.code(); !ok {
				return s.syntax()
			}
		}
		if utf16.DecodeRune(c, low) == utf8.RuneError {
			return &fault{"", "holds half of a surrogate pair"}
		}
	}
	return nil
}

// code stands at the u of an escape and leaves at its last digit.
func (s *scan) code() (rune, bool) {
	if s.at(s.i) != 'u' {
		return 0, false
	}
	high, ok := hexByte(s.at(s.i+1), s.at(s.i+2))
	low, ok2 := hexByte(s.at(s.i+3), s.at(s.i+4))
	s.i += 4
	return rune(high)<<8 | rune(low), ok && ok2
}

func hexByte(a, b byte) (byte, bool) {
	v, err := strconv.ParseUint(string([]byte{a, b}), 16, 8)
	return byte(v), err == nil
}
