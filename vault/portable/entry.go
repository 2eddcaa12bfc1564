package portable

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// Entry is one seed as an app keeps it, or what else a vault keeps.
type Entry struct {
	Kind    otp.Kind
	Title   string       // a name of its own; apps know none
	Issuer  string       // whose account it is; may be empty
	Account string       // which one; may be empty
	Key     secret.Bytes // of Secret, the text
	Scheme  otp.Scheme
	Counter uint64 // of the next code, for HOTP
	Codes   []Code // of Codes, and of no other kind
	Folder  string
	Tags    []string
	Notes   string
	Icon    string
}

// The kinds beside those that codes are made of. Only FormatAvouch holds them.
const (
	Codes  otp.Kind = "codes"  // recovery codes
	Secret otp.Kind = "secret" // a text, such as an API token
)

// Code is a recovery code, and whether it was used.
type Code struct {
	Text secret.String
	Used bool
}

// Name is what people know it by.
func (e Entry) Name() string {
	switch {
	case e.Title != "":
		return e.Title
	case e.Issuer == "":
		return e.Account
	case e.Account == "":
		return e.Issuer
	}
	return e.Issuer + ": " + e.Account
}

// The bounds of an entry. An app's own are narrower; what is longer is no seed of anybody's.
const (
	mostKey   = 512 // bytes
	mostText  = 200 // characters of a name
	mostNotes = 10_000
	mostSteps = 86_400 // seconds of a period
	mostTags  = 20
	mostTag   = 64
	mostCodes = 100
	mostCode  = 100
	mostLong  = 16 << 10 // bytes of a Secret
)

// Fault is why a part of what was given is no entry.
type Fault struct {
	Place string // "line 3", "entry 12 (GitHub)"
	Why   string
}

// Error says where and why.
func (f Fault) Error() string { return f.Place + ": " + f.Why }

// Reading is what something held.
type Reading struct {
	Entries []Entry
	Faults  []Fault
	Others  int  // parts that hold no seed, such as logins without one
	Sealed  bool // it was encrypted: nobody puts a part of it right but where it comes from
}

// ErrFormat is that something as a whole is not of its format.
var ErrFormat = errors.New("not of this format")

// ErrEncrypted is that a file is encrypted, and that no password was given; ErrPassword that one was given which does not open it. Where
// it was altered that may be the reason, which nobody can tell apart.
var (
	ErrEncrypted = errors.New("it is encrypted, and no password was given")
	ErrPassword  = errors.New("the password does not open it: it is another, or the file was altered")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func (r *Reading) add(place string, e Entry, err error) {
	if err == nil {
		err = e.check()
	}
	if err != nil {
		r.Faults = append(r.Faults, Fault{place, err.Error()})
		return
	}
	r.Entries = append(r.Entries, e)
}

// check holds an entry to the bounds, and its texts to one form.
func (e *Entry) check() error {
	for _, s := range []*string{&e.Title, &e.Issuer, &e.Account, &e.Folder, &e.Icon} {
		if *s = tidy(*s); len([]rune(*s)) > mostText {
			return fmt.Errorf("a name has over %d characters", mostText)
		}
	}
	if e.Name() == "" {
		return errors.New("it has no name")
	}
	tags := e.Tags
	e.Tags = nil
	for _, t := range tags {
		if t = tidy(t); len([]rune(t)) > mostTag {
			return fmt.Errorf("a tag has over %d characters", mostTag)
		} else if t != "" {
			e.Tags = append(e.Tags, t)
		}
	}
	if len(e.Tags) > mostTags {
		return fmt.Errorf("it has over %d tags", mostTags)
	}
	if e.Notes = strings.ToValidUTF8(e.Notes, "�"); len([]rune(e.Notes)) > mostNotes {
		return fmt.Errorf("its notes have over %d characters", mostNotes)
	}
	return e.checkSecret()
}

// checkSecret holds what an entry keeps secret to the bounds of its kind. What it says holds nothing of it.
func (e *Entry) checkSecret() error {
	key := e.Key.Expose()
	if (e.Kind == Codes) != (len(e.Codes) > 0) || len(e.Codes) > mostCodes {
		return fmt.Errorf("recovery codes are 1 to %d, of an entry of their own", mostCodes)
	}
	switch e.Kind {
	case Codes:
		for _, c := range e.Codes {
			if text := c.Text.Expose(); text == "" || tidy(text) != text || len([]rune(text)) > mostCode {
				return fmt.Errorf("a recovery code is not a line of 1 to %d characters", mostCode)
			}
		}
		if len(key) > 0 || e.Scheme != (otp.Scheme{}) || e.Counter != 0 {
			return errors.New("it has recovery codes, and a seed as well")
		}
		return nil
	case Secret:
		if len(key) == 0 || len(key) > mostLong || !utf8.Valid(key) {
			return fmt.Errorf("its secret is not a text of 1 to %d bytes", mostLong)
		}
		if e.Scheme != (otp.Scheme{}) || e.Counter != 0 {
			return errors.New("its secret is a text, and a seed as well")
		}
		return nil
	}
	switch n := len(key); {
	case n == 0:
		return errors.New("it has no seed")
	case n > mostKey:
		return fmt.Errorf("its seed has %d bytes; at most %d are possible", n, mostKey)
	}
	if e.Scheme.Period > mostSteps {
		return fmt.Errorf("its period of %d seconds is over a day", e.Scheme.Period)
	}
	return e.Scheme.For(e.Kind)
}

// tidy is a text on one line, without what would not show.
func tidy(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�")))
}

// seed reads base32 as apps and people write it: in either case, with or without padding, in groups.
func seed(text string) (secret.Bytes, error) {
	clean := strings.TrimRight(strings.NewReplacer(" ", "", "-", "", "\t", "", "\u00a0", "").Replace(text), "=")
	if clean == "" {
		return secret.Bytes{}, errors.New("it has no seed")
	}
	if len(clean) > 2*mostKey {
		return secret.Bytes{}, fmt.Errorf("its seed has %d characters; at most %d are possible", len(clean), 2*mostKey)
	}
	// Bits at the end that make no whole byte are left out, as apps do: seeds of 6 or 11 characters are about.
	key := make([]byte, 0, len(clean)*5/8)
	bits, n := uint32(0), 0
	for i := range len(clean) {
		v := strings.IndexByte(base32Letters, clean[i])
		if v < 0 {
			v = strings.IndexByte(base32Small, clean[i]) // ToUpper would make an S of ſ
		}
		if v < 0 { // which letter it is would say a part of the seed
			clear(key)
			return secret.Bytes{}, errors.New("its seed is not base32 (letters A to Z and digits 2 to 7)")
		}
		if bits, n = bits<<5|uint32(v), n+5; n >= 8 {
			n -= 8
			key = append(key, byte(bits>>n))
		}
	}
	return secret.Own(key), nil
}

const (
	base32Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // RFC 4648, section 6
	base32Small   = "abcdefghijklmnopqrstuvwxyz"
)

// algorithm reads the names that apps give to the hashes; none is SHA1.
func algorithm(name string) (otp.Algorithm, error) {
	switch strings.TrimPrefix(strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToUpper(name)), "HMAC") {
	case "", "SHA", "SHA1":
		return otp.SHA1, nil
	case "SHA256":
		return otp.SHA256, nil
	case "SHA512":
		return otp.SHA512, nil
	}
	return "", fmt.Errorf("its algorithm is none of SHA1, SHA256 and SHA512")
}
