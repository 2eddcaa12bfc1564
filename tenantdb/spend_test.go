package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/internal/problem"
)

// handClock is a server's clock: it stands still until it is moved.
type handClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// openBy is a server that goes by a clock.
func openBy(t *testing.T, pg *pgtest.DB, c *handClock) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: pg.URL, Sealer: plainSealer{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// noon is a time in whole milliseconds, as a counter's windows are.
func noon() *handClock { return &handClock{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

// counters makes counters of a tenant.
func counters(t testing.TB, db *DB, c Caller, subjects ...string) {
	t.Helper()
	err := db.Change(t.Context(), c, func(tx *Tx) (audit.Event, error) {
		for _, s := range subjects {
			if _, err := tx.Exec(t.Context(), `INSERT INTO avouch.counter (tenant_id, subject) VALUES ($1, $2)`, c.Tenant(), s); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Type: "test.counters"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// stored is a counter as the database has it.
func stored(t testing.TB, db *DB, c Caller, subject string) (s counterState) {
	t.Helper()
	err := db.Read(t.Context(), c, func(tx *ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT period, used FROM avouch.counter WHERE tenant_id = $1 AND subject = $2`, c.Tenant(), subject).Scan(&s.period, &s.used)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// purse spends for one tenant.
type purse struct {
	t testing.TB
	c Caller
	h Head
}

func newPurse(t testing.TB, db *DB, subjects ...string) *purse {
	t.Helper()
	c := newTenant(t, db, "A")
	counters(t, db, c, subjects...)
	return &purse{t, c, head(t, db, c)}
}

func (p *purse) take(subject string, amount, limit int64) Spend {
	return Spend{Tenant: p.c.Tenant(), Subject: subject, Amount: amount, Limit: limit}
}

func (p *purse) in(subject string, amount, limit int64, window time.Duration) Spend {
	s := p.take(subject, amount, limit)
	s.Window = window
	return s
}

func (p *purse) spend(db *DB, spends ...Spend) (Receipt, error) {
	p.t.Helper()
	return db.AppendSpending(p.t.Context(), []Draft{draft(p.t, db, p.h, "spend")}, spends...)
}

// leaves spends, and wants so much left of each counter.
func (p *purse) leaves(db *DB, want []int64, spends ...Spend) {
	p.t.Helper()
	r, err := p.spend(db, spends...)
	if err != nil || !slices.Equal(r.Left, want) || len(r.Positions) != 1 {
		p.t.Errorf("%v left, want %v: %v", r.Left, want, err)
	}
}

// refuses wants a counter to be what refuses, with so much left, until an instant; and nothing to be appended or taken.
func (p *purse) refuses(db *DB, subject string, left int64, anew time.Time, spends ...Spend) {
	p.t.Helper()
	before := map[string]counterState{}
	for _, s := range spends {
		before[s.Subject] = stored(p.t, db, p.c, s.Subject)
	}
	entries := len(logged(p.t, db, p.c))
	r, err := p.spend(db, spends...)
	var spent *SpentError
	switch {
	case !errors.As(err, &spent):
		p.t.Errorf("not refused: %v, %v", r, err)
	case spent.Subject != subject || spent.Left != left || !spent.Anew.Equal(anew):
		p.t.Errorf("%s refuses with %d left until %s, want %s with %d until %s", spent.Subject, spent.Left, spent.Anew, subject, left, anew)
	}
	for s, was := range before {
		if is := stored(p.t, db, p.c, s); is != was {
			p.t.Errorf("a refusal made %+v of %+v at %s", is, was, s)
		}
	}
	if n := len(logged(p.t, db, p.c)); n != entries {
		p.t.Errorf("a refusal appended %d entries", n-entries)
	}
}

// TestSpendAmounts: what is taken is what was said, and what is left is what is left after it, also if one caller takes twice
// from one counter.
func TestSpendAmounts(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	p := newPurse(t, db, "a", "b")
	p.leaves(db, []int64{7}, p.take("a", 3, 10))
	p.leaves(db, []int64{6}, p.take("a", 0, 10)) // none is one
	p.leaves(db, []int64{0, 95}, p.take("a", 6, 10), p.take("b", 5, 100))
	p.refuses(db, "a", 0, time.Time{}, p.take("a", 1, 10))
	p.refuses(db, "a", 0, time.Time{}, p.take("b", 5, 100), p.take("a", 1, 10)) // none of b either
	p.leaves(db, []int64{1}, p.take("a", 1, 12))                                // the limit was raised
	p.refuses(db, "a", 0, time.Time{}, p.take("a", 1, 4))                       // and lowered below what is used
	p.leaves(db, []int64{92, 92}, p.take("b", 2, 100), p.take("b", 1, 100))
	p.refuses(db, "b", 92, time.Time{}, p.take("b", 91, 100), p.take("b", 2, 100)) // each alone would do
	p.leaves(db, []int64{0, 0}, p.take("b", 91, 100), p.take("b", 1, 100))
	p.leaves(db, nil)
}

// TestSpendLooks: who looks is told what is left, takes nothing, and starts no window.
func TestSpendLooks(t *testing.T) {
	t.Parallel()
	clock := noon()
	pg := pgtest.New(t, template)
	db := openBy(t, pg, clock)
	p := newPurse(t, db, "a", "w")
	look := func(s Spend) Spend { s.Look = true; return s }
	p.leaves(db, []int64{10}, look(p.take("a", 5, 10)))
	p.leaves(db, []int64{0, 10}, p.take("a", 10, 10), look(p.in("w", 1, 10, time.Minute)))
	if s := stored(t, db, p.c, "w"); s != (counterState{}) {
		t.Errorf("a look made a window: %+v", s)
	}
	p.leaves(db, []int64{0}, look(p.take("a", 1, 10)))
	p.leaves(db, []int64{0}, look(p.take("a", 1, 9))) // more is used than there is
	p.leaves(db, []int64{0, Unknown, 9}, look(p.take("a", 1, 9)), look(p.take("nowhere", 1, 9)), p.in("w", 1, 10, time.Minute))
}

// TestSpendRefusedByMany: who is refused by several counters is told when all of them can serve it, or that one never will.
func TestSpendRefusedByMany(t *testing.T) {
	t.Parallel()
	clock := noon()
	pg := pgtest.New(t, template)
	db := openBy(t, pg, clock)
	p := newPurse(t, db, "short", "long", "a")
	short := func(n int64) Spend { return p.in("short", n, 3, time.Minute) }
	long := func(n int64) Spend { return p.in("long", n, 2, time.Hour) }
	p.leaves(db, []int64{0, 0}, short(3), long(2))
	begun := clock.now()
	p.refuses(db, "short", 0, begun.Add(time.Hour), short(1), long(1))
	p.refuses(db, "long", 0, begun.Add(time.Hour), long(1), short(1))
	clock.move(2 * time.Minute)
	p.refuses(db, "long", 0, begun.Add(time.Hour), short(1), long(1))
	p.refuses(db, "long", 0, time.Time{}, short(3), long(3))
	p.leaves(db, []int64{0}, p.take("a", 5, 5))
	p.refuses(db, "long", 0, time.Time{}, long(1), p.take("a", 1, 5))
}

// TestSpendWindows: a counter starts anew with the first spend that comes a window after the one that started it, and never
// before; a server whose clock is behind counts in the window that there is.
func TestSpendWindows(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, template)
	clock, late := noon(), noon()
	late.move(-10 * time.Minute)
	db, behind := openBy(t, pg, clock), openBy(t, pg, late)
	p := newPurse(t, db, "w", "x")
	const window = time.Minute
	begun := clock.now()
	w := func(n int64) Spend { return p.in("w", n, 5, window) }
	p.leaves(db, []int64{2}, w(3))
	clock.move(window - time.Millisecond)
	p.leaves(db, []int64{1}, w(1))
	p.leaves(behind, []int64{0}, w(1))
	p.refuses(db, "w", 0, begun.Add(window), w(1))
	p.refuses(behind, "w", 0, begun.Add(window), w(1))
	clock.move(time.Millisecond)
	p.refuses(behind, "w", 0, begun.Add(window), w(1)) // by its clock the window has not even begun
	p.refuses(db, "w", 5, time.Time{}, w(6))           // more than a whole window allows
	p.leaves(db, []int64{4}, w(1))
	if s := stored(t, db, p.c, "w"); s != (counterState{clock.now().UnixMilli(), 1}) {
		t.Errorf("the counter is %+v", s)
	}
	p.leaves(behind, []int64{0}, w(4))
	p.refuses(db, "w", 0, clock.now().Add(window), w(1))
	clock.move(24 * time.Hour)
	// One that is spent refuses the other too, and its window does not begin with a refusal.
	p.leaves(db, []int64{0}, p.in("x", 2, 2, time.Second))
	p.refuses(db, "x", 0, clock.now().Add(time.Second), w(1), p.in("x", 1, 2, time.Second))
	p.leaves(db, []int64{0, 0}, w(5), p.in("x", 1, 3, time.Second))
	clock.move(time.Second)
	p.leaves(db, []int64{1}, p.in("x", 1, 2, time.Second)) // a window of its own
	p.refuses(db, "w", 0, clock.now().Add(window-time.Second), w(1))
}

// together puts items into one batch, and commits what that leaves to be tried again.
func together(t testing.TB, db *DB, items ...*item) {
	t.Helper()
	driven := false
	db.lane.drive(func() {
		driven = true
		db.lane.route(context.WithoutCancel(t.Context()), items, db.lane.commit(items))
		if len(db.lane.retry) > 0 {
			db.lane.turn()
		}
	})
	for _, it := range items {
		select {
		case <-it.done:
		default:
			t.Fatal("one waits for ever")
		}
	}
	if !driven {
		t.Fatal("the lane is not ours")
	}
}

// TestSpendersOfOneBatch: of those that come at once, who asks for more than there is is refused, and the others get what
// there is, each told what is left after it.
func TestSpendersOfOneBatch(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	p := newPurse(t, db, "a", "b", "c")
	ask := func(spends ...Spend) *item { return newItem([]Draft{draft(t, db, p.h, "spend")}, spends) }
	outcome := func(it *item) string {
		var spent *SpentError
		if errors.As(it.err, &spent) {
			return fmt.Sprintf("%s has %d", spent.Subject, spent.Left)
		}
		if it.err != nil {
			return it.err.Error()
		}
		return fmt.Sprint(it.left)
	}
	for _, batch := range []struct {
		what  string
		items []*item
		want  []string
	}{
		{"one asks for too much", []*item{ask(p.take("a", 2, 5)), ask(p.take("a", 9, 5)), ask(p.take("a", 3, 5))}, []string{"[3]", "a has 3", "[0]"}},
		{"each alone would do", []*item{ask(p.take("b", 4, 6)), ask(p.take("b", 4, 6)), ask(p.take("b", 2, 6))}, []string{"[2]", "b has 2", "[0]"}},
		{"one lacks another counter", []*item{ask(p.take("c", 1, 9), p.take("a", 1, 5)), ask(p.take("c", 9, 9)), ask()}, []string{"a has 0", "[0]", "[]"}},
		{"the limit differs", []*item{ask(p.take("a", 1, 6)), ask(p.take("a", 1, 7)), ask(p.take("a", 1, 8))}, []string{"[0]", "[0]", "[0]"}},
	} {
		together(t, db, batch.items...)
		for i, it := range batch.items {
			if got := outcome(it); got != batch.want[i] {
				t.Errorf("%s: %d: %s, want %s", batch.what, i, got, batch.want[i])
			}
		}
	}
	if n := count(logged(t, db, p.c), "test.spend"); n != 9 {
		t.Errorf("%d entries", n)
	}
}

// TestSpendExactly: 64 callers on two servers take from two counters; as many as fit succeed, and each is told another rest.
func TestSpendExactly(t *testing.T) {
	t.Parallel()
	one, pg := fresh(t)
	two := open(t, pg.URL)
	p := newPurse(t, one, "uses", "rate")
	const callers, times, limit = 64, 5, 100
	var mu sync.Mutex
	var left []int64
	refused := 0
	parallel(callers, func(i int) {
		db := []*DB{one, two}[i%2]
		for range times {
			r, err := p.spend(db, p.take("uses", 2, 2*limit), p.in("rate", 1, limit+7, time.Hour))
			mu.Lock()
			switch {
			case errors.As(err, new(*SpentError)):
				refused++
			case err != nil:
				t.Error(err)
			case r.Left[0] != 2*(r.Left[1]-7):
				t.Errorf("left are %v, which are not of one moment", r.Left)
			default:
				left = append(left, r.Left[0])
			}
			mu.Unlock()
		}
	})
	slices.Sort(left)
	for i, n := range left {
		if n != int64(2*i) {
			t.Fatalf("the rests are %v", left)
		}
	}
	if len(left) != limit || refused != callers*times-limit || count(logged(t, one, p.c), "test.spend") != limit {
		t.Errorf("%d succeeded and %d were refused of %d, want exactly %d; the log has %d", len(left), refused, callers*times, limit, count(logged(t, one, p.c), "test.spend"))
	}
}

// TestSpendOfNothing: a counter without a row lets nothing through, and keeps nobody waiting.
func TestSpendOfNothing(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	p := newPurse(t, db)
	if _, err := p.spend(db, p.take("nothing", 1, 9)); !problem.Is(err, problem.Unavailable) {
		t.Errorf("%v", err)
	}
	_, err := db.AppendLocked(t.Context(), []TenantID{p.c.Tenant()}, func() ([]Draft, []Spend, error) {
		return []Draft{draft(t, db, p.h, "spend")}, []Spend{p.take("nothing", 1, 9)}, nil
	})
	if !problem.Is(err, problem.Unavailable) {
		t.Errorf("under the lock: %v", err)
	}
	if n := count(logged(t, db, p.c), "test.spend"); n != 0 {
		t.Errorf("%d entries", n)
	}
}

// counterState is a counter, in the database or in the model.
type counterState struct{ period, used int64 }

// spendModel is what counters are to do, in a few lines.
type spendModel map[string]counterState

// spend is what becomes of an item: nothing, or the subject that refuses, what it has, and when it starts anew.
func (m spendModel) spend(now time.Time, spends []Spend) (left []int64, refusal string) {
	next := spendModel{}
	asked := map[string]int64{}
	for _, s := range spends {
		c, ok := next[s.Subject]
		if !ok {
			c = m[s.Subject]
			period, span := s.Period, int64(1)
			if s.Window > 0 {
				period, span = now.UnixMilli(), s.Window.Milliseconds()
			}
			if c.period+span <= period {
				c = counterState{period, 0}
			}
		}
		asked[s.Subject] += s.amount()
		next[s.Subject] = c
	}
	until, never := int64(0), false
	for _, s := range spends {
		c, takes := next[s.Subject], asked[s.Subject]
		if takes == 0 || c.used+takes <= s.Limit {
			continue
		}
		if refusal == "" {
			refusal = fmt.Sprint(s.Subject, " has ", max(s.Limit-c.used, 0))
		}
		until, never = max(until, c.period+s.Window.Milliseconds()), never || s.Window == 0 || takes > s.Limit
	}
	if refusal != "" && never {
		return nil, refusal + " until never"
	}
	if refusal != "" {
		return nil, fmt.Sprint(refusal, " until ", until)
	}
	for subject, c := range next {
		if c.used += asked[subject]; asked[subject] > 0 {
			m[subject] = c
		}
		next[subject] = c
	}
	for _, s := range spends {
		left = append(left, max(s.Limit-next[s.Subject].used, 0))
	}
	return left, ""
}

// TestSpendModel spends at random, on two servers whose clocks differ, and compares with the model.
func TestSpendModel(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, template)
	clocks := []*handClock{noon(), noon()}
	clocks[1].move(-3 * time.Second)
	servers := []*DB{openBy(t, pg, clocks[0]), openBy(t, pg, clocks[1])}
	subjects := []string{"uses", "month", "short", "long"}
	rapid.Check(t, func(rt *rapid.T) {
		p := newPurse(t, servers[0], subjects...)
		m := spendModel{}
		month := int64(24_000)
		rt.Repeat(map[string]func(*rapid.T){
			"tick": func(rt *rapid.T) {
				d := time.Duration(rapid.IntRange(0, 4000).Draw(rt, "milliseconds")) * time.Millisecond
				for _, c := range clocks {
					c.move(d)
				}
			},
			"month": func(*rapid.T) { month++ },
			"spend": func(rt *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(rt, "server")
				limits, behind := map[string]int64{}, rapid.Bool().Draw(rt, "behind") // one item does not ask by two limits, nor by two periods
				spends := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Spend {
					s := p.take(rapid.SampledFrom(subjects).Draw(rt, "subject"), int64(rapid.IntRange(0, 3).Draw(rt, "amount")), 0)
					if limits[s.Subject] == 0 {
						limits[s.Subject] = int64(rapid.IntRange(1, 8).Draw(rt, "limit"))
					}
					s.Limit, s.Look = limits[s.Subject], rapid.IntRange(0, 5).Draw(rt, "look") == 0
					switch s.Subject {
					case "month":
						if s.Period = month; behind {
							s.Period--
						}
					case "short":
						s.Window = 2 * time.Second
					case "long":
						s.Window = 7 * time.Second
					}
					return s
				}), 0, 4).Draw(rt, "spends")
				left, refusal := m.spend(clocks[i].now(), spends)
				r, err := p.spend(servers[i], spends...)
				got := ""
				var spent *SpentError
				if errors.As(err, &spent) {
					until := "never"
					if !spent.Anew.IsZero() {
						until = fmt.Sprint(spent.Anew.UnixMilli())
					}
					got = fmt.Sprint(spent.Subject, " has ", spent.Left, " until ", until)
				} else if err != nil {
					rt.Fatal(err)
				}
				if got != refusal || !slices.Equal(r.Left, left) {
					rt.Fatalf("server %d, spends %+v: %v left, %q; want %v, %q", i, spends, r.Left, got, left, refusal)
				}
			},
			"": func(rt *rapid.T) {
				for _, s := range subjects {
					if is := stored(t, servers[0], p.c, s); is != m[s] {
						rt.Fatalf("%s is %+v, want %+v", s, is, m[s])
					}
				}
			},
		})
	})
}

// TestSpendSubjects: a subject of every form is one counter.
func TestSpendSubjects(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	subjects := []string{"uses:" + strings.Repeat("k", 59), "rate:@0123456789abcdef:per_minute", "", "'; --", "é"}
	p := newPurse(t, db, subjects...)
	for i, s := range subjects {
		p.leaves(db, []int64{int64(9 - i)}, p.take(s, int64(i+1), 10))
	}
}
