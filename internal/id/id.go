// Package id makes and reads the identifiers of everything Avouch keeps.
//
// An identifier is a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits. It sorts by the
// time it was made, so index pages fill from one end. It is public and authenticates nobody.
//
// The type parameter keeps kinds apart: an ID of a tenant is not an ID of an agent, though both are sixteen bytes.
package id

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"
)

// ID is an identifier of a thing of kind K. K is never instantiated: it only tells IDs apart at compile time.
type ID[K any] [16]byte

// ErrSyntax is returned by Parse for anything but the 36-character form.
var ErrSyntax = errors.New("not an identifier: want 8-4-4-4-12 lower-case hexadecimal digits")

// New makes an identifier for the present instant.
func New[K any]() ID[K] { return At[K](time.Now()) }

// At makes an identifier that carries the given time, truncated to milliseconds.
func At[K any](t time.Time) ID[K] {
	var x ID[K]
	rand.Read(x[6:]) // never fails: crypto/rand aborts the program instead (Go 1.24)
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		x[i] = byte(ms >> (40 - 8*i))
	}
	x[6] = x[6]&0x0f | 0x70
	x[8] = x[8]&0x3f | 0x80
	return x
}

// Time is the instant at which the identifier was made, to the millisecond.
func (x ID[K]) Time() time.Time {
	var ms int64
	for i := range 6 {
		ms = ms<<8 | int64(x[i])
	}
	return time.UnixMilli(ms).UTC()
}

// Parse reads the canonical form: 36 characters, lower-case hexadecimal digits. Any version is accepted.
func Parse[K any](s string) (ID[K], error) {
	var x ID[K]
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return x, ErrSyntax
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	for i := range len(digits) {
		if c := digits[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return x, ErrSyntax
		}
	}
	if _, err := hex.Decode(x[:], []byte(digits)); err != nil {
		return ID[K]{}, ErrSyntax
	}
	return x, nil
}

// String is the canonical form, 36 characters.
func (x ID[K]) String() string { return string(x.append(make([]byte, 0, 36))) }

func (x ID[K]) append(b []byte) []byte {
	for i, part := range [][]byte{x[0:4], x[4:6], x[6:8], x[8:10], x[10:16]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// IsZero reports whether the identifier was never set.
func (x ID[K]) IsZero() bool { return x == ID[K]{} }

// MarshalText writes the canonical form.
func (x ID[K]) MarshalText() ([]byte, error) { return x.append(make([]byte, 0, 36)), nil }

// UnmarshalText reads the canonical form.
func (x *ID[K]) UnmarshalText(b []byte) error {
	v, err := Parse[K](string(b))
	if err != nil {
		return err
	}
	*x = v
	return nil
}
