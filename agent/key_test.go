package agent

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// keyPairs are made once: RSA takes long.
var keyPairs = sync.OnceValue(func() map[string]any {
	out := map[string]any{}
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	big2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	out["P-256"], out["P-384"], out["P-521"], out["P-224"], out["Ed25519"], out["RSA"] = p256, p384, p521, p224, ed, big2048
	return out
})

func publicOf(name string) any {
	switch k := keyPairs()[name].(type) {
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case ed25519.PrivateKey:
		return k.Public()
	case *rsa.PrivateKey:
		return &k.PublicKey
	}
	return nil
}

func goodKey(t testing.TB, name string) PublicKey {
	t.Helper()
	k, err := ParsePEM(string(pemOf(t, publicOf(name))))
	must(t, err)
	return k
}

func TestGoodKeys(t *testing.T) {
	t.Parallel()
	for name, algorithm := range map[string]string{"P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA", "RSA": "RS256"} {
		k := goodKey(t, name)
		if k.Algorithm != algorithm || k.Use != UseSigning || len(k.KID) != 43 {
			t.Errorf("%s: %+v", name, k)
		}
		public, err := k.jwk()
		must(t, err)
		b, err := json.Marshal(public)
		must(t, err)
		var members map[string]any
		must(t, json.Unmarshal(b, &members))
		members["kid"], members["use"], members["alg"] = "mine", "sig", algorithm
		again, err := ParseJWK(members)
		if err != nil || again.KID != k.KID || string(again.DER) != string(k.DER) {
			t.Errorf("%s as JWK: %v, %+v", name, err, again)
		}
		if _, err := k.as("ES512"); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s as ES512: %v", name, err)
		}
		messy := "\r\n\n" + strings.ReplaceAll(string(pemOf(t, publicOf(name))), "\n", "\r\n") + "  "
		if k2, err := ParsePEM(messy); err != nil || k2.KID != k.KID {
			t.Errorf("%s with other line ends: %v", name, err)
		}
	}
	rsaKey := goodKey(t, "RSA")
	if k, err := rsaKey.as("PS256"); err != nil || k.Algorithm != "PS256" {
		t.Errorf("RSA as PS256: %v", err)
	}
}

// TestThumbprints holds RFC 7638, section 3.1, and RFC 8037, appendix A.3.
func TestThumbprints(t *testing.T) {
	t.Parallel()
	for want, j := range map[string]map[string]any{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": {"kty": "RSA", "e": "AQAB", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"},
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
	} {
		if k, err := ParseJWK(j); err != nil || k.KID != want {
			t.Errorf("%v: %s", err, k.KID)
		}
	}
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func badPEMs(t *testing.T) map[string]string {
	t.Helper()
	private := keyPairs()["P-256"].(*ecdsa.PrivateKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	sec1, err := x509.MarshalECPrivateKey(private)
	must(t, err)
	big2048 := keyPairs()["RSA"].(*rsa.PrivateKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	must(t, err)
	good := string(pemOf(t, publicOf("P-256")))
	pkixOf := func(key any) string { return string(pemOf(t, key)) }
	n := big2048.N
	return map[string]string{
		"PKCS #8":                   pemBlock("PRIVATE KEY", pkcs8),
		"SEC 1":                     pemBlock("EC PRIVATE KEY", sec1),
		"PKCS #1 private":           pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(big2048)),
		"OpenSSH":                   "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
		"public, then private":      good + pemBlock("PRIVATE KEY", pkcs8),
		"private bytes in disguise": pemBlock("PUBLIC KEY", pkcs8),
		"certificate":               pemBlock("CERTIFICATE", certificate),
		"PKCS #1 public":            pemBlock("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&big2048.PublicKey)),
		"two keys":                  good + good,
		"text before":               "hello\n" + good,
		"text behind":               good + "hello",
		"headers":                   strings.Replace(good, "KEY-----\n", "KEY-----\nX: y\n\n", 1),
		"empty":                     "",
		"no PEM":                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI",
		"empty block":               pemBlock("PUBLIC KEY", nil),
		"bytes behind":              pemBlock("PUBLIC KEY", append(mustDER(t, "P-256"), 0)),
		"too long":                  strings.Repeat(" ", maxKeyText) + good,
		"P-224":                     pkixOf(publicOf("P-224")),
		"P-521":                     pkixOf(publicOf("P-521")),
		"X25519":                    pkixOf(x25519.PublicKey()),
		"RSA 1024":                  pkixOf(&rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Rsh(n, 1024), 0, 1), E: 65537}),
		"RSA 16384":                 pkixOf(&rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(n, 14000), 0, 1), E: 65537}),
		"RSA e=3":                   pkixOf(&rsa.PublicKey{N: n, E: 3}),
		"RSA e even":                pkixOf(&rsa.PublicKey{N: n, E: 65538}),
		"RSA n even":                pkixOf(&rsa.PublicKey{N: new(big.Int).Lsh(n, 1), E: 65537}),
		"RSA n with 7":              pkixOf(&rsa.PublicKey{N: new(big.Int).Mul(n, big.NewInt(7)), E: 65537}),
	}
}

