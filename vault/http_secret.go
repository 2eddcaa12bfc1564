package vault

import (
	"encoding/base32"
	"strings"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/vault/portable"
)

// SecretFields are what a request brings to be kept.
type SecretFields struct {
	URI       secret.String    `json:"uri,omitempty" doc:"otpauth://totp/... or otpauth://hotp/..., as in the picture that a site shows"`
	Secret    secret.String    `json:"secret,omitempty" doc:"The seed in base32; of the type secret, the text itself"`
	Algorithm string           `json:"algorithm,omitempty" enum:"SHA1,SHA256,SHA512" doc:"SHA1 by default"`
	Digits    int              `json:"digits,omitempty" minimum:"5" maximum:"10" doc:"6 by default"`
	Period    int64            `json:"period,omitempty" minimum:"1" maximum:"86400" doc:"Seconds, 30 by default"`
	Counter   *int64           `json:"counter,omitempty" minimum:"0" doc:"Of the next code, for hotp"`
	Codes     *[]secret.String `json:"codes,omitempty" minItems:"1" maxItems:"100" doc:"Recovery codes, in their order"`
}

// read fills what is to be kept, of the kind that it says or that the body makes plain.
func (b *SecretFields) read(n *Wanted) error {
	if !b.URI.IsZero() {
		return b.readURI(n)
	}
	switch n.Kind {
	case "":
		return invalid("type", "is required, or uri")
	case Codes:
		if b.Codes != nil {
			for _, code := range *b.Codes {
				n.content.Codes = append(n.content.Codes, strings.TrimSpace(code.Expose()))
			}
		}
		return nil
	case Secret:
		n.content.Text = []byte(b.Secret.Expose())
		return nil
	}
	seed, err := decodeSeed(b.Secret)
	if err != nil {
		return err
	}
	n.content.Key, n.content.Algorithm, n.content.Digits, n.content.Period = seed, otp.Algorithm(b.Algorithm), b.Digits, b.Period
	usual := otp.Usual()
	if n.Kind == Steam {
		usual = otp.OfSteam()
	}
	if n.content.Algorithm == "" {
		n.content.Algorithm = usual.Algorithm
	}
	if n.content.Digits == 0 {
		n.content.Digits = usual.Digits
	}
	if n.content.Period == 0 && n.Kind != HOTP {
		n.content.Period = usual.Period
	}
	if b.Counter != nil {
		n.Counter = *b.Counter
	}
	return nil
}

func invalid(field, why string) error { return flawed(notKept, field, why) }

// flawed is of a whole with one field that is wrong.
func flawed(says, field, why string) error {
	w := &wrong{}
	w.add(field, "%s", why)
	return w.problem(says)
}

// decodeSeed reads base32 as people write it. What it says of a wrong one holds nothing of it.
func decodeSeed(s secret.String) ([]byte, error) {
	text := strings.TrimRight(strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(s.Expose())), "=")
	if text == "" {
		return nil, invalid("secret", "is required: the seed in base32, or uri")
	}
	// Bits at the end that make no whole byte are left out, as an import does.
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil || len(seed) == 0 {
		return nil, invalid("secret", "is not base32 (letters A to Z and digits 2 to 7)")
	}
	return seed, nil
}

func (b *SecretFields) readURI(n *Wanted) error {
	if !b.Secret.IsZero() || b.Codes != nil {
		return invalid("uri", "holds the secret: leave out secret and codes")
	}
	e, err := portable.URI(b.URI.Expose())
	if err != nil {
		return invalid("uri", "is no otpauth:// address of a seed: "+err.Error())
	}
	if n.Kind != "" && n.Kind != Kind(e.Kind) {
		e.Key.Clear()
		return invalid("type", "is another than the one in uri")
	}
	from := wanted(&e, "")
	n.Kind, n.content, n.Counter = from.Kind, from.content, from.Counter
	n.About = from.About
	return nil
}
