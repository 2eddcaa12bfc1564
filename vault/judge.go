package vault

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// facts are what it is decided from whether somebody may use an item. judge is a pure function of them.
type facts struct {
	now      time.Time
	asker    Actor
	groups   []string // of a person
	address  netip.Addr
	item     *Item // nil if there is none
	grants   []Grant
	requests []Request
	barred   bool // something was lent to an agent by who issued its token, and is not among the requests
}

func noItem() error { return problem.New(problem.Missing, "There is no such item in your vault.") }

// level is the most that is granted to the asker for good.
func (f *facts) level() (l Level) {
	for i := range f.grants {
		if g := &f.grants[i]; g.live(f.now) && f.is(g.To) && (l == "" || g.Level.covers(l)) {
			l = g.Level
		}
	}
	return l
}

// is reports whether something that was granted to somebody was granted to the asker.
func (f *facts) is(a Actor) bool {
	return a == f.asker || a.Kind == AGroup && slices.Contains(f.groups, a.ID)
}

// lent is the most that approved requests let the asker do now. One of somebody to whom the item was granted when they asked
// lends nothing once that is over.
func (f *facts) lent(granted Level) (l Level) {
	for i := range f.requests {
		q := &f.requests[i]
		if q.By != f.asker || !q.lends(f.now) || q.Granted && !granted.covers(q.Level) {
			continue
		}
		if l == "" || q.Level.covers(l) {
			l = q.Level
		}
	}
	return l
}

// judge refuses with a problem, or allows with nil. The order is fixed: is it there, is it granted, is it approved, is it the time,
// is it the place.
func judge(f *facts, want Level) error {
	if f.item == nil {
		return noItem()
	}
	granted := f.level()
	lent := f.lent(granted)
	p := &f.item.Policy
	ask := fmt.Sprintf("POST /api/v1/vault/items/%s/requests", f.item.ID)
	if want == ForSeed {
		ask += " and the level seed" // what is lent for its codes would leave the asker here
	}
	switch {
	case f.barred && !lent.covers(want) && (p.Approval || !granted.covers(want)):
		return problem.New(problem.Denied, "Who approved your request issued the token that you come with, or nothing says who did: come with one that another issued, or have another approve.")
	case granted == "" && lent == "":
		return problem.New(problem.Denied, "This item has not been granted to you. Ask for it with %s.", ask)
	case !granted.covers(want) && !lent.covers(want):
		return problem.New(problem.Denied, "You may use this item, and not have its seed. Ask for it with %s.", ask)
	case p.Approval && !lent.covers(want) && want == ForSeed:
		return problem.New(problem.Denied, "A second person must approve that this item's seed is taken out. Ask for it with %s.", ask)
	case p.Approval && !lent.covers(want):
		return problem.New(problem.Denied, "A second person must approve before you use this item. Ask with %s.", ask)
	case p.Hours != nil && !p.Hours.holds(f.now):
		return problem.New(problem.Denied, "This item may be used from %s to %s only, %s, on the days of its policy.", p.Hours.From, p.Hours.To, p.Hours.Zone)
	case !p.from(f.address):
		return problem.New(problem.Denied, "This item may not be used from this address.")
	}
	return nil
}

// decides refuses a transaction's caller who does not decide about an item, which may be nil, for what only those read. Who made it is
// part of what the log vouches for.
func decides(ctx context.Context, tx *tenantdb.ReadTx, i *Item) error {
	if i == nil || !manages(tx.Caller(), i) {
		return noItem()
	}
	if tx.Caller().May("vault:manage") {
		return nil
	}
	return vouched(ctx, tx, i)
}

// manages reports whether a caller decides about an item: who may decide about all of them, and who made it.
func manages(c tenantdb.Caller, i *Item) bool {
	return c.May("vault:manage") || c.May("vault:write") && i.Creator == actorOf(c.Actor())
}

// managesForGood is manages without what break-glass lends.
func managesForGood(c tenantdb.Caller, i *Item) bool {
	return c.Holds("vault:manage") || c.Holds("vault:write") && i.Creator == actorOf(c.Actor())
}
