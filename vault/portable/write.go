package portable

import (
	"bytes"
	"encoding/base32"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/otp"
)

// Written lists the formats that are written.
func Written() []Format { return []Format{FormatAvouch, FormatURI, FormatCSV} }

// ErrWrite is that nothing was written; what it is wrapped in says why, and holds no secret.
var ErrWrite = errors.New("nothing was written")

func unwritten(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrWrite, fmt.Sprintf(format, args...))
}

// Holds says why a format cannot hold an entry: kinds that only FormatAvouch has, in others. Addresses leave out folders, tags and notes,
// and neither they nor tables hold a name beside issuer and account.
func Holds(f Format, e Entry) error {
	_, err := e.in(f)
	return err
}

// Write writes entries in a format, protected: all or none. ErrWrite is that the protection or the format is none, that the format cannot
// hold one of them, or that there is nothing, or too much, to write.
func Write(f Format, entries []Entry, p Protection) ([]byte, error) {
	return write(f, entries, p, ageWork)
}

func write(f Format, entries []Entry, p Protection, work int) (data []byte, err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !slices.Contains(Written(), f) {
		return nil, unwritten("there is no format %q to write", f)
	}
	if len(entries) == 0 || len(entries) > MostEntries {
		return nil, unwritten("there are %d entries to write; 1 to %d are possible", len(entries), MostEntries)
	}
	fit := make([]Entry, len(entries))
	for i, e := range entries {
		if fit[i], err = e.in(f); err != nil {
			return nil, unwritten("%s: %v", placed(i, e), err)
		}
	}
	var out bytes.Buffer
	switch f {
	case FormatAvouch:
		err = writeAvouch(&out, fit)
	case FormatCSV:
		err = writeCSV(&out, fit)
	default:
		for _, e := range fit {
			out.WriteString(e.Address() + "\n")
		}
	}
	defer func() {
		if !p.Clear || err != nil {
			clear(out.Bytes())
		}
	}()
	switch {
	case err != nil:
		return nil, fmt.Errorf("portable.Write: %w", err)
	case out.Len() > MostBytes: // it could not be read again
		return nil, unwritten("it would have over %d bytes: write a part of it at a time", MostBytes)
	case p.Clear:
		return out.Bytes(), nil
	}
	return p.sealed(out.Bytes(), work)
}

// in is an entry in the form in which a format holds it.
func (e Entry) in(f Format) (Entry, error) {
	err := e.check()
	if err == nil && f != FormatAvouch {
		err = e.forApps(f)
	}
	return e, err
}

// forApps makes of an entry what formats of others can hold.
func (e *Entry) forApps(f Format) error {
	if e.Kind == Codes || e.Kind == Secret {
		return fmt.Errorf("the format %s has no entries of the kind %s", f, e.Kind)
	}
	if e.Issuer == "" && e.Account == "" {
		e.Issuer = e.Title
	}
	for _, t := range e.Tags {
		if f == FormatCSV && strings.ContainsAny(t, dividers) {
			return fmt.Errorf("a tag of it holds one of %s, which divide tags in the format csv", dividers)
		}
	}
	return nil
}

// dividers are between the tags in a table.
const dividers = ",;|"

// writeCSV writes a table as CSV reads it.
func writeCSV(out *bytes.Buffer, entries []Entry) error {
	w := csv.NewWriter(out)
	lines := [][]string{{"issuer", "account", "secret", "type", "algorithm", "digits", "period", "counter", "folder", "tags", "notes"}}
	for _, e := range entries {
		period, counter := fmt.Sprint(e.Scheme.Period), ""
		if e.Kind == otp.HOTP {
			period, counter = "", fmt.Sprint(e.Counter)
		}
		line := []string{
			e.Issuer, e.Account, base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(e.Key.Expose()), string(e.Kind), string(e.Scheme.Algorithm),
			fmt.Sprint(e.Scheme.Digits), period, counter, e.Folder, strings.Join(e.Tags, ";"), e.Notes,
		}
		for i := range line {
			line[i] = quoted(line[i])
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}

// quoted is a cell that a spreadsheet does not take for a formula, which could send the seeds beside it anywhere. Whoever may name an
// entry is not always who opens the table.
func quoted(s string) string {
	if formula(s) {
		return "'" + s
	}
	return s
}

// unquoted is a cell as it was before it was quoted.
func unquoted(s string) string {
	if rest, ok := strings.CutPrefix(s, "'"); ok && formula(rest) {
		return rest
	}
	return s
}

// formula reports whether a spreadsheet may take a cell for one, or we for a quoted one.
func formula(s string) bool {
	s = strings.TrimLeft(s, "' \t\r\n\u00a0")
	return s != "" && strings.ContainsRune("=+-@＝＋－＠|%", []rune(s)[0])
}
