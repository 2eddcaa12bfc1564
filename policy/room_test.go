package policy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func open(t *testing.T) (*doortest.Door, *Room) {
	d := doortest.Open(t)
	return d, New(Config{DB: d.DB, Ring: d.Ring})
}

func TestOwnScopes(t *testing.T) {
	t.Parallel()
	d, room := open(t)
	ours, theirs := d.Caller(d.Tenant(t, "Acme"), "scopes:write"), d.Caller(d.Tenant(t, "Globex"), "scopes:write")
	add := func(c tenantdb.Caller, s Scope) error {
		_, err := room.Add(t.Context(), c, s)
		return err
	}
	for _, s := range []Scope{{Name: "pay:bills", Risk: High, Description: "Pay"}, {Name: "approve:invoices", Risk: Medium, Description: "Approve"}} {
		if err := add(ours, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(ours, Scope{Name: "pay:bills", Risk: Low, Description: "Again"}); !problem.Is(err, problem.Conflict) {
		t.Errorf("the same name again: %v", err)
	}
	if err := add(theirs, Scope{Name: "pay:bills", Risk: Low, Description: "Theirs"}); err != nil {
		t.Errorf("another organisation, the same name: %v", err)
	}
	err := d.DB.Read(t.Context(), ours, func(tx *tenantdb.ReadTx) error {
		unknown, err := room.Unknown(t.Context(), tx, []string{"read:email", "approve:invoices", "see:menu"})
		if err != nil || !slices.Equal(unknown, []string{"see:menu"}) {
			t.Errorf("Unknown: %v, %v", unknown, err)
		}
		risk, err := room.Risk(t.Context(), tx, []string{"read:email", "pay:bills"})
		if err != nil || risk != "high" {
			t.Errorf("Risk: %s, %v", risk, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := room.List(t.Context(), theirs)
	if err != nil || len(list.own) != 1 || list.own[0].Description != "Theirs" || list.Known("approve:invoices") {
		t.Errorf("the other organisation sees %+v, %v", list.own, err)
	}
}

func TestAddingIsRecorded(t *testing.T) {
	t.Parallel()
	d, room := open(t)
	id := d.Tenant(t, "Acme")
	s := Scope{Name: "call:ada-lovelace", Risk: Medium, Description: "Ring Ada up"}
	for _, capabilities := range [][]string{nil, {"agents:write", "keys:write", "verify"}} {
		if _, err := room.Add(t.Context(), d.Caller(id, capabilities...), s); !problem.Is(err, problem.Denied) {
			t.Errorf("with %v: %v", capabilities, err)
		}
	}
	if n := len(d.Entries(t, id)); n != 1 {
		t.Errorf("refused, and the log has %d entries", n)
	}
	before := d.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, id.String())
	if _, err := room.Add(t.Context(), d.Caller(id, "*"), s); err != nil {
		t.Fatal(err)
	}
	e := d.Last(t, id)
	if e.Type != "scope.added" || e.Field("risk") != "medium" || e.Private["name"] != s.Name || e.Private["description"] != s.Description {
		t.Errorf("the entry is %+v", e)
	}
	if strings.Contains(string(e.Body), "ada") || strings.Contains(string(e.Body), "Ada") {
		t.Error("the entry holds free text")
	}
	if after := d.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, id.String()); after == before {
		t.Error("the epoch did not move: servers would go on with the old catalogue")
	}
}

func TestMaxOwn(t *testing.T) {
	t.Parallel()
	d, room := open(t)
	id := d.Tenant(t, "Acme")
	d.Admin(t, `ALTER TABLE avouch.scope DISABLE TRIGGER require_entry`)
	d.Admin(t, fmt.Sprintf(`INSERT INTO avouch.scope SELECT $1::uuid, 'own:s' || n, 'low', 'x', now() FROM generate_series(1, %d) n`, MaxOwn-3), id.String())
	d.Admin(t, `ALTER TABLE avouch.scope ENABLE ALWAYS TRIGGER require_entry`)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = room.Add(t.Context(), d.Caller(id, "*"), Scope{Name: fmt.Sprintf("late:s%d", i), Risk: Low, Description: "x"})
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !problem.Is(err, problem.Conflict):
			t.Error(err)
		}
	}
	if made != 3 {
		t.Errorf("%d were added where there was room for 3", made)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	d, room := open(t)
	id := d.Tenant(t, "Acme")
	api := d.API(doortest.As(d.Caller(id, "scopes:write")))
	room.Routes(api)
	post := func(body any) doortest.Answer {
		return doortest.Call(t, api, doortest.Request{Method: "POST", Path: "/api/v1/scopes", Body: body})
	}
	a := post(map[string]string{"name": "pay:bills", "risk": "high", "description": "Pay the bills"})
	if a.Status != http.StatusCreated || a.Body["name"] != "pay:bills" || a.Body["built_in"] != false {
		t.Errorf("add: %+v", a)
	}
	for status, body := range map[int]any{
		http.StatusConflict:   map[string]string{"name": "pay:bills", "risk": "high", "description": "Again"},
		http.StatusBadRequest: map[string]string{"name": "read:email", "risk": "low", "description": "Mine now"},
	} {
		if a := post(body); a.Status != status {
			t.Errorf("%v: %+v", body, a)
		}
	}
	var names []string
	path := "/api/v1/scopes?limit=5"
	for range 4 {
		a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: path})
		if a.Status != http.StatusOK || a.Body["policy_version"] != Version {
			t.Fatalf("list: %+v", a)
		}
		for _, s := range a.Body["scopes"].([]any) {
			names = append(names, s.(map[string]any)["name"].(string))
		}
		next, more := a.Body["next_cursor"].(string)
		if !more {
			break
		}
		path = "/api/v1/scopes?limit=5&cursor=" + next
	}
	if len(names) != 15 || names[0] != "read:email" || names[14] != "pay:bills" {
		t.Errorf("listed %v", names)
	}
	denied := d.API(doortest.As(d.Caller(id, "keys:write")))
	room.Routes(denied)
	if a := doortest.Call(t, denied, doortest.Request{Method: "POST", Path: "/api/v1/scopes", Body: `{"name":"a:b","risk":"low","description":"x"}`}); a.Status != http.StatusForbidden {
		t.Errorf("without the capability: %+v", a)
	}
}
