package vault

import (
	"bytes"
	"context"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The entries of an item that is kept, of one whose secret is another, and of one that is gone.
const (
	added    = "vault.item_added"
	replaced = "vault.secret_replaced"
	deleted  = "vault.item_deleted"
)

// Wanted is an item to be kept.
type Wanted struct {
	Kind    Kind
	About   About
	Policy  Policy
	Listed  bool
	Counter int64 // of the next code, for HOTP

	content content
	taken   []int32 // recovery codes that were used before
}

// mostItemsOf is how many items an organisation keeps.
const mostItemsOf = 200_000

// Add keeps an item. Whoever adds it may have its codes: they had more.
func (r *Room) Add(ctx context.Context, c tenantdb.Caller, n Wanted) (Item, error) {
	items, err := r.addAll(ctx, c, []Wanted{n})
	if err != nil {
		return Item{}, wrapped("Add", err)
	}
	return items[0], nil
}

// addAll keeps items, all or none.
func (r *Room) addAll(ctx context.Context, c tenantdb.Caller, all []Wanted) ([]Item, error) {
	if err := need(c, "vault:write"); err != nil {
		return nil, err
	}
	items := make([]Item, len(all))
	for k := range all {
		i, err := r.made(ctx, c, &all[k])
		if err != nil {
			return nil, err
		}
		items[k] = i
	}
	err := r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if err := r.cfg.People.StillHolds(ctx, &tx.ReadTx, "vault:write"); err != nil {
			return nil, err
		}
		n, err := countItems(ctx, &tx.ReadTx)
		if err != nil {
			return nil, err
		}
		if n+len(items) > mostItemsOf {
			return nil, problem.New(problem.Conflict, "A vault keeps at most %d items.", mostItemsOf)
		}
		if err := r.keepsWayIn(ctx, &tx.ReadTx, items); err != nil {
			return nil, err
		}
		return keep(ctx, tx, items)
	})
	return items, r.tellOfSeed(ctx, c, err)
}

// check says what is wrong with an item that is to be kept.
func (n *Wanted) check() *wrong {
	w := &wrong{}
	n.About.tidy()
	n.About.check(w)
	n.content.check(n.Kind, w)
	n.Policy.check(n.Kind, w)
	n.content.usable(&n.Policy, w)
	checkCounter(n.Kind, n.Counter, w)
	return w
}

func checkCounter(k Kind, counter int64, w *wrong) {
	if counter < 0 || counter > 0 && k != HOTP {
		w.add("counter", "is of hotp alone, and not below 0")
	}
}

// made is a new item, sealed.
func (r *Room) made(ctx context.Context, c tenantdb.Caller, n *Wanted) (i Item, err error) {
	if err := n.check().problem(notKept); err != nil {
		return i, err
	}
	now := r.now()
	i = Item{
		ID: id.At[itemKind](now), Kind: n.Kind, About: n.About, Policy: n.Policy, Listed: n.Listed, Creator: actorOf(c.Actor()), CreatedAt: now, Version: 1,
		counter: n.Counter, taken: n.taken, secretVersion: 1,
	}
	if err := r.sealAbout(ctx, c.Tenant(), &i); err != nil {
		return i, r.unopened(err)
	}
	if err := r.sealSecret(ctx, c.Tenant(), &i, &n.content); err != nil {
		return i, r.unopened(err)
	}
	i.mark, err = r.mark(ctx, c.Tenant(), &n.content)
	return i, err
}

// keep inserts items, each with its first grant.
func keep(ctx context.Context, tx *tenantdb.Tx, items []Item) ([]audit.Event, error) {
	if err := insertItems(ctx, tx, items); err != nil {
		return nil, err
	}
	events, grants := make([]audit.Event, len(items)), make([]Grant, 0, len(items))
	for k := range items {
		i := &items[k]
		if i.Creator.Kind == APerson || i.Creator.Kind == AKey {
			grants = append(grants, first(i))
		}
		var err error
		if events[k], err = i.event(added); err != nil {
			return nil, err
		}
	}
	return events, insertGrants(ctx, tx, grants...)
}

// change changes one item, which its caller must manage, in a transaction that fn says the entry of.
func (r *Room) change(ctx context.Context, c tenantdb.Caller, item ID, fn func(*tenantdb.Tx, *Item) (did, error)) error {
	err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		i, err := managed(ctx, tx, item, r.managesOn)
		if err != nil {
			return audit.Event{}, err
		}
		d, err := fn(tx, i)
		if err != nil {
			return audit.Event{}, err
		}
		if err := updateItem(ctx, tx, i); err != nil {
			return audit.Event{}, err
		}
		e, err := i.event(d.typ)
		e.Public, e.Private = append(e.Public, d.public...), append(e.Private, d.private...)
		return e, err
	})
	return r.told(ctx, c.Tenant(), item, err)
}

