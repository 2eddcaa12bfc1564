package tenantdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/avouch-dev/avouch/audit"
)

// errRetry says that an item was not appended for want of room in its batch's counter, though some is left.
var errRetry = errors.New("try again in the next batch")

// mostTries is how often an item may lose a counter to other servers.
const mostTries = 16

// errUncertain says that a statement was sent and its outcome is not known.
var errUncertain = errors.New("outcome unknown")

// batchWork is what it takes to send a batch, kept between batches.
type batchWork struct {
	params   batchParams
	nonce    int64
	tenants  []TenantID
	floors   map[TenantID]int64 // sizes that their logs had before the batch was sent
	counters []counterAsk
	rows     []batchRow
	moves    bool // whether the batch gives its tenants new epochs
	shared   bool // whether others append to these logs too, once the batch is answered
}

type counterAsk struct {
	spend  Spend // of any amount
	left   int64 // what the database said was left, once it has answered
	period int64 // which the counter is in, then
	locked bool
}

// anew is when the counter's window ends.
func (c counterAsk) anew() time.Time {
	if c.spend.Window == 0 || !c.locked {
		return time.Time{}
	}
	return time.UnixMilli(c.period).Add(c.spend.Window)
}

// told is what a spender learns of the counter: that less than nothing is left, after its limit was lowered, is nothing to it.
func (c counterAsk) told() int64 {
	if !c.locked {
		return Unknown
	}
	return max(c.left, 0)
}

func (w *batchWork) build(batch []*item, now time.Time) {
	w.nonce = rand.Int64()
	w.params.reset(w.nonce)
	w.tenants, w.counters = w.tenants[:0], w.counters[:0]
	for _, it := range batch {
		for i := range it.drafts {
			if t := it.drafts[i].head.Tenant; !slices.Contains(w.tenants, t) {
				w.tenants = append(w.tenants, t)
			}
		}
	}
	slices.SortFunc(w.tenants, func(a, b TenantID) int { return bytes.Compare(a[:], b[:]) })
	a := &w.params.arrays
	for _, t := range w.tenants {
		a[pTenant].bytes(t[:])
		a[pMoves].bool(w.moves)
	}
	for n, it := range batch {
		for i := range it.drafts {
			w.add(n, &it.drafts[i])
		}
		for _, s := range it.spends {
			a[pSpendItem].int32(int32(n))
			a[pSpendCounter].int32(int32(w.counter(s) + 1))
			a[pSpendAmount].int64(s.amount())
		}
	}
	for _, c := range w.counters {
		a[pCounterTenant].int32(int32(w.index(c.spend.Tenant) + 1))
		a[pCounterSubject].text(c.spend.Subject)
		period, window := c.spend.Period, int64(1)
		if c.spend.Window > 0 {
			period, window = now.UnixMilli(), c.spend.Window.Milliseconds()
		}
		a[pCounterPeriod].int64(period)
		a[pCounterWindow].int64(window)
		a[pCounterLimit].int64(c.spend.Limit)
	}
}

func (w *batchWork) add(n int, d *Draft) {
	a := &w.params.arrays
	a[pItem].int32(int32(n))
	a[pIndex].int32(int32(w.index(d.head.Tenant) + 1))
	a[pEpoch].int64(int64(d.head.Epoch))
	a[pEntry].bytes(d.entry[:])
	a[pRequest].bytes(d.request[:])
	a[pBody].bytes(d.body)
	a[pSealed].bytes(d.sealed)
	a[pAbout].bytes(d.about[:])
	a[pPerson].bytes(d.person[:])
}

func (w *batchWork) index(t TenantID) int {
	i, _ := slices.BinarySearchFunc(w.tenants, t, func(a, b TenantID) int { return bytes.Compare(a[:], b[:]) })
	return i
}

// counter is the place of a spend among the batch's counters. Of spends of one counter that differ in limit, period or
// window, one gets it and the others are tried again.
func (w *batchWork) counter(s Spend) int {
	s.Amount, s.Look = 0, false
	i := slices.IndexFunc(w.counters, func(c counterAsk) bool { return c.spend == s })
	if i < 0 {
		i = len(w.counters)
		w.counters = append(w.counters, counterAsk{spend: s})
	}
	return i
}

// commit appends a batch and sets every item's outcome. It returns errHeld, and nothing is appended, if a head was
// locked for too long.
func (db *DB) commit(ctx context.Context, pool *pgxpool.Pool, w *batchWork, batch []*item) error {
	start := time.Now()
	w.build(batch, db.now())
	w.floors = db.known(w.tenants)
	err := db.send(ctx, pool, w)
	if err == nil {
		if err = w.outcome(batch); err == nil {
			db.remember(w)
			db.observe(batch, time.Since(start))
			return nil
		}
	}
	if errors.Is(err, errHeld) {
		return err
	}
	if errors.Is(err, errUncertain) || errors.Is(err, errAnswer) {
		db.log.WarnContext(ctx, "append: outcome unknown, settling", "entries", len(batch), "cause", err)
		err = db.resolve(batch, w.floors, err)
	}
	if err != nil {
		for _, it := range batch {
			it.err = unavailable(err)
		}
	}
	return nil
}

