package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	"github.com/avouch-dev/avouch/keyring/rotation"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// TestWhoSetsAKMS: an owner does, with a fresh proof; for nobody else is anything even asked of the address that they name.
func TestWhoSetsAKMS(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.place(t, "Own"), newEngine(t)
	admin, viewer := p.person(t, org.RoleAdmin), p.person(t, org.RoleViewer)
	stale, _ := p.signed(t, p.owner)
	h := p.fromPage(stale)
	n.later(10 * time.Minute)
	body := transitBody(e.URL, transittest.Root)
	askAs := func(who tenantdb.PersonID) map[string]string {
		cookie, _ := p.signed(t, who)
		return p.fromPage(cookie)
	}
	for name, q := range map[string]ask{
		"an old proof": {Header: h}, "an admin": {Header: askAs(admin)}, "a viewer": {Header: askAs(viewer)}, "an owner's key": {Key: p.key},
	} {
		for _, method := range []string{"PUT", "DELETE"} {
			q.Method, q.Path, q.Body = method, theKMS, body
			if method == "DELETE" {
				q.Body = nil
			}
			if a := n.call(t, q); a.Status != http.StatusForbidden || a.kind() != "denied" {
				t.Errorf("%s by %s: %d %s", method, name, a.Status, a.Raw)
			}
		}
	}
	if e.Asked() != 0 {
		t.Errorf("the address was asked %d times", e.Asked())
	}
	if got := p.as(t, viewer, "GET", theKMS, nil); got.text("kind") != "platform" {
		t.Errorf("%s", got.Raw)
	}
}

// TestKMSThatIsNone: a key management that is no good is found out before anything is changed.
func TestKMSThatIsNone(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p := n.place(t, "Own")
	instead := func(fn func(http.ResponseWriter, *http.Request) bool) func(*transittest.Engine) {
		return func(e *transittest.Engine) { e.Instead = fn }
	}
	for name, spoil := range map[string]func(*transittest.Engine){
		"refuses": func(e *transittest.Engine) { e.Tokens = nil }, "fails": func(e *transittest.Engine) { e.Status = 500 }, "cannot bind": func(e *transittest.Engine) { e.Kind = "rsa-4096" },
		"redirects": instead(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}),
		"garbage": instead(func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := w.Write([]byte("<html>"))
			return err == nil
		}),
		"another key": instead(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/decrypt/") {
				return false
			}
			_, err := fmt.Fprintf(w, `{"data":{"plaintext":"%s"}}`, strings.Repeat("QUFB", 10)+"QUE=")
			return err == nil
		}),
		"endless": instead(func(w http.ResponseWriter, _ *http.Request) bool {
			for b := make([]byte, 1<<16); ; {
				if _, err := w.Write(b); err != nil {
					return true
				}
			}
		}),
	} {
		e := newEngine(t)
		e.Set(spoil)
		cookie, _ := p.signed(t, p.owner)
		a := n.call(t, ask{Method: "PUT", Path: theKMS, Body: transitBody(e.URL, transittest.Root), Header: p.fromPage(cookie)})
		if a.Status != http.StatusConflict || strings.Contains(a.Raw, strings.TrimPrefix(e.URL, "http://")) || strings.Contains(a.Raw, transittest.Root) {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	if got := p.as(t, p.owner, "GET", theKMS, nil); got.text("kind") != "platform" || got.Body["moving"] != false {
		t.Errorf("%s", got.Raw)
	}
	transit := func(more object) object { return object{"kind": "transit", "transit": more} }
	google := func(key, credentials string) object {
		return object{"kind": "gcpkms", "gcpkms": object{"key": key, "credentials": credentials}}
	}
	const key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	for _, c := range []struct {
		body object
		says string
	}{
		{object{"kind": "transit"}, "transit"}, {google("x", "{}"), "body.gcpkms.credentials"},
		{google(key, `{"type":"external_account","credential_source":{"file":"/etc/passwd"}}`), "the JSON of a key of a service account"},
		{transitBody("ftp://example.com", "x"), "body.transit.address"}, {transitBody("http://bao.example.com:8200", "x"), "must be https://host:port"},
		{transit(object{"address": "https://example.com", "key": "a/b", "token": "x"}), "body.transit.key"}, {transit(object{"address": "https://example.com", "key": "a"}), "must have a token, or an AppRole"},
	} {
		cookie, _ := p.signed(t, p.owner)
		if a := n.call(t, ask{Method: "PUT", Path: theKMS, Body: c.body, Header: p.fromPage(cookie)}); a.Status != http.StatusBadRequest || !strings.Contains(a.Raw, c.says) {
			t.Errorf("%v: %d %s", c.body, a.Status, a.Raw)
		}
	}
}

// TestKMSInsideOurNetwork: an address that an organisation names is dialled only if it is public, and the answer does not tell one that
// was refused from one where nobody answers.
func TestKMSInsideOurNetwork(t *testing.T) {
	t.Parallel()
	n := newHouse(t)
	p := n.place(t, "Own")
	var mu sync.Mutex
	var dialled []string
	recorded, err := outbound.Client(outbound.Config{
		Lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if a, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{a}, nil
			}
			return []netip.Addr{netip.MustParseAddr(map[string]string{"inside.example": "10.0.0.7", "outside.example": "1.1.1.1", "six.example": "64:ff9b::7f00:1"}[host])}, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled = append(dialled, address)
			return nil, errors.New("recorded, not dialled")
		},
	})
	must(t, err)
	n.outbound = recorded
	var said []string
	for _, address := range []string{"https://inside.example:8200", "https://169.254.169.254", "https://[::1]:8200", "https://six.example", "http://127.0.0.1:8200", "https://outside.example:8200"} {
		cookie, _ := p.signed(t, p.owner)
		a := n.call(t, ask{Method: "PUT", Path: theKMS, Body: transitBody(address, "s.token"), Header: p.fromPage(cookie)})
		said = append(said, fmt.Sprint(a.Status, a.text("detail")))
	}
	if len(slices.Compact(said)) != 1 || !strings.HasPrefix(said[0], "409") {
		t.Errorf("the answers differ: %q", said)
	}
	if !slices.Equal(dialled, []string{"1.1.1.1:8200"}) {
		t.Errorf("dialled %v", dialled)
	}
}

