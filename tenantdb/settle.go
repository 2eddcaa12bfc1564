package tenantdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
)

// settleFor bounds how long the outcome of a statement is asked for before its callers are told that it is unknown.
const settleFor = 30 * time.Second

// resolve finds out what became of a batch whose answer was lost, and sets its items' outcomes. What it cannot find is
// not in the log and never will be.
func (db *DB) resolve(batch []*item, floors map[TenantID]int64, cause error) error {
	var drafts []*Draft
	for _, it := range batch {
		for i := range it.drafts {
			drafts = append(drafts, &it.drafts[i])
		}
	}
	found, err := db.settle(drafts, floors)
	if err != nil {
		return unknown(errors.Join(cause, err))
	}
	for _, it := range batch {
		it.err, it.pos, it.left = nil, it.pos[:0], it.left[:0]
		for i := range it.drafts {
			d := &it.drafts[i]
			seq, ok := found[d.entry]
			if !ok {
				it.err = unavailable(cause)
				break
			}
			it.pos = append(it.pos, Position{Log: d.head.Log, Seq: seq, Leaf: d.leaf})
		}
	}
	return nil
}

// unknown is the failure of what may have been done, or may yet be.
func unknown(why error) error {
	return (&problem.Error{
		Kind: problem.Unavailable, RetryAfter: time.Second, Uncertain: true,
		Detail: "The audit log has not said whether this was done: it may be, or may yet be. Look, or send it again with the same Idempotency-Key if it had one.",
	}).Because(why)
}

// settle looks drafts up by their entry ids, after making sure that none of them can be appended any more. Its order is
// its argument: locking the heads waits for a backend that still commits the statement in doubt; new epochs refuse the
// statement if it is yet to begin; the search begins at a size from before the statement was sent, since others may have
// appended after it; and its own commit is a barrier, durable (on the standbys too, where there are
// synchronous ones) only after everything that it saw. If that commit's own outcome is unknown, it all begins again, until
// a bound: settleFor, or Close.
func (db *DB) settle(drafts []*Draft, floors map[TenantID]int64) (map[audit.EntryID]audit.Seq, error) {
	ctx, cancel := context.WithTimeout(db.life, settleFor)
	defer cancel()
	db.forget(drafts)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		found, err := db.settleOnce(ctx, drafts, floors)
		if err == nil {
			return found, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("tenantdb: settle: %w", errors.Join(err, ctx.Err()))
		}
	}
}

func (db *DB) settleOnce(ctx context.Context, drafts []*Draft, floors map[TenantID]int64) (map[audit.EntryID]audit.Seq, error) {
	byTenant := map[TenantID][]audit.EntryID{}
	var tenants []TenantID
	for _, d := range drafts {
		if byTenant[d.head.Tenant] == nil {
			tenants = append(tenants, d.head.Tenant)
		}
		byTenant[d.head.Tenant] = append(byTenant[d.head.Tenant], d.entry)
	}
	slices.SortFunc(tenants, func(a, b TenantID) int { return bytes.Compare(a[:], b[:]) })
	conn, release, err := db.acquire(ctx, db.waiting)
	if err != nil {
		return nil, err
	}
	defer release()
	found, err := settleIn(ctx, conn.Conn(), tenants, byTenant, floors)
	if err == nil && standbyCancelled(conn.Conn()) {
		err = errors.New("the wait for a standby was cancelled")
	}
	if err != nil {
		conn.Conn().Close(ctx)
	}
	return found, err
}

func settleIn(ctx context.Context, conn *pgx.Conn, tenants []TenantID, ids map[TenantID][]audit.EntryID, floors map[TenantID]int64) (map[audit.EntryID]audit.Seq, error) {
	if err := command(ctx, conn, "BEGIN"); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, lockHeadsSQL, tenants, true)
	if err != nil {
		return nil, err
	}
	heads, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (t TenantID, err error) {
		var log audit.LogID
		var epoch, size int64
		err = r.Scan(&t, &log, &epoch, &size)
		return t, err
	})
	if err != nil {
		return nil, err
	}
	found := map[audit.EntryID]audit.Seq{}
	for _, t := range heads {
		rows, err := conn.Query(ctx, findEntriesSQL, t, floors[t], ids[t])
		if err != nil {
			return nil, err
		}
		var seq audit.Seq
		var entry audit.EntryID
		if _, err := pgx.ForEachRow(rows, []any{&entry, &seq}, func() error {
			found[entry] = seq
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return found, command(ctx, conn, "COMMIT")
}

// command runs a transaction command and insists on its own tag in the answer: a reply that was sent twice would
// otherwise answer the next command.
func command(ctx context.Context, conn *pgx.Conn, sql string) error {
	tag, err := conn.Exec(ctx, sql)
	if err != nil {
		return fmt.Errorf("tenantdb: %s: %w", sql, err)
	}
	if word, _, _ := strings.Cut(sql, " "); tag.String() != word {
		return fmt.Errorf("tenantdb: %s: %w: %s", sql, errAnswer, tag)
	}
	return nil
}
