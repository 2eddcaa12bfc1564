package org

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestEveryPermission: whoever has every capability but the one that a route needs gets nothing from it; whoever has it alone is
// let in.
func TestEveryPermission(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	p := c.person(t, "ada", RoleMember)
	g := c.group(t, boss, "G")
	in := c.invite(t, boss, "new@acme.example")
	ok(t, second(c.room.CreateRole(t.Context(), boss, Role{Name: "mine", Capabilities: []string{"verify"}})), "a role")
	var by tenantdb.Caller
	api := c.API(func(*http.Request, web.RequestMeta) (tenantdb.Caller, error) { return by, nil })
	c.room.Routes(api)
	member, group, invitation, rules := "/api/v1/members/"+p.String(), "/api/v1/groups/"+g.String(), "/api/v1/invitations/"+in.ID.String(), "/api/v1/organisation/rules"
	for _, one := range []struct {
		capability, method, path string
		body                     any
	}{
		{"members:read", "GET", "/api/v1/members", nil}, {"members:read", "GET", member, nil}, {"members:read", "GET", member + "/offboarding", nil},
		{"members:read", "GET", "/api/v1/groups", nil}, {"members:read", "GET", group, nil}, {"members:read", "GET", "/api/v1/roles", nil}, {"members:read", "GET", "/api/v1/invitations", nil},
		{"organisation:read", "GET", rules, nil}, {"organisation:read", "GET", "/api/v1/organisation", nil},
		{"members:write", "PATCH", member, map[string]any{"name": "Eve"}}, {"members:write", "POST", member + "/suspend", nil}, {"members:write", "POST", member + "/resume", nil},
		{"members:write", "POST", member + "/remove", nil}, {"members:write", "POST", "/api/v1/groups", map[string]any{"name": "H"}}, {"members:write", "PATCH", group, map[string]any{"name": "I"}},
		{"members:write", "DELETE", group, nil}, {"members:write", "PUT", group + "/members/" + p.String(), nil}, {"members:write", "DELETE", group + "/members/" + p.String(), nil},
		{"members:write", "POST", "/api/v1/roles", map[string]any{"name": "r", "capabilities": []string{"members:write"}}}, {"members:write", "PATCH", "/api/v1/roles/mine", map[string]any{"description": "x"}},
		{"members:write", "DELETE", "/api/v1/roles/mine", nil}, {"members:write", "POST", "/api/v1/invitations", map[string]any{"address": "a@b.example", "roles": []string{}}},
		{"members:write", "POST", invitation + "/resend", nil}, {"members:write", "POST", invitation + "/revoke", nil},
		{"organisation:write", "PATCH", rules, map[string]any{"retention_days": 9}}, {"organisation:write", "DELETE", rules + "/pending/" + p.String(), nil},
		{"organisation:read", "GET", "/api/v1/organisation/deletion", nil}, {"organisation:write", "DELETE", "/api/v1/organisation/deletion/" + p.String(), nil},
		{"organisation:write", "POST", "/api/v1/organisation/deletion/" + p.String() + "/confirm", map[string]any{"confirm": "Acme"}},
		{"organisation:write", "POST", "/api/v1/organisation/transfer", map[string]any{"to": p.String()}}, {"organisation:write", "POST", "/api/v1/organisation/delete", map[string]any{"confirm": "Acme"}},
	} {
		q := doortest.Request{Method: one.method, Path: one.path, Body: one.body, Header: map[string]string{"If-Match": "*"}}
		others := slices.DeleteFunc(tenantdb.Capabilities(), func(s string) bool { return s == one.capability })
		c.unchanged(t, func() {
			by = c.Caller(c.id, others...)
			if a := doortest.Call(t, api, q); a.Status != http.StatusForbidden || !strings.Contains(a.Raw, one.capability) {
				t.Errorf("%s %s without %s: %d %s", one.method, one.path, one.capability, a.Status, a.Raw)
			}
			by = c.Caller(c.id)
			if a := doortest.Call(t, api, q); a.Status != http.StatusForbidden {
				t.Errorf("%s %s without any: %d %s", one.method, one.path, a.Status, a.Raw)
			}
		})
		by = c.Caller(c.id, one.capability)
		if a := doortest.Call(t, api, q); a.Status == http.StatusForbidden && strings.Contains(a.Raw, "This needs the capability") || a.Status >= 500 {
			t.Errorf("%s %s with %s: %d %s", one.method, one.path, one.capability, a.Status, a.Raw)
		}
	}
}

