package tenantdb

import (
	"errors"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
)

// TestChangeSpends: a change takes from a counter with its entry; with too little left, neither is there.
func TestChangeSpends(t *testing.T) {
	t.Parallel()
	db := openBy(t, pgtest.New(t, template), noon())
	p := newPurse(t, db, "w")
	change := func() error {
		return db.Change(t.Context(), p.c, func(tx *Tx) (audit.Event, error) {
			tx.Spend(p.in("w", 1, 2, time.Minute))
			return audit.Event{Type: "test.spent"}, nil
		})
	}
	for n := range 4 {
		err := change()
		var spent *SpentError
		if n < 2 && err != nil || n >= 2 && !(errors.As(err, &spent) && spent.Subject == "w") {
			t.Errorf("change %d: %v", n, err)
		}
	}
	if s := stored(t, db, p.c, "w"); s.used != 2 {
		t.Errorf("the counter is %+v", s)
	}
}
