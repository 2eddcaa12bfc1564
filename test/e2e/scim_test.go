package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// directory is whatever speaks SCIM with a key.
type directory struct {
	*organised
	key string
}

const scimType = "application/scim+json"

func (d directory) speaks(t testing.TB, method, path string, body any) answer {
	t.Helper()
	a := d.asks(t, method, "/scim/v2"+path, d.key, body, "Content-Type", scimType)
	if len(a.Raw) > 0 && a.Header.Get("Content-Type") != scimType {
		t.Errorf("%s %s answers with %s", method, path, a.Header.Get("Content-Type"))
	}
	return a
}

// directoryKey is a key that an owner gives to a directory.
func directoryKey(t testing.TB, o *organised, owner string, scopes ...string) string {
	t.Helper()
	return o.asks(t, "POST", "/api/v1/keys", owner, map[string]any{"name": "directory", "kind": "service", "scopes": scopes}).want(t, http.StatusCreated).text("key")
}

// TestDirectory has a directory make, change and end members of a real server, by a real key.
func TestDirectory(t *testing.T) {
	t.Parallel()
	o := organise(t, "", "", "")
	o.provesDomain(t, nil)
	d := directory{o, directoryKey(t, o, o.token, "scim:write")}
	const mary = "mary@" + domain

	made := d.speaks(t, "POST", "/Users", map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": mary, "displayName": "Mary Somerville", "externalId": "00u7"}).want(t, http.StatusCreated)
	id := made.text("id")
	for filter, n := range map[string]float64{
		`userName eq "MARY@` + domain + `"`: 1, `externalId eq "00u7"`: 1, `userName eq "grace@` + domain + `"`: 0,
	} {
		if a := d.speaks(t, "GET", "/Users?filter="+url.QueryEscape(filter), nil).want(t, http.StatusOK); a.Body["totalResults"] != n {
			t.Errorf("%s: %s", filter, a.Raw)
		}
	}

	// Who has come in by another way has a session, and the directory ends it.
	_, link, _ := strings.Cut(recovered(t, o, mary), "#link=")
	signed := o.asks(t, "POST", "/api/v1/recovery/finish", "", map[string]any{"link": link, "password": firstPassword, "kind": "program"}).want(t, http.StatusOK)
	token := signed.text("access_token")
	standing := func() []string {
		return texts(o.asks(t, "GET", "/api/v1/session", token, nil).want(t, http.StatusOK).Body["roles"])
	}
	if roles := standing(); slices.Contains(roles, "auditor") {
		t.Errorf("the first roles are %v", roles)
	}

	group := d.speaks(t, "POST", "/Groups", map[string]any{"displayName": "Auditors", "members": []any{map[string]any{"value": id}}}).want(t, http.StatusCreated).text("id")
	if roles := standing(); slices.Contains(roles, "auditor") {
		t.Errorf("a directory's group gave %v by itself", roles)
	}
	etag := o.does(t, "GET", "/api/v1/groups/"+group, nil).Header.Get("ETag")
	o.does(t, "PATCH", "/api/v1/groups/"+group, map[string]any{"roles": []string{"auditor"}}, "If-Match", etag)
	if roles := standing(); !slices.Contains(roles, "auditor") {
		t.Errorf("in the group, the roles are %v", roles)
	}
	d.speaks(t, "PATCH", "/Groups/"+group, map[string]any{"Operations": []any{map[string]any{"op": "remove", "path": fmt.Sprintf("members[value eq %q]", id)}}})
	if roles := standing(); slices.Contains(roles, "auditor") {
		t.Errorf("out of the group, the roles are %v", roles)
	}
	d.speaks(t, "PATCH", "/Groups/"+group, map[string]any{"Operations": []any{map[string]any{"op": "add", "path": "members", "value": []any{map[string]any{"value": id}}}}})
	if roles := standing(); !slices.Contains(roles, "auditor") {
		t.Errorf("in the group again, the roles are %v", roles)
	}

	strangers(t, d, id, group)

	active := func(v any) {
		t.Helper()
		d.speaks(t, "PATCH", "/Users/"+id, map[string]any{"Operations": []any{map[string]any{"op": "Replace", "path": "active", "value": v}}}).want(t, http.StatusOK)
	}
	active("False") // as Entra writes it
	o.asks(t, "GET", "/api/v1/session", token, nil).want(t, http.StatusUnauthorized)
	o.asks(t, "POST", "/api/v1/session/refresh", "", map[string]any{"refresh_token": signed.text("refresh_token")}).want(t, http.StatusUnauthorized)
	o.tries(t, mary).want(t, http.StatusUnauthorized)
	active(true)
	o.asks(t, "GET", "/api/v1/session", token, nil).want(t, http.StatusUnauthorized) // what has ended stays so
	token = o.tries(t, mary).want(t, http.StatusOK).text("access_token")
	standing()

	d.speaks(t, "DELETE", "/Users/"+id, nil).want(t, http.StatusNoContent)
	o.asks(t, "GET", "/api/v1/session", token, nil).want(t, http.StatusUnauthorized)
	o.tries(t, mary).want(t, http.StatusUnauthorized)
	d.speaks(t, "GET", "/Users/"+id, nil).want(t, http.StatusNotFound)
	if by := o.does(t, "GET", "/api/v1/members/"+id+"/offboarding", nil).text("removed_by"); !strings.HasPrefix(by, "key:") {
		t.Errorf("the report says that %q did it", by)
	}
	d.speaks(t, "DELETE", "/Users/"+o.member(t, ada), nil).want(t, http.StatusForbidden) // the owner is nobody of the directory's
}

// recovered is the link by which somebody whom a directory made sets a first password.
func recovered(t testing.TB, o *organised, address string) string {
	t.Helper()
	o.asks(t, "POST", "/api/v1/recovery", "", map[string]any{"address": address}).want(t, http.StatusAccepted)
	return o.link(address, "/recover")
}

// strangers asks with keys that may not: one without the capability, a person, nobody, and another organisation's.
func strangers(t *testing.T, d directory, user, group string) {
	t.Helper()
	for name, key := range map[string]string{"a key without scim:write": directoryKey(t, d.organised, d.token, "audit:read"), "the owner": d.token} {
		d.key = key
		for _, method := range []string{"GET", "DELETE"} {
			if a := d.speaks(t, method, "/Users/"+user, nil); a.Status != http.StatusForbidden {
				t.Errorf("%s: %s: %d %s", name, method, a.Status, a.Raw)
			}
		}
	}
	d.key = "avs_live_nobodys"
	if a := d.asks(t, "GET", "/scim/v2/Users", d.key, nil); a.Status != http.StatusUnauthorized {
		t.Errorf("nobody's key: %d %s", a.Status, a.Raw)
	}
	other := d.organisation(t, "Difference Engines")
	d.key = directoryKey(t, d.organised, other.key, "scim:write")
	for _, path := range []string{"/Users", "/Groups"} {
		if a := d.speaks(t, "GET", path, nil).want(t, http.StatusOK); a.Body["totalResults"] != 0.0 {
			t.Errorf("another organisation's key finds %s", a.Raw)
		}
	}
	for _, path := range []string{"/Users/" + user, "/Groups/" + group} {
		for _, method := range []string{"GET", "DELETE"} {
			d.speaks(t, method, path, nil).want(t, http.StatusNotFound)
		}
	}
	d.speaks(t, "POST", "/Users", map[string]any{"userName": "thief@" + domain}).want(t, http.StatusBadRequest) // not its domain
}
