package apikey

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// MostOverlap is how long a key may go on working beside the one that replaces it.
const MostOverlap = 30 * 24 * time.Hour

// Rotate makes a key that is like another one and takes its place; the old one ends after the overlap. What it may do, what
// narrows and meters it, whose it is and how long it lives carry over, and its meters go on from where they are. Two
// generations live at once: one that was replaced before ends now. A key that rotates itself does not live longer by that.
func (r *Room) Rotate(ctx context.Context, c tenantdb.Caller, id string, overlap time.Duration) (made Created, err error) {
	if err := need(c, "keys:write"); err != nil {
		return Created{}, err
	}
	if overlap < 0 || overlap > MostOverlap {
		return Created{}, problem.New(problem.Invalid, "The overlap is not between 0 and %d seconds, which is 30 days.", int(MostOverlap.Seconds()))
	}
	if err := r.warm(ctx, c.Tenant()); err != nil {
		return Created{}, fmt.Errorf("apikey.Rotate: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		old, a, err := r.rotatable(ctx, tx, id)
		if err != nil {
			return audit.Event{}, err
		}
		ended, err := r.endReplaced(ctx, tx, old)
		if err != nil {
			return audit.Event{}, err
		}
		at, err := r.next(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		next, cut := a.successor(old, at)
		if made, err = r.make(ctx, tx, next); err != nil {
			return audit.Event{}, err
		}
		made.ExpiryCut = cut
		if old.ReplacedBy = made.ID; overlap == 0 {
			old.RevokedAt = r.instant()
		} else if end := r.instant().Add(overlap); old.ExpiresAt.IsZero() || end.Before(old.ExpiresAt) {
			old.ExpiresAt = end
		}
		if made.OldEnds = old.RevokedAt; overlap > 0 {
			made.OldEnds = old.ExpiresAt
		}
		made.Ended = ended
		old.Version++
		ev := old.event("key.rotated", true)
		ev.Public = append(ev.Public, audit.Field{Name: "to", Value: made.ID}, audit.Field{Name: "overlap_seconds", Value: fmt.Sprint(int(overlap.Seconds()))})
		if ended != "" {
			ev.Public = append(ev.Public, audit.Field{Name: "ended", Value: ended})
		}
		return ev, update(ctx, tx, old)
	})
	if err != nil {
		return Created{}, fmt.Errorf("apikey.Rotate: %w", err)
	}
	return made, nil
}

// rotatable is a key that the caller may replace.
func (r *Room) rotatable(ctx context.Context, tx *tenantdb.Tx, id string) (k Key, a authority, err error) {
	if a, err = r.authorityOf(ctx, &tx.ReadTx); err != nil {
		return k, a, err
	}
	if !a.holds("keys:write") {
		return k, a, lasts()
	}
	if k, err = load(ctx, &tx.ReadTx, id); err != nil {
		return k, a, err
	}
	if err := a.fresh(k, r.cfg.Now()); err != nil {
		return k, a, err
	}
	if !a.self(id) {
		if err := a.bears(ctx, &tx.ReadTx, k); err != nil {
			return k, a, err
		}
		if err := a.covers(k); err != nil {
			return k, a, err
		}
		if err := a.takes(ctx, &tx.ReadTx, k); err != nil {
			return k, a, err
		}
	}
	switch s := k.Status(r.cfg.Now()); {
	case k.ReplacedBy != "":
		return k, a, problem.New(problem.Conflict, "The key was rotated before: the one that replaced it is %s.", k.ReplacedBy)
	case s != Active && s != Pending:
		return k, a, problem.New(problem.Conflict, "The key is %s, and nothing takes its place: make a new one.", s)
	}
	return k, a, nil
}

// endReplaced ends the generation before, so that not more than two live, and says which it ended.
func (r *Room) endReplaced(ctx context.Context, tx *tenantdb.Tx, k Key) (id string, err error) {
	if k.Replaces == "" {
		return "", nil
	}
	before, err := load(ctx, &tx.ReadTx, k.Replaces)
	if err != nil || !before.RevokedAt.IsZero() {
		return "", err
	}
	before.RevokedAt = r.instant()
	before.Version++
	return before.ID, update(ctx, tx, before)
}

// successor is the key that takes another's place, and whether it would live longer, but for the acting key.
func (a authority) successor(old Key, at time.Time) (k Key, cut bool) {
	k = old
	k.first, k.Replaces, k.Version, k.Noticed, k.LeakedAt = old.Family(), old.ID, 1, 0, time.Time{}
	if who := a.person(); !who.IsZero() { // who has the new one in hand
		k.Person = who
	}
	if a.self(old.ID) { // whoever has the old one has the new one
		k.LeakedAt = old.LeakedAt
	}
	life := old.uncut
	if life == nil {
		life = new(time.Duration)
		if !old.ExpiresAt.IsZero() {
			*life = old.ExpiresAt.Sub(old.CreatedAt)
		}
	}
	k.CreatedAt, k.ExpiresAt, k.uncut = at, time.Time{}, nil
	if *life > 0 {
		k.ExpiresAt = at.Add(*life)
	}
	if k.ExpiresAt, cut = a.cut(k.ExpiresAt); cut {
		k.uncut = life // by a key that lasts, the next one is made to live as long as this would have
	}
	return k, cut
}
