package verify

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/web"
)

// FuzzRequest reads each text twice: as Verify does, and field by field with encoding/json.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"token":"a.b.c","target_resource":"x","scopes_requested":["read:email","\u00e9"]}`, `{"token":null,"scopes_requested":null}`, `null`, `{}`,
		` { "token" : "\ud83d\ude00\n" , "scopes_requested" : [ ] } `, `{"token":5}`, `{"scopes_requested":["a",null,{}]}`, `{"scopes_requested":"a"}`,
		`[]`, `"x"`, `{"token":"a","token":"b"}`, `{"scopes_requested":["a",]}`, `{"other":{"token":"b"},"token":true}`, `{"target_resource":{}}`, "{\"token\":\"a\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want Request
		failed := json.Unmarshal(text, &got)
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			if failed == nil {
				t.Fatalf("%q was read, and encoding/json says %v", text, err)
			}
			return
		}
		var wrong error
		for name, into := range map[string]any{"token": &want.Token, "target_resource": &want.TargetResource, "scopes_requested": &want.ScopesRequested} {
			if raw, ok := fields[name]; ok {
				if err := json.Unmarshal(raw, into); err != nil {
					wrong = err
				}
			}
		}
		switch {
		case wrong != nil && failed == nil:
			t.Fatalf("%q was read, and encoding/json says %v", text, wrong)
		case failed == nil && (got.Token != want.Token || got.TargetResource != want.TargetResource || !slices.Equal(got.ScopesRequested, want.ScopesRequested)):
			t.Fatalf("%q was read as %q, want %q", text, got, want)
		}
	})
}

func TestRequestSaysWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"token":5}`: "token is a number", `{"target_resource":{}}`: "target_resource is a object", `{"scopes_requested":"a"}`: "scopes_requested is a string",
		`{"scopes_requested":[true]}`: "scopes_requested is a bool", `[]`: " is a array",
	} {
		var q Request
		err := json.Unmarshal([]byte(text), &q)
		te, ok := err.(*json.UnmarshalTypeError)
		if !ok || te.Field+" is a "+te.Value != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestAnswerIsWrittenAsDescribed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(t, name) }
		a := Answer{
			Allowed: rapid.Bool().Draw(t, "allowed"), Decision: Decision(text("decision")), Reason: text("reason"), RequestID: text("request"),
			Audit: Evidence{text("log"), rapid.Int64().Draw(t, "seq"), text("leaf")}, Policy: text("policy"),
		}
		if rapid.Bool().Draw(t, "known") {
			a.Agent = web.Nullable[Agent]{Value: &Agent{
				text("did"), text("id"), text("name"), text("owner"), rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "scopes"),
			}}
		}
		want, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(a.append(nil)); got != string(want) {
			t.Fatalf("%s\nwant\n%s", got, want)
		}
	})
}

func TestAgentWithoutScopesHasNone(t *testing.T) {
	t.Parallel()
	if got := string((&Agent{}).append(nil)); got != `{"did":"","agent_id":"","name":"","owner":"","active_scopes":[]}` {
		t.Error(got)
	}
}
