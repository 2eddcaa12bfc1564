package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The bounds of a request.
const (
	mostReason   = 1000 // characters
	shortestTime = time.Minute
	longestTime  = 7 * 24 * time.Hour
	requestLasts = 7 * 24 * time.Hour // until nobody may decide any more
	mostOpen     = 3                  // of one asker and item
	mostAsked    = 20                 // of one asker in a day, whatever became of them
	mostAskedOf  = 1000               // of one organisation in a day
	mostMailed   = 100                // of these; owners find the others in the list
	askedIn      = 24 * time.Hour
)

// requestData binds a sealed reason to its request.
func requestData(id RequestID) []byte { return append([]byte("vault-request "), id[:]...) }

// subject is whose reason it is.
func (q *Request) subject() (s audit.SubjectID) {
	if q.By.Kind == APerson {
		if p, err := id.Parse[struct{}](q.By.ID); err == nil {
			s = audit.SubjectID(p)
		}
	}
	return s
}

// Ask asks for an item for a while: because it is not granted to the asker, or because its policy wants a second person.
func (r *Room) Ask(ctx context.Context, c tenantdb.Caller, item ID, level Level, reason string, span time.Duration) (q Request, err error) {
	w := &wrong{}
	if n := len([]rune(reason)); n == 0 || n > mostReason {
		w.add("reason", "must have 1 to %d characters", mostReason)
	}
	if span < shortestTime || span > longestTime {
		w.add("minutes", "must be 1 to %d", longestTime/time.Minute)
	}
	if level != ForCode && level != ForSeed {
		w.add("level", "is neither code nor seed")
	}
	if err := w.problem("This cannot be asked for."); err != nil {
		return q, err
	}
	if level == ForSeed && c.Actor().Kind != audit.ActorPerson {
		return q, problem.New(problem.Denied, "Only people may have a seed.")
	}
	if c.Actor().Kind != audit.ActorAgent {
		err = need(c, "vault:code")
	}
	now := r.now()
	q = Request{ID: id.At[requestKind](now), Item: item, By: actorOf(c.Actor()), Level: level, Reason: reason, For: span, AskedAt: now, DueAt: now.Add(requestLasts)}
	if err == nil {
		q.reason, err = r.cfg.Ring.SealFields(ctx, c.Tenant(), q.subject(), []byte(reason), requestData(q.ID))
	}
	if err != nil {
		return q, err
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) { return r.asked(ctx, tx, &q) })
	return q, wrapped("Ask", r.told(ctx, c.Tenant(), item, err))
}

func (r *Room) asked(ctx context.Context, tx *tenantdb.Tx, q *Request) (e audit.Event, err error) {
	c := tx.Caller()
	if c.Actor().Kind != audit.ActorAgent {
		if err := r.cfg.People.StillHolds(ctx, &tx.ReadTx, "vault:code"); err != nil {
			return e, err
		}
	}
	s := &state{}
	if err := s.load(ctx, &tx.ReadTx, q.Item); err != nil {
		return e, err
	}
	if s.item == nil {
		return e, noItem()
	}
	f := &facts{now: q.AskedAt, asker: q.By, item: s.item, grants: s.grants, requests: s.requests}
	if f.asker.Kind == APerson {
		if f.groups, err = readGroups(ctx, &tx.ReadTx, f.asker.ID); err != nil {
			return e, err
		}
	}
	granted := f.level()
	if q.Granted = granted.covers(q.Level); q.Granted && !s.item.Policy.Approval {
		return e, problem.New(problem.Conflict, "You may use it without asking.")
	}
	n, err := openRequests(ctx, &tx.ReadTx, q.Item, q.By, q.AskedAt)
	if err != nil {
		return e, err
	}
	if n >= mostOpen {
		return e, problem.New(problem.Conflict, "%d requests of yours for this item wait already.", n)
	}
	mine, all, err := requestsSince(ctx, &tx.ReadTx, q.By, q.AskedAt.Add(-askedIn))
	if err != nil {
		return e, err
	}
	if mine >= mostAsked || all >= mostAskedOf {
		p := problem.New(problem.TooMany, "There were %d requests of yours in the last 24 hours, or %d of your organisation, which is the most.", mostAsked, mostAskedOf)
		p.RetryAfter = time.Hour
		return e, p
	}
	if err := insertRequest(ctx, tx, q); err != nil {
		return e, err
	}
	if e = q.event("vault.requested"); all >= mostMailed {
		return e, nil
	}
	return e, r.tellOwners(ctx, tx, mail.VaultRequested, map[string]string{"item": q.Item.String(), "request": q.ID.String()})
}

