package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Code is what somebody gets of an item.
type Code struct {
	Kind      Kind
	Code      string
	ExpiresIn int64     // seconds until the next one; 0 if it does not change by time
	Period    int64     // seconds
	NextAt    time.Time // when the next one begins
	Counter   *int64    // of HOTP
	Left      *int      // recovery codes that nobody has taken
}

// Asker is who asks for a code: once for each time that it is decided anew.
type Asker interface {
	// Stand is the caller, at the head that it was read at; a zero head is of a caller that was read for this request alone. again says
	// that what was decided by the last one lost to a change.
	Stand(ctx context.Context, again bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error)
}

// caller is an Asker that was authenticated for this request.
type caller struct{ tenantdb.Caller }

// Stand is for Asker.
func (c caller) Stand(context.Context, bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error) {
	return c.Caller, tenantdb.Head{}, nil, nil
}

// The limit of codes that one caller gets.
const (
	mostFetches = 60
	fetchWindow = time.Minute
)

// Code gives a caller the present code of an item, or the next one where codes do not change by time. It is in the log before it
// leaves. once names a fetch that moves the item: with the same one, the same code is given again.
func (r *Room) Code(ctx context.Context, c tenantdb.Caller, id ID, once string) (Code, error) {
	return r.code(ctx, c.Tenant(), caller{c}, id, once)
}

func (r *Room) code(ctx context.Context, t tenantdb.TenantID, who Asker, id ID, once string) (out Code, err error) {
	s, err := r.state(ctx, t, id)
	if err != nil {
		return out, err
	}
	switch {
	case s.item == nil:
		return out, noItem()
	case !s.item.Kind.gives():
		g, err := r.gather(ctx, t, who, id, "vault:code", true) // who may not use it is not told what it is
		g.held.clear()
		if err == nil {
			err = problem.New(problem.Conflict, "The item is a secret that nobody sees: use it with POST /api/v1/vault/items/%s/fetch.", id)
		}
		return out, r.told(ctx, t, id, wrapped("Code", err))
	case s.item.Kind.moves():
		out, err = r.take(ctx, t, who, id, once)
	default:
		out, err = r.current(ctx, t, who, id)
	}
	return out, r.told(ctx, t, id, wrapped("Code", err))
}

// state is an item as it is remembered, or read.
func (r *Room) state(ctx context.Context, t tenantdb.TenantID, id ID) (*state, error) {
	s, err := r.memory.state(ctx, t, id, false)
	return s, r.told(ctx, t, id, wrapped("state", err))
}

// gathered is what a use was decided from, all at one epoch, with what it needs: it may be made.
type gathered struct {
	*facts
	caller tenantdb.Caller
	head   tenantdb.Head
	spends []tenantdb.Spend // of the caller's token
	held   content          // to be cleared
}

// gather decides whether an item may be used: from memory, unless that has lost to a change, would refuse, or does not open (its keys
// may have been rotated since). What is refused is refused by what was read from now on.
func (r *Room) gather(ctx context.Context, t tenantdb.TenantID, who Asker, id ID, capability string, again bool) (g gathered, err error) {
	for n := 0; n < 4; n++ {
		again = again || n > 0
		var head tenantdb.Head
		if g.caller, head, g.spends, err = who.Stand(ctx, again); err != nil {
			return g, err
		}
		if err = allowed(g.caller, capability); err != nil && again {
			return g, err
		}
		s, bad := r.memory.state(ctx, t, id, again)
		if bad != nil {
			return g, bad
		}
		if err != nil || head.Epoch != s.head.Epoch && head != (tenantdb.Head{}) {
			continue
		}
		g.head = s.head
		if g.facts, err = r.facts(ctx, g.caller, s); err != nil {
			return g, err
		}
		if err = judge(g.facts, ForCode); err == nil {
			g.held, err = r.reveal(ctx, t, g.item)
		}
		if err == nil || again {
			return g, err
		}
	}
	return g, unsteady().Because(&tenantdb.StaleError{Heads: []tenantdb.Head{g.head}}) // to DB.Decide, another try
}

