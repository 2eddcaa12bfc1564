package otp

import (
	"crypto/hmac"
	"crypto/sha1" // the RFCs' own; HMAC does not need what it lacks
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"strings"
	"time"
)

// Algorithm is the hash that codes are made with.
type Algorithm string

// The algorithms. SHA1 is what authenticator apps understand.
const (
	SHA1   Algorithm = "SHA1"
	SHA256 Algorithm = "SHA256"
	SHA512 Algorithm = "SHA512"
)

// Scheme is how codes are made from a key.
type Scheme struct {
	Algorithm Algorithm
	Digits    int   // 6 to 10
	Period    int64 // seconds of a step
}

// Usual is the scheme that every authenticator app knows.
func Usual() Scheme { return Scheme{SHA1, 6, 30} }

// ErrScheme is a scheme that there is not.
var ErrScheme = errors.New("otp: no such scheme: want SHA1, SHA256 or SHA512, 6 to 10 digits, and a period of a second or more")

// Check refuses what is no scheme.
func (s Scheme) Check() error {
	if s.hash() == nil || s.Digits < 6 || s.Digits > 10 || s.Period < 1 {
		return ErrScheme
	}
	return nil
}

func (s Scheme) hash() func() hash.Hash {
	switch s.Algorithm {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA512:
		return sha512.New
	}
	return nil
}

// Code is the code of a counter (RFC 4226, section 5.3). The scheme must be one.
func (s Scheme) Code(key []byte, counter uint64) string {
	most := uint64(1) // ten digits are more than 32 bits hold
	for range s.Digits {
		most *= 10
	}
	return fmt.Sprintf("%0*d", s.Digits, s.truncated(key, counter)%most)
}

// truncated is 31 bits of the HMAC (RFC 4226, section 5.3, step 2).
func (s Scheme) truncated(key []byte, counter uint64) uint64 {
	m := hmac.New(s.hash(), key)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], counter)
	m.Write(b[:])
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	return uint64(binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff)
}

// Step is the step of an instant: that many periods since 1970. Before 1970 there is none: 0.
func (s Scheme) Step(t time.Time) int64 { return max(t.Unix(), 0) / s.Period }

// Match finds the step of a code: the earliest after the last that was accepted, at most skew steps from the instant's own.
// It compares with every step that could be, so how long it takes says nothing of how near a guess was.
func (s Scheme) Match(key []byte, code string, now time.Time, skew, last int64) (step int64, ok bool) {
	for n := s.Step(now) + skew; n >= s.Step(now)-skew; n-- {
		if n <= last || n < 0 {
			continue
		}
		if subtle.ConstantTimeCompare([]byte(s.Code(key, uint64(n))), []byte(code)) == 1 {
			step, ok = n, true
		}
	}
	return step, ok
}

// Text is a key as people type it into an app: base32 in groups of four.
func Text(key []byte) string {
	s := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
	var b strings.Builder
	for i := range len(s) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// URI is a key as apps read it from a picture: otpauth://totp/issuer:account?...
func (s Scheme) URI(issuer, account string, key []byte) string {
	clean := strings.NewReplacer(":", " ") // it ends the issuer
	issuer, account = clean.Replace(issuer), clean.Replace(account)
	// A space is %20: apps do not know that + is one. url.PathEscape leaves &, = and + alone, which mean something here.
	escape := func(s string) string {
		return strings.NewReplacer("&", "%26", "=", "%3D", "+", "%2B").Replace(url.PathEscape(s))
	}
	return fmt.Sprintf("otpauth://totp/%s:%s?secret=%s&issuer=%s&algorithm=%s&digits=%d&period=%d", escape(issuer), escape(account),
		base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key), escape(issuer), s.Algorithm, s.Digits, s.Period)
}

// Kind is what moves a code on.
type Kind string

// The kinds. Steam's codes are by time, in letters of their own.
const (
	TOTP  Kind = "totp"
	HOTP  Kind = "hotp"
	Steam Kind = "steam"
)

// OfSteam is the one scheme of Steam's codes.
func OfSteam() Scheme { return Scheme{SHA1, 5, 30} }

// For refuses what is no scheme of a kind. HOTP has no period: 0.
func (s Scheme) For(k Kind) error {
	switch k {
	case TOTP:
		return s.Check()
	case HOTP:
		if s.Period != 0 {
			return ErrScheme
		}
		s.Period = 1
		return s.Check()
	case Steam:
		if s == OfSteam() {
			return nil
		}
	}
	return ErrScheme
}

// steamLetters are those of Steam's codes: none looks like another.
const steamLetters = "23456789BCDFGHJKMNPQRTVWXY"

// CodeOf is the code of a kind at a counter: of TOTP and Steam, at a step. The scheme must be one of the kind.
func (s Scheme) CodeOf(k Kind, key []byte, counter uint64) string {
	if k != Steam {
		return s.Code(key, counter)
	}
	n := s.truncated(key, counter)
	code := make([]byte, s.Digits)
	for i := range code {
		code[i] = steamLetters[n%uint64(len(steamLetters))]
		n /= uint64(len(steamLetters))
	}
	return string(code)
}
