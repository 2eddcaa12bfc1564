package verify

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestKeyChangesOnAnotherServer makes every change of a key on one server and asks the other, which had remembered what was
// before, at once.
func TestKeyChangesOnAnotherServer(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	key, id := h.data(t, apikey.NewKey{})
	expect := func(c Code, left int64) {
		t.Helper()
		h.code(t, other, KeyRequest{Key: key, Address: "192.0.2.1"}, c, left)
	}
	change := func(ch apikey.Change) { _, err := h.keys.Update(t.Context(), h.service, id, "", ch); must(t, err) }
	act := func(do func(context.Context, tenantdb.Caller, string) (apikey.Key, error)) {
		_, err := do(t.Context(), h.service, id)
		must(t, err)
	}
	expect(Valid, -1)
	act(h.keys.Disable)
	expect(KeyDisabled, -1)
	act(h.keys.Enable)
	expect(Valid, -1)
	change(apikey.Change{AllowedCIDRs: &[]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	expect(ForbiddenAddress, -1)
	change(apikey.Change{AllowedCIDRs: &[]netip.Prefix{}})
	expect(Valid, -1)
	told := func(words, never string) {
		t.Helper()
		for _, s := range []*side{h.side, other} {
			if a := h.code(t, s, KeyRequest{Key: key, Address: "192.0.2.1"}, Valid, -1); !strings.Contains(a.Raw, words) || strings.Contains(a.Raw, never) {
				t.Errorf("%s is not told, or %s still is: %s", words, never, a.Raw)
			}
		}
	}
	change(apikey.Change{Metadata: &map[string]any{"role": "admin"}})
	told("admin", "renamed")
	change(apikey.Change{Metadata: &map[string]any{"role": "guest"}})
	told("guest", "admin")
	renamed := "renamed"
	change(apikey.Change{Name: &renamed})
	told("renamed", "admin")
	change(apikey.Change{MaxUses: number(2)})
	expect(Valid, 1)
	expect(Valid, 0)
	expect(UsageExceeded, 0)
	change(apikey.Change{MaxUses: number(3), RateLimits: &[]apikey.RateLimit{per("hour", 1, time.Hour)}})
	expect(Valid, 0)
	expect(RateLimited, 0)
	next, err := h.keys.Rotate(t.Context(), h.service, id, 0)
	must(t, err)
	expect(KeyRevoked, 0)
	key, id = next.Secret.Expose(), next.ID
	expect(RateLimited, 0) // its successor goes on counting
	system := tenantdb.System(h.service.Tenant(), "operator")
	must(t, h.orgs.Suspend(t.Context(), system, "unpaid"))
	if a := other.askKey(t, h.key, KeyRequest{Key: key}); a.Status != noKey {
		t.Errorf("of a suspended organisation: %d %s", a.Status, a.Raw)
	}
	must(t, h.orgs.Resume(t.Context(), system, "paid"))
	change(apikey.Change{MaxUses: number(9), RateLimits: &[]apikey.RateLimit{}})
	expect(Valid, 5)
	act(h.keys.Revoke)
	expect(KeyRevoked, 5)
}

// TestNoKeyIsValidAfterItsEnd: callers ask one server about a key without a pause while it is ended on the other. None that
// asks after that was acknowledged is told VALID, and none before is told anything else.
func TestNoKeyIsValidAfterItsEnd(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	ends := map[Code]func(id string) error{
		KeyRevoked:  func(id string) error { _, err := h.keys.Revoke(t.Context(), h.service, id); return err },
		KeyDisabled: func(id string) error { _, err := h.keys.Disable(t.Context(), h.service, id); return err },
		ForbiddenAddress: func(id string) error {
			_, err := h.keys.Update(t.Context(), h.service, id, "", apikey.Change{AllowedCIDRs: &[]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
			return err
		},
	}
	var after atomic.Int64
	for n := range 12 {
		for code, end := range ends {
			key, id := h.data(t, apikey.NewKey{})
			h.code(t, other, KeyRequest{Key: key}, Valid, -1)
			var going, gone atomic.Bool
			var all sync.WaitGroup
			for i := range 4 {
				s := []*side{other, other, other, h.side}[i]
				all.Go(func() {
					for late := 0; late < 3; {
						acknowledged := gone.Load()
						a := s.askKey(t, h.key, KeyRequest{Key: key, Address: "192.0.2.1"})
						switch got := a.Body["code"]; {
						case a.Status != http.StatusOK || got != "VALID" && got != string(code):
							t.Errorf("%s: %d %s", code, a.Status, a.Raw)
							return
						case acknowledged && got == "VALID":
							t.Errorf("round %d: VALID after %s was acknowledged", n, code)
						case got != "VALID" && !going.Load():
							t.Errorf("round %d: %s before anything was asked for", n, code)
						}
						if acknowledged {
							late++
							after.Add(1)
						}
					}
				})
			}
			time.Sleep(5 * time.Millisecond)
			going.Store(true)
			must(t, end(id))
			gone.Store(true)
			all.Wait()
		}
	}
	t.Logf("measured: %d keys verified after their end was acknowledged, none of them valid", after.Load())
}

// TestKeyLosesToChanges: a decision about a key that loses to changes time after time is made under the lock in the end, and is
// right then too.
func TestKeyLosesToChanges(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, id := h.data(t, apikey.NewKey{MaxUses: number(1)})
	var calls atomic.Int64
	h.cfg.Remembered = func(head tenantdb.Head) tenantdb.Head {
		if n := calls.Add(1); n <= attempts {
			head.Epoch++ // a change has come between
			if n == attempts {
				_, err := h.keys.Disable(context.WithoutCancel(t.Context()), h.service, id)
				must(t, err)
			}
		}
		return head
	}
	h.code(t, h.side, KeyRequest{Key: key}, KeyDisabled, 1)
	_, err := h.keys.Enable(t.Context(), h.service, id)
	must(t, err)
	calls.Store(0)
	h.cfg.Remembered = func(head tenantdb.Head) tenantdb.Head {
		if calls.Add(1) <= attempts {
			head.Epoch++
		}
		return head
	}
	h.code(t, h.side, KeyRequest{Key: key}, Valid, 0)
	calls.Store(0)
	h.code(t, h.side, KeyRequest{Key: key}, UsageExceeded, 0)
	calls.Store(0)
	h.cfg.Remembered = func(head tenantdb.Head) tenantdb.Head {
		if calls.Add(1) == 2 { // the first found the uses spent; before the refusal is written, there are more
			_, err := h.keys.Update(context.WithoutCancel(t.Context()), h.service, id, "", apikey.Change{MaxUses: number(5)})
			must(t, err)
		}
		return head
	}
	h.code(t, h.side, KeyRequest{Key: key}, Valid, 3)
	if n := len(h.keysVerified(t)); n != 4 {
		t.Errorf("%d entries of four answers", n)
	}
}

// TestStalledLogDeniesKeys: while the log cannot be written nobody is told VALID, and nothing is spent.
func TestStalledLogDeniesKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, id := h.data(t, apikey.NewKey{MaxUses: number(5)})
	h.code(t, h.side, KeyRequest{Key: key}, Valid, 4)
	let := h.hold(t, h.service)
	var all sync.WaitGroup
	for _, text := range []string{key, "none"} {
		all.Go(func() {
			if a := h.askKey(t, h.key, KeyRequest{Key: text}); a.Status != http.StatusServiceUnavailable || a.Body["valid"] != nil {
				t.Errorf("answered %d %s", a.Status, a.Raw)
			}
		})
	}
	all.Wait()
	let()
	h.code(t, h.side, KeyRequest{Key: key}, Valid, 3)
	if n := len(h.keysVerified(t)); n != 2 || h.used(t, "uses:"+id) != "2" {
		t.Errorf("%d entries and %s uses of two answers", n, h.used(t, "uses:"+id))
	}
	gone := h.Another(t)
	cold := h.server(t, gone) // what it knows of the key would be read from a database that is gone
	gone.DB.Close()
	if a := cold.askKey(t, h.key, KeyRequest{Key: key}); a.Status != http.StatusServiceUnavailable {
		t.Errorf("without a database: %d %s", a.Status, a.Raw)
	}
}
