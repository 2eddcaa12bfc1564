package vault

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keepFetches is how long a fetch can be tried again with its key.
const keepFetches = 24 * time.Hour

// take gives a code that moves the item: HOTP's counter, or a recovery code's mark, in the transaction of its entry.
func (r *Room) take(ctx context.Context, t tenantdb.TenantID, who Asker, id ID, once string) (out Code, err error) {
	if once == "" {
		once = rand.Text() // a new one each time
	}
	paid := false
	for range 16 { // each sees a later change than the one before
		out, err = r.tryTake(ctx, t, who, id, once, &paid)
		if !errors.Is(err, errMoved) && !errors.As(err, new(*tenantdb.StaleError)) {
			return out, err
		}
	}
	return out, unsteady()
}

// errMoved says that something changed since it was decided: it is decided anew.
var errMoved = errors.New("vault: decided at an old epoch")

// tryTake decides by what is read from now on, who asks included, and moves the item at that epoch or not at all: what a transaction does
// is compared with nothing afterwards.
func (r *Room) tryTake(ctx context.Context, t tenantdb.TenantID, who Asker, id ID, once string, paid *bool) (out Code, err error) {
	g, err := r.gather(ctx, t, who, id, "vault:code", true) // which opens it: no key is read while the log's head is held
	defer g.held.clear()
	if err != nil {
		return out, err
	}
	var subject audit.SubjectID
	if p, is := g.caller.Person(); is {
		subject = p.ID
	}
	if err := r.cfg.Ring.Prepare(ctx, t, subject); err != nil {
		return out, r.unopened(err)
	}
	key := fetchKey(g.asker, once)
	if err := r.spend(ctx, &g, key, paid); err != nil {
		return out, err
	}
	rate := []tenantdb.Spend{rateOf(t, g.asker)}
	if err := r.counters(ctx, t, rate); err != nil {
		return out, err
	}
	err = r.cfg.DB.Change(ctx, g.caller, func(tx *tenantdb.Tx) (audit.Event, error) {
		if g.asker.Kind != AnAgent { // an agent was judged at the epoch
			if err := r.cfg.People.StillHolds(ctx, &tx.ReadTx, "vault:code"); err != nil {
				return audit.Event{}, err
			}
		}
		now, err := readHead(ctx, &tx.ReadTx)
		if err == nil && now.Epoch != g.head.Epoch {
			err = errMoved
		}
		if err == nil {
			err = g.anew(ctx, &tx.ReadTx)
		}
		if err == nil && g.asker.Kind == AnAgent && len(g.loans()) > 0 {
			err = r.bar(ctx, &tx.ReadTx, g.caller, g.facts)
		}
		if err == nil {
			err = judge(g.facts, ForCode)
		}
		if err != nil {
			return audit.Event{}, err
		}
		var place int64
		if out, place, err = r.move(ctx, tx, g.facts, &g.held, key); err != nil {
			return audit.Event{}, err
		}
		tx.Spend(rate[0]) // a fetch that is tried again too: it has an entry of its own
		return used(g.caller, g.facts, given, field("place", fmt.Sprint(place)), field(afterField, g.item.stand())), nil
	})
	if err != nil {
		return Code{}, r.spent(err, Code{})
	}
	return out, nil
}

// spend takes from the counter of a token that has a number of uses, with an entry of its own: no transaction of ours can. A fetch that
// is tried again takes nothing.
func (r *Room) spend(ctx context.Context, g *gathered, key [32]byte, paid *bool) error {
	if len(g.spends) == 0 || *paid {
		return nil
	}
	err := r.cfg.DB.Read(ctx, g.caller, func(tx *tenantdb.ReadTx) (err error) {
		_, _, *paid, err = fetched(ctx, tx, g.item.ID, key)
		return err
	})
	if err != nil || *paid {
		return err
	}
	_, err = r.cfg.DB.Decide(ctx, []tenantdb.TenantID{g.head.Tenant}, func() ([]tenantdb.Draft, []tenantdb.Spend, error) {
		d, err := r.cfg.DB.Draft(ctx, g.caller, g.head, used(g.caller, g.facts, "vault.code_asked"))
		return []tenantdb.Draft{d}, g.spends, err
	})
	var stale *tenantdb.StaleError
	if errors.As(err, &stale) {
		return errMoved
	}
	*paid = err == nil
	return r.spent(err, Code{})
}

// anew reads what was decided from once more, with the head in hand.
func (f *facts) anew(ctx context.Context, tx *tenantdb.ReadTx) (err error) {
	s := &state{}
	if err := s.load(ctx, tx, f.item.ID); err != nil {
		return err
	}
	if s.item == nil {
		return noItem()
	}
	f.item, f.grants, f.requests = s.item, s.grants, s.requests
	if f.asker.Kind == APerson {
		f.groups, err = readGroups(ctx, tx, f.asker.ID)
	}
	return err
}

