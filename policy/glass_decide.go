package policy

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Approve lets a use of somebody else's open, where the rules want a person for that.
func (g *Glass) Approve(ctx context.Context, c tenantdb.Caller, use UseID) (Use, error) {
	p, err := g.approver(c)
	if err != nil {
		return Use{}, err
	}
	// Before the change, and not in it: looking through the log takes time, and what gave the approver the capability that
	// this caller has is in the log by now.
	if err := g.independent(ctx, c, p, use); err != nil {
		return Use{}, wrapped("Approve", err)
	}
	var u Use
	err = g.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (e audit.Event, err error) {
		if err := g.cfg.Rules.StillHolds(ctx, &tx.ReadTx, "breakglass:approve"); err != nil {
			return audit.Event{}, err
		}
		if u, err = g.waiting(ctx, tx, use, p.ID); err != nil {
			return audit.Event{}, err
		}
		if u.Approval != ByPerson {
			return audit.Event{}, problem.New(problem.Conflict, "It is not for a person to approve: its approval is %s.", u.Approval)
		}
		if err := g.mayOpen(ctx, tx, &u); err != nil {
			return audit.Event{}, err
		}
		u.DecidedBy = p.ID.String()
		return g.open(ctx, tx, &u)
	})
	if err != nil {
		return Use{}, wrapped("Approve", err)
	}
	return u, nil
}

// Refuse says no to a use that waits, however it is approved.
func (g *Glass) Refuse(ctx context.Context, c tenantdb.Caller, use UseID) (Use, error) {
	p, err := g.approver(c)
	if err != nil {
		return Use{}, err
	}
	var u Use
	err = g.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (e audit.Event, err error) {
		if u, err = g.waiting(ctx, tx, use, p.ID); err != nil {
			return audit.Event{}, err
		}
		u.DecidedBy = p.ID.String()
		return g.refuse(ctx, tx, &u)
	})
	if err != nil {
		return Use{}, wrapped("Refuse", err)
	}
	return u, nil
}

func (g *Glass) approver(c tenantdb.Caller) (tenantdb.Person, error) {
	p, err := holder(c, "breakglass:approve")
	if err == nil {
		err = p.Fresh(g.now())
	}
	return p, err
}

// waiting is a use that somebody else than its person may decide now.
func (g *Glass) waiting(ctx context.Context, tx *tenantdb.Tx, use UseID, by tenantdb.PersonID) (Use, error) {
	u, err := loadUse(ctx, &tx.ReadTx, use)
	if err != nil {
		return u, err
	}
	if u.Person == by {
		return u, problem.New(problem.Denied, "Somebody else must decide about what you asked for. You can end it.")
	}
	if s := u.State(g.now()); s != Waiting {
		return u, problem.New(problem.Conflict, "It does not wait any more: it is %s.", s)
	}
	return u, nil
}

// mayOpen refuses what cannot open any more as it was asked for.
func (g *Glass) mayOpen(ctx context.Context, tx *tenantdb.Tx, u *Use) error {
	rules, err := g.rules(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	_, err = personMade(ctx, &tx.ReadTx, u.Person)
	if errors.Is(err, errNobody) || err == nil && !u.fits(rules) {
		return problem.New(problem.Conflict, "The organisation's rules, or who asked, have changed since this was asked for: it must be asked for again.")
	}
	return err
}

// open opens a use, from now for as long as was asked.
func (g *Glass) open(ctx context.Context, tx *tenantdb.Tx, u *Use) (audit.Event, error) {
	now := g.now()
	u.DecidedAt, u.OpenedAt, u.ExpiresAt = now, now, now.Add(u.Life)
	if err := updateUse(ctx, tx, u); err != nil {
		return audit.Event{}, err
	}
	return u.event("opened", u.terms()...), g.tell(ctx, tx, mail.GlassOpened, map[string]string{"use": u.ID.String()})
}

func (g *Glass) refuse(ctx context.Context, tx *tenantdb.Tx, u *Use) (audit.Event, error) {
	now := g.now()
	u.DecidedAt, u.ClosedAt, u.Outcome = now, now, Refused
	return u.event(Refused), updateUse(ctx, tx, u)
}

// Finish ends a use before its time, or withdraws what waits: for its person, and for those who could refuse it. It takes no
// fresh proof: it only takes away.
func (g *Glass) Finish(ctx context.Context, c tenantdb.Caller, use UseID) (Use, error) {
	p, is := c.Person()
	if !is {
		return Use{}, problem.New(problem.Denied, "Only a person who is signed in does this.")
	}
	var u Use
	err := g.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (e audit.Event, err error) {
		if u, err = loadUse(ctx, &tx.ReadTx, use); err != nil {
			return audit.Event{}, err
		}
		if u.Person != p.ID && !c.Holds("breakglass:approve") {
			if c.May("breakglass:read") {
				return audit.Event{}, problem.New(problem.Denied, "This needs the capability breakglass:approve, and not one that is lent.")
			}
			return audit.Event{}, noUse()
		}
		return g.end(ctx, tx, &u)
	})
	if err != nil {
		return Use{}, wrapped("Finish", err)
	}
	return u, nil
}

// end closes what is open or waits.
func (g *Glass) end(ctx context.Context, tx *tenantdb.Tx, u *Use) (audit.Event, error) {
	now := g.now()
	if s := u.State(now); s != Opened && s != Waiting {
		return audit.Event{}, problem.New(problem.Conflict, "It is %s already.", s)
	}
	u.ClosedAt, u.Outcome = now, Ended
	return u.event(Ended), updateUse(ctx, tx, u)
}

