package tenantdb

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
)

// TestGate: while the gate refuses a tenant, no way in leads to it, nothing is written, and others notice nothing; who takes no key
// passes.
func TestGate(t *testing.T) {
	t.Parallel()
	_, pg := fresh(t)
	shut := errors.New("shut")
	var closed atomic.Pointer[TenantID]
	db, err := Open(t.Context(), Config{URL: pg.URL, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler), Gate: func(_ context.Context, id TenantID) error {
		if c := closed.Load(); c != nil && *c == id {
			return shut
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	c, other := newTenant(t, db, "Acme"), newTenant(t, db, "Other")
	h := head(t, db, c)
	ways := func(c Caller) map[string]error {
		read := func(*ReadTx) error { return nil }
		_, drafted := db.Draft(t.Context(), c, Head{Tenant: c.Tenant(), Log: h.Log, Epoch: h.Epoch}, audit.Event{Type: "test.x"})
		_, recorded := db.Record(t.Context(), c, audit.Event{Type: "test.x"})
		return map[string]error{
			"Read": db.Read(t.Context(), c, read), "ReadFresh": db.ReadFresh(t.Context(), c, read), "Draft": drafted, "Record": recorded,
			"ReadRow": db.ReadRow(t.Context(), c, `SELECT 1`, nil, func(pgx.Row) error { return nil }),
			"Note":    db.Note(t.Context(), c, func(*Tx) error { return nil }),
			"Change":  db.Change(t.Context(), c, func(*Tx) (audit.Event, error) { return audit.Event{Type: "test.x"}, nil }),
			"Create":  db.Create(t.Context(), c, func(*Tx) (audit.Event, error) { return audit.Event{}, nil }),
		}
	}
	id := c.Tenant()
	closed.Store(&id)
	for way, err := range ways(c) {
		if !errors.Is(err, shut) {
			t.Errorf("%s: %v", way, err)
		}
	}
	for _, passes := range []Caller{other, c.Keyless()} {
		for way, err := range ways(passes) {
			if way != "Create" && err != nil {
				t.Errorf("%s: %v", way, err)
			}
		}
	}
	// What an agent's owner gets of somebody else's verification is in the owner's log: it is the log's tenant that is closed.
	if _, err := db.Draft(t.Context(), other, h, audit.Event{Type: "test.x"}); !errors.Is(err, shut) {
		t.Errorf("a draft for a closed log: %v", err)
	}
	closed.Store(nil)
	if got := logged(t, db, c); len(got) != 3 { // made, and what the keyless caller recorded and changed
		t.Errorf("%d entries", len(got))
	}
}
