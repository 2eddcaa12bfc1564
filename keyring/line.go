package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// The algorithms that tokens are signed with.
const (
	ES256 = "ES256"
	RS256 = "RS256"
)

// What signing keys are for. A key of one use signs and checks nothing of the other, and its private part is sealed with its use:
// a record whose use is rewritten in the database does not open.
const (
	useToken   = "token"   // agents' tokens, and statements
	useSession = "session" // access tokens of people
)

// rsaBits is the size of RSA keys: as strong as P-256, nearly.
const rsaBits = 3072

// line is the keys that succeed each other: each line has a signer and a standby of its own.
type line struct{ use, algorithm string }

// agents is the one line that there always is. The others begin when somebody asks for them (Ensure), and their records say so to
// every server.
var agents = line{useToken, ES256}

func (l line) supported() bool {
	return l == agents || l.use == useSession && (l.algorithm == ES256 || l.algorithm == RS256)
}

func (k *SigningKey) line() line { return line{k.Use, k.Algorithm} }

// of is the keys of a line.
func (l line) of(keys []SigningKey) []SigningKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k SigningKey) bool { return k.line() != l })
}

// lines are those that there are, and agents.
func lines(keys []SigningKey) []line {
	all := []line{agents}
	for i := range keys {
		if l := keys[i].line(); l.supported() && !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// generate makes a private key of a line.
func (l line) generate() (crypto.Signer, error) {
	if l.algorithm == RS256 {
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// fits reports whether a private key is of the kind that the line's algorithm signs with.
func (l line) fits(key any) (crypto.Signer, bool) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, l.supported() && l.algorithm == ES256 && key.Curve == elliptic.P256()
	case *rsa.PrivateKey:
		return key, l.supported() && l.algorithm == RS256 && key.N.BitLen() == rsaBits
	}
	return nil, false
}

// binding is the place that a private key is sealed to.
func (l line) binding(kid string) Binding {
	b := signingBinding(kid)
	if l.use != useToken {
		b.Item = "signing/" + l.use + "/" + kid
	}
	return b
}

// sign makes a JWS signature with the algorithm of the key's kind.
func sign(key crypto.Signer, input []byte) ([]byte, error) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		signature, err := signES256(key, input)
		return signature[:], err
	case *rsa.PrivateKey:
		sum := sha256.Sum256(input)
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	}
	return nil, fmt.Errorf("a key of %T signs nothing", key)
}

// verifies checks a signature with the algorithm of the key's kind. The length is exact: RS256's is the modulus's.
func verifies(key crypto.PublicKey, input string, signature []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return verifyES256(key, input, signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256([]byte(input))
		return len(signature) == key.Size() && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// modulus is an RSA public key's two numbers, base64url.
func modulus(p *rsa.PublicKey) (n, e string) {
	encode := base64.RawURLEncoding.EncodeToString
	return encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
}

// thumbprint is the RFC 7638 thumbprint of a public key; nobody's if it is of no kind that we have.
func thumbprint(p crypto.PublicKey) string {
	switch p := p.(type) {
	case *ecdsa.PublicKey:
		return keyID(p)
	case *rsa.PublicKey:
		n, e := modulus(p)
		sum := sha256.Sum256([]byte(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return ""
}

// SignSession makes an access token (RFC 9068) of a person: a JWT of type at+jwt that no key of agents' tokens signs. Ensure has made
// the algorithm's keys.
func (s *Signing) SignSession(ctx context.Context, algorithm string, claims []byte) (token string, err error) {
	if token, err = s.sign(ctx, line{useSession, algorithm}, TypeAccessToken, claims); err != nil {
		return "", fmt.Errorf("keyring.SignSession: %w", err)
	}
	return token, nil
}

// VerifySession checks the signature of a person's access token by the key of this kid, which must be one of that use; algorithm is
// what the token's header says, and must be what the key's record says.
func (s *Signing) VerifySession(ctx context.Context, algorithm, kid, signingInput string, signature []byte) error {
	if err := s.verify(ctx, line{useSession, algorithm}, kid, signingInput, signature); err != nil {
		return fmt.Errorf("keyring.VerifySession: %w", err)
	}
	return nil
}

// Ensure makes the keys that people's access tokens of an algorithm are signed with, unless there are some. From then on every
// server rotates them. Making RSA keys takes a second or so: callers share it, and none holds a lock.
func (s *Signing) Ensure(ctx context.Context, algorithm string) error {
	l := line{useSession, algorithm}
	if !l.supported() {
		return fmt.Errorf("keyring.Ensure: no token of a person is signed with %.20q", algorithm)
	}
	if _, _, err := s.ready(s.now(), l); err == nil {
		return nil
	}
	_, err := s.making.Begin(ctx, l, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.beginLine(ctx, l) }).Wait(ctx)
	if err != nil {
		return fmt.Errorf("keyring.Ensure: %w", err)
	}
	return nil
}

// beginLine makes a line's first key, if no other server has, and leaves its standby to Rotate.
func (s *Signing) beginLine(ctx context.Context, l line) error {
	for range maxSteps {
		keys, err := s.read(ctx)
		if err != nil {
			return err
		}
		if _, _, err := s.ready(s.now(), l); err == nil {
			return nil
		}
		if err := s.set.Load().someOpen(l); err != nil {
			return err
		}
		todo := plan(s.now(), l.of(s.sound(keys)))
		if len(todo) == 0 {
			return noSigner(ErrNoSigner)
		}
		if err := s.step(ctx, s.store, taskOf(l, todo[0], keys)); err != nil {
			return err
		}
	}
	return errors.New("the keys are being changed all the time")
}
