package audit

import (
	"encoding/binary"
	"fmt"
)

// The keys of the entry's map: see testdata/entry.cddl. A number is never given a second meaning.
const (
	keyVersion = 1 + iota
	keyLog
	keyID
	keyTime
	keyType
	keyRequest
	keyActor
	keyHow
	keySource
	keyTarget
	keyOutcome
	keyDecision
	keyPolicy
	keyPublic
	keyCommitments
)

// The major types of RFC 8949 that an entry uses.
const (
	majorUint  = 0 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5
)

// Encode is the entry's bytes: deterministic CBOR (RFC 8949, section 4.2.1), at most MaxEntry of them. Equal entries have
// equal bytes, and Decode accepts no others. Time is cut to the microsecond.
func (e Entry) Encode() ([]byte, error) { return e.appendTo(make([]byte, 0, e.room())) }

// AppendTo is Encode into a buffer of the caller's. If it fails, b is returned as it was.
func (e Entry) AppendTo(b []byte) ([]byte, error) { return e.appendTo(b) }

func (e *Entry) appendTo(b []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return b, fmt.Errorf("audit.Encode: %w", err)
	}
	start := len(b)
	out := e.appendHeader(b)
	out = e.appendRest(out)
	if n := len(out) - start; n > MaxEntry {
		return b, fmt.Errorf("audit.Encode: the entry is %d bytes long; at most %d", n, MaxEntry)
	}
	return out, nil
}

func (e *Entry) appendHeader(b []byte) []byte {
	b = appendHead(b, majorMap, e.pairs())
	b = append(b, keyVersion, Version)
	b = append(b, keyLog, majorBytes|16)
	b = append(b, e.Log[:]...)
	b = append(b, keyID, majorBytes|16)
	b = append(b, e.ID[:]...)
	b = appendHead(append(b, keyTime), majorUint, uint64(e.Time.UnixMicro()))
	b = appendText(append(b, keyType), e.Type)
	if !e.Request.IsZero() {
		b = append(b, keyRequest, majorBytes|16)
		b = append(b, e.Request[:]...)
	}
	b = append(b, keyActor, majorArray|2)
	b = appendText(b, string(e.Actor.Kind))
	b = appendText(b, e.Actor.ID)
	return appendText(append(b, keyHow), e.How)
}

func (e *Entry) appendRest(b []byte) []byte {
	if e.Source != "" {
		b = appendText(append(b, keySource), e.Source)
	}
	if e.Target.Kind != "" {
		b = append(b, keyTarget, majorArray|2)
		b = appendText(b, e.Target.Kind)
		b = appendText(b, e.Target.ID)
	}
	b = appendText(append(b, keyOutcome), string(e.Outcome))
	if e.Decision != "" {
		b = appendText(append(b, keyDecision), e.Decision)
	}
	if e.Policy != "" {
		b = appendText(append(b, keyPolicy), e.Policy)
	}
	if len(e.Public) > 0 {
		b = appendFields(append(b, keyPublic), e.Public)
	}
	if len(e.Commitments) > 0 {
		b = appendHead(append(b, keyCommitments), majorArray, uint64(len(e.Commitments)))
		for i := range e.Commitments {
			c := &e.Commitments[i]
			b = appendText(append(b, majorArray|3), c.Name)
			b = append(append(b, majorBytes|16), c.Subject[:]...)
			b = append(append(b, majorBytes|24, 32), c.Sum[:]...)
		}
	}
	return b
}

// pairs is how many keys the map has: absent and empty are one thing, and it is written by leaving the key out.
func (e *Entry) pairs() uint64 {
	n := uint64(8) // version, log, id, time, type, actor, how, outcome
	for _, there := range [...]bool{!e.Request.IsZero(), e.Source != "", e.Target.Kind != "", e.Decision != "",
		e.Policy != "", len(e.Public) > 0, len(e.Commitments) > 0} {
		if there {
			n++
		}
	}
	return n
}

// room is never less than the length of the encoding: a text of up to 4 KiB has a head of at most three bytes.
func (e *Entry) room() int {
	n := 160 + len(e.Type) + len(e.Actor.Kind) + len(e.Actor.ID) + len(e.How) + len(e.Source) + len(e.Target.Kind) +
		len(e.Target.ID) + len(e.Outcome) + len(e.Decision) + len(e.Policy) + (3+2+1+17+34+maxName)*len(e.Commitments)
	for i := range e.Public {
		n += 7 + len(e.Public[i].Name) + len(e.Public[i].Value)
	}
	return min(n, MaxEntry+1)
}

// appendFields writes an array of [name, value]: the public fields of an entry, and what Commit binds.
func appendFields(b []byte, fields []Field) []byte {
	b = appendHead(b, majorArray, uint64(len(fields)))
	for i := range fields {
		b = appendText(append(b, majorArray|2), fields[i].Name)
		b = appendText(b, fields[i].Value)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

// appendHead writes a head in the shortest of its forms, as section 4.2.1 wants.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}
