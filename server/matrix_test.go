package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// mayDo is what roles may do, said a second time and not read from the rooms: the golden file is checked against it.
func mayDo() map[string]string {
	const everything = "agents:read agents:write audit:read audit:write breakglass:approve breakglass:read breakglass:write keys:read keys:write members:read members:write " +
		"organisation:read organisation:write read:identity scim:write scopes:write sso:read sso:write vault:code vault:manage vault:read vault:use vault:write verify"
	return map[string]string{
		"owner": "*", "admin": everything,
		"member":  "agents:read agents:write breakglass:write keys:read keys:write members:read organisation:read read:identity vault:code vault:read vault:use vault:write verify",
		"viewer":  "agents:read keys:read members:read organisation:read",
		"auditor": "agents:read audit:read breakglass:read keys:read members:read organisation:read sso:read",
		idle:      "",
	}
}

// roles is those of the matrix, in the order of its columns.
func roles() []string { return []string{"owner", "admin", "member", "viewer", "auditor", idle} }

func may(role, capability string) bool {
	does := strings.Fields(mayDo()[role])
	return slices.Contains(does, "*") || slices.Contains(does, capability)
}

// open are the operations of the API that everybody may ask for, and why. There are no more than fifteen.
func open() map[string]string {
	return map[string]string{
		"sign-in": "nobody is signed in before", "continue-sign-in": "its attempt is the credential", "recover": "who lost a password has no session",
		"finish-recovery": "its link is the credential", "join": "its link is the credential", "refresh-session": "its refresh token is the credential",
		"start-sso": "nobody is signed in before", "finish-sso": "a browser comes back; its state is the credential", "finish-sso-form": "a browser comes back; its state is the credential",
		"finish-saml": "a browser comes back; the assertion is signed", "saml-metadata": "providers read it, and it holds no secret",
		"sign-up": "nobody has an organisation before; an installation can close it", "agent-did": "DID documents are for everybody",
		"secret-scanning-github": "what GitHub says is signed", "answer-break-glass": "what an approval system says is signed",
	}
}

// static are pages and documents that are the same for everybody.
func static() map[string]string {
	return map[string]string{
		"page-sign-in": "a page without data", "page-join": "a page without data", "page-recover": "a page without data", "page-account": "a page without data: its script asks the API",
		"page-files": "what the pages load", "verified": "shows what an organisation wants shown", "verified-badge": "an image", "verified-style": "a stylesheet",
		"openapi": "what the API is", "docs": "what the API is", "docs-style": "a stylesheet", "problem-kind": "what a kind of failure means",
		"jwks": "public keys", "jwks-api": "public keys", "people-jwks": "public keys", "security-txt": "RFC 9116", "avouch-json": "says where things are",
		"healthz": "a load balancer asks", "readyz": "a load balancer asks", "metrics": "numbers without names; it can be moved to a listener of its own",
		"dev-inbox": "in development alone", "dev-inbox-message": "in development alone",
	}
}

// matrix asks every operation as everybody.
type matrix struct {
	*house
	own, other *place
	people     map[string]tenantdb.PersonID // by role
	described  map[string]object            // what OpenAPI says of the operations' answers, by id
	expired    string                       // cookies
	weak       string
	keys       map[string]string // by the one capability that each has
}

