package portable

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/avouch-dev/avouch/internal/otp"
)

const scheme = "otpauth://"

// URIs reads addresses, one a line: otpauth:// of one seed, otpauth-migration:// of several. Batches of one migration belong together,
// and none may be missing.
func URIs(text string) Reading {
	var all addresses
	all.lines("", text)
	return all.end()
}

// addresses gathers what addresses hold, which may be in several files.
type addresses struct {
	read  Reading
	moved migration
}

func (a *addresses) lines(file, text string) {
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		if line = strings.TrimSpace(line); line != "" {
			a.take(fmt.Sprintf("%sline %d", file, n), line)
		}
	}
}

func (a *addresses) take(place, line string) {
	if hasPrefixFold(line, migrationScheme) {
		a.moved.take(&a.read, place, line)
		return
	}
	e, err := URI(line)
	a.read.add(place, e, err)
}

func (a *addresses) end() Reading {
	a.moved.end(&a.read)
	return a.read
}

// URI reads one address as the Key Uri Format of Google Authenticator has it, and as apps write it. It is taken apart by hand: a '#'
// that was not encoded begins no fragment, and where a name ends is where its first '?' is.
func URI(text string) (e Entry, err error) {
	if !hasPrefixFold(text, scheme) {
		return e, errors.New("it does not begin with otpauth://")
	}
	kind, rest, ok := strings.Cut(text[len(scheme):], "/")
	if !ok {
		return e, errors.New("it has neither a kind nor a name")
	}
	label, query, _ := strings.Cut(rest, "?")
	given, err := parameters(query)
	if err != nil {
		return e, err
	}
	if e.Issuer, e.Account, err = names(label, given["issuer"]); err != nil {
		return e, err
	}
	if e.Key, err = seed(given["secret"]); err != nil {
		return e, err
	}
	return e, e.schemed(strings.ToLower(kind), given)
}

// parameters are those of a query, each once: of two seeds nobody knows which is meant.
func parameters(query string) (map[string]string, error) {
	given := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name == "" {
			continue
		}
		if name = strings.ToLower(name); name == "secret" {
			value, _, _ = strings.Cut(value, "#") // base32 holds none: there the fragment begins, if there is one
		}
		value, err := url.QueryUnescape(value)
		if err != nil {
			return nil, fmt.Errorf("its parameter %s is not encoded as an address must be", known(name))
		}
		if _, twice := given[name]; twice {
			return nil, fmt.Errorf("its parameter %s is there twice", known(name))
		}
		given[name] = value
	}
	return given, nil
}

// known is the name of a parameter that is in the format: of another, all that can be said is that it is none.
func known(name string) string {
	switch name {
	case "secret", "issuer", "algorithm", "digits", "period", "counter", "encoder", "image":
		return name
	}
	return "of another name"
}

// names takes a label apart: issuer:account, where the colon may be encoded, and blanks may follow it. The issuer of the query is the
// one that counts, and a label that begins with neither has none.
func names(label, issuer string) (string, string, error) {
	text, err := url.PathUnescape(label)
	if err != nil {
		text = label // a '%' that was meant
	}
	text = strings.TrimSpace(text)
	if issuer = strings.TrimSpace(issuer); issuer != "" {
		if hasPrefixFold(text, issuer) {
			if account, ok := strings.CutPrefix(strings.TrimLeft(text[len(issuer):], " "), ":"); ok {
				return issuer, account, nil
			}
		}
		return issuer, text, nil // another's colon
	}
	if before, account, ok := strings.Cut(text, ":"); ok {
		return before, account, nil
	}
	return "", text, nil
}

// schemed reads how codes are made.
func (e *Entry) schemed(kind string, given map[string]string) error {
	if kind == "steam" || strings.EqualFold(given["encoder"], "steam") {
		e.Kind, e.Scheme = otp.Steam, otp.OfSteam()
		return nil
	}
	e.Kind, e.Scheme = otp.Kind(kind), otp.Usual()
	var err error
	if e.Scheme.Algorithm, err = algorithm(given["algorithm"]); err != nil {
		return err
	}
	digits, err := number(given, "digits", 6)
	if err != nil {
		return err
	}
	e.Scheme.Digits = int(min(digits, 99))
	switch e.Kind {
	case otp.TOTP:
		period, err := number(given, "period", 30)
		e.Scheme.Period = int64(min(period, 1<<40))
		return err
	case otp.HOTP:
		e.Scheme.Period = 0
		e.Counter, err = number(given, "counter", 0)
		return err
	}
	return errors.New("its kind is none of totp, hotp and steam")
}

func number(given map[string]string, name string, otherwise uint64) (uint64, error) {
	text := strings.TrimSpace(given[name])
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("its %s is not a whole number", name)
	}
	return n, nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// Address writes an entry as an address that apps read. It holds the seed.
func (e Entry) Address() string {
	var b strings.Builder
	b.WriteString(scheme)
	kind := e.Kind
	if kind == otp.Steam {
		kind = otp.TOTP // which apps know that know nothing of Steam, and the encoder tells the others
	}
	b.WriteString(string(kind) + "/")
	if e.Issuer != "" || strings.Contains(e.Account, ":") {
		b.WriteString(escaped(e.Issuer) + ":")
	}
	b.WriteString(escaped(e.Account) + "?secret=" + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(e.Key.Expose()))
	if e.Issuer != "" {
		b.WriteString("&issuer=" + escaped(e.Issuer))
	}
	fmt.Fprintf(&b, "&algorithm=%s&digits=%d", e.Scheme.Algorithm, e.Scheme.Digits)
	switch e.Kind {
	case otp.HOTP:
		fmt.Fprintf(&b, "&counter=%d", e.Counter)
	case otp.Steam:
		fmt.Fprintf(&b, "&period=%d&encoder=steam", e.Scheme.Period)
	default:
		fmt.Fprintf(&b, "&period=%d", e.Scheme.Period)
	}
	return b.String()
}

// escaped has a colon encoded too: it would end the issuer. A blank is %20: apps do not know that + is one.
func escaped(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
