package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"unicode/utf8"
)

// MaxLine is how long a record's line may be: an entry in base64 and MaxCommitments disclosures, every byte escaped.
const MaxLine = 2 << 20

// Record is an entry in its place: as stored, and as exported, one a line.
type Record struct {
	Seq   Seq
	Prev  [32]byte // the link of the record before; Genesis for the first
	Entry []byte
	Leaf  [32]byte
	// Disclosed is private fields that the exporter chose to open. They are no part of Leaf; the entry's commitments
	// say whether they are true.
	Disclosed []Disclosure
}

// Link is the chain's value after this record: the Prev of the next.
func (r Record) Link() [32]byte { return Link(r.Prev, r.Leaf) }

// AppendJSON writes the record's line, without the newline:
//
//	{"seq":0,"prev":"<hex>","entry":"<base64>","leaf":"<hex>","disclosed":[{"name":"…","salt":"<hex>","fields":[{"name":"…","value":"…"}]}]}
//
// with `disclosed` only if there is any. A record has one line and ParseRecord accepts no other. The escaping is our own,
// because encoding/json's has changed between releases of Go, and exports must be readable for longer than those last.
func (r Record) AppendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"seq":`...), int64(r.Seq), 10)
	b = hex.AppendEncode(append(b, `,"prev":"`...), r.Prev[:])
	b = base64.StdEncoding.AppendEncode(append(b, `","entry":"`...), r.Entry)
	b = hex.AppendEncode(append(b, `","leaf":"`...), r.Leaf[:])
	b = append(b, '"')
	for i, d := range r.Disclosed {
		b = append(b, comma(i, `,"disclosed":[`)...)
		b = appendString(append(b, `{"name":`...), d.Name)
		b = hex.AppendEncode(append(b, `,"salt":"`...), d.Salt[:])
		b = append(b, `","fields":[`...)
		for j, f := range d.Fields {
			b = appendString(append(b, comma(j, "")+`{"name":`...), f.Name)
			b = append(appendString(append(b, `,"value":`...), f.Value), '}')
		}
		b = append(b, `]}`...)
	}
	if len(r.Disclosed) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// MarshalJSON is AppendJSON.
func (r Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

func comma(i int, first string) string {
	if i == 0 {
		return first
	}
	return ","
}

// appendString also escapes what encoding/json escapes for the sake of HTML, so that a line goes through it unchanged.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < 0x20 || c == '<' || c == '>' || c == '&' || c == '\u2028' || c == '\u2029':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}

// ParseRecord reads a line that AppendJSON wrote, without its newline, and nothing else: not another order, spacing,
// spelling or escaping of the same JSON. Readers in other languages then cannot be made to see another record.
func ParseRecord(line []byte) (Record, error) {
	if len(line) > MaxLine {
		return Record{}, fmt.Errorf("audit.ParseRecord: the line is longer than %d bytes", MaxLine)
	}
	r, err := parseRecord(line)
	if err != nil {
		return Record{}, fmt.Errorf("audit.ParseRecord: %w", err)
	}
	if !bytes.Equal(r.AppendJSON(make([]byte, 0, len(line))), line) {
		return Record{}, errors.New("audit.ParseRecord: the line is not in its one form")
	}
	return r, nil
}

func parseRecord(line []byte) (r Record, err error) {
	l := lineReader{rest: line}
	seq := l.between(`{"seq":`, `,"prev":"`)
	prev := l.between("", `","entry":"`)
	entry := l.between("", `","leaf":"`)
	leaf := l.between("", `"`)
	if l.bad {
		return r, errors.New("it does not have a record's members in their order")
	}
	n, err := strconv.ParseInt(string(seq), 10, 64)
	if err != nil || n < 0 {
		return r, errors.New("seq is not a number from 0")
	}
	r.Seq = Seq(n)
	if err := unhex(&r.Prev, prev); err != nil {
		return r, fmt.Errorf("prev: %w", err)
	}
	if err := unhex(&r.Leaf, leaf); err != nil {
		return r, fmt.Errorf("leaf: %w", err)
	}
	if base64.StdEncoding.DecodedLen(len(entry)) > MaxEntry+2 {
		return r, fmt.Errorf("entry is longer than %d bytes", MaxEntry)
	}
	if r.Entry, err = base64.StdEncoding.AppendDecode(nil, entry); err != nil {
		return r, errors.New("entry is not base64")
	}
	if string(l.rest) != "}" {
		r.Disclosed, err = parseDisclosed(l.between(`,"disclosed":`, ""))
	}
	return r, err
}

// parseDisclosed is forgiving, since ParseRecord compares what it makes of this with the line.
func parseDisclosed(list []byte) ([]Disclosure, error) {
	var in []struct {
		Name, Salt string
		Fields     []Field
	}
	list, closed := bytes.CutSuffix(list, []byte("}"))
	if err := json.Unmarshal(list, &in); err != nil || !closed || len(in) == 0 || len(in) > MaxCommitments {
		return nil, errors.New("disclosed is not a list of disclosures")
	}
	out := make([]Disclosure, len(in))
	for i, d := range in {
		if err := unhex(&out[i].Salt, []byte(d.Salt)); err != nil {
			return nil, fmt.Errorf("disclosed: salt: %w", err)
		}
		out[i].Name, out[i].Fields = d.Name, d.Fields
	}
	return out, nil
}

type lineReader struct {
	rest []byte
	bad  bool
}

// between takes a prefix off the line and what stands before the next stop; an empty stop means the end of the line.
func (l *lineReader) between(prefix, stop string) []byte {
	rest, ok := bytes.CutPrefix(l.rest, []byte(prefix))
	if !ok {
		l.bad = true
		return nil
	}
	if stop == "" {
		return rest
	}
	v, rest, ok := bytes.Cut(rest, []byte(stop))
	l.bad = l.bad || !ok
	l.rest = rest
	return v
}

func unhex(into *[32]byte, s []byte) error {
	if len(s) != 64 {
		return errors.New("want 64 hexadecimal digits")
	}
	if _, err := hex.Decode(into[:], s); err != nil {
		return errors.New("want 64 hexadecimal digits")
	}
	return nil
}

// ReadRecords reads records, one a line, holding one line in memory at a time. It ends after the first error.
func ReadRecords(from io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		lines := newLines(from)
		for {
			line, err := lines.next()
			if err == io.EOF {
				return
			}
			var r Record
			if err == nil {
				r, err = ParseRecord(line)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// lines reads lines of bounded length; bufio.Scanner would take a last line that lost its newline, which is a tampered one.
type lines struct {
	from *bufio.Reader
	long []byte // holds a line that does not fit the reader's buffer
}

func newLines(from io.Reader) *lines { return &lines{from: bufio.NewReaderSize(from, 64<<10)} }

// next returns io.EOF at the end only; the line is good until the next call.
func (l *lines) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.from.ReadSlice('\n')
		switch {
		case err == nil && len(l.long) == 0:
			return part[:len(part)-1], nil
		case err == nil:
			l.long = append(l.long, part...)
			return l.long[:len(l.long)-1], nil
		case err == io.EOF && len(part)+len(l.long) == 0:
			return nil, io.EOF
		case err == io.EOF:
			return nil, errors.New("the last line does not end")
		case err != bufio.ErrBufferFull:
			return nil, fmt.Errorf("reading a line: %w", err)
		}
		if l.long = append(l.long, part...); len(l.long) > MaxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", MaxLine)
		}
	}
}
