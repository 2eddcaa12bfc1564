package keyring

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

// Signer makes keys in a KMS that cannot leave it, and has it sign with them.
type Signer interface {
	// Make makes a key for ES256 or RS256, under a name where the KMS has names, and gives what it is asked for by, and its public part.
	// After an error there is none.
	Make(ctx context.Context, algorithm, name string) (ref string, public crypto.PublicKey, err error)
	// Sign signs a SHA-256 digest. The signature is as a JWS has it: of ES256 it is r and s of 32 bytes each.
	Sign(ctx context.Context, ref, algorithm string, digest []byte) ([]byte, error)
	// End has the KMS destroy a key, as soon as it does so. There is nothing wrong with a key that is gone.
	End(ctx context.Context, ref string) error
}

// Held is a KMS that holds signing keys.
type Held struct {
	Signer       Signer
	ID           string        // what records name it by
	Make         bool          // new keys are made there; without it, only those that are there sign
	Installation string        // is in the names of its keys there
	Patience     time.Duration // for a signature, waiting for a turn included; 0 is 5 s
}

const (
	heldMagic    = "H\x01"
	heldPatience = 5 * time.Second
	heldAtOnce   = 16 // signatures; others wait for their turn
	mostHeld     = 4 << 10
)

// ErrNotEnded means that a key that is needed no more is still in the KMS. It is tried again at the next rotation.
var ErrNotEnded = errors.New("a signing key that is needed no more was not ended in its KMS")

// ErrWrongSignature means that a KMS answered with something else than a signature by the key of the record.
var ErrWrongSignature = errors.New("what the key management gave is no signature by this key")

// Hold says which KMS holds signing keys. It is called before anything else, or never.
func (s *Signing) Hold(h Held) {
	if h.Patience == 0 {
		h.Patience = heldPatience
	}
	s.held = h
}

// reference is what a record has in place of a private part: the KMS, and what it knows the key by. It is wrapped as a private part
// is, so only who has the platform key writes one, and bound to the kid, which is a digest of the public part.
type reference struct {
	KMS string `json:"kms"`
	Key string `json:"key"`
}

func readReference(b []byte) (r reference, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if len(b) > mostHeld || d.Decode(&r) != nil || d.More() || r.KMS == "" || r.Key == "" {
		return reference{}, fmt.Errorf("%w: what was unwrapped names no key of a KMS", errProof)
	}
	return r, nil
}

// newKey makes a key of a line, where new keys are made.
func (s *Signing) newKey(ctx context.Context, l line) (SigningKey, error) {
	if !s.held.Make {
		return newSigningKey(ctx, s.wrapper, l)
	}
	ref, public, err := s.held.Signer.Make(ctx, l.algorithm, s.held.name())
	if err != nil {
		return SigningKey{}, fmt.Errorf("a key for %s in %s: %w", l.algorithm, s.held.ID, err)
	}
	made := reference{s.held.ID, ref}
	s.strays.add(made, "", s.now())
	k, err := s.record(ctx, l, made, public)
	if err != nil {
		s.strays.unstored(made)
		return SigningKey{}, errors.Join(err, s.endStrays(ctx, nil))
	}
	s.strays.add(made, k.KID, s.now())
	return k, nil
}

// name is of a key that is to be made. Its kid is not known before.
func (h *Held) name() string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(h.Installation))
	random := newKey()
	defer random.Clear()
	return "avouch-" + clean[:min(len(clean), 30)] + "-" + hex.EncodeToString(random.Expose()[:8])
}

// record makes the record of a key that a KMS has made, after it has signed something with it.
func (s *Signing) record(ctx context.Context, l line, made reference, public crypto.PublicKey) (SigningKey, error) {
	if !l.takes(public) {
		return SigningKey{}, fmt.Errorf("%w: %s made a key of another kind than was asked for", ErrRefused, made.KMS)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return SigningKey{}, err
	}
	k := SigningKey{KID: thumbprint(public), Algorithm: l.algorithm, Use: l.use, Public: der, made: made}
	if _, err := s.signFar(ctx, &openKey{of: l, public: public, held: made}, []byte("avouch/made/v1\n"+k.KID)); err != nil {
		return SigningKey{}, err
	}
	text, err := json.Marshal(made)
	if err != nil {
		return SigningKey{}, err
	}
	w, err := s.wrapper.Wrap(ctx, secret.Own(text), k.binding(true))
	if err == nil {
		err = w.check()
	}
	k.Private = seal(w, true)
	return k, err
}

