package web

import (
	"context"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"pgregory.net/rapid"
)

const thingID = "01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0e"

// TestOperationAnswers: identity, input, output, headers and status of what goes well.
func TestOperationAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.ask("POST", "/api/v1/things", `{"name":"lamp","count":3,"parts":[{"label":"red"}]}`, asAlice, "Content-Type: application/json; charset=UTF-8")
	var got thing
	text := bodyOf(t, r)
	if err := json.Unmarshal([]byte(text), &got); err != nil || r.StatusCode != 201 {
		t.Fatalf("%d %s %v", r.StatusCode, text, err)
	}
	if got.Name != "alice's lamp" || got.Count != 3 || got.Parts[0].Label != "red" || strings.Contains(text, "$schema") {
		t.Errorf("body %s", text)
	}
	for name, want := range map[string]string{
		"Etag": `"1"`, "Content-Type": "application/json", "Cache-Control": "no-store",
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
	} {
		if r.Header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, r.Header.Get(name), want)
		}
	}
	if r := b.ask("GET", "/api/v1/things/"+thingID, "", asAlice); r.StatusCode != 200 || !strings.Contains(bodyOf(t, r), thingID) {
		t.Errorf("get: %d", r.StatusCode)
	}
	if r := b.ask("HEAD", "/api/v1/things/"+thingID, "", asAlice); r.StatusCode != 200 {
		t.Errorf("head: %d", r.StatusCode)
	}
	if r := b.ask("PATCH", "/api/v1/things/"+thingID, "{}", asAlice); r.StatusCode != 204 || bodyOf(t, r) != "" {
		t.Errorf("patch: %d", r.StatusCode)
	}
	if len(b.refused) != 0 {
		t.Errorf("refused %v", b.refused)
	}
}

// refused is a request and how it is answered.
type refused struct {
	method, target, body string
	header               []string
	status               int
	kind                 problem.Kind
	at                   string // of the first error
}

func (b *bench) refuses(t *testing.T, c refused) {
	t.Helper()
	p := problemIn(t, b.ask(c.method, c.target, c.body, c.header...), c.status)
	if !strings.HasSuffix(p.Type, "/problems/"+string(c.kind)) {
		t.Errorf("type %s, want %s", p.Type, c.kind)
	}
	if at := firstError(p); at != c.at {
		t.Errorf("error at %q, want %q: %+v", at, c.at, p)
	}
}

// TestRefusals: each wrong request gets the status, the kind and the place of the fault.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config[caller]) { c.MaxBody = 500 })
	things, one := "/api/v1/things", "/api/v1/things/"+thingID
	for name, c := range map[string]refused{
		"no credential":       {"POST", things, `{"name":"x"}`, []string{asJSON}, 401, problem.Unauthenticated, ""},
		"no scope":            {"GET", "/api/v1/secret", ``, []string{asAlice}, 403, problem.Denied, ""},
		"unknown path":        {"GET", "/api/v1/nothing", ``, []string{asAlice}, 404, problem.Missing, ""},
		"unclean path":        {"GET", "/api//v1/things", ``, nil, 404, problem.Missing, ""},
		"dotted path":         {"GET", "/api/v1/x/../things", ``, nil, 404, problem.Missing, ""},
		"encoded dots":        {"GET", "/api/v1/x/%2e%2e/things", ``, nil, 404, problem.Missing, ""},
		"a step up, escaped":  {"GET", "/api/v1/things/x%2F..%2Fsecret", ``, nil, 404, problem.Missing, ""},
		"NUL in path":         {"GET", "/api/v1/things/%00", ``, []string{asAlice}, 400, problem.Invalid, ""},
		"not UTF-8 in path":   {"GET", "/api/v1/things/%ff", ``, []string{asAlice}, 400, problem.Invalid, ""},
		"NUL in query":        {"GET", things + "?cursor=%00", ``, nil, 400, problem.Invalid, ""},
		"bad escape in query": {"GET", things + "?limit=%zz", ``, nil, 400, problem.Invalid, ""},
		"bad id":              {"GET", things + "/42", ``, []string{asAlice}, 400, problem.Invalid, "path.id"},
		"unknown parameter":   {"GET", things + "?limits=1", ``, nil, 400, problem.Invalid, "query.limits"},
		"parameter twice":     {"GET", things + "?limit=1&limit=2", ``, nil, 400, problem.Invalid, "query.limit"},
		"limit too large":     {"GET", things + "?limit=201", ``, nil, 400, problem.Invalid, "query.limit"},
		"limit zero":          {"GET", things + "?limit=0", ``, nil, 400, problem.Invalid, "query.limit"},
		"limit no number":     {"GET", things + "?limit=ten", ``, nil, 400, problem.Invalid, "query.limit"},
		"bad cursor":          {"GET", things + "?cursor=!!", ``, nil, 400, problem.Invalid, "query.cursor"},
		"wrong method":        {"DELETE", things, ``, []string{asAlice}, 405, problem.Invalid, ""},
		"precondition failed": {"PATCH", one, ``, []string{asAlice, `If-Match: "6"`}, 412, problem.Conflict, ""},
		"too large":           {"POST", things, `{"name":"` + strings.Repeat("x", 500) + `"}`, []string{asAlice, asJSON}, 413, problem.Invalid, ""},
		"no media type":       {"POST", things, `{"name":"x"}`, []string{asAlice}, 415, problem.Invalid, ""},
		"form":                {"POST", things, `name=x`, []string{asAlice, "Content-Type: application/x-www-form-urlencoded"}, 415, problem.Invalid, ""},
		"other charset":       {"POST", things, `{"name":"x"}`, []string{asAlice, "Content-Type: application/json; charset=utf-16"}, 415, problem.Invalid, ""},
		"compressed":          {"POST", things, `{"name":"x"}`, []string{asAlice, asJSON, "Content-Encoding: gzip"}, 415, problem.Invalid, ""},
		"body where none":     {"PATCH", one, `{"name":"x"}`, []string{asAlice, asJSON}, 400, problem.Invalid, ""},
		"refused by the room": {"POST", things, `{"name":"taken"}`, []string{asAlice, asJSON}, 409, problem.Conflict, ""},
		"long address":        {"GET", things + "?cursor=" + strings.Repeat("x", 9000), ``, nil, 414, problem.Invalid, ""},
		"large header":        {"GET", things, ``, []string{"X-Pad: " + strings.Repeat("x", 17000)}, 431, problem.Invalid, ""},
		"unavailable":         {"POST", "/api/v1/later", ``, nil, 503, problem.Unavailable, ""},
	} {
		t.Run(name, func(t *testing.T) { b.refuses(t, c) })
	}
}

