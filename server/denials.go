package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// denials writes down what was refused. The first refusals of a kind to a caller are entries of their own; what follows
// is counted, and each minute the count is one entry of the same log: a flood of bad requests must not become a flood of
// entries, nor may any of it go unsaid. What was refused to nobody in particular is only counted, by address, for the
// platform's log.
type denials struct {
	db       *tenantdb.DB
	log      *slog.Logger
	now      func() time.Time
	flushing sync.Mutex

	mu      sync.Mutex
	tallies map[denial]*tally
	apart   map[tenantdb.TenantID]int // how many of the tallies are each log's
}

// denial is what is counted together. Its words come from closed lists, but for the ids of what exists.
type denial struct {
	tenant  tenantdb.TenantID // whose log it is in
	actor   audit.Actor
	typ     string
	target  audit.Target
	why     audit.Field // the kind of problem, or the reason
	address netip.Addr  // of what is counted by address; else the zero one
}

// tally is how often it happened.
type tally struct {
	singly  int       // entries of their own that it had since it was last quiet
	written time.Time // when the last entry was made
	counted
}

// counted is what is in no entry yet.
type counted struct {
	count   int
	first   tenantdb.Caller // the request under which the count is entered is the first that it counts
	since   time.Time
	address netip.Addr
	several bool // addresses
}

// The bounds of what is counted apart in one log, and in all; the rest of a log is counted together. They are those of the
// memory, and of the entries that a log gets in a minute.
const (
	mostOfPlatform = 1000
	mostOfTenant   = 100
	mostOfAll      = 20_000
	quiet          = time.Minute // after so long without any, the first ones are entries of their own again
)

// How many refusals are entries of their own before they are counted. A request that its sender may mend is worth finding
// by its id; the use of a key that was stopped says the same each time.
const (
	singleRequests = 10
	singleKeys     = 1
	singleLeaks    = 5
)

func newDenials(db *tenantdb.DB, log *slog.Logger) *denials {
	return &denials{db: db, log: log, now: time.Now, tallies: map[denial]*tally{}, apart: map[tenantdb.TenantID]int{}}
}

// gate is who counts.
func gate(t tenantdb.TenantID) tenantdb.Caller { return tenantdb.System(t, "gate") }

// nobodys counts what was refused to nobody in particular.
func (d *denials) nobodys(a netip.Addr, kind problem.Kind) {
	by := gate(tenantdb.Platform)
	d.take(denial{
		tenant: tenantdb.Platform, actor: by.Actor(), typ: "requests.refused", target: audit.Target{Kind: "address"},
		why: audit.Field{Name: "kind", Value: string(kind)}, address: a.Unmap(),
	}, by, 0)
}

func denialOf(c tenantdb.Caller, ev audit.Event) denial {
	return denial{tenant: c.Tenant(), actor: c.Actor(), typ: ev.Type, target: ev.Target, why: ev.Public[0]}
}

// record writes the event, which has a public field that says why, if it is among the first so many of its kind; else it
// is counted. What cannot be written is counted too, and the error says so.
func (d *denials) record(ctx context.Context, c tenantdb.Caller, ev audit.Event, singly int) error {
	k := denialOf(c, ev)
	if !d.take(k, c, singly) {
		return nil
	}
	// The door has time limits of its own. An entry that is given up before may be written all the same, and be counted too.
	if _, err := d.db.Record(context.WithoutCancel(ctx), c, ev); err != nil {
		d.take(k, c, 0)
		return fmt.Errorf("server.denials: %w", err)
	}
	return nil
}

// take counts a refusal, or says that it is to be written.
func (d *denials) take(k denial, c tenantdb.Caller, singly int) (write bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	own, t := d.tally(k)
	if own == k && t.singly < singly {
		t.singly++
		t.written = now
		return true
	}
	t.add(counted{count: 1, first: c, since: now, address: c.Address().Unmap()})
	return false
}