// takes reports whether a public key is of the kind that the line's algorithm has.
func (l line) takes(public crypto.PublicKey) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return l.supported() && l.algorithm == ES256 && p.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return l.supported() && l.algorithm == RS256 && p.N.BitLen() == rsaBits && p.E == 1<<16+1
	}
	return false
}

// reference unwraps which key of which KMS the record is of.
func (k *SigningKey) reference(ctx context.Context, w KeyWrapper) (reference, error) {
	wrapped, held, err := k.sealed()
	if err != nil || !held {
		return reference{}, ErrFormat
	}
	plain, err := w.Unwrap(ctx, wrapped, k.binding(true))
	if err != nil {
		return reference{}, err
	}
	defer plain.Clear()
	return readReference(plain.Expose())
}

// openHeld proves the record of a key that a KMS holds: the name was wrapped for this kid, which the public part has.
func (k *SigningKey) openHeld(ctx context.Context, w KeyWrapper) (reference, crypto.PublicKey, error) {
	ref, err := k.reference(ctx, w)
	if err != nil {
		return reference{}, nil, err
	}
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil || !k.line().takes(public) || thumbprint(public) != k.KID {
		return reference{}, nil, fmt.Errorf("%w: the public key, the kid, the algorithm or the use is another's", errProof)
	}
	return ref, public, nil
}

// signWith makes a JWS signature, here or in the KMS.
func (s *Signing) signWith(ctx context.Context, key *openKey, input []byte) ([]byte, error) {
	if key.private != nil {
		return sign(key.private, input)
	}
	signature, err := s.signFar(ctx, key, input)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "The key management that holds the signing keys does not sign now, so nothing is signed. Try again shortly.").Because(err)
	}
	return signature, nil
}

// signFar has the KMS sign, and believes no signature that does not verify.
func (s *Signing) signFar(ctx context.Context, key *openKey, input []byte) ([]byte, error) {
	h := &s.held
	if h.Signer == nil || h.ID != key.held.KMS {
		return nil, fmt.Errorf("%w: the key is in %s, which this process was not given", ErrNoSigner, key.held.KMS)
	}
	ctx, cancel := context.WithTimeout(ctx, h.Patience)
	defer cancel()
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %d signatures are under way: %w", ErrSilent, heldAtOnce, context.Cause(ctx))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	sum := sha256.Sum256(input)
	signature, err := h.Signer.Sign(ctx, key.held.Key, key.of.algorithm, sum[:])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.ID, err)
	}
	if !verifies(key.public, string(input), signature) {
		return nil, fmt.Errorf("%s: %w", h.ID, ErrWrongSignature)
	}
	return signature, nil
}

// Refusing are the keys that sign, or come next, and that the KMS which holds them does not sign with: it says no, or gives something
// else, whatever that is. That it does not answer is another thing. Each is asked for one signature, of no token.
func (s *Signing) Refusing(ctx context.Context) (all []Unusable) {
	set, now := s.set.Load(), s.now()
	for i := range set.keys {
		k := &set.keys[i]
		key := set.opened[k.KID]
		if state := set.state(k, now); key == nil || key.private != nil || state != "signs" && state != "next" {
			continue
		}
		_, err := s.signFar(ctx, key, []byte("avouch/signs/v1\n"+k.KID))
		if err != nil && !errors.Is(err, ErrSilent) && ctx.Err() == nil {
			all = append(all, Unusable{k.KID, err})
		}
	}
	return all
}

// FromDER is a signature of ES256 as a JWS has it, from the form that X.509 has.
func FromDER(der []byte) ([]byte, error) {
	var inner cryptobyte.String
	out := make([]byte, 2*p256Size)
	s := cryptobyte.String(der)
	if !s.ReadASN1(&inner, asn1.SEQUENCE) || !s.Empty() {
		return nil, ErrBadSignature
	}
	for _, part := range [][]byte{out[:p256Size], out[p256Size:]} {
		var n []byte // without a sign, and without zeros before it
		if !inner.ReadASN1Integer(&n) || len(n) > len(part) {
			return nil, ErrBadSignature
		}
		copy(part[len(part)-len(n):], n)
	}
	if !inner.Empty() {
		return nil, ErrBadSignature
	}
	return out, nil
}

// Thumbprint is the kid of a public key (RFC 7638); "" if it is of no kind that tokens are signed with.
func Thumbprint(public crypto.PublicKey) string { return thumbprint(public) }
