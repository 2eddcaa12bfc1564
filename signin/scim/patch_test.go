package scim

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t testing.TB, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

func TestParseFilter(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Filter{
		`userName eq "a@b.example"`:              {{"username", "a@b.example"}},
		`USERNAME EQ "a\"b"`:                     {{"username", `a"b`}},
		`emails.value eq "x" and active eq true`: {{"emails.value", "x"}, {"active", true}},
		`active eq True`:                         {{"active", true}},
		`externalId eq null`:                     {{"externalid", nil}},
		`urn:ietf:params:scim:schemas:core:2.0:User:userName eq "a and b eq"`: {{"username", "a and b eq"}},
		`id eq "1" and displayName eq "2" and externalId eq "3"`:              {{"id", "1"}, {"displayname", "2"}, {"externalid", "3"}},
	} {
		got, err := ParseFilter(s)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "userName", "userName eq", "userName eq x", `userName co "x"`, `userName eq "x" or id eq "y"`, `not (userName eq "x")`, `(userName eq "x")`, `userName eq "x`, `userName eq "x" and`,
		`userName eq "x" id`, `userName pr`, `emails[type eq "work"]`, `.x eq 1`, `x' eq 1`, `userName eq "\x"`,
	} {
		var e *Error
		if f, err := ParseFilter(s); !errors.As(err, &e) || e.Status != 400 || e.Type != "invalidFilter" {
			t.Errorf("%q: %v, %v", s, f, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Path{
		"active": {Attribute: "active"}, "name.givenName": {Attribute: "name", Sub: "givenname"}, `emails[type eq "work"].value`: {"emails", Filter{{"type", "work"}}, "value"},
		`members[value eq "1"]`: {"members", Filter{{"value", "1"}}, ""}, "urn:ietf:params:scim:schemas:core:2.0:User:name.familyName": {Attribute: "name", Sub: "familyname"},
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department": {Attribute: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:user:department"},
	} {
		got, err := ParsePath(s)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "a.b.c", "emails[", `emails[type eq "work"`, `emails[type eq "work"]x`, `emails[type eq "work"].`, `emails[]`, "a b", `emails[type co "w"]`, `a.b[c eq 1]`, `x[a eq 1].b.c`} {
		if got, err := ParsePath(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	const grace = `{"username":"g@x","active":true,"name":{"givenname":"Grace"},"emails":[{"value":"g@x","type":"work","primary":true},{"value":"h@x","type":"home"}]}`
	for name, tt := range map[string]struct{ ops, want string }{
		"replace one":                 {`[{"op":"replace","path":"userName","value":"n@x"}]`, `{"username":"n@x"}`},
		"in Entra's capitals":         {`[{"op":"Replace","path":"active","value":"False"}]`, `{"active":"False"}`},
		"without a path":              {`[{"op":"replace","value":{"active":false,"name.familyName":"Hopper"}}]`, `{"active":false,"name":{"givenname":"Grace","familyname":"Hopper"}}`},
		"a sub-attribute":             {`[{"op":"add","path":"name.familyName","value":"Hopper"}]`, `{"name":{"givenname":"Grace","familyname":"Hopper"}}`},
		"a complex one stays":         {`[{"op":"replace","path":"name","value":{"familyName":"H"}}]`, `{"name":{"givenname":"Grace","familyname":"H"}}`},
		"where":                       {`[{"op":"replace","path":"emails[type eq \"work\"].value","value":"n@x"}]`, `{"emails":[{"value":"n@x","type":"work","primary":true},{"value":"h@x","type":"home"}]}`},
		"where there is none":         {`[{"op":"add","path":"emails[type eq \"other\"].value","value":"o@x"}]`, `{"emails":[{"value":"g@x","type":"work","primary":true},{"value":"h@x","type":"home"},{"type":"other","value":"o@x"}]}`},
		"add to a list, once":         {`[{"op":"add","path":"emails","value":[{"value":"h@x","type":"home"},{"value":"i@x","type":"home"}]}]`, `{"emails":[{"value":"g@x","type":"work","primary":true},{"value":"h@x","type":"home"},{"value":"i@x","type":"home"}]}`},
		"remove where":                {`[{"op":"remove","path":"emails[type eq \"home\"]"}]`, `{"emails":[{"value":"g@x","type":"work","primary":true}]}`},
		"remove a sub where":          {`[{"op":"remove","path":"emails[type eq \"work\"].primary"}]`, `{"emails":[{"value":"g@x","type":"work"},{"value":"h@x","type":"home"}]}`},
		"remove those":                {`[{"op":"remove","path":"emails","value":[{"value":"h@x","type":"home"}]}]`, `{"emails":[{"value":"g@x","type":"work","primary":true}]}`},
		"remove all":                  {`[{"op":"remove","path":"emails"}]`, `{"emails":null}`},
		"of an extension":             {`[{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":"x"}]`, `{}`},
		"of an extension, whole":      {`[{"op":"add","value":{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"x"}}}]`, `{}`},
		"one after the other":         {`[{"op":"replace","path":"active","value":false},{"op":"replace","path":"active","value":true}]`, `{"active":true}`},
		"a name that no table has":    {`[{"op":"add","path":"nickName","value":"Amazing"}]`, `{"nickname":"Amazing"}`},
		"remove a sub of what is not": {`[{"op":"remove","path":"title.x"}]`, `{}`},
	} {
		got := parse(t, grace).(map[string]any)
		want := parse(t, grace).(map[string]any)
		for k, v := range parse(t, tt.want).(map[string]any) {
			if want[k] = v; v == nil {
				delete(want, k)
			}
		}
		var ops []Operation
		if err := json.Unmarshal([]byte(tt.ops), &ops); err != nil {
			t.Fatal(err)
		}
		if err := Apply(got, ops); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(want, got))
		}
	}
	for name, ops := range map[string][]Operation{
		"none": nil, "an unknown one": {{Op: "move", Path: "a"}}, "remove nothing": {{Op: "remove"}}, "no object": {{Op: "add", Value: "x"}}, "a path that is none": {{Op: "add", Path: "a[", Value: 1}},
		"too many": make([]Operation, maxOperations+1),
	} {
		var e *Error
		if err := Apply(map[string]any{}, ops); !errors.As(err, &e) || e.Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"active", `emails[type eq "work"].value`, `members[value eq "x" and type eq true]`, "urn:a:b", `a[b eq "\u0000"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err == nil && (p.Attribute == "" || p.Attribute != attribute(p.Attribute)) {
			t.Errorf("%q: %+v", s, p)
		}
		if _, err := ParseFilter(s); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`[{"op":"add","path":"emails[type eq \"work\"].value","value":"x"}]`))
	f.Add([]byte(`[{"op":"remove","path":"emails","value":[{"value":"x"}]},{"op":"replace","value":{"a.b":[1,{"C":null}]}}]`))
	f.Add([]byte(`[{"op":"add","path":"a","value":[[]]},{"op":"add","path":"a","value":[[1]]},{"op":"remove","path":"a[b eq 1].c"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ops []Operation
		if json.Unmarshal(b, &ops) != nil {
			return
		}
		resource := map[string]any{"emails": []any{map[string]any{"value": "x", "type": "work"}}, "name": map[string]any{}}
		if err := Apply(resource, ops); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%v", err)
			}
		}
		if _, err := json.Marshal(resource); err != nil {
			t.Errorf("what is left cannot be written: %v", err)
		}
	})
}
