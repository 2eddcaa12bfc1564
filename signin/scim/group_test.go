package scim

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/org"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace, bob := s.made(t, "grace@acme.example"), s.made(t, "bob@acme.example")
	member := func(p PersonID) map[string]any { return map[string]any{"value": p.String()} }
	made := s.ask(t, "POST", "/Groups", map[string]any{"schemas": []string{schemaGroup}, "displayName": "Auditors", "externalId": "g1", "members": []any{member(grace)}})
	golden(t, "group_created", made)
	id, err := org.ParseGroupID(made.Body["id"].(string))
	must(t, err)
	at := "/Groups/" + id.String()
	if st := s.standing(t, grace); len(st.Roles) != 0 {
		t.Errorf("a directory gave %v", st.Roles)
	}
	_, err = s.people.UpdateGroup(t.Context(), s.owner, id, "", org.GroupChange{Roles: &[]string{org.RoleAuditor}})
	must(t, err)
	if st := s.standing(t, grace); !slices.Equal(st.Roles, []string{org.RoleAuditor}) {
		t.Errorf("%v", st.Roles)
	}
	_, err = s.people.UpdateGroup(t.Context(), s.owner, id, "", org.GroupChange{Roles: &[]string{org.RoleOwner}})
	if err == nil {
		t.Error("a directory's group makes owners")
	}
	patch := func(ops ...any) int {
		return s.ask(t, "PATCH", at, map[string]any{"Operations": ops}).Status
	}
	in := func() (names []string) {
		a := s.ask(t, "GET", at, nil)
		members, _ := a.Body["members"].([]any)
		for _, m := range members {
			names = append(names, map[string]string{grace.String(): "grace", bob.String(): "bob"}[m.(map[string]any)["value"].(string)])
		}
		return names
	}
	for _, step := range []struct {
		op   map[string]any
		want []string
	}{
		{map[string]any{"op": "Add", "path": "members", "value": []any{member(bob)}}, []string{"grace", "bob"}},
		{map[string]any{"op": "Add", "path": "members", "value": []any{member(bob)}}, []string{"grace", "bob"}},
		{map[string]any{"op": "remove", "path": `members[value eq "` + grace.String() + `"]`}, []string{"bob"}},
		{map[string]any{"op": "Remove", "path": "members", "value": []any{member(bob)}}, nil},
		{map[string]any{"op": "add", "value": map[string]any{"members": []any{member(grace), member(bob)}}}, []string{"grace", "bob"}},
		{map[string]any{"op": "replace", "path": "members", "value": []any{member(bob)}}, []string{"bob"}},
		{map[string]any{"op": "remove", "path": "members"}, nil},
		{map[string]any{"op": "replace", "value": map[string]any{"id": id.String(), "displayName": "Renamed"}}, nil},
	} {
		if status := patch(step.op); status != 200 || !slices.Equal(in(), step.want) {
			t.Errorf("%v: %d, %v", step.op, status, in())
		}
	}
	for name, tt := range map[string]struct {
		member map[string]any
		status int
	}{
		"somebody without a directory": {member(s.ada), 400}, "nobody": {map[string]any{"value": "x"}, 400}, "a group": {map[string]any{"value": grace.String(), "type": "Group"}, 400},
		"of another organisation": {member(s.member(t, s.Tenant(t, "Globex"), "x@globex.example")), 400},
	} {
		if status := patch(map[string]any{"op": "add", "path": "members", "value": []any{tt.member}}); status != tt.status {
			t.Errorf("%s: %d", name, status)
		}
	}
	golden(t, "group_taken", s.ask(t, "POST", "/Groups", map[string]any{"displayName": "Renamed"}))
	own, err := s.people.CreateGroup(t.Context(), s.owner, org.NewGroup{Name: "Admins", Roles: []string{org.RoleAdmin}})
	must(t, err)
	for _, method := range []string{"GET", "PUT", "PATCH", "DELETE"} {
		body := map[string]any{"displayName": "Admins", "members": []any{member(grace)}, "Operations": []any{map[string]any{"op": "add", "path": "members", "value": []any{member(grace)}}}}
		if a := s.ask(t, method, "/Groups/"+own.ID.String(), body); a.Status != 404 {
			t.Errorf("%s of a group that is not the directory's: %d", method, a.Status)
		}
	}
	if a := s.ask(t, "POST", "/Groups", map[string]any{"displayName": "Admins"}); a.Status != 409 {
		t.Errorf("%d", a.Status)
	}
	for q, want := range map[string]string{
		"": "1", "filter=" + url.QueryEscape(`displayName eq "renamed"`): "1", "filter=" + url.QueryEscape(`externalId eq "g1" and displayName eq "Renamed"`): "1",
		"filter=" + url.QueryEscape(`displayName eq "Admins"`): "0", "filter=" + url.QueryEscape(`id eq "`+id.String()+`"`): "1", "filter=" + url.QueryEscape(`members.value eq "`+grace.String()+`"`): "0",
		"filter=" + url.QueryEscape(`roles eq "x"`): "<nil>",
	} {
		if a := s.ask(t, "GET", "/Groups?"+q+"&excludedAttributes=members", nil); fmt.Sprint(a.Body["totalResults"]) != want {
			t.Errorf("%s: %s", q, a.Raw)
		}
	}
	if a := s.ask(t, "DELETE", at, nil, "If-Match", `W/"1"`); a.Status != 412 {
		t.Errorf("%d", a.Status)
	}
	if a := s.ask(t, "DELETE", at, nil); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

