package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// What an agent's key is for. Each is listed under `authentication` of the DID document; signing keys also under
// `assertionMethod`.
const (
	UseSigning        = "signing"        // whatever the agent states
	UseAuthentication = "authentication" // proving who it is, to whoever challenges it
	UseWebBotAuth     = "web-bot-auth"   // HTTP message signatures; clients know Ed25519 only
)

// PublicKey is a key that an agent holds the private half of. We keep it for others, who find it in the DID document.
type PublicKey struct {
	KID       string // RFC 7638 thumbprint
	Use       string
	Algorithm string // JWS: ES256, ES384, EdDSA, RS256 or PS256
	DER       []byte // PKIX
	CreatedAt time.Time
}

// jwk is a public key as RFC 7517, 7518 and 8037 write it. Its members are in the order of a thumbprint (RFC 7638).
type jwk struct {
	Curve   string `json:"crv,omitempty"`
	E       string `json:"e,omitempty"`
	KeyType string `json:"kty"`
	N       string `json:"n,omitempty"`
	X       string `json:"x,omitempty"`
	Y       string `json:"y,omitempty"`
}

const (
	minRSA     = 2048
	maxRSA     = 8192
	maxKeyText = 8 << 10
	leaked     = "Keep it to the agent alone. Since it has left its place, make a new pair and send the public half of that."
)

// badKey is what is wrong with a key, for its sender. It holds nothing of what was sent: that may be a private key.
func badKey(format string, args ...any) error { return problem.New(problem.Invalid, format, args...) }

// ParsePEM reads one public key in PEM, as `openssl pkey -pubout` writes it. Its errors are problems for the caller.
func ParsePEM(text string) (PublicKey, error) {
	if len(text) > maxKeyText {
		return PublicKey{}, badKey("This is longer than any key.")
	}
	if strings.Contains(text, "PRIVATE KEY") {
		return PublicKey{}, badKey("This is a private key. " + leaked)
	}
	block, rest := pem.Decode([]byte(strings.TrimSpace(text)))
	switch {
	case block == nil:
		return PublicKey{}, badKey("This is no PEM: want a text that begins with -----BEGIN PUBLIC KEY-----.")
	case block.Type == "CERTIFICATE" || block.Type == "CERTIFICATE REQUEST" || block.Type == "X509 CERTIFICATE":
		return PublicKey{}, badKey("This is a certificate, and only its key is wanted: openssl x509 -in cert.pem -noout -pubkey.")
	case block.Type == "RSA PUBLIC KEY":
		return PublicKey{}, badKey("This is an RSA key in the older PKCS #1 form: openssl rsa -RSAPublicKey_in -in key.pem -pubout makes the wanted one.")
	case block.Type != "PUBLIC KEY":
		return PublicKey{}, badKey("This PEM holds something other than a public key: want -----BEGIN PUBLIC KEY-----.")
	case len(bytes.TrimSpace(rest)) > 0 || !strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") || len(block.Headers) > 0:
		return PublicKey{}, badKey("There is more than one public key in this PEM: send each as one of keys.")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, badKey("This PEM does not hold a public key that can be read: P-256, P-384, Ed25519 and RSA are known.")
	}
	return newPublicKey(key)
}

// ParseJWK reads a public key as RFC 7517 writes it. kid, use and x5c are not read: the kid is the thumbprint.
func ParseJWK(members map[string]any) (PublicKey, error) {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, there := members[private]; there {
			return PublicKey{}, badKey("This is a private or symmetric key. " + leaked)
		}
	}
	m := jwkMembers(members)
	var key any
	switch m.word("kty") + " " + m.word("crv") {
	case "EC P-256":
		key = m.point(elliptic.P256())
	case "EC P-384":
		key = m.point(elliptic.P384())
	case "OKP Ed25519":
		if x := m.bytes("x"); len(x) == ed25519.PublicKeySize {
			key = ed25519.PublicKey(x)
		}
	case "RSA ":
		if e, n := m.bytes("e"), m.bytes("n"); 0 < len(e) && len(e) <= 4 && len(n) <= maxRSA/8 {
			key = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(binary.BigEndian.Uint32(append(make([]byte, 4-len(e)), e...)))}
		}
	default:
		return PublicKey{}, badKey("This JWK is of a kind that is not known: want kty EC with crv P-256 or P-384, OKP with Ed25519, or RSA.")
	}
	if key == nil {
		return PublicKey{}, badKey("This JWK's numbers are missing, of the wrong length, or not on their curve.")
	}
	public, err := newPublicKey(key)
	if err != nil {
		return PublicKey{}, err
	}
	if alg := m.word("alg"); alg != "" {
		return public.as(alg)
	}
	return public, nil
}

type jwkMembers map[string]any

