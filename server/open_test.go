package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/tenantdb"
)

// mostStatic is how many pages and documents there are. Whoever adds one says here that it is one.
const mostStatic = 22

// TestStaticIsTheSameForEverybody: what counts as a page or a document is only read: by GET, whatever is sent along; it says the same to
// everybody, keeps nothing in a browser, and leaves nothing in a log.
func TestStaticIsTheSameForEverybody(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.place(t, "Acme")
	cookie, _ := p.signed(t, p.owner)
	before := len(h.entries(t, p.id, ""))
	moves := []string{"metrics"} // it counts what is asked
	found := 0
	for _, o := range h.api.Operations() {
		if static()[o.ID] == "" {
			continue
		}
		if found++; o.Method != http.MethodGet {
			t.Errorf("%s is asked by %s: it is no page or document", o.ID, o.Method)
			continue
		}
		path, named := p.path(t, o, p.owner)
		if len(named) > 0 {
			t.Errorf("%s is about what is somebody's: %v", o.ID, named)
		}
		q := ask{Method: o.Method, Path: path}
		want := h.call(t, q)
		for what, q := range map[string]ask{
			"an owner's cookie": {Method: o.Method, Path: path, Header: h.fromPage(cookie)}, "an owner's key": {Method: o.Method, Path: path, Key: p.key}, "a body": {Method: o.Method, Path: path, Body: object{"name": "x"}},
		} {
			got := h.call(t, q)
			if got.Status != want.Status || got.Raw != want.Raw && !slices.Contains(moves, o.ID) {
				t.Errorf("%s with %s: %d %.300s; and without: %d %.300s", o.ID, what, got.Status, got.Raw, want.Status, want.Raw)
			}
			if set := strings.Join(append(got.Header.Values("Set-Cookie"), want.Header.Values("Set-Cookie")...), " "); set != "" {
				t.Errorf("%s sets a cookie: %s", o.ID, set)
			}
		}
		if want.Status != http.StatusOK && o.ID != "dev-inbox-message" { // there is none
			t.Errorf("%s: %d %.300s", o.ID, want.Status, want.Raw)
		}
	}
	if found != mostStatic || len(static()) != mostStatic {
		t.Errorf("there are %d pages and documents, and %d are named; %d were meant to be", found, len(static()), mostStatic)
	}
	if after := h.entries(t, p.id, ""); len(after) != before {
		t.Errorf("looking at pages is in the log: %+v", after[before:])
	}
	if e := h.entries(t, tenantdb.Platform, "requests.refused"); len(e) > 0 {
		t.Errorf("it was refused: %+v", e)
	}
}
