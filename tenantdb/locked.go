package tenantdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// decisionTries is how often a decision may lose to changes before it takes the heads for itself.
const decisionTries = 8

// Decide appends what decide drafts from tenants as they are. If a change came between, it decides anew, and in the end with their
// heads in hand: who changes all the time keeps nobody else from being recorded. decide may find that itself, by a StaleError. Errors are
// those of decide and of AppendSpending, but for that.
func (db *DB) Decide(ctx context.Context, tenants []TenantID, decide func() ([]Draft, []Spend, error)) (Receipt, error) {
	for range decisionTries {
		drafts, spends, err := decide()
		var r Receipt
		if err == nil {
			r, err = db.AppendSpending(ctx, drafts, spends...)
		}
		if !errors.As(err, new(*StaleError)) {
			return r, err
		}
	}
	return db.AppendLocked(ctx, tenants, decide)
}

// AppendLocked is Append for a decision that has lost to changes several times in a row: it holds the tenants' heads
// while decide runs, so that no change can come between. It costs every other writer of those tenants the wait, and
// idle_in_transaction_session_timeout bounds it.
func (db *DB) AppendLocked(ctx context.Context, tenants []TenantID, decide func() ([]Draft, []Spend, error)) (Receipt, error) {
	slices.SortFunc(tenants, func(a, b TenantID) int { return bytes.Compare(a[:], b[:]) })
	// A tenant that changes all the time must not take the connections that others wait on.
	select {
	case db.locking <- struct{}{}:
		defer func() { <-db.locking }()
	case <-ctx.Done():
		return Receipt{}, unavailable(context.Cause(ctx))
	}
	floors := db.known(tenants)
	it, err := db.holding(ctx, slices.Compact(tenants), decide)
	if errors.Is(err, errUncertain) { // the connection is free again: settling takes one of the same
		if lost := db.resolve([]*item{it}, floors, err); lost != nil {
			return Receipt{}, unavailable(lost)
		}
		err = nil
	}
	if err != nil {
		return Receipt{}, err
	}
	return it.receipt(), it.err
}

// errNoCounter says that a spend is from a counter that has no row, or from one that it asks for by two limits.
var errNoCounter = errors.New("no such counter")

// mostLocking is how many decisions are made at once with heads in hand.
const mostLocking = 2

func (db *DB) holding(ctx context.Context, tenants []TenantID, decide func() ([]Draft, []Spend, error)) (*item, error) {
	conn, release, err := db.acquire(ctx, db.waiting)
	if err != nil {
		return nil, unreachable(err)
	}
	defer release()
	it, err := db.appendLocked(ctx, conn.Conn(), tenants, decide)
	if err != nil && !errors.Is(err, errUncertain) {
		if end := command(context.WithoutCancel(ctx), conn.Conn(), "ROLLBACK"); end != nil {
			conn.Conn().Close(context.WithoutCancel(ctx))
		}
	}
	return it, err
}

func (db *DB) appendLocked(ctx context.Context, conn *pgx.Conn, tenants []TenantID, decide func() ([]Draft, []Spend, error)) (*item, error) {
	if err := command(ctx, conn, "BEGIN"); err != nil {
		return nil, unreachable(err)
	}
	if _, err := conn.Exec(ctx, lockHeadsSQL, tenants, false); err != nil {
		return nil, unreachable(err)
	}
	drafts, spends, err := decide()
	if err != nil {
		return nil, err
	}
	it := newItem(drafts, spends)
	var w batchWork
	w.build([]*item{it}, db.now())
	if err := db.exec(ctx, conn, &w); err != nil {
		return nil, unavailable(errors.New(err.Error())) // not in doubt: nothing was committed
	}
	if err := w.outcome([]*item{it}); err != nil {
		return nil, unavailable(err)
	}
	if errors.Is(it.err, errRetry) { // nobody else is in this batch, so again would be no better
		return nil, unavailable(errNoCounter)
	}
	if it.err != nil {
		return nil, it.err
	}
	if err := db.finish(ctx, conn); err != nil {
		return it, fmt.Errorf("tenantdb.AppendLocked: %w", err)
	}
	return it, nil
}
