package server

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestDeletionByTwo: of two owners one asks for the deletion and the other confirms it, over HTTP, and both are mailed at each step; what waits
// lapses; the keys are destroyed a month later and not before.
func TestDeletionByTwo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	ada.prove(t)
	bob := h.member(t, ada, "bob@acme.example", org.RoleOwner)
	asks := func(by *somebody, path string) reply {
		t.Helper()
		by.prove(t)
		return by.ask(t, "POST", path, map[string]any{"confirm": "Acme"})
	}
	const path = "/api/v1/organisation/delete"
	first := asks(ada, path).want(t, 200)
	if first["state"] != "waiting" || first["deleted_at"] != nil {
		t.Errorf("asked: %v", first)
	}
	for _, to := range []string{ada.address, bob.address} {
		if text := h.mailed(t, to, "wants to delete Acme"); !strings.Contains(text, "unless another owner confirms it") {
			t.Errorf("the mail: %s", text)
		}
	}
	h.later(7 * 24 * time.Hour)
	must(t, h.applyDue(t.Context()))
	for _, to := range []string{ada.address, bob.address} {
		if text := h.mailed(t, to, "Acme is not deleted"); !strings.Contains(text, "it has lapsed") {
			t.Errorf("the mail: %s", text)
		}
	}
	ada.signIn(t, nil)
	bob.signIn(t, nil)
	second := asks(ada, path).want(t, 200)
	confirm := "/api/v1/organisation/deletion/" + second["deletion_id"].(string) + "/confirm"
	if r := asks(ada, confirm); r.status != 403 {
		t.Errorf("confirmed by who asked: %d %s", r.status, r.text)
	}
	if done := asks(bob, confirm).want(t, 200); done["state"] != "deleted" || done["restorable_until"] == nil {
		t.Errorf("confirmed: %v", done)
	}
	gone := h.now().Add(org.Grace).UTC().Format("Mon, 02 Jan 2006")
	for _, to := range []string{ada.address, bob.address} {
		if text := h.mailed(t, to, "Acme was deleted"); !strings.Contains(text, gone) || !strings.Contains(text, "Asked by:  ") {
			t.Errorf("the mail: %s", text)
		}
	}
	h.later(org.Grace - time.Hour)
	must(t, h.shred(t.Context()))
	if live, _, err := h.Ring.Versions(acme.id, keyring.UseWrap); err != nil || live == 0 {
		t.Errorf("destroyed too soon: %d, %v", live, err)
	}
	h.later(time.Hour)
	must(t, h.shred(t.Context()))
	if live, _, err := h.Ring.Versions(acme.id, keyring.UseWrap); err != nil || live != 0 {
		t.Errorf("not destroyed: %d, %v", live, err)
	}
}

// TestUnprovedDeletionIsTold: a deletion that somebody wrote into the database destroys nothing; operator and organisation are told.
func TestUnprovedDeletionIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.start(t)
	acme := h.organisation(t, "Acme")
	_, err := s.admin.Exec(t.Context(), `ALTER TABLE avouch.organisation DISABLE TRIGGER require_entry;
UPDATE avouch.organisation SET deleted_at = now() - interval '31 days' WHERE tenant_id = '`+acme.id.String()+`'; ALTER TABLE avouch.organisation ENABLE ALWAYS TRIGGER require_entry`)
	must(t, err)
	for range 2 {
		must(t, h.shred(t.Context()))
	}
	if live, _, err := h.Ring.Versions(acme.id, keyring.UseWrap); err != nil || live == 0 {
		t.Errorf("destroyed: %d, %v", live, err)
	}
	for of, subject := range map[tenantdb.TenantID]string{tenantdb.Platform: acme.id.String(), acme.id: ""} {
		all, err := h.Incident.Open(t.Context(), tenantdb.System(of, "test"))
		if err != nil || len(all) != 1 || all[0].Kind != org.DeletionUnproved || all[0].Subject != subject || !strings.Contains(all[0].Detail, "No key is destroyed") {
			t.Errorf("incidents of %s: %+v, %v", of, all, err)
		}
	}
}
