package keyring

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// pepper is the platform's stage of the API key digest. A version says which secret it is: up to 65,535 is derived from
// that version of the platform key, above it is version-65,536 of a pepper of its own (Config.Pepper). So giving one later
// does not silently change what an old version number means.
type pepper struct {
	secret.Hidden
	versions map[uint32]secret.Bytes
	newest   uint32
	dummy    secret.Bytes // the tenant's stage for ids that nobody has
}

const (
	ownPepper = 1 << 16
	pepperUse = "apikey pepper"
)

func newPepper(p *Platform, own secret.String) (pepper, error) {
	out := pepper{versions: map[uint32]secret.Bytes{}, newest: p.newest, dummy: newKey()}
	for v := range p.versions {
		key, err := p.derive(pepperUse, v)
		if err != nil {
			return pepper{}, err
		}
		out.versions[v] = key
	}
	if own.IsZero() {
		return out, nil
	}
	given, err := ParsePlatform([]byte(own.Expose()))
	if err != nil {
		return pepper{}, fmt.Errorf("the pepper: %w", err)
	}
	for v, key := range given.versions {
		out.versions[ownPepper+v] = key
	}
	out.newest = ownPepper + given.newest
	return out, nil
}

// ErrNoPepper means that a digest was made with a pepper that this process was not given.
var ErrNoPepper = errors.New("the pepper of this version was not given to this process")

// CurrentKeyVersions are the versions that a new API key's digest is made with, to be stored with it.
func (r *Ring) CurrentKeyVersions(ctx context.Context, t tenantdb.TenantID) (tenantVersion, platformVersion uint32, err error) {
	h, err := r.key(ctx, heldName{t, UseAPIKey, 0})
	if err != nil {
		return 0, 0, fmt.Errorf("keyring.CurrentKeyVersions: %w", err)
	}
	return h.version, r.pepper.newest, nil
}

// KeyDigest is the digest of an API key (API-KEYS.md), from h0 = SHA-256(key). keyID is the key's public id.
func (r *Ring) KeyDigest(ctx context.Context, t tenantdb.TenantID, keyID string, issuedAtNS int64, h0 [32]byte, tenantVersion, platformVersion uint32) ([32]byte, error) {
	platform, ok := r.pepper.versions[platformVersion]
	if !ok {
		return [32]byte{}, fmt.Errorf("keyring.KeyDigest: version %d: %w", platformVersion, ErrNoPepper)
	}
	if tenantVersion == 0 {
		return [32]byte{}, fmt.Errorf("keyring.KeyDigest: %w", ErrFormat)
	}
	h, err := r.key(ctx, heldName{t, UseAPIKey, tenantVersion})
	if err != nil {
		return [32]byte{}, fmt.Errorf("keyring.KeyDigest: %w", err)
	}
	return keyDigest(h.key, platform, t, keyID, issuedAtNS, h0), nil
}

// DummyDigest takes the time of KeyDigest and gives a digest that no key has, for ids that are unknown: compare with it
// and refuse. The secret behind it is random and dies with the process.
func (r *Ring) DummyDigest(keyID string, issuedAtNS int64, h0 [32]byte) [32]byte {
	r.keys.get(heldName{use: UseAPIKey, version: 1}, r.now())
	return keyDigest(r.pepper.dummy, r.pepper.versions[r.pepper.newest], tenantdb.TenantID{}, keyID, issuedAtNS, h0)
}

// keyDigest is frozen (testdata/vectors.json):
//
//	h1 = HMAC-SHA-512(tenant key, "apikey/v1/s1" | key id | issued_at_ns, 8 bytes, big endian | h0)
//	h2 = HMAC-SHA-512(pepper, "apikey/v1/s2" | tenant, 16 bytes | h1)
//	digest = SHA-256(h2)
//
// Only the key id varies in length, and all after it is of fixed size.
func keyDigest(tenantKey, platform secret.Bytes, t tenantdb.TenantID, keyID string, issuedAtNS int64, h0 [32]byte) [32]byte {
	m := hmac.New(sha512.New, tenantKey.Expose())
	b := make([]byte, 0, 128)
	b = append(append(b, "apikey/v1/s1"...), keyID...)
	b = binary.BigEndian.AppendUint64(b, uint64(issuedAtNS))
	m.Write(append(b, h0[:]...))
	h1 := m.Sum(make([]byte, 0, sha512.Size))
	m = hmac.New(sha512.New, platform.Expose())
	b = append(append(b[:0], "apikey/v1/s2"...), t[:]...)
	m.Write(append(b, h1...))
	return sha256.Sum256(m.Sum(h1[:0]))
}

// Pseudonym is a stable, opaque name for something of a tenant: the same for the same kind and id, unlinkable across
// tenants and kinds, and meaningless once the tenant's key is destroyed. 26 characters of [a-z2-7], 128 bits.
func (r *Ring) Pseudonym(ctx context.Context, t tenantdb.TenantID, kind, id string) (string, error) {
	h, err := r.key(ctx, heldName{t, UsePseudonym, 0})
	if err != nil {
		return "", fmt.Errorf("keyring.Pseudonym: %w", err)
	}
	return pseudonym(h.key, kind, id), nil
}

func pseudonym(key secret.Bytes, kind, id string) string {
	m := hmac.New(sha256.New, key.Expose())
	m.Write(appendField(appendField([]byte("avouch/pseudonym/v1\n"), kind), id))
	const lower = "abcdefghijklmnopqrstuvwxyz234567"
	return base32.NewEncoding(lower).WithPadding(base32.NoPadding).EncodeToString(m.Sum(nil)[:16])
}
