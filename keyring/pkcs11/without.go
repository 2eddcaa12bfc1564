//go:build !pkcs11

package pkcs11

import (
	"errors"

	"github.com/avouch-dev/avouch/keyring"
)

// New says that there is no PKCS #11 in this program.
func New(Config) (keyring.Named, error) {
	return nil, errors.New("pkcs11.New: this program was built without PKCS #11: build it with CGO_ENABLED=1 go build -tags pkcs11 ./cmd/avouch, or choose another key management")
}