// TestGroupsLeaveAWayIn: what a directory makes of a group is refused where it would leave the only owner without a way in.
func TestGroupsLeaveAWayIn(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace := s.made(t, "grace@acme.example")
	at := "/Groups/" + s.ask(t, "POST", "/Groups", map[string]any{"displayName": "Readers"}).Body["id"].(string)
	enter := map[string]any{"Operations": []any{map[string]any{"op": "add", "path": "members", "value": []any{map[string]any{"value": grace.String()}}}}}
	s.shut = true
	for method, body := range map[string]any{"PATCH": enter, "DELETE": nil} {
		if a := s.ask(t, method, at, body); a.Status != 409 || !strings.Contains(a.Raw, "another factor first") {
			t.Errorf("%s: %d %s", method, a.Status, a.Raw)
		}
	}
	if a := s.ask(t, "GET", at, nil); a.Status != 200 || strings.Contains(a.Raw, grace.String()) {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	s.shut = false
	if a := s.ask(t, "PATCH", at, enter); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

// TestMembershipByAnyWay: however a directory says it, the group's members are those of a model.
func TestMembershipByAnyWay(t *testing.T) {
	t.Parallel()
	people := make([]PersonID, 5)
	for i := range people {
		people[i] = PersonID{byte(i + 1), 6: 0x70, 8: 0x80}
	}
	rapid.Check(t, func(rt *rapid.T) {
		model := map[PersonID]bool{}
		g := group{name: "x"}
		for range rapid.IntRange(1, 8).Draw(rt, "operations") {
			some := rapid.SliceOfN(rapid.SampledFrom(people), 1, 3).Draw(rt, "people")
			values := make([]any, len(some))
			for i, p := range some {
				values[i] = map[string]any{"value": p.String()}
			}
			op := rapid.SampledFrom([]string{"add", "replace", "remove", "remove where", "remove all", "add without path"}).Draw(rt, "op")
			var ops []Operation
			switch op {
			case "add", "replace":
				ops = []Operation{{op, "members", values}}
			case "add without path":
				ops = []Operation{{"Add", "", map[string]any{"members": values}}}
			case "remove":
				ops = []Operation{{"Remove", "members", values}}
			case "remove all":
				ops = []Operation{{"remove", "members", nil}}
			case "remove where":
				ops = []Operation{{"remove", `members[value eq "` + some[0].String() + `"]`, nil}}
			}
			if op == "replace" || op == "remove all" {
				clear(model)
			}
			for i, p := range some {
				switch {
				case op == "add", op == "replace", op == "add without path":
					model[p] = true
				case op == "remove", op == "remove where" && i == 0:
					delete(model, p)
				}
			}
			a := g.attributes()
			if err := Apply(a, ops); err != nil {
				rt.Fatal(err)
			}
			var err error
			if g, err = wantGroup(a); err != nil {
				rt.Fatal(err)
			}
		}
		if len(g.members) != len(model) || slices.ContainsFunc(g.members, func(p PersonID) bool { return !model[p] }) {
			rt.Fatalf("%v instead of %v", g.members, model)
		}
	})
}
