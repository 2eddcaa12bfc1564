package scim

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden holds an answer to the bytes that directories were given so far, but for what is new each time.
func golden(t *testing.T, name string, a doortest.Answer) {
	t.Helper()
	got := fmt.Sprintf("%d %s\nETag: %s\nLocation: %s\n\n%s\n", a.Status, a.Header.Get("Content-Type"), a.Header.Get("ETag"), a.Header.Get("Location"), a.Raw)
	got = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`).ReplaceAllString(got, "ID")
	got = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`).ReplaceAllString(got, "TIME")
	file := filepath.Join("testdata", name+".txt")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s: the answer is\n%s\nand was\n%s", name, got, want)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	s := open(t)
	made := s.ask(t, "POST", "/Users", map[string]any{
		"schemas": []string{schemaUser, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"}, "userName": "Grace@Acme.example", "externalId": "00u1", "active": true,
		"name": map[string]any{"givenName": "Grace", "familyName": "Hopper"}, "emails": []any{map[string]any{"primary": true, "type": "work", "value": "grace@acme.example"}},
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": map[string]any{"department": "Navy"}, "password": "never kept",
	})
	golden(t, "user_created", made)
	id := parseID(t, made.Body["id"])
	at := "/Users/" + id.String()
	if st := s.standing(t, id); !st.Active || len(st.Roles) != 0 || st.ManagedBy == "" {
		t.Errorf("%+v", st)
	}
	golden(t, "user_found", s.ask(t, "GET", "/Users?filter="+url.QueryEscape(`userName eq "GRACE@acme.example"`), nil))
	// As Entra writes it.
	a := s.ask(t, "PATCH", at, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": []any{
		map[string]any{"op": "Replace", "path": "displayName", "value": "Rear Admiral Hopper"},
		map[string]any{"op": "Add", "path": `emails[type eq "work"].value`, "value": "hopper@acme.example"},
		map[string]any{"op": "Replace", "path": "active", "value": "False"},
		map[string]any{"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "x"},
	}})
	golden(t, "user_changed", a)
	if st := s.standing(t, id); st.Active {
		t.Error("active")
	}
	// As Okta writes it.
	a = s.ask(t, "PATCH", at, map[string]any{"Operations": []any{map[string]any{"op": "replace", "value": map[string]any{"active": true}}}})
	if a.Status != 200 || a.Body["active"] != true || a.Body["userName"] != "hopper@acme.example" || a.Body["externalId"] != "00u1" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	a = s.ask(t, "PUT", at, map[string]any{"userName": "hopper@acme.example", "displayName": "Grace", "active": "true"}, "If-Match", a.Header.Get("ETag"))
	if a.Status != 200 || a.Body["displayName"] != "Grace" || a.Body["externalId"] != "00u1" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	golden(t, "user_changed_since", s.ask(t, "PUT", at, map[string]any{"userName": "hopper@acme.example"}, "If-Match", `W/"1"`))
	golden(t, "user_taken", s.ask(t, "POST", "/Users", map[string]any{"userName": "hopper@acme.example"}))
	golden(t, "external_taken", s.ask(t, "POST", "/Users", map[string]any{"userName": "other@acme.example", "externalId": "00u1"}))
	if a := s.ask(t, "PUT", "/Users/"+s.made(t, "second@acme.example").String(), map[string]any{"userName": "hopper@acme.example"}); a.Status != 409 || a.Body["scimType"] != "uniqueness" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "DELETE", at, nil); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	golden(t, "user_gone", s.ask(t, "GET", at, nil))
	var types []string
	for _, e := range s.Entries(t, s.acme) {
		if e.Target.ID == id.String() {
			types = append(types, e.Type)
		}
		if e.Target.ID == id.String() && (e.Actor.Kind != audit.ActorKey || strings.Contains(string(e.Body), "Hopper") || strings.Contains(string(e.Body), "acme.example")) {
			t.Errorf("%s by %v: %s", e.Type, e.Actor, e.Body)
		}
	}
	if !slices.Equal(types, []string{"person.joined", "person.directed", "person.suspended", "person.resumed", "person.directed", "person.removed"}) {
		t.Errorf("the log says %v", types)
	}
}