// still refuses the transaction's caller who does not decide about an item, or does no more.
type still func(ctx context.Context, tx *tenantdb.ReadTx, i *Item) error

// managed is an item that the transaction's caller decides about.
func managed(ctx context.Context, tx *tenantdb.Tx, item ID, check still) (*Item, error) {
	i, err := readItem(ctx, &tx.ReadTx, item)
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, noItem()
	}
	if err := check(ctx, &tx.ReadTx, i); err != nil {
		return nil, err
	}
	return i, vouched(ctx, &tx.ReadTx, i)
}

// stillManages is for what takes something away that was given: what break-glass lends is enough.
func (r *Room) stillManages(ctx context.Context, tx *tenantdb.ReadTx, i *Item) error {
	if c := tx.Caller(); manages(c, i) && !managesForGood(c, i) {
		return nil
	}
	return r.managesOn(ctx, tx, i)
}

// managesOn is for what gives something, or lasts: what is lent is not handed on.
func (r *Room) managesOn(ctx context.Context, tx *tenantdb.ReadTx, i *Item) error {
	c := tx.Caller()
	if err := forGood(c, i); err != nil {
		return err
	}
	capability := "vault:manage"
	if !c.Holds(capability) {
		capability = "vault:write"
	}
	return r.cfg.People.StillHolds(ctx, tx, capability)
}

// forGood refuses a caller who does not decide about an item, or only as long as something is lent to them.
func forGood(c tenantdb.Caller, i *Item) error {
	switch {
	case !manages(c, i):
		return notManaged()
	case !managesForGood(c, i):
		return problem.New(problem.Denied, "This lasts, so it needs the capability vault:manage for good, and not one that is lent: by that you end grants and loans, refuse requests, and read.")
	}
	return nil
}

func notManaged() error {
	return problem.New(problem.Denied, "Who made the item decides about it, and who has the capability vault:manage.")
}

// Change is what is changed of an item; nil fields stay.
type Change struct {
	About  func(*About)
	Policy *Policy
	Listed *bool
}

// toChange is an item as it is now, for who decides about it. Nothing of it is opened for anybody else.
func (r *Room) toChange(ctx context.Context, c tenantdb.Caller, item ID) (*Item, error) {
	s, err := r.memory.state(ctx, c.Tenant(), item, true)
	switch {
	case err != nil:
		return nil, r.told(ctx, c.Tenant(), item, err)
	case s.item == nil:
		return nil, noItem()
	}
	i := *s.item
	return &i, forGood(c, &i)
}

// Update changes what people know an item by, and its policy, from a version if ifMatch names one. Who may use the item does not loosen
// its policy, and who could not have the secret does not say where it is sent.
func (r *Room) Update(ctx context.Context, c tenantdb.Caller, item ID, ifMatch string, ch Change) (Item, error) {
	before, err := r.toChange(ctx, c, item)
	if err != nil {
		return Item{}, err
	}
	anew := *before
	if err := r.open(ctx, c.Tenant(), &anew, anew.Version); err != nil {
		return Item{}, r.told(ctx, c.Tenant(), item, err)
	}
	w := &wrong{}
	if ch.About != nil {
		anew.About.Tags = slices.Clone(anew.About.Tags)
		ch.About(&anew.About)
		anew.About.tidy()
		anew.About.check(w)
	}
	if ch.Policy != nil {
		anew.Policy = *ch.Policy
		anew.Policy.check(anew.Kind, w)
		held, err := r.reveal(ctx, c.Tenant(), &anew)
		if err != nil {
			return Item{}, r.told(ctx, c.Tenant(), item, err)
		}
		held.usable(&anew.Policy, w)
		held.clear()
	}
	if ch.Listed != nil {
		anew.Listed = *ch.Listed
	}
	if err := w.problem(notKept); err != nil {
		return Item{}, err
	}
	anew.Version++
	if err := r.sealAbout(ctx, c.Tenant(), &anew); err != nil {
		return Item{}, r.unopened(err)
	}
	err = r.change(ctx, c, item, func(tx *tenantdb.Tx, i *Item) (did, error) {
		if err := web.CheckMatch(ifMatch, i.Version); err != nil {
			return did{}, err
		}
		if i.Version != anew.Version-1 {
			return did{}, problem.New(problem.Conflict, "The item changed meanwhile. Read it again.")
		}
		d, err := r.revised(ctx, tx, i, &anew.Policy)
		i.About, i.about, i.Policy, i.Listed, i.Version = anew.About, anew.about, anew.Policy, anew.Listed, anew.Version
		return d, err
	})
	if err != nil {
		return Item{}, wrapped("Update", err)
	}
	return anew, nil
}