// fetchKey names a fetch, so that it can be tried again.
func fetchKey(a Actor, once string) [32]byte {
	return sha256.Sum256([]byte("avouch/vault-fetch/v1\n" + a.String() + "\n" + once))
}

// move takes the next code, or finds the one that the same fetch got before.
func (r *Room) move(ctx context.Context, tx *tenantdb.Tx, f *facts, held *content, key [32]byte) (out Code, place int64, err error) {
	place, version, again, err := fetched(ctx, &tx.ReadTx, f.item.ID, key)
	switch {
	case err != nil:
		return out, 0, err
	case again && version != f.item.secretVersion:
		return out, 0, problem.New(problem.Conflict, "This Idempotency-Key fetched a code of the secret that the item had before. Use another.")
	case !again:
		if place, err = r.next(ctx, tx, f, held, key); err != nil {
			return out, 0, err
		}
	}
	out = Code{Kind: f.item.Kind}
	if f.item.Kind == Codes {
		left := len(held.Codes) - len(f.item.taken)
		out.Code, out.Left = held.Codes[place-1], &left
		return out, place, nil
	}
	out.Code, out.Counter = held.scheme().CodeOf(otp.HOTP, held.Key, uint64(place)), &place
	return out, place, nil
}

// next moves the item.
func (r *Room) next(ctx context.Context, tx *tenantdb.Tx, f *facts, held *content, key [32]byte) (place int64, err error) {
	i := f.item
	if i.Kind == Codes {
		for place = 1; slices.Contains(i.taken, int32(place)); place++ {
		}
		if place > int64(len(held.Codes)) {
			return 0, problem.New(problem.Conflict, "All of these recovery codes have been taken. Put new ones in with PUT /api/v1/vault/items/%s/secret.", i.ID)
		}
		i.taken = append(i.taken, int32(place))
	} else {
		if i.counter == math.MaxInt64 {
			return 0, problem.New(problem.Conflict, "The counter is at its end.")
		}
		place = i.counter
		i.counter++
	}
	if err := updateItem(ctx, tx, i); err != nil {
		return 0, err
	}
	return place, insertFetched(ctx, tx, i.ID, taking{key, f.asker.String(), place, i.secretVersion, f.now})
}

// taking is what a fetch got.
type taking struct {
	key     [32]byte
	by      string
	place   int64
	version int64
	at      time.Time
}

// Resync puts the counter of an HOTP item behind two codes that its other device showed one after the other, at most so many steps
// ahead, or where counter says.
func (r *Room) Resync(ctx context.Context, c tenantdb.Caller, id ID, codes []string, counter *int64) (at int64, err error) {
	before, err := r.toChange(ctx, c, id)
	if err != nil {
		return 0, err
	}
	switch {
	case before.Kind != HOTP:
		return 0, problem.New(problem.Conflict, "Only a code that is counted (hotp) has a counter.")
	case (counter == nil) == (len(codes) == 0):
		return 0, problem.New(problem.Invalid, "Give two codes, or the counter of the next one.")
	case counter != nil && *counter < 0:
		return 0, problem.New(problem.Invalid, "A counter is not below 0.")
	}
	held, err := r.reveal(ctx, c.Tenant(), before)
	if err != nil {
		return 0, r.told(ctx, c.Tenant(), id, err)
	}
	defer held.clear()
	err = r.change(ctx, c, id, func(_ *tenantdb.Tx, i *Item) (did, error) {
		if i.secretVersion != before.secretVersion {
			return did{}, problem.New(problem.Conflict, "The item changed meanwhile. Ask again.")
		}
		if counter != nil {
			at = *counter
		} else if at = held.behind(codes, i.counter); at < 0 {
			return did{}, problem.New(problem.Invalid, "These are no two codes of this item one after the other, within %d steps.", mostAhead)
		}
		i.counter = at
		return did{typ: "vault.item_resynced"}, nil
	})
	if err != nil {
		return 0, wrapped("Resync", err)
	}
	return at, nil
}

// mostAhead is how far a device can be ahead.
const mostAhead = 1000

// behind is the counter after two codes that follow one another; -1 if they do not.
func (c *content) behind(codes []string, from int64) int64 {
	s := c.scheme()
	if len(codes) != 2 || from > math.MaxInt64-mostAhead-2 {
		return -1
	}
	for n := from; n < from+mostAhead; n++ {
		if s.Code(c.Key, uint64(n)) == codes[0] && s.Code(c.Key, uint64(n+1)) == codes[1] {
			return n + 2
		}
	}
	return -1
}
