package verify

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/problem"
)

// locations are the fields that a problem names.
func locations(err error) string {
	var p *problem.Error
	if !errors.As(err, &p) {
		return ""
	}
	var all []string
	for _, f := range p.Fields {
		all = append(all, f.Location)
	}
	return strings.Join(all, " ")
}

// oneOrMany is scopes as encoding/json would read them: one text stands for a list of it.
type oneOrMany []string

func (s *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if len(b) > 0 && b[0] == '"' {
		err := json.Unmarshal(b, &one)
		*s = []string{one}
		return err
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// FuzzKeyRequest reads each text twice: as VerifyKey does, and field by field with encoding/json.
func FuzzKeyRequest(f *testing.F) {
	for _, s := range []string{
		`{"key":"avd_live_x","scopes":["a AND b","\u00e9"],"cost":3,"address":"::1"}`, `{"key":null,"scopes":null,"cost":null,"address":null}`, `null`, `{}`,
		` { "key" : "\ud83d\ude00\n" , "scopes" : "a OR b" , "cost" : -0 } `, `{"cost":1.0}`, `{"cost":1e3}`, `{"cost":9223372036854775808}`, `{"cost":"1"}`, `{"key":5}`,
		`{"scopes":["a",null,{}]}`, `{"scopes":{}}`, `[]`, `"x"`, `{"key":"a","key":"b"}`, `{"other":{"key":"b"},"key":true}`, `{"address":{}}`, "{\"key\":\"a\xff\"}", `{"cost":01}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want KeyRequest
		failed := json.Unmarshal(text, &got)
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			if failed == nil {
				t.Fatalf("%q was read, and encoding/json says %v", text, err)
			}
			return
		}
		var wrong error
		for name, into := range map[string]any{"key": &want.Key, "scopes": (*oneOrMany)(&want.Scopes), "cost": &want.Cost, "address": &want.Address} {
			if raw, ok := fields[name]; ok {
				if err := json.Unmarshal(raw, into); err != nil {
					wrong = err
				}
			}
		}
		same := got.Key == want.Key && slices.Equal(got.Scopes, want.Scopes) && got.Address == want.Address &&
			(got.Cost == nil) == (want.Cost == nil) && (got.Cost == nil || *got.Cost == *want.Cost)
		switch {
		case wrong != nil && failed == nil:
			t.Fatalf("%q was read, and encoding/json says %v", text, wrong)
		case failed == nil && !same:
			t.Fatalf("%q was read as %+v, want %+v", text, got, want)
		}
	})
}

func TestKeyRequestSaysWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"key":5}`: "key is a number", `{"address":{}}`: "address is a object", `{"scopes":5}`: "scopes is a number", `{"scopes":[true]}`: "scopes is a bool",
		`{"cost":"1"}`: "cost is a string", `{"cost":1.5}`: "cost is a number", `[]`: " is a array",
	} {
		var q KeyRequest
		err := json.Unmarshal([]byte(text), &q)
		te, ok := err.(*json.UnmarshalTypeError)
		if !ok || te.Field+" is a "+te.Value != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// drawn is an answer of any texts and numbers. Lists are not null: an answer's never are.
func drawn(t *rapid.T) KeyAnswer {
	text := func(name string) string { return rapid.String().Draw(t, name) }
	maybe := func(name string) *string {
		if s := text(name); rapid.Bool().Draw(t, name+" is there") {
			return &s
		}
		return nil
	}
	when := func(name string) *time.Time {
		if rapid.Bool().Draw(t, name) {
			at := time.Unix(rapid.Int64Range(-1e10, 2.5e11).Draw(t, name+" at"), rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns")).UTC()
			return &at
		}
		return nil
	}
	a := KeyAnswer{
		Valid: rapid.Bool().Draw(t, "valid"), Code: Code(text("code")), Reason: text("reason"), KeyID: maybe("id"), Name: maybe("name"), Kind: (*apikey.Kind)(maybe("kind")), Owner: maybe("owner"),
		Scopes: append([]string{}, rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "scopes")...), RateLimits: []RateLeft{}, RetryAt: when("retry"), ExpiresAt: when("expires"),
		RequestID: text("request"), Audit: Evidence{text("log"), rapid.Int64().Draw(t, "seq"), text("leaf")},
	}
	if rapid.Bool().Draw(t, "limited") {
		n := rapid.Int64().Draw(t, "remaining")
		a.Remaining = &n
	}
	if rapid.Bool().Draw(t, "metadata") {
		a.Metadata = map[string]any{}
		for _, name := range rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "names") {
			a.Metadata[name] = map[string]any{"text": text("value"), "n": rapid.Float64Range(-1e9, 1e9).Draw(t, "number"), "none": nil}
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "rates") {
		a.RateLimits = append(a.RateLimits, RateLeft{text("rate"), apikey.MeterOf(text("of")), rapid.Int64().Draw(t, "limit"), rapid.Int64().Draw(t, "left")})
	}
	return a
}

func TestKeyAnswerIsWrittenAsDescribed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		want, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.append(nil); err != nil || string(got) != string(want) {
			t.Fatalf("%s (%v)\nwant\n%s", got, err, want)
		}
	})
}

// TestKeyAnswerOfNothing: lists are empty and not null, whoever makes the answer.
func TestKeyAnswerOfNothing(t *testing.T) {
	t.Parallel()
	got, err := (&KeyAnswer{}).append(nil)
	const want = `{"valid":false,"code":"","reason":"","key_id":null,"name":null,"kind":null,"owner":null,"scopes":[],"metadata":null,"remaining":null,"rate_limits":[],` +
		`"retry_at":null,"expires_at":null,"request_id":"","audit":{"log":"","seq":0,"leaf":""}}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := (&KeyAnswer{Metadata: map[string]any{"f": func() {}}}).append(nil); err == nil {
		t.Error("what cannot be written is written")
	}
}
