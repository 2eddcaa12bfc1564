package policy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Review signs off what was done with a use that is over: somebody else than who opened it, with a remark.
func (g *Glass) Review(ctx context.Context, c tenantdb.Caller, use UseID, remark string) (Use, error) {
	p, err := holder(c, "breakglass:approve")
	if err == nil {
		remark, err = sentence("remark", remark)
	}
	if err != nil {
		return Use{}, err
	}
	u, err := g.find(ctx, c, use) // whom the remark is about, for whose key it is sealed with
	if err != nil {
		return Use{}, err
	}
	sealed, err := g.seal(ctx, c.Tenant(), &u, "remark", remark)
	if err != nil {
		return Use{}, wrapped("Review", err)
	}
	err = g.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if err := g.cfg.Rules.StillHolds(ctx, &tx.ReadTx, "breakglass:approve"); err != nil {
			return nil, err
		}
		if u, err = loadUse(ctx, &tx.ReadTx, use); err != nil {
			return nil, err
		}
		now := g.now()
		switch s := u.State(now); {
		case u.Person == p.ID:
			return nil, problem.New(problem.Denied, "Somebody else must review what you opened.")
		case u.OpenedAt.IsZero():
			return nil, problem.New(problem.Conflict, "It was never open: there is nothing to review.")
		case s == Opened:
			return nil, problem.New(problem.Conflict, "It is open: end it first, or wait for its end.")
		case !u.ReviewedAt.IsZero():
			return nil, problem.New(problem.Conflict, "It was reviewed already.")
		}
		var events []audit.Event
		if e, closed, err := g.settle(ctx, tx, &u, now); err != nil {
			return nil, err
		} else if closed {
			events = append(events, e)
		}
		u.ReviewedBy, u.ReviewedAt, u.remark, u.Remark = p.ID.String(), now, sealed, remark
		e := u.event("reviewed")
		e.Private = []audit.Field{{Name: "remark", Value: remark}}
		return append(events, e), updateUse(ctx, tx, &u)
	})
	if err != nil {
		return Use{}, wrapped("Review", err)
	}
	return u, g.read(ctx, c.Tenant(), &u)
}

// find reads one use, sealed.
func (g *Glass) find(ctx context.Context, c tenantdb.Caller, use UseID) (u Use, err error) {
	err = g.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		u, err = loadUse(ctx, tx, use)
		return err
	})
	return u, wrapped("find", err)
}

// read opens the texts of a use. Those about a person who was erased stay empty.
func (g *Glass) read(ctx context.Context, t tenantdb.TenantID, u *Use) error {
	for _, s := range []struct {
		name   string
		sealed []byte
		into   *string
	}{{"reason", u.reason, &u.Reason}, {"remark", u.remark, &u.Remark}} {
		if s.sealed == nil {
			continue
		}
		plain, err := g.cfg.Ring.OpenFields(ctx, t, u.Person, s.sealed, u.aad(s.name))
		if err != nil && !errors.Is(err, keyring.ErrDestroyed) {
			return wrapped("read", err)
		}
		*s.into = string(plain)
	}
	return nil
}

// Get is one use: for its person, and for who may read all.
func (g *Glass) Get(ctx context.Context, c tenantdb.Caller, use UseID) (Use, error) {
	own, err := reader(c)
	if err != nil {
		return Use{}, err
	}
	u, err := g.find(ctx, c, use)
	if err != nil {
		return Use{}, err
	}
	if !own.IsZero() && u.Person != own {
		return Use{}, noUse()
	}
	return u, g.read(ctx, c.Tenant(), &u)
}

// List is uses, the newest first, from below a given one: all of the organisation's, or the caller's own.
func (g *Glass) List(ctx context.Context, c tenantdb.Caller, below UseID, unreviewed bool, most int) (uses []Use, err error) {
	own, err := reader(c)
	if err != nil {
		return nil, err
	}
	err = g.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		uses, err = listUses(ctx, tx, own, below, unreviewed, most)
		return err
	})
	for i := range uses {
		if err == nil {
			err = g.read(ctx, c.Tenant(), &uses[i])
		}
	}
	return uses, wrapped("List", err)
}

// reader is whose uses a caller may read; zero is everybody's.
func reader(c tenantdb.Caller) (own tenantdb.PersonID, err error) {
	if c.May("breakglass:read") {
		return own, nil
	}
	p, is := c.Person()
	if !is {
		return own, problem.New(problem.Denied, "This needs the capability breakglass:read.")
	}
	return p.ID, nil
}

// Week is the list of what was opened in one week, and who signed it off.
type Week struct {
	Monday     time.Time
	Uses       int
	Unreviewed int // those not over among them
	SignedBy   string
	SignedAt   time.Time
}

