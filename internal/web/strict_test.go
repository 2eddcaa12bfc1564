package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckJSON(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(last string) string {
		var b strings.Builder
		for i := range 40 {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		return "{" + b.String() + `"` + last + `":0}`
	}
	for text, want := range map[string]string{
		`{}`: "", ` [1, -2.5e3 ,true,null,"x"] `: "", `"\ud834\udd1e é 𝄞"`: "", `{"a":{"a":1},"b":{"a":1}}`: "", `{"a":1,"A":2}`: "",
		nested(64): "", many("k40"): "", `"\\u0000"`: "", `"\\\\"`: "", `{"":1}`: "",
		`{"a":1,"a":2}`: "a: is there twice", `[0,{"x":{"b":1,"c":2,"b":3}}]`: "[1].x.b: is there twice", `{"":1,"":1}`: ": is there twice",
		`{"a":1,"\u0061":2}`: "a: is there twice", many("k3"): "k3: is there twice", many("k39"): "k39: is there twice",
		nested(66): strings.Repeat("[0]", 65) + ": nests too deep", nested(20000): strings.Repeat("[0]", 65) + ": nests too deep",
		`"\u0000"`: ": holds U+0000", `{"x":["\ud834"]}`: "x[0]: holds half of a surrogate pair", `"\udd1e\ud834"`: ": holds half of a surrogate pair",
		`"\ud834\n"`: ": holds half of a surrogate pair", `"\ud834\u0041"`: ": holds half of a surrogate pair", `{"\ud834":1}`: ": holds half of a surrogate pair",
		"\"\xc3\"": ": is not UTF-8", `{"a":1}x`: ": is not JSON: something is wrong at byte 8", ``: ": is not JSON: something is wrong at byte 1",
		`{a:1}`: ": is not JSON: something is wrong at byte 2", `{"a":1,}`: ": is not JSON: something is wrong at byte 8", `01`: ": is not JSON: something is wrong at byte 2", `NaN`: ": is not JSON: something is wrong at byte 1",
		`{"a":[1,]}`: "a[1]: is not JSON: something is wrong at byte 9", `{"a" 1}`: ": is not JSON: something is wrong at byte 6", `[1 2]`: ": is not JSON: something is wrong at byte 4", `"a`: ": is not JSON: something is wrong at byte 3",
		`"\x"`: ": is not JSON: something is wrong at byte 3", `"\u12"`: ": is not JSON: something is wrong at byte 7", "\"\n\"": ": is not JSON: something is wrong at byte 2", `-`: ": is not JSON: something is wrong at byte 2", `1.`: ": is not JSON: something is wrong at byte 3", `1e+`: ": is not JSON: something is wrong at byte 4",
		`tru`: ": is not JSON: something is wrong at byte 1", `[`: "[0]: is not JSON: something is wrong at byte 2", "1\x00": ": is not JSON: something is wrong at byte 2",
	} {
		got := ""
		if f := checkJSON([]byte(text), nil, nil); f != nil {
			got = f.Error()
		}
		if got != want {
			t.Errorf("%.60s: %q, want %q", text, got, want)
		}
	}
}

// tokens is the oracle: encoding/json's own tokenizer looks for a name twice, for U+0000 and for what it replaced.
func tokens(b []byte) (strict bool) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // 3e833 is JSON, and no float64
	type frame struct {
		names map[string]bool
		key   bool
	}
	var open []*frame
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return true
		}
		if err != nil || len(open) > maxDepth+1 {
			return false
		}
		top := &frame{}
		if len(open) > 0 {
			top = open[len(open)-1]
		}
		if s, ok := tok.(string); ok {
			if strings.Contains(s, "\x00") || strings.Count(s, "\ufffd") > 0 {
				return false
			}
			if top.names != nil && top.key {
				if top.names[s] {
					return false
				}
				top.names[s], top.key = true, false
				continue
			}
		}
		if d, ok := tok.(json.Delim); ok && (d == '{' || d == '[') {
			f := &frame{}
			if d == '{' {
				f.names, f.key = map[string]bool{}, true
			}
			top.key = top.names != nil
			open = append(open, f)
			continue
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			open = open[:len(open)-1]
			continue
		}
		top.key = top.names != nil
	}
}

// FuzzCheckJSON: what passes is valid JSON in UTF-8, and agrees with the oracle.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\u0041"}],"c":null}`, `{"a":1,"\u0061":2}`, `"\ud834\udd1e"`, `["\ud834"]`, `{"a":{"a":{"a":"\\"}}}`, "\"\u2028\"", `[[[[]]]]x`, `{"x":"\u0000"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		passes := checkJSON(b, nil, nil) == nil
		if passes && !(json.Valid(b) && utf8.Valid(b)) {
			t.Fatalf("%q passes", b)
		}
		if !json.Valid(b) || !utf8.Valid(b) || bytes.Contains(b, []byte("\ufffd")) || bytes.Contains(bytes.ToLower(b), []byte(`\ufffd`)) || bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) > maxDepth {
			return // the oracle cannot tell these apart
		}
		if want := tokens(b); passes != want {
			t.Fatalf("%q: passes %v, the oracle says %v", b, passes, want)
		}
	})
}

// FuzzBody: no body makes an operation crash, and one that it takes survives being read and written again.
func FuzzBody(f *testing.F) {
	b := newBench(&testing.T{})
	f.Add(`{"name":"x","count":3,"parts":[{"label":"red"}],"notes":{"a":"b"}}`)
	f.Add(`{"name":"x","name":"y"}`)
	f.Add(`{"NAME":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		r := b.ask("POST", "/api/v1/things", body, asAlice, asJSON)
		if r.StatusCode != 201 && r.StatusCode != 400 && r.StatusCode != 409 && r.StatusCode != 413 {
			t.Fatalf("%q: %d", body, r.StatusCode)
		}
	})
}

// TestDecode: raw operations read JSON as strictly as typed ones.
func TestDecode(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	HandleRaw[makeThing, thingOut](b.API, Op{ID: "raw-make", Method: "POST", Path: "/api/v1/raw-make", Summary: "Make", MaxBody: 100}, b.rawMake)
	for body, want := range map[string]int{
		`{"name":"x"}`: 200, `{"name":"x","zzz":1}`: 400, `{"name":"x","name":"y"}`: 400, `{"NAME":"x"}`: 400, `{"name":5}`: 400, `{"name":"x"}{}`: 400, ``: 400,
		`{"name":"` + strings.Repeat("x", 100) + `"}`: 413,
	} {
		r := b.ask("POST", "/api/v1/raw-make", body, asAlice, asJSON)
		if r.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", body, r.StatusCode, bodyOf(t, r), want)
		} else if want != 200 {
			problemIn(t, r, want)
		}
	}
	problemIn(t, b.ask("POST", "/api/v1/raw-make", `{"name":"x"}`, asAlice), 415)
	problemIn(t, b.ask("POST", "/api/v1/raw-make", `{"name":"x"}`, asJSON), 401)
}

func BenchmarkCheckJSON(b *testing.B) {
	body := []byte(`{"token":"` + strings.Repeat("eyJhbGciOiJFUzI1NiJ9", 40) + `","target_resource":"your-service","scopes_requested":["read:data","write:data"]}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if f := checkJSON(body, nil, nil); f != nil {
			b.Fatal(f)
		}
	}
}
