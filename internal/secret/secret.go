// Package secret holds values that must not be seen: it makes every usual way of printing one say [secret].
//
// What it promises:
//
//  1. fmt in every verb, encoding/json, encoding.TextMarshaler and log/slog write [secret], for values, pointers and
//     fields (TestPrintsSecret).
//  2. A struct that keeps a secret in an unexported field shows no byte of it either: fmt cannot call methods of such a
//     field and prints what it finds by reflection, so the bytes lie behind two pointers. One is not enough: under a verb
//     that does not fit (%s), fmt follows a pointer to a slice (TestUnexportedField).
//  3. Clear overwrites the bytes that this value holds (TestClear). Copies that the runtime, the garbage collector or a
//     cipher's key schedule made are out of its reach.
//  4. A file with a secret that others than its owner may use is refused (TestReadFile).
//
// It does not stop code that calls Expose; look for that word in review.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// Hidden is embedded by types that hold secrets: their values then print as [secret].
type Hidden struct{}

// String says [secret].
func (Hidden) String() string { return redacted }

// GoString says [secret].
func (Hidden) GoString() string { return redacted }

// Format says [secret], whatever the verb.
func (Hidden) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON says "[secret]".
func (Hidden) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText says [secret].
func (Hidden) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue says [secret].
func (Hidden) LogValue() slog.Value { return slog.StringValue(redacted) }

// Bytes is a secret of bytes: a key. The zero value holds none. Copies share the same bytes.
type Bytes struct {
	Hidden
	box **[]byte
}

// Own makes a secret of b and takes b over: the caller keeps no other reference to it.
func Own(b []byte) Bytes {
	inner := &b
	return Bytes{box: &inner}
}

// Expose is the bytes themselves, not a copy. Whoever calls it must not keep, print or send them.
func (s Bytes) Expose() []byte {
	if s.box == nil {
		return nil
	}
	return **s.box
}

// IsZero reports whether there are no bytes.
func (s Bytes) IsZero() bool { return len(s.Expose()) == 0 }

// Equal compares in a time that depends on the lengths only.
func (s Bytes) Equal(t Bytes) bool { return subtle.ConstantTimeCompare(s.Expose(), t.Expose()) == 1 }

// Clear overwrites the bytes with zeros, for every copy of s.
func (s Bytes) Clear() { clear(s.Expose()) }

// String is a secret of text: a password, a setting. The zero value is empty. It can be a field of a configuration.
type String struct {
	Hidden
	box *string
}

// Text makes a secret of a text. Go cannot clear a string: use Bytes where that matters.
func Text(s string) String { return String{box: &s} }

// Expose is the text itself.
func (s String) Expose() string {
	if s.box == nil {
		return ""
	}
	return *s.box
}

// IsZero reports whether the text is empty.
func (s String) IsZero() bool { return s.Expose() == "" }

// UnmarshalText reads a secret, for flags, environment and files.
func (s *String) UnmarshalText(b []byte) error {
	*s = Text(string(b))
	return nil
}
