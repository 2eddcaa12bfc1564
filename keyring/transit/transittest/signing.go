package transittest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
)

// SigningKey is a key for signatures.
type SigningKey struct {
	Kind       string
	Versions   []crypto.Signer
	Exportable bool
	Deletable  bool
}

// read is the members of a body, those that are no text as they are written.
func read(body []byte) (map[string]string, error) {
	in := map[string]string{}
	if len(body) == 0 {
		return in, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, err
	}
	for name, value := range raw {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		in[name] = text
	}
	return in, nil
}

// SigningKeys are the names of the keys for signatures.
func (e *Engine) SigningKeys() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := []string{}
	for name := range e.Signing {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewSigningKey is a version of a key of a kind.
func NewSigningKey(kind string) crypto.Signer {
	if kind == "rsa-3072" {
		k, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			panic(err) // the random source does not fail
		}
		return k
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// signing answers what is about keys for signatures.
func (e *Engine) signing(w http.ResponseWriter, r *http.Request, in map[string]string, answer func(map[string]any), fail func(int, string)) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/"+e.Mount+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || parts[1] == "avouch" {
		return false
	}
	k := e.Signing[parts[1]]
	parts[1] = "NAME"
	switch what := r.Method + " " + strings.Join(parts, "/"); {
	case what == "POST keys/NAME":
		if k == nil { // what is there already stays as it is
			e.create(strings.TrimPrefix(rest, "keys/"), in)
		}
		w.WriteHeader(http.StatusNoContent)
	case what == "GET keys/NAME" && k == nil:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[]}`))
	case k == nil:
		fail(http.StatusBadRequest, "signing key not found")
	case what == "GET keys/NAME":
		answer(k.describe())
	case what == "POST sign/NAME":
		signature, err := k.sign(in)
		if err != "" {
			fail(http.StatusBadRequest, err)
			return true
		}
		answer(map[string]any{"signature": signature, "key_version": 1})
	case what == "POST keys/NAME/config":
		k.Deletable = in["deletion_allowed"] == "true"
		w.WriteHeader(http.StatusNoContent)
	case what == "DELETE keys/NAME" && !k.Deletable:
		fail(http.StatusBadRequest, "error deleting policy: deletion is not allowed for this policy")
	case what == "DELETE keys/NAME":
		delete(e.Signing, strings.TrimPrefix(rest, "keys/"))
		w.WriteHeader(http.StatusNoContent)
	default:
		return false
	}
	return true
}

func (e *Engine) create(name string, in map[string]string) {
	if e.Signing == nil {
		e.Signing = map[string]*SigningKey{}
	}
	e.Signing[name] = &SigningKey{Kind: in["type"], Exportable: in["exportable"] == "true", Versions: []crypto.Signer{NewSigningKey(in["type"])}}
}

func (k *SigningKey) describe() map[string]any {
	versions := map[string]any{}
	for i, v := range k.Versions {
		der, err := x509.MarshalPKIXPublicKey(v.Public())
		if err != nil {
			panic(err) // of kinds that it knows
		}
		versions[string(rune('1'+i))] = map[string]any{"name": k.Kind, "creation_time": "2026-11-01T09:00:00.5Z", "public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	}
	return map[string]any{
		"type": k.Kind, "exportable": k.Exportable, "allow_plaintext_backup": false, "latest_version": len(k.Versions), "supports_signing": true,
		"deletion_allowed": k.Deletable, "keys": versions,
	}
}

// sign says what is wrong, or gives the signature with the version that was asked for.
func (k *SigningKey) sign(in map[string]string) (signature, wrong string) {
	digest, err := base64.StdEncoding.DecodeString(in["input"])
	if err != nil || in["prehashed"] != "true" || in["hash_algorithm"] != "sha2-256" || len(digest) != 32 || in["key_version"] != "1" {
		return "", "the test's engine signs SHA-256 digests with the first version"
	}
	switch key := k.Versions[0].(type) {
	case *rsa.PrivateKey:
		if in["signature_algorithm"] != "pkcs1v15" {
			return "", "that would be PSS"
		}
		b, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
		if err != nil {
			return "", err.Error()
		}
		return "vault:v1:" + base64.StdEncoding.EncodeToString(b), ""
	case *ecdsa.PrivateKey:
		if in["marshaling_algorithm"] != "jws" {
			return "", "that would be ASN.1"
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return "", err.Error()
		}
		b := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		return "vault:v1:" + base64.RawURLEncoding.EncodeToString(b), ""
	}
	return "", "no such kind of key"
}
