package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

var (
	errShort   = errors.New("it ends too early")
	errMinimal = errors.New("a number is not in its shortest form")
)

// Decode reads an entry. It refuses whatever Encode would not have written byte for byte, so that an entry has one
// encoding and no room to hide anything in: after reading, it writes the entry again and compares.
func Decode(b []byte) (Entry, error) {
	if len(b) > MaxEntry {
		return Entry{}, fmt.Errorf("audit.Decode: the entry is %d bytes long; at most %d", len(b), MaxEntry)
	}
	e, err := parse(b)
	if err != nil {
		return Entry{}, fmt.Errorf("audit.Decode: %w", err)
	}
	again, err := e.Encode()
	if err != nil {
		return Entry{}, fmt.Errorf("audit.Decode: %w", err)
	}
	if !bytes.Equal(again, b) {
		return Entry{}, errors.New("audit.Decode: the entry is not in its one form")
	}
	return e, nil
}

func parse(b []byte) (Entry, error) {
	var e Entry
	r := reader{b: b}
	last := uint64(0)
	for range r.count(majorMap, keyCommitments) {
		key := r.head(majorUint)
		if key <= last && r.err == nil {
			r.err = fmt.Errorf("key %d comes after key %d", key, last)
		}
		last = key
		r.value(&e, key)
		if r.err != nil {
			return Entry{}, r.err
		}
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes follow it", len(r.b))
	}
	return e, r.err
}

func (r *reader) value(e *Entry, key uint64) {
	switch key {
	case keyVersion:
		e.Version = int(min(r.head(majorUint), 1<<16))
	case keyLog:
		r.fixed(e.Log[:])
	case keyID:
		r.fixed(e.ID[:])
	case keyTime:
		e.Time = time.UnixMicro(int64(min(r.head(majorUint), (maxTime+1)*1e6))).UTC()
	case keyType:
		e.Type = r.text()
	case keyRequest:
		r.fixed(e.Request[:])
	case keyActor:
		r.exactly(2)
		e.Actor = Actor{ActorKind(r.text()), r.text()}
	case keyHow:
		e.How = r.text()
	case keySource:
		e.Source = r.text()
	case keyTarget:
		r.exactly(2)
		e.Target = Target{r.text(), r.text()}
	case keyOutcome:
		e.Outcome = Outcome(r.text())
	case keyDecision:
		e.Decision = r.text()
	case keyPolicy:
		e.Policy = r.text()
	case keyPublic:
		e.Public = r.fields()
	case keyCommitments:
		e.Commitments = r.commitments()
	default:
		r.fail(fmt.Errorf("key %d is unknown", key))
	}
}

func (r *reader) fields() []Field {
	n := r.count(majorArray, MaxPublic)
	fields := make([]Field, 0, n)
	for range n {
		r.exactly(2)
		fields = append(fields, Field{r.text(), r.text()})
		if r.err != nil {
			return nil
		}
	}
	return fields
}

func (r *reader) commitments() []Commitment {
	n := r.count(majorArray, MaxCommitments)
	cs := make([]Commitment, n)
	for i := range cs {
		r.exactly(3)
		cs[i].Name = r.text()
		r.fixed(cs[i].Subject[:])
		r.fixed(cs[i].Sum[:])
		if r.err != nil {
			return nil
		}
	}
	return cs
}

// reader takes CBOR items off the front of b. It never asks for memory that the input has not paid for in bytes, and it
// does not recurse. After the first error every method returns zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// head reads the head of an item of one major type. Indefinite lengths (31) and the reserved values are refused with the
// forms that are too long.
func (r *reader) head(major byte) uint64 {
	if r.err != nil {
		return 0
	}
	if len(r.b) == 0 {
		r.fail(errShort)
		return 0
	}
	first := r.b[0]
	if first&0xe0 != major {
		r.fail(fmt.Errorf("an item has major type %d; want %d", first>>5, major>>5))
		return 0
	}
	r.b = r.b[1:]
	short := uint64(first & 0x1f)
	if short < 24 {
		return short
	}
	if short > 27 {
		r.fail(errors.New("an item has an indefinite or reserved length"))
		return 0
	}
	size := 1 << (short - 24)
	if len(r.b) < size {
		r.fail(errShort)
		return 0
	}
	var wide [8]byte
	copy(wide[8-size:], r.b[:size])
	r.b = r.b[size:]
	n := binary.BigEndian.Uint64(wide[:])
	if size == 1 && n < 24 || size > 1 && n>>(4*size) == 0 {
		r.fail(errMinimal)
		return 0
	}
	return n
}

// count reads the head of an array or map of at most a number of members.
func (r *reader) count(major byte, most uint64) int {
	n := r.head(major)
	if n > most {
		r.fail(fmt.Errorf("a list has %d members; at most %d", n, most))
		return 0
	}
	return int(n)
}

func (r *reader) exactly(n uint64) {
	if got := r.head(majorArray); got != n {
		r.fail(fmt.Errorf("a list has %d members; want %d", got, n))
	}
}

func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.b)) {
		r.fail(errShort)
	}
	if r.err != nil {
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.take(r.head(majorText))) }

func (r *reader) fixed(into []byte) {
	n := r.head(majorBytes)
	if r.err == nil && n != uint64(len(into)) {
		r.fail(fmt.Errorf("a byte string is %d bytes long; want %d", n, len(into)))
	}
	copy(into, r.take(n))
}
