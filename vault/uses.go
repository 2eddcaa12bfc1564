package vault

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Use is what the log says of one use of an item.
type Use struct {
	Seq     int64
	At      time.Time
	Item    ID
	By      Actor
	How     string // the actor was authenticated
	Type    string // "vault.code_given", "vault.secret_used", "vault.exported", ...
	Public  []audit.Field
	Private []audit.Field // from where; nil if the key of whom it is about was destroyed
}

// row is an entry of the log as it lies there.
type row struct {
	seq          int64
	body, sealed []byte
}

// mostUses is how many uses one page has.
const mostUses = 500

// Uses are the uses of an item since an instant, the newest first, from behind a number of the log unless that is 0: for who
// decides about the item, and for who may read the log. The read is in the log before it returns.
func (r *Room) Uses(ctx context.Context, c tenantdb.Caller, item ID, since time.Time, before int64, most int) (uses []Use, err error) {
	if err := need(c, "vault:read"); err != nil && !c.May("audit:read") {
		return nil, err
	}
	var rows []row
	var i *Item
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if i, err = readItem(ctx, tx, item); err != nil {
			return err
		}
		if !c.May("audit:read") {
			if err := decides(ctx, tx, i); err != nil {
				return err
			}
		}
		rows, err = readUses(ctx, tx, tenantdb.UsesOf(item), since, before, min(most, mostUses))
		if err == nil && i == nil { // what it was used for outlives it
			if was, bad := readLast(ctx, tx, item); bad != nil || was.entry.Type == "" {
				err = cmp.Or(bad, noItem())
			}
		}
		return err
	})
	if err == nil {
		uses, err = r.uses(ctx, c.Tenant(), rows)
	}
	if err != nil {
		return nil, wrapped("Uses", r.orNotManaged(ctx, c, i, err))
	}
	_, err = r.cfg.DB.Record(ctx, c, audit.Event{Type: "vault.uses_read", Target: audit.Target{Kind: tenantdb.VaultItem + "_uses", ID: item.String()}})
	return uses, wrapped("Uses", err)
}

// uses decodes entries and opens their private fields.
func (r *Room) uses(ctx context.Context, t tenantdb.TenantID, rows []row) ([]Use, error) {
	out := make([]Use, 0, len(rows))
	for _, v := range rows {
		e, err := audit.Decode(v.body)
		if err != nil {
			return nil, altered() // of the log, which the pass finds
		}
		item, err := ParseID(e.Target.ID)
		if err != nil {
			return nil, altered()
		}
		u := Use{Seq: v.seq, At: e.Time, Item: item, By: actorOf(e.Actor), How: e.How, Type: e.Type, Public: e.Public}
		for _, commitment := range e.Commitments {
			if commitment.Name != "private" || v.sealed == nil {
				continue
			}
			plain, err := r.cfg.Ring.OpenFields(ctx, t, commitment.Subject, v.sealed, e.ID[:])
			switch {
			case err == nil:
				u.Private, _ = audit.Reveal(plain, commitment.Sum)
			case !errors.Is(err, keyring.ErrDestroyed) && !errors.Is(r.unopened(err), errAltered): // the pass finds those
				return nil, r.unopened(err)
			}
		}
		out = append(out, u)
	}
	return out, nil
}

// Forget forgets which codes fetches got that nobody tries again.
func (r *Room) Forget(ctx context.Context, c tenantdb.Caller) error {
	err := r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error { return deleteFetched(ctx, tx, r.now().Add(-keepFetches)) })
	return wrapped("Forget", err)
}

// Check compares every item of the caller's organisation with the log, opens it, and tells of those that are another than the log says,
// or do not open. The error is of what could not be read.
func (r *Room) Check(ctx context.Context, c tenantdb.Caller) error {
	for from := (ID{}); ; {
		var bad, more map[ID]error
		var items []Item
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			if items, err = readItems(ctx, tx, from, 100); err == nil {
				bad, err = unvouched(ctx, tx, items)
			}
			if err == nil {
				_, _, more, err = granted(ctx, tx, items...)
			}
			return err
		})
		if err != nil {
			return wrapped("Check", err)
		}
		for k := range items {
			i := &items[k]
			err := cmp.Or(bad[i.ID], more[i.ID])
			if err == nil { // the log says nothing of how its key is wrapped
				err = r.opens(ctx, c.Tenant(), i)
			}
			if err = r.told(ctx, c.Tenant(), i.ID, err); err != nil && !errors.Is(err, errAltered) {
				return wrapped("Check", err)
			}
		}
		if len(items) < 100 {
			return nil
		}
		from = items[len(items)-1].ID
	}
}

// opens reports whether an item can be opened.
func (r *Room) opens(ctx context.Context, t tenantdb.TenantID, i *Item) error {
	if err := r.open(ctx, t, i, i.Version); err != nil {
		return err
	}
	held, err := r.reveal(ctx, t, i)
	held.clear()
	return err
}