// TestRefusedBodies: what no body may hold, and where the fault is said to be.
func TestRefusedBodies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, c := range map[string]struct{ body, at string }{
		"no body":               {``, ""},
		"null":                  {`null`, "body"},
		"array":                 {`[]`, "body"},
		"not JSON":              {`{"name":`, "body.name"},
		"trailing":              {`{"name":"x"} {}`, "body"},
		"not UTF-8":             {"{\"name\":\"\xff\"}", "body"},
		"byte order mark":       {"\ufeff{\"name\":\"x\"}", "body"},
		"unknown field":         {`{"name":"x","admin":true}`, "body.admin"},
		"field in other case":   {`{"Name":"x"}`, "body.Name"},
		"field twice":           {`{"name":"x","name":"y"}`, "body.name"},
		"field twice, escaped":  {`{"name":"x","n\u0061me":"y"}`, "body.name"},
		"field twice, deep":     {`{"name":"x","parts":[{"label":"red","label":"red"}]}`, "body.parts[0].label"},
		"deep other case":       {`{"name":"x","parts":[{"LABEL":"red"}]}`, "body.parts[0].LABEL"},
		"missing field":         {`{}`, "body"},
		"wrong type":            {`{"name":5}`, "body.name"},
		"too long":              {`{"name":"xxxxxxxxxxxxxxxxxxxxxxxxx"}`, "body.name"},
		"not on the list":       {`{"name":"x","parts":[{"label":"blue"}]}`, "body.parts[0].label"},
		"a fraction":            {`{"name":"x","count":1.5}`, "body.count"},
		"U+0000":                {`{"name":"\u0000"}`, "body.name"},
		"a number too long":     {`{"name":"x","facts":{"a":[{"b":0.12345678901234567890}]}}`, "body.facts.a[0].b"},
		"a number too large":    {`{"name":"x","facts":{"a":9007199254740993}}`, "body.facts.a"},
		"a number too small":    {`{"name":"x","facts":{"a":-1e-400}}`, "body.facts.a"},
		"a number of no size":   {`{"name":"x","facts":{"a":1e99999999999999999999}}`, "body.facts.a"},
		"half a surrogate pair": {`{"name":"\ud800"}`, "body.name"},
	} {
		t.Run(name, func(t *testing.T) {
			b.refuses(t, refused{"POST", "/api/v1/things", c.body, []string{asAlice, asJSON}, 400, problem.Invalid, c.at})
		})
	}
	if b.made != 0 {
		t.Errorf("the handler ran %d times", b.made)
	}
}

func firstError(p Problem) string {
	if len(p.Errors) == 0 {
		return ""
	}
	return p.Errors[0].Location
}

func TestMethodNotAllowedSaysWhatIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for target, want := range map[string]string{
		"/api/v1/things":            "GET, HEAD, POST",
		"/api/v1/things/" + thingID: "GET, HEAD, PATCH",
		"/openapi.json":             "GET, HEAD",
	} {
		for _, method := range []string{"DELETE", "OPTIONS", "TRACE", "BREW"} {
			r := b.ask(method, target, "")
			problemIn(t, r, 405)
			if got := r.Header.Get("Allow"); got != want {
				t.Errorf("%s %s: Allow %q, want %q", method, target, got, want)
			}
		}
	}
}

// TestMethodNotAllowedSaysWhatElse: whoever looks for a method that an address does not take is told of what its thing takes.
func TestMethodNotAllowedSaysWhatElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, act := range []string{"stop", "start"} {
		Handle(b.API, Op{ID: act + "-thing", Method: "POST", Path: "/api/v1/things/{id}/" + act, Summary: "Do something"},
			func(context.Context, caller, *oneThing) (*None, error) { return nil, nil })
	}
	for target, want := range map[string]string{
		"/api/v1/things/" + thingID:           "This address takes GET, HEAD, PATCH. What it names also takes POST …/start, POST …/stop.",
		"/api/v1/things/" + thingID + "/stop": "This address takes POST.",
		"/api/v1/things":                      "This address takes GET, HEAD, POST.",
	} {
		if p := problemIn(t, b.ask("DELETE", target, ""), 405); p.Detail != want {
			t.Errorf("%s: %s", target, p.Detail)
		}
	}
}

// TestNamesInPaths: a name comes out of a path as it was put in, whatever it holds, if PathTakes says that a path takes it; and
// leads nowhere if not.
func TestNamesInPaths(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	type in struct {
		Name string `path:"name"`
	}
	type out struct{ Body string }
	Handle(b.API, Op{ID: "get-name", Method: "GET", Path: "/api/v1/names/{name}", Summary: "Say a name", Access: Public},
		func(_ context.Context, _ caller, in *in) (*out, error) { return &out{in.Name}, nil })
	for name, takes := range map[string]bool{
		"https://idp.example/u/17": true, "a/b": true, "a/": true, "//": true, " ": true, "%2F": true, "a?b#c": true, "界": true, "...": true, "a..b": true,
		"/": false, ".": false, "..": false, "a/../b": false, "a/.": false, "": false, goodKey: false, "u " + goodJWT: false, "avk%5Flive_0123456789A": false,
	} {
		if PathTakes(name) != takes {
			t.Errorf("%q: takes is not %t", name, takes)
		}
		r := b.ask("GET", "/api/v1/names/"+url.PathEscape(name), "")
		said, _ := json.Marshal(name)
		if got := bodyOf(t, r); (r.StatusCode == 200 && strings.TrimSpace(got) == string(said)) != takes {
			t.Errorf("%q: %d %s", name, r.StatusCode, got)
		}
	}
}

// TestFreeNumbers: a number of one's own is taken if it comes back as it was, in whatever form.
func TestFreeNumbers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	body := `{"name":"x","facts":{"a":[0,-0,0.0e5,1.50,1e3,0.1,-12345678901.678,1E+2,9007199254740991,1e-300,100000000000000000000],"b":{"c":2.5e-3}}}`
	if r := b.ask("POST", "/api/v1/things", body, asAlice, asJSON); r.StatusCode != 201 {
		t.Errorf("%d %s", r.StatusCode, bodyOf(t, r))
	}
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
		f, err := strconv.ParseFloat(number, 64)
		sent, _ := new(big.Rat).SetString(number)
		back, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
		if err != nil || comesBack(number) != (sent.Cmp(back) == 0) {
			t.Fatalf("%s is read as %v: %t", number, f, comesBack(number))
		}
	})
}

// TestRefusedHook: the server is told who was refused what, with the caller where there is one.
func TestRefusedHook(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ask("POST", "/api/v1/things", "{}", asJSON)
	b.ask("GET", "/api/v1/secret", "", asAlice)
	b.ask("GET", "/api/v1/nothing", "", asAlice)
	want := []refusal{{"make-thing", problem.Unauthenticated, ""}, {"secret-thing", problem.Denied, "alice"}, {"", problem.Missing, ""}}
	for i := range want {
		if i >= len(b.refused) || b.refused[i] != want[i] {
			t.Fatalf("refused %v, want %v", b.refused, want)
		}
	}
}