// TestAccountsAreNotTaken: what a stolen key of a directory does not do.
func TestAccountsAreNotTaken(t *testing.T) {
	t.Parallel()
	s := open(t)
	globex := s.Tenant(t, "Globex")
	theirs := s.member(t, globex, "boss@globex.example", org.RoleOwner)
	s.prove(t, s.person(globex, theirs, "*"), "globex.example")
	admin := s.member(t, s.acme, "admin@acme.example", org.RoleAdmin)
	outside := s.member(t, s.acme, "guest@elsewhere.example", org.RoleMember)
	own := s.made(t, "own@acme.example")
	s.password(t, own)
	boss := s.made(t, "boss@acme.example")
	roles := []string{org.RoleOwner}
	_, err := s.people.UpdatePerson(t.Context(), tenantdb.System(s.acme, "test"), boss, "", org.PersonChange{Roles: &roles})
	must(t, err)
	chief := s.made(t, "chief@acme.example")
	_, err = s.people.UpdatePerson(t.Context(), tenantdb.System(s.acme, "test"), chief, "", org.PersonChange{Roles: &[]string{org.RoleAdmin}})
	must(t, err)
	plain := s.made(t, "plain@acme.example")
	for name, tt := range map[string]struct {
		who    PersonID
		says   map[string]any
		status int
	}{
		"an owner without a directory: address":      {s.ada, map[string]any{"userName": "eve@acme.example"}, 403},
		"an owner without a directory: off":          {s.ada, map[string]any{"userName": "ada@acme.example", "active": false}, 403},
		"an administrator without a directory":       {admin, map[string]any{"userName": "eve@acme.example"}, 403},
		"an administrator, just a name":              {admin, map[string]any{"userName": "admin@acme.example", "displayName": "x"}, 403},
		"of no domain of ours":                       {outside, map[string]any{"userName": "eve@acme.example"}, 404},
		"of another organisation":                    {theirs, map[string]any{"userName": "eve@acme.example"}, 404},
		"who has a password: address":                {own, map[string]any{"userName": "eve@acme.example"}, 403},
		"who has a password: name":                   {own, map[string]any{"userName": "own@acme.example", "displayName": "New"}, 200},
		"who became an administrator: address":       {chief, map[string]any{"userName": "eve@acme.example"}, 403},
		"who became an administrator: off":           {chief, map[string]any{"userName": "chief@acme.example", "active": false}, 200},
		"who became an owner: address":               {boss, map[string]any{"userName": "eve@acme.example"}, 403},
		"the directory's own: address":               {plain, map[string]any{"userName": "eve@acme.example"}, 200},
		"to another organisation's domain":           {plain, map[string]any{"userName": "eve@globex.example"}, 400},
		"to a domain of nobody's":                    {plain, map[string]any{"userName": "eve@gmail.example"}, 400},
		"to what is no address":                      {plain, map[string]any{"userName": "eve"}, 400},
		"to somebody's address":                      {plain, map[string]any{"userName": "ada@acme.example"}, 409},
		"roles, which SCIM has an attribute for too": {plain, map[string]any{"userName": "eve@acme.example", "roles": []any{map[string]any{"value": "owner"}}, "entitlements": []any{"*"}}, 200},
	} {
		if a := s.ask(t, "PUT", "/Users/"+tt.who.String(), tt.says); a.Status != tt.status {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
		if tt.who == plain {
			s.ask(t, "PUT", "/Users/"+plain.String(), map[string]any{"userName": "plain@acme.example"})
		}
	}
	if st := s.standing(t, plain); len(st.Roles) != 0 {
		t.Errorf("a directory gave %v", st.Roles)
	}
	for name, who := range map[string]PersonID{"an owner": s.ada, "an administrator": admin, "a stranger": outside, "another organisation's": theirs} {
		if a := s.ask(t, "DELETE", "/Users/"+who.String(), nil); a.Status != 403 && a.Status != 404 {
			t.Errorf("%s was removed: %d", name, a.Status)
		}
	}
	for address, status := range map[string]int{"x@gmail.example": 400, "x@globex.example": 400, "x@evil.acme.example": 400, "ada@acme.example": 409, "x": 400, "": 400} {
		if a := s.ask(t, "POST", "/Users", map[string]any{"userName": address}); a.Status != status {
			t.Errorf("making %q: %d %s", address, a.Status, a.Raw)
		}
	}
	for _, e := range s.Entries(t, globex) {
		if e.Actor.Kind == audit.ActorKey {
			t.Errorf("the other organisation: %s", e.Type)
		}
	}
}

// password gives somebody a way in of their own.
func (s *scene) password(t *testing.T, p PersonID) {
	t.Helper()
	must(t, s.DB.Change(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.password (tenant_id, person_id, hash, changed_at) VALUES ($1, $2, '\x00', now())`, tx.Tenant(), p)
		return audit.Event{Type: "password.set"}, err
	}))
}

func TestSuspension(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace := s.made(t, "grace@acme.example")
	at := "/Users/" + grace.String()
	session := func() {
		must(t, s.DB.Change(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
			_, err := tx.Exec(t.Context(), `INSERT INTO avouch.session (tenant_id, session_id, person_id, kind, digest, description, methods, created_at, proved_at, held, expires_at, idle_seconds, mac)
				VALUES ($1, gen_random_uuid(), $2, 'browser', sha256(gen_random_uuid()::text::bytea), '', '{}', now(), now(), '{}', now() + interval '1 day', 60, sha256('x'))`, tx.Tenant(), grace)
			return audit.Event{Type: "session.started"}, err
		}))
	}
	active := func(v any) doortest.Answer {
		return s.ask(t, "PATCH", at, map[string]any{"Operations": []any{map[string]any{"op": "replace", "path": "active", "value": v}}})
	}
	session()
	if a := active(false); a.Status != 200 || a.Body["active"] != false || s.standing(t, grace).Active {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if n := s.Text(t, `SELECT count(*)::text FROM avouch.session WHERE ended_at IS NULL`); n != "0" {
		t.Errorf("%s sessions live", n)
	}
	if a := active(true); a.Status != 200 || !s.standing(t, grace).Active {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	_, err := s.people.SuspendPerson(t.Context(), s.owner, grace)
	must(t, err)
	if a := active(true); a.Status != 403 || s.standing(t, grace).Active {
		t.Errorf("resumed whom an administrator suspended: %d %s", a.Status, a.Raw)
	}
	if a := active(false); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	_, err = s.people.ResumePerson(t.Context(), s.owner, grace)
	must(t, err)
	active(false)
	_, err = s.people.ResumePerson(t.Context(), s.owner, grace)
	must(t, err)
	_, err = s.people.SuspendPerson(t.Context(), s.owner, grace)
	must(t, err)
	if a := active("True"); a.Status != 403 || s.standing(t, grace).Active {
		t.Errorf("an old mark counts: %d %s", a.Status, a.Raw)
	}
	off := s.made(t, "off@acme.example", "active", false)
	if s.standing(t, off).Active {
		t.Error("made active")
	}
	if a := active("maybe"); a.Status != 400 || a.Body["scimType"] != "invalidValue" {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

// TestSuspendedByBoth: whom an administrator suspends after the directory did, the directory does not resume.
func TestSuspendedByBoth(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace := s.made(t, "grace@acme.example")
	active := func(v bool) doortest.Answer {
		return s.ask(t, "PATCH", "/Users/"+grace.String(), map[string]any{"Operations": []any{map[string]any{"op": "replace", "path": "active", "value": v}}})
	}
	if a := active(false); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	_, err := s.people.SuspendPerson(t.Context(), s.owner, grace)
	must(t, err)
	if a := active(true); a.Status != 403 || s.standing(t, grace).Active {
		t.Errorf("resumed whom an administrator suspended too: %d %s", a.Status, a.Raw)
	}
	_, err = s.people.ResumePerson(t.Context(), s.owner, grace)
	must(t, err)
	if a := active(false); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	if a := active(true); a.Status != 200 || !s.standing(t, grace).Active {
		t.Errorf("its own suspension: %d %s", a.Status, a.Raw)
	}
}

// TestLastOwner: a directory that decides about all owners ends not the last of them.
func TestLastOwner(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.room.Adopt(t.Context(), s.owner, s.ada, true))
	at := "/Users/" + s.ada.String()
	if a := s.ask(t, "PUT", at, map[string]any{"userName": "ada@acme.example", "active": false}); a.Status != 403 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "DELETE", at, nil); a.Status != 403 || !s.standing(t, s.ada).Active {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "PUT", at, map[string]any{"userName": "eve@acme.example"}); a.Status != 403 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace, admin := s.member(t, s.acme, "grace@acme.example", org.RoleMember), s.member(t, s.acme, "admin@acme.example", org.RoleAdmin)
	guest := s.member(t, s.acme, "guest@elsewhere.example", org.RoleMember)
	adopt := func(c tenantdb.Caller, who PersonID, managed bool) int {
		return doortest.Call(t, s.as(c), doortest.Request{Method: "PUT", Path: "/api/v1/people/" + who.String() + "/directory", Body: map[string]any{"managed": managed}}).Status
	}
	if n := adopt(s.key(s.acme), grace, true); n != 403 {
		t.Errorf("the directory took somebody by itself: %d", n)
	}
	helper := s.person(s.acme, admin, tenantdb.Capabilities()...)
	if n := adopt(helper, s.ada, true); n != 403 {
		t.Errorf("an administrator gave an owner away: %d", n)
	}
	if n := adopt(s.owner, guest, true); n != 409 {
		t.Errorf("somebody of a foreign domain: %d", n)
	}
	if a := s.ask(t, "PUT", "/Users/"+grace.String(), map[string]any{"userName": "grace@acme.example", "displayName": "Grace"}); a.Status != 403 {
		t.Errorf("before: %d", a.Status)
	}
	if n := adopt(helper, grace, true); n != 204 {
		t.Errorf("%d", n)
	}
	if a := s.ask(t, "PUT", "/Users/"+grace.String(), map[string]any{"userName": "grace@acme.example", "displayName": "Grace", "externalId": "7"}); a.Status != 200 {
		t.Errorf("afterwards: %d %s", a.Status, a.Raw)
	}
	if n := adopt(helper, grace, false); n != 204 {
		t.Errorf("%d", n)
	}
	if a := s.ask(t, "DELETE", "/Users/"+grace.String(), nil); a.Status != 403 {
		t.Errorf("released: %d", a.Status)
	}
}

func TestFindUsers(t *testing.T) {
	t.Parallel()
	s := open(t)
	ids := []PersonID{s.made(t, "a@acme.example", "externalId", "1"), s.made(t, "b@acme.example", "externalId", "2"), s.made(t, "c@acme.example")}
	s.member(t, s.acme, "guest@elsewhere.example", org.RoleMember)
	for q, want := range map[string]string{
		"":                                    "3 1-3 a b c",
		"count=2":                             "3 1-2 a b",
		"startIndex=3&count=2":                "3 3-1 c",
		"startIndex=9":                        "3 9-0",
		"startIndex=0&count=1":                "3 1-1 a",
		"count=0":                             "3 1-0",
		"count=-1":                            "3 1-0",
		"count=100000":                        "3 1-3 a b c",
		`filter=userName eq "b@acme.example"`: "1 1-1 b",
		`filter=username EQ "B@ACME.EXAMPLE"`: "1 1-1 b",
		`filter=emails.value eq "a@acme.example"`:                   "1 1-1 a",
		`filter=externalId eq "2"`:                                  "1 1-1 b",
		`filter=externalId eq "2" and userName eq "b@acme.example"`: "1 1-1 b",
		`filter=externalId eq "2" and userName eq "a@acme.example"`: "0 1-0",
		`filter=userName eq "a@acme.example" and active eq true`:    "1 1-1 a",
		`filter=userName eq "a@acme.example" and active eq false`:   "0 1-0",
		`filter=id eq "` + ids[2].String() + `"`:                    "1 1-1 c",
		`filter=id eq "x"`:                                          "0 1-0",
		`filter=userName eq "nobody@acme.example"`:                  "0 1-0",
		`filter=userName eq "no address"`:                           "0 1-0",
		`filter=userName eq "ada@acme.example"`:                     "1 1-1 ada", // before it is adopted, or a directory would make a second one for ever
		`filter=userName eq "guest@elsewhere.example"`:              "0 1-0",
		`filter=userName eq "a@acme.example"&startIndex=2`:          "1 2-0",
		`filter=userName co "a"`:                                    "400 invalidFilter",
		`filter=displayName eq "a"`:                                 "400 invalidFilter",
		`filter=active eq true`:                                     "400 invalidFilter",
		`filter=userName eq "a@acme.example" or id eq "1"`:          "400 invalidFilter",
		`count=x`: "400 invalidValue",
	} {
		parts := strings.SplitN(q, "=", 2)
		if parts[0] == "filter" {
			f, rest, _ := strings.Cut(parts[1], "&")
			q = "filter=" + url.QueryEscape(f) + "&" + rest
		}
		a := s.ask(t, "GET", "/Users?"+q, nil)
		got := fmt.Sprintf("%d %v", a.Status, a.Body["scimType"])
		if a.Status == 200 {
			got = fmt.Sprintf("%v %v-%v", a.Body["totalResults"], a.Body["startIndex"], a.Body["itemsPerPage"])
			for _, u := range a.Body["Resources"].([]any) {
				name, _, _ := strings.Cut(u.(map[string]any)["userName"].(string), "@")
				got += " " + name
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := open(t)
	golden(t, "bad_json", s.ask(t, "POST", "/Users", "{"))
	golden(t, "bad_filter", s.ask(t, "GET", "/Users?filter=x", nil))
	for name, tt := range map[string]struct {
		method, path, media, body string
		status                    int
	}{
		"a form":                    {"POST", "/Users", "application/x-www-form-urlencoded", "userName=x", 415},
		"plain JSON":                {"POST", "/Users", "application/json; charset=utf-8", `{"userName":"plain@acme.example"}`, 201},
		"no object":                 {"POST", "/Users", media, `[]`, 400},
		"no operations":             {"PATCH", "/Users/x", media, `{}`, 404},
		"no such user":              {"GET", "/Users/0198a000-0000-7000-8000-000000000001", media, "", 404},
		"no such group":             {"GET", "/Groups/0198a000-0000-7000-8000-000000000001", media, "", 404},
		"a user who is no text":     {"POST", "/Users", media, `{"userName":{}}`, 400},
		"a name that cannot be one": {"POST", "/Users", media, `{"userName":"n@acme.example","displayName":"a\u202eb"}`, 400},
		"bulk":                      {"POST", "/Bulk", media, `{}`, 404},
		"too large":                 {"POST", "/Users", media, `{"userName":"` + strings.Repeat("x", 5<<20) + `"}`, 413},
	} {
		var body any
		if tt.body != "" {
			body = tt.body
		}
		if a := s.ask(t, tt.method, tt.path, body, "Content-Type", tt.media); a.Status != tt.status {
			t.Errorf("%s: %d %.200s", name, a.Status, a.Raw)
		}
	}
	s.api = s.as(s.person(s.acme, s.ada, "*"))
	golden(t, "not_a_key", s.ask(t, "GET", "/Users", nil))
	s.api = s.as(tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: s.acme, Actor: audit.Actor{Kind: audit.ActorKey, ID: "k"}, Scopes: []string{"keys:write"}, RequestID: audit.NewRequestID()}))
	golden(t, "no_capability", s.ask(t, "GET", "/Users", nil))
}

func TestDescribed(t *testing.T) {
	t.Parallel()
	s := open(t)
	golden(t, "provider", s.ask(t, "GET", "/ServiceProviderConfig", nil))
	golden(t, "types", s.ask(t, "GET", "/ResourceTypes", nil))
	golden(t, "schemas", s.ask(t, "GET", "/Schemas", nil))
	if a := s.ask(t, "GET", "/Schemas/"+schemaUser, nil); a.Status != 200 || a.Body["id"] != schemaUser {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "GET", "/ResourceTypes/user", nil); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "GET", "/Schemas/x", nil); a.Status != 404 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

// TestWhoCameByAProviderIsNotTheDirectorys: a connection that admitted somebody is no directory, so any key with scim:write decides
// about them no more than about whoever was invited, until an administrator lets it.
func TestWhoCameByAProviderIsNotTheDirectorys(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace := s.member(t, s.acme, "grace@acme.example", org.RoleMember)
	must(t, s.DB.Change(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.person SET managed_by = gen_random_uuid() WHERE tenant_id = $1 AND person_id = $2`, tx.Tenant(), grace)
		return audit.Event{Type: "test.admitted"}, err
	}))
	refused := func(method string, body any) {
		t.Helper()
		if a := s.ask(t, method, "/Users/"+grace.String(), body); a.Status != 403 {
			t.Errorf("%s: %d %s", method, a.Status, a.Raw)
		}
	}
	refused("PUT", map[string]any{"userName": "mine@acme.example"})
	refused("PUT", map[string]any{"userName": "grace@acme.example", "active": false})
	refused("DELETE", nil)
	if a := s.ask(t, "POST", "/Groups", map[string]any{"displayName": "G", "members": []any{map[string]any{"value": grace.String()}}}); a.Status != 400 {
		t.Errorf("into a group of the directory's: %d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "GET", "/Users", nil); a.Status != 200 || !strings.Contains(a.Raw, `"totalResults":0`) {
		t.Errorf("listed: %d %s", a.Status, a.Raw)
	}
	adopt := doortest.Request{Method: "PUT", Path: "/api/v1/people/" + grace.String() + "/directory", Body: map[string]any{"managed": true}}
	if a := doortest.Call(t, s.as(s.owner), adopt); a.Status != 204 {
		t.Errorf("adopted: %d %s", a.Status, a.Raw)
	}
	if a := s.ask(t, "PUT", "/Users/"+grace.String(), map[string]any{"userName": "grace@acme.example", "active": false}); a.Status != 200 {
		t.Errorf("afterwards: %d %s", a.Status, a.Raw)
	}
}
