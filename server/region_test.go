package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/avouch-dev/avouch/tenantdb"
)

// TestNothingLeavesASilentRegion: who is in a region that sends nothing is told so, by each route that would send; elsewhere the
// same is sent.
func TestNothingLeavesASilentRegion(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "regions.json")
	must(t, os.WriteFile(file, []byte(`{"silent": {}}`), 0o600))
	h := newHouse(t, func(c *Config) { c.RegionsFile = file })
	acme, ada := h.owner(t, "Acme")
	operator := tenantdb.System(acme.id, "operator")
	factor := func(kind, to string) reply {
		return ada.ask(t, "POST", "/api/v1/factors", map[string]any{"kind": kind, "to": to})
	}
	for i, region := range []string{"silent", "", "silent"} {
		must(t, h.Org.SetRegion(t.Context(), operator, region))
		n := strconv.Itoa(i)
		silent := region != ""
		for what, c := range map[string]struct {
			r  reply
			ok int
		}{
			"an invitation":  {ada.ask(t, "POST", "/api/v1/invitations", map[string]any{"address": "bob" + n + "@acme.example", "roles": []string{"member"}}), http.StatusCreated},
			"a new address":  {ada.ask(t, "POST", "/api/v1/address", map[string]any{"address": "ada" + n + "@new.example"}), http.StatusAccepted},
			"a text message": {factor("sms", "+4930123456"), http.StatusCreated},
			"a code by mail": {factor("email", ""), http.StatusCreated},
		} {
			want := c.ok
			if silent {
				want = http.StatusBadRequest
			}
			if c.r.status != want {
				t.Errorf("%s in %q: %d, want %d: %s", what, region, c.r.status, want, c.r.text)
			}
		}
		if texts := ada.ask(t, "GET", "/api/v1/factors", nil).want(t, 200)["texts"]; texts != !silent {
			t.Errorf("texts in %q: %v", region, texts)
		}
	}
}

// TestTextsAreBounded: the operator's bound is the one that counts, and whoever meets it reads why and until when.
func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.TextsPerDay = 2 })
	_, ada := h.owner(t, "Acme")
	_, eve := h.owner(t, "Globex")
	for i, want := range []int{201, 201, 429} {
		r := ada.ask(t, "POST", "/api/v1/factors", map[string]any{"kind": "sms", "to": "+4930123456"})
		if r.status != want || (r.header.Get("Retry-After") != "") != (want == 429) {
			t.Errorf("message %d: %d %v %s", i+1, r.status, r.header, r.text)
		}
	}
	eve.ask(t, "POST", "/api/v1/factors", map[string]any{"kind": "sms", "to": "+4930123456"}).want(t, 201)
}
