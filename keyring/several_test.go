package keyring_test

import (
	"errors"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	one = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	two = "2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)

func local(t *testing.T, text, use string) *keyring.Local {
	t.Helper()
	p, err := keyring.ParsePlatform([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.Wrapper(use)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestLocalContract: the platform key does what every wrapper does, alone and among several.
func TestLocalContract(t *testing.T) {
	t.Parallel()
	wrappertest.Run(t, wrappertest.Kind{Wrapper: local(t, one, keyring.ForKeyStore), Other: local(t, one, keyring.ForSigning), Name: "local"})
	wrappertest.Run(t, wrappertest.Kind{
		Wrapper: keyring.NewSeveral(local(t, one+","+two, keyring.ForKeyStore), local(t, one, "elsewhere")), Other: local(t, one, keyring.ForSigning), Name: "local",
	})
}

// TestSeveral: the first wraps, and what any wrapped opens with that one and no other.
func TestSeveral(t *testing.T) {
	t.Parallel()
	a, b, c := local(t, one, "a"), local(t, one, "b"), local(t, one, "c")
	s := keyring.NewSeveral(a, b)
	here := keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "x"}
	key := secret.Own([]byte("0123456789abcdef0123456789abcdef"))
	if w, err := s.Wrap(t.Context(), key, here); err != nil || w.KeyID != "platform/a" || s.KeyID() != "platform/a" {
		t.Errorf("wrapped by %s, %v", w.KeyID, err)
	}
	for _, from := range []*keyring.Local{a, b} {
		w, err := from.Wrap(t.Context(), key, here)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Unwrap(t.Context(), w, here); err != nil || !got.Equal(key) {
			t.Errorf("%s: %v", w.KeyID, err)
		}
		w.KeyID = map[string]string{"platform/a": "platform/b", "platform/b": "platform/a"}[w.KeyID]
		if _, err := s.Unwrap(t.Context(), w, here); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("under the name of %s: %v", w.KeyID, err)
		}
	}
	w, err := c.Wrap(t.Context(), key, here)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unwrap(t.Context(), w, here); !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("a wrapper that was not given: %v", err)
	}
	all, err := s.All(t.Context())
	if err != nil || len(all) != 2 || all[0].KeyID != "platform/a" || !all[1].Opens(keyring.Wrapping{KeyID: "platform/b", Version: 1}) || all[1].Opens(keyring.Wrapping{KeyID: "platform/b", Version: 2}) {
		t.Errorf("%+v, %v", all, err)
	}
}
