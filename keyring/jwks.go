package keyring

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
)

// jwk is a public key as RFC 7517 and 7518 write it.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
	KID       string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// publish writes the JWKS of a snapshot, in the order in which the keys sign. A key that retires before the next
// snapshot stays in it until then, which does no harm.
func (set *keySet) publish() {
	document := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for i := range set.keys {
		k := &set.keys[i]
		if o := set.opened[k.KID]; o != nil {
			x, y := coordinates(&o.private.PublicKey)
			document.Keys = append(document.Keys, jwk{"EC", "P-256", x, y, k.KID, "sig", k.Algorithm})
		}
	}
	b, err := json.Marshal(document)
	if err != nil {
		panic("keyring: strings cannot fail to marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	set.jwks, set.etag = b, `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`
}

// JWKS is the published key set (RFC 7517).
func (s *Signing) JWKS() []byte { return append([]byte(nil), s.set.Load().jwks...) }

// ServeJWKS answers GET and HEAD of jwks.json.
func (s *Signing) ServeJWKS(w http.ResponseWriter, r *http.Request) {
	set := s.set.Load()
	w.Header().Set("Cache-Control", "public, max-age=600")
	w.Header().Set("ETag", set.etag)
	if set.etag != "" && r.Header.Get("If-None-Match") == set.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_, _ = w.Write(set.jwks)
}
