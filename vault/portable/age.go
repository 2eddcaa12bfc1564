package portable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/avouch-dev/avouch/internal/secret"
)

const (
	ageIntro = "age-encryption.org/v1"
	// ageWork is scrypt's, as the program age has it: 256 MiB for a second. A file that asks for more is meant to exhaust us.
	ageWork = 18
	// LeastPassphrase is how many characters one must have that opens a whole vault.
	LeastPassphrase = 12
	mostRecipients  = 20
	mostRecipient   = 4096 // characters; those that withstand quantum computers have about 2,000
)

// Protection says who can read what is written: everybody who has it (Clear), those who have the key of a recipient, or who know the
// passphrase. One of them must be chosen: nothing is written in clear because something was forgotten. A passphrase takes 256 MiB and
// a second, in Read as in Write: whoever calls lets few do it at once.
type Protection struct {
	Clear      bool
	Recipients []string // public keys of age: age1...
	Passphrase secret.String
}

// Check refuses what is no protection.
func (p Protection) Check() error {
	chosen := 0
	for _, is := range []bool{p.Clear, len(p.Recipients) > 0, !p.Passphrase.IsZero()} {
		if is {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return unwritten("choose one of recipients, a passphrase, and no encryption")
	case !p.Passphrase.IsZero() && len([]rune(p.Passphrase.Expose())) < LeastPassphrase:
		return unwritten("a passphrase has at least %d characters", LeastPassphrase)
	}
	_, err := p.recipients()
	return err
}

// recipients are age's, of public keys.
func (p Protection) recipients() (all []age.Recipient, err error) {
	if len(p.Recipients) > mostRecipients {
		return nil, unwritten("at most %d recipients are possible", mostRecipients)
	}
	hybrid := 0
	for i, text := range p.Recipients {
		text = strings.TrimSpace(text)
		var r age.Recipient
		switch {
		case len(text) > mostRecipient:
			err = errors.New("too long")
		case strings.HasPrefix(text, "age1pq1"):
			hybrid++
			r, err = age.ParseHybridRecipient(text)
		default:
			r, err = age.ParseX25519Recipient(text)
		}
		if err != nil { // whose text may quote a private key
			return nil, unwritten("recipient %d is no public key of age (age1...)", i+1)
		}
		all = append(all, r)
	}
	if hybrid > 0 && hybrid < len(all) {
		return nil, unwritten("recipients of which only some withstand quantum computers (age1pq1...) protect like the others")
	}
	return all, nil
}

// sealed encrypts a text, as text. The work is scrypt's.
func (p Protection) sealed(plain []byte, work int) ([]byte, error) {
	to, err := p.recipients()
	if err != nil {
		return nil, err
	}
	if !p.Passphrase.IsZero() {
		r, err := age.NewScryptRecipient(p.Passphrase.Expose())
		if err != nil {
			return nil, fmt.Errorf("portable: %w", err)
		}
		r.SetWorkFactor(work)
		to = []age.Recipient{r}
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, to...)
	if err != nil {
		return nil, fmt.Errorf("portable: %w", err)
	}
	_, err = w.Write(plain)
	if err = errors.Join(err, w.Close(), text.Close()); err != nil {
		return nil, fmt.Errorf("portable: %w", err)
	}
	return out.Bytes(), nil
}

// isAge reports whether something was encrypted by age, as it is or as text.
func isAge(data []byte) bool {
	return bytes.HasPrefix(data, []byte(ageIntro)) || bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header))
}

// nobody opens nothing, and has the library say to whom something is encrypted.
type nobody struct{}

// Unwrap is for age.Identity.
func (nobody) Unwrap([]*age.Stanza) ([]byte, error) { return nil, age.ErrIncorrectIdentity }

// opened decrypts what was encrypted under a passphrase, and says what is in it.
func opened(data []byte, passphrase secret.String) (Format, []byte, error) {
	if len(data) > 2*MostBytes {
		return "", nil, malformed("it has %d bytes; at most %d are read", len(data), 2*MostBytes)
	}
	if !isAge(data) {
		return "", nil, malformed("it was not encrypted by age")
	}
	var id age.Identity = nobody{}
	wrong := ErrEncrypted
	if !passphrase.IsZero() {
		scrypt, err := age.NewScryptIdentity(passphrase.Expose())
		if err != nil {
			return "", nil, ErrPassword
		}
		scrypt.SetMaxWorkFactor(ageWork)
		id, wrong = scrypt, ErrPassword
	}
	var from io.Reader = bytes.NewReader(data)
	if text := bytes.TrimSpace(data); bytes.HasPrefix(text, []byte(armor.Header)) {
		from = armor.NewReader(bytes.NewReader(text))
	}
	r, err := age.Decrypt(from, id)
	var others *age.NoIdentityMatchError
	if errors.As(err, &others) {
		for _, kind := range others.StanzaTypes {
			if kind != "scrypt" {
				return "", nil, malformed("it is encrypted to keys of age, and not under a passphrase: decrypt it with yours first")
			}
		}
		return "", nil, wrong
	}
	if err != nil {
		return "", nil, malformed("its header is not as age has it, or the passphrase would cost more than 256 MiB to try")
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		clear(plain)
		return "", nil, malformed("its encrypted part was changed, or cut off")
	}
	f := Guess(plain)
	if f == "" || f == FormatAge {
		clear(plain)
		return "", nil, malformed("what is encrypted in it is of no format that is read")
	}
	return f, plain, nil
}
