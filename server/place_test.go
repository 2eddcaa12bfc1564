package server

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// place is an organisation with people, that has something of everything which the path of an operation can name.
type place struct {
	party
	*live
	name  string
	owner tenantdb.PersonID
	ids   map[string]string // what is there now, by what it is
	count int
}

// idle is the name of the role of a place that may do nothing.
const idle = "idle"

func (n *live) place(t testing.TB, name string) *place {
	t.Helper()
	p := &place{party: n.organisation(t, name), live: n, name: name, ids: map[string]string{}}
	must(t, n.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.role (tenant_id, name, capabilities, created_at) VALUES ($1, $2, '{}', now())`, p.id, idle)
		if err == nil {
			_, err = tx.Exec(t.Context(), `UPDATE avouch.organisation SET rules = '{"break_glass":{"approval":"person","capabilities":["agents:write"]}}' WHERE tenant_id = $1`, p.id)
		}
		return audit.Event{Type: "test.prepared"}, err
	}))
	p.owner = p.person(t, org.RoleOwner)
	return p
}

// next is a word that was not used before.
func (p *place) next() string {
	p.count++
	return fmt.Sprintf("n%d", p.count)
}

func (p *place) person(t testing.TB, roles ...string) tenantdb.PersonID {
	t.Helper()
	id := audit.NewSubjectID()
	must(t, p.Org.Prepare(t.Context(), p.id, id))
	system := tenantdb.System(p.id, "test")
	address := p.next() + "@people-of-" + p.id.String() + ".example"
	must(t, p.DB.Change(t.Context(), system, func(tx *tenantdb.Tx) (audit.Event, error) {
		_, e, err := p.Org.Admit(t.Context(), tx, org.NewPerson{ID: id, Name: "Somebody", Address: address, Verified: true, Via: "test"})
		if err == nil { // nobody admits an owner; and who is new approves nothing
			_, err = tx.Exec(t.Context(), `UPDATE avouch.person SET roles = $1, created_at = created_at - interval '1 day' WHERE person_id = $2`, roles, id)
		}
		return e, err
	}))
	return id
}

// signed begins a session, and gives its cookie and its id.
func (p *place) signed(t testing.TB, who tenantdb.PersonID, change ...func(*session.New)) (cookie, id string) {
	t.Helper()
	n := session.New{Person: who, Kind: session.Browser, Methods: []string{"password", "totp"}}
	for _, c := range change {
		c(&n)
	}
	must(t, p.Sessions.Prepare(t.Context(), p.id, who))
	must(t, p.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		s, value, err := p.Sessions.Start(t.Context(), tx, n)
		cookie, id = value.Expose(), s.ID.String()
		return s.Event(), err
	}))
	return cookie, id
}

// fromPage is the headers of a page of ours with a session's cookie; without one if it is empty.
func (n *live) fromPage(cookie string) map[string]string {
	h := map[string]string{"Origin": n.URL(), "Sec-Fetch-Site": "same-origin", "If-Match": "*"}
	if cookie != "" {
		h["Cookie"] = "avouch=" + cookie
	}
	return h
}

// as sends a request as somebody who has just signed in.
func (p *place) as(t testing.TB, who tenantdb.PersonID, method, path string, body any) answer {
	t.Helper()
	cookie, _ := p.signed(t, who)
	q := ask{Method: method, Path: path, Body: body, Header: p.fromPage(cookie)}
	delete(q.Header, "If-Match") // what is made has no version yet
	a := p.call(t, q)
	if a.Status >= 300 {
		t.Fatalf("%s: %d %s", a.asked, a.Status, a.Raw)
	}
	return a
}

// made is the field of what somebody made by a POST.
func (p *place) made(t testing.TB, who tenantdb.PersonID, path, field string, body any) string {
	t.Helper()
	id := p.as(t, who, "POST", path, body).text(field)
	if id == "" {
		t.Fatalf("POST %s: no %s", path, field)
	}
	return id
}

type object = map[string]any

// object is something of the place by what it is, made if it is not there. What belongs to a person is who's.
func (p *place) object(t testing.TB, what string, who tenantdb.PersonID) string {
	t.Helper()
	key := what
	switch what {
	case "session", "factor", "enrolment":
		key += " " + who.String()
	}
	if p.ids[key] == "" {
		p.ids[key] = p.make(t, what, who)
	}
	return p.ids[key]
}

func (p *place) make(t testing.TB, what string, who tenantdb.PersonID) string {
	t.Helper()
	name := p.next()
	switch what {
	case "agent", "token", "request":
		a := p.as(t, p.owner, "POST", "/api/v1/agents/register", object{"name": name, "capabilities": []string{}})
		p.ids["agent"], p.ids["token"], p.ids["request"] = a.text("agent_id"), a.text("jti"), a.Header.Get("X-Request-Id")
		return p.ids[what]
	case "key":
		return p.made(t, p.owner, "/api/v1/keys", "key_id", object{"name": name, "kind": "service"})
	case "key owner":
		p.as(t, p.owner, "PUT", "/api/v1/key-owners/"+name, object{"max_keys": 2})
		return name
	case "seq":
		return "0"
	case "scope":
		p.as(t, p.owner, "POST", "/api/v1/scopes", object{"name": "do:" + name, "risk": "low", "description": "x"})
		return "do:" + name
	}
	return p.makePersonal(t, what, name, who)
}

// makePersonal makes what has to do with people.
func (p *place) makePersonal(t testing.TB, what, name string, who tenantdb.PersonID) string {
	t.Helper()
	switch what {
	case "group":
		return p.made(t, p.owner, "/api/v1/groups", "group_id", object{"name": name})
	case "role":
		return p.made(t, p.owner, "/api/v1/roles", "name", object{"name": name, "capabilities": []string{"verify"}})
	case "invitation":
		return p.made(t, p.owner, "/api/v1/invitations", "invitation_id", object{"address": name + "@elsewhere.example", "roles": []string{org.RoleViewer}})
	case "member":
		return p.person(t, org.RoleViewer).String()
	case "removed member":
		id := p.person(t, org.RoleViewer).String()
		p.as(t, p.owner, "POST", "/api/v1/members/"+id+"/remove", nil)
		return id
	case "change": // of rules, that waits
		for _, roles := range [][]string{{org.RoleViewer}, {}} {
			cookie, _ := p.signed(t, p.owner)
			p.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation/rules", Body: object{"mfa_roles": roles}, Header: p.fromPage(cookie)}).want(t, 200)
		}
		rules := p.as(t, p.owner, "GET", "/api/v1/organisation/rules", nil)
		return rules.Body["pending"].([]any)[0].(object)["change_id"].(string)
	case "deletion", "deletion to confirm": // that waits for somebody else than the owner
		cookie, _ := p.signed(t, p.owner)
		waits := p.call(t, ask{Method: "GET", Path: "/api/v1/organisation/deletion", Header: p.fromPage(cookie)})
		if waits.Status == 200 {
			p.as(t, p.owner, "DELETE", "/api/v1/organisation/deletion/"+waits.text("deletion_id"), nil)
		}
		p.person(t, org.RoleOwner)
		return p.as(t, p.owner, "POST", "/api/v1/organisation/delete", object{"confirm": p.name}).text("deletion_id")
	case "session":
		_, id := p.signed(t, who)
		return id
	case "enrolment":
		return p.made(t, who, "/api/v1/factors", "factor_id", object{"kind": "email"})
	case "factor":
		return p.factor(t, who)
	}
	return p.makeOutside(t, what, name)
}

// factor is an authenticator app of somebody.
func (p *place) factor(t testing.TB, who tenantdb.PersonID) string {
	t.Helper()
	begun := p.as(t, who, "POST", "/api/v1/factors", object{"kind": "totp", "name": "phone"})
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(begun.text("secret"), " ", ""))
	must(t, err)
	id := begun.text("factor_id")
	p.as(t, who, "POST", "/api/v1/factors/"+id+"/confirm", object{"code": otp.Usual().Code(seed, uint64(p.now().Unix()/30))})
	return id
}

// makeOutside makes what has to do with providers, and with those who look after others.
func (p *place) makeOutside(t testing.TB, what, name string) string {
	t.Helper()
	switch what {
	case "connection":
		return p.made(t, p.owner, "/api/v1/connections", "connection_id", object{"kind": "oidc", "name": name, "oidc": object{"issuer": "https://127.0.0.1:9", "client_id": name, "client_secret": "of " + name}})
	case "SAML connection":
		return p.made(t, p.owner, "/api/v1/connections", "connection_id", object{"kind": "saml", "name": name, "saml": object{
			"entity_id": "https://127.0.0.1:9/" + name, "sso_url": "https://127.0.0.1:9/sso", "certificates": []string{certificateText(t)},
		}})
	case "connection that is on":
		id := p.make(t, "SAML connection", p.owner)
		p.as(t, p.owner, "POST", "/api/v1/connections/"+id+"/enable", nil)
		return id
	case "domain":
		return p.made(t, p.owner, "/api/v1/domains", "domain", object{"domain": name + ".example"})
	case "use", "use that is over":
		asker := p.person(t, org.RoleAdmin)
		id := p.made(t, asker, "/api/v1/break-glass", "use_id", object{"reason": "the pager went off at night", "capabilities": []string{"agents:write"}})
		if what == "use that is over" {
			approver := p.person(t, org.RoleOwner) // who has changed no roles lately
			p.as(t, approver, "POST", "/api/v1/break-glass/"+id+"/approve", nil)
			p.as(t, approver, "POST", "/api/v1/break-glass/"+id+"/end", nil)
		}
		return id
	case "monday":
		p.object(t, "use that is over", p.owner)
		now := p.now().UTC()
		return now.AddDate(0, 0, -(int(now.Weekday())+6)%7).Format(time.DateOnly)
	}
	return p.makeOfVault(t, what, name)
}

// identity has a provider know a member.
func (p *place) identity(t testing.TB) {
	t.Helper()
	must(t, p.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.identity (tenant_id, connection_id, subject, person_id, created_at) VALUES ($1, $2, substr(md5($3::uuid::text), 1, 26), $3, now()) ON CONFLICT DO NOTHING`,
			p.id, p.ids["connection"], p.ids["member"])
		return audit.Event{Type: "test.prepared"}, err
	}))
}