// send runs the batch's statement as a transaction of its own. Any error ends the connection: an answer to this
// statement that comes later must not be read as the answer to the next.
func (db *DB) send(ctx context.Context, pool *pgxpool.Pool, w *batchWork) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), db.patience)
	defer cancel()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("tenantdb: connect: %w", err)
	}
	defer conn.Release()
	if err = db.exec(ctx, conn.Conn(), w); err != nil {
		conn.Conn().Close(ctx)
	}
	return err
}

func (db *DB) exec(ctx context.Context, conn *pgx.Conn, w *batchWork) error {
	if _, err := conn.Prepare(ctx, "append", db.appendSQL); err != nil {
		return fmt.Errorf("tenantdb: prepare: %w", err)
	}
	rr := conn.PgConn().ExecPrepared(ctx, "append", w.params.values(), binaryFormat, binaryFormat)
	var err error
	w.rows, err = readBatch(rr, w.nonce, w.rows)
	if err == nil && standbyCancelled(conn) {
		err = errors.New("the wait for a standby was cancelled")
	}
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Severity == "ERROR" {
		if pg.Code == "55P03" { // lock_not_available
			return errHeld
		}
		return err // the server has said that it rolled back
	}
	return fmt.Errorf("%w: %w", errUncertain, err)
}

// outcome sets what became of each item from the rows that came back. It returns an error if they do not add up, which
// means that they are not the truth about this batch.
func (w *batchWork) outcome(batch []*item) error {
	heads := make([]lockedHead, len(w.tenants))
	for _, r := range w.rows {
		switch {
		case r.counter && r.index >= 0 && r.index < len(w.counters):
			c := &w.counters[r.index]
			c.locked, c.left, c.period = true, r.b-r.a, r.n
		case !r.counter && r.index >= 0 && r.index < len(heads):
			heads[r.index] = lockedHead{true, Epoch(r.a), r.b, r.n}
		default:
			return errAnswer
		}
	}
	spent := w.spent(batch)
	written := make([]int64, len(w.tenants))
	for _, it := range batch {
		if it.err = w.verdict(it, heads, spent); it.err != nil {
			continue
		}
		it.pos, it.left = it.pos[:0], it.left[:0]
		for _, s := range it.spends {
			w.counters[w.counter(s)].left -= s.amount()
		}
		for _, s := range it.spends { // once all are taken: two may take from one counter
			it.left = append(it.left, w.counters[w.counter(s)].told())
		}
		for i := range it.drafts {
			d := &it.drafts[i]
			t := w.index(d.head.Tenant)
			it.pos = append(it.pos, Position{Log: d.head.Log, Seq: audit.Seq(heads[t].size + written[t]), Leaf: d.leaf})
			written[t]++
		}
	}
	for i, h := range heads {
		if h.written != written[i] {
			return fmt.Errorf("%w: %d entries written where %d were expected", errAnswer, h.written, written[i])
		}
	}
	return nil
}

// spent says for each counter whether the batch asked for more than was left.
func (w *batchWork) spent(batch []*item) []bool {
	asked := make([]int64, len(w.counters))
	for _, it := range batch {
		for _, s := range it.spends {
			asked[w.counter(s)] += s.amount()
		}
	}
	spent := make([]bool, len(w.counters))
	for i, c := range w.counters {
		spent[i] = !c.locked || asked[i] > c.left
	}
	return spent
}

// takes is how much an item takes from a counter in all.
func (w *batchWork) takes(it *item, counter int) (sum int64) {
	for _, s := range it.spends {
		if w.counter(s) == counter {
			sum += s.amount()
		}
	}
	return sum
}

// lockedHead is a head as the statement found it.
type lockedHead struct {
	found         bool
	epoch         Epoch
	size, written int64
}

func (w *batchWork) verdict(it *item, heads []lockedHead, spent []bool) error {
	var stale []Head
	for i := range it.drafts {
		h := it.drafts[i].head
		switch r := heads[w.index(h.Tenant)]; {
		case !r.found:
			return unavailable(errors.New("the tenant has no log"))
		case r.epoch != h.Epoch:
			stale = append(stale, Head{h.Tenant, h.Log, r.epoch})
		}
	}
	if stale != nil {
		return &StaleError{stale}
	}
	return w.retry(it, spent)
}

// retry says what becomes of an item of which some counter cannot serve all who ask in this batch: it is refused if there
// was too little for it alone, and else tried again. Whoever comes first gets what is left, next time. Who only looks is
// never refused.
func (w *batchWork) retry(it *item, spent []bool) error {
	var refused *SpentError
	again, never := false, false
	for _, s := range it.spends {
		c := w.counter(s)
		takes := w.takes(it, c)
		if !spent[c] || takes == 0 {
			continue
		}
		again = true
		k := w.counters[c]
		if !k.locked || k.left >= takes {
			continue
		}
		anew := k.anew()
		if refused == nil {
			refused = &SpentError{Spend: s, Left: max(k.left, 0)}
		}
		if anew.After(refused.Anew) {
			refused.Anew = anew
		}
		never = never || anew.IsZero() || takes > s.Limit
	}
	switch {
	case refused != nil && never:
		refused.Anew = time.Time{}
		return refused
	case refused != nil:
		return refused
	case !again:
		return nil
	}
	if it.tries++; it.tries > mostTries {
		return unavailable(errors.New("others were faster each time"))
	}
	for _, s := range it.spends {
		if c := w.counter(s); spent[c] {
			w.counters[c].left -= s.amount()
		}
	}
	return errRetry
}
