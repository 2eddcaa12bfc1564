package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// damage spoils records of signing keys past all nets, and undo takes it back.
func (s *site) damage(t *testing.T, where string) {
	t.Helper()
	_, err := s.admin.Exec(t.Context(), `ALTER TABLE avouch.signing_key DISABLE TRIGGER require_entry;
		UPDATE avouch.signing_key SET private_key = overlay(private_key placing '\xff00' from length(private_key) - 1) WHERE `+where+`;
		ALTER TABLE avouch.signing_key ENABLE ALWAYS TRIGGER require_entry`)
	must(t, err)
}

// token is what a new agent of the party holds, and the key that it is signed with.
func (n *live) token(t *testing.T, p party) (token, kid string) {
	t.Helper()
	a := n.call(t, ask{Method: "POST", Path: "/api/v1/agents/register", Key: p.key, Body: map[string]any{"name": "Robin", "capabilities": []string{"read:email"}}}).want(t, http.StatusCreated)
	token = a.text("token")
	head, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
	must(t, err)
	var h struct{ KID string }
	must(t, json.Unmarshal(head, &h))
	return token, h.KID
}

func (n *live) allowed(t *testing.T, p party, token string) bool {
	t.Helper()
	a := n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Key: p.key, Body: map[string]any{"token": token, "scopes_requested": []string{"read:email"}}}).want(t, http.StatusOK)
	return a.Body["allowed"] == true
}

// A record that does not open costs its own tokens: the rest goes on, and the operator is told.
func TestUnusableSigningKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	old, kid := n.token(t, acme)
	if !n.allowed(t, acme, old) {
		t.Fatal("the token is not allowed before")
	}
	s.damage(t, "kid = '"+kid+"'")
	must(t, n.DB.MoveEpochs(t.Context())) // so that the next verification reads the keys again
	if n.allowed(t, acme, old) {
		t.Error("a token of a key that does not open is allowed")
	}
	watch := n.watchKeys()
	for range 2 {
		must(t, watch(t.Context()))
	}
	next, by := n.token(t, acme)
	if by == kid || !n.allowed(t, acme, next) {
		t.Errorf("the standby has not taken over from %s: %s signs", kid, by)
	}
	open, err := n.Incident.Open(t.Context(), tenantdb.System(tenantdb.Platform, "test"))
	must(t, err)
	if len(open) != 1 || open[0].Kind != keysUnusable || open[0].Subject != kid {
		t.Errorf("open incidents: %+v", open)
	}
	if got := strings.Count(s.logged.String(), "a signing key cannot be used"); got == 0 || got > 2 { // the server's own watch, and the test's
		t.Errorf("logged %d times", got)
	}
	if a := n.get(t, "/metrics", "").want(t, http.StatusOK); !strings.Contains(a.Raw, "avouch_signing_keys_unusable 1") {
		t.Error("the metrics do not show it")
	}
	other := s.start(t) // one that starts now goes on too
	if other.allowed(t, acme, old) || !other.allowed(t, acme, next) {
		t.Error("a server that starts decides otherwise")
	}
}

// No record opens: nothing is issued, and that is said; nothing is allowed, which is a decision. The operator revokes them.
func TestNoSigningKeyOpens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	old, _ := n.token(t, acme)
	s.damage(t, "true")
	must(t, n.DB.MoveEpochs(t.Context()))
	if n.allowed(t, acme, old) {
		t.Error("a token is allowed though no key opens")
	}
	a := n.call(t, ask{Method: "POST", Path: "/api/v1/agents/register", Key: acme.key, Body: map[string]any{"name": "Robin"}}).want(t, http.StatusServiceUnavailable)
	if !strings.Contains(a.text("detail"), "cannot be signed") {
		t.Errorf("what it cannot do is not said: %s", a.Raw)
	}
	cfg := s.config()
	if _, err := Open(t.Context(), cfg, "127.0.0.1:0", s.log(t)); !errors.Is(err, keyring.ErrNoneOpens) {
		t.Errorf("a server starts without a key: %v", err)
	}
	operator, err := Operate(t.Context(), cfg, s.log(t))
	must(t, err)
	defer operator.Close()
	for _, u := range operator.Signing.Unusable() {
		must(t, operator.RevokeSigningKey(context.Background(), tenantdb.System(tenantdb.Platform, "operator"), u.KID))
	}
	must(t, n.Signing.Refresh(t.Context()))
	if next, _ := n.token(t, acme); !n.allowed(t, acme, next) || n.allowed(t, acme, old) {
		t.Error("after the revocation it does not go on")
	}
}
