package gcpkms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// credentials are those of a service account whose tokens come from a server.
func credentials(t *testing.T, server string) []byte {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@b", "private_key_id": "x", "token_uri": server,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTokenHangs: a server of tokens that never answers holds nobody for longer than the call may take, nor than the caller waits; and is asked
// once by all, until that has been given up.
func TestTokenHangs(t *testing.T) {
	var asked atomic.Int32
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(stop)
	text := credentials(t, s.URL)
	file := filepath.Join(t.TempDir(), "google.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	given, err := ServiceAccount(secret.Text(string(text)), http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	const key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	for name, c := range map[string]Config{"the machine's": {}, "given ones": {Tokens: given}} {
		asked.Store(0)
		c.Key, c.Timeout = key, time.Second
		made, cancel := context.WithCancel(t.Context())
		w, err := New(made, c)
		cancel() // who makes the wrapper goes before it is used
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() {
				ctx := t.Context()
				if i%2 == 0 {
					short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
					defer cancel()
					ctx = short
				}
				_, err := w.Wrap(ctx, secret.Own(make([]byte, 32)), keyring.Binding{Tenant: tenantdb.Platform, Item: "x"})
				if !errors.Is(err, keyring.ErrSilent) {
					t.Errorf("%s: %v", name, err)
				}
				if took := time.Since(began); i%2 == 0 && took > 900*time.Millisecond || took > 3*time.Second {
					t.Errorf("%s: a call took %s", name, took)
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n == 0 || n > 2 {
			t.Errorf("%s: the server of tokens was asked %d times", name, n)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestBounded: a client that waits for ever fetches no tokens.
func TestBounded(t *testing.T) {
	t.Parallel()
	for client, want := range map[*http.Client]time.Duration{nil: 5 * time.Second, {}: 5 * time.Second, {Timeout: time.Second}: time.Second, {Timeout: time.Hour}: 5 * time.Second} {
		if got := bounded(client, tokenTimeout).Timeout; got != want {
			t.Errorf("%v is bounded to %s", client, got)
		}
	}
}
