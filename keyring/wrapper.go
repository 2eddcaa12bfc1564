package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// KeyWrapper encrypts keys under a key that it never shows: the platform key in this process's memory (Local), or a key
// in a KMS. What it wraps can be unwrapped only with the same Binding.
type KeyWrapper interface {
	// Wrap encrypts a key under the newest version of the wrapper's own.
	Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error)
	// Unwrap decrypts what Wrap made, under whatever version made it. The caller owns the key and clears it.
	Unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error)
	// Describe names the wrapper's key, for operators.
	Describe(ctx context.Context) (Description, error)
}

// Binding is what a wrapped key is for. With the wrapping key's id and version it is the additional data of the wrap, so
// a wrapped key that is moved to another tenant or item does not open.
type Binding struct {
	Tenant tenantdb.TenantID
	Item   string // what is wrapped: "apikey/3", "signing/<kid>"
}

// Description says which key a wrapper wraps under.
type Description struct {
	Kind     string // "local", or the kind of KMS
	KeyID    string
	Version  uint32    // wraps under this one
	Versions []uint32  // unwraps under these, in rising order
	Since    time.Time // when that version was made; zero where nobody says so
}

// Wrapped is an encrypted key, and which version of which key opens it.
type Wrapped struct {
	KeyID      string // at most 255 bytes
	KeyVersion uint32
	Blob       []byte // the wrapper's own format, at most 65,535 bytes
}

// The errors that callers tell apart. None of them is ever answered by making a new key.
var (
	// ErrUnknownTenant means that the key store never had keys of this tenant, or that it is not the right key store.
	ErrUnknownTenant = errors.New("the key store has no keys of this tenant")
	// ErrLost means that a key is gone that nobody destroyed.
	ErrLost = errors.New("a key is missing from the key store and was not destroyed on purpose")
	// ErrDestroyed means that a key was destroyed on purpose; what it sealed is gone for good.
	ErrDestroyed = errors.New("the key was destroyed")
	// ErrDamaged means that a stored key cannot be read.
	ErrDamaged = errors.New("a key in the key store is damaged")
	// ErrSealed means that a sealed value does not open: altered, moved, or sealed under another key.
	ErrSealed = errors.New("the sealed value does not open: it was altered, moved, or sealed under another key")
	// ErrFormat means that bytes are not a sealed value at all.
	ErrFormat = errors.New("not a sealed value of a known format")
	// ErrRefused means that a KMS answered, and does not do what it was asked: it will not mend itself.
	ErrRefused = errors.New("the key management refuses")
	// ErrNotGiven means that a process was not given what wraps the keys now, a version of the platform key or a KMS, and so cannot know
	// what it is that does not open.
	ErrNotGiven = errors.New("this process was not given what wraps the keys now; start it again with all versions of the platform key, or with the key management")
	// ErrSilent means that a KMS does not answer, or cannot now: the same may be well a moment later.
	ErrSilent = errors.New("the key management does not answer")
	// ErrHeld means that another process has held a lock of the key store, or beside a file of keys, for longer than it is waited for.
	ErrHeld = errors.New("another process holds the lock (a lock ends with its process)")
)

const wrappedMagic = "W\x01"

// append writes the one form of w: magic, length and key id, version, length and blob.
func (w Wrapped) append(b []byte) []byte {
	b = append(b, wrappedMagic...)
	b = append(b, byte(len(w.KeyID)))
	b = append(b, w.KeyID...)
	b = binary.BigEndian.AppendUint32(b, w.KeyVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.Blob)))
	return append(b, w.Blob...)
}

// check refuses what append could not write.
func (w Wrapped) check() error {
	if len(w.KeyID) == 0 || len(w.KeyID) > 0xff || len(w.Blob) == 0 || len(w.Blob) > 0xffff || w.KeyVersion == 0 {
		return fmt.Errorf("%w: a wrapped key of impossible size or version", ErrFormat)
	}
	return nil
}

// readWrapped reads a wrapped key from the front of b and returns what follows it.
func readWrapped(b []byte) (w Wrapped, rest []byte, err error) {
	if len(b) < len(wrappedMagic)+1 || string(b[:len(wrappedMagic)]) != wrappedMagic {
		return Wrapped{}, nil, ErrFormat
	}
	b = b[len(wrappedMagic):]
	n := int(b[0])
	if b = b[1:]; len(b) < n+6 {
		return Wrapped{}, nil, ErrFormat
	}
	w.KeyID, w.KeyVersion = string(b[:n]), binary.BigEndian.Uint32(b[n:])
	size := int(binary.BigEndian.Uint16(b[n+4:]))
	if b = b[n+6:]; len(b) < size {
		return Wrapped{}, nil, ErrFormat
	}
	w.Blob = b[:size:size]
	return w, b[size:], w.check()
}

// wrapData is the additional data of every wrap: tenant, item, key id, key version, each with its length.
func wrapData(b Binding, keyID string, version uint32) []byte {
	d := appendField([]byte("avouch/wrap/v1\n"), b.Tenant[:])
	d = appendField(d, b.Item)
	d = appendField(d, keyID)
	return binary.BigEndian.AppendUint32(d, version)
}

// AssociatedData ties a wrap to its place for a wrapper whose ciphertext says by itself which version made it: tenant, item and key id.
func AssociatedData(b Binding, keyID string) []byte { return wrapData(b, keyID, 0) }

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

// wrapUnder encrypts a key under a key of this process. One key version makes at most 2^32 wraps (SP 800-38D, random
// nonces); at 500 a second that takes longer than the 90 days after which it is rotated.
func wrapUnder(a cipher.AEAD, keyID string, version uint32, key secret.Bytes, b Binding) Wrapped {
	return Wrapped{keyID, version, a.Seal(nil, nil, key.Expose(), wrapData(b, keyID, version))}
}

func unwrapUnder(a cipher.AEAD, w Wrapped, b Binding) (secret.Bytes, error) {
	key, err := a.Open(nil, nil, w.Blob, wrapData(b, w.KeyID, w.KeyVersion))
	if err != nil {
		return secret.Bytes{}, ErrSealed
	}
	return secret.Own(key), nil
}

// newAEAD is AES-256-GCM that takes its 96-bit nonces from crypto/rand and puts them before the ciphertext.
func newAEAD(key secret.Bytes) (cipher.AEAD, error) {
	if len(key.Expose()) != keySize {
		return nil, fmt.Errorf("a key of %d bytes instead of %d", len(key.Expose()), keySize)
	}
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
