package server

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/kms"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestKMSAlone: an installation without a platform key. While its KMS is away, what is not in memory is answered with a problem that
// passes, nothing is refused for good and no key is made in place of another; when it is back, all works with no repair.
func TestKMSAlone(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	s := newSite(t)
	pepper := filepath.Join(s.dir, "pepper")
	far := kms.Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true}
	w, err := far.Open(t.Context(), nil)
	must(t, err)
	_, err = keyring.AddPepper(t.Context(), w.Store, true, pepper)
	must(t, err)
	must(t, os.Remove(s.keyFile()))
	change := func(c *Config) { c.PlatformKeyFile, c.KMS, c.PepperFile = "", far, pepper }
	n := s.start(t, change)
	acme := n.organisation(t, "Acme")
	key, _ := n.newKey(t, acme, nil)
	token, _ := n.token(t, acme)
	if !n.allowed(t, acme, token) {
		t.Error("a token is not allowed")
	}
	var requests []string
	e.Set(func(*transittest.Engine) { requests = slices.Clone(e.Requests) })
	for _, asked := range requests {
		if strings.Contains(asked, base64.StdEncoding.EncodeToString([]byte(key))) {
			t.Error("the KMS was told an API key")
		}
	}
	n.stop()

	e.Set(func(*transittest.Engine) { e.Status = http.StatusServiceUnavailable })
	_, err = Open(t.Context(), func() Config { c := s.config(); change(&c); return c }(), "127.0.0.1:1", s.log(t))
	if !errors.Is(err, keyring.ErrSilent) || errors.Is(err, keyring.ErrSealed) || strings.Contains(err.Error(), "is not the one of") {
		t.Errorf("a start without the KMS: %v", err)
	}
	e.Set(func(*transittest.Engine) { e.Status = 0 })
	n = s.start(t, change)
	n.get(t, "/api/v1/keys", key).want(t, http.StatusForbidden) // it is a service's, and is known
	e.Set(func(*transittest.Engine) { e.Status = http.StatusServiceUnavailable })
	n.Ring.ForgetTenant(acme.id)
	if a := n.get(t, "/api/v1/keys", acme.key); a.Status != http.StatusServiceUnavailable || a.kind() != string(problem.Unavailable) {
		t.Errorf("while the KMS is away: %d %s", a.Status, a.Raw)
	}
	e.Set(func(*transittest.Engine) { e.Status = 0 })
	n.get(t, "/api/v1/keys", acme.key).want(t, http.StatusOK)
	for status, want := range map[int]error{http.StatusServiceUnavailable: keyring.ErrSilent, http.StatusForbidden: keyring.ErrRefused} {
		e.Set(func(*transittest.Engine) { e.Status = status })
		n.Ring.ForgetTenant(acme.id)
		if _, err := n.Ring.Pseudonym(t.Context(), acme.id, "a", "b"); !errors.Is(err, want) || !problem.Is(err, problem.Unavailable) {
			t.Errorf("while the KMS answers with %d: %v", status, err)
		}
		e.Set(func(*transittest.Engine) { e.Status = 0 })
		if _, err := n.Ring.Pseudonym(t.Context(), acme.id, "a", "b"); err != nil {
			t.Error(err)
		}
	}
	if !n.allowed(t, acme, token) {
		t.Error("a token from before is not allowed")
	}
	needed, err := n.Signing.Needed(t.Context())
	if err != nil || len(needed) != 1 || needed[keyring.Wrapping{KeyID: "transit/transit/avouch", Version: 1}] == 0 {
		t.Errorf("signing keys need %v, %v", needed, err)
	}
	status, err := n.KeyStatus(t.Context())
	if err != nil || len(status.Needs) != 2 || !status.Needs[0].Given || !status.Needs[1].Given {
		t.Errorf("%+v, %v", status, err)
	}
}

// TestPepperWaitsForRewrap: while servers are given a new pepper one after the other, by an operator whose own programs have it already, each
// server knows every key that is made meanwhile, by whomever; after a rewrapping keys are made with the new one.
func TestPepperWaitsForRewrap(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pepper := filepath.Join(s.dir, "pepper")
	change := func(c *Config) { c.PepperFile = pepper }
	before := s.start(t)
	acme := before.organisation(t, "Acme")
	_, err := keyring.AddPepper(t.Context(), nil, false, pepper)
	must(t, err)
	given := s.start(t, change)
	operator, err := Operate(t.Context(), func() Config { c := s.config(); change(&c); return c }(), s.log(t))
	must(t, err)
	t.Cleanup(operator.Close)
	knows := func(n *live, key string) {
		t.Helper()
		n.get(t, "/api/v1/keys", key).want(t, http.StatusForbidden) // it is a service's, and is known
	}
	digested := func() map[uint32]int64 {
		t.Helper()
		all, err := operator.Keys.Peppers(t.Context(), tenantdb.System(acme.id, "test"))
		must(t, err)
		return all
	}
	for _, n := range []*live{before, given} {
		key, _ := n.newKey(t, acme, nil)
		knows(before, key)
		knows(given, key)
	}
	made, err := operator.Keys.Recover(t.Context(), tenantdb.System(acme.id, "operator"), "by the operator")
	must(t, err)
	for _, n := range []*live{before, given} {
		n.get(t, "/api/v1/keys", made.Secret.Expose()).want(t, http.StatusOK)
	}
	if all := digested(); len(all) != 1 || all[1] == 0 {
		t.Errorf("before the rewrapping digests are %v", all)
	}
	before.stop()
	_, err = operator.Rewrap(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), func(string, keyring.Progress) {})
	must(t, err)
	time.Sleep(1100 * time.Millisecond) // servers look each second
	key, _ := given.newKey(t, acme, nil)
	knows(given, key)
	if all := digested(); all[1<<16+1] == 0 {
		t.Errorf("after the rewrapping digests are %v", all)
	}
}

// TestRewrapBesideServers: a server that has both keys goes on while everything is wrapped anew, and one that has the new one alone
// begins afterwards.
func TestRewrapBesideServers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	token, _ := n.token(t, acme)
	n.stop()
	_, err := keyring.AddPlatformKey(t.Context(), s.keyFile())
	must(t, err)
	n = s.start(t)
	other := s.start(t)
	told := 0
	serve := func(when string) {
		t.Helper()
		for _, server := range []*live{n, other} {
			server.Ring.ForgetTenant(acme.id)
			must(t, server.Signing.Refresh(t.Context()))
			server.get(t, "/api/v1/keys", acme.key).want(t, http.StatusOK)
			if !server.allowed(t, acme, token) || len(server.Signing.Unusable()) != 0 {
				t.Errorf("%s: %v", when, server.Signing.Unusable())
			}
		}
	}
	r, err := n.Rewrap(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), func(what string, p keyring.Progress) {
		told++
		serve(fmt.Sprintf("with %d of the %s rewrapped", p.Wrapped, what))
	})
	if err != nil || r.Store.Wrapped != r.Store.Keys || r.Signing.Wrapped != r.Signing.Keys || r.Under.Version != 2 || told == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	serve("after the rewrapping")
	if n := len(n.entries(t, tenantdb.Platform, "platform_key.rewrapped")); n != 1 {
		t.Errorf("%d entries say that it is done", n)
	}
}
