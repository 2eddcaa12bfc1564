package portable

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Format is what something is written in.
type Format string

// The formats that are read.
const (
	FormatURI       Format = "uri"       // otpauth:// and otpauth-migration://, one a line
	FormatQR        Format = "qr"        // a picture of those, PNG or JPEG
	FormatAegis     Format = "aegis"     // JSON of Aegis, in clear or encrypted
	Format2FAS      Format = "2fas"      // a backup of 2FAS, in clear or encrypted
	FormatBitwarden Format = "bitwarden" // JSON of Bitwarden, in clear or encrypted under a password
	FormatCSV       Format = "csv"
	FormatAvouch    Format = "avouch" // JSON of our own, which holds everything
	FormatAge       Format = "age"    // any of these, encrypted by age under a passphrase
)

// Formats lists them.
func Formats() []Format {
	return []Format{FormatURI, FormatQR, FormatAegis, Format2FAS, FormatBitwarden, FormatCSV, FormatAvouch, FormatAge}
}

// Listed names them, for who reads a message.
func Listed() string {
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// MostBytes is how large a thing may be that is read: no app's export of ten thousand seeds with pictures is larger.
const MostBytes = 10 << 20

// MostEntries is how many seeds one thing may hold.
const MostEntries = 10_000

// Read reads something of a format; the password is that of an encrypted file. ErrFormat, ErrEncrypted and ErrPassword are of the whole;
// what is wrong with parts is in the Reading. It ends soon after ctx does.
func Read(ctx context.Context, f Format, data []byte, password secret.String) (r Reading, err error) {
	sealed := f == FormatAge
	if sealed {
		if f, data, err = opened(data, password); err != nil {
			return r, err
		}
		defer clear(data)
		password = secret.String{} // it was that of age
	}
	if len(data) > MostBytes {
		return r, malformed("it has %d bytes; at most %d are read", len(data), MostBytes)
	}
	switch f {
	case FormatURI:
		r = URIs(string(data))
	case FormatQR:
		r, err = Picture(ctx, data)
	case FormatAegis:
		r, err = Aegis(ctx, data, password)
	case Format2FAS:
		r, err = TwoFAS(data, password)
	case FormatBitwarden:
		r, err = Bitwarden(data, password)
	case FormatCSV:
		r, err = CSV(string(data))
	case FormatAvouch:
		r, err = Avouch(data)
	default:
		return r, malformed("there is no format %q; there are %s", f, Listed())
	}
	if r.Sealed = r.Sealed || sealed; sealed && errors.Is(err, ErrEncrypted) {
		err = malformed("what is encrypted in it is encrypted again: decrypt it with age first")
	}
	return r.whole(err)
}

// whole is a reading that is neither empty nor too much, or why it is none.
func (r Reading) whole(err error) (Reading, error) {
	if err == nil && len(r.Entries)+len(r.Faults) > MostEntries {
		err = malformed("it has over %d entries", MostEntries)
	}
	if err == nil && len(r.Entries)+len(r.Faults)+r.Others == 0 {
		err = malformed("it is empty")
	}
	if err != nil {
		r.Clear()
		return Reading{}, err
	}
	return r, nil
}

// Heavy reports whether to Read something takes hundreds of megabytes, or seconds, whatever its size: whoever calls it lets few do it at once.
func Heavy(f Format, password secret.String) bool {
	return f == FormatAge || f == FormatQR || (f == FormatAegis || f == FormatBitwarden) && !password.IsZero()
}

// Clear forgets the seeds.
func (r *Reading) Clear() {
	for i := range r.Entries {
		r.Entries[i].Key.Clear()
		r.Entries[i].Codes = nil
	}
	r.Entries = nil
}

// Guess says of what format something seems to be, by how it begins; "" if of none.
func Guess(data []byte) Format {
	text := strings.TrimSpace(strings.TrimPrefix(string(data[:min(len(data), 4096)]), "\ufeff"))
	switch {
	case strings.HasPrefix(text, "\x89PNG") || strings.HasPrefix(text, "\xff\xd8\xff"):
		return FormatQR
	case isAge(data):
		return FormatAge
	case hasPrefixFold(text, "otpauth"):
		return FormatURI
	case !strings.HasPrefix(text, "{"):
		head, _, _ := strings.Cut(text, "\n")
		names := strings.FieldsFunc(strings.ToLower(head), func(r rune) bool { return r == ',' || r == ';' || r == '\t' })
		if slices.ContainsFunc(names, func(n string) bool { return columns[strings.Trim(n, "\" \r")] == "secret" }) {
			return FormatCSV
		}
		return ""
	}
	for _, f := range []struct {
		Format
		has string
	}{{FormatAvouch, `"` + avouchVersion + `"`}, {FormatAegis, `"header"`}, {Format2FAS, `"services`}, {FormatBitwarden, `"items"`}, {FormatBitwarden, `"passwordProtected"`}} {
		if strings.Contains(string(data), f.has) {
			return f.Format
		}
	}
	return ""
}
