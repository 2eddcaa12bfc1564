package apikey

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Ended is a key that was revoked, and what became of the keys that came from it: those that it or its earlier generations made,
// those that these made, and their successors.
type Ended struct {
	Key
	Children int // how many ended with it: of all, expired ones too, those that were not revoked before
	Left     int // how many are still in force, neither revoked nor expired; at most MostLeft are counted
}

// MostLeft is how many keys are counted that came from another and are in force: counting more would hold up its organisation.
const MostLeft = 1000

// Revoke ends a key for good, and it alone: it is End without children.
func (r *Room) Revoke(ctx context.Context, c tenantdb.Caller, id string) (Key, error) {
	ended, err := r.End(ctx, c, id, false)
	return ended.Key, err
}

// End ends a key for good; with children, also what came from it. Whoever stole a key may have made more. But an organisation's
// first key, or its backend's, has made the keys of all its customers, and a revocation cannot be undone: so they end only where
// that is asked for, and what is left is counted. They can end later, by revoking the key once more. A key may always revoke
// itself: whoever finds one can make it harmless, also if its uses are spent.
func (r *Room) End(ctx context.Context, c tenantdb.Caller, id string, children bool) (e Ended, err error) {
	if itself := c.Actor() == (audit.Actor{Kind: audit.ActorKey, ID: id}); !itself {
		if err := need(c, "keys:write"); err != nil {
			return Ended{}, err
		}
		if err := r.Admit(ctx, c, "revoke-another-key"); err != nil {
			return Ended{}, err
		}
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return Ended{}, fmt.Errorf("apikey.End: %w", err)
	}
	err = r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) (events []audit.Event, err error) {
		e, events, err = r.end(ctx, tx, id, children)
		return events, err
	})
	if err == nil {
		e.Children, err = r.endRest(ctx, c, e.Key, e.Children)
	}
	if err != nil {
		return Ended{}, fmt.Errorf("apikey.End: %w", err)
	}
	return e, nil
}

func (r *Room) end(ctx context.Context, tx *tenantdb.Tx, id string, children bool) (e Ended, _ []audit.Event, err error) {
	a, err := r.authorityOf(ctx, &tx.ReadTx)
	if err != nil {
		return Ended{}, nil, err
	}
	if e.Key, err = load(ctx, &tx.ReadTx, id); err != nil {
		return Ended{}, nil, err
	}
	if err := a.ends(ctx, &tx.ReadTx, e.Key); err != nil {
		return Ended{}, nil, err
	}
	var ended []string
	if children {
		err = ofLine(ctx, tx, endLineSQL, e.Key, r.instant(), r.endsAtOnce, &ended)
	} else {
		err = ofLine(ctx, tx, lineLeftSQL, e.Key, r.instant(), MostLeft, &e.Left)
	}
	if e.Children = len(ended); err != nil || !e.RevokedAt.IsZero() && e.Children == 0 {
		return e, nil, err
	}
	if e.RevokedAt.IsZero() {
		e.RevokedAt = r.instant()
		e.Version++
	}
	return e, naming(e.event("key.revoked", true), ended), update(ctx, tx, e.Key)
}

// endsAtOnce is how many keys end in one transaction: for as long as that takes, about a second, nothing is appended to their
// organisation's log.
const endsAtOnce = 10_000

// endRest ends what is left if as many ended with a key as can in one transaction, and says how many all were. The key itself
// has ended, and what could make more did first, so there are fewer each time.
func (r *Room) endRest(ctx context.Context, c tenantdb.Caller, k Key, ended int) (all int, err error) {
	for all = ended; ended == r.endsAtOnce; all += ended {
		err := r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
			var children []string
			err := ofLine(ctx, tx, endLineSQL, k, r.instant(), r.endsAtOnce, &children)
			if ended = len(children); err != nil || ended == 0 {
				return nil, err
			}
			return naming(k.event("key.revoked", true), children), nil
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// idsOfField is how many ids of keys fit in a field of an entry.
const idsOfField = 340

// naming adds to an event which keys ended with its target. Those that have no place in its entry get more entries.
func naming(ev audit.Event, children []string) []audit.Event {
	if len(children) == 0 {
		return []audit.Event{ev}
	}
	parts := slices.Collect(slices.Chunk(children, idsOfField))
	ended := func(ids []string) audit.Field { return audit.Field{Name: "ended", Value: strings.Join(ids, " ")} }
	ev.Public = append(ev.Public, audit.Field{Name: "children", Value: fmt.Sprint(len(children))}, ended(parts[0]))
	events := []audit.Event{ev}
	for _, ids := range parts[1:] {
		events = append(events, audit.Event{
			Type: "key.children_revoked", Target: ev.Target, Outcome: ev.Outcome, Alters: true, Public: []audit.Field{ended(ids)},
		})
	}
	return events
}
