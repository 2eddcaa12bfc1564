package web

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
)

// TestOpenAPI holds the document, byte for byte, and what it must say of every operation.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.ask("GET", "/openapi.json", "")
	text := bodyOf(t, r)
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
	golden(t, "openapi", text)
	var doc struct {
		OpenAPI    string `json:"openapi"`
		Paths      map[string]map[string]map[string]json.RawMessage
		Components struct{ Schemas, SecuritySchemes map[string]json.RawMessage }
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Components.SecuritySchemes["bearer"] == nil || doc.Components.SecuritySchemes["api_key"] == nil {
		t.Errorf("OpenAPI %s, security %v", doc.OpenAPI, doc.Components.SecuritySchemes)
	}
	for name := range doc.Components.Schemas {
		if strings.Contains(name, "Error") {
			t.Errorf("huma's own %s is described", name)
		}
	}
	if strings.Contains(text, "$schema") || strings.Contains(text, "422") {
		t.Error("huma's links or statuses are described")
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			if op["operationId"] == nil || !strings.Contains(string(op["responses"]), `"$ref":"#/components/schemas/Problem"`) && !strings.Contains(string(op["responses"]), `"#/components/schemas/Problem"`) {
				t.Errorf("%s %s: %s", method, path, op["responses"])
			}
		}
	}
	if post := doc.Paths["/api/v1/things"]["post"]; !strings.Contains(string(post["security"]), "things:write") || !strings.Contains(string(post["parameters"]), "Idempotency-Key") {
		t.Errorf("POST /api/v1/things: %s %s", post["security"], post["parameters"])
	}
	if get := doc.Paths["/api/v1/things"]["get"]; get["security"] != nil {
		t.Errorf("a public operation asks for %s", get["security"])
	}
}

// TestOnlyOurPages: huma's documentation, with its scripts from elsewhere, is not there.
func TestOnlyOurPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, path := range []string{"/openapi", "/openapi.yaml", "/openapi-3.0.json", "/schemas", "/schemas/Thing.json", "/docs/", "/docs/frame.html", "/problems/", "/problems/nonsense"} {
		problemIn(t, b.ask("GET", path, ""), 404)
	}
}

var outside = regexp.MustCompile(`(?i)<script|<iframe|<object|\sstyle=|\son[a-z]+=|javascript:|@import|url\(|(?:src|href)="(?:https?:)?//`)

// TestPagesStandAlone: no page of ours runs a script, carries inline style, or names another host to load from.
func TestPagesStandAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.hostile()
	paths := []string{"/docs", "/docs/style.css"}
	for _, k := range problem.Kinds() {
		paths = append(paths, "/problems/"+string(k))
	}
	for _, path := range paths {
		r := b.ask("GET", path, "", "Accept: text/html,*/*;q=0.8")
		text := bodyOf(t, r)
		if found := outside.FindString(text); found != "" || r.StatusCode != 200 {
			t.Errorf("%s: %d, %q", path, r.StatusCode, found)
		}
		if html := path != "/docs/style.css"; html && r.Header.Get("Content-Security-Policy") != pagePolicy {
			t.Errorf("%s: policy %q", path, r.Header.Get("Content-Security-Policy"))
		}
	}
}

// hostile registers an operation whose texts would be HTML if they were not escaped.
func (b *bench) hostile() {
	handleNone(b, Op{ID: "hostile", Method: "GET", Path: "/api/v1/hostile", Summary: "<script>1</script>", Description: "`<script>` <img src=//x> javascript :\n\n\"><iframe>"})
}

func TestDocsShowEveryOperation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text := bodyOf(t, b.ask("GET", "/docs", ""))
	for _, want := range []string{
		`id="make-thing"`, `id="get-thing"`, `id="list-things"`, "Makes <code>one</code> thing.", "<p>At once.</p>", "things:write", "next_cursor",
		"Open to everyone", "one of red, green", "length 20 at most", "at most 1000000", "Idempotency-Key", "curl -X POST http://127.0.0.1:8080/api/v1/things", `href="/problems/too-many"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/docs lacks %s", want)
		}
	}
}

// TestDocsShowWhatMayBeNull: a field that may be null is described as what it is otherwise, with its fields.
func TestDocsShowWhatMayBeNull(t *testing.T) {
	t.Parallel()
	type engine struct {
		Power int `json:"power" doc:"In kilowatts"`
	}
	b := newBench(t)
	Handle(b.API, Op{ID: "get-boat", Method: "GET", Path: "/api/v1/boat", Summary: "Get the boat", Access: Public}, func(context.Context, caller, *None) (*struct {
		Body struct {
			Engine Nullable[engine] `json:"engine"`
			Berth  *int             `json:"berth" nullable:"true"`
		}
	}, error) {
		return nil, problem.New(problem.Missing, "There is no boat.")
	})
	text := bodyOf(t, b.ask("GET", "/docs", ""))
	for _, want := range []string{
		`<code class="name">engine</code> <span class="type">object or null</span>`, "In kilowatts", `<code class="name">berth</code> <span class="type">integer (int64) or null</span>`,
		"&#34;power&#34;: 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/docs lacks %s", want)
		}
	}
}

// TestProblemPages: what `type` leads to is there for each kind, for people and for programs.
func TestProblemPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, k := range problem.Kinds() {
		r := b.ask("GET", "/problems/"+string(k), "")
		var page kindPage
		if err := json.NewDecoder(r.Body).Decode(&page); err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %v", k, err)
		}
		if page.Type != "http://127.0.0.1:8080/problems/"+string(k) || page.Title != k.Title() || page.Status != k.Status() || page.Remedy == "" {
			t.Errorf("%+v", page)
		}
		html := bodyOf(t, b.ask("GET", "/problems/"+string(k), "", "Accept: text/html"))
		if !strings.Contains(html, "<h1>"+k.Title()+"</h1>") || !strings.Contains(html, `aria-current="page">`+string(k)) {
			t.Errorf("%s: %.300s", k, html)
		}
	}
}

// TestSchemaNames: two rooms may each have a Page; a name that says its room is left alone.
func TestSchemaNames(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	HandleRaw[None, struct{ Body problem.Page }](b.API, Op{ID: "page", Method: "GET", Path: "/p", Summary: "s", Access: Public}, nothing)
	HandleRaw[None, struct{ Body Page }](b.API, Op{ID: "page2", Method: "GET", Path: "/p2", Summary: "s", Access: Public}, nothing)
	text := bodyOf(t, b.ask("GET", "/openapi.json", ""))
	for _, name := range []string{`"ProblemPage": {`, `"Page": {`, `"ProblemField": {`, `"Problem": {`} {
		if !strings.Contains(text, name) {
			t.Errorf("no schema %s", name)
		}
	}
}

func nothing(http.ResponseWriter, *http.Request, caller, RequestMeta) error { return nil }
