package pkcs11

import (
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Config says which key wraps.
type Config struct {
	Module  string        // the library of the token's maker: /usr/lib/softhsm/libsofthsm2.so
	Token   string        // the token's label
	Key     string        // the label of the AES keys; each has its version as CKA_ID, a number
	PIN     secret.String // of the user
	Timeout time.Duration // of an operation; 0 is 5 s
}
