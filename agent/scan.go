package agent

import (
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scan reads JSON that everyone must understand alike (RFC 7493): no name twice in an object, no invalid UTF-8, no half
// of a surrogate pair, nothing after the value. encoding/json lets all of these pass, and a token that two readers
// understand differently is a forgery waiting to happen. Its results share the memory of the text.
type scan struct {
	text string
	at   int
}

const (
	maxMembers = 64 // of one object: names are compared with each other
	maxNesting = 8
	maxDigits  = 15 // exact in every reader, also in those that have only floating point
)

var (
	errSyntax  = errors.New("not strict JSON")
	errTwice   = errors.New("a name is there twice")
	errTooMuch = errors.New("too many members, or nested too deep")
	errType    = errors.New("a value is of the wrong type")
)

func (s *scan) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// take consumes c after white space, if it is next.
func (s *scan) take(c byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// end is nil if nothing but white space is left.
func (s *scan) end() error {
	if s.space(); s.at != len(s.text) {
		return errSyntax
	}
	return nil
}

// object reads an object; member reads the value of each name.
func (s *scan) object(nesting int, member func(name string) error) error {
	if nesting > maxNesting {
		return errTooMuch
	}
	if !s.take('{') {
		return errType
	}
	if s.take('}') {
		return nil
	}
	var few [16]string
	seen := few[:0]
	for {
		s.space()
		name, err := s.str()
		if err != nil {
			return err
		}
		for _, other := range seen {
			if other == name {
				return errTwice
			}
		}
		if seen = append(seen, name); len(seen) > maxMembers {
			return errTooMuch
		}
		if !s.take(':') {
			return errSyntax
		}
		if err := member(name); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errSyntax
		}
	}
}

// array reads an array; element reads each value.
func (s *scan) array(nesting int, element func() error) error {
	if nesting > maxNesting {
		return errTooMuch
	}
	if !s.take('[') {
		return errType
	}
	if s.take(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errSyntax
		}
	}
}

// str reads a string.
func (s *scan) str() (string, error) {
	if !s.take('"') {
		return "", errType
	}
	start, ascii := s.at, true
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			out := s.text[start:s.at]
			s.at++
			if !ascii && !utf8.ValidString(out) {
				return "", errSyntax
			}
			return out, nil
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return "", errSyntax
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", errSyntax
}

// escaped reads the rest of a string whose first escape is next.
func (s *scan) escaped(start int) (string, error) {
	var out strings.Builder
	out.WriteString(s.text[start:s.at])
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			if !utf8.ValidString(out.String()) {
				return "", errSyntax
			}
			return out.String(), nil
		case c < 0x20:
			return "", errSyntax
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out.WriteRune(r)
		default:
			out.WriteByte(c)
		}
	}
	return "", errSyntax
}

// escape reads what follows a backslash.
func (s *scan) escape() (rune, error) {
	if s.at >= len(s.text) {
		return 0, errSyntax
	}
	c := s.text[s.at]
	s.at++
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return 0, errSyntax
		}
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	r, err := s.unit()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !strings.HasPrefix(s.text[s.at:], `\u`) {
		return 0, errSyntax
	}
	s.at += 2
	low, err := s.unit()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, errSyntax
	}
	return r, nil
}

// unit reads four hexadecimal digits.
func (s *scan) unit() (rune, error) {
	if len(s.text)-s.at < 4 {
		return 0, errSyntax
	}
	var r rune
	for _, c := range []byte(s.text[s.at : s.at+4]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, errSyntax
		}
	}
	s.at += 4
	return r, nil
}

// natural reads a whole number that is not negative. Fractions and exponents are refused, whatever their value.
func (s *scan) natural() (int64, error) {
	s.space()
	start := s.at
	var n int64
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		if s.at-start == maxDigits {
			return 0, errType
		}
		n = n*10 + int64(s.text[s.at]-'0')
		s.at++
	}
	digits := s.at - start
	if digits == 0 || digits > 1 && s.text[start] == '0' {
		return 0, errType
	}
	if s.at < len(s.text) && strings.IndexByte(".eE", s.text[s.at]) >= 0 {
		return 0, errType
	}
	return n, nil
}

// skip reads a value that nobody asks for, as strictly as the others.
func (s *scan) skip(nesting int) error {
	s.space()
	if s.at >= len(s.text) {
		return errSyntax
	}
	switch c := s.text[s.at]; c {
	case '{':
		return s.object(nesting, func(string) error { return s.skip(nesting + 1) })
	case '[':
		return s.array(nesting, func() error { return s.skip(nesting + 1) })
	case '"':
		_, err := s.str()
		return err
	case 't', 'f', 'n':
		for _, word := range []string{"true", "false", "null"} {
			if strings.HasPrefix(s.text[s.at:], word) {
				s.at += len(word)
				return nil
			}
		}
		return errSyntax
	}
	return s.number()
}

// number reads any number of RFC 8259.
func (s *scan) number() error {
	if s.text[s.at] == '-' {
		s.at++
	}
	zero := s.at < len(s.text) && s.text[s.at] == '0'
	if n := s.digits(); n == 0 || zero && n > 1 {
		return errSyntax
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		if s.at++; s.digits() == 0 {
			return errSyntax
		}
	}
	if s.at < len(s.text) && (s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		if s.at++; s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if s.digits() == 0 {
			return errSyntax
		}
	}
	return nil
}

func (s *scan) digits() int {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at - start
}
