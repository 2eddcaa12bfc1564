package fetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPointersOfRFC6901 is its section 5.
func TestPointersOfRFC6901(t *testing.T) {
	t.Parallel()
	const document = `{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}`
	want := map[string]string{
		"/foo": `["bar","baz"]`, "/foo/0": `"bar"`, "/": "0", "/a~1b": "1", "/c%d": "2", "/e^f": "3", "/g|h": "4", `/i\j`: "5", `/k"l`: "6", "/ ": "7", "/m~0n": "8",
	}
	m := newMask([]byte(token))
	var pointers []string
	for p := range want {
		pointers = append(pointers, p)
	}
	got, n, err := m.cut([]byte(document), append(pointers, "/foo/-", "/foo/2", "/foo/00", "/foo/+1", "/foo/-1", "/foo/0/x", "/nothing", "/foo/"), 1<<20)
	if err != nil || n != 0 {
		t.Fatal(n, err)
	}
	texts := map[string]string{}
	for p, v := range got {
		texts[p] = string(v)
	}
	if d := cmp.Diff(want, texts); d != "" {
		t.Error(d)
	}
	whole, _, err := m.cut([]byte("\ufeff"+document+"\n"), []string{""}, 1<<20)
	var a, b any
	if err != nil || json.Unmarshal(whole[""], &a) != nil || json.Unmarshal([]byte(document), &b) != nil || !cmp.Equal(a, b) {
		t.Errorf("%s, %v", whole[""], err)
	}
	for _, p := range []string{"x", "#/x", "/~", "/~2", "/a~", "/~~0"} {
		if _, err := parsePointer(p); err == nil {
			t.Errorf("%q is taken", p)
		}
	}
	for _, body := range []string{"", "<html>", "{", "{} {}", "{}x", strings.Repeat("[", 20_000)} {
		if _, _, err := m.cut([]byte(body), []string{""}, 1<<20); err == nil {
			t.Errorf("%.20q is taken for JSON", body)
		}
	}
	if got, _, err := m.cut([]byte(`{"n":123456789012345678901234567890.10,"h":"<&>"}`), []string{"/n", "/h"}, 1<<20); err != nil || string(got["/n"]) != "123456789012345678901234567890.10" || string(got["/h"]) != `"<&>"` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestPointersMask(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret, body, pointer, want string
		count                       int
	}{
		{"12345678", `{"a":"x12345678"}`, "/a", `"x[secret]"`, 1},
		{"12345678", `{"a":12345678}`, "/a", `"[secret]"`, 1},
		{"12345678", `{"a":-12345678.5}`, "/a", `"-[secret].5"`, 1},
		{"12345678", `{"a":{"x12345678":[1,{"b":"12345678"}]}}`, "/a", `{"x[secret]":[1,{"b":"[secret]"}]}`, 2},
		{"12345678", `{"a":"\u0031\u00325\u0036"}`, "/a", `"1256"`, 0},
		{"12345678", `{"a":"\u0031\u0032345678"}`, "/a", `"[secret]"`, 1},
		{"12345678", `{"a":"\\u0031\\u0032345678"}`, "/a", `"[secret]"`, 1},
		{"12345678", `{"a":"%31%32345678"}`, "/a", `"[secret]"`, 1},
		{"12345678", `{"a":"` + b64("x:12345678") + `"}`, "/a", `"eD[secret]=="`, 1},
		{`a"b\c/d<e`, `{"a":"a\"b\\c\/d\u003ce"}`, "/a", `"[secret]"`, 1},
		{`abcd","efgh`, `{"a":["abcd","efgh"]}`, "/a", `"[secret]"`, 1},
		{`abcdefgh`, `{"a":null,"b":true}`, "", `{"a":null,"b":true}`, 0},
	} {
		got, n, err := newMask([]byte(c.secret)).cut([]byte(c.body), []string{c.pointer}, 1<<20)
		if err != nil || string(got[c.pointer]) != c.want || n != c.count {
			t.Errorf("%s: %s, %d times, %v; want %s", c.body, got[c.pointer], n, err, c.want)
		}
	}
}

