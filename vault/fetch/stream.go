package fetch

import (
	"math"
	"math/bits"
)

// stream goes through a text once, in all its readings at the same time, and writes it without the secret. It keeps of the text what
// could be the beginning of a form, and no more.
type stream struct {
	mask     *mask
	readings []*reading
	held     []byte // not written yet
	from     int64  // where held begins
	hidden   []span // parts of held that are the secret, in order, apart
	shown    int64  // where the last [secret] that was written ends
	most     int64  // where the text is cut off
	cut      bool   // it was
	out      []byte
	count    int
}

type span struct{ start, end int64 }

// letter is one of a reading, and where it begins in the text.
type letter struct {
	at int64
	b  byte
}

// reading is a way to read a text: as it is, or with the escapes of a syntax decoded.
type reading struct {
	escape
	pending []byte   // the beginning of an escape
	state   [2]int32 // in each tree
	last    []letter // those that the longest form can reach back to, and one more; a ring of a power of two
	n       int64    // how many letters there were
	swallow bool     // the next letter holds bits of the secret
	breaks  int      // how many ends of lines were left out since the last letter
}

func newStream(m *mask) *stream {
	s := &stream{mask: m, most: math.MaxInt64}
	size := 1 << bits.Len(uint(m.longest+1))
	for _, e := range escapes(m.plus) {
		s.readings = append(s.readings, &reading{escape: e, last: make([]letter, size)})
	}
	s.reset()
	return s
}

func (s *stream) reset() {
	for _, r := range s.readings {
		r.pending, r.state, r.n, r.swallow, r.breaks = r.pending[:0], [2]int32{}, 0, false, 0
	}
	s.held, s.hidden, s.out, s.from, s.shown, s.count = s.held[:0], s.hidden[:0], s.out[:0], 0, -1, 0
}

// forget overwrites what it holds of the text.
func (s *stream) forget() {
	clear(s.held[:cap(s.held)])
	for _, r := range s.readings {
		clear(r.last)
	}
}

// feed takes the next part of the text.
func (s *stream) feed(part []byte) {
	at := s.from + int64(len(s.held))
	s.held = append(s.held, part...)
	for i, b := range part {
		for _, r := range s.readings {
			if len(r.pending) == 0 && (b != r.lead || r.decode == nil) && (b != '+' || !r.plus) { // almost always
				s.letter(r, b, span{at + int64(i), at + int64(i) + 1})
				continue
			}
			r.pending = append(r.pending, b)
			s.read(r, at+int64(i)+1)
		}
	}
	s.write(s.decided())
}

// end writes what is left: no more follows.
func (s *stream) end() {
	end := s.from + int64(len(s.held))
	for _, r := range s.readings {
		for i, b := range r.pending {
			s.letter(r, b, span{end - int64(len(r.pending)-i), end - int64(len(r.pending)-i) + 1})
		}
		r.pending = r.pending[:0]
	}
	s.write(end)
}

// read takes the letters out of what is pending, which ends at a place of the text.
func (s *stream) read(r *reading, end int64) {
	for len(r.pending) > 0 {
		start, size := end-int64(len(r.pending)), 1
		decoded := [4]byte{r.pending[0]}
		n := 1
		if r.decode != nil && r.pending[0] == r.lead {
			d, used, more := r.decode(r.pending)
			if more {
				return
			}
			if used > 0 {
				decoded, size = [4]byte{}, used
				n = copy(decoded[:], d)
			}
		} else if r.plus && r.pending[0] == '+' {
			decoded[0] = ' '
		}
		for _, b := range decoded[:n] {
			s.letter(r, b, span{start, start + int64(size)})
		}
		r.pending = r.pending[:copy(r.pending, r.pending[size:])]
	}
}

// mostBreaks is how many ends of lines may be between two letters of a form. Without a bound all of them would be held.
const mostBreaks = 2

// letter moves a reading on by a letter that is at a place of the text. No secret holds the end of a line, and what is encoded is divided
// into lines.
func (s *stream) letter(r *reading, b byte, at span) {
	if (b == '\r' || b == '\n') && r.breaks < mostBreaks {
		r.breaks++
		return
	}
	r.breaks = 0
	r.last[r.n&int64(len(r.last)-1)] = letter{at.start, b}
	r.n++
	if r.swallow && ofBase64(b) {
		s.hide(span{r.letter(r.n - 2).at, at.end})
	}
	r.swallow = false
	for i := range s.mask.forms {
		if i == anyCase {
			b = lowerByte(b)
		}
		t := &s.mask.forms[i]
		r.state[i] = t.step(r.state[i], b)
		for n := t.nodes[r.state[i]].found; n != 0; n = t.nodes[t.nodes[n].fail].found {
			found := &t.nodes[n]
			first := r.n - int64(found.depth)
			if found.before && first > 0 && ofBase64(r.letter(first-1).b) {
				first--
			}
			s.hide(span{r.letter(first).at, at.end})
			r.swallow = r.swallow || found.after
		}
	}
}

// letter is one of those that a reading remembers.
func (r *reading) letter(n int64) letter { return r.last[n&int64(len(r.last)-1)] }

func ofBase64(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '+' || b == '/' || b == '-' || b == '_'
}

// hide marks a part. No part ends before one that was marked earlier did, but by an escape's length.
func (s *stream) hide(p span) {
	for len(s.hidden) > 0 && s.hidden[len(s.hidden)-1].end >= p.start {
		last := s.hidden[len(s.hidden)-1]
		p = span{min(p.start, last.start), max(p.end, last.end)}
		s.hidden = s.hidden[:len(s.hidden)-1]
	}
	s.hidden = append(s.hidden, p)
}

// decided is where the first form could begin that is not yet read to its end, and one letter before it.
func (s *stream) decided() int64 {
	least := int64(math.MaxInt64)
	for _, r := range s.readings {
		depth := max(s.mask.forms[asWritten].nodes[r.state[asWritten]].depth, s.mask.forms[anyCase].nodes[r.state[anyCase]].depth)
		first := r.n - int64(depth) - 1
		if first < 0 {
			return s.from
		}
		least = min(least, r.letter(first).at)
	}
	return max(least, s.from)
}

// write writes what is held up to a place.
func (s *stream) write(end int64) {
	at := s.from
	if end > s.most {
		end, s.cut = s.most, true
	}
	for at < end {
		upto := end
		if len(s.hidden) > 0 && s.hidden[0].start <= at {
			upto = min(s.hidden[0].end, end)
			if s.shown != at {
				s.out = append(s.out, masked...)
				s.count++
			}
			s.shown = upto
			if upto == s.hidden[0].end {
				s.hidden = s.hidden[1:]
			}
		} else {
			if len(s.hidden) > 0 {
				upto = min(s.hidden[0].start, end)
			}
			s.out = append(s.out, s.held[at-s.from:upto-s.from]...)
		}
		at = upto
	}
	s.held = s.held[:copy(s.held, s.held[at-s.from:])]
	s.from = at
}