// unsteady refuses what was decided anew too often.
func unsteady() *problem.Error {
	return problem.New(problem.Unavailable, "The vault changed with each look at it. Try again shortly.")
}

// facts are what a caller's use of an item is decided from.
func (r *Room) facts(ctx context.Context, c tenantdb.Caller, s *state) (*facts, error) {
	f := &facts{now: r.now(), asker: actorOf(c.Actor()), address: c.Address(), item: s.item, requests: s.requests}
	if _, is := c.Person(); is {
		// Who is in which group moves no epoch: it is read each time.
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			f.groups, err = readGroups(ctx, tx, c.Actor().ID)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	f.grants = s.grantsTo(f.asker, f.groups)
	if f.asker.Kind != AnAgent || len(f.loans()) == 0 {
		return f, nil
	}
	return f, r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error { return r.bar(ctx, tx, c, f) })
}

// allowed is the gate of an operation that asks for itself who calls it.
func allowed(c tenantdb.Caller, capability string) error {
	if c.Actor().Kind == audit.ActorAgent && !c.May(capability) {
		return problem.New(problem.Denied, "The agent lacks the scope %s.", map[string]string{"vault:code": "read:codes", "vault:use": "use:secrets"}[capability])
	}
	return need(c, capability)
}

// current gives a code that changes by time.
func (r *Room) current(ctx context.Context, t tenantdb.TenantID, who Asker, id ID) (out Code, err error) {
	times := 0
	_, err = r.cfg.DB.Decide(ctx, []tenantdb.TenantID{t}, func() ([]tenantdb.Draft, []tenantdb.Spend, error) {
		times++
		g, err := r.gather(ctx, t, who, id, "vault:code", times > 1)
		if err != nil {
			return nil, nil, err
		}
		defer g.held.clear()
		var step int64
		out, step = g.held.at(g.item.Kind, g.now)
		spends := append(g.spends, g.counts(t, step)...)
		if err := r.counters(ctx, t, spends); err != nil {
			return nil, nil, err
		}
		d, err := r.cfg.DB.Draft(ctx, g.caller, g.head, used(g.caller, g.facts, given))
		return []tenantdb.Draft{d}, spends, err
	})
	if err != nil {
		return Code{}, r.spent(err, out)
	}
	return out, nil
}

// at is the code of an instant, and its step.
func (c *content) at(k Kind, now time.Time) (Code, int64) {
	s := c.scheme()
	step := s.Step(now)
	next := time.Unix((step+1)*s.Period, 0).UTC()
	return Code{
		Kind: k, Code: s.CodeOf(otp.Kind(k), c.Key, uint64(step)), Period: s.Period, NextAt: next, ExpiresIn: int64(next.Sub(now)+time.Second-1) / int64(time.Second),
	}, step
}

// used is a use of an item, for the log. From where is private, and of a person about that person.
func used(c tenantdb.Caller, f *facts, typ string, public ...audit.Field) audit.Event {
	e := audit.Event{Type: typ, Target: audit.Target{Kind: tenantdb.VaultUse, ID: f.item.ID.String()}, Public: append([]audit.Field{field("kind", string(f.item.Kind))}, public...)}
	if f.address.IsValid() {
		e.Private = []audit.Field{field("address", f.address.String())}
	}
	if p, is := c.Person(); is {
		e.Subject = p.ID
	}
	return e
}

// counts are the counters of a caller's fetches, and of what was given of a window. Another secret has other windows: its steps may be
// shorter or longer, and a counter never goes back.
func (f *facts) counts(t tenantdb.TenantID, step int64) []tenantdb.Spend {
	out := []tenantdb.Spend{rateOf(t, f.asker)}
	window := fmt.Sprintf("%s:%d", f.item.ID, f.item.secretVersion)
	switch f.item.Policy.Uses {
	case Once:
		out = append(out, tenantdb.Spend{Tenant: t, Subject: windowCounter + window, Limit: 1, Period: step})
	case OnceEach:
		sum := sha256.Sum256([]byte(window + " " + f.asker.String()))
		out = append(out, tenantdb.Spend{Tenant: t, Subject: windowCounter + hex.EncodeToString(sum[:20]), Limit: 1, Period: step})
	}
	return out
}