func (q *Request) event(typ string) audit.Event {
	e := audit.Event{
		Type: typ, Target: audit.Target{Kind: tenantdb.VaultRequest, ID: q.ID.String()},
		Public: []audit.Field{field("item", q.Item.String()), field("by", q.By.String()), field("level", string(q.Level)), field("for", q.For.String()), field("granted", fmt.Sprint(q.Granted))},
	}
	if q.Until != nil {
		e.Public = append(e.Public, field("until", q.Until.UTC().Format(time.RFC3339)))
	}
	if q.Reason != "" {
		e.Private, e.Subject = []audit.Field{field("reason", q.Reason)}, q.subject()
	}
	return e
}

// Decide lets an asker use an item for a while, or not: somebody who decides about the item, and never who asks. About a seed a person
// decides, who proved themselves.
func (r *Room) Decide(ctx context.Context, c tenantdb.Caller, request RequestID, approve bool) (q Request, err error) {
	if _, is := c.Person(); is {
		if _, err := r.proved(c); err != nil {
			return q, err
		}
	}
	before, err := r.Request(ctx, c, request) // which opens the reason before the log's head is held
	if err != nil {
		return q, err
	}
	if before.Level == ForSeed {
		if _, err := r.proved(c); err != nil {
			return q, err
		}
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), before.subject()); err != nil {
		return q, r.unopened(err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		found, err := readRequest(ctx, &tx.ReadTx, request)
		if err != nil || found == nil {
			return audit.Event{}, orMissing(err)
		}
		q = *found
		q.Reason = before.Reason
		check := r.stillManages
		if approve {
			check = r.managesOn
		}
		if _, err := managed(ctx, tx, q.Item, check); err != nil {
			return audit.Event{}, err
		}
		now, by := r.now(), actorOf(c.Actor())
		err = r.decidesAbout(ctx, &tx.ReadTx, &q)
		if err == nil && approve && q.By.Kind == AnAgent {
			err = r.isNot(ctx, &tx.ReadTx, by, q.By)
		}
		if err != nil {
			return audit.Event{}, err
		}
		if !q.waits(now) {
			return audit.Event{}, problem.New(problem.Conflict, "The request is %s: there is nothing to decide.", q.State(now))
		}
		name := by.String()
		q.DecidedBy, q.DecidedAt, q.Outcome = &name, &now, "refused"
		if approve {
			until := now.Add(q.For).Truncate(time.Second) // as the log says it
			q.Outcome, q.Until = "approved", &until
		}
		e := q.event("vault.request_" + q.Outcome)
		e.Alters = approve
		return e, updateRequest(ctx, tx, &q)
	})
	return q, wrapped("Decide", r.told(ctx, c.Tenant(), before.Item, err))
}

// decidesAbout refuses a decision about a request by whom asked, by a key that may be theirs, and of a seed by any key.
func (r *Room) decidesAbout(ctx context.Context, tx *tenantdb.ReadTx, q *Request) error {
	by := actorOf(tx.Caller().Actor())
	if by.Kind == AKey {
		maker, err := keyMaker(ctx, tx, by.ID)
		if err != nil {
			return err
		}
		if maker == "" {
			return problem.New(problem.Denied, "This key belongs to nobody, so it may be that of who asks: a person decides, or a key that a person made.")
		}
	}
	me, err := r.self(ctx, tx, by, []Actor{q.By})
	if err == nil && me.is(q.By) {
		err = problem.New(problem.Denied, "Nobody decides about what they asked for themselves.")
	}
	return err
}

func noRequest() error { return problem.New(problem.Missing, "There is no such request.") }

func orMissing(err error) error {
	if err == nil {
		err = noRequest()
	}
	return err
}

