package sms

import (
	"encoding/json"
	"net/url"
	"testing"
)

func FuzzFill(f *testing.F) {
	f.Add("+4930123456", "123456", jsonBody)
	f.Add("+4930123456", `"}{to}{text}&=`, formBody)
	f.Fuzz(func(t *testing.T, to, text, body string) {
		g, err := (&Config{URL: "https://example.com", Body: body}).http(nil)
		m := Message{To: to, Text: text}
		if err != nil || m.check() != nil {
			return
		}
		b, err := g.body(m)
		must(t, err)
		plain, err := g.body(Message{To: "+00000000", Text: "x"})
		must(t, err)
		if g.form != nil {
			one, err1 := url.ParseQuery(string(b))
			two, err2 := url.ParseQuery(string(plain))
			if err1 != nil || err2 != nil || len(one) != len(two) {
				t.Errorf("%q became %q", body, b)
			}
			return
		}
		if shape(t, b) != shape(t, plain) {
			t.Errorf("%q became %q", body, b)
		}
	})
}

// shape is a JSON value without its strings.
func shape(t *testing.T, b []byte) string {
	var v any
	must(t, json.Unmarshal(b, &v))
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case string:
			return ""
		case map[string]any:
			for name := range v {
				v[name] = walk(v[name])
			}
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		}
		return v
	}
	out, err := json.Marshal(walk(v))
	must(t, err)
	return string(out)
}
