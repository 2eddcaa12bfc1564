package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// StaleError says that a change which can alter the decision has committed since: load the rules anew and decide again.
type StaleError struct{ Heads []Head }

// Error says how many tenants have moved on.
func (e *StaleError) Error() string {
	return fmt.Sprintf("decided at an old epoch of %d tenant(s)", len(e.Heads))
}

// SpentError says that less is left of a counter than a spend takes: of the first of them, if there are several.
type SpentError struct {
	Spend
	Left int64
	Anew time.Time // when the windows of all such counters have ended; zero if one of them has none, or can never serve this
}

// Error names the counter.
func (e *SpentError) Error() string { return "spent: " + e.Subject }

// errPanic says that a commit ended in a panic, so that nobody knows what became of it.
var errPanic = errors.New("the commit panicked")

// errHeld says that another transaction holds a head for longer than the lane waits.
var errHeld = errors.New("head is held")

// unavailable is the failure of what was not done, unless the reason is that nobody knows.
func unavailable(why error) error {
	if problem.Uncertain(why) {
		return why
	}
	return (&problem.Error{
		Kind: problem.Unavailable, Detail: "The audit log cannot take this now, so nothing was done. Try again shortly.", RetryAfter: time.Second,
	}).Because(why)
}

// item is a set of entries that are appended all or none, and who waits for it.
type item struct {
	drafts []Draft
	spends []Spend
	pos    []Position
	left   []int64
	err    error
	tries  int
	done   chan struct{}
}

// errNoOutcome is the outcome of what no path gave one: only a returned row makes an item committed.
var errNoOutcome = errors.New("no outcome")

func newItem(drafts []Draft, spends []Spend) *item {
	return &item{drafts: drafts, spends: spends, err: errNoOutcome, done: make(chan struct{})}
}

func (it *item) receipt() Receipt { return Receipt{it.pos, it.left} }

func (it *item) finish(err error) {
	it.err = err
	close(it.done)
}

func (it *item) touches(t TenantID) bool {
	return slices.ContainsFunc(it.drafts, func(d Draft) bool { return d.head.Tenant == t })
}

func (it *item) touchesOnly(tenants []TenantID) bool {
	return !slices.ContainsFunc(it.drafts, func(d Draft) bool { return !slices.Contains(tenants, d.head.Tenant) })
}

const (
	queueLength  = 8192
	batchEntries = 1024
	batchBytes   = 256 << 10
	// A batch of so many items is lingered after, for as long as it took but no longer than this.
	lingerFrom = 12
	lingerMost = 3 * time.Millisecond
	lingerStep = 100 * time.Microsecond
	// The lane waits this long for a held head before it lets that tenant wait beside, and there it waits this long.
	laneLockTimeout   = "25ms"
	besideLockTimeout = "4s"
	answerTimeout     = 6 * time.Second
)

// lane gathers what arrives while the previous batch commits and commits it with one statement. There is one in a
// process: two would only take the same locks from each other. Whoever finds it idle commits at once, by himself and for
// those who came meanwhile; while many come, run does it for all.
type lane struct {
	db      *DB
	queue   chan *item
	waiting atomic.Int64 // how many are in the queue, but for those who are just about to be counted
	// driving is true while somebody commits. Whoever sets it to false looks at waiting afterwards, and wakes run if anybody
	// is: who counted himself and then found it true relies on that.
	driving atomic.Bool
	wake    chan struct{}
	// retry holds items that lost a counter to others of their batch; they go next, alone.
	retry  []*item
	beside beside
	work   batchWork
}

func newLane(db *DB) *lane {
	ln := &lane{db: db, queue: make(chan *item, queueLength), wake: make(chan struct{}, 1)}
	ln.beside.init(db)
	return ln
}