func newMatrix(t testing.TB) *matrix {
	t.Helper()
	m := &matrix{house: newHouse(t, func(c *Config) {
		c.lookupTXT = func(_ context.Context, name string) ([]string, error) {
			return nil, &net.DNSError{Name: name, IsNotFound: true}
		}
	}), people: map[string]tenantdb.PersonID{}, described: map[string]object{}, keys: map[string]string{}}
	for _, o := range m.operations(t) {
		m.described[o.id] = o.described["responses"].(object)
	}
	m.own, m.other = m.place(t, "Own"), m.place(t, "Other")
	for _, role := range roles() {
		m.people[role] = m.own.person(t, role)
	}
	m.expired, _ = m.own.signed(t, m.people["owner"], func(n *session.New) { n.Life = time.Second })
	m.later(2 * time.Second)
	risen := m.own.person(t, org.RoleViewer)
	m.weak, _ = m.own.signed(t, risen, func(n *session.New) { n.Methods = []string{"password"} })
	must(t, m.DB.Change(t.Context(), tenantdb.System(m.own.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.person SET roles = '{owner}' WHERE person_id = $1`, risen)
		return audit.Event{Type: "test.prepared"}, err
	}))
	return m
}

// said is an answer's status, and whether it says that a capability is lacking.
type said struct {
	status int
	text   string
}

func (s said) lacks(capability string) bool {
	return s.status == http.StatusForbidden && strings.Contains(s.text, "This needs the capability "+capability+",")
}

// asked sends a request of an operation, about what is of a place or of who.
func (m *matrix) asked(t testing.TB, o web.Op, of *place, who tenantdb.PersonID, cookie string) said {
	t.Helper()
	return m.sent(t, o, of, who, m.fromPage(cookie))
}

func (m *matrix) sent(t testing.TB, o web.Op, of *place, who tenantdb.PersonID, header map[string]string) said {
	t.Helper()
	path, named := m.arranged(t, o, of, who)
	q := ask{Method: o.Method, Path: path, Body: of.body(t, o.ID), Header: header}
	r, err := m.request(t.Context(), q)
	must(t, err)
	got, err := m.client.Do(r)
	must(t, err)
	defer got.Body.Close()
	s := said{status: got.StatusCode}
	if o.Produces != "text/event-stream" || s.status != http.StatusOK {
		b, err := io.ReadAll(got.Body)
		must(t, err)
		s.text = string(b)
	}
	if s.status < 400 && m.described[o.ID][strconv.Itoa(s.status)] == nil {
		t.Errorf("%s answers with %d, which its description does not say", o.ID, s.status)
	}
	if s.status < 300 && o.Method != http.MethodGet {
		of.forget(who, named...)
		if o.ID == "transfer-organisation" {
			of.forget(who, "member")
		}
	}
	return s
}

// arranged is an operation's path, when all is there that a good request needs.
func (m *matrix) arranged(t testing.TB, o web.Op, of *place, who tenantdb.PersonID) (path string, named []string) {
	t.Helper()
	if o.ID == "resend-factor-code" {
		of.forget(who, "enrolment")
	}
	path, named = of.path(t, o, who)
	switch o.ID {
	case "resume-agent":
		of.as(t, of.owner, "POST", strings.TrimSuffix(path, "resume")+"suspend", nil)
		of.forget(who, "agent")
	case "remove-group-member":
		of.as(t, of.owner, "PUT", path, nil)
	case "resend-factor-code": // once a minute
		m.later(2 * time.Minute)
	case "make-recovery-codes": // of who has a factor
		of.object(t, "factor", who)
	case "unlink-identity":
		of.identity(t)
	}
	return path, named
}

// row asks an operation as everybody, those first who may do least, so that what a role may not do is there to be refused.
func (m *matrix) row(t testing.TB, o web.Op) string {
	t.Helper()
	name := fmt.Sprintf("%s %s ", o.Method, o.Path)
	none := m.asked(t, o, m.own, m.own.owner, "")
	if o.Access == web.Public {
		cookie, _ := m.own.signed(t, m.people["owner"])
		if signed := m.asked(t, o, m.own, m.own.owner, cookie); signed.status != none.status {
			t.Errorf("%s: everybody may ask, and gets %d; an owner gets %d", o.ID, none.status, signed.status)
		}
		return fmt.Sprintf("%s everybody=%d", name, none.status)
	}
	expired, weak := m.asked(t, o, m.own, m.people["owner"], m.expired), m.asked(t, o, m.own, m.people["owner"], m.weak)
	m.barred(t, o, none, expired, weak)
	other := "-"
	if strings.Contains(o.Path, "{") {
		cookie, _ := m.own.signed(t, m.people["owner"])
		s := m.asked(t, o, m.other, m.other.owner, cookie)
		if other = fmt.Sprint("owner=", s.status); s.status != http.StatusNotFound && elsewhere()[o.ID] == "" && !ofDirectories(o.ID) {
			t.Errorf("%s of what is another organisation's is %d: %s", o.ID, s.status, s.text)
		}
	}
	key := m.byKey(t, o)
	own := make([]string, len(roles()))
	for i, role := range slices.Backward(roles()) {
		cookie, _ := m.own.signed(t, m.people[role])
		s := m.asked(t, o, m.own, m.people[role], cookie)
		m.judge(t, o, role, s)
		if own[i] = fmt.Sprintf("%s=%d", role, s.status); o.ID == "transfer-organisation" && s.status == http.StatusOK {
			m.people[role] = m.own.person(t, role) // who handed it over is none any more
		}
	}
	return fmt.Sprintf("%s own: %s | other: %s | key=%d | none=%d | expired=%d | nomfa=%d", name, strings.Join(own, " "), other, key.status, none.status, expired.status, weak.status)
}

// elsewhere are operations whose path names something that every organisation has of its own, by the same name.
func elsewhere() map[string]string {
	return map[string]string{
		"prove-audit-entry": "the number of an entry", "put-key-owner": "it makes what it names", "sign-break-glass-week": "a week",
		"scim-get-types": "the same for all", "scim-get-schemas": "the same for all",
	}
}

// barred wants those refused who cannot say who they are.
func (m *matrix) barred(t testing.TB, o web.Op, all ...said) {
	t.Helper()
	for i, s := range all {
		if s.status != http.StatusUnauthorized {
			t.Errorf("%s with %s: %d %s", o.ID, []string{"no session", "an expired session", "a session without the second factor"}[i], s.status, s.text)
		}
	}
}

// judge compares an answer with what the role may do, whatever the golden file says.
func (m *matrix) judge(t testing.TB, o web.Op, role string, s said) {
	t.Helper()
	switch {
	case o.Scope != "" && s.lacks(o.Scope) == may(role, o.Scope):
		t.Errorf("%s needs %s, and the role %s has that: %t. The answer is %d %s", o.ID, o.Scope, role, may(role, o.Scope), s.status, s.text)
	case o.Scope != "" && !may(role, o.Scope) && s.status != http.StatusForbidden:
		t.Errorf("%s by the role %s: %d", o.ID, role, s.status)
	case s.status == http.StatusUnauthorized && o.Access != web.Own, s.status >= 500, s.status == http.StatusTooManyRequests, s.status == http.StatusBadRequest && !unwilling(o.ID):
		t.Errorf("%s by the role %s: %d %s", o.ID, role, s.status, s.text)
	}
}

// unwilling are operations that a good request of this test does not exist for.
func unwilling(id string) bool {
	return slices.Contains([]string{"confirm-factor"}, id)
}

// TestMatrix: every operation, asked by every role, for what is its own and another's, and without a session that counts. The
// answers are in testdata/matrix.golden, a row an operation; what roles may do is checked beside that.
func TestMatrix(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	all := m.api.Operations()
	slices.SortFunc(all, func(a, b web.Op) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	rows := map[string]string{}
	var last []web.Op
	ask := func(o web.Op) { rows[o.Method+" "+o.Path] = m.row(t, o) }
	for _, o := range all {
		switch {
		case static()[o.ID] != "":
		case o.ID == "confirm-deletion":
			last = append(last, o) // nothing can be asked afterwards
		default:
			ask(o)
		}
	}
	for _, o := range last {
		ask(o)
	}
	var got strings.Builder
	for _, o := range all {
		if row := rows[o.Method+" "+o.Path]; row != "" {
			got.WriteString(row + "\n")
		}
	}
	for id := range m.own.bodies(t) {
		if !slices.ContainsFunc(all, func(o web.Op) bool { return o.ID == id }) {
			t.Errorf("there is no operation %s any more", id)
		}
	}
	const golden = "testdata/matrix.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	b, err := os.ReadFile(golden)
	must(t, err)
	compareRows(t, got.String(), string(b))
}

// compareRows says of each operation what is not as it was.
func compareRows(t testing.TB, got, want string) {
	t.Helper()
	rows := func(text string) map[string]string {
		found := map[string]string{}
		for line := range strings.Lines(text) {
			words := strings.SplitN(line, " ", 3)
			found[words[0]+" "+words[1]] = strings.TrimSpace(words[2])
		}
		return found
	}
	is, was := rows(got), rows(want)
	for route, row := range is {
		if was[route] != row {
			t.Errorf("%s\n is %s\nwas %s\nIf it is meant so: go test ./server -run TestMatrix -update", route, row, was[route])
		}
	}
	for route := range was {
		if is[route] == "" {
			t.Errorf("%s has a row, and is no operation any more", route)
		}
	}
}

// TestOpenToEverybody: what can be asked for without a credential is a list of names with reasons. The API has fifteen at most.
func TestOpenToEverybody(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	found := map[string]bool{}
	for _, o := range h.api.Operations() {
		if o.Access != web.Public {
			continue
		}
		if found[o.ID] = true; o.Scope != "" {
			t.Errorf("%s is open to everybody, and names a scope", o.ID)
		}
		if open()[o.ID] == "" && static()[o.ID] == "" {
			t.Errorf("%s %s (%s) is open to everybody, and is not meant to be", o.Method, o.Path, o.ID)
		}
	}
	for _, meant := range []map[string]string{open(), static()} {
		for id := range meant {
			if !found[id] {
				t.Errorf("%s is not open to everybody, or is not there", id)
			}
		}
	}
	if len(open()) > 15 {
		t.Errorf("%d operations of the API are open to everybody", len(open()))
	}
}

// TestRolesAreAsSaid: the table that the matrix is judged by is what the API says of the roles.
func TestRolesAreAsSaid(t *testing.T) {
	t.Parallel()
	p := newSite(t).start(t).place(t, "Acme")
	listed := p.as(t, p.owner, "GET", "/api/v1/roles", nil).Body["roles"].([]any)
	for _, one := range listed {
		role := one.(object)
		can := strings.Trim(fmt.Sprint(role["capabilities"]), "[]")
		if said, ok := mayDo()[role["name"].(string)]; !ok || said != can {
			t.Errorf("the role %s can %s, and not %s", role["name"], can, said)
		}
	}
	if len(listed) != len(mayDo()) {
		t.Errorf("there are %d roles", len(listed))
	}
	if all := strings.Join(tenantdb.Capabilities(), " "); mayDo()["admin"] != all {
		t.Errorf("the capabilities are %s", all)
	}
}