// Withdraw takes a request back, or ends what an approved one lends: its asker, or who decides about the item.
func (r *Room) Withdraw(ctx context.Context, c tenantdb.Caller, request RequestID) (q Request, err error) {
	before, err := r.Request(ctx, c, request)
	if err != nil && !errors.Is(err, errAltered) { // one whose reason was altered is taken back too
		return q, err
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), before.subject()); err != nil {
		return q, r.unopened(err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		found, err := readRequest(ctx, &tx.ReadTx, request)
		if err != nil || found == nil {
			return audit.Event{}, orMissing(err)
		}
		q = *found
		q.Reason = before.Reason
		if by := actorOf(c.Actor()); by != q.By {
			// As with Revoke, an item that was altered does not keep anybody from taking away what was lent of it.
			i, err := readItem(ctx, &tx.ReadTx, q.Item)
			if err == nil && i == nil {
				err = noItem()
			}
			if err == nil {
				err = r.stillManages(ctx, &tx.ReadTx, i)
			}
			if err != nil {
				return audit.Event{}, err
			}
		}
		now, by := r.now(), actorOf(c.Actor()).String()
		switch {
		case q.waits(now):
			q.Outcome, q.DecidedBy, q.DecidedAt = "withdrawn", &by, &now
		case q.lends(now):
			q.EndedAt = &now
		default:
			return audit.Event{}, nil
		}
		e := q.event("vault.request_withdrawn")
		e.Alters = true
		return e, updateRequest(ctx, tx, &q)
	})
	return q, wrapped("Withdraw", err)
}

// Request is one request: the caller's own, or of an item that the caller decides about.
func (r *Room) Request(ctx context.Context, c tenantdb.Caller, request RequestID) (q Request, err error) {
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		found, err := readRequest(ctx, tx, request)
		if err != nil || found == nil {
			return orMissing(err)
		}
		q = *found
		if q.By == actorOf(c.Actor()) {
			return nil
		}
		i, err := readItem(ctx, tx, q.Item)
		if err != nil {
			return err
		}
		if err := decides(ctx, tx, i); !problem.Is(err, problem.Missing) {
			return err
		}
		return noRequest()
	})
	if err == nil {
		err = r.openReason(ctx, c.Tenant(), &q)
	}
	return q, wrapped("Request", err)
}

func (r *Room) openReason(ctx context.Context, t tenantdb.TenantID, q *Request) error {
	plain, err := r.cfg.Ring.OpenFields(ctx, t, q.subject(), q.reason, requestData(q.ID))
	if errors.Is(err, keyring.ErrDestroyed) { // who asked was erased
		return nil
	}
	if err != nil {
		return r.unopened(err)
	}
	q.Reason = string(plain)
	return nil
}

// Requests are the caller's own requests, and those of items that the caller decides about: the newest first, from behind after.
// more says whether there are others that were not looked at.
func (r *Room) Requests(ctx context.Context, c tenantdb.Caller, state string, after RequestID, most int) (all []Request, next RequestID, err error) {
	now := r.now()
	for len(all) < most {
		var rows []Request
		var mine map[ID]bool
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			if rows, err = readRequests(ctx, tx, after, 200); err != nil {
				return err
			}
			mine, err = managedOf(ctx, tx, rows)
			return err
		})
		if err != nil {
			return nil, next, wrapped("Requests", err)
		}
		for k := range rows {
			q := &rows[k]
			after = q.ID
			if q.By != actorOf(c.Actor()) && !mine[q.Item] || state != "" && q.State(now) != state {
				continue
			}
			// One whose reason was altered does not hide the others.
			if err := r.openReason(ctx, c.Tenant(), q); err != nil && !errors.Is(err, errAltered) {
				return nil, next, wrapped("Requests", err)
			}
			if all = append(all, *q); len(all) == most {
				return all, after, nil
			}
		}
		if len(rows) < 200 {
			return all, RequestID{}, nil
		}
	}
	return all, after, nil
}

// managedOf says which items of requests the caller decides about.
func managedOf(ctx context.Context, tx *tenantdb.ReadTx, rows []Request) (map[ID]bool, error) {
	mine := map[ID]bool{}
	for _, q := range rows {
		if _, known := mine[q.Item]; known {
			continue
		}
		i, err := readItem(ctx, tx, q.Item)
		if err != nil {
			return nil, err
		}
		err = decides(ctx, tx, i)
		if mine[q.Item] = err == nil; err != nil && !problem.Is(err, problem.Missing) && !errors.Is(err, errAltered) {
			return nil, err
		}
	}
	return mine, nil
}

// tellOwners has every owner mailed, and who was sent away as one a few days ago.
func (r *Room) tellOwners(ctx context.Context, tx *tenantdb.Tx, what mail.Template, ids map[string]string) error {
	owners, err := r.cfg.People.OwnersOfLate(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	return mail.ToEach(ctx, tx, tx.Tenant().String(), owners, what, ids)
}
