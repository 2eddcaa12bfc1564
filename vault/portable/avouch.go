package portable

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"errors"
	"io"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

const avouchVersion = "avouch-vault/1"

// avouchFile is our own format, which holds all that an entry is. Its entries are read one by one, so that each has a fault of its own.
type avouchFile struct {
	Format  string            `json:"format"`
	Entries []json.RawMessage `json:"entries"`
}

type avouchEntry struct {
	Kind      otp.Kind      `json:"kind"`
	Name      string        `json:"name,omitempty"`
	Issuer    string        `json:"issuer,omitempty"`
	Account   string        `json:"account,omitempty"`
	Secret    string        `json:"secret,omitempty"` // base32
	Algorithm otp.Algorithm `json:"algorithm,omitempty"`
	Digits    int           `json:"digits,omitempty"`
	Period    int64         `json:"period,omitempty"`
	Counter   uint64        `json:"counter,omitempty"`
	Codes     []avouchCode  `json:"codes,omitempty"`
	Text      string        `json:"text,omitempty"` // of a plain secret
	Folder    string        `json:"folder,omitempty"`
	Tags      []string      `json:"tags,omitempty"`
	Notes     string        `json:"notes,omitempty"`
	Icon      string        `json:"icon,omitempty"`
}

type avouchCode struct {
	Code string `json:"code"`
	Used bool   `json:"used,omitempty"`
}

// Avouch reads our own format. Fields that it does not know are faults: what they mean would be lost.
func Avouch(data []byte) (r Reading, err error) {
	var f avouchFile
	if strictly(data, &f) != nil || f.Entries == nil {
		return r, malformed("it is no JSON of Avouch")
	}
	if f.Format != avouchVersion {
		return r, malformed("it is not of the format %s", avouchVersion)
	}
	for i, text := range f.Entries {
		var a avouchEntry
		if strictly(text, &a) != nil { // whose text may quote what it does not understand
			r.add(placed(i, Entry{}), Entry{}, errors.New("its fields are not those of "+avouchVersion))
			continue
		}
		e, err := a.entry()
		r.add(placed(i, e), e, err)
	}
	return r, nil
}

func strictly(data []byte, to any) error {
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(to); err != nil {
		return err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows")
	}
	return nil
}

func (a *avouchEntry) entry() (e Entry, err error) {
	e = Entry{
		Kind: a.Kind, Title: a.Name, Issuer: a.Issuer, Account: a.Account, Counter: a.Counter, Folder: a.Folder, Tags: a.Tags, Notes: a.Notes, Icon: a.Icon,
		Scheme: otp.Scheme{Algorithm: a.Algorithm, Digits: a.Digits, Period: a.Period},
	}
	for _, c := range a.Codes {
		e.Codes = append(e.Codes, Code{secret.Text(c.Code), c.Used})
	}
	switch {
	case (a.Text != "") != (a.Kind == Secret):
		return e, errors.New("a text is what a secret has, and no other kind")
	case a.Kind == Secret:
		e.Key = secret.Own([]byte(a.Text))
	case a.Kind == Codes:
	default:
		e.Key, err = seed(a.Secret)
		return e, err
	}
	if a.Secret != "" {
		return e, errors.New("it has a seed, which its kind has not")
	}
	return e, nil
}

func written(e Entry) avouchEntry {
	a := avouchEntry{
		Kind: e.Kind, Name: e.Title, Issuer: e.Issuer, Account: e.Account, Algorithm: e.Scheme.Algorithm, Digits: e.Scheme.Digits, Period: e.Scheme.Period,
		Counter: e.Counter, Folder: e.Folder, Tags: e.Tags, Notes: e.Notes, Icon: e.Icon,
	}
	for _, c := range e.Codes {
		a.Codes = append(a.Codes, avouchCode{c.Text.Expose(), c.Used})
	}
	switch e.Kind {
	case Secret:
		a.Text = string(e.Key.Expose())
	case Codes:
	default:
		a.Secret = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(e.Key.Expose())
	}
	return a
}

// writeAvouch writes our own format.
func writeAvouch(out *bytes.Buffer, entries []Entry) error {
	f := struct {
		Format  string        `json:"format"`
		Entries []avouchEntry `json:"entries"`
	}{avouchVersion, []avouchEntry{}}
	for _, e := range entries {
		f.Entries = append(f.Entries, written(e))
	}
	w := json.NewEncoder(out)
	w.SetEscapeHTML(false)
	w.SetIndent("", "  ")
	return w.Encode(f)
}
