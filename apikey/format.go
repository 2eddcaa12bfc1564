package apikey

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Kind is what a key stands for.
type Kind string

// The kinds.
const (
	Owner   Kind = "owner"   // the organisation itself
	Service Kind = "service" // one of its services
	Data    Kind = "data"    // somebody to whom the organisation gave it, for what is the organisation's own: nobody to Avouch
)

// The parts of a key: avk_live_<id>_<secret><checksum>. Only letters, digits and underscores, so that a double click
// selects it whole.
const (
	tagSize      = 9 // "avk_live_"
	idSize       = 11
	secretSize   = 43
	checksumSize = 6
	keySize      = tagSize + idSize + 1 + secretSize + checksumSize
	prefixSize   = 8 // what is shown as the prefix: the beginning of the tag
)

// digits of Base62 ascend in ASCII, so numbers of one width compare as their texts do.
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// The largest id, 64 bits, and the largest secret, 256 bits.
const (
	maxID     = "LygHa16AHYF"
	maxSecret = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"
)

func tag(k Kind, live bool) string {
	t := map[Kind]string{Owner: "avk_", Service: "avs_", Data: "avd_"}[k]
	if live {
		return t + "live_"
	}
	return t + "test_"
}

// Parsed is a key whose form and checksum are right. It proves nothing yet.
type Parsed struct {
	Kind Kind
	Live bool
	ID   string // public: what the key is looked up by
	Hint string // the key with its secret left out, for people
}

// ErrForm means that a text is no key: mistyped, cut off, or something else altogether.
var ErrForm = errors.New("not a key")

// Parse reads a key. It costs no hash and no query to refuse one that was mistyped.
func Parse(raw string) (Parsed, error) {
	if len(raw) != keySize || raw[tagSize+idSize] != '_' {
		return Parsed{}, ErrForm
	}
	p := Parsed{ID: raw[tagSize : tagSize+idSize]}
	switch raw[:4] {
	case "avk_":
		p.Kind = Owner
	case "avs_":
		p.Kind = Service
	case "avd_":
		p.Kind = Data
	default:
		return Parsed{}, ErrForm
	}
	switch raw[4:tagSize] {
	case "live_":
		p.Live = true
	case "test_":
	default:
		return Parsed{}, ErrForm
	}
	body, sum := raw[:keySize-checksumSize], raw[keySize-checksumSize:]
	secretPart := body[tagSize+idSize+1:]
	if sum != checksum(body) || !isNumber(p.ID, maxID) || !isNumber(secretPart, maxSecret) {
		return Parsed{}, ErrForm
	}
	p.Hint = hint(raw)
	return p, nil
}

// hint is tag, id and last four: enough to tell keys apart, too little to be one.
func hint(raw string) string { return raw[:tagSize+idSize] + "_..." + raw[keySize-4:] }

func isNumber(s, most string) bool {
	for i := range len(s) {
		if strings.IndexByte(digits, s[i]) < 0 {
			return false
		}
	}
	return s <= most
}

// mint makes a new key.
func mint(k Kind, live bool) (secret.String, Parsed) {
	var random [8 + 32]byte
	rand.Read(random[:]) // never fails: crypto/rand aborts the program instead
	defer clear(random[:])
	raw := compose(k, live, binary.BigEndian.Uint64(random[:8]), random[8:])
	return secret.Text(raw), Parsed{Kind: k, Live: live, ID: raw[tagSize : tagSize+idSize], Hint: hint(raw)}
}

// newID is a public id for a key that was made elsewhere.
func newID() string {
	var random [8]byte
	rand.Read(random[:]) // never fails, see mint
	return base62(new(big.Int).SetBytes(random[:]), idSize)
}

func compose(k Kind, live bool, id uint64, secretBytes []byte) string {
	body := tag(k, live) + base62(new(big.Int).SetUint64(id), idSize) + "_" + base62(new(big.Int).SetBytes(secretBytes), secretSize)
	return body + checksum(body)
}

// checksum is CRC-32 (IEEE): it finds every wrong character and every two neighbours that are swapped.
func checksum(body string) string {
	return base62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), checksumSize)
}

// base62 writes a number in exactly size digits.
func base62(n *big.Int, size int) string {
	b := make([]byte, size)
	base, rest := big.NewInt(int64(len(digits))), new(big.Int)
	for i := size - 1; i >= 0; i-- {
		n.DivMod(n, base, rest)
		b[i] = digits[rest.Int64()]
	}
	return string(b)
}
