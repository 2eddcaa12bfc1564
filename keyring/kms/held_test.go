package kms

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
)

// records are signing keys in memory.
type records struct {
	mu   sync.Mutex
	keys []keyring.SigningKey
}

func (m *records) Load(context.Context) ([]keyring.SigningKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.keys), nil
}

func (m *records) Change(_ context.Context, decide func([]keyring.SigningKey) (keyring.SigningKey, audit.Event, bool)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, _, change := decide(slices.Clone(m.keys))
	if !change {
		return nil
	}
	if i := slices.IndexFunc(m.keys, func(o keyring.SigningKey) bool { return o.KID == k.KID }); i >= 0 {
		m.keys[i] = k
		return nil
	}
	m.keys = append(m.keys, k)
	return nil
}

func signing(t testing.TB, m *records, c Config) *keyring.Signing {
	t.Helper()
	w, err := c.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := keyring.NewSigning(m, w.Signing, time.Now)
	w.Held.Installation = "avouch.example"
	s.Hold(w.Held)
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s *keyring.Signing) string {
	t.Helper()
	token, err := s.Sign(t.Context(), keyring.TypeJWT, fmt.Appendf(nil, `{"exp":%d}`, time.Now().Add(time.Hour).Unix()))
	if err != nil {
		t.Error(err)
	}
	return token
}

// TestHeldThroughSettings: the setting has new keys made in the KMS; without it those that are there sign, and the next ones are made here.
func TestHeldThroughSettings(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	c := Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true, Sign: inKMS}
	m := &records{}
	s := signing(t, m, c)
	sign(t, s)
	if names := e.SigningKeys(); len(names) != 2 {
		t.Fatalf("there are %v", names)
	}
	c.Sign = ""
	s = signing(t, m, c)
	sign(t, s)
	for i := range 2 { // the standby takes over, and the next one is made
		if err := s.Revoke(t.Context(), m, m.keys[i].KID); err != nil {
			t.Fatal(err)
		}
		sign(t, s)
	}
	places, err := s.Places(t.Context())
	if err != nil || len(e.SigningKeys()) != 0 || len(places) != 2 || places[0].KMS != "" || places[1].KMS != "" {
		t.Errorf("there are %v, %+v, %v", e.SigningKeys(), places, err)
	}
}

// BenchmarkSign is a signature, here and in a transit engine on the same machine.
func BenchmarkSign(b *testing.B) {
	e := transittest.New()
	b.Cleanup(e.Close)
	for _, where := range []string{"local", inKMS} {
		s := signing(b, &records{}, Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true, Sign: where})
		b.Run(where, func(b *testing.B) {
			for b.Loop() {
				sign(b, s)
			}
		})
	}
}
