package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
)

// ReadTx is a read-only transaction that sees one tenant's rows, as of one instant.
type ReadTx struct {
	conn   *pgx.Conn
	caller Caller
}

// Query runs a query of the room's sql.go.
func (tx *ReadTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return tx.conn.Query(ctx, sql, args...)
}

// QueryRow runs a query that returns at most one row.
func (tx *ReadTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return tx.conn.QueryRow(ctx, sql, args...)
}

// Tenant is whose rows the transaction sees.
func (tx *ReadTx) Tenant() TenantID { return tx.caller.Tenant() }

// Caller is on whose behalf it runs.
func (tx *ReadTx) Caller() Caller { return tx.caller }

// Tx is a transaction that changes one tenant's rows. Its tenant's head is locked: nothing slow may happen in it.
type Tx struct {
	ReadTx
	db     *DB
	spends []Spend
}

// Spend takes from a counter with the entry of the change, or undoes the change: its error is *SpentError then, as that of AppendSpending.
func (tx *Tx) Spend(s Spend) { tx.spends = append(tx.spends, s) }

// Exec runs a statement and returns how many rows it touched.
func (tx *Tx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := tx.conn.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

// Read runs fn in a read-only transaction that sees the caller's tenant at one instant.
func (db *DB) Read(ctx context.Context, c Caller, fn func(*ReadTx) error) error {
	return db.read(ctx, db.pool, c, fn)
}

// ReadFresh is Read on connections of its own, for what decisions are made from: a decision that must be made again
// because of a change must not wait for a connection behind the next changes.
func (db *DB) ReadFresh(ctx context.Context, c Caller, fn func(*ReadTx) error) error {
	return db.read(ctx, db.fresh, c, fn)
}

func (db *DB) read(ctx context.Context, pool *pgxpool.Pool, c Caller, fn func(*ReadTx) error) error {
	if err := db.admit(ctx, c); err != nil {
		return err
	}
	conn, release, err := db.acquire(ctx, pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	if err := db.begin(ctx, conn.Conn(), "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", c, nil); err != nil {
		conn.Conn().Close(ctx)
		return unreachable(err)
	}
	err = fn(&ReadTx{conn.Conn(), c})
	bounded, cancel := context.WithTimeout(ctx, db.patience)
	defer cancel()
	if end := command(bounded, conn.Conn(), "ROLLBACK"); end != nil {
		conn.Conn().Close(context.WithoutCancel(ctx))
		return errors.Join(err, unreachable(end))
	}
	return err
}

// ReadRow is Read of one row with one statement, in one round trip: what every request pays for (who asks) should be
// cheap. scan gets pgx.ErrNoRows if there is no row; its error is returned as it is.
func (db *DB) ReadRow(ctx context.Context, c Caller, sql string, args []any, scan func(pgx.Row) error) error {
	if err := db.admit(ctx, c); err != nil {
		return err
	}
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	var found error
	err = db.begin(ctx, conn.Conn(), "BEGIN READ ONLY", c, func(b *pgx.Batch) {
		b.Queue(sql, args...).QueryRow(func(r pgx.Row) error {
			found = scan(r)
			return nil
		})
		b.Queue("ROLLBACK").Exec(answers("ROLLBACK"))
	})
	if err != nil {
		conn.Conn().Close(context.WithoutCancel(ctx))
		return unreachable(errors.Join(found, err))
	}
	return found
}

// answers insists on a command's own tag, see command.
func answers(want string) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		if tag.String() != want {
			return fmt.Errorf("%w: %s", errAnswer, tag)
		}
		return nil
	}
}

// admit asks the gate.
func (db *DB) admit(ctx context.Context, c Caller) error {
	if c.spec.keyless {
		return nil
	}
	return db.gate(ctx, c.Tenant())
}

// acquire takes a connection for as long as it takes until release. A caller may have no limit of time: when Close waits no
// longer, the connection is cut.
func (db *DB) acquire(ctx context.Context, pool *pgxpool.Pool) (conn *pgxpool.Conn, release func(), err error) {
	if conn, err = pool.Acquire(ctx); err != nil {
		return nil, nil, err
	}
	wire := conn.Conn().PgConn().Conn()
	stay := context.AfterFunc(db.life, func() { wire.Close() })
	return conn, func() { stay(); conn.Release() }, nil
}

