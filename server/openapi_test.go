package server

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/operations.golden")

// operation is an operation as /openapi.json has it.
type operation struct {
	id, method, path string
	described        map[string]any
}

func (n *live) operations(t testing.TB) []operation {
	t.Helper()
	var all []operation
	for path, item := range n.get(t, "/openapi.json", "").want(t, http.StatusOK).Body["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			o := op.(map[string]any)
			id, _ := o["operationId"].(string)
			all = append(all, operation{id, strings.ToUpper(method), path, o})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return all
}

// Others write programs against these names: one that goes or changes breaks them.
func TestOperationsAreGolden(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, o := range newSite(t).start(t).operations(t) {
		fmt.Fprintf(&got, "%s %s %s\n", o.id, o.method, o.path)
	}
	const golden = "testdata/operations.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got.String() != string(want) {
		t.Errorf("the operations are not those of %s; adding is fine (go test ./server -run Golden -update), renaming and removing is not:\n%s", golden, got.String())
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	a := n.get(t, "/openapi.json", "").want(t, http.StatusOK)
	if !strings.HasPrefix(a.text("openapi"), "3.1") || a.Header.Get("Content-Type") == "" {
		t.Errorf("%s %v", a.text("openapi"), a.Header)
	}
	schemas := a.Body["components"].(map[string]any)["schemas"].(map[string]any)
	seen := map[string]bool{}
	for _, o := range n.operations(t) {
		if o.id == "" || seen[o.id] {
			t.Errorf("%s %s: the id %q is missing or there twice", o.method, o.path, o.id)
		}
		seen[o.id] = true
		if s, _ := o.described["summary"].(string); s == "" || strings.HasSuffix(s, ".") || len(s) > 80 {
			t.Errorf("%s: the summary is %q", o.id, s)
		}
		if tags, _ := o.described["tags"].([]any); len(tags) == 0 {
			t.Errorf("%s: no tag", o.id)
		}
		o.checkResponses(t, schemas)
		o.checkParameters(t)
	}
	for _, ref := range references(a.Body) {
		if name, ok := strings.CutPrefix(ref, "#/components/schemas/"); !ok || schemas[name] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	}
}

// TestKeysAreDescribed: who writes a client for keys finds in the document what is refused, and when.
func TestKeysAreDescribed(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	doc := n.get(t, "/openapi.json", "").want(t, http.StatusOK).Body
	for id, statuses := range map[string][]string{
		"create-key": {"403", "409", "429"}, "update-key": {"412", "429"}, "rotate-key": {"409", "429"}, "import-keys": {"409", "429"}, "verify-key": {"403", "429"}, "put-key-owner": {"412", "429"},
	} {
		for _, o := range n.operations(t) {
			for _, status := range statuses {
				if o.id == id && o.described["responses"].(map[string]any)[status] == nil {
					t.Errorf("%s does not say when it fails with %s", id, status)
				}
			}
		}
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for place, bound := range map[string]float64{
		"RateLimit limit maximum": 1e9, "RateLimit limit minimum": 1, "RateLimit duration_seconds maximum": 31 * 86400, "RateLimit duration_seconds minimum": 1,
		"KeyRequest cost maximum": 1e6, "KeyRequest cost minimum": 0, "Wanted max_uses maximum": 1e15, "ForeignKey max_uses maximum": 1e15,
	} {
		words, found := strings.Fields(place), false
		for name, s := range schemas {
			if strings.HasSuffix(name, words[0]) {
				field := s.(map[string]any)["properties"].(map[string]any)[words[1]].(map[string]any)
				if found = true; field[words[2]] != bound {
					t.Errorf("%s: %v, want %v", place, field[words[2]], bound)
				}
			}
		}
		if !found {
			t.Errorf("nothing describes %s", words[0])
		}
	}
	for _, name := range []string{"KeyRequest key", "KeyRequest scopes", "Wanted name", "Wanted scopes", "RateLimit name", "ForeignKey hash"} {
		words := strings.Fields(name)
		for schema, s := range schemas {
			if field, ok := s.(map[string]any)["properties"].(map[string]any)[words[1]].(map[string]any); strings.HasSuffix(schema, words[0]) && (!ok || field["examples"] == nil) {
				t.Errorf("%s of %s has no example: %v", words[1], schema, field)
			}
		}
	}
}

// TestVaultUseIsDescribed: of a request with a secret in it, the document requires what the server does, and says what each field is.
func TestVaultUseIsDescribed(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	schemas := n.get(t, "/openapi.json", "").want(t, http.StatusOK).Body["components"].(map[string]any)["schemas"].(map[string]any)
	for name, required := range map[string]string{"VaultUseBody": "[url]", "FetchPolicy": "[hosts header value]", "FetchReduce": "<nil>", "FetchResponse": "[status masked]"} {
		s, ok := schemas[name].(map[string]any)
		if !ok || fmt.Sprint(s["required"]) != required {
			t.Errorf("%s requires %v", name, s["required"])
			continue
		}
		for field, about := range s["properties"].(map[string]any) {
			if about.(map[string]any)["description"] == nil {
				t.Errorf("nothing says what %s of %s is", field, name)
			}
		}
	}
	for _, o := range n.operations(t) {
		if o.id != "get-vault-code" && o.id != "fetch-vault-code" {
			continue
		}
		if text := fmt.Sprint(o.described["parameters"]); strings.Contains(text, "Sec-Fetch-Site") != (o.method == "GET") || !strings.Contains(text, "Idempotency-Key") {
			t.Errorf("%s takes %s", o.id, text)
		}
		for _, status := range []string{"403", "429"} {
			if o.described["responses"].(map[string]any)[status] == nil {
				t.Errorf("%s does not say when it fails with %s", o.id, status)
			}
		}
	}
}

// fits says whether an answer that is no failure is described: as JSON, as a document of another standard, or, where its status says
// so, as nothing at all.
func fits(status string, content map[string]any) bool {
	if slices.Contains([]string{"202", "204", "303"}, status) && len(content) == 0 {
		return true
	}
	media, isJSON := content["application/json"].(map[string]any)
	return status[0] == '2' && len(content) == 1 && (!isJSON || media["schema"] != nil)
}

func (o operation) checkResponses(t *testing.T, schemas map[string]any) {
	t.Helper()
	responses := o.described["responses"].(map[string]any)
	success := 0
	for status, r := range responses {
		content, _ := r.(map[string]any)["content"].(map[string]any)
		if status == "default" || status[0] == '4' {
			if text, _ := r.(map[string]any)["description"].(string); text == "" {
				t.Errorf("%s: nothing says when it fails with %s", o.id, status)
			}
			schema := content["application/problem+json"].(map[string]any)["schema"].(map[string]any)
			if schema["$ref"] != "#/components/schemas/Problem" || schemas["Problem"] == nil {
				t.Errorf("%s: a failure is %v", o.id, schema)
			}
			continue
		}
		success++
		if !fits(status, content) {
			t.Errorf("%s: the answer %s has no schema: %v", o.id, status, r)
		}
	}
	if success == 0 || responses["default"] == nil {
		t.Errorf("%s: the answers are %v", o.id, responses)
	}
}

func (o operation) checkParameters(t *testing.T) {
	t.Helper()
	named := map[string]bool{}
	parameters, _ := o.described["parameters"].([]any)
	for _, p := range parameters {
		p := p.(map[string]any)
		if p["in"] == "path" {
			named[p["name"].(string)] = true
		}
		if p["schema"] == nil {
			t.Errorf("%s: the parameter %s has no schema", o.id, p["name"])
		}
	}
	for part := range strings.SplitSeq(o.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok && !named[strings.TrimSuffix(name, "}")] {
			t.Errorf("%s: {%s is not described", o.id, name)
		}
	}
}

// references lists every $ref of a document.
func references(v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			if s, ok := x.(string); ok && name == "$ref" {
				all = append(all, s)
				continue
			}
			all = append(all, references(x)...)
		}
	case []any:
		for _, x := range v {
			all = append(all, references(x)...)
		}
	}
	return all
}