func monday(t time.Time) time.Time {
	t = t.UTC().Truncate(24 * time.Hour)
	return t.AddDate(0, 0, -(int(t.Weekday())+6)%7)
}

const week = 7 * 24 * time.Hour

// Weeks is those in which something was opened, the newest first, from below a given Monday if that is not zero.
func (g *Glass) Weeks(ctx context.Context, c tenantdb.Caller, below time.Time, most int) (weeks []Week, err error) {
	if !c.May("breakglass:read") {
		return nil, problem.New(problem.Denied, "This needs the capability breakglass:read.")
	}
	if below.IsZero() {
		below = monday(g.now()).Add(100 * week)
	}
	err = g.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		weeks, err = readWeeks(ctx, tx, below, most)
		return err
	})
	return weeks, wrapped("Weeks", err)
}

// Sign signs off the list of a week that has ended, when each use of it is reviewed: not by the only one who opened any.
func (g *Glass) Sign(ctx context.Context, c tenantdb.Caller, start time.Time, remark string) (Week, error) {
	p, err := holder(c, "breakglass:approve")
	if err == nil {
		remark, err = sentence("remark", remark)
	}
	if err != nil {
		return Week{}, err
	}
	if !start.Equal(monday(start)) {
		return Week{}, problem.New(problem.Invalid, "A week is named by its Monday, in UTC.")
	}
	now := g.now()
	if now.Before(start.Add(week)) {
		return Week{}, problem.New(problem.Conflict, "The week has not ended: its list can still grow.")
	}
	sealed, err := g.cfg.Ring.SealFields(ctx, c.Tenant(), audit.SubjectID{}, []byte(remark), []byte("avouch/glass/week/"+start.Format(time.DateOnly)))
	if err != nil {
		return Week{}, wrapped("Sign", err)
	}
	var w Week
	err = g.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := g.signable(ctx, tx, p.ID, start, &w); err != nil {
			return audit.Event{}, err
		}
		w.SignedBy, w.SignedAt = p.ID.String(), now
		return audit.Event{
			Type: "break_glass.week_signed", Target: audit.Target{Kind: "week", ID: start.Format(time.DateOnly)},
			Public: []audit.Field{{Name: "uses", Value: fmt.Sprint(w.Uses)}}, Private: []audit.Field{{Name: "remark", Value: remark}},
		}, insertWeek(ctx, tx, &w, sealed)
	})
	if err != nil {
		return Week{}, wrapped("Sign", err)
	}
	return w, nil
}

func (g *Glass) signable(ctx context.Context, tx *tenantdb.Tx, by tenantdb.PersonID, start time.Time, w *Week) error {
	found, err := readWeeks(ctx, &tx.ReadTx, start.Add(week), 1)
	if err != nil {
		return err
	}
	if len(found) == 0 || !found[0].Monday.Equal(start) {
		return problem.New(problem.Missing, "Nothing was opened in that week.")
	}
	*w = found[0]
	others, err := openedByOthers(ctx, &tx.ReadTx, start, by)
	switch {
	case err != nil:
		return err
	case w.SignedBy != "":
		return problem.New(problem.Conflict, "The week was signed off already.")
	case w.Unreviewed > 0:
		return problem.New(problem.Conflict, "Of its uses %d are not reviewed, or not over.", w.Unreviewed)
	case others == 0:
		return problem.New(problem.Denied, "Somebody else must sign off a week in which you alone opened anything.")
	}
	return nil
}

// Remind mails every owner, once a week, while a use that is over is not reviewed or a week that has ended is not signed off: of
// the oldest week of which that is so. It reports whether it did.
func (g *Glass) Remind(ctx context.Context, c tenantdb.Caller) (reminded bool, err error) {
	if c.Actor().Kind != audit.ActorSystem {
		return false, problem.New(problem.Denied, "Only Avouch itself reminds.")
	}
	now := g.now()
	this := monday(now)
	var oldest time.Time
	var uses int
	err = g.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		oldest, uses, err = oldestUnsigned(ctx, tx, now, this)
		return err
	})
	if err != nil || uses == 0 {
		return false, wrapped("Remind", err)
	}
	err = g.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		once := sha256.Sum256([]byte(this.Format(time.DateOnly)))
		if reminded, err = spend(ctx, tx, "glass-reminder", once, this.Add(2*week)); err != nil || !reminded {
			return err
		}
		return g.tell(ctx, tx, mail.GlassReview, map[string]string{"week": oldest.Format(time.DateOnly), "uses": fmt.Sprint(uses)})
	})
	return reminded && err == nil, wrapped("Remind", err)
}