func unreachable(err error) error {
	return problem.New(problem.Unavailable, "The database cannot be reached now, so nothing was done. Try again shortly.").Because(err)
}

// begin starts a transaction and binds it to the caller's tenant, with whatever more is queued, in one round trip.
func (db *DB) begin(ctx context.Context, conn *pgx.Conn, how string, c Caller, more func(*pgx.Batch)) error {
	ctx, cancel := context.WithTimeout(ctx, db.patience)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(how).Exec(answers("BEGIN"))
	b.Queue(setCallerSQL, c.Tenant().String(), c.RequestID().String())
	if more != nil {
		more(b)
	}
	return conn.SendBatch(ctx, b).Close()
}

// takeHead queues what gives a transaction its tenant's head, locked.
type takeHead func(b *pgx.Batch, t TenantID, head *Head)

func lockHead(b *pgx.Batch, t TenantID, head *Head) {
	b.Queue(lockHeadsSQL, []TenantID{t}, false).QueryRow(func(r pgx.Row) error {
		var size int64
		return r.Scan(&head.Tenant, &head.Log, &head.Epoch, &size)
	})
}

func insertHead(b *pgx.Batch, t TenantID, head *Head) {
	*head = Head{Tenant: t, Log: audit.NewLogID(), Epoch: Epoch(rand.Int64())}
	b.Queue(newHeadSQL, t, head.Log, head.Epoch)
}

// Change runs fn in a transaction that changes the caller's tenant, and appends the event that fn returns, in the same
// commit. The tenant's head is locked first, so that changes have an order and a decision that one of them could alter
// is not appended beside it. An error or an event without a type rolls back. When Change returns nil, the change and
// its entry are durable; when it returns an error, neither is there nor will be, unless it is problem.Uncertain, as
// after a loss of the database that lasted.
func (db *DB) Change(ctx context.Context, c Caller, fn func(*Tx) (audit.Event, error)) error {
	return db.changeMany(ctx, c, one(fn))
}

// ChangeAll is Change with any number of events, each an entry of its own: many things of one sort are changed together.
func (db *DB) ChangeAll(ctx context.Context, c Caller, fn func(*Tx) ([]audit.Event, error)) error {
	return db.changeMany(ctx, c, func(tx *Tx) ([]callerEvent, error) {
		events, err := fn(tx)
		out := make([]callerEvent, len(events))
		for i, ev := range events {
			out[i] = callerEvent{tx.caller, ev}
		}
		return out, err
	})
}

func (db *DB) changeMany(ctx context.Context, c Caller, fn func(*Tx) ([]callerEvent, error)) error {
	return db.attempt(ctx, c, lockHead, fn)
}

// Create makes the caller's tenant: a log and whatever else fn inserts, with the event that fn returns as first entry.
func (db *DB) Create(ctx context.Context, c Caller, fn func(*Tx) (audit.Event, error)) error {
	return db.attempt(ctx, c, insertHead, one(fn))
}

func (db *DB) attempt(ctx context.Context, c Caller, take takeHead, fn func(*Tx) ([]callerEvent, error)) error {
	if err := db.admit(ctx, c); err != nil {
		return err
	}
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	return db.settled(db.change(ctx, conn.Conn(), c, take, fn))
}

// callerEvent is an event and who caused it.
type callerEvent struct {
	caller Caller
	event  audit.Event
}

func one(fn func(*Tx) (audit.Event, error)) func(*Tx) ([]callerEvent, error) {
	return func(tx *Tx) ([]callerEvent, error) {
		ev, err := fn(tx)
		if err != nil || ev.Type == "" {
			return nil, err
		}
		return []callerEvent{{tx.caller, ev}}, nil
	}
}

// doubt is what must be looked for when the answer to COMMIT is not known.
type doubt struct {
	drafts []Draft
	floors map[TenantID]int64
	work   batchWork
}

