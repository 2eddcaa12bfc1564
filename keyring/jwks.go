package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
)

// jwk is a public key as RFC 7517 and 7518 write it.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
	KID       string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

func (k *SigningKey) jwk(public crypto.PublicKey) jwk {
	out := jwk{KID: k.KID, Use: "sig", Algorithm: k.Algorithm}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		out.KeyType, out.Curve = "EC", "P-256"
		out.X, out.Y = coordinates(p)
	case *rsa.PublicKey:
		out.KeyType = "RSA"
		out.N, out.E = modulus(p)
	}
	return out
}

// document is a published key set, as it is sent.
type document struct {
	body []byte
	etag string
}

// publish writes the key sets of a snapshot, each in the order in which its keys sign. A key that retires before the next
// snapshot stays in it until then, which does no harm.
//
// Agents' keys and those of people's tokens are published apart: whoever checks an agent's token offline looks at the signature
// and often at nothing else, so a key that signs anything else must not be in what is given for that.
func (set *keySet) publish() {
	set.agents = set.document(useToken)
	set.people = set.document(useSession)
}

func (set *keySet) document(use string) document {
	out := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for i := range set.keys {
		k := &set.keys[i]
		if o := set.opened[k.KID]; o != nil && o.of.use == use {
			out.Keys = append(out.Keys, k.jwk(o.public))
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("keyring: strings cannot fail to marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return document{b, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
}

// JWKS is the published key set (RFC 7517) of agents' tokens and statements.
func (s *Signing) JWKS() []byte { return append([]byte(nil), s.set.Load().agents.body...) }

// PeopleJWKS is the published key set of people's access tokens.
func (s *Signing) PeopleJWKS() []byte { return append([]byte(nil), s.set.Load().people.body...) }

// ServeJWKS answers GET and HEAD of jwks.json.
func (s *Signing) ServeJWKS(w http.ResponseWriter, r *http.Request) { s.set.Load().agents.serve(w, r) }

// ServePeopleJWKS answers GET and HEAD of the key set of people's access tokens.
func (s *Signing) ServePeopleJWKS(w http.ResponseWriter, r *http.Request) {
	s.set.Load().people.serve(w, r)
}

func (d document) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=600")
	w.Header().Set("ETag", d.etag)
	if d.etag != "" && r.Header.Get("If-None-Match") == d.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_, _ = w.Write(d.body)
}
