package gcpkms

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
	"errors"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
)

// signingKey is a key for signatures of the service, which has one version.
type signingKey struct {
	private          crypto.Signer
	algorithm, level string
	pending          int // looks at it until it is generated
	destroyed        bool
}

// serveSigning answers what is about keys for signatures, as the documentation of Cloud KMS says.
func (s *service) serveSigning(w http.ResponseWriter, r *http.Request, body []byte, answer map[string]any, fail func(int, string)) bool {
	ring := "/v1/" + path.Dir(s.name)
	rest, ok := strings.CutPrefix(r.URL.Path, ring)
	if !ok || strings.HasPrefix(r.URL.Path, "/v1/"+s.name) {
		return false
	}
	if r.Method == http.MethodPost && rest == "" {
		s.create(r.URL.Query().Get("cryptoKeyId"), body, fail)
		return true
	}
	id, what, ok := strings.Cut(strings.TrimPrefix(rest, "/"), "/cryptoKeyVersions/1")
	k := s.signing[id]
	name := path.Dir(s.name) + "/" + id + "/cryptoKeyVersions/1"
	if !ok || k == nil {
		fail(http.StatusNotFound, "NOT_FOUND")
		return true
	}
	state := map[bool]string{true: "DESTROY_SCHEDULED", false: "ENABLED"}[k.destroyed]
	switch r.Method + " " + what {
	case "GET ":
		answer["name"], answer["state"] = name, state
	case "GET /publicKey":
		if k.pending--; k.pending >= 0 {
			fail(http.StatusBadRequest, "FAILED_PRECONDITION")
			return true
		}
		der, err := x509.MarshalPKIXPublicKey(k.private.Public())
		if err != nil {
			s.t.Error(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		answer["pem"], answer["pemCrc32c"], answer["algorithm"], answer["name"] = string(text), sum(text), k.algorithm, name
	case "POST :asymmetricSign":
		var in struct {
			Digest       struct{ SHA256 []byte }
			DigestCrc32c string
		}
		if k.destroyed || json.Unmarshal(body, &in) != nil {
			fail(http.StatusBadRequest, "FAILED_PRECONDITION")
			return true
		}
		signature, err := k.private.Sign(rand.Reader, in.Digest.SHA256, crypto.SHA256)
		if err != nil {
			fail(http.StatusBadRequest, "INVALID_ARGUMENT")
			return true
		}
		answer["signature"], answer["signatureCrc32c"], answer["name"] = base64.StdEncoding.EncodeToString(signature), sum(signature), name
		answer["verifiedDigestCrc32c"] = in.DigestCrc32c == string(sum(in.Digest.SHA256))
	case "POST :destroy":
		if k.destroyed {
			fail(http.StatusBadRequest, "FAILED_PRECONDITION")
			return true
		}
		k.destroyed, answer["name"], answer["state"] = true, name, "DESTROY_SCHEDULED"
	default:
		fail(http.StatusNotFound, "NOT_FOUND")
		return true
	}
	if s.alter != nil {
		s.alter(answer)
	}
	_ = json.NewEncoder(w).Encode(answer)
	return true
}

func (s *service) create(id string, body []byte, fail func(int, string)) {
	var in struct {
		Purpose         string
		VersionTemplate struct{ Algorithm, ProtectionLevel string }
	}
	if json.Unmarshal(body, &in) != nil || in.Purpose != "ASYMMETRIC_SIGN" || id == "" {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT")
		return
	}
	if s.signing[id] != nil {
		fail(http.StatusConflict, "ALREADY_EXISTS")
		return
	}
	k := &signingKey{algorithm: in.VersionTemplate.Algorithm, level: in.VersionTemplate.ProtectionLevel, pending: 1}
	var err error
	if strings.HasPrefix(k.algorithm, "RSA_SIGN_PKCS1_3072") {
		k.private, err = rsa.GenerateKey(rand.Reader, 3072)
	} else {
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		s.t.Error(err)
	}
	if s.signing == nil {
		s.signing = map[string]*signingKey{}
	}
	s.signing[id] = k
	if s.lost {
		fail(http.StatusBadGateway, "UNAVAILABLE")
	} else {
		fail(http.StatusOK, "")
	}
}

// TestSigner: the service holds signing keys as every KMS does.
func TestSigner(t *testing.T) {
	t.Parallel()
	s := newService(t)
	set := func(token string) func(*testing.T) {
		return func(*testing.T) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.takes = token
		}
	}
	w := s.wrapper(right)
	w.http.Timeout = 5 * time.Second // making an RSA key takes a second
	wrappertest.RunSigner(t, wrappertest.SignerKind{
		Signer: w, Secrets: []string{right}, Disable: set("ya29.other"), Enable: set(right),
		Hang: func(t *testing.T) {
			stop := make(chan struct{})
			s.mu.Lock()
			s.hang = stop
			s.mu.Unlock()
			t.Cleanup(func() { close(stop) })
		},
	})
	live := 0
	for id, k := range s.signing {
		if k.level != "HSM" {
			t.Errorf("%s is protected by %s, and the key that wraps by hardware", id, k.level)
		}
		if !k.destroyed {
			live++
		}
	}
	if live != 1 {
		t.Errorf("%d keys are left", live)
	}
}

// TestSigningChecksums: what was altered on the way to or from the service is no signature and no key, and no key is left then.
func TestSigningChecksums(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := s.wrapper(right)
	ref, _, err := w.Make(t.Context(), keyring.ES256, "avouch-one")
	if err != nil {
		t.Fatal(err)
	}
	for what, alter := range map[string]func(map[string]any){
		"the digest on its way": func(a map[string]any) { a["verifiedDigestCrc32c"] = false },
		"the signature":         func(a map[string]any) { a["signature"] = "AAAA" },
		"its checksum":          func(a map[string]any) { delete(a, "signatureCrc32c") },
		"whose it is":           func(a map[string]any) { a["name"] = "another's" },
	} {
		s.alter = alter
		if _, err := w.Sign(t.Context(), ref, keyring.ES256, make([]byte, 32)); !errors.Is(err, ErrAltered) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.alter = func(a map[string]any) {
		if a["pem"] != nil {
			a["pem"] = "another"
		}
	}
	if _, _, err := w.Make(t.Context(), keyring.ES256, "avouch-altered"); !errors.Is(err, ErrAltered) || !s.signing["avouch-altered"].destroyed {
		t.Errorf("an altered public key: %v", err)
	}
	s.alter, s.lost = nil, true
	if _, _, err := w.Make(t.Context(), keyring.ES256, "avouch-lost"); !errors.Is(err, keyring.ErrSilent) || !s.signing["avouch-lost"].destroyed {
		t.Errorf("an answer that was lost: %v", err)
	}
}
