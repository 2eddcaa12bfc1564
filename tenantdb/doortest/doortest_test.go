package doortest

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestDoors(t *testing.T) {
	t.Parallel()
	one, two := Open(t), Open(t)
	beside := one.Another(t)
	id := one.Tenant(t, "Acme")
	if n := len(beside.Entries(t, id)); n != 1 {
		t.Errorf("another server of the same door sees %d entries", n)
	}
	if n := len(two.Entries(t, id)); n != 0 {
		t.Errorf("another door sees %d entries", n)
	}
	if _, _, err := beside.Ring.CurrentKeyVersions(t.Context(), id); err != nil {
		t.Errorf("another server of the same door lacks the keys: %v", err)
	}
	if _, _, err := two.Ring.CurrentKeyVersions(t.Context(), id); err == nil {
		t.Error("another door has the keys")
	}
	two.Install(t)
	if e := two.Last(t, tenantdb.Platform); e.Type != "organisation.created" {
		t.Errorf("the platform's log ends with %s", e.Type)
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	d := Open(t)
	id := d.Tenant(t, "Acme")
	c := d.Caller(id, "audit:read")
	if !c.May("audit:read") || c.May("audit:write") {
		t.Error("the caller's capabilities are not those that were given")
	}
	_, err := d.DB.Record(t.Context(), c, audit.Event{
		Type: "test.happened", Public: []audit.Field{{Name: "n", Value: "1"}}, Private: []audit.Field{{Name: "who", Value: "Ada"}},
	})
	must(t, err)
	found := d.OfType(t, id, "test.happened")
	if len(found) != 1 || found[0].Seq != 1 || found[0].Field("n") != "1" || found[0].Private["who"] != "Ada" {
		t.Errorf("the log holds %+v", found)
	}
	if e := d.Last(t, id); e.Actor.ID != "tester" || e.Request != c.RequestID() || strings.Contains(string(e.Body), "Ada") {
		t.Errorf("the last entry is %+v", e)
	}
}

func TestCall(t *testing.T) {
	t.Parallel()
	d := Open(t)
	id := d.Tenant(t, "Acme")
	api := d.API(As(d.Caller(id, "may")))
	type output struct {
		Body struct {
			Tenant string `json:"tenant"`
		}
	}
	for _, capability := range []string{"may", "may-not"} {
		web.Handle(api, web.Op{ID: capability, Method: "POST", Path: "/" + capability, Summary: "Test", Scope: capability, Idempotent: true},
			func(_ context.Context, c tenantdb.Caller, _ *web.None) (*output, error) {
				out := &output{}
				out.Body.Tenant = c.Tenant().String()
				return out, nil
			})
	}
	q := Request{Method: "POST", Path: "/may", Header: map[string]string{"Idempotency-Key": "k"}}
	first, again := Call(t, api, q), Call(t, api, q)
	if first.Status != http.StatusOK || first.Body["tenant"] != id.String() || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("answers %+v and %+v", first, again)
	}
	if a := Call(t, api, Request{Method: "POST", Path: "/may-not"}); a.Status != http.StatusForbidden {
		t.Errorf("without the capability: %+v", a)
	}
}
