package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxPrivate is how long the canonical bytes of one group of private fields may be. Longer values go in by hash.
const MaxPrivate = 16 << 10

const saltSize = 32

// Commit binds fields without telling them: HMAC-SHA-256(salt, canonical CBOR of the array of [name, value]). With a random
// salt nobody can guess at an address or a name by trying; once the salt is destroyed, nobody can show what was bound.
func Commit(salt [32]byte, fields []Field) [32]byte {
	return commit(salt[:], appendFields(nil, fields))
}

func commit(salt, canonical []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, salt)
	h.Write(canonical)
	h.Sum(sum[:0])
	return sum
}

// Conceal commits to fields under a new random salt. sum goes into the entry; plain (salt and canonical bytes) is for the
// caller to seal under the subject's key, and to keep nowhere else.
func Conceal(fields []Field) (sum [32]byte, plain []byte, err error) {
	if err := checkPrivate(fields); err != nil {
		return sum, nil, fmt.Errorf("audit.Conceal: %w", err)
	}
	plain = make([]byte, saltSize, 256)
	rand.Read(plain) // never fails: crypto/rand aborts the program instead (Go 1.24)
	plain = appendFields(plain, fields)
	if n := len(plain) - saltSize; n > MaxPrivate {
		return sum, nil, fmt.Errorf("audit.Conceal: the fields are %d bytes long; at most %d", n, MaxPrivate)
	}
	return commit(plain[:saltSize], plain[saltSize:]), plain, nil
}

// Reveal opens what Conceal made, and checks that it is what the entry committed to.
func Reveal(plain []byte, sum [32]byte) ([]Field, error) {
	d, err := disclose(plain)
	if err != nil {
		return nil, fmt.Errorf("audit.Reveal: %w", err)
	}
	if got := commit(plain[:saltSize], plain[saltSize:]); !hmac.Equal(got[:], sum[:]) {
		return nil, errors.New("audit.Reveal: these are not the fields that the entry committed to")
	}
	return d.Fields, nil
}

// Disclosure is a group of private fields, opened, with the salt that lets a reader check them against the entry.
type Disclosure struct {
	Name   string // the commitment's
	Salt   [32]byte
	Fields []Field
}

// Disclose opens what Conceal made for one commitment, in the form that a Record shows to its readers.
func Disclose(c Commitment, plain []byte) (Disclosure, error) {
	if _, err := Reveal(plain, c.Sum); err != nil {
		return Disclosure{}, fmt.Errorf("audit.Disclose: %w", err)
	}
	d, err := disclose(plain)
	d.Name = c.Name
	return d, err
}

// Matches reports whether the fields are those that the commitment binds.
func (d Disclosure) Matches(c Commitment) bool {
	return d.Name == c.Name && Commit(d.Salt, d.Fields) == c.Sum
}

func disclose(plain []byte) (Disclosure, error) {
	var d Disclosure
	if len(plain) < saltSize || len(plain) > saltSize+MaxPrivate {
		return d, errors.New("it is too short or too long")
	}
	copy(d.Salt[:], plain)
	r := reader{b: plain[saltSize:]}
	d.Fields = r.fields()
	if r.err == nil && !bytes.Equal(appendFields(nil, d.Fields), plain[saltSize:]) {
		r.err = errors.New("the fields are not in their one form")
	}
	if r.err != nil {
		return Disclosure{}, r.err
	}
	return d, checkPrivate(d.Fields)
}

// checkPrivate lets values be any text, of several lines too: it is what people and agents wrote.
func checkPrivate(fields []Field) error {
	if len(fields) == 0 || len(fields) > MaxPublic {
		return fmt.Errorf("there are %d private fields; want 1 to %d", len(fields), MaxPublic)
	}
	for i := range fields {
		if err := word("private name", fields[i].Name, 1, maxName, snake); err != nil {
			return err
		}
		if !utf8.ValidString(fields[i].Value) {
			return fmt.Errorf("private: %s is not UTF-8", fields[i].Name)
		}
	}
	return nil
}
