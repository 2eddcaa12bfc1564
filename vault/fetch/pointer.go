package fetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parsePointer reads a JSON pointer (RFC 6901): the steps from the whole document down.
func parsePointer(text string) ([]string, error) {
	if len(text) > mostPointer {
		return nil, fmt.Errorf("a pointer has over %d bytes", mostPointer)
	}
	if text == "" {
		return nil, nil
	}
	if text[0] != '/' {
		return nil, fmt.Errorf("the pointer %q does not begin with /", text)
	}
	steps := strings.Split(text[1:], "/")
	for i, s := range steps {
		if rest := strings.NewReplacer("~0", "", "~1", "").Replace(s); strings.Contains(rest, "~") {
			return nil, fmt.Errorf("in the pointer %q, a ~ is followed by neither 0 nor 1", text)
		}
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
	}
	return steps, nil
}

var errNoJSON = errors.New("it is no JSON")

// mostDepth is how deep the JSON of an answer may be.
const mostDepth = 1000

// walk goes once through a document that is known to be JSON, and writes what pointers find, each without the secret. Of the document it
// keeps nothing else: as a tree in memory, a body of brackets would take seventy times its size.
type walk struct {
	mask     *mask
	rest     []byte // of the document
	pointers [][]string
	found    map[int]span // where in out, by pointer
	open     int          // how many pointers' values are being written
	out      bytes.Buffer
	texts    *json.Encoder // writes to out
	count    int
}

// cut is what pointers find in a body, each without the secret, and in how many places that was. What is not there is left out. All of it
// together may be so long: else it is ErrTooLong.
func (m *mask) cut(body []byte, pointers []string, most int64) (map[string]json.RawMessage, int, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if !json.Valid(body) {
		return nil, 0, errNoJSON
	}
	w := &walk{mask: m, rest: body, found: map[int]span{}}
	w.texts = json.NewEncoder(&w.out)
	w.texts.SetEscapeHTML(false)
	var all []int
	for n, p := range pointers {
		steps, err := parsePointer(p)
		if err != nil {
			return nil, 0, err
		}
		w.pointers, all = append(w.pointers, steps), append(all, n)
	}
	if err := w.value(all, 0); err != nil {
		return nil, 0, err
	}
	values, size := map[string]json.RawMessage{}, int64(0)
	for n, at := range w.found {
		text := w.out.Bytes()[at.start:at.end:at.end]
		if size += int64(len(text)); size > most {
			return nil, 0, ErrTooLong
		}
		// It was looked for in each string as it is meant; a secret with a comma in it could lie across two of them.
		if _, count := m.text(string(text)); count > 0 {
			text, w.count = []byte(`"`+masked+`"`), w.count+count
		}
		values[pointers[n]] = text
	}
	return values, w.count, nil
}

// value reads a value, to which or through which pointers lead.
func (w *walk) value(pointers []int, depth int) (err error) {
	if depth > mostDepth {
		return errNoJSON
	}
	var here, on []int
	for _, n := range pointers {
		if len(w.pointers[n]) == depth {
			here = append(here, n)
		} else {
			on = append(on, n)
		}
	}
	start := int64(w.out.Len())
	if len(here) > 0 {
		w.open++
		defer func() { w.open-- }()
	}
	switch w.next() {
	case '{', '[':
		err = w.parts(on, depth)
	case '"':
		err = w.text(w.token())
	default:
		err = w.single(w.token())
	}
	for _, n := range here {
		w.found[n] = span{start, int64(w.out.Len())}
	}
	return err
}

// parts reads an array or an object.
func (w *walk) parts(on []int, depth int) error {
	open := w.sign()
	for i := 0; w.next() != open+2; i++ { // ] is two after [, and } after {
		if i > 0 {
			w.sign() // a comma
		}
		name := ""
		if w.next(); open == '{' {
			text := w.token()
			if len(on) > 0 {
				name = unquoted(text)
			}
			if err := w.text(text); err != nil {
				return err
			}
			w.next()
			w.sign() // a colon
		} else if len(on) > 0 {
			name = strconv.Itoa(i) // so 01 and - are no places
		}
		var through []int
		for _, n := range on {
			if w.pointers[n][depth] == name {
				delete(w.found, n) // of two members of one name, the last counts
				through = append(through, n)
			}
		}
		if err := w.value(through, depth+1); err != nil {
			return err
		}
	}
	w.sign()
	return nil
}

// next is the letter that follows, but for blanks.
func (w *walk) next() byte {
	w.rest = bytes.TrimLeft(w.rest, " \t\r\n")
	return w.rest[0]
}

// sign takes one letter, and writes it.
func (w *walk) sign() (b byte) {
	b, w.rest = w.rest[0], w.rest[1:]
	if w.open > 0 {
		w.out.WriteByte(b)
	}
	return b
}

// token takes a string, a number, true, false or null.
func (w *walk) token() (text []byte) {
	end := 1
	if w.rest[0] == '"' {
		for ; w.rest[end] != '"'; end++ {
			if w.rest[end] == '\\' {
				end++
			}
		}
		end++
	} else if at := bytes.IndexAny(w.rest, ",]} \t\r\n"); at >= 0 {
		end = at
	} else {
		end = len(w.rest)
	}
	text, w.rest = w.rest[:end], w.rest[end:]
	return text
}

// unquoted is what a string of JSON means.
func unquoted(text []byte) (s string) {
	if plainly(text) {
		return string(text[1 : len(text)-1])
	}
	_ = json.Unmarshal(text, &s) // it is one
	return s
}

// plainly reports whether a string of JSON is written as it is meant.
func plainly(text []byte) bool { return bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) }

// single writes a number, true, false or null.
func (w *walk) single(text []byte) error {
	if w.open == 0 {
		return nil
	}
	if clean, n := w.mask.text(string(text)); n > 0 {
		return w.write(clean, n)
	}
	w.out.Write(text)
	return nil
}

// text writes a string without the secret.
func (w *walk) text(text []byte) error {
	if w.open == 0 {
		return nil
	}
	clean, n := w.mask.text(unquoted(text))
	if n == 0 && plainly(text) {
		w.out.Write(text)
		return nil
	}
	return w.write(clean, n)
}

func (w *walk) write(clean string, count int) error {
	w.count += count
	if err := w.texts.Encode(clean); err != nil {
		return errNoJSON
	}
	w.out.Truncate(w.out.Len() - 1) // the line's end
	return nil
}
