package org

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Report says what ended when a person left. The entry of the same request says it too.
type Report struct {
	Person    PersonID
	RemovedBy string // kind and id of the actor
	RemovedAt time.Time
	Request   audit.RequestID
	Ended     map[string]int // how much, by what it is
}

// Remove ends a person's membership for good, with all that they have, in one transaction: whoever left has nothing, and whoever
// stays has the report. An address that was removed can be invited anew, as another person.
func (r *Room) Remove(ctx context.Context, c tenantdb.Caller, id PersonID) (out Report, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (e audit.Event, err error) {
		p, _, err := r.decidable(ctx, tx, a, id)
		if err == nil {
			err = r.freshIfOwner(a, p)
		}
		if err != nil {
			return audit.Event{}, err
		}
		out, e, err = r.Offboard(ctx, tx, id, "removed")
		return e, err
	})
	if err != nil {
		return Report{}, fmt.Errorf("org.Remove: %w", err)
	}
	return out, nil
}

// Offboard is Remove in a transaction of whoever decided that, as a directory does. It keeps the last owner, and owners from all
// but owners and Avouch itself; whether else the caller may decide about the person is for the caller's room to know. why is a word
// for the log.
func (r *Room) Offboard(ctx context.Context, tx *tenantdb.Tx, id PersonID, why string) (Report, audit.Event, error) {
	nothing := audit.Event{}
	p, err := present(ctx, &tx.ReadTx, id)
	if err == nil {
		err = ownersOwn(tx.Caller(), p)
	}
	if err != nil {
		return Report{}, nothing, err
	}
	if err := notLast(ctx, &tx.ReadTx, id); err != nil {
		return Report{}, nothing, err
	}
	out := Report{Person: id, RemovedBy: by(tx.Caller().Actor()), RemovedAt: r.instant(), Request: tx.Caller().RequestID(), Ended: map[string]int{}}
	// Groups go last: what was granted to them was granted to the person, and the vault says so in its report.
	for _, name := range slices.Sorted(maps.Keys(r.cfg.Endings)) {
		n, err := r.cfg.Endings[name](ctx, tx, id, why)
		if err != nil {
			return Report{}, nothing, fmt.Errorf("org.Offboard: %s: %w", name, err)
		}
		out.Ended[name] = n
	}
	own, err := endOwn(ctx, tx, id, out.RemovedAt)
	if err != nil {
		return Report{}, nothing, err
	}
	maps.Copy(out.Ended, own)
	e := p.event("person.removed")
	e.Alters = true // keys of theirs ended
	e.Public = append(e.Public, field("why", why), field("roles", strings.Join(p.Roles, " ")))
	for _, name := range slices.Sorted(maps.Keys(out.Ended)) {
		e.Public = append(e.Public, field(name, fmt.Sprint(out.Ended[name])))
	}
	left := p
	left.Roles, left.RemovedAt = []string{}, out.RemovedAt
	left.Version++
	if err := updatePerson(ctx, tx, left); err != nil {
		return Report{}, nothing, err
	}
	if err := r.ownerGone(ctx, tx, p); err != nil {
		return Report{}, nothing, err
	}
	if err := r.tellOfLess(ctx, tx, p, false); err != nil {
		return Report{}, nothing, err
	}
	return out, e, insertReport(ctx, tx, out)
}

// Offboarding is the report of a person's removal.
func (r *Room) Offboarding(ctx context.Context, c tenantdb.Caller, id PersonID) (out Report, err error) {
	if err := need(c, "members:read"); err != nil {
		return Report{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		out, err = loadReport(ctx, tx, id)
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("org.Offboarding: %w", err)
	}
	return out, nil
}