// TestOtherTenantsPeople: by their ids, nothing of another organisation is found or changed.
func TestOtherTenantsPeople(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	p, boss := c.person(t, "ada", RoleMember), c.as(t, c.person(t, "boss", RoleOwner))
	g, in := c.group(t, boss, "G"), c.invite(t, boss, "new@acme.example")
	ok(t, second(c.room.Remove(t.Context(), boss, c.person(t, "gone"))), "remove")
	_, theirs := c.create(t, "Globex", "")
	api := c.API(doortest.As(theirs))
	c.room.Routes(api)
	member, group, invitation := "/api/v1/members/"+p.String(), "/api/v1/groups/"+g.String(), "/api/v1/invitations/"+in.ID.String()
	c.unchanged(t, func() {
		for _, q := range []doortest.Request{
			{Method: "GET", Path: member}, {Method: "PATCH", Path: member, Body: map[string]any{"name": "Eve"}}, {Method: "POST", Path: member + "/suspend"}, {Method: "POST", Path: member + "/remove"},
			{Method: "GET", Path: member + "/offboarding"}, {Method: "GET", Path: group}, {Method: "PATCH", Path: group, Body: map[string]any{"name": "E"}}, {Method: "DELETE", Path: group},
			{Method: "PUT", Path: group + "/members/" + p.String()}, {Method: "POST", Path: invitation + "/revoke"}, {Method: "POST", Path: invitation + "/resend"},
			{Method: "DELETE", Path: "/api/v1/organisation/rules/pending/" + p.String()}, {Method: "DELETE", Path: "/api/v1/organisation/deletion/" + p.String()},
		} {
			if a := doortest.Call(t, api, q); a.Status != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", q.Method, q.Path, a.Status, a.Raw)
			}
		}
	})
	for path, list := range map[string]string{"/api/v1/members": "members", "/api/v1/groups": "groups", "/api/v1/invitations?state=all": "invitations"} {
		if a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: path}); a.Status != 200 || len(a.Body[list].([]any)) != 0 {
			t.Errorf("%s: %+v", path, a)
		}
	}
}

