package keyring

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

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
	platform *Platform // whose version counts, where the pepper comes from it
	dir      string    // of the key store
	seen     *atomic.Pointer[followed]
	dummy    secret.Bytes // the tenant's stage for ids that nobody has
}

const (
	ownPepper = 1 << 16
	pepperUse = "apikey pepper"
)

func newPepper(p *Platform, own secret.String, dir string) (pepper, error) {
	out := pepper{versions: map[uint32]secret.Bytes{}, dummy: newKey(), platform: p, dir: dir, seen: &atomic.Pointer[followed]{}}
	if p == nil && own.IsZero() {
		return pepper{}, errors.New("without a platform key, the digests of API keys want a pepper of their own: AVOUCH_API_KEY_PEPPER_FILE names it, and `avouch keyring new-pepper` makes it")
	}
	if p != nil {
		out.newest = p.newest
		for v := range p.versions {
			key, err := p.derive(pepperUse, v)
			if err != nil {
				return pepper{}, err
			}
			out.versions[v] = key
		}
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

// Retired reports whether a pepper was taken away: it is older than the newest here, and was not given. One that is newer
// than all here may be on other servers already.
func (r *Ring) Retired(platformVersion uint32) bool {
	_, given := r.pepper.versions[platformVersion]
	return !given && platformVersion < r.pepper.newest
}

// HasPepper reports whether this process was given a version of the pepper.
func (r *Ring) HasPepper(version uint32) bool {
	_, given := r.pepper.versions[version]
	return given
}

// PepperName says what a version of the pepper comes from: the platform key of that version, or a pepper of its own.
func PepperName(version uint32) Wrapping {
	if version > ownPepper {
		return Wrapping{"pepper", version - ownPepper}
	}
	return Wrapping{"platform/pepper", version}
}

// KeyVersion names the two secrets that a digest is made with.
type KeyVersion struct{ Tenant, Platform uint32 }

// CurrentKeyVersions are the versions that a new API key's digest is made with, to be stored with it. It asks the key store:
// what is in memory here may have been replaced or destroyed by another process, and a digest made with that would end with it.
// The tenant's secret is in memory afterwards.
func (r *Ring) CurrentKeyVersions(ctx context.Context, t tenantdb.TenantID) (tenantVersion, platformVersion uint32, err error) {
	live, last, err := r.Versions(t, UseAPIKey)
	if err == nil && live == 0 {
		err = fmt.Errorf("all %d versions of %s/%s: %w", last, t, UseAPIKey, ErrDestroyed)
	}
	if err == nil {
		_, err = r.key(ctx, heldName{t, UseAPIKey, live})
	}
	if err == nil {
		platformVersion, err = r.pepper.current()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("keyring.CurrentKeyVersions: %w", outage(err))
	}
	return live, platformVersion, nil
}

// Outdated reports whether a digest was made with other secrets than this process takes for the present ones. It may be wrong
// for 30 seconds after they were replaced elsewhere, and costs nothing: whoever acts on it asks CurrentKeyVersions first.
func (r *Ring) Outdated(ctx context.Context, t tenantdb.TenantID, v KeyVersion) bool {
	h, err := r.key(ctx, heldName{t, UseAPIKey, 0})
	if err != nil {
		return false
	}
	platform, err := r.pepper.current()
	return err == nil && v != KeyVersion{h.version, platform}
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

// InMemory reports whether KeyDigest with this version of a tenant's secret would read nothing.
func (r *Ring) InMemory(t tenantdb.TenantID, tenantVersion uint32) bool {
	_, ok := r.keys.get(heldName{t, UseAPIKey, tenantVersion}, r.now())
	return ok
}

// Refusing an API key takes one time, whatever it is that makes it no key: of the two secrets behind a digest, the tenant's
// may be in memory or have to be read, and of an id that nobody has there is none. So whoever refuses reads and unwraps a
// secret once. KeyDigest has done so unless InMemory said that it would not: then PretendRead is called after it, and
// PretendDigest, which makes a digest too, instead of it. Their secrets are nobody's. An error says that the key store cannot
// be read: then nothing is refused, as no secret that is not in memory could be.

// PretendRead takes the time of reading a tenant's secret.
func (r *Ring) PretendRead(ctx context.Context) error {
	now, mark := r.now(), r.keys.mark()
	h, err := r.load(ctx, decoy)
	if err != nil {
		return fmt.Errorf("keyring.PretendRead: %w", err)
	}
	r.keys.put(decoy, timed[held]{h, now}, mark) // as one that was read is
	return nil
}

// PretendDigest takes the time of a KeyDigest that reads the tenant's secret.
func (r *Ring) PretendDigest(ctx context.Context, keyID string, h0 [32]byte) error {
	for range 2 { // once for InMemory and once for KeyDigest
		r.InMemory(decoy.tenant, decoy.version)
	}
	if err := r.Usable(ctx, decoy.tenant); err != nil { // so does KeyDigest
		return err
	}
	err := r.PretendRead(ctx)
	digest := keyDigest(r.pepper.dummy, r.pepper.versions[r.pepper.newest], tenantdb.TenantID{}, keyID, 0, h0)
	subtle.ConstantTimeCompare(digest[:], make([]byte, len(digest)))
	return err
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

// Derive makes 256 secret bits from a message, for one purpose of one tenant: the same whenever it is asked on any server, until
// the tenant's key for pseudonyms is renewed or destroyed. What is derived need not be stored anywhere, only its hash. Whoever
// has the database alone can derive nothing.
func (r *Ring) Derive(ctx context.Context, t tenantdb.TenantID, purpose string, message []byte) ([32]byte, error) {
	h, err := r.key(ctx, heldName{t, UsePseudonym, 0})
	if err != nil {
		return [32]byte{}, fmt.Errorf("keyring.Derive: %w", err)
	}
	return derived(h.key, purpose, message), nil
}

// SeedMark names a seed of one-time codes: the same wherever an organisation keeps it, so that rooms tell whether they keep the same one,
// and none opens anything for that. Whoever has the database alone learns which are equal, and no more. Zeros behind a seed are left out,
// as HMAC does: the codes are the same.
func (r *Ring) SeedMark(ctx context.Context, t tenantdb.TenantID, seed []byte) ([]byte, error) {
	if len(seed) <= sha256.BlockSize {
		seed = bytes.TrimRight(seed, "\x00")
	}
	m, err := r.Derive(ctx, t, "otp-seed/v1", seed)
	if err != nil {
		return nil, err
	}
	return m[:], nil
}

// derived is frozen (testdata/vectors.json). Its label keeps it apart from pseudonyms, which are made with the same key, and
// each part is written with its length.
func derived(key secret.Bytes, purpose string, message []byte) [32]byte {
	m := hmac.New(sha256.New, key.Expose())
	m.Write(appendField(appendField([]byte("avouch/derive/v1\n"), purpose), string(message)))
	return [32]byte(m.Sum(nil))
}