func FuzzPointer(f *testing.F) {
	f.Add(`{"a":["b",{"c":"12345678"}]}`, "/a/1/c")
	f.Add(`{"":{"~/":1}}`, "//~0~1")
	f.Add(" { \"\\\"\" :\t[ true,null , -1e5 ,{ }, [ ] ] , \"a\": \"\\\\\" } ", "/\"/3")
	f.Add("[\"\xff\",\"\\ud800\",\"\u2028\"]", "")
	f.Add(`{"a":{"b":1},"a":{"c":3,"c":[4]}}`, "/a/c")
	f.Add(`[12345678,"1234\u00355678"]`, "")
	f.Fuzz(func(t *testing.T, body, pointer string) {
		steps, err := parsePointer(pointer)
		if err != nil {
			return
		}
		again := ""
		for _, s := range steps {
			again += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
		}
		if again != pointer {
			t.Errorf("%q is read as %q", pointer, again)
		}
		got, masks, err := newMask([]byte("12345678")).cut([]byte(body), []string{pointer}, 1<<20)
		if err != nil {
			return
		}
		if v, ok := got[pointer]; ok && (!json.Valid(v) || leaks(string(v), "12345678") != "") {
			t.Errorf("%q of %q is %s", pointer, body, v)
		}
		if masks > 0 {
			return
		}
		var found any
		want, there := inTree(t, []byte(body), steps)
		v, ok := got[pointer]
		if ok {
			in := json.NewDecoder(bytes.NewReader(v))
			in.UseNumber()
			must(t, in.Decode(&found))
		}
		if ok != there || !cmp.Equal(found, want) {
			t.Errorf("%q of %q is %s, and in its tree %v", pointer, body, v, want)
		}
	})
}

// inTree is what a pointer finds in a document that is read whole.
func inTree(t *testing.T, body []byte, steps []string) (any, bool) {
	in := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
	in.UseNumber()
	var at any
	must(t, in.Decode(&at))
	for _, s := range steps {
		switch d := at.(type) {
		case map[string]any:
			next, ok := d[s]
			if !ok {
				return nil, false
			}
			at = next
		case []any:
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 || n >= len(d) || strconv.Itoa(n) != s {
				return nil, false
			}
			at = d[n]
		default:
			return nil, false
		}
	}
	return at, true
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPointersAmongDoubles: of members of one name the last counts, with all that is below.
func TestPointersAmongDoubles(t *testing.T) {
	t.Parallel()
	got, _, err := newMask([]byte(token)).cut([]byte(`{"a":{"b":1,"c":2},"d":5,"a":{"c":3,"c":4},"d":{}}`), []string{"/a/b", "/a/c", "/d", "/d/x"}, 1<<20)
	if err != nil || len(got) != 2 || string(got["/a/c"]) != "4" || string(got["/d"]) != "{}" {
		t.Errorf("%s, %v", got, err)
	}
}

// TestPointersAreBounded: a body as long as an answer may be takes a few times its own size, whatever is in it, where as a tree it takes
// seventy times; it can be neither deep nor named again and again without end.
func TestPointersAreBounded(t *testing.T) { // alone: it counts what the process allocates
	const most = 1 << 16
	filled := func(open, part, shut string) []byte {
		return []byte(open + strings.Repeat(part+",", (most-len(open)-len(shut)-len(part))/(len(part)+1)) + part + shut)
	}
	for name, body := range map[string][]byte{
		"arrays": filled("[", "[]", "]"), "objects": filled("[", "{}", "]"), "numbers": filled("[", "1", "]"), "texts": filled("[", `""`, "]"), "members": filled("{", `"":{}`, "}"),
		"long texts": filled("[", `"`+strings.Repeat("é", 1000)+`"`, "]"), "deep": filled("[", strings.Repeat("[", 900)+strings.Repeat("]", 900), "]"),
	} {
		for _, pointers := range [][]string{{"/0"}, {""}} {
			m := newMask([]byte(token))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, _, err := m.cut(body, pointers, most)
			runtime.ReadMemStats(&after)
			if err != nil || pointers[0] == "" && len(got[""]) != len(body) {
				t.Errorf("%s: %d bytes of %d, %v", name, len(got[""]), len(body), err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 16*most { // garbage included
				t.Errorf("%s, %q: %d KiB are allocated for %d", name, pointers, took>>10, len(body)>>10)
			}
		}
	}
	nested := []byte(`{"a":{"a":{"a":{"a":"` + strings.Repeat("x", most/2) + `"}}}}`)
	if _, _, err := newMask([]byte(token)).cut(nested, []string{"/a", "/a/a", "/a/a/a"}, most); !errors.Is(err, ErrTooLong) {
		t.Errorf("the same text three times: %v", err)
	}
	if _, _, err := newMask([]byte(token)).cut([]byte(strings.Repeat("[", 1002)+strings.Repeat("]", 1002)), []string{""}, most); !errors.Is(err, errNoJSON) {
		t.Errorf("deep: %v", err)
	}
}