// TestMoveIsResumed: keys that a server left on their way, when it was killed, are moved on by whoever finds them.
func TestMoveIsResumed(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	state := func(to string) {
		must(t, n.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
			_, err := tx.Exec(t.Context(), `UPDATE avouch.own_kms SET state = $2 WHERE tenant_id = $1`, p.id, to)
			return audit.Event{Type: "test.prepared"}, err
		}))
	}
	by := tenantdb.System(p.id, "kms")
	state("begun") // killed after the key store was changed
	must(t, n.Org.SettleKMS(t.Context(), by))
	if got := p.as(t, p.owner, "GET", theKMS, nil); got.Body["moving"] != true {
		t.Errorf("what somebody may be at was moved on: %s", got.Raw)
	}
	n.later(5 * time.Minute)
	must(t, n.Org.SettleKMS(t.Context(), by))
	if got := p.as(t, p.owner, "GET", theKMS, nil); got.text("kind") != "transit" || got.Body["moving"] != false {
		t.Errorf("%s", got.Raw)
	}
	must(t, n.Ring.TakeBack(t.Context(), p.id)) // killed before: nothing was moved, and what was begun is forgotten
	state("begun")
	must(t, n.Org.SettleKMS(t.Context(), by))
	revoke(e)
	if got := p.as(t, p.owner, "GET", theKMS, nil); got.text("kind") != "platform" || got.Body["moving"] != false {
		t.Errorf("%s", got.Raw)
	}
}

