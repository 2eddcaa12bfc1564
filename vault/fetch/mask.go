package fetch

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"strings"
)

// masked is what stands where the secret was. It is no longer than the shortest form of any secret.
const masked = "[secret]"

// mask finds a secret in its forms, in one pass, whatever their number. It is for one goroutine.
type mask struct {
	forms   [2]tree // those found as they are written; and those found in any case, written in lower case
	longest int
	plus    bool // a blank is in it, which forms write as +
	scratch *stream
}

const asWritten, anyCase = 0, 1

func newMask(secret []byte) *mask {
	m := &mask{plus: strings.Contains(string(secret), " ")}
	m.add(asWritten, string(secret), false, false)
	if caseless(secret) {
		m.add(anyCase, lower(string(secret)), false, false)
	}
	m.add(anyCase, hex.EncodeToString(secret), false, false)
	for at := range 3 {
		m.aligned(asWritten, base64.RawStdEncoding.EncodeToString, 6, at, secret)
		m.aligned(asWritten, base64.RawURLEncoding.EncodeToString, 6, at, secret)
	}
	for at := range 5 {
		m.aligned(anyCase, lower32, 5, at, secret)
	}
	m.forms[asWritten].link()
	m.forms[anyCase].link()
	m.scratch = newStream(m)
	return m
}

func lower32(b []byte) string {
	return lower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// caseless reports a secret that could mean the same in another case: hexadecimal, a UUID, base32 and the like have letters of one case,
// or none that hexadecimal has not.
func caseless(secret []byte) bool {
	s := string(secret)
	return s == lower(s) || strings.Trim(lower(s), "0123456789abcdef-") == "" || !strings.ContainsFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' })
}

// lower is a text with the letters of ASCII in lower case.
func lower(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = lowerByte(b[i])
	}
	return string(b)
}

func lowerByte(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// aligned adds what is the same in every text that has so many bytes (modulo the group) before the secret. The letters at its ends
// depend on what is beside it as well.
func (m *mask) aligned(in int, encode func([]byte) string, bits, at int, secret []byte) {
	text := make([]byte, at+len(secret)+1)
	copy(text[at:], secret)
	first, last := (at*8+bits-1)/bits, (at+len(secret))*8/bits
	m.add(in, encode(text)[first:last], at*8%bits != 0, (at+len(secret))*8%bits != 0)
	clear(text)
}

func (m *mask) add(in int, text string, before, after bool) {
	m.forms[in].add(text, before, after)
	m.longest = max(m.longest, len(text))
}

// clear forgets the secret.
func (m *mask) clear() {
	for i := range m.forms {
		clear(m.forms[i].nodes)
		clear(m.forms[i].root[:])
	}
	m.scratch.forget()
}

// text is a text without the secret, and in how many places it was.
func (m *mask) text(s string) (string, int) {
	if len(s) < LeastSecret {
		return s, 0
	}
	m.scratch.reset()
	m.scratch.feed([]byte(s))
	m.scratch.end()
	return string(m.scratch.out), m.scratch.count
}

// maskingReader is a source without the secret, up to a number of bytes of the source. Where it cuts the source off, it has read on: a
// form that begins before the cut is known by its end. What it gives then depends on whole forms alone. Were it to leave out what could be
// the beginning of one, whoever lays a guess across the cut would learn the secret letter by letter.
type maskingReader struct {
	from   io.Reader
	left   int64 // to read
	stream *stream
	buffer []byte
	at     int // in what the stream wrote
	err    error
}

// ahead is how many bytes of the text a letter of a form takes in what usually writes it, at most: \u002F, &#x2F;, and as much for each
// end of a line before it.
const ahead = 6 * (1 + mostBreaks)

func (m *mask) reader(from io.Reader, most int64) *maskingReader {
	r := &maskingReader{from: from, left: most + ahead*int64(m.longest), stream: newStream(m), buffer: make([]byte, 32<<10)}
	r.stream.most = most
	return r
}

// cut reports whether the source was longer.
func (r *maskingReader) cut() bool { return r.stream.cut }

// Read reads what cannot be a part of the secret any more.
func (r *maskingReader) Read(p []byte) (int, error) {
	for r.at == len(r.stream.out) {
		if r.err != nil {
			r.stream.forget()
			return 0, r.err
		}
		r.stream.out, r.at = r.stream.out[:0], 0
		n, err := r.from.Read(r.buffer[:min(int64(len(r.buffer)), r.left)])
		r.stream.feed(r.buffer[:n])
		if r.left -= int64(n); r.left == 0 {
			err = io.EOF
		}
		if r.err = err; errors.Is(err, io.EOF) {
			r.stream.end()
		}
	}
	n := copy(p, r.stream.out[r.at:])
	r.at += n
	return n, nil
}
