package server

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// kmsRow is a row of an organisation's settings, as whoever writes the database has it.
type kmsRow struct {
	id, kind, key, state, by string
	settings                 []byte
	version                  int64
	at                       time.Time
}

func (p *place) kmsRow(t testing.TB) (k kmsRow) {
	t.Helper()
	must(t, p.DB.Read(t.Context(), tenantdb.System(p.id, "test").Keyless(), func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT setting_id::text, kind, key_id, state, set_by, settings, version, set_at FROM avouch.own_kms WHERE tenant_id = $1`, p.id).
			Scan(&k.id, &k.kind, &k.key, &k.state, &k.by, &k.settings, &k.version, &k.at)
	}))
	return k
}

// putRow has a row be all that there is.
func (p *place) putRow(t testing.TB, k kmsRow) {
	t.Helper()
	p.writeKMS(t, `DELETE FROM avouch.own_kms WHERE tenant_id = $1`)
	p.writeKMS(t, `INSERT INTO avouch.own_kms (tenant_id, setting_id, kind, key_id, state, set_by, settings, version, set_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, k.id, k.kind, k.key, k.state, k.by, k.settings, k.version, k.at)
}

func (p *place) writeKMS(t testing.TB, sql string, args ...any) {
	t.Helper()
	must(t, p.DB.Change(t.Context(), tenantdb.System(p.id, "test").Keyless(), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), sql, append([]any{p.id}, args...)...)
		return audit.Event{Type: "test.prepared"}, err
	}))
}

// during does something once, when an engine is asked to decrypt; the answer is as it would be.
func during(e *transittest.Engine, fn func()) {
	var once sync.Once
	e.Set(func(e *transittest.Engine) {
		e.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/decrypt/") {
				once.Do(fn)
			}
			return false
		}
	})
}

// failsToRemove asks for the removal while the engine revokes, and gives the row as it was on the way.
func (p *place) failsToRemove(t testing.TB, e *transittest.Engine) (leaving kmsRow) {
	t.Helper()
	during(e, func() { leaving = p.kmsRow(t); revoke(e) })
	cookie, _ := p.signed(t, p.owner)
	a := p.call(t, ask{Method: "DELETE", Path: theKMS, Header: p.fromPage(cookie)})
	if a.Status != http.StatusConflict || !strings.Contains(a.text("detail"), "nothing was changed") || leaving.state != "leaving" {
		t.Fatalf("%d %s, on the way %s", a.Status, a.Raw, leaving.state)
	}
	during(e, func() {})
	return leaving
}

func (p *place) isUnder(t testing.TB, kind string) {
	t.Helper()
	if got := p.as(t, p.owner, "GET", theKMS, nil); got.text("kind") != kind || got.Body["moving"] != false || got.Body["open"] != true {
		t.Errorf("not under %s: %s", kind, got.Raw)
	}
}

// TestFailedRemovalChangesNothing: what was answered with "nothing was changed" is not done later by itself, however long the key
// management was away; and it can be asked for again.
func TestFailedRemovalChangesNothing(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	p.failsToRemove(t, e)
	if got := p.kmsRow(t); got.state != "current" {
		t.Errorf("the row says %s", got.state)
	}
	p.becomes(t, closedKind, 3*shortLife)
	allowAgain(e)
	p.becomes(t, "", 3*shortLife)
	for range 3 {
		n.later(5 * time.Minute)
		must(t, n.Org.SettleKMS(t.Context(), tenantdb.System(p.id, "kms")))
	}
	p.isUnder(t, "transit")
	if len(n.entries(t, p.id, "organisation.kms_kept")) != 1 || len(n.entries(t, p.id, "organisation.kms_removed")) != 0 {
		t.Error("the log does not say that it stays")
	}
	p.as(t, p.owner, "DELETE", theKMS, nil)
	p.isUnder(t, "platform")
}

