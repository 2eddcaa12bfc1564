package server

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestForgottenServer: a server that was not started again with the new version of the platform key before the rewrapping says that it is
// not ready, makes nothing under the old one, and calls neither a log nor a signing key altered. Started again, it has nothing to mend.
func TestForgottenServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := filepath.Join(t.TempDir(), "old.key")
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	n.stop()
	text, err := os.ReadFile(s.keyFile())
	must(t, err)
	must(t, os.WriteFile(old, text, 0o600))
	n = s.start(t, func(c *Config) { c.PlatformKeyFile = old })
	must(t, n.opensKeys(t.Context()))
	_, err = keyring.AddPlatformKey(t.Context(), s.keyFile())
	must(t, err)
	operator, err := Operate(t.Context(), s.config(), s.log(t))
	must(t, err)
	defer operator.Close()
	_, err = operator.Rewrap(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), func(string, keyring.Progress) {})
	must(t, err)

	forget := func() { n.Ring.ForgetTenant(acme.id); n.Ring.ForgetTenant(tenantdb.Platform) }
	forget()
	eventually(t, "a forgotten server is ready", func() bool {
		a := n.get(t, "/readyz", "")
		return a.Status == http.StatusServiceUnavailable && a.kind() == string(problem.Unavailable) && strings.Contains(a.text("detail"), "Start it again")
	})
	if a := n.get(t, "/api/v1/keys", acme.key); a.Status != http.StatusServiceUnavailable {
		t.Errorf("a request: %d %s", a.Status, a.Raw)
	}
	if _, err := n.Org.Create(t.Context(), org.NewOrganisation{Name: "Late", ContactEmail: "late@example.com"}); !errors.Is(err, keyring.ErrNotGiven) {
		t.Errorf("it makes an organisation: %v", err)
	}
	for range 2 {
		forget()
		if err := n.Trail.Pass(t.Context()); !errors.Is(err, keyring.ErrNotGiven) {
			t.Errorf("it verifies logs: %v", err)
		}
	}
	for what, do := range map[string]func(context.Context) error{"watches": n.watchKeys(), "rotates": n.rotateKeys, "watches its health": n.watchHealth} {
		if err := do(t.Context()); !errors.Is(err, keyring.ErrNotGiven) {
			t.Errorf("it %s: %v", what, err)
		}
	}
	for _, says := range []string{"a log does not verify", "a signing key cannot be used"} {
		if strings.Contains(s.logged.String(), says) {
			t.Errorf("it says: %s", says)
		}
	}
	needed, err := operator.Ring.Needed(t.Context())
	must(t, err)
	signing, err := operator.Signing.Needed(t.Context())
	must(t, err)
	if len(needed) != 1 || len(signing) != 1 {
		t.Errorf("something needs the old version again: %v, %v", needed, signing)
	}

	n.stop()
	n = s.start(t)
	n.get(t, "/readyz", "").want(t, http.StatusOK)
	n.get(t, "/api/v1/keys", acme.key).want(t, http.StatusOK)
	must(t, n.Trail.Pass(t.Context()))
	for _, tenant := range []tenantdb.TenantID{acme.id, tenantdb.Platform} {
		open, err := n.Incident.Open(t.Context(), tenantdb.System(tenant, "test"))
		must(t, err)
		if len(open) != 0 {
			t.Errorf("incidents are open: %+v", open)
		}
	}
}

// TestReadinessFollowsTheKMS: a server whose KMS is away, or refuses, is not ready, and is again when that is mended.
func TestReadinessFollowsTheKMS(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	s := newSite(t)
	token, pepper := filepath.Join(s.dir, "token"), filepath.Join(s.dir, "pepper")
	must(t, os.WriteFile(token, []byte(transittest.Root), 0o600))
	_, err := keyring.AddPepper(t.Context(), nil, false, pepper)
	must(t, err)
	n := s.start(t, func(c *Config) {
		c.PlatformKeyFile, c.PepperFile = "", pepper
		c.KMS.Kind, c.KMS.Key, c.KMS.Address, c.KMS.TokenFile, c.KMS.SigningKeys = "transit", "avouch", e.URL, token, true
	})
	is := func(what string, status int) {
		t.Helper()
		eventually(t, what, func() bool { return n.get(t, "/readyz", "").Status == status })
	}
	is("never ready", http.StatusOK)
	for what, status := range map[string]int{"away": http.StatusServiceUnavailable, "refusing": http.StatusForbidden} {
		e.Set(func(e *transittest.Engine) { e.Status = status })
		is("ready with the KMS "+what, http.StatusServiceUnavailable)
		if a := n.get(t, "/readyz", ""); !strings.Contains(a.text("detail"), "keys cannot be opened") || strings.Contains(a.Raw, "transit") {
			t.Errorf("%s: %s", what, a.Raw)
		}
		e.Set(func(e *transittest.Engine) { e.Status = 0 })
		is("not ready after the KMS was "+what, http.StatusOK)
	}
}

// TestServerForgetsKeys: a server lets go of the keys that nobody asked for lately, without being asked anything.
func TestServerForgetsKeys(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var half []chan time.Time // what is done every 30 seconds
	s := newSite(t)
	n := s.start(t, func(c *Config) {
		c.clock.tick = func(interval time.Duration) (<-chan time.Time, func()) {
			mu.Lock()
			defer mu.Unlock()
			c := make(chan time.Time)
			if interval == 30*time.Second {
				half = append(half, c)
			}
			return c, func() {}
		}
	})
	acme := n.organisation(t, "Acme")
	n.get(t, "/api/v1/keys", acme.key).want(t, http.StatusOK)
	held := n.Ring.Held()
	if held == 0 {
		t.Fatal("no key is in memory: this tests nothing")
	}
	time.Sleep(31 * time.Second) // no clock of the tests ends what is in memory
	eventually(t, "keys that nobody asked for are in memory", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range half {
			select {
			case c <- time.Now():
			default:
			}
		}
		return n.Ring.Held() < held/2
	})
}
