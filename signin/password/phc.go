package password

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// scheme is how a hash is made. Two hashes of one scheme take the same work.
type scheme struct {
	name   string
	memory uint32 // KiB
	passes uint32 // of PBKDF2: iterations
	lanes  uint8
	size   int // bytes of the result
}

const (
	argon2id     = "argon2id"
	pbkdf2SHA256 = "pbkdf2-sha256"
	saltSize     = 16
)

// The schemes that new hashes are made by.
var (
	argon2idNow = scheme{name: argon2id, memory: 64 << 10, passes: 3, lanes: 1, size: 32}
	pbkdf2Now   = scheme{name: pbkdf2SHA256, passes: 600_000, size: 32}
	quick       = scheme{name: argon2id, memory: 64, passes: 1, lanes: 1, size: 32}
)

// What a stored hash may ask for at most. A permit stands for 64 MiB; whoever writes a row must not be able to have more taken.
const (
	mostMemory     = 64 << 10
	mostPasses     = 10
	mostLanes      = 4
	mostIterations = 2_000_000
	leastSalt      = 8
	mostSalt       = 64
	leastSum       = 16
	mostSum        = 64
)

// phc is a hash and what it was made with: a PHC string, taken apart.
type phc struct {
	scheme
	salt, sum []byte
}

var (
	errPHC  = errors.New("not a PHC string of a kind that is known here")
	encoded = base64.RawStdEncoding.Strict()
)

// String is the PHC string.
func (p phc) String() string {
	made := fmt.Sprintf("$%s$v=19$m=%d,t=%d,p=%d", p.name, p.memory, p.passes, p.lanes)
	if p.name == pbkdf2SHA256 {
		made = fmt.Sprintf("$%s$i=%d,l=%d", p.name, p.passes, p.size)
	}
	return made + "$" + encoded.EncodeToString(p.salt) + "$" + encoded.EncodeToString(p.sum)
}

// parsePHC reads exactly what String writes, within the bounds.
func parsePHC(text string) (p phc, err error) {
	if len(text) > 512 {
		return phc{}, errPHC
	}
	parts := strings.Split(text, "$")
	if len(parts) < 5 || parts[0] != "" {
		return phc{}, errPHC
	}
	p.name = parts[1]
	switch {
	case p.name == argon2id && len(parts) == 6 && parts[2] == "v=19":
		err = p.argon2id(parts[3])
	case p.name == pbkdf2SHA256 && len(parts) == 5:
		err = p.pbkdf2(parts[2])
	default:
		err = errPHC
	}
	if err != nil {
		return phc{}, err
	}
	var bad error
	p.salt, err = encoded.DecodeString(parts[len(parts)-2])
	p.sum, bad = encoded.DecodeString(parts[len(parts)-1])
	if err != nil || bad != nil || len(p.salt) < leastSalt || len(p.salt) > mostSalt || len(p.sum) < leastSum || len(p.sum) > mostSum {
		return phc{}, errPHC
	}
	if p.name == pbkdf2SHA256 && p.size != len(p.sum) {
		return phc{}, errPHC
	}
	p.size = len(p.sum)
	if p.String() != text { // line ends in base64, for one
		return phc{}, errPHC
	}
	return p, nil
}

func (p *phc) argon2id(text string) error {
	n, err := numbers(text, "m", "t", "p")
	if err != nil || n[0] > mostMemory || n[1] < 1 || n[1] > mostPasses || n[2] < 1 || n[2] > mostLanes || n[0] < 8*n[2] {
		return errPHC
	}
	p.memory, p.passes, p.lanes = n[0], n[1], uint8(n[2]) //nolint:gosec // at most mostLanes
	return nil
}

func (p *phc) pbkdf2(text string) error {
	n, err := numbers(text, "i", "l")
	if err != nil || n[0] < 1 || n[0] > mostIterations {
		return errPHC
	}
	p.passes, p.size = n[0], int(n[1])
	return nil
}

// numbers reads "m=1,t=2" with just these names in this order, each number in its only form.
func numbers(text string, names ...string) ([]uint32, error) {
	parts := strings.Split(text, ",")
	if len(parts) != len(names) {
		return nil, errPHC
	}
	all := make([]uint32, len(names))
	for i, part := range parts {
		digits, found := strings.CutPrefix(part, names[i]+"=")
		n, err := strconv.ParseUint(digits, 10, 32)
		if !found || err != nil || strconv.FormatUint(n, 10) != digits {
			return nil, errPHC
		}
		all[i] = uint32(n)
	}
	return all, nil
}

// derive hashes a password as this hash was made.
func (p phc) derive(clean []byte) ([]byte, error) {
	if p.name == pbkdf2SHA256 {
		return pbkdf2.Key(sha256.New, string(clean), p.salt, int(p.passes), p.size)
	}
	return argon2.IDKey(clean, p.salt, p.passes, p.memory, p.lanes, uint32(p.size)), nil //nolint:gosec // at most mostSum
}

func (p phc) equal(sum []byte) bool { return subtle.ConstantTimeCompare(p.sum, sum) == 1 }

// heavy reports whether to derive leaves so much garbage that it is not left to the collector's own time.
func (p phc) heavy() bool { return p.memory >= 4<<10 }
