package web

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What follows is for the bodies of the one operation where encoding/json takes a tenth of the time (verify): they are read
// and written member by member, with the results that encoding/json would have.

// Members calls member with each name and value of the object in b, for an UnmarshalJSON; null has none. Of the errors that
// member returns it returns the first. What encoding/json would put right, a name that is there twice or bytes that are no
// UTF-8, is refused.
func Members(b []byte, member func(name string, value []byte) error) error {
	if !utf8.Valid(b) { // who calls UnmarshalJSON need not have asked checkJSON
		return &fault{"", "is not UTF-8"}
	}
	var failed error
	s := scan{b: b, member: func(name string, value []byte) {
		if failed != nil {
			return
		}
		failed = member(name, value)
		if te, ok := errors.AsType[*json.UnmarshalTypeError](failed); ok && te.Field == "" {
			te.Field = name
		}
	}}
	switch c := s.peek(); c {
	case 'n':
		return nil
	case '{':
	default:
		return misfitting(b[s.i:])
	}
	if f := s.object(nil, 0); f != nil {
		return f
	}
	return failed
}

// Text is the string in value, empty if it is null.
func Text(value []byte) (string, error) {
	switch value[0] {
	case 'n':
		return "", nil
	case '"':
		return unescape(value), nil
	}
	return "", misfitting(value)
}

// Integer is the whole number in value, nil if it is null.
func Integer(value []byte) (*int64, error) {
	if value[0] == 'n' {
		return nil, nil
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return nil, misfitting(value)
	}
	return &n, nil
}

// Texts are the strings in an array, nil if it is null.
func Texts(value []byte) ([]string, error) {
	switch value[0] {
	case 'n':
		return nil, nil
	case '[':
	default:
		return nil, misfitting(value)
	}
	s, all := scan{b: value, i: 1}, []string{}
	for {
		more, f := s.more(len(all) == 0, ']')
		if f != nil {
			return nil, f
		}
		if !more {
			return all, nil
		}
		s.peek()
		start := s.i
		if f := s.value(nil, 1); f != nil {
			return nil, f
		}
		one, err := Text(value[start:s.i])
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
}

func misfitting(value []byte) error {
	kind := "number"
	switch value[0] {
	case '{':
		kind = "object"
	case '[':
		kind = "array"
	case '"':
		kind = "string"
	case 't', 'f':
		kind = "bool"
	}
	return &json.UnmarshalTypeError{Value: kind}
}

// AppendText appends s as a JSON string, as encoding/json writes it.
func AppendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || strings.IndexByte(`"\<>&`, c) >= 0 {
			quoted, _ := json.Marshal(s) // every string can be written
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