// TestBeginningIsForgotten: keys that were never moved, since the server was killed before, are in nobody's way.
func TestBeginningIsForgotten(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.place(t, "Own"), newEngine(t)
	must(t, n.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.own_kms (tenant_id, setting_id, kind, key_id, settings, state, set_by, set_at) VALUES ($1, gen_random_uuid(), 'transit', 'x', '\x01', 'begun', 'person:x', $2)`, p.id, n.now())
		return audit.Event{Type: "test.prepared"}, err
	}))
	cookie, _ := p.signed(t, p.owner)
	n.call(t, ask{Method: "PUT", Path: theKMS, Body: transitBody(e.URL, transittest.Root), Header: p.fromPage(cookie)}).want(t, http.StatusConflict)
	n.later(5 * time.Minute)
	must(t, n.Org.SettleKMS(t.Context(), tenantdb.System(p.id, "kms")))
	if got := p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root)); got.text("kind") != "transit" || got.Body["moving"] != false {
		t.Errorf("%s", got.Raw)
	}
}

// TestCredentialIsReplaced: by the owner while it is open, also when the old one was ended a moment ago; by the operator while it is
// closed, with nothing but what opens the same key.
func TestCredentialIsReplaced(t *testing.T) {
	t.Parallel()
	n := newHouse(t, withKMS)
	p, e := n.keyed(t, "Own")
	tokens := func(all ...string) {
		e.Set(func(e *transittest.Engine) {
			e.Tokens = map[string]bool{}
			for _, token := range all {
				e.Tokens[token] = true
			}
		})
	}
	tokens(transittest.Root, "s.second")
	p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, "s.second"))
	tokens("s.second")
	time.Sleep(shortLife + shortLife/2)
	p.becomes(t, "", 0)
	tokens("s.third")
	if got := p.as(t, p.owner, "POST", theKMS+"/check", nil); got.text("why") != "refused" || got.Body["open"] != true {
		t.Errorf("tried a moment after the credential ended: %s", got.Raw)
	}
	p.becomes(t, closedKind, shortLife+shortLife/2)
	operator := tenantdb.System(p.id, "operator/ada")
	thief := newEngine(t)
	settings := func(address, token string) org.KMS {
		return org.KMS{Kind: org.KMSTransit, Transit: org.TransitKMS{Address: address, Key: "avouch", Token: secret.Text(token)}}
	}
	for _, wrong := range []org.KMS{settings(thief.URL, transittest.Root), settings(e.URL, "s.second")} {
		if _, err := n.Org.RepairKMS(t.Context(), operator, wrong); !problem.Is(err, problem.Conflict) {
			t.Errorf("what does not open the key was taken: %v", err)
		}
	}
	s, err := n.Org.RepairKMS(t.Context(), operator, settings(e.URL, "s.third"))
	if err != nil || !s.Open {
		t.Fatalf("%+v, %v", s, err)
	}
	p.becomes(t, "", shortLife)
	if len(n.entries(t, p.id, "organisation.kms_repaired")) != 1 || len(n.entries(t, p.id, "organisation.kms_checked")) != 1 {
		t.Error("the trial or the repair is not in the organisation's log")
	}
}

// TestSettingsAreRewrapped: the settings of key managements are sealed under the installation's own key, in organisations' rows. Its
// rotation finds them there, also those of an organisation that is closed.
func TestSettingsAreRewrapped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, withKMS)
	open, _ := n.keyed(t, "Open")
	closed, e := n.keyed(t, "Closed")
	revoke(e)
	closed.becomes(t, closedKind, 20*time.Second)
	must(t, n.Ring.RenewTo(t.Context(), tenantdb.Platform, keyring.UseWrap, 2))
	for _, want := range []int{2, 0} {
		if found, err := n.Org.RewrapKMS(t.Context()); err != nil || len(found) != want {
			t.Errorf("%+v were wrapped anew, not %d: %v", found, want, err)
		}
	}
	must(t, n.Ring.Destroy(t.Context(), tenantdb.Platform, keyring.UseWrap, 1))
	allowAgain(e)
	open.live, closed.live = s.start(t, withKMS), s.start(t, withKMS) // which know nothing yet
	for _, p := range []*place{open, closed} {
		p.becomes(t, "", 20*time.Second)
		if e := p.entries(t, p.id, "organisation.kms_rewrapped"); len(e) != 1 {
			t.Errorf("%s: %d entries", p.name, len(e))
		}
	}
}

// TestDamagedSettingsStopNoRotation: settings that do not open stay as they are, are told of, and keep neither others nor the rest of what
// the installation's own key wraps from being wrapped anew.
func TestDamagedSettingsStopNoRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, withKMS)
	one, _ := n.keyed(t, "One")
	two, _ := n.keyed(t, "Two")
	_, err := s.admin.Exec(t.Context(), `ALTER TABLE avouch.own_kms DISABLE TRIGGER require_entry;
		INSERT INTO avouch.own_kms (tenant_id, setting_id, kind, key_id, settings, state, set_by, set_at)
			SELECT tenant_id, gen_random_uuid(), 'transit', 'x', '\x4501ff', 'begun', 'nobody', now() FROM avouch.own_kms;
		ALTER TABLE avouch.own_kms ENABLE ALWAYS TRIGGER require_entry`)
	must(t, err)
	operator := tenantdb.System(tenantdb.Platform, "operator/ada")
	run, err := n.Rotation.Begin(t.Context(), operator)
	must(t, err)
	run, did, err := n.Rotation.Work(t.Context(), operator, nil)
	if err != nil || !did || run.Failed != 2 || !run.Wraps() {
		t.Errorf("%+v, %t, %v", run, did, err)
	}
	for _, p := range []*place{one, two} {
		if e := p.entries(t, p.id, "organisation.kms_rewrapped"); len(e) != 1 {
			t.Errorf("%s: %d entries", p.name, len(e))
		}
	}
	open, err := n.Incident.Open(t.Context(), tenantdb.System(tenantdb.Platform, "test"))
	if err != nil || len(open) != 1 || open[0].Kind != rotation.Damaged || open[0].Subject != tenantdb.Platform.String()+":own_kms.settings" {
		t.Errorf("open incidents: %+v, %v", open, err)
	}
}

// TestCustomersKeyIsRotated: an organisation rotates its key in its KMS while everything goes on, also on servers that start then. The
// versions before are needed until the settings are set once more; from then on the newest wraps everything.
func TestCustomersKeyIsRotated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, withKMS)
	p, e := n.keyed(t, "Own")
	least := func(version int) { e.Set(func(e *transittest.Engine) { e.Least = version }) }
	starts := func() {
		t.Helper()
		also := *p
		also.live = s.start(t, withKMS)
		also.becomes(t, "", 20*time.Second)
	}
	e.Rotate()
	for end := time.Now().Add(2 * shortLife); time.Now().Before(end); time.Sleep(shortLife / 10) {
		p.becomes(t, "", 0)
	}
	starts()
	least(2)
	p.becomes(t, closedKind, 3*shortLife)
	least(1)
	p.becomes(t, "", 20*time.Second)
	p.as(t, p.owner, "PUT", theKMS, transitBody(e.URL, transittest.Root))
	least(2)
	for end := time.Now().Add(2 * shortLife); time.Now().Before(end); time.Sleep(shortLife / 10) {
		p.becomes(t, "", 0)
	}
	starts()
}

// TestCheckWithoutTheKMS: whoever checks the database without an organisation's key management sees that its log is whole, and opens
// nothing of it; of the others all.
func TestCheckWithoutTheKMS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, withKMS)
	own, _ := n.keyed(t, "Own")
	other := n.place(t, "Other")
	cfg := s.config()
	keys := cfg.Keys()
	ring, _, err := keys.Open(t.Context(), false, nil)
	must(t, err)
	found := map[tenantdb.TenantID]trail.LogReport{}
	must(t, trail.CheckDatabaseAt(t.Context(), s.pg.AdminURL, ring, func(l trail.LogReport) error {
		found[l.Tenant] = l
		return nil
	}))
	if l := found[own.id]; !l.OK() || l.Opened != 0 || l.Unopened == 0 {
		t.Errorf("of its own key: %+v", l)
	}
	if l := found[other.id]; !l.OK() || l.Opened == 0 || l.Unopened != 0 {
		t.Errorf("of the installation's: %+v", l)
	}
}
