package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/oidcprovider"
)

// connected is a connection of an organisation's, switched on, that a domain of it leads to.
func (h *house) connected(t testing.TB, by *somebody, domain, issuer string) sso.ID {
	t.Helper()
	by.prove(t)
	made := by.ask(t, "POST", "/api/v1/connections", map[string]any{
		"kind": "oidc", "name": "Provider", "oidc": map[string]any{"issuer": issuer, "client_id": "avouch"},
	}).want(t, 201)
	id := made["connection_id"].(string)
	by.ask(t, "POST", "/api/v1/connections/"+id+"/enable", nil).want(t, 200)
	connection, err := sso.ParseID(id)
	must(t, err)
	if domain == "" {
		return connection
	}
	tenant := by.tenant(t)
	must(t, h.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.domain (tenant_id, domain, token, connection_id, created_at, proved_at) VALUES ($1, $2, 'x', $3, now(), now())`,
			tenant, domain, connection)
		return audit.Event{Type: "test.proved"}, err
	}))
	return connection
}

// TestKeyIsNoWayAroundAProof: what wants a fresh proof of a person is not had without one by a key that they make first.
func TestKeyIsNoWayAroundAProof(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	h.later(time.Hour)
	if r := ada.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": "eve@else.example", "roles": []string{"owner"}}); r.status != 403 {
		t.Fatalf("an owner is invited without a fresh proof: %d %s", r.status, r.text)
	}
	for _, scope := range []string{"*", "sso:write"} {
		if r := ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "k", "kind": "owner", "scopes": []string{scope}}); r.status != 403 || !strings.Contains(r.text, "Prove yourself again") {
			t.Errorf("a key with %s, an hour after the last proof: %d", scope, r.status)
		}
	}
	ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "k", "kind": "service", "scopes": []string{"verify"}}).want(t, 201)
	ada.prove(t)
	made := ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "k", "kind": "owner", "scopes": []string{"*"}}).want(t, 201)
	h.later(time.Hour)
	if r := ada.ask(t, "POST", "/api/v1/keys/"+made["key_id"].(string)+"/rotate", map[string]any{}); r.status != 403 {
		t.Errorf("rotated: %d", r.status)
	}
	ada.ask(t, "POST", "/api/v1/keys/"+made["key_id"].(string)+"/revoke", map[string]any{}).want(t, 200) // which only takes away
}

// TestProvidedProveTheirOwnFactor: who must come by a provider, and a factor of their own, gets in by both.
func TestProvidedProveTheirOwnFactor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "admin")
	id := bob.personID(t)
	connection := h.connected(t, ada, "acme.example", "https://provider.example")
	ada.ask(t, "PATCH", "/api/v1/domains/acme.example", map[string]any{"required": true}).want(t, 200)
	o, err := h.SignIn.Arrive(t.Context(), signin.Request{}, signin.Arrival{Tenant: acme.id, Person: id, Method: "oidc", Connection: connection, ProvedAt: h.now()})
	if must(t, err); o.State != signin.Factor {
		t.Fatal(o.State)
	}
	r := newBrowser(t, h, bob.address).ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{
		"attempt": o.Attempt.Expose(), "do": "prove", "factor": o.Factors[0].ID.String(), "code": bob.code(t),
	})
	if r.status != 200 || !strings.Contains(r.text, "signed_in") {
		t.Errorf("%d %s", r.status, r.text)
	}
}

// TestRequiredIsOneConnection: where a domain's people must come by one connection, another that knows them too brings nobody, and
// proves nobody anew.
func TestRequiredIsOneConnection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	id := bob.personID(t)
	before, now := h.connected(t, ada, "", "https://before.example"), h.connected(t, ada, "acme.example", "https://provider.example")
	ada.ask(t, "PATCH", "/api/v1/domains/acme.example", map[string]any{"required": true}).want(t, 200)
	arrive := func(by sso.ID, p tenantdb.PersonID) (signin.Outcome, error) {
		return h.SignIn.Arrive(t.Context(), signin.Request{}, signin.Arrival{Tenant: acme.id, Person: p, Method: "oidc", Connection: by, ProvedAt: h.now()})
	}
	if o, err := arrive(before, id); !problem.Is(err, problem.Denied) {
		t.Errorf("by another connection: %v, %v", o.State, err)
	}
	o, err := arrive(now, id)
	if err != nil || o.State != signin.SignedIn {
		t.Fatalf("by the connection: %v, %v", o.State, err)
	}
	again := signin.Arrival{Tenant: acme.id, Person: id, Method: "oidc", Connection: before, ProvedAt: h.now()}
	if _, err := h.SignIn.Reproved(t.Context(), signin.Request{}, again, o.Started.Session.ID); !problem.Is(err, problem.Denied) {
		t.Errorf("proved anew by another connection: %v", err)
	}
	if o, err := arrive(before, ada.personID(t)); err != nil {
		t.Errorf("owners come as they like: %v, %v", o.State, err)
	}
}

// TestDemotedOwnersComeByTheConnection: who is an owner no more keeps no session that their domain does not allow.
func TestDemotedOwnersComeByTheConnection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@elsewhere.example", "admin")
	h.connected(t, ada, "acme.example", "https://provider.example")
	ada.ask(t, "PATCH", "/api/v1/domains/acme.example", map[string]any{"required": true}).want(t, 200)
	member := "/api/v1/members/" + ada.id(t)
	ada.ask(t, "POST", "/api/v1/organisation/transfer", map[string]any{"to": bob.id(t)}).want(t, 200)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
	ada.ask(t, "POST", "/api/v1/sign-in", map[string]any{"address": ada.address, "password": goodPassword}).want(t, 403)

	if said := h.entries(t, acme.id, "organisation.transferred"); len(said) != 1 || said[0].field("sessions") != "1" {
		t.Errorf("%d entries, with the session that ended or without it", len(said))
	}

	bob.prove(t)
	bob.ask(t, "PATCH", member, map[string]any{"roles": []string{"owner"}}).want(t, 200)
	ada.signIn(t, nil)
	bob.ask(t, "PATCH", member, map[string]any{"roles": []string{"admin"}}).want(t, 200)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
	said := h.entries(t, acme.id, "person.changed")
	if len(said) == 0 || said[len(said)-1].field("sessions") != "1" {
		t.Errorf("%d changes of members, the last without the session that ended", len(said))
	}
}

// TestRequiredWhileOneJoins: who has not set up a factor yet when the domain's connection becomes required begins no session without it.
func TestRequiredWhileOneJoins(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	h.connected(t, ada, "acme.example", "https://provider.example")
	in := ada.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": "bob@acme.example", "roles": []string{"admin"}}).want(t, 201)
	var invitation [16]byte
	id, err := tenantdb.ParseTenantID(in["invitation_id"].(string))
	must(t, err)
	invitation = id
	bob := newBrowser(t, h, "bob@acme.example")
	step := bob.ask(t, "POST", "/api/v1/join", map[string]any{"do": "join", "link": h.linkOf(t, acme.id, invitation), "name": "Bob", "password": goodPassword}).want(t, 200)
	if step["state"] != "enrol" {
		t.Fatal(step)
	}
	begun := bob.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": step["attempt"], "do": "enrol", "kind": "totp"}).want(t, 200)["enrolment"].(map[string]any)
	bob.seed = begun["secret"].(string)
	ada.prove(t)
	ada.ask(t, "PATCH", "/api/v1/domains/acme.example", map[string]any{"required": true}).want(t, 200)
	r := bob.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": step["attempt"], "do": "confirm", "factor": begun["id"], "code": bob.code(t)})
	if r.status == 200 {
		t.Errorf("a session by a password and an app: %s", r.text)
	}
	bob.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
}

// TestLinkEndsWithItsSession: a session that was ended gives its account to no name of a provider's, also if it had begun to.
func TestLinkEndsWithItsSession(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.OutboundNetworks = []string{"127.0.0.0/8"} })
	acme, ada := h.owner(t, "Acme")
	provider := oidcprovider.New(t, jose.ES256)
	provider.Now = h.now
	connection := h.connected(t, ada, "", provider.URL)
	path := "/api/v1/sso/" + connection.String() + "/callback"
	provider.Register(oidcprovider.Client{ID: "avouch", Redirects: []string{h.URL() + path}})
	thief, linked := h.stranger(t, ada), func() (n int) {
		must(t, h.DB.Read(t.Context(), tenantdb.System(acme.id, "test"), func(tx *tenantdb.ReadTx) error {
			return tx.QueryRow(t.Context(), `SELECT count(*) FROM avouch.identity WHERE tenant_id = $1`, acme.id).Scan(&n)
		}))
		return n
	}
	thief.signIn(t, nil)
	back := func(subject string) string {
		provider.SignIn(oidcprovider.User{Subject: subject})
		var out struct {
			To string `json:"redirect_url"`
		}
		r := thief.ask(t, "POST", "/api/v1/sso/prove", map[string]any{"connection_id": connection.String(), "link": true})
		r.want(t, 200)
		must(t, json.Unmarshal([]byte(r.text), &out))
		to, _ := oidcprovider.Visit(t, out.To)
		return strings.TrimPrefix(to, h.URL())
	}
	to := back("mallory")
	ada.step = thief.step
	ada.ask(t, "POST", "/api/v1/sessions/end-others", nil).want(t, 200)
	thief.ask(t, "GET", "/api/v1/session", nil).want(t, 401)
	if r := thief.ask(t, "GET", to, nil); linked() != 0 {
		t.Errorf("a name of the thief's is the owner's, by a session that was ended: %d %s", r.status, r.header.Get("Location"))
	}
	thief.step = ada.step
	thief.signIn(t, nil)
	if r := thief.ask(t, "GET", back("ada"), nil); r.status != http.StatusSeeOther || linked() != 1 {
		t.Errorf("in a session that counts: %d %s", r.status, r.text)
	}
}

// TestDeletedOrganisationHoldsNoDomain: what was deleted keeps nobody from proving its domain, nor from signing in.
func TestDeletedOrganisationHoldsNoDomain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other, olga := h.owner(t, "Other")
	h.connected(t, olga, "acme.example", "https://provider.example")
	olga.prove(t)
	olga.ask(t, "POST", "/api/v1/organisation/delete", map[string]any{"confirm": "Other"}).want(t, 200)
	h.later(31 * 24 * time.Hour)
	done, err := h.Org.Shred(t.Context(), tenantdb.System(other.id, "operator"))
	if must(t, err); !done {
		t.Fatal("nothing was destroyed")
	}
	r := newBrowser(t, h, "").ask(t, "POST", "/api/v1/sso/start", map[string]any{"address": "somebody@acme.example"})
	if r.status != 200 || !strings.Contains(r.text, "password") {
		t.Errorf("who signs in with an address of the domain: %d %s", r.status, r.text)
	}
	var holder int
	must(t, h.DB.Lookup(t.Context(), `SELECT count(*)::int FROM avouch.lookup_domain($1)`, []any{"acme.example"}, &holder))
	if holder != 0 {
		t.Error("the domain is still held")
	}
}

// TestAdministratorKeepsOwnersIn: who may do less than an owner does not shut the owners out by rules that they cannot meet.
func TestAdministratorKeepsOwnersIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	eve := h.member(t, ada, "eve@acme.example", "admin")
	for what, ch := range map[string]map[string]any{
		"hardware keys, of which there are none": {"factors": map[string]any{"owner": []string{"hardware"}}},
		"of everybody":                           {"factors": map[string]any{"*": []string{"hardware"}}},
		"the administrator's own address":        {"addresses": []string{"127.0.0.0/8"}},
	} {
		now := eve.ask(t, "GET", "/api/v1/organisation/rules", nil).want(t, 200)
		r := eve.match(t, "PATCH", "/api/v1/organisation/rules", fmt.Sprintf(`"%v"`, now["version"]), ch)
		if r.status != 403 {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
		if r := ada.ask(t, "GET", "/api/v1/organisation", nil); r.status != 200 {
			t.Fatalf("%s: an administrator has shut the owner out: %d", what, r.status)
		}
	}
	now := eve.ask(t, "GET", "/api/v1/organisation/rules", nil).want(t, 200)
	eve.match(t, "PATCH", "/api/v1/organisation/rules", fmt.Sprintf(`"%v"`, now["version"]), map[string]any{"factors": map[string]any{"member": []string{"totp", "passkey", "hardware"}}}).want(t, 200)
}

// TestFloodOfPasskeys: whoever answers questions of passkeys with nonsense fills neither a log nor the table of sign-ins.
func TestFloodOfPasskeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.PublicURL = "http://localhost:8080" })
	refused, flood := 0, newBrowser(t, h, "")
	for i := range 400 {
		r := flood.ask(t, "POST", "/api/v1/sign-in", map[string]any{"passkey": true})
		if r.status == 429 {
			refused++
			continue
		}
		step := r.want(t, 200)
		if i < 60 {
			flood.ask(t, "POST", "/api/v1/sign-in/continue", map[string]any{"attempt": step["attempt"], "do": "prove", "assertion": assertion([]byte("x"), tenantdb.PersonID{1})}).want(t, 401)
		}
	}
	if refused == 0 {
		t.Error("one address began 400 sign-ins")
	}
	if n := len(h.entries(t, tenantdb.Platform, "signin.refused")); n > 20 {
		t.Errorf("%d entries", n)
	}
}

// TestLentMakesNoAgent: what break-glass lends makes nothing that is there when it is over.
func TestLentMakesNoAgent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "viewer")
	id := bob.personID(t)
	by := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorPerson, ID: id.String()}, How: "session:password", Scopes: []string{"agents:read"}, RequestID: audit.NewRequestID(),
		Person: &tenantdb.Person{ID: id, ProvedAt: h.now(), Lent: []string{"agents:write", "scopes:write", "keys:write"}},
	})
	if _, _, err := h.Agents.Register(t.Context(), by, agent.Registration{Name: "mine"}); !problem.Is(err, problem.Denied) {
		t.Errorf("registered: %v", err)
	}
	there, _, err := h.Agents.Register(t.Context(), tenantdb.System(acme.id, "test"), agent.Registration{Name: "theirs"})
	must(t, err)
	if _, err := h.Agents.Issue(t.Context(), by, there.ID, agent.Wish{}); !problem.Is(err, problem.Denied) {
		t.Errorf("a token: %v", err)
	}
	if _, err := h.Agents.SetScopes(t.Context(), by, there.ID, "", []string{"browse:web"}); !problem.Is(err, problem.Denied) {
		t.Errorf("scopes: %v", err)
	}
	if _, err := h.Agents.Suspend(t.Context(), by, there.ID); err != nil {
		t.Errorf("to stop an agent is what it is lent for: %v", err)
	}
	if _, err := h.Agents.Resume(t.Context(), by, there.ID); !problem.Is(err, problem.Denied) {
		t.Errorf("resumed: %v", err)
	}
}

// slowly sends a request of which the body comes to its end later.
func (p *somebody) slowly(t testing.TB, path, key string, body map[string]any) (end func() int) {
	t.Helper()
	b, err := json.Marshal(body)
	must(t, err)
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", p.n.url+path, r)
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	} else {
		req.Header.Set("Origin", p.n.URL())
	}
	status := make(chan int, 1)
	go func() {
		got, err := p.browser.Do(req)
		if err != nil {
			status <- 0
			return
		}
		defer got.Body.Close()
		status <- got.StatusCode
	}()
	_, err = w.Write(b[:1])
	must(t, err)
	time.Sleep(300 * time.Millisecond) // it is known by now who asks; if not, the test shows nothing
	return func() int {
		_, err := w.Write(b[1:])
		must(t, err)
		must(t, w.Close())
		return <-status
	}
}

// TestEndedMeanwhile: who is asked for a body at the moment of their end gives nothing away with it.
func TestEndedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "admin")
	thief := h.stranger(t, bob)
	thief.signIn(t, nil)
	bob.step = thief.step
	key := thief.slowly(t, "/api/v1/keys", "", map[string]any{"name": "k", "kind": "service", "scopes": []string{"verify"}})
	invite := thief.slowly(t, "/api/v1/invitations", "", map[string]any{"address": "eve@else.example", "roles": []string{"member"}})
	bob.ask(t, "POST", "/api/v1/sessions/end-others", nil).want(t, 200)
	if got := key(); got != 403 {
		t.Errorf("a key, by a session that was ended: %d", got)
	}
	if got := invite(); got != 403 {
		t.Errorf("an invitation, by a session that was ended: %d", got)
	}
	h.connected(t, ada, "acme.example", "https://provider.example")
	made := ada.ask(t, "POST", "/api/v1/keys", map[string]any{"name": "directory", "kind": "owner", "scopes": []string{"scim:write"}}).want(t, 201)
	directory := newBrowser(t, h, "")
	if got := directory.slowly(t, "/scim/v2/Users", made["key"].(string), map[string]any{"userName": "carol@acme.example"})(); got != 201 {
		t.Fatalf("by a directory's key: %d", got)
	}
	user := directory.slowly(t, "/scim/v2/Users", made["key"].(string), map[string]any{"userName": "eve@acme.example"})
	ada.ask(t, "POST", "/api/v1/keys/"+made["key_id"].(string)+"/revoke", map[string]any{}).want(t, 200)
	if got := user(); got != 403 && got != 401 {
		t.Errorf("a member, by a directory's key that was revoked: %d", got)
	}
}

// TestApproverEndsMeanwhile: who is signed out while an approval is under way lets no glass be broken.
func TestApproverEndsMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	bob, carol := h.member(t, ada, "bob@acme.example", "admin"), h.member(t, ada, "carol@acme.example", "member")
	ada.prove(t)
	ada.match(t, "PATCH", "/api/v1/organisation/rules", `"1"`, map[string]any{"break_glass": map[string]any{"approval": "person", "capabilities": []string{"audit:read"}}}).want(t, 200)
	h.later(2 * time.Hour)
	carol.prove(t)
	use := carol.ask(t, "POST", "/api/v1/break-glass", map[string]any{"reason": "The pager went off at night", "capabilities": []string{"audit:read"}, "minutes": 5}).want(t, 201)["use_id"].(string)
	thief := h.stranger(t, bob)
	thief.signIn(t, nil)
	bob.step = thief.step
	approve := thief.slowly(t, "/api/v1/break-glass/"+use+"/approve", "", map[string]any{})
	bob.ask(t, "POST", "/api/v1/sessions/end-others", nil).want(t, 200)
	if got := approve(); got != 403 {
		t.Errorf("by a session that was ended: %d", got)
	}
	bob.prove(t)
	bob.ask(t, "POST", "/api/v1/break-glass/"+use+"/approve", nil).want(t, 200)
}

// TestAccountEndsMeanwhile: who is signed out while a change of the account is under way changes nothing of it.
func TestAccountEndsMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	bob := h.member(t, ada, "bob@acme.example", "member")
	thief := h.stranger(t, bob)
	thief.signIn(t, nil)
	begun := thief.ask(t, "POST", "/api/v1/factors", map[string]any{"kind": "totp"}).want(t, 201)
	thief.seed = begun["secret"].(string)
	factor := thief.slowly(t, "/api/v1/factors/"+begun["factor_id"].(string)+"/confirm", "", map[string]any{"code": thief.code(t)})
	address := thief.slowly(t, "/api/v1/address", "", map[string]any{"address": "eve@else.example"})
	bob.ask(t, "POST", "/api/v1/sessions/end-others", nil).want(t, 200)
	if got := factor(); got != 403 {
		t.Errorf("a factor: %d", got)
	}
	if got := address(); got != 403 {
		t.Errorf("an address: %d", got)
	}
	if all := bob.ask(t, "GET", "/api/v1/factors", nil).want(t, 200)["factors"].([]any); len(all) != 0 {
		t.Errorf("bob has %v", all)
	}
}

// TestRoleOfAConnectionStays: a role that a connection gives is in use: without it, nobody new could come, nor a directory go on.
func TestRoleOfAConnectionStays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, ada := h.owner(t, "Acme")
	ada.ask(t, "POST", "/api/v1/roles", map[string]any{"name": "billing", "capabilities": []string{"keys:read"}}).want(t, 201)
	made := ada.ask(t, "POST", "/api/v1/connections", map[string]any{
		"kind": "oidc", "name": "Provider", "oidc": map[string]any{"issuer": "https://provider.example", "client_id": "avouch"}, "admission": map[string]any{"roles": []string{"billing"}},
	}).want(t, 201)
	if r := ada.match(t, "DELETE", "/api/v1/roles/billing", "*", nil); r.status != 409 {
		t.Errorf("deleted: %d %s", r.status, r.text)
	}
	ada.ask(t, "DELETE", "/api/v1/connections/"+made["connection_id"].(string), nil)
	if r := ada.match(t, "DELETE", "/api/v1/roles/billing", "*", nil); r.status >= 300 {
		t.Errorf("that nothing gives any more: %d %s", r.status, r.text)
	}
}
