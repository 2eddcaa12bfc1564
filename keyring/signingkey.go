package keyring

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	p256Size = 32
)

// SigningKey is the record of a token signing key. It outlives the key itself: what a key once signed can be checked for
// ever, and a kid is never used twice.
type SigningKey struct {
	KID       string // RFC 7638 thumbprint of the public key
	Algorithm string // "ES256" or "RS256"; the only source of the algorithm when a signature is checked
	Use       string // "token" or "session"
	Public    []byte // PKIX, DER
	Private   []byte // PKCS #8, or which key of a KMS it is, wrapped and bound to the kid; nil once destroyed
	CreatedAt time.Time
	SignsFrom time.Time // signs from this instant until a newer key does
	RetiresAt time.Time // leaves the JWKS at this instant; zero while no newer key signs
	RevokedAt time.Time // zero, or the emergency: every token of this key is refused

	damage error     // why what was read is no record
	made   reference // of a new key that a KMS holds
}

func (k *SigningKey) revoked() bool   { return !k.RevokedAt.IsZero() }
func (k *SigningKey) destroyed() bool { return len(k.Private) == 0 }

// published reports whether the key is in the JWKS, and its tokens are accepted.
func (k *SigningKey) published(now time.Time) bool {
	return !k.revoked() && !k.destroyed() && (k.RetiresAt.IsZero() || now.Before(k.RetiresAt))
}

func signingBinding(kid string) Binding { return Binding{tenantdb.Platform, "signing/" + kid} }

// sealed takes the private part apart: what is wrapped in it, and whether that is the name of a key in a KMS.
func (k *SigningKey) sealed() (w Wrapped, held bool, err error) {
	rest, held := bytes.CutPrefix(k.Private, []byte(heldMagic))
	w, rest, err = readWrapped(rest)
	if err != nil || len(rest) != 0 {
		return Wrapped{}, held, ErrFormat
	}
	return w, held, nil
}

// seal is the private part of a record.
func seal(w Wrapped, held bool) []byte {
	if held {
		return w.append([]byte(heldMagic))
	}
	return w.append(nil)
}

// binding is the place that the private part is sealed to. The name of a key never opens as a key, nor the other way about.
func (k *SigningKey) binding(held bool) Binding {
	if held {
		return signingBinding("kms/" + k.Use + "/" + k.KID)
	}
	return k.line().binding(k.KID)
}

// newSigningKey makes a key of a line that is in no list yet, in this process.
func newSigningKey(ctx context.Context, w KeyWrapper, l line) (SigningKey, error) {
	private, err := l.generate()
	if err != nil {
		return SigningKey{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return SigningKey{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return SigningKey{}, err
	}
	plain := secret.Own(der)
	defer plain.Clear()
	kid := thumbprint(private.Public())
	wrapped, err := w.Wrap(ctx, plain, l.binding(kid))
	if err != nil {
		return SigningKey{}, err
	}
	if err := proves(ctx, w, wrapped, l.binding(kid), plain); err != nil {
		return SigningKey{}, err
	}
	return SigningKey{KID: kid, Algorithm: l.algorithm, Use: l.use, Public: public, Private: seal(wrapped, false)}, nil
}

// open unwraps the private key and proves the record by it: kid, algorithm and public key belong to the private key, and
// that was wrapped by someone who has the platform key. So a row that was only written into the database is no key.
func (k *SigningKey) open(ctx context.Context, w KeyWrapper) (crypto.Signer, error) {
	wrapped, _, err := k.sealed()
	if err != nil {
		return nil, err
	}
	plain, err := w.Unwrap(ctx, wrapped, k.binding(false))
	if err != nil {
		return nil, err
	}
	defer plain.Clear()
	key, err := x509.ParsePKCS8PrivateKey(plain.Expose())
	if err != nil {
		return nil, fmt.Errorf("%w: what was unwrapped is no PKCS #8", errProof)
	}
	private, ok := k.line().fits(key)
	if !ok {
		return nil, fmt.Errorf("%w: a key of algorithm %.20q and use %.20q is not supported", errProof, k.Algorithm, k.Use)
	}
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil || !samePublic(private.Public(), public) || thumbprint(private.Public()) != k.KID {
		return nil, fmt.Errorf("%w: the public key or the kid is not that of the private key", errProof)
	}
	return private, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// coordinates are the two of a public key, base64url.
func coordinates(p *ecdsa.PublicKey) (x, y string) {
	point, err := p.Bytes()
	if err != nil || len(point) != 1+2*p256Size {
		return "", "" // not a point of P-256: its thumbprint is nobody's
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(point[1 : 1+p256Size]), encode(point[1+p256Size:])
}

// keyID is the RFC 7638 thumbprint of a P-256 key.
func keyID(p *ecdsa.PublicKey) string {
	x, y := coordinates(p)
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