const (
	rateCounter   = "vault:"
	windowCounter = "vaultw:"
)

// rateOf counts all fetches of a caller, of whatever kind, and those that are tried again.
func rateOf(t tenantdb.TenantID, a Actor) tenantdb.Spend {
	return tenantdb.Spend{Tenant: t, Subject: rateCounter + a.Kind[:1] + ":" + a.ID, Limit: mostFetches, Window: fetchWindow}
}

// spent says of which limit a refusal is; every other error stays.
func (r *Room) spent(err error, out Code) error {
	var e *tenantdb.SpentError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case len(e.Subject) > len(windowCounter) && e.Subject[:len(windowCounter)] == windowCounter:
		p := problem.New(problem.Denied, "The code of this window was given out already: the item's policy gives each once. The next begins at %s.", out.NextAt.Format(time.RFC3339))
		p.RetryAfter = time.Duration(out.ExpiresIn) * time.Second
		return p
	case len(e.Subject) > len(rateCounter) && e.Subject[:len(rateCounter)] == rateCounter:
		return tooMany(min(max(e.Anew.Sub(r.now()), time.Second), fetchWindow)) // clocks differ
	}
	return problem.New(problem.Unauthenticated, "The token's uses are spent.")
}

func tooMany(wait time.Duration) error {
	p := problem.New(problem.TooMany, "You fetched %d codes in the last minute, which is the most.", mostFetches)
	p.RetryAfter = wait
	return p
}

// known are counters that this process has seen to exist.
type known struct {
	mu  sync.Mutex
	all map[counter]bool
}

type counter struct {
	tenant  tenantdb.TenantID
	subject string
}

const mostKnown = 50_000

// missing is those of the room's own counters that are not known to exist.
func (k *known) missing(spends []tenantdb.Spend) (subjects []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range spends {
		if len(s.Subject) > 5 && s.Subject[:5] == rateCounter[:5] && !k.all[counter{s.Tenant, s.Subject}] {
			subjects = append(subjects, s.Subject)
		}
	}
	return subjects
}

func (k *known) add(t tenantdb.TenantID, subjects []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil || len(k.all) > mostKnown {
		k.all = map[counter]bool{}
	}
	for _, s := range subjects {
		k.all[counter{t, s}] = true
	}
}

// counters makes those that are not there yet: a spend needs its row.
func (r *Room) counters(ctx context.Context, t tenantdb.TenantID, spends []tenantdb.Spend) error {
	subjects := r.known.missing(spends)
	if len(subjects) == 0 {
		return nil
	}
	err := r.cfg.DB.Note(ctx, tenantdb.System(t, "vault"), func(tx *tenantdb.Tx) error { return insertCounters(ctx, tx, subjects) })
	if err == nil {
		r.known.add(t, subjects)
	}
	return err
}

// kindAltered is the incident of an item that is not what the log says: in the organisation, and in the platform with the
// organisation as its subject.
const kindAltered = "vault.altered"

// told has everybody know whom it concerns that an item is not what the log says. The error stays what it is.
func (r *Room) told(ctx context.Context, t tenantdb.TenantID, id ID, err error) error {
	if !errors.Is(err, errAltered) || r.cfg.Raise == nil {
		return err
	}
	says := fmt.Sprintf("The vault's item %s is not what the log says of it: it was altered, or an older one was put back. It is not used.", id)
	_, own := r.cfg.Raise(ctx, tenantdb.System(t, "vault"), kindAltered, id.String(), says)
	_, all := r.cfg.Raise(ctx, tenantdb.System(tenantdb.Platform, "vault"), kindAltered, t.String(), says)
	return errors.Join(err, own, all)
}