func (m jwkMembers) word(name string) string {
	s, _ := m[name].(string)
	return s
}

func (m jwkMembers) bytes(name string) []byte {
	s := m.word(name)
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(s) > maxKeyText || strings.ContainsAny(s, "\r\n") {
		return nil
	}
	return b
}

// point is nil, and not a nil pointer, if it is not on the curve.
func (m jwkMembers) point(curve elliptic.Curve) any {
	size := (curve.Params().BitSize + 7) / 8
	x, y := m.bytes("x"), m.bytes("y")
	if len(x) != size || len(y) != size {
		return nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil
	}
	return key
}

// newPublicKey refuses what is weak, and names the rest.
func newPublicKey(key any) (PublicKey, error) {
	k := PublicKey{Use: UseSigning}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			k.Algorithm = "ES256"
		case elliptic.P384():
			k.Algorithm = "ES384"
		default:
			return k, badKey("This key's curve is not supported: want P-256, P-384 or Ed25519.")
		}
	case ed25519.PublicKey:
		if smallOrder(key) {
			return k, badKey("This Ed25519 key is one of the few that anybody can sign for.")
		}
		k.Algorithm = "EdDSA"
	case *rsa.PublicKey:
		if err := checkRSA(key); err != nil {
			return k, err
		}
		k.Algorithm = "RS256"
	default:
		return k, badKey("This kind of key cannot sign here: want P-256, P-384, Ed25519 or RSA.")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return k, badKey("This key cannot be written as a public key.")
	}
	k.DER = der
	public, err := k.jwk()
	if err != nil {
		return k, err
	}
	k.KID = public.thumbprint()
	return k, nil
}

func checkRSA(k *rsa.PublicKey) error {
	switch bits := k.N.BitLen(); {
	case bits < minRSA:
		return badKey("This RSA key has %d bits: want at least %d.", bits, minRSA)
	case bits > maxRSA:
		return badKey("This RSA key has %d bits: want at most %d.", bits, maxRSA)
	case k.E < 1<<16+1 || k.E > 1<<31-1 || k.E%2 == 0:
		return badKey("This RSA key's exponent is too small, too large or even: want 65537.")
	}
	for p := int64(2); p < 1000; p++ {
		if new(big.Int).Mod(k.N, big.NewInt(p)).Sign() == 0 {
			return badKey("This RSA key's modulus has a small factor: it is no key.")
		}
	}
	return nil
}

// smallOrder lists the points of order at most 8, in every encoding, with and without the sign: any signature can be made
// to verify under them.
func smallOrder(k ed25519.PublicKey) bool {
	y := hex.EncodeToString(append(k[:31:31], k[31]&0x7f))
	return slices.Contains([]string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	}, y)
}

// as is the key under another of its algorithms.
func (k PublicKey) as(algorithm string) (PublicKey, error) {
	switch {
	case algorithm == k.Algorithm, k.Algorithm == "EdDSA" && algorithm == "Ed25519": // RFC 9864 renamed it
		return k, nil
	case k.Algorithm == "RS256" && algorithm == "PS256":
		k.Algorithm = algorithm
		return k, nil
	}
	return PublicKey{}, badKey("This key's algorithm is %s, not the one named beside it.", k.Algorithm)
}

// jwk writes the key.
func (k *PublicKey) jwk() (jwk, error) {
	key, err := x509.ParsePKIXPublicKey(k.DER)
	if err != nil {
		return jwk{}, fmt.Errorf("agent.jwk: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return jwk{}, fmt.Errorf("agent.jwk: %w", err)
		}
		half := (len(point) - 1) / 2
		return jwk{KeyType: "EC", Curve: key.Curve.Params().Name, X: encode(point[1 : 1+half]), Y: encode(point[1+half:])}, nil
	case ed25519.PublicKey:
		return jwk{KeyType: "OKP", Curve: "Ed25519", X: encode(key)}, nil
	case *rsa.PublicKey:
		return jwk{KeyType: "RSA", N: encode(key.N.Bytes()), E: encode(big.NewInt(int64(key.E)).Bytes())}, nil
	}
	return jwk{}, errors.New("agent.jwk: a key of an unknown kind")
}

// thumbprint is RFC 7638's. Nothing in it needs escaping.
func (j jwk) thumbprint() string {
	var text string
	switch j.KeyType {
	case "EC":
		text = `{"crv":"` + j.Curve + `","kty":"EC","x":"` + j.X + `","y":"` + j.Y + `"}`
	case "OKP":
		text = `{"crv":"` + j.Curve + `","kty":"OKP","x":"` + j.X + `"}`
	case "RSA":
		text = `{"e":"` + j.E + `","kty":"RSA","n":"` + j.N + `"}`
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
