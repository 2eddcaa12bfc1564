package portable

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/avouch-dev/avouch/internal/otp"
)

// columns are the names that a column may have, here and in the exports of password managers, by what it holds.
var columns = map[string]string{
	"secret": "secret", "totp": "secret", "otp": "secret", "otpauth": "secret", "uri": "secret", "login_totp": "secret", "seed": "secret", "key": "secret", "otpurl": "secret", "otpsecret": "secret",
	"issuer": "issuer", "service": "issuer", "name": "name", "title": "name",
	"account": "account", "username": "account", "login_username": "account", "user": "account", "email": "email",
	"type": "type", "kind": "type", "algorithm": "algorithm", "algo": "algorithm", "digits": "digits", "period": "period", "counter": "counter",
	"folder": "folder", "group": "folder", "grouping": "place", "vault": "place", "category": "place", "tags": "tags", "notes": "notes", "note": "notes", "extra": "extra",
}

// instead are the columns that count where a row says nothing in the usual one.
var instead = map[string]string{"account": "email", "folder": "place", "notes": "extra"}

// logins are what password managers call what they keep, in the column that says of ours how codes are made: that has no say in it.
var logins = []string{"login", "note", "card", "creditcard", "identity", "alias"}

// CSV reads a table whose first line names its columns, in any order: secret (base32, or a whole address), and of issuer, name,
// account, type, algorithm, digits, period, counter, folder, tags and notes what there is. It may be divided by commas, semicolons or
// tabs. What password managers export is such a table; their other columns, and what has no seed, are passed over.
func CSV(text string) (r Reading, err error) {
	text = strings.TrimPrefix(text, "\ufeff")
	head, _, _ := strings.Cut(text, "\n")
	lines := csv.NewReader(strings.NewReader(text))
	lines.TrimLeadingSpace, lines.FieldsPerRecord, lines.Comma = true, -1, divider(head)
	names, err := lines.Read()
	if err != nil {
		return r, malformed("its first line names no columns")
	}
	at := map[string]int{}
	for i, name := range names {
		what := columns[strings.ToLower(strings.TrimSpace(name))]
		if what == "" {
			continue
		}
		if _, twice := at[what]; twice {
			return r, malformed("two of its columns are for the %s", what)
		}
		at[what] = i
	}
	if _, ok := at["secret"]; !ok {
		return r, malformed("none of its columns is the secret")
	}
	for {
		values, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) { // whose text may quote what it does not understand
			return r, malformed("line %d is not as CSV must be", bad.Line)
		}
		if err != nil {
			return r, malformed("it is not as CSV must be")
		}
		line, _ := lines.FieldPos(0)
		row(func(what string) string {
			if i, ok := at[what]; ok && i < len(values) {
				return unquoted(strings.TrimSpace(values[i]))
			}
			return ""
		}, fmt.Sprintf("line %d", line), &r)
	}
}

func divider(head string) rune {
	best := ','
	for _, d := range ";\t" {
		if strings.Count(head, string(d)) > strings.Count(head, string(best)) {
			best = d
		}
	}
	return best
}

func row(value func(what string) string, place string, r *Reading) {
	text := value("secret")
	if text == "" {
		r.Others++
		return
	}
	e, err := authenticatorKey(text)
	for what, to := range map[string]*string{"issuer": &e.Issuer, "account": &e.Account, "folder": &e.Folder, "notes": &e.Notes} {
		if v := cmp.Or(value(what), value(instead[what])); v != "" {
			*to = v
		}
	}
	if name := value("name"); name != "" {
		if e.Issuer == "" {
			e.Issuer = name
		} else if e.Account == "" {
			e.Account = name
		}
	}
	for tag := range strings.FieldsFuncSeq(value("tags"), func(r rune) bool { return strings.ContainsRune(dividers, r) }) {
		e.Tags = append(e.Tags, strings.TrimSpace(tag))
	}
	if err == nil && !strings.Contains(text, "://") { // an address says all of it
		err = e.columned(value)
	}
	r.add(place, e, err)
}

// columned is how codes are made, where the seed stands alone.
func (e *Entry) columned(value func(string) string) (err error) {
	if kind := strings.ToLower(value("type")); kind != "" && !slices.Contains(logins, kind) {
		e.Kind = otp.Kind(kind)
	}
	if e.Kind == otp.Steam {
		e.Scheme = otp.OfSteam()
		return nil
	}
	if e.Kind != otp.TOTP && e.Kind != otp.HOTP {
		return errors.New("its type is none of totp, hotp and steam")
	}
	if e.Scheme.Algorithm, err = algorithm(value("algorithm")); err != nil {
		return err
	}
	if text := value("digits"); text != "" {
		if e.Scheme.Digits, err = strconv.Atoi(text); err != nil {
			return errors.New("its digits are not a number")
		}
	}
	if e.Kind == otp.HOTP {
		e.Scheme.Period = 0
		e.Counter, err = number(map[string]string{"counter": value("counter")}, "counter", 0)
		return err
	}
	if text := value("period"); text != "" {
		if e.Scheme.Period, err = strconv.ParseInt(text, 10, 64); err != nil {
			return errors.New("its period is not a number of seconds")
		}
	}
	return nil
}
