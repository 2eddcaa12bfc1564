package web

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
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