// TestPeopleRoutes: a day of an administrator, as a client sees it.
func TestPeopleRoutes(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	me, p := c.person(t, "boss", RoleOwner), c.person(t, "ada", RoleMember)
	api := c.API(doortest.As(c.as(t, me)))
	c.room.Routes(api)
	call := func(status int, method, path string, body any, header ...string) doortest.Answer {
		t.Helper()
		q := doortest.Request{Method: method, Path: path, Body: body, Header: map[string]string{}}
		if len(header) > 0 {
			q.Header["If-Match"] = header[0]
		}
		a := doortest.Call(t, api, q)
		if a.Status != status {
			t.Errorf("%s %s: %d %s", method, path, a.Status, a.Raw)
		}
		return a
	}
	page := call(200, "GET", "/api/v1/members?limit=1", nil)
	next := call(200, "GET", "/api/v1/members?limit=1&cursor="+page.Body["next_cursor"].(string), nil)
	if all := next.Body["members"].([]any); len(all) != 1 || all[0].(map[string]any)["address"] != "ada@acme.example" || next.Body["next_cursor"] != nil {
		t.Errorf("the second page is %v", next.Body)
	}
	if a := call(200, "GET", "/api/v1/members?role=owner", nil); len(a.Body["members"].([]any)) != 1 {
		t.Errorf("owners: %v", a.Body)
	}
	one := "/api/v1/members/" + p.String()
	if a := call(200, "PATCH", one, map[string]any{"roles": []string{"viewer"}}, `"1"`); a.Header.Get("ETag") != `"2"` || a.Body["keys_kept"] != 0.0 || a.Body["state"] != "active" {
		t.Errorf("changed: %+v", a)
	}
	call(412, "PATCH", one, map[string]any{"roles": []string{"admin"}}, `"1"`)
	g := call(201, "POST", "/api/v1/groups", map[string]any{"name": "Auditors", "roles": []string{"auditor"}}).Body["group_id"].(string)
	call(200, "PUT", "/api/v1/groups/"+g+"/members/"+p.String(), nil)
	if a := call(200, "GET", one, nil); len(a.Body["groups"].([]any)) != 1 {
		t.Errorf("in a group: %v", a.Body)
	}
	call(200, "DELETE", "/api/v1/groups/"+g, nil, `"1"`)
	if a := call(200, "POST", one+"/suspend", nil); a.Body["state"] != "suspended" || a.Body["suspended_at"] == nil {
		t.Errorf("suspended: %v", a.Body)
	}
	if a := call(200, "POST", one+"/remove", nil); a.Body["ended"].(map[string]any)["sessions"] != 0.0 {
		t.Errorf("removed: %v", a.Body)
	}
	if a := call(200, "GET", one+"/offboarding", nil); a.Body["removed_by"] != "person:"+me.String() {
		t.Errorf("the report: %v", a.Body)
	}
	call(404, "GET", "/api/v1/members/"+audit.NewSubjectID().String()+"/offboarding", nil)
	if a := call(200, "GET", "/api/v1/me", nil); a.Body["tenant_id"] != c.id.String() || a.Body["capabilities"].([]any)[0] != "*" || a.Body["needs_mfa"] != true {
		t.Errorf("me: %v", a.Body)
	}
	call(200, "PATCH", "/api/v1/me", map[string]any{"name": "The boss"}, `"1"`)
	in := call(201, "POST", "/api/v1/invitations", map[string]any{"address": "bob@acme.example", "roles": []string{"member"}}).Body["invitation_id"].(string)
	call(200, "POST", "/api/v1/invitations/"+in+"/resend", nil)
	call(200, "POST", "/api/v1/invitations/"+in+"/revoke", nil)
	rules := call(200, "PATCH", "/api/v1/organisation/rules", map[string]any{"mfa": "required", "addresses": []string{"192.0.2.0/24"}, "break_glass": map[string]any{"approval": "delay"}}, `"1"`)
	if rules.Body["mfa"] != "required" || rules.Body["addresses"].([]any)[0] != "192.0.2.0/24" || rules.Body["break_glass"].(map[string]any)["delay_seconds"] != 3600.0 {
		t.Errorf("rules: %v", rules.Body)
	}
	call(400, "PATCH", "/api/v1/organisation/rules", map[string]any{"addresses": []string{"everywhere"}}, `"2"`)
	lower := call(200, "PATCH", "/api/v1/organisation/rules", map[string]any{"mfa": "roles"}, `"2"`)
	waits := lower.Body["pending"].([]any)[0].(map[string]any)
	if lower.Body["mfa"] != "required" || waits["mfa"] != "roles" {
		t.Errorf("lowered: %v", lower.Body)
	}
	call(200, "DELETE", "/api/v1/organisation/rules/pending/"+waits["change_id"].(string), nil)
	next2 := c.person(t, "next", RoleAdmin)
	call(200, "POST", "/api/v1/organisation/transfer", map[string]any{"to": next2.String()})
	call(403, "POST", "/api/v1/organisation/delete", map[string]any{"confirm": "Acme"})
}
