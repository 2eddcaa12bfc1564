package server

import "testing"

func TestDump(t *testing.T) {
	n := newSite(t).start(t)
	a := n.get(t, "/openapi.json", "")
	for path, item := range a.Body["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			o := op.(map[string]any)
			t.Log(method, path, o["operationId"], o["summary"], o["security"])
		}
	}
	x := a.Body["paths"].(map[string]any)["/api/v1/keys"]
	t.Logf("%v", x)
	for _, p := range []string{"/.well-known/security.txt", "/.well-known/avouch.json", "/.well-known/jwks.json", "/metrics", "/readyz", "/healthz"} {
		b := n.get(t, p, "")
		t.Logf("%s %d %v\n%.600s", p, b.Status, b.Header, b.Raw)
	}
}
