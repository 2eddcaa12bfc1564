package kms

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
	"github.com/avouch-dev/avouch/tenantdb"
)

func newShared(t *testing.T, key string) (*shared, *transittest.Engine) {
	t.Helper()
	e := transittest.New()
	t.Cleanup(e.Close)
	e.Mount = key
	w, err := transit.New(transit.Config{Address: e.URL, Mount: key, Key: "avouch", Login: transit.Login{Token: secret.Text(transittest.Root)}, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &shared{Named: w}, e
}

// decrypted is how often an engine was asked to.
func decrypted(e *transittest.Engine) (n int) {
	e.Set(func(*transittest.Engine) {
		for _, r := range e.Requests {
			if strings.Contains(r, "/decrypt/") {
				n++
			}
		}
	})
	return n
}

// TestContract: a shared wrapper does what every wrapper does.
func TestContract(t *testing.T) {
	t.Parallel()
	w, e := newShared(t, "one")
	other, _ := newShared(t, "two")
	wrappertest.Run(t, wrappertest.Kind{
		Wrapper: w, Other: other, Name: "transit", Rotate: func(*testing.T) { e.Rotate() }, Secrets: []string{transittest.Root},
		Hang: func(t *testing.T) {
			over := make(chan struct{})
			t.Cleanup(func() { close(over) })
			e.Set(func(*transittest.Engine) { e.Hang = over })
		},
	})
}

// TestShared: a hundred who ask for one key at once are one call, and one who hangs up is nobody else's loss.
func TestShared(t *testing.T) {
	t.Parallel()
	w, e := newShared(t, "one")
	key := []byte("0123456789abcdef0123456789abcdef")
	here, there := keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "a"}, keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "a"}
	k, err := w.Wrap(t.Context(), secret.Own(slices.Clone(key)), here)
	if err != nil {
		t.Fatal(err)
	}
	wait := make(chan struct{})
	e.Set(func(*transittest.Engine) { e.Hang = wait })
	first, hangUp := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := w.Unwrap(first, k, here); !errors.Is(err, context.Canceled) {
			t.Errorf("who hung up: %v", err)
		}
	})
	time.Sleep(100 * time.Millisecond) // the first is on its way
	for range 100 {
		all.Go(func() {
			got, err := w.Unwrap(t.Context(), k, here)
			if err != nil || !bytes.Equal(got.Expose(), key) {
				t.Errorf("%v", err)
			}
			got.Clear() // its own
		})
	}
	moved := make(chan error, 1)
	all.Go(func() {
		_, err := w.Unwrap(t.Context(), k, there)
		moved <- err
	})
	time.Sleep(100 * time.Millisecond)
	hangUp()
	e.Set(func(*transittest.Engine) { e.Hang = nil })
	close(wait)
	all.Wait()
	if err := <-moved; !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("for another organisation, beside them: %v", err)
	}
	if n := decrypted(e); n > 4 {
		t.Errorf("%d calls", n)
	}
	before := decrypted(e)
	if _, err := w.Unwrap(t.Context(), k, here); err != nil || decrypted(e) != before+1 {
		t.Errorf("a call that is over is remembered: %v", err)
	}
}