// settled turns what change returned into the truth.
func (db *DB) settled(d *doubt, err error) error {
	if d == nil {
		return err
	}
	it := newItem(d.drafts, nil)
	if lost := db.resolve([]*item{it}, d.floors, err); lost != nil {
		return unavailable(lost)
	}
	return it.err
}

// change is one attempt. It returns a doubt only if COMMIT was sent and its answer is not known.
func (db *DB) change(ctx context.Context, conn *pgx.Conn, c Caller, take takeHead, fn func(*Tx) ([]callerEvent, error)) (*doubt, error) {
	var head Head
	if err := db.begin(ctx, conn, "BEGIN", c, func(b *pgx.Batch) { take(b, c.Tenant(), &head) }); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, problem.New(problem.Missing, "There is no such organisation.")
		}
		return nil, unreachable(err)
	}
	d := &doubt{floors: db.known([]TenantID{c.Tenant()})}
	tx := &Tx{ReadTx{conn, c}, db, nil}
	events, err := fn(tx)
	if err == nil && len(events) > 0 {
		d.drafts, err = db.appendIn(ctx, conn, &d.work, head, events, tx.spends)
	}
	if err != nil || len(events) == 0 {
		if end := command(context.WithoutCancel(ctx), conn, "ROLLBACK"); end != nil {
			conn.Close(context.WithoutCancel(ctx))
			if err != nil { // as it is of a connection that broke
				err = errors.Join(err, unreachable(end))
			}
		}
		return nil, err
	}
	if err = db.finish(ctx, conn); errors.Is(err, errUncertain) {
		return d, err
	}
	if err == nil { // not before: a size that is rolled back would hide what is appended next from who looks for it
		db.remember(&d.work)
	}
	return nil, err
}

// finish commits. The commit is sent even if the caller has gone: without it the outcome would be a guess.
func (db *DB) finish(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), db.patience)
	defer cancel()
	err := command(ctx, conn, "COMMIT")
	if err == nil && standbyCancelled(conn) {
		err = errors.New("the wait for a standby was cancelled")
	}
	if err == nil {
		return nil
	}
	conn.Close(ctx)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Severity == "ERROR" {
		return fmt.Errorf("tenantdb.Change: %w", err) // rolled back: a deferred constraint spoke
	}
	return fmt.Errorf("%w: %w", errUncertain, err)
}

func (db *DB) appendIn(ctx context.Context, conn *pgx.Conn, w *batchWork, head Head, events []callerEvent, spends []Spend) ([]Draft, error) {
	drafts := make([]Draft, len(events))
	for i, e := range events {
		d, err := db.Draft(ctx, e.caller, head, e.event)
		if err != nil {
			return nil, err
		}
		drafts[i] = d
		if e.event.Alters {
			w.moves = true
		}
	}
	it := newItem(drafts, spends)
	w.build([]*item{it}, db.now())
	if err := db.exec(ctx, conn, w); err != nil {
		return nil, fmt.Errorf("tenantdb.Change: %w", err)
	}
	if err := w.outcome([]*item{it}); err != nil || it.err != nil {
		return nil, fmt.Errorf("tenantdb.Change: %w", errors.Join(err, it.err))
	}
	return drafts, nil
}

// Note writes to the few tables whose changes need no entry (the catalogue's exceptions): an answer kept for a retry, a
// time last used. It takes no head. A change of any other table is refused at its commit.
func (db *DB) Note(ctx context.Context, c Caller, fn func(*Tx) error) error {
	if err := db.admit(ctx, c); err != nil {
		return err
	}
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	if err := db.begin(ctx, conn.Conn(), "BEGIN", c, nil); err != nil {
		conn.Conn().Close(context.WithoutCancel(ctx))
		return unreachable(err)
	}
	if err := fn(&Tx{ReadTx{conn.Conn(), c}, db, nil}); err != nil {
		if end := command(context.WithoutCancel(ctx), conn.Conn(), "ROLLBACK"); end != nil {
			conn.Conn().Close(context.WithoutCancel(ctx))
		}
		return err
	}
	if err := db.finish(ctx, conn.Conn()); errors.Is(err, errUncertain) {
		return unknown(err)
	} else if err != nil {
		return unavailable(err)
	}
	return nil
}
