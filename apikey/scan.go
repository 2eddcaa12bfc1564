package apikey

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Finding is a key that lies in some bytes. Printed in any way, it does not show the secret.
type Finding struct {
	Parsed
	Line, Column int // of its first byte, from 1; a column is a byte
	key          secret.String
}

// Key is the key itself.
func (f Finding) Key() secret.String { return f.key }

// How many bytes a key takes at most: text of two bytes a character, as some editors and shells write it, has a zero
// between any two.
const widest = 2*keySize - 1

// Scan finds the keys in what a reader gives, whatever that is: text, a dump, a program. Only what has the right checksum
// is a key, so letters right before or behind one do not hide it. What is compressed or encoded is not looked into. It
// holds 64 KiB at a time. If reading fails, what came before has been looked at.
func Scan(r io.Reader, found func(Finding)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	s := scanner{line: 1, column: 1, found: found}
	for {
		_, err := in.Peek(widest)
		b, _ := in.Peek(in.Buffered())
		judged := len(b) // nothing comes any more
		if err == nil {
			judged = len(b) - widest + 1
		}
		s.judge(b, judged)
		if _, e := in.Discard(judged); err == nil {
			err = e
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("apikey.Scan: %w", err)
		}
	}
}

type scanner struct {
	line, column int // of the next byte to be counted
	found        func(Finding)
}

// judge tells of the keys that begin within the first bytes of b; each place of the whole is judged once. It looks for the
// underscore of the tag, which is rarer than letters.
func (s *scanner) judge(b []byte, first int) {
	const mark = len("avk") // where it is
	counted := 0
	for at := 0; ; at++ {
		next := bytes.IndexByte(b[at:min(len(b), first+2*mark)], '_')
		if next < 0 {
			break
		}
		at += next
		for width := 1; width <= 2; width++ {
			start := at - mark*width
			if start < 0 || start >= first {
				continue
			}
			if raw, p, ok := keyAt(b[start:], width); ok {
				s.advance(b[counted:max(counted, start)])
				counted = max(counted, start)
				s.found(Finding{Parsed: p, Line: s.line, Column: s.column, key: secret.Text(raw)})
			}
		}
	}
	s.advance(b[counted:first])
}

func (s *scanner) advance(over []byte) {
	if n := bytes.Count(over, []byte{'\n'}); n > 0 {
		s.line += n
		s.column = 1
		over = over[bytes.LastIndexByte(over, '\n')+1:]
	}
	s.column += len(over)
}

// keyAt reads the key that b begins with, of one or two bytes a character.
func keyAt(b []byte, width int) (string, Parsed, bool) {
	const behindID = tagSize + idSize
	if len(b) <= (keySize-1)*width || b[0] != 'a' || b[width] != 'v' || b[behindID*width] != '_' {
		return "", Parsed{}, false
	}
	var raw [keySize]byte
	for i := range raw {
		raw[i] = b[i*width]
		if width == 2 && i > 0 && b[i*width-1] != 0 {
			return "", Parsed{}, false
		}
	}
	text := string(raw[:])
	p, err := Parse(text)
	return text, p, err == nil
}