// Settle does what time does to the uses of the caller's organisation: it opens what has waited for its delay, lets lapse what
// nobody answered, and closes what has expired. Until it runs nothing opens; but what has expired lends nothing.
func (g *Glass) Settle(ctx context.Context, c tenantdb.Caller) error {
	now := g.now()
	var due bool
	err := g.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		due, err = anyDue(ctx, tx, now)
		return err
	})
	if err != nil || !due {
		return wrapped("Settle", err)
	}
	err = g.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) (events []audit.Event, err error) {
		uses, err := dueUses(ctx, &tx.ReadTx, now)
		if err != nil {
			return nil, err
		}
		for i := range uses {
			e, changed, err := g.settle(ctx, tx, &uses[i], now)
			if err != nil {
				return nil, err
			}
			if changed {
				events = append(events, e)
			}
		}
		return events, nil
	})
	return wrapped("Settle", err)
}

// settle is Settle for one use. It reports whether it changed it.
func (g *Glass) settle(ctx context.Context, tx *tenantdb.Tx, u *Use, now time.Time) (audit.Event, bool, error) {
	switch s := u.State(now); {
	case !u.ClosedAt.IsZero():
		return audit.Event{}, false, nil
	case s == Expired:
		u.ClosedAt, u.Outcome = u.ExpiresAt, Expired
	case s == Lapsed:
		u.ClosedAt, u.Outcome = now, Lapsed
	case s == Waiting && u.Approval == ByDelay && !now.Before(u.DueAt):
		err := g.mayOpen(ctx, tx, u)
		if err == nil && now.Sub(u.DueAt) < patience { // what a server that stood still finds is of no use to anybody
			e, err := g.open(ctx, tx, u)
			return e, true, err
		}
		if err != nil && !problem.Is(err, problem.Conflict) {
			return audit.Event{}, false, err
		}
		u.ClosedAt, u.Outcome = now, Lapsed
	default:
		return audit.Event{}, false, nil
	}
	return u.event(u.Outcome), true, updateUse(ctx, tx, u)
}

// settled is how long somebody must have been what makes an approver before the asking.
const settled = time.Hour

// independent refuses an approver whom the asker could have made for this: one whose account is younger than an hour before
// the asking; one about whom, or about any role or group, the asker has changed something since an hour before the asking, or an
// API key, which may be the asker's, has changed what they may do; and one who has changed roles of their own within the last
// hour. It is what the log and the account tell. What it cannot see: two people who agree, changes that the asker has others or a
// directory make, and what the asker prepared earlier.
func (g *Glass) independent(ctx context.Context, c tenantdb.Caller, approver tenantdb.Person, use UseID) error {
	var u Use
	var since time.Time
	var entries []audit.Entry
	err := g.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if u, err = loadUse(ctx, tx, use); err != nil {
			return err
		}
		made, err := personMade(ctx, tx, approver.ID)
		if errors.Is(err, errNobody) {
			return tooNew()
		}
		if err != nil {
			return err
		}
		if since = u.AskedAt.Add(-settled); made.After(since) {
			return tooNew()
		}
		entries, err = entriesNaming(ctx, tx, approver.ID, u.Person, earlier(since, g.now().Add(-settled)))
		return err
	})
	if err != nil {
		return err
	}
	for i := range entries {
		if e := &entries[i]; e.Outcome == audit.Done && gives(e, approver.ID, u.Person, since, g.now().Add(-settled)) {
			return tooNew()
		}
	}
	return nil
}

func tooNew() error {
	return problem.New(problem.Denied, "Somebody must approve whose roles and groups the asker has not changed, and who has not changed their own, since an hour before the asking.")
}

// gives reports whether an entry may be what made the approver one.
func gives(e *audit.Entry, approver, asker tenantdb.PersonID, sinceAsked, lately time.Time) bool {
	names, ofOne := e.Target.ID == approver.String(), false
	area, _, _ := strings.Cut(e.Type, ".")
	shared := area == "role" || area == "group" || strings.Contains(e.Type, "role") || strings.Contains(e.Type, "group")
	for _, f := range e.Public {
		names = names || strings.Contains(f.Value, approver.String())
		ofOne = ofOne || f.Name == "person" // whom a membership is about
		shared = shared || strings.Contains(f.Name, "role")
	}
	shared = shared && (e.Target.Kind != "person" && !ofOne || names)
	switch {
	case e.Actor.Kind == audit.ActorKey: // whose it is in truth, its entry does not tell: the asker may have made it
		return shared && !e.Time.Before(sinceAsked)
	case e.Actor.Kind != audit.ActorPerson:
		return false
	case e.Actor.ID == asker.String() && area != "break_glass":
		return (names || shared) && !e.Time.Before(sinceAsked)
	case e.Actor.ID == approver.String():
		return shared && !e.Time.Before(lately)
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// decoded are the entries of bodies; one that somebody has tampered with counts for nothing here: the log's own check finds it.
func decoded(bodies [][]byte) []audit.Entry {
	entries := make([]audit.Entry, 0, len(bodies))
	for _, b := range bodies {
		if e, err := audit.Decode(b); err == nil {
			entries = append(entries, e)
		}
	}
	return entries
}
