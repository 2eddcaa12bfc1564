package tenantdb

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/problem"
)

// TestFloorAfterRollback has a change rolled back at its commit, and then the answer to what comes next lost: the search for
// that must not begin behind it, as if the change had been committed.
func TestFloorAfterRollback(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"append", "change"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			direct, pg := fresh(t)
			c := newTenant(t, direct, "A")
			admin := connect(t, pg.AdminURL)
			db, proxy := behind(t, pg.URL, time.Second)
			if _, err := db.Append(t.Context(), []Draft{draft(t, direct, head(t, direct, c), "before")}); err != nil {
				t.Fatal(err)
			}
			for _, sql := range []string{
				`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END'`,
				`CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON avouch.organisation DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.refuse()`,
			} {
				if _, err := admin.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			if err := rename(t.Context(), db, c, "B"); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("the commit was not refused: %v", err)
			}
			if _, err := admin.Exec(t.Context(), `DROP TRIGGER refuse ON avouch.organisation`); err != nil {
				t.Fatal(err)
			}
			h := head(t, direct, c)
			var lost atomic.Bool
			proxy.Choose(func(tag string) pgfault.Fault {
				if (next == "append" || strings.HasPrefix(tag, "COMMIT")) && lost.CompareAndSwap(false, true) {
					return pgfault.Lose
				}
				return pgfault.Pass
			})
			kind, err := "organisation.renamed", error(nil)
			if next == "append" {
				kind = "test.lost"
				_, err = db.Append(t.Context(), []Draft{draft(t, direct, h, "lost")})
			} else {
				err = rename(t.Context(), db, c, "C")
			}
			if n := count(logged(t, direct, c), kind); err != nil || n != 1 || !lost.Load() {
				t.Errorf("an answer was lost: %v; it is in the log %d times, and the caller was told %v", lost.Load(), n, err)
			}
		})
	}
}

// TestPanicOfACallerWhoDrives ends a commit in a panic of the goroutine that runs it, which the web server would recover:
// everyone else has an outcome, and the lane goes on.
func TestPanicOfACallerWhoDrives(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	h := head(t, db, c)
	first, second := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	db.observe = func([]*item, time.Duration) {
		if once.CompareAndSwap(false, true) {
			close(first)
			<-second
			panic("of the observer")
		}
	}
	ended := make(chan any, 1)
	go func() {
		defer func() { ended <- recover() }()
		db.Append(t.Context(), []Draft{draft(t, db, h, "a")})
	}()
	<-first
	others := make(chan error, 20)
	for range cap(others) {
		one := draft(t, db, h, "b")
		go func() { _, err := db.Append(t.Context(), []Draft{one}); others <- err }()
	}
	for db.lane.waiting.Load() < int64(cap(others)) {
		time.Sleep(time.Millisecond)
	}
	close(second)
	if v := <-ended; v != "of the observer" {
		t.Errorf("who drove met %v", v)
	}
	for range cap(others) {
		select {
		case err := <-others:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the lane is dead")
		}
	}
}

// TestPanicTellsTheBatch has others in the batch whose commit panics.
func TestPanicTellsTheBatch(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	h := head(t, db, c)
	db.observe = func([]*item, time.Duration) { panic("of the observer") }
	batch := []*item{newItem([]Draft{draft(t, db, h, "a")}, nil), newItem([]Draft{draft(t, db, h, "b")}, nil)}
	func() {
		defer func() { recover() }()
		db.lane.commit(batch)
	}()
	for _, it := range batch {
		select {
		case <-it.done:
			if !problem.Uncertain(it.err) { // the commit itself had ended well
				t.Errorf("told %v", it.err)
			}
		default:
			t.Error("one waits for ever")
		}
	}
}

// TestNobodyIsLeftInTheQueue has callers come alone and in crowds, at the moments at which the lane falls idle.
func TestNobodyIsLeftInTheQueue(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	h := head(t, db, c)
	const callers, times = 24, 25
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var told atomic.Int32
	parallel(callers, func(i int) {
		for n := range times {
			if n%5 == i%5 {
				time.Sleep(time.Duration(i%7) * time.Millisecond)
			}
			if _, err := db.Append(ctx, []Draft{draft(t, db, h, "crowd")}); err != nil {
				t.Errorf("caller %d: %v", i, err)
				return
			}
			told.Add(1)
		}
	})
	if n := count(logged(t, db, c), "test.crowd"); n != int(told.Load()) || n != callers*times {
		t.Errorf("%d in the log, %d told", n, told.Load())
	}
	if n := db.lane.waiting.Load(); n != 0 || db.lane.driving.Load() {
		t.Errorf("%d are counted as waiting, and the lane is driven: %v", n, db.lane.driving.Load())
	}
}