// TestRemovalIsResumed: a removal that a server left half way, when it was killed, is gone on with for as long as it is its owner's word
// of a moment ago, and not on a later day.
func TestRemovalIsResumed(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	by := tenantdb.System(p.id, "kms")
	leaving := p.failsToRemove(t, e)
	allowAgain(e)
	p.becomes(t, "", 3*shortLife)
	p.putRow(t, leaving) // as if it had been killed then
	must(t, n.Org.SettleKMS(t.Context(), by))
	if got := p.as(t, p.owner, "GET", theKMS, nil); got.text("kind") != "transit" || got.Body["moving"] != true {
		t.Errorf("what somebody may be at was moved on: %s", got.Raw)
	}
	n.later(time.Hour)
	must(t, n.Org.SettleKMS(t.Context(), by))
	p.isUnder(t, "transit")
	leaving = p.failsToRemove(t, e)
	allowAgain(e)
	p.becomes(t, "", 3*shortLife)
	p.putRow(t, leaving)
	n.later(5 * time.Minute)
	must(t, n.Org.SettleKMS(t.Context(), by))
	p.isUnder(t, "platform")
	p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root))
	leaving = p.failsToRemove(t, e)
	allowAgain(e)
	p.becomes(t, "", 3*shortLife)
	must(t, n.Ring.TakeBack(t.Context(), p.id)) // killed after that
	p.putRow(t, leaving)
	must(t, n.Org.SettleKMS(t.Context(), by))
	p.isUnder(t, "platform")
	if len(n.entries(t, p.id, "organisation.kms_removed")) != 2 {
		t.Error("the log does not say that it was removed")
	}
}

// TestRowsAloneMoveNothing: whoever writes the database takes no organisation's key management away, and gives it no other.
func TestRowsAloneMoveNothing(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	by := tenantdb.System(p.id, "kms")
	first := p.kmsRow(t)
	p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root))
	own, err := n.Ring.OwnSetting(t.Context(), p.id)
	must(t, err)
	p.writeKMS(t, `UPDATE avouch.own_kms SET state = 'leaving' WHERE tenant_id = $1`)
	n.later(5 * time.Minute)
	must(t, n.Org.SettleKMS(t.Context(), by))
	p.isUnder(t, "transit")
	for _, state := range []string{"begun", "current", "leaving"} { // an old row beside, put back whole
		p.writeKMS(t, `INSERT INTO avouch.own_kms (tenant_id, setting_id, kind, key_id, state, set_by, settings, version, set_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant_id, setting_id) DO UPDATE SET state = EXCLUDED.state`,
			first.id, first.kind, first.key, state, first.by, first.settings, first.version, first.at)
		must(t, n.Org.SettleKMS(t.Context(), by))
		if now, err := n.Ring.OwnSetting(t.Context(), p.id); err != nil || now != own {
			t.Errorf("%s: under %x, %v", state, now, err)
		}
	}
	p.isUnder(t, "transit")
}

// TestRestoredDatabase: after a database of before the last change of the settings was restored, the organisation is closed, it is said why,
// and the operator takes the settings again.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	before := p.kmsRow(t)
	p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root)) // as after rotating the key there
	p.putRow(t, before)
	n.Ring.ForgetOwner(p.id) // a restart
	if a := n.get(t, "/api/v1/organisation", p.key); a.kind() != closedKind || !strings.Contains(a.text("detail"), "settings are missing here") || strings.Contains(a.text("detail"), "same key") {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	operator := tenantdb.System(p.id, "operator/ada")
	s, err := n.Org.GetKMS(t.Context(), operator.Keyless())
	if err != nil || s.Open || s.Why != keyring.Unset || s.View().Kind != "lost" {
		t.Errorf("%+v, %v", s, err)
	}
	settings := func(address string) org.KMS {
		return org.KMS{Kind: org.KMSTransit, Transit: org.TransitKMS{Address: address, Key: "avouch", Token: secret.Text(transittest.Root)}}
	}
	if _, err := n.Org.RepairKMS(t.Context(), operator, settings(newEngine(t).URL)); !problem.Is(err, problem.Conflict) {
		t.Errorf("what does not open the key was taken: %v", err)
	}
	if s, err = n.Org.RepairKMS(t.Context(), operator, settings(e.URL)); err != nil || !s.Open || s.Kind != org.KMSTransit || s.KeyID != before.key {
		t.Fatalf("%+v, %v", s, err)
	}
	p.becomes(t, "", shortLife)
	if got := p.kmsRow(t); got.id == before.id || got.state != "current" { // which also wants it to be the only one
		t.Errorf("%+v", got)
	}
	n.later(5 * time.Minute)
	must(t, n.Org.SettleKMS(t.Context(), tenantdb.System(p.id, "kms")))
	p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root))
	p.isUnder(t, "transit")
}