// Replace puts another secret in the place of the one that an item keeps: who had the old seed has nothing of the new one. It is sent on to
// where the old one was only if who puts it in has said that. The same one is refused to who knows it already; to others that would tell it.
func (r *Room) Replace(ctx context.Context, c tenantdb.Caller, item ID, ifMatch string, held content, counter int64) (Item, error) {
	before, err := r.toChange(ctx, c, item)
	if err != nil {
		return Item{}, err
	}
	anew, w := *before, &wrong{}
	held.check(anew.Kind, w)
	checkCounter(anew.Kind, counter, w)
	held.usable(&anew.Policy, w)
	if err := w.problem(notKept); err != nil {
		return Item{}, err
	}
	if err := r.open(ctx, c.Tenant(), &anew, anew.Version); err != nil {
		return Item{}, r.told(ctx, c.Tenant(), item, err)
	}
	if err := web.CheckMatch(ifMatch, before.Version); err != nil {
		return Item{}, wrapped("Replace", err)
	}
	if err := r.another(ctx, c, before, &held); err != nil {
		return Item{}, r.told(ctx, c.Tenant(), item, err)
	}
	anew.secretVersion++
	anew.Version++
	if err := r.sealSecret(ctx, c.Tenant(), &anew, &held); err != nil {
		return Item{}, r.unopened(err)
	}
	if err := r.sealAbout(ctx, c.Tenant(), &anew); err != nil {
		return Item{}, r.unopened(err)
	}
	if anew.mark, err = r.mark(ctx, c.Tenant(), &held); err != nil {
		return Item{}, err
	}
	err = r.change(ctx, c, item, func(tx *tenantdb.Tx, i *Item) (did, error) {
		if err := web.CheckMatch(ifMatch, i.Version); err != nil {
			return did{}, err
		}
		if i.Version != anew.Version-1 || i.secretVersion != anew.secretVersion-1 {
			return did{}, problem.New(problem.Conflict, "The item changed meanwhile. Read it again.")
		}
		d, err := r.sentOn(ctx, &tx.ReadTx, i)
		if err != nil {
			return d, err
		}
		anew.counter, anew.taken, anew.Policy = counter, nil, i.Policy
		*i = anew
		return d, r.keepsWayIn(ctx, &tx.ReadTx, []Item{anew})
	})
	if err != nil {
		return Item{}, wrapped("Replace", r.tellOfSeed(ctx, c, err))
	}
	return anew, nil
}

// another refuses the secret that an item keeps already, to who knows it: whoever else knew that would know it still. Recovery codes may
// be put in again, so that those which were taken are given out anew; and a secret that does not open is replaced by any.
func (r *Room) another(ctx context.Context, c tenantdb.Caller, i *Item, held *content) error {
	if i.Kind == Codes {
		return nil
	}
	now, err := r.reveal(ctx, c.Tenant(), i)
	defer now.clear()
	if err != nil || !bytes.Equal(now.Key, held.Key) || !bytes.Equal(now.Text, held.Text) || now.scheme() != held.scheme() {
		return nil //nolint:nilerr // what does not open is no secret that anybody keeps
	}
	v, err := r.sight(ctx, c)
	if err != nil {
		return err
	}
	var known map[ID]bool
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		known, err = r.knows(ctx, tx, v, []Item{*i})
		return err
	})
	if err == nil && known[i.ID] {
		err = flawed("Nothing was replaced.", "secret", "is the one that the item keeps already: whoever knows that would know this")
	}
	return err
}

// Delete ends an item, with its secret and all grants of it. The log keeps who used it.
func (r *Room) Delete(ctx context.Context, c tenantdb.Caller, item ID, ifMatch string) error {
	err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		i, err := readItem(ctx, &tx.ReadTx, item)
		if err != nil {
			return audit.Event{}, err
		}
		if i == nil {
			return audit.Event{}, noItem()
		}
		if err := r.managesOn(ctx, &tx.ReadTx, i); err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, i.Version); err != nil {
			return audit.Event{}, err
		}
		e := audit.Event{Type: deleted, Target: audit.Target{Kind: tenantdb.VaultItem, ID: item.String()}, Alters: true, Public: []audit.Field{field("kind", string(i.Kind))}}
		return e, deleteItem(ctx, tx, item)
	})
	return wrapped("Delete", err)
}
