package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	envelopeMagic = "E\x01"
	gcmOverhead   = 12 + 16 // nonce and tag
)

// dataBinding is the additional data of sealed data: tenant, item, field, item version. The key version is not in it:
// else rotating a key would re-encrypt what it protects.
func dataBinding(t tenantdb.TenantID, item, field string, version uint64) []byte {
	d := appendField([]byte("avouch/data/v1\n"), t[:])
	d = appendField(d, item)
	d = appendField(d, field)
	return binary.BigEndian.AppendUint64(d, version)
}

// Seal encrypts one field of one version of an item, under a data key made for this write alone and wrapped by the
// tenant's key. The result names its format and the tenant key's version.
func (r *Ring) Seal(ctx context.Context, t tenantdb.TenantID, item, field string, version uint64, plaintext []byte) ([]byte, error) {
	wrap, err := r.key(ctx, heldName{t, UseWrap, 0})
	if err != nil {
		return nil, fmt.Errorf("keyring.Seal: %w", err)
	}
	key := newKey()
	defer key.Clear()
	a, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("keyring.Seal: %w", err)
	}
	w := wrapUnder(wrap.aead, string(UseWrap), wrap.version, key, Binding{t, item})
	out := make([]byte, 0, len(envelopeMagic)+len(wrappedMagic)+7+len(w.KeyID)+len(w.Blob)+len(plaintext)+gcmOverhead)
	out = w.append(append(out, envelopeMagic...))
	return a.Seal(out, nil, plaintext, dataBinding(t, item, field, version)), nil
}

// Open decrypts what Seal made, for the same tenant, item, field and item version. ErrSealed means that any of them, or
// any byte, is another; ErrDestroyed and ErrLost that the key is gone.
func (r *Ring) Open(ctx context.Context, t tenantdb.TenantID, item, field string, version uint64, sealed []byte) ([]byte, error) {
	w, body, err := parseEnvelope(sealed)
	if err != nil {
		return nil, fmt.Errorf("keyring.Open: %w", err)
	}
	wrap, err := r.key(ctx, heldName{t, UseWrap, w.KeyVersion})
	if err != nil {
		return nil, fmt.Errorf("keyring.Open: %w", err)
	}
	key, err := unwrapUnder(wrap.aead, w, Binding{t, item})
	if err != nil {
		return nil, fmt.Errorf("keyring.Open: %w", err)
	}
	defer key.Clear()
	a, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("keyring.Open: %w", ErrSealed)
	}
	plaintext, err := a.Open(nil, nil, body, dataBinding(t, item, field, version))
	if err != nil {
		return nil, fmt.Errorf("keyring.Open: %w", ErrSealed)
	}
	return plaintext, nil
}

// SealedUnder is the version of the tenant's key that a sealed value needs, for rotation and its progress.
func SealedUnder(sealed []byte) (version uint32, err error) {
	w, _, err := parseEnvelope(sealed)
	if err != nil {
		return 0, fmt.Errorf("keyring.SealedUnder: %w", err)
	}
	return w.KeyVersion, nil
}

// parseEnvelope takes an envelope apart: magic, wrapped data key, and nonce, ciphertext and tag.
func parseEnvelope(b []byte) (w Wrapped, body []byte, err error) {
	if len(b) < len(envelopeMagic) || string(b[:len(envelopeMagic)]) != envelopeMagic {
		return Wrapped{}, nil, ErrFormat
	}
	w, body, err = readWrapped(b[len(envelopeMagic):])
	if err != nil {
		return Wrapped{}, nil, err
	}
	if w.KeyID != string(UseWrap) || len(body) < gcmOverhead {
		return Wrapped{}, nil, ErrFormat
	}
	return w, body, nil
}

// Commitment is what a log says of a sealed value, so that another in its place, an older one of its own too, is found: SHA-256 over
// its item version and its ciphertext. The wrap is not in it: rotating a key changes nothing.
func Commitment(sealed []byte, version uint64) ([32]byte, error) {
	_, body, err := parseEnvelope(sealed)
	if err != nil {
		return [32]byte{}, fmt.Errorf("keyring.Commitment: %w", err)
	}
	return sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte("avouch/sealed/v1\n"), version), body...)), nil
}
