package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

func TestAppendLockedSeesNoChangeBetween(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	changed := make(chan error, 1)
	_, err := db.AppendLocked(t.Context(), []TenantID{c.Tenant()}, func() ([]Draft, []Spend, error) {
		h := head(t, db, c)
		go func() { changed <- rename(context.Background(), db, c, "B") }()
		time.Sleep(50 * time.Millisecond)
		return []Draft{draft(t, db, h, "locked")}, nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	if got := logged(t, db, c); got[1].Type != "test.locked" || got[2].Type != "organisation.renamed" {
		t.Errorf("the change came between: %v, %v", got[1].Type, got[2].Type)
	}
	refused := problem.New(problem.Denied, "no")
	if _, err := db.AppendLocked(t.Context(), []TenantID{c.Tenant()}, func() ([]Draft, []Spend, error) { return nil, nil, refused }); !errors.Is(err, refused) {
		t.Errorf("AppendLocked = %v, want the decision's own error", err)
	}
}

// TestDecideIsMadeInTheEnd: whatever changes, a decision is made, and recorded once.
func TestDecideIsMadeInTheEnd(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	made := 0
	_, err := db.Decide(t.Context(), []TenantID{c.Tenant()}, func() ([]Draft, []Spend, error) {
		h := head(t, db, c)
		if made++; made <= decisionTries { // after that the head is held, and this would wait for itself
			if err := rename(t.Context(), db, c, fmt.Sprint(made)); err != nil {
				return nil, nil, err
			}
		}
		return []Draft{draft(t, db, h, "decided")}, nil, nil
	})
	if err != nil || made != decisionTries+1 || count(logged(t, db, c), "test.decided") != 1 {
		t.Errorf("%v after %d decisions, %d recorded", err, made, count(logged(t, db, c), "test.decided"))
	}
	refused := problem.New(problem.Denied, "no")
	if _, err := db.Decide(t.Context(), nil, func() ([]Draft, []Spend, error) { return nil, nil, refused }); !errors.Is(err, refused) {
		t.Errorf("Decide = %v, want the decision's own error", err)
	}
}