func mustDER(t testing.TB, name string) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(publicOf(name))
	must(t, err)
	return der
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	for name, text := range badPEMs(t) {
		refused(t, name, text, func() error { _, err := ParsePEM(text); return err })
	}
	for _, y := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", "0100000000000000000000000000000000000000000000000000000000000080",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b, err := hex.DecodeString(y)
		must(t, err)
		refused(t, "Ed25519 of small order", "", func() error { _, err := ParsePEM(string(pemOf(t, ed25519.PublicKey(b)))); return err })
	}
	encode := base64.RawURLEncoding.EncodeToString
	b32 := func(c byte) string { return encode([]byte(strings.Repeat(string(c), 32))) }
	for name, j := range map[string]map[string]any{
		"private EC":      {"kty": "EC", "crv": "P-256", "x": b32(1), "y": b32(2), "d": b32(3)},
		"private null":    {"kty": "EC", "crv": "P-256", "x": b32(1), "y": b32(2), "d": nil},
		"symmetric":       {"kty": "oct", "k": b32(3)},
		"not on curve":    {"kty": "EC", "crv": "P-256", "x": b32(1), "y": b32(2)},
		"infinity":        {"kty": "EC", "crv": "P-256", "x": encode(nil), "y": encode(nil)},
		"zero":            {"kty": "EC", "crv": "P-256", "x": encode(make([]byte, 32)), "y": encode(make([]byte, 32))},
		"short":           {"kty": "EC", "crv": "P-256", "x": encode([]byte{1}), "y": b32(2)},
		"padded":          {"kty": "OKP", "crv": "Ed25519", "x": b32(1) + "="},
		"line end":        {"kty": "OKP", "crv": "Ed25519", "x": b32(1) + "\n"},
		"number":          {"kty": "OKP", "crv": "Ed25519", "x": 17},
		"secp256k1":       {"kty": "EC", "crv": "secp256k1", "x": b32(1), "y": b32(2)},
		"X25519":          {"kty": "OKP", "crv": "X25519", "x": b32(1)},
		"RSA empty":       {"kty": "RSA", "e": "AQAB", "n": ""},
		"RSA e huge":      {"kty": "RSA", "e": "_____w", "n": encode([]byte(strings.Repeat("\xff", 256)))},
		"RSA weak":        {"kty": "RSA", "e": "AQAB", "n": encode([]byte(strings.Repeat("\xff", 128)))},
		"another's alg":   {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": "ES256"},
		"empty":           {},
		"nothing":         nil,
		"kty of no sort":  {"kty": map[string]any{}},
		"curve elsewhere": {"kty": "RSA", "crv": "P-256", "e": "AQAB", "n": b32(1)},
	} {
		refused(t, name, b32(3), func() error { _, err := ParseJWK(j); return err })
	}
}

// refused wants a problem for the caller that holds nothing of the secret.
func refused(t *testing.T, name, secret string, parse func() error) {
	t.Helper()
	err := parse()
	if !problem.Is(err, problem.Invalid) {
		t.Errorf("%s: %v", name, err)
		return
	}
	for line := range strings.SplitSeq(secret, "\n") {
		if len(line) > 20 && !strings.HasPrefix(line, "-----") && strings.Contains(err.Error(), line) {
			t.Errorf("%s: the problem repeats what was sent", name)
		}
	}
}

// FuzzKeys: no panic; what is taken is strong enough, can be written as a JWK, and is the same key then.
func FuzzKeys(f *testing.F) {
	for _, name := range []string{"P-256", "P-384", "Ed25519", "RSA", "P-521"} {
		f.Add(string(pemOf(f, publicOf(name))), []byte(`{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}`))
	}
	f.Add("", []byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Fuzz(func(t *testing.T, text string, j []byte) {
		check := func(k PublicKey, err error) {
			if err != nil {
				if !problem.Is(err, problem.Invalid) {
					t.Fatalf("an error of another kind: %v", err)
				}
				return
			}
			public, err := k.jwk()
			must(t, err)
			b, err := json.Marshal(public)
			must(t, err)
			var members map[string]any
			must(t, json.Unmarshal(b, &members))
			if again, err := ParseJWK(members); err != nil || again.KID != k.KID {
				t.Fatalf("written and read again: %v", err)
			}
		}
		check(ParsePEM(text))
		var members map[string]any
		if json.Unmarshal(j, &members) == nil {
			check(ParseJWK(members))
		}
	})
}
