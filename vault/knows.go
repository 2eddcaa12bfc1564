package vault

import (
	"context"
	"slices"

	"github.com/avouch-dev/avouch/tenantdb"
)

// knows says of which items a caller knows the secret, or may: who put it in, and who could export it now. A right to its codes, or to
// decide about it, is none to try what it is: an import says which of ten thousand guesses is there.
func (r *Room) knows(ctx context.Context, tx *tenantdb.ReadTx, v *sight, all []Item) (map[ID]bool, error) {
	items := slices.DeleteFunc(slices.Clone(all), func(i Item) bool { return !v.uses(&i) })
	bad, err := unvouched(ctx, tx, items)
	if err != nil {
		return nil, err
	}
	items = slices.DeleteFunc(items, func(i Item) bool { return bad[i.ID] != nil })
	asker, makers := actorOf(v.c.Actor()), make([]Actor, len(items))
	for k := range items {
		if makers[k] = items[k].Creator; items[k].secretVersion == 1 {
			continue
		}
		if makers[k], err = putIn(ctx, tx, &items[k]); err != nil {
			return nil, err
		}
	}
	me, err := r.self(ctx, tx, asker, makers)
	if err != nil {
		return nil, err
	}
	known := map[ID]bool{}
	for k := range items {
		known[items[k].ID] = me[makers[k]]
	}
	if asker.Kind != APerson {
		return known, nil
	}
	items = slices.DeleteFunc(items, func(i Item) bool { return known[i.ID] || v.granted[i.ID] != ForSeed && !v.lent[i.ID] })
	exportable, err := r.exportables(ctx, tx, items)
	for _, i := range exportable {
		known[i] = true
	}
	return known, err
}

// exportables are those of some items that the transaction's caller, a person, could export now, if they prove themselves.
func (r *Room) exportables(ctx context.Context, tx *tenantdb.ReadTx, items []Item) (ids []ID, err error) {
	if len(items) == 0 {
		return nil, nil
	}
	grants, lent, bad, err := granted(ctx, tx, items...)
	if err != nil {
		return nil, err
	}
	f := &facts{now: r.now(), asker: actorOf(tx.Caller().Actor()), address: tx.Caller().Address()}
	if f.groups, err = readGroups(ctx, tx, f.asker.ID); err != nil {
		return nil, err
	}
	byItem, lentOf := map[ID][]Grant{}, map[ID][]Request{}
	for _, g := range grants {
		byItem[g.Item] = append(byItem[g.Item], g)
	}
	for _, q := range lent {
		lentOf[q.Item] = append(lentOf[q.Item], q)
	}
	for k := range items {
		i := &items[k]
		f.item, f.grants, f.requests = i, byItem[i.ID], lentOf[i.ID]
		if bad[i.ID] == nil && judge(f, ForSeed) == nil {
			ids = append(ids, i.ID)
		}
	}
	return ids, nil
}
