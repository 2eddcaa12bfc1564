package gcpkms

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
	"github.com/avouch-dev/avouch/tenantdb"
)

const name = "projects/p-1/locations/europe-west6/keyRings/avouch/cryptoKeys/platform"

// service answers as the documentation of Cloud KMS says.
type service struct {
	t *testing.T
	*httptest.Server

	mu       sync.Mutex
	keys     [][]byte
	disabled int // this version
	purpose  string
	status   int
	hang     chan struct{}
	name     string
	alter    func(answer map[string]any)
	signing  map[string]*signingKey // by their names
	lost     bool                   // what became of a new one is not told
	takes    string                 // this token; "" is right
	requests []string
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, purpose: "ENCRYPT_DECRYPT", name: name}
	s.rotate()
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) rotate() {
	key := make([]byte, 32)
	rand.Read(key)
	s.keys = append(s.keys, key)
}

func (s *service) aead(version int) cipher.AEAD {
	block, err := aes.NewCipher(s.keys[version-1])
	if err != nil {
		s.t.Error(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		s.t.Error(err)
	}
	return a
}

// every stands for all versions.
const every = -1

func (s *service) state(v int) string {
	if v == s.disabled || s.disabled == every {
		return "DISABLED"
	}
	return "ENABLED"
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	if hang := s.hang; hang != nil {
		s.mu.Unlock()
		<-hang
		return
	}
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.String()+" "+string(body))
	fail := func(status int, why string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "status": why, "message": "of the test"}})
	}
	if s.status != 0 {
		fail(s.status, "INTERNAL")
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+cmp.Or(s.takes, right) {
		fail(http.StatusForbidden, "PERMISSION_DENIED")
		return
	}
	var in struct {
		Plaintext, Ciphertext, AdditionalAuthenticatedData                   []byte
		PlaintextCrc32c, CiphertextCrc32c, AdditionalAuthenticatedDataCrc32c string
	}
	if len(body) > 0 && json.Unmarshal(body, &in) != nil {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT")
		return
	}
	answer := map[string]any{}
	if s.serveSigning(w, r, body, answer, fail) {
		return
	}
	version := func(v int) map[string]any {
		return map[string]any{"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", s.name, v), "state": s.state(v), "createTime": "2026-11-01T09:00:00.5Z"}
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/" + s.name:
		answer["name"], answer["purpose"], answer["primary"] = s.name, s.purpose, version(len(s.keys))
		answer["versionTemplate"] = map[string]string{"protectionLevel": "HSM", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"}
	case "GET /v1/" + s.name + "/cryptoKeyVersions":
		var all []any
		for v := range s.keys {
			all = append(all, version(v+1))
		}
		answer["cryptoKeyVersions"] = all
	case "POST /v1/" + s.name + ":encrypt":
		v := len(s.keys)
		if s.state(v) == "DISABLED" {
			fail(http.StatusBadRequest, "FAILED_PRECONDITION")
			return
		}
		sealed := append([]byte{byte(v)}, s.aead(v).Seal(nil, nil, in.Plaintext, in.AdditionalAuthenticatedData)...)
		answer["name"], answer["ciphertext"], answer["ciphertextCrc32c"] = version(v)["name"], base64.StdEncoding.EncodeToString(sealed), sum(sealed)
		answer["verifiedPlaintextCrc32c"] = in.PlaintextCrc32c == string(sum(in.Plaintext))
		answer["verifiedAdditionalAuthenticatedDataCrc32c"] = in.AdditionalAuthenticatedDataCrc32c == string(sum(in.AdditionalAuthenticatedData))
	case "POST /v1/" + s.name + ":decrypt":
		v := 0
		if len(in.Ciphertext) > 0 {
			v = int(in.Ciphertext[0])
		}
		if v < 1 || v > len(s.keys) {
			fail(http.StatusBadRequest, "INVALID_ARGUMENT")
			return
		}
		if s.state(v) == "DISABLED" {
			fail(http.StatusBadRequest, "FAILED_PRECONDITION")
			return
		}
		plain, err := s.aead(v).Open(nil, nil, in.Ciphertext[1:], in.AdditionalAuthenticatedData)
		if err != nil {
			fail(http.StatusBadRequest, "INVALID_ARGUMENT")
			return
		}
		answer["plaintext"], answer["plaintextCrc32c"] = base64.StdEncoding.EncodeToString(plain), sum(plain)
	default:
		fail(http.StatusNotFound, "NOT_FOUND")
		return
	}
	if s.alter != nil {
		s.alter(answer)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *service) wrapper(token string) *Wrapper {
	s.t.Helper()
	w, err := New(s.t.Context(), Config{Key: s.name, Endpoint: s.URL, Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), Timeout: time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

const right = "ya29.right"

var (
	here = keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "key/wrap/1"}
	key  = "0123456789abcdef0123456789abcdef"
)

func wrapped(t *testing.T, w *Wrapper) keyring.Wrapped {
	t.Helper()
	k, err := w.Wrap(t.Context(), secret.Own([]byte(key)), here)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func opens(t *testing.T, w *Wrapper, k keyring.Wrapped) {
	t.Helper()
	plain, err := w.Unwrap(t.Context(), k, here)
	if err != nil || string(plain.Expose()) != key {
		t.Errorf("%v", err)
	}
}

// TestContract: the wrapper does what every wrapper does.
func TestContract(t *testing.T) {
	t.Parallel()
	s, other := newService(t), newService(t)
	other.name = strings.Replace(name, "platform", "other", 1)
	set := func(change func()) func(*testing.T) {
		return func(*testing.T) {
			s.mu.Lock()
			defer s.mu.Unlock()
			change()
		}
	}
	wrappertest.Run(t, wrappertest.Kind{
		Wrapper: s.wrapper(right), Other: other.wrapper(right), Name: "gcpkms", Rotate: set(s.rotate),
		Disable: set(func() { s.disabled = every }), Enable: set(func() { s.disabled = 0 }),
		Answer: func(status int) { set(func() { s.status = status })(t) },
		Hang: func(t *testing.T) {
			stop := make(chan struct{})
			set(func() { s.hang = stop })(t)
			t.Cleanup(func() { close(stop) })
		},
		Secrets: []string{right},
	})
}

func TestBinding(t *testing.T) {
	t.Parallel()
	w := newService(t).wrapper(right)
	k := wrapped(t, w)
	opens(t, w, k)
	other, item := here, here
	other.Tenant, item.Item = tenantdb.NewTenantID(), "key/wrap/2"
	for _, b := range []keyring.Binding{other, item, {}} {
		if _, err := w.Unwrap(t.Context(), k, b); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("for %v: %v", b, err)
		}
	}
	k.KeyID = "gcpkms/" + strings.Replace(name, "platform", "other", 1)
	if _, err := w.Unwrap(t.Context(), k, here); !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("another key's: %v", err)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := s.wrapper(right)
	old := wrapped(t, w)
	s.rotate()
	anew := wrapped(t, w)
	if old.KeyVersion != 1 || anew.KeyVersion != 2 {
		t.Errorf("versions %d and %d", old.KeyVersion, anew.KeyVersion)
	}
	opens(t, w, old)
	opens(t, w, anew)
	d, err := w.Describe(t.Context())
	if err != nil || d.Kind != "gcpkms" || d.Version != 2 || fmt.Sprint(d.Versions) != "[1 2]" {
		t.Errorf("%+v, %v", d, err)
	}
	s.disabled = 1
	if _, err := w.Unwrap(t.Context(), old, here); !errors.Is(err, keyring.ErrRefused) || errors.Is(err, keyring.ErrSealed) {
		t.Errorf("a version that is disabled: %v", err)
	}
	if d, err := w.Describe(t.Context()); err != nil || fmt.Sprint(d.Versions) != "[2]" {
		t.Errorf("%+v, %v", d, err)
	}
	s.disabled = 2
	if _, err := w.Describe(t.Context()); err == nil {
		t.Error("a primary version that is disabled")
	}
	s.disabled, s.purpose = 0, "ASYMMETRIC_SIGN"
	if _, err := w.Describe(t.Context()); err == nil {
		t.Error("a key for signatures")
	}
}

func TestChecksums(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := s.wrapper(right)
	k := wrapped(t, w)
	for what, alter := range map[string]func(map[string]any){
		"the ciphertext":              func(a map[string]any) { a["ciphertext"] = "AAAA" },
		"the plaintext on its way":    func(a map[string]any) { a["verifiedPlaintextCrc32c"] = false },
		"the data on its way":         func(a map[string]any) { delete(a, "verifiedAdditionalAuthenticatedDataCrc32c") },
		"the checksum":                func(a map[string]any) { a["ciphertextCrc32c"] = "1" },
		"the plaintext on its return": func(a map[string]any) { a["plaintext"] = "AAAA" },
	} {
		s.alter = alter
		_, wrap := w.Wrap(t.Context(), secret.Own([]byte(key)), here)
		_, unwrap := w.Unwrap(t.Context(), k, here)
		if !errors.Is(wrap, ErrAltered) && !errors.Is(unwrap, ErrAltered) {
			t.Errorf("%s: %v, %v", what, wrap, unwrap)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newService(t).wrapper("ya29.stranger")
	if _, err := w.Wrap(t.Context(), secret.Own([]byte(key)), here); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a stranger's token: %v", err)
	}
	for _, bad := range []string{"", "platform", name + "/cryptoKeyVersions/1", "projects/../locations/x/keyRings/y/cryptoKeys/z", name + "?x"} {
		if _, err := New(t.Context(), Config{Key: bad, Tokens: oauth2.StaticTokenSource(nil)}); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

func TestNothingInClear(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"http://kms.example", "https://a:b@kms.example", "kms.example", "https://"} {
		if _, err := New(t.Context(), Config{Key: name, Endpoint: bad, Tokens: oauth2.StaticTokenSource(nil)}); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}

// TestGone: a service that is not there any more is silent.
func TestGone(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := s.wrapper(right)
	k := wrapped(t, w)
	s.Close()
	if _, err := w.Unwrap(t.Context(), k, here); !errors.Is(err, keyring.ErrSilent) {
		t.Errorf("gone: %v", err)
	}
}

func TestSecretsAreNowhereElse(t *testing.T) {
	t.Parallel()
	s := newService(t)
	w := s.wrapper(right)
	k := wrapped(t, w)
	opens(t, w, k)
	s.status = 500
	_, failed := w.Unwrap(t.Context(), k, here)
	s.Close()
	_, gone := w.Wrap(t.Context(), secret.Own([]byte(key)), here)
	texts := []string{fmt.Sprint(failed, gone)}
	for _, r := range s.requests {
		line, body, _ := strings.Cut(r, "{")
		texts = append(texts, line)
		if strings.Contains(body, right) {
			t.Error("the token is in a body")
		}
	}
	for _, text := range texts {
		if strings.Contains(text, right) || strings.Contains(text, key) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(key))) {
			t.Errorf("a secret is in %.100q", text)
		}
	}
}
