package transit

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestLoginHangs: a login that never ends holds nobody for longer than the call may take, nor than the caller waits, however many want one.
func TestLoginHangs(t *testing.T) {
	t.Parallel()
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
	w, err := New(Config{Address: s.URL, Key: "k", Timeout: time.Second, Login: Login{RoleID: "r", SecretID: secret.Text("s")}})
	if err != nil {
		t.Fatal(err)
	}
	here := keyring.Binding{Tenant: tenantdb.Platform, Item: "x"}
	began := time.Now()
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			var err error
			if i%2 == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				_, err = w.Wrap(ctx, secret.Own(make([]byte, 32)), here)
			} else {
				_, err = w.Unwrap(t.Context(), keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: 1, Blob: []byte("vault:v1:x")}, here)
			}
			if !errors.Is(err, keyring.ErrSilent) {
				t.Error(err)
			}
			if took := time.Since(began); i%2 == 0 && took > 900*time.Millisecond || took > 3*time.Second {
				t.Errorf("a call took %s", took)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n == 0 || n > 2 {
		t.Errorf("%d logins", n)
	}
}
