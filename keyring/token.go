package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// ErrBadSignature means that the signature is not of this key and these bytes.
var ErrBadSignature = errors.New("the signature does not verify")

// ErrTokenLife means that a token without an expiry, or with one too far ahead, was to be signed.
var ErrTokenLife = errors.New("a token must expire within MaxTokenLife")

// The types of token that are signed (the JWS header typ). Nothing else is signed as a JWT: whoever checks one offline
// with the JWKS, and looks at nothing but the signature, may take it for an agent's. What is signed otherwise is a Statement.
const (
	TypeJWT         = "JWT"
	TypeAccessToken = "at+jwt" // RFC 9068
)

const thumbprintSize = 43 // base64url of 32 bytes

// headers are the encoded JWS headers of a key, each with its dot.
func headers(kid string, of line) map[string]string {
	h, types := map[string]string{}, []string{TypeJWT, TypeAccessToken}
	if of.use == useSession {
		types = types[1:]
	}
	for _, typ := range types {
		h[typ] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+of.algorithm+`","typ":"`+typ+`","kid":"`+kid+`"}`)) + "."
	}
	return h
}

// Sign makes a JWT of a type and claims (a JSON object) with the key of agents' tokens that signs now. It reads exp, and refuses a
// token that could outlive its key's place in the JWKS. The records of the keys are read first (reads are shared), so that what was
// revoked before signs nothing. Where a KMS holds the key, it is asked, for as long as it is given at most.
func (s *Signing) Sign(ctx context.Context, typ string, claims []byte) (token string, err error) {
	if token, err = s.sign(ctx, agents, typ, claims); err != nil {
		return "", fmt.Errorf("keyring.Sign: %w", err)
	}
	return token, nil
}

func (s *Signing) sign(ctx context.Context, l line, typ string, claims []byte) (token string, err error) {
	err = s.withSigner(ctx, l, func(_ string, key *openKey) error {
		token, err = s.signToken(ctx, key, typ, claims)
		return err
	})
	return token, err
}

// withSigner does something with the key of a line that signs now. The records are read for it, whatever is remembered: a key may have
// been revoked on another server a moment ago, and who did it was told that another one signs. A KMS may have ended it since then, so
// where that refuses it is asked who signs by now.
func (s *Signing) withSigner(ctx context.Context, l line, do func(kid string, key *openKey) error) error {
	tried, failed := "", error(nil)
	for {
		if keys, err := s.read(ctx); keys == nil && err != nil { // records that were read and do not open are in nobody's way
			return problem.New(problem.Unavailable, "The signing keys cannot be read now, so nothing can be signed. Try again shortly.").Because(err)
		}
		kid, key, err := s.ready(s.now(), l)
		if err != nil {
			return err
		}
		if kid == tried {
			return failed
		}
		if failed = do(kid, key); failed == nil || key.private != nil || tried != "" || errors.Is(failed, ErrSilent) {
			return failed
		}
		tried = kid
	}
}

func (s *Signing) signToken(ctx context.Context, key *openKey, typ string, claims []byte) (token string, err error) {
	now := s.now()
	var life struct {
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(claims, &life); err != nil {
		return "", fmt.Errorf("the claims are not a JSON object with a whole exp: %w", ErrTokenLife)
	}
	if latest := now.Add(MaxTokenLife + clockSlack).Unix(); life.Expires <= now.Unix() || life.Expires > latest {
		return "", ErrTokenLife
	}
	header, ok := key.header[typ]
	if !ok {
		return "", fmt.Errorf("type %q is not one that is signed", typ)
	}
	e := base64.RawURLEncoding
	out := make([]byte, 0, len(header)+e.EncodedLen(len(claims))+1+e.EncodedLen(rsaBits/8))
	out = e.AppendEncode(append(out, header...), claims)
	signature, err := s.signWith(ctx, key, out)
	if err != nil {
		return "", err
	}
	return string(e.AppendEncode(append(out, '.'), signature)), nil
}

// ready is the key of a line that signs, from the snapshot.
func (s *Signing) ready(now time.Time, l line) (kid string, key *openKey, err error) {
	set := s.set.Load()
	k := signerAt(now, set.lines[l])
	if k == nil || set.opened[k.KID] == nil {
		return "", nil, noSigner(ErrNoSigner)
	}
	return k.KID, set.opened[k.KID], nil
}

func signES256(key *ecdsa.PrivateKey, input []byte) (signature [2 * p256Size]byte, err error) {
	sum := sha256.Sum256(input)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return signature, err
	}
	r.FillBytes(signature[:p256Size])
	s.FillBytes(signature[p256Size:])
	return signature, nil
}

// verifyES256 refuses every other length (DER has one), zero, and numbers not below the order (ecdsa.Verify).
func verifyES256(key *ecdsa.PublicKey, input string, signature []byte) bool {
	if len(signature) != 2*p256Size {
		return false
	}
	sum := sha256.Sum256([]byte(input))
	r, s := new(big.Int).SetBytes(signature[:p256Size]), new(big.Int).SetBytes(signature[p256Size:])
	return ecdsa.Verify(key, sum[:], r, s)
}