// put hands an item to the lane and waits for its outcome. A full queue refuses at once.
func (ln *lane) put(ctx context.Context, drafts []Draft, spends []Spend) (Receipt, error) {
	it := newItem(drafts, spends)
	select {
	case ln.queue <- it:
		ln.waiting.Add(1)
	default:
		return Receipt{}, unavailable(errors.New("queue full"))
	}
	if !ln.db.closed.Load() { // of a closed door, Close refuses what waits
		ln.drive(ln.turn)
	}
	select {
	case <-it.done:
		return it.receipt(), it.err
	case <-ctx.Done():
		// The entry may still be appended: an entry without an answer is allowed, an answer without an entry is not.
		return Receipt{}, unknown(context.Cause(ctx))
	}
}

// drive has the lane driven by the caller, unless somebody does already.
func (ln *lane) drive(commit func()) {
	if !ln.driving.CompareAndSwap(false, true) {
		return
	}
	defer func() { // also if it panics: whoever serves the request may catch that
		ln.driving.Store(false)
		if ln.waiting.Load() > 0 {
			select {
			case ln.wake <- struct{}{}:
			default: // is awake already
			}
		}
	}()
	commit()
}

func (ln *lane) run(ctx context.Context) {
	for {
		select {
		case <-ln.wake:
		case <-ctx.Done():
			return
		}
		ln.drive(func() {
			for ctx.Err() == nil && ln.waiting.Load() > 0 {
				n, start := ln.waiting.Load(), time.Now()
				ln.turn()
				ln.linger(n, time.Since(start))
			}
		})
	}
}

// linger waits for those whom a large batch has answered, if another server appends to the same logs. Under load they ask
// again at once; without them the next batch would carry half of what it might, and the servers wait for each other's
// commits twice as often. This one has the turn of the other to wait in.
func (ln *lane) linger(n int64, took time.Duration) {
	if n < lingerFrom || !ln.work.shared {
		return
	}
	most := (n + ln.waiting.Load()) * 9 / 10
	for end := time.Now().Add(min(took, lingerMost)); ln.waiting.Load() < most && time.Now().Before(end); {
		time.Sleep(lingerStep)
	}
}

// turn commits one batch, and what that left to be tried again.
func (ln *lane) turn() {
	for again := true; again; again = len(ln.retry) > 0 {
		if batch := ln.beside.divert(ln.gather()); len(batch) > 0 {
			ln.route(context.Background(), batch, ln.commit(batch))
		}
	}
}

func (ln *lane) commit(batch []*item) error {
	ended := false
	defer func() {
		if ended {
			return
		}
		for _, it := range batch { // it panics, and others than the one who is told of that wait too
			it.finish(unknown(errPanic))
		}
	}()
	err := ln.db.commit(context.Background(), ln.db.lanes, &ln.work, batch)
	ended = true
	return err
}

// gather takes what waits, up to a batch's size; what is to be tried again goes alone, so that it comes to an end.
func (ln *lane) gather() []*item {
	if batch := ln.retry; len(batch) > 0 {
		ln.retry = nil
		return batch
	}
	var batch []*item
	entries, size := 0, 0
	for entries < batchEntries && size < batchBytes {
		it := ln.take()
		if it == nil {
			break
		}
		batch = append(batch, it)
		entries += len(it.drafts)
		for i := range it.drafts {
			size += it.drafts[i].size()
		}
	}
	return batch
}

// take takes one out of the queue, nil if it is empty.
func (ln *lane) take() *item {
	select {
	case it := <-ln.queue:
		ln.waiting.Add(-1)
		return it
	default:
		return nil
	}
}

// route sends on what a batch left undone.
func (ln *lane) route(ctx context.Context, batch []*item, err error) {
	if errors.Is(err, errHeld) {
		free := ln.db.freeHeads(ctx, ln.work.tenants)
		for _, it := range batch {
			if it.touchesOnly(free) {
				ln.retry = append(ln.retry, it)
			} else {
				ln.beside.take(it)
			}
		}
		return
	}
	for _, it := range batch {
		if errors.Is(it.err, errRetry) {
			ln.retry = append(ln.retry, it)
			continue
		}
		it.finish(it.err)
	}
}
