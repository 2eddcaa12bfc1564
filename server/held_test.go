package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/kms"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestSigningKeysInTheKMS: an installation whose signing keys a KMS holds. Others check its tokens with what it publishes; while the KMS
// does not sign, no token is issued and every token is checked; two servers share the keys; a revoked key is ended there.
func TestSigningKeysInTheKMS(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	s := newSite(t)
	far := kms.Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true, Sign: "kms", Timeout: time.Second}
	change := func(c *Config) { c.KMS = far }
	n, second := s.start(t, change), s.start(t, change)
	if names := e.SigningKeys(); len(names) != 2 || !strings.HasPrefix(names[0], "avouch-") {
		t.Fatalf("the KMS holds %v", names)
	}
	acme := n.organisation(t, "Acme")
	token, kid := n.token(t, acme)
	byOthers(t, n, token)
	if !n.allowed(t, acme, token) || !second.allowed(t, acme, token) {
		t.Error("a token is not allowed")
	}
	status, err := n.KeyStatus(t.Context())
	must(t, err)
	if status.Held != "transit/transit" || len(status.Places) != 2 || status.Places[0].State != "signs" || status.Places[0].KID != kid || status.Places[0].KMS != "transit/transit" || !slices.Contains(e.SigningKeys(), status.Places[0].Key) {
		t.Errorf("%+v", status)
	}

	robin, _, err := n.Agents.Register(t.Context(), tenantdb.System(acme.id, "test"), agent.Registration{Name: "Reader", Scopes: []string{"read:email"}})
	must(t, err)
	issue := ask{Method: "POST", Path: "/api/v1/agents/" + robin.ID.String() + "/tokens", Key: acme.key, Body: map[string]any{}}
	e.Set(func(e *transittest.Engine) {
		e.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			down := strings.Contains(r.URL.Path, "/sign/")
			if down {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return down
		}
	})
	unable := func(what string) {
		t.Helper()
		began := time.Now()
		if a := n.call(t, issue); a.Status != http.StatusServiceUnavailable || a.kind() != string(problem.Unavailable) || time.Since(began) > 5*time.Second {
			t.Errorf("%s, after %s: %d %s", what, time.Since(began), a.Status, a.Raw)
		}
		if !n.allowed(t, acme, token) || !second.allowed(t, acme, token) {
			t.Errorf("%s: a token of before is not allowed", what)
		}
	}
	unable("while the KMS does not sign")
	hang := make(chan struct{})
	e.Set(func(e *transittest.Engine) {
		e.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/sign/") {
				<-hang
			}
			return false
		}
	})
	unable("while it hangs")
	must(t, n.rotateKeys(t.Context()))
	close(hang)
	if open, err := n.Incident.Open(t.Context(), tenantdb.System(tenantdb.Platform, "test")); err != nil || len(open) != 0 {
		t.Errorf("incidents of a KMS that does not answer: %+v, %v", open, err)
	}
	e.Set(func(e *transittest.Engine) { e.Instead = nil })
	n.call(t, issue).want(t, http.StatusCreated)

	// Its key is replaced under its name: what that signs is no token, and may be of another form, which is told of as well.
	replaced := status.Places[0].Key
	e.Set(func(e *transittest.Engine) {
		e.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			other := strings.HasSuffix(r.URL.Path, "/sign/"+replaced)
			if other {
				w.Write([]byte(`{"data": {"signature": "vault:v1:MEUC/+8="}}`))
			}
			return other
		}
	})
	unable("while its key is of another type")
	must(t, n.rotateKeys(t.Context()))
	if open, err := n.Incident.Open(t.Context(), tenantdb.System(tenantdb.Platform, "test")); err != nil || len(open) != 1 || open[0].Kind != keysRefused || open[0].Subject != kid {
		t.Errorf("incidents of a key of another type: %+v, %v", open, err)
	}
	e.Set(func(e *transittest.Engine) { e.Instead = nil })
	e.Set(func(e *transittest.Engine) {
		e.Signing[replaced].Versions[0] = transittest.NewSigningKey("ecdsa-p256")
	})
	unable("while its key is another")
	for range 2 {
		must(t, n.rotateKeys(t.Context()))
	}
	open, err := n.Incident.Open(t.Context(), tenantdb.System(tenantdb.Platform, "test"))
	must(t, err)
	if len(open) != 1 || open[0].Kind != keysRefused || open[0].Subject != kid {
		t.Errorf("open incidents: %+v", open)
	}
	must(t, n.RevokeSigningKey(t.Context(), tenantdb.System(tenantdb.Platform, "operator/ada"), kid))
	again, by := second.token(t, acme) // which has read no key since
	if by == kid {
		t.Error("the revoked key signs")
	}
	if n.allowed(t, acme, token) || second.allowed(t, acme, token) {
		t.Error("a token of a revoked key is allowed")
	}
	byOthers(t, n, again)
	if names := e.SigningKeys(); len(names) != 2 || slices.Contains(names, replaced) {
		t.Errorf("the KMS holds %v, and %s was revoked", names, replaced)
	}
	if !second.allowed(t, acme, again) {
		t.Error("a token by the successor is not allowed")
	}
}

// byOthers checks a token with another implementation, by what is published.
func byOthers(t *testing.T, n *live, token string) {
	t.Helper()
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal([]byte(n.get(t, "/.well-known/jwks.json", "").want(t, http.StatusOK).Raw), &set))
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	must(t, err)
	keys := set.Key(jws.Signatures[0].Header.KeyID)
	if len(keys) != 1 {
		t.Fatalf("%d keys", len(keys))
	}
	if payload, err := jws.Verify(keys[0]); err != nil || !strings.Contains(string(payload), n.URL()) {
		t.Errorf("%s: %v", payload, err)
	}
}

// TestEndlessEnd: a server starts where the KMS does not end a key that is needed no more.
func TestEndlessEnd(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	s := newSite(t)
	far := kms.Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true, Sign: "kms", Timeout: time.Second}
	change := func(c *Config) { c.KMS = far }
	n := s.start(t, change)
	status, err := n.KeyStatus(t.Context())
	must(t, err)
	e.Set(func(e *transittest.Engine) {
		e.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			refused := r.Method == http.MethodDelete
			if refused {
				w.WriteHeader(http.StatusForbidden)
			}
			return refused
		}
	})
	kid := status.Places[0].KID
	must(t, n.RevokeSigningKey(t.Context(), tenantdb.System(tenantdb.Platform, "operator/ada"), kid))
	n.stop()
	n = s.start(t, change)
	status, err = n.KeyStatus(t.Context())
	must(t, err)
	if !slices.ContainsFunc(status.Places, func(p keyring.Place) bool { return p.KID == kid && p.State == "revoked" }) || !strings.Contains(s.logged.String(), "was not ended in its KMS") {
		t.Errorf("%+v", status.Places)
	}
	e.Set(func(e *transittest.Engine) { e.Instead = nil })
	must(t, n.Signing.Rotate(t.Context()))
	if names := e.SigningKeys(); len(names) != 2 {
		t.Errorf("the KMS holds %v", names)
	}
}
