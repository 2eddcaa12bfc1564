package transit

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
)

// TestSigner: the engine holds signing keys as every KMS does.
func TestSigner(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	permit := func(root bool) func(*testing.T) {
		return func(*testing.T) { e.Set(func(e *transittest.Engine) { e.Tokens = map[string]bool{"s.root": root} }) }
	}
	w := e.wrapper(root)
	w.http.Timeout = 5 * time.Second // making an RSA key takes a second
	wrappertest.RunSigner(t, wrappertest.SignerKind{
		Signer: w, Disable: permit(false), Enable: permit(true), Secrets: []string{"s.root"},
		Hang: func(t *testing.T) {
			stop := make(chan struct{})
			e.Set(func(e *transittest.Engine) { e.Hang = stop })
			t.Cleanup(func() { close(stop) })
		},
	})
	if left := e.SigningKeys(); len(left) != 1 {
		t.Errorf("there are the keys %v", left)
	}
}

// TestMakeLeavesNothing: a key that was not made as it should be is refused and ended, and so is one whose making was not heard of.
func TestMakeLeavesNothing(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := e.wrapper(root)
	spoil := map[string]func(*transittest.SigningKey){
		"one that can be exported": func(k *transittest.SigningKey) { k.Exportable = true },
		"one of another kind":      func(k *transittest.SigningKey) { k.Kind = "ecdsa-p384" },
		"one that was there": func(k *transittest.SigningKey) {
			k.Versions = append(k.Versions, transittest.NewSigningKey(k.Kind))
		},
	}
	for what, change := range spoil {
		e.Set(func(e *transittest.Engine) {
			e.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet {
					e.Set(func(e *transittest.Engine) {
						for _, k := range e.Signing {
							change(k)
						}
					})
				}
				return false
			}
		})
		if _, _, err := w.Make(t.Context(), keyring.ES256, "avouch-spoiled"); !errors.Is(err, keyring.ErrRefused) || len(e.SigningKeys()) != 0 {
			t.Errorf("%s: %v, left %v", what, err, e.SigningKeys())
		}
	}
	lost := true
	e.Set(func(e *transittest.Engine) {
		e.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || strings.HasSuffix(r.URL.Path, "/config") {
				return false
			}
			e.Set(func(e *transittest.Engine) {
				e.Signing = map[string]*transittest.SigningKey{"avouch-lost": {Kind: "ecdsa-p256", Versions: nil}}
			})
			w.WriteHeader(http.StatusBadGateway) // of a proxy
			return lost
		}
	})
	if _, _, err := w.Make(t.Context(), keyring.ES256, "avouch-lost"); !errors.Is(err, keyring.ErrSilent) || len(e.SigningKeys()) != 0 {
		t.Errorf("an answer that was lost: %v, left %v", err, e.SigningKeys())
	}
}

// TestRotatedThere: a signing key that somebody rotates in the engine goes on signing as before; one that was replaced does not count, as
// the keyring finds out; an engine that is not mounted is no proof that a key is gone.
func TestRotatedThere(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := e.wrapper(root)
	ref, public, err := w.Make(t.Context(), keyring.ES256, "avouch-one")
	if err != nil {
		t.Fatal(err)
	}
	e.Set(func(e *transittest.Engine) {
		e.Signing[ref].Versions = append(e.Signing[ref].Versions, transittest.NewSigningKey("ecdsa-p256"))
	})
	digest := sha256.Sum256([]byte("x"))
	signature, err := w.Sign(t.Context(), ref, keyring.ES256, digest[:])
	if err != nil || len(signature) != 64 || keyring.Thumbprint(public) == "" {
		t.Errorf("%x, %v", signature, err)
	}
	elsewhere, err := New(Config{Address: e.URL, Mount: "elsewhere", Key: "avouch", Login: root})
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.End(t.Context(), ref); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("where there is no engine: %v", err)
	}
}
