package portable

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/avouch-dev/avouch/internal/secret"
)

// sealedFile is what makes an export of Bitwarden one that is encrypted under a password: what the key is made by, and the export in clear
// as a text that it encrypts. (libs/importer of its clients: BitwardenPasswordProtectedImporter.)
type sealedFile struct {
	Protected   bool   `json:"passwordProtected"`
	Salt        string `json:"salt"` // is used as it stands, and not decoded
	KDF         int    `json:"kdfType"`
	Iterations  int    `json:"kdfIterations"`
	Memory      int    `json:"kdfMemory"` // MiB
	Parallelism int    `json:"kdfParallelism"`
	Data        string `json:"data"`
}

// What the password may cost. Bitwarden lets people choose up to 2,000,000 rounds of PBKDF2, and 1 GiB for argon2id; its own choice is
// 600,000, or 64 MiB three times.
const (
	mostRounds   = 2_000_000
	mostMemory   = 256  // MiB
	mostOverall  = 1024 // MiB, in all passes
	mostParallel = 16
)

// open decrypts it.
func (s *sealedFile) open(password secret.String) ([]byte, error) {
	if !s.Protected {
		return nil, malformed("it is encrypted for the account that it comes from, and nobody else can open it: export it with a password, or without encryption")
	}
	nonce, text, mac, err := s.parts()
	if err != nil {
		return nil, err
	}
	if password.IsZero() {
		return nil, ErrEncrypted
	}
	master, err := s.key(password)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	key, err := hkdf.Expand(sha256.New, master, "enc", 32)
	if err != nil {
		return nil, malformed("its password cannot be tried")
	}
	defer clear(key)
	seal, err := hkdf.Expand(sha256.New, master, "mac", 32)
	if err != nil {
		return nil, malformed("its password cannot be tried")
	}
	defer clear(seal)
	m := hmac.New(sha256.New, seal)
	m.Write(nonce)
	m.Write(text)
	if !hmac.Equal(m.Sum(nil), mac) { // before anything is decrypted: what is wrong with the padding tells nobody anything
		return nil, ErrPassword
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, malformed("its password cannot be tried")
	}
	cipher.NewCBCDecrypter(block, nonce).CryptBlocks(text, text)
	pad := int(text[len(text)-1])
	if pad < 1 || pad > aes.BlockSize {
		clear(text)
		return nil, malformed("its encrypted part does not end as it must")
	}
	return text[:len(text)-pad], nil
}

// parts are those of the encrypted text: its kind, which is 2, a dot, and between bars the nonce, the text and what shows that it is whole.
func (s *sealedFile) parts() (nonce, text, mac []byte, err error) {
	rest, ok := strings.CutPrefix(s.Data, "2.")
	all := strings.Split(rest, "|")
	if !ok || len(all) != 3 {
		return nil, nil, nil, malformed("its encrypted part is of a kind that is not known here")
	}
	for k, to := range []*[]byte{&nonce, &text, &mac} {
		if *to, err = base64.StdEncoding.DecodeString(all[k]); err != nil {
			return nil, nil, nil, malformed("its encrypted part is not base64")
		}
	}
	if len(nonce) != aes.BlockSize || len(text) == 0 || len(text)%aes.BlockSize != 0 || len(mac) != sha256.Size {
		return nil, nil, nil, malformed("its encrypted part was changed, or cut off")
	}
	return nonce, text, mac, nil
}

// key is what the password is stretched to.
func (s *sealedFile) key(password secret.String) ([]byte, error) {
	switch s.KDF {
	case 0:
		if s.Iterations < 1 || s.Iterations > mostRounds {
			return nil, malformed("its password would cost more than %d rounds to try, or none", mostRounds)
		}
		key, err := pbkdf2.Key(sha256.New, password.Expose(), []byte(s.Salt), s.Iterations, 32)
		if err != nil {
			return nil, malformed("its password cannot be tried")
		}
		return key, nil
	case 1:
		if s.Iterations < 1 || s.Memory < 1 || s.Parallelism < 1 || s.Memory > mostMemory || s.Iterations > mostOverall/s.Memory || s.Parallelism > mostParallel {
			return nil, malformed("its password would cost more than %d MiB to try, or %d in all passes, or nothing", mostMemory, mostOverall)
		}
		salt := sha256.Sum256([]byte(s.Salt))
		return argon2.IDKey([]byte(password.Expose()), salt[:], uint32(s.Iterations), uint32(s.Memory)<<10, uint8(s.Parallelism), 32), nil //nolint:gosec // bounded above
	}
	return nil, malformed("its password makes the key in a way that is not known here")
}

// unsealed is an export in clear that was encrypted under a password.
func (s *sealedFile) unsealed(password secret.String) (f bitwardenFile, err error) {
	plain, err := s.open(password)
	if err != nil {
		return f, err
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &f); err != nil || f.Encrypted {
		return f, malformed("what is encrypted in it is no JSON of Bitwarden in clear")
	}
	return f, nil
}