// tally finds where a denial is counted: apart, or with the rest of its log.
func (d *denials) tally(k denial) (denial, *tally) {
	if t := d.tallies[k]; t != nil {
		return k, t
	}
	most := mostOfTenant
	if k.tenant == tenantdb.Platform {
		most = mostOfPlatform
	}
	if d.apart[k.tenant] >= most || len(d.tallies) >= mostOfAll {
		k = denial{tenant: k.tenant, actor: gate(k.tenant).Actor(), typ: k.typ, target: audit.Target{Kind: k.target.Kind}, why: k.why}
		if t := d.tallies[k]; t != nil {
			return k, t
		}
	}
	t := &tally{}
	d.tallies[k] = t
	d.apart[k.tenant]++
	return k, t
}

func (c *counted) add(more counted) {
	if c.count == 0 {
		*c = more
		return
	}
	if more.since.Before(c.since) {
		c.first, c.since = more.first, more.since
	}
	c.count += more.count
	c.several = c.several || more.several || c.address != more.address
}

// owed is a count that is to be written.
type owed struct {
	denial
	counted
}

// due takes out what has been counted, by log, and forgets what has long been quiet.
func (d *denials) due() map[tenantdb.TenantID][]owed {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, found := d.now(), map[tenantdb.TenantID][]owed{}
	for k, t := range d.tallies {
		switch {
		case t.count > 0:
			found[k.tenant] = append(found[k.tenant], owed{k, t.counted})
			t.counted, t.written = counted{}, now
		case now.Sub(t.written) >= quiet:
			delete(d.tallies, k)
			if d.apart[k.tenant]--; d.apart[k.tenant] == 0 {
				delete(d.apart, k.tenant)
			}
		}
	}
	return found
}

// flush writes what has been counted. What cannot be written is counted on. A log that cannot be written holds up no other.
func (d *denials) flush(ctx context.Context) {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	var logs errgroup.Group
	logs.SetLimit(8)
	for _, counts := range d.due() {
		logs.Go(func() error { d.write(ctx, counts); return nil })
	}
	_ = logs.Wait() // they return none
}

// write enters the counts of one log. If it cannot be written now, the rest of them do not try.
func (d *denials) write(ctx context.Context, counts []owed) {
	var failed error
	left, away := 0, false
	for _, o := range counts {
		err := ctx.Err()
		if err == nil && !away {
			_, err = d.db.Record(context.WithoutCancel(ctx), o.caller(), o.event())
			away = problem.Is(err, problem.Unavailable) || problem.Is(err, problem.TenantKey)
		}
		if err != nil || away {
			failed = cmp.Or(failed, err)
			left += o.count
			d.again(o, err)
		}
	}
	if failed != nil && !problem.Is(failed, problem.TenantKey) { // which is the organisation's own doing, and has been said
		d.log.ErrorContext(ctx, "refusals were not recorded", "count", left, "error", failed)
	}
}

// again counts on, unless there is no such log: then nobody could ever read it.
func (d *denials) again(o owed, err error) {
	if problem.Is(err, problem.Missing) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, t := d.tally(o.denial)
	t.add(o.counted)
}

func (o owed) caller() tenantdb.Caller {
	if o.actor == gate(o.tenant).Actor() {
		return gate(o.tenant)
	}
	return o.first
}

func (o owed) event() audit.Event {
	address := "unknown"
	switch {
	case o.denial.address.IsValid():
		address = o.denial.address.String()
	case o.actor == gate(o.tenant).Actor():
		address = "others"
	case o.several:
		address = "several"
	case o.counted.address.IsValid():
		address = o.counted.address.String()
	}
	return audit.Event{
		Type: o.typ, Outcome: audit.Denied, Target: o.target,
		Public:  []audit.Field{o.why, {Name: "count", Value: strconv.Itoa(o.count)}, {Name: "since", Value: o.since.UTC().Format(time.RFC3339)}},
		Private: []audit.Field{{Name: "address", Value: address}},
	}
}