// TestRawRefusals: a raw operation that proves for itself who asks says so, and what is refused after it is refused to that
// caller; before it, to nobody.
func TestRawRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	HandleRaw[makeThing, None](b.API, Op{ID: "own", Method: "POST", Path: "/api/v1/own", Summary: "Decide", Access: Own},
		func(w http.ResponseWriter, r *http.Request, _ caller, _ RequestMeta) error {
			if r.Header.Get("Authorization") == "" {
				return problem.New(problem.Unauthenticated, "Send a key.")
			}
			b.Asks(r.Context(), caller{"alice"})
			var in makeThing
			return b.Decode(w, r, &in.Body)
		})
	problemIn(t, b.ask("POST", "/api/v1/own", "{"), 401)
	problemIn(t, b.ask("POST", "/api/v1/own", "{", asAlice, asJSON), 400)
	problemIn(t, b.ask("POST", "/api/v1/own", "x", asAlice, "Content-Type: text/plain"), 415)
	want := []refusal{{"own", problem.Unauthenticated, ""}, {"own", problem.Invalid, "alice"}, {"own", problem.Invalid, "alice"}}
	if !slices.Equal(b.refused, want) {
		t.Errorf("refused %v, want %v", b.refused, want)
	}
}

func TestUnauthenticatedSaysHow(t *testing.T) {
	t.Parallel()
	r := newBench(t).ask("GET", "/api/v1/secret", "")
	if got := r.Header.Get("Www-Authenticate"); got != `Bearer realm="api"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
}

// TestIdentityComesFirst: nothing is read or judged for one who may not ask at all.
func TestIdentityComesFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	problemIn(t, b.ask("POST", "/api/v1/things", "not json"), 401)
	problemIn(t, b.ask("GET", "/api/v1/secret?unknown=1", "", asAlice), 403)
	if b.made != 0 {
		t.Errorf("the handler ran %d times", b.made)
	}
}

// TestOtherSites: what everybody may ask for is not asked for by pages of other sites, unless the operation says so.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config[caller]) {
		c.SameOrigin = func(r *http.Request) error {
			if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
				return problem.New(problem.Denied, "Another site's page.")
			}
			return nil
		}
	})
	ran := 0
	for name, crosses := range map[string]bool{"closed": false, "crossed": true} {
		op := Op{ID: name, Method: "POST", Path: "/api/v1/" + name, Summary: "s", Access: Public, CrossSite: crosses}
		HandleRaw[None, None](b.API, op, func(http.ResponseWriter, *http.Request, caller, RequestMeta) error { ran++; return nil })
	}
	const elsewhere = "Sec-Fetch-Site: cross-site"
	problemIn(t, b.ask("POST", "/api/v1/closed", "not json", elsewhere), 403)
	if ran != 0 {
		t.Error("the handler ran")
	}
	if b.ask("POST", "/api/v1/closed", ""); ran != 1 {
		t.Error("a page of ours is refused")
	}
	if b.ask("POST", "/api/v1/crossed", "", elsewhere); ran != 2 {
		t.Error("an operation for other sites refuses them")
	}
}

func handleNone(b *bench, op Op) {
	Handle(b.API, op, func(context.Context, caller, *None) (*None, error) { return nil, nil })
}

// TestRegistrationMistakesPanic: what would be found out too late is found at the start.
func TestRegistrationMistakesPanic(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(b *bench){
		"no id":      func(b *bench) { handleNone(b, Op{Method: "GET", Path: "/x", Summary: "s"}) },
		"no summary": func(b *bench) { handleNone(b, Op{ID: "x", Method: "GET", Path: "/x"}) },
		"id twice":   func(b *bench) { handleNone(b, Op{ID: "make-thing", Method: "GET", Path: "/x", Summary: "s"}) },
		"path twice": func(b *bench) { handleNone(b, Op{ID: "x", Method: "GET", Path: "/api/v1/things", Summary: "s"}) },
		"public and once": func(b *bench) {
			handleNone(b, Op{ID: "x", Method: "GET", Path: "/x", Summary: "s", Access: Public, Idempotent: true})
		},
		"own, typed": func(b *bench) { handleNone(b, Op{ID: "x", Method: "GET", Path: "/x", Summary: "s", Access: Own}) },
		"own, for other sites": func(b *bench) {
			HandleRaw[None, None](b.API, Op{ID: "x", Method: "POST", Path: "/x", Summary: "s", Access: Own, CrossSite: true}, func(http.ResponseWriter, *http.Request, caller, RequestMeta) error { return nil })
		},
		"scope, no judge": func(b *bench) {
			b.cfg.Allow = nil
			handleNone(b, Op{ID: "x", Method: "GET", Path: "/x", Summary: "s", Scope: "y"})
		},
		"once, no store": func(b *bench) {
			b.cfg.Idempotency = nil
			handleNone(b, Op{ID: "x", Method: "GET", Path: "/x", Summary: "s", Idempotent: true})
		},
		"raw and once": func(b *bench) {
			HandleRaw[None, None](b.API, Op{ID: "x", Method: "GET", Path: "/x", Summary: "s", Idempotent: true}, func(http.ResponseWriter, *http.Request, caller, RequestMeta) error { return nil })
		},
		"empty configuration": func(*bench) { New(Config[caller]{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			defer func() {
				if recover() == nil {
					t.Error("it was accepted")
				}
			}()
			f(b)
		})
	}
}