// certificateText is a certificate as the settings of a provider have it.
func certificateText(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	newAuthority(t).issue(t, 1, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	b, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	must(t, err)
	block, _ := pem.Decode(b)
	return base64.StdEncoding.EncodeToString(block.Bytes)
}

// namedIn says what stands in the path of an operation, by the parameters' names.
func namedIn(o web.Op) map[string]string {
	for _, c := range []struct {
		begins, ends string
		named        map[string]string
	}{
		{"/api/v1/agents/", "", map[string]string{"id": "agent", "jti": "token"}},
		{"/agents/", "", map[string]string{"id": "agent"}},
		{"/api/v1/keys/", "", map[string]string{"id": "key"}},
		{"/api/v1/key-owners/", "", map[string]string{"owner": "key owner"}},
		{"/api/v1/audit/proofs/", "", map[string]string{"seq": "seq"}},
		{"/api/v1/requests/", "", map[string]string{"id": "request"}},
		{"/api/v1/groups/", "", map[string]string{"id": "group", "member": "member"}},
		{"/api/v1/roles/", "", map[string]string{"name": "role"}},
		{"/api/v1/invitations/", "", map[string]string{"id": "invitation"}},
		{"/api/v1/members/", "/offboarding", map[string]string{"id": "removed member"}},
		{"/api/v1/members/", "", map[string]string{"id": "member", "person_id": "member"}},
		{"/api/v1/people/", "", map[string]string{"person": "member"}},
		{"/api/v1/organisation/rules/pending/", "", map[string]string{"id": "change"}},
		{"/api/v1/organisation/deletion/", "/confirm", map[string]string{"id": "deletion to confirm"}},
		{"/api/v1/organisation/deletion/", "", map[string]string{"id": "deletion"}},
		{"/api/v1/sessions/", "", map[string]string{"session_id": "session"}},
		{"/api/v1/factors/", "/send", map[string]string{"id": "enrolment"}},
		{"/api/v1/factors/", "/confirm", map[string]string{"id": "enrolment"}},
		{"/api/v1/factors/", "", map[string]string{"id": "factor"}},
		{"/api/v1/connections/", "", map[string]string{"id": "connection", "person": "member"}},
		{"/api/v1/sso/", "", map[string]string{"connection": "connection"}},
		{"/api/v1/saml/", "", map[string]string{"connection": "SAML connection"}},
		{"/api/v1/domains/", "", map[string]string{"domain": "domain"}},
		{"/api/v1/break-glass/weeks/", "", map[string]string{"monday": "monday"}},
		{"/api/v1/break-glass/", "/review", map[string]string{"id": "use that is over"}},
		{"/api/v1/break-glass/", "", map[string]string{"id": "use"}},
		{"/scim/v2/Users/", "", map[string]string{"id": "member"}},
		{"/scim/v2/Groups/", "", map[string]string{"id": "group"}},
	} {
		if strings.HasPrefix(o.Path, c.begins) && strings.HasSuffix(o.Path, c.ends) {
			return c.named
		}
	}
	return namedInVault(o)
}

// words are what stands in a path and belongs to nobody.
var words = strings.NewReplacer("/ResourceTypes/{id}", "/ResourceTypes/User", "/Schemas/{id}", "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User", "/pages/{file}", "/pages/style.css",
	"/problems/{kind}", "/problems/denied", "/inbox/{message}", "/inbox/1")

// path fills an operation's path with what is the place's, or who's. It tells what of the place's the path names.
func (p *place) path(t testing.TB, o web.Op, who tenantdb.PersonID) (path string, named []string) {
	t.Helper()
	path = words.Replace(o.Path)
	for name, what := range namedIn(o) {
		if strings.Contains(path, "{"+name+"}") {
			path = strings.ReplaceAll(path, "{"+name+"}", p.object(t, what, who))
			named = append(named, what)
		}
	}
	if strings.Contains(path, "{") {
		t.Fatalf("%s: say here what goes into it", path)
	}
	return path, named
}

// forget drops what a request of somebody has used up.
func (p *place) forget(who tenantdb.PersonID, named ...string) {
	if slices.Contains(named, "agent") {
		named = append(named, "token")
	}
	for _, what := range named {
		delete(p.ids, what)
		delete(p.ids, what+" "+who.String())
	}
}

// body is a good request of an operation: what is refused is refused for another reason. What it names is the place's.
func (p *place) body(t testing.TB, id string) any {
	t.Helper()
	if b := p.bodies(t)[id]; b != nil {
		return b()
	}
	return nil
}

func (p *place) bodies(t testing.TB) map[string]func() any {
	name := p.next()
	remark := object{"remark": "nothing was wrong with it"}
	all := map[string]func() any{
		"update-agent": func() any { return object{"name": name} }, "set-agent-scopes": func() any { return object{"scopes": []string{}} }, "issue-token": func() any { return object{} },
		"register-agent": func() any { return object{"name": name, "capabilities": []string{}} }, "add-scope": func() any { return object{"name": "do:" + name, "risk": "low", "description": "x"} },
		"create-key": func() any { return object{"name": name, "kind": "service"} }, "update-key": func() any { return object{"name": name} }, "rotate-key": func() any { return object{} },
		"revoke-key": func() any { return object{} }, "put-key-owner": func() any { return object{"max_keys": 2} },
		"import-keys": func() any { return object{"keys": []any{object{"hash": fmt.Sprintf("%064x", p.count), "name": name}}} },
		"verify-key":  func() any { return object{"key": name} }, "verify": func() any {
			return object{"token": name, "target_resource": "here", "scopes_requested": []string{"read:email"}}
		},
		"secret-scanning-github": func() any { return []any{object{"token": "x", "type": "y", "url": "", "source": ""}} },
		"state-audit-events":     func() any { return object{"action": name} },
		"sign-up":                func() any { return object{"name": name} }, "update-organisation": func() any { return object{"badge": false} },
		"set-kms":      func() any { return transitBody("https://127.0.0.1:9", "s.token") },
		"update-rules": func() any { return object{"retention_days": 0} }, "transfer-organisation": func() any { return object{"to": p.object(t, "member", p.owner)} },
		"delete-organisation": func() any { return object{"confirm": p.name} }, "confirm-deletion": func() any { return object{"confirm": p.name} },
		"ask-break-glass":    func() any { return object{"reason": "only to have a look", "capabilities": []string{"agents:write"}} },
		"review-break-glass": func() any { return remark }, "sign-break-glass-week": func() any { return remark },
		"answer-break-glass": func() any { return object{"decision": "approve", "by": "x", "token": "x"} },
		"create-connection": func() any {
			return object{"kind": "oidc", "name": name, "oidc": object{"issuer": "https://127.0.0.1:9", "client_id": name}}
		},
		"update-connection": func() any { return object{"name": name} }, "create-domain": func() any { return object{"domain": name + ".example"} }, "update-domain": func() any { return object{} },
	}
	maps.Copy(all, p.bodiesOfPeople(t, name))
	maps.Copy(all, p.bodiesOfVault(t, name))
	return all
}

func (p *place) bodiesOfPeople(t testing.TB, name string) map[string]func() any {
	return map[string]func() any{
		"create-group": func() any { return object{"name": name} }, "update-group": func() any { return object{"name": name} },
		"create-role": func() any { return object{"name": name, "capabilities": []string{"agents:read"}} }, "update-role": func() any { return object{"description": name} },
		"create-invitation": func() any { return object{"address": name + "@elsewhere.example", "roles": []string{org.RoleViewer}} },
		"update-member":     func() any { return object{"name": name} }, "update-me": func() any { return object{"name": name} }, "adopt-person": func() any { return object{"managed": false} },
		"sign-in": func() any { return object{"address": name + "@nobody.example", "password": goodPassword} }, "continue-sign-in": func() any { return object{"attempt": name, "do": "look"} },
		"recover": func() any { return object{"address": name + "@nobody.example"} }, "finish-recovery": func() any { return object{"link": name, "password": goodPassword} },
		"join": func() any { return object{"do": "look", "link": name} }, "refresh-session": func() any { return object{"refresh_token": name} },
		"prove-yourself": func() any { return object{"do": "begin"} }, "set-password": func() any { return object{"new": goodPassword} },
		"change-address": func() any { return object{"address": name + "@elsewhere.example"} }, "confirm-address": func() any { return object{"link": name} },
		"start-sso": func() any { return object{"address": name + "@nobody.example"} }, "prove-by-sso": func() any { return object{"connection_id": p.object(t, "connection that is on", p.owner)} },
		"begin-factor": func() any { return object{"kind": "totp", "name": name} }, "confirm-factor": func() any { return object{"code": "000000"} }, "rename-factor": func() any { return object{"name": name} },
		"scim-create-user":  func() any { return object{"userName": name + "@elsewhere.example"} },
		"scim-replace-user": func() any { return object{"userName": name + "@elsewhere.example"} }, "scim-change-user": func() any {
			return object{"Operations": []any{object{"op": "replace", "path": "displayName", "value": name}}}
		},
		"scim-create-group": func() any { return object{"displayName": name} }, "scim-replace-group": func() any { return object{"displayName": name} }, "scim-change-group": func() any {
			return object{"Operations": []any{object{"op": "replace", "path": "displayName", "value": name}}}
		},
	}
}