// TestOwnerNoMore: who is no owner any more when the key management has been tried changes nothing.
func TestOwnerNoMore(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.place(t, "Own"), newEngine(t)
	second := p.person(t, org.RoleOwner)
	during(e, func() {
		p.writeKMS(t, `UPDATE avouch.person SET roles = ARRAY['admin'] WHERE tenant_id = $1 AND person_id = $2`, second)
	})
	cookie, _ := p.signed(t, second)
	a := n.call(t, ask{Method: "PUT", Path: theKMS, Body: transitBody(e.URL, transittest.Root), Header: p.fromPage(cookie)})
	if a.Status != http.StatusForbidden || a.kind() != "denied" || e.Asked() == 0 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	p.isUnder(t, "platform")
}

// googleBody are settings for Google's service, with a service account whose tokens come from an address.
func googleBody(t testing.TB, tokens string) object {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@b.example", "private_key_id": "x", "token_uri": tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	must(t, err)
	return object{"kind": "gcpkms", "gcpkms": object{"key": "projects/p/locations/l/keyRings/r/cryptoKeys/k", "credentials": string(account)}}
}

// TestGoogleInsideOurNetwork: neither the address that a service account names for its tokens nor the service itself is reached but as
// every address that an organisation names.
func TestGoogleInsideOurNetwork(t *testing.T) {
	t.Parallel()
	n := newHouse(t)
	p := n.place(t, "Own")
	inside := 0
	live := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside++ }))
	defer live.Close()
	given := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "of a test", "token_type": "Bearer", "expires_in": 3600}`)
	}))
	defer given.Close()
	var mu sync.Mutex
	var dialled []string
	recorded, err := outbound.Client(outbound.Config{
		Networks: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
		Lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if a, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{a}, nil
			}
			return []netip.Addr{netip.MustParseAddr(map[string]string{"inside.example": "10.0.0.7", "outside.example": "1.1.1.1", "tokens.example": "10.9.0.1", "cloudkms.googleapis.com": "1.1.1.2"}[host])}, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled = append(dialled, address)
			if address == "10.9.0.1:80" {
				return (&net.Dialer{}).DialContext(ctx, network, given.Listener.Addr().String())
			}
			return nil, errors.New("recorded, not dialled")
		},
	})
	must(t, err)
	n.outbound = recorded
	for _, tokens := range []string{live.URL, "https://inside.example/token", "https://169.254.169.254/token", "https://outside.example/token", "http://tokens.example/token"} {
		cookie, _ := p.signed(t, p.owner)
		if a := n.call(t, ask{Method: "PUT", Path: theKMS, Body: googleBody(t, tokens), Header: p.fromPage(cookie)}); a.Status != http.StatusConflict {
			t.Errorf("%s: %d %s", tokens, a.Status, a.Raw)
		}
	}
	if !slices.Equal(slices.Compact(dialled), []string{"1.1.1.1:443", "10.9.0.1:80", "1.1.1.2:443"}) || inside != 0 {
		t.Errorf("dialled %v, and %d times what was inside", dialled, inside)
	}
}
