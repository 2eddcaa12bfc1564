package trail

import (
	"context"
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Query says which entries of a log are wanted. The zero Query is the newest of all.
type Query struct {
	Oldest   bool   // from the first on; else from the last back
	Type     string // exactly, or a prefix that ends in ".*"
	Decision string
	Actor    string // its id
	Target   string // its id
	Request  audit.RequestID
	Since    time.Time // inclusive; zero is the beginning
	Until    time.Time // exclusive; zero is the end
	From     int64     // the lowest number
	After    *int64    // where the page before ended
	Limit    int       // 0 means 50
}

// The bounds of one page. A filter on what is inside the entry cannot use an index, so a page ends when so many rows
// were looked at, found or not, and the next page goes on from there: no query runs long, whatever it asks.
const (
	maxLimit   = 200
	chunk      = 500
	maxScanned = 5000
)

// Page is a part of a log.
type Page struct {
	Entries []Entry
	More    bool  // there may be more
	Last    int64 // where the next page goes on: Query.After
}

// Entries reads a page of the caller's log. The read is recorded before it returns.
func (r *Room) Entries(ctx context.Context, c tenantdb.Caller, q Query) (Page, error) {
	if err := allowRead(c); err != nil {
		return Page{}, err
	}
	if q.Limit <= 0 || q.Limit > maxLimit {
		q.Limit = 50
	}
	page, err := r.scan(ctx, c, q)
	if err != nil {
		return Page{}, fmt.Errorf("trail.Entries: %w", err)
	}
	public := []audit.Field{{Name: "count", Value: strconv.Itoa(len(page.Entries))}}
	if n := len(page.Entries); n > 0 {
		lo, hi := page.Entries[0].Seq, page.Entries[n-1].Seq
		public = append(public, audit.Field{Name: "from", Value: number(min(lo, hi))}, audit.Field{Name: "to", Value: number(max(lo, hi))})
	}
	if _, err := r.record(ctx, c, sawEntries, public, q.String()); err != nil {
		return Page{}, err
	}
	return page, nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// scan reads in short transactions, none of which holds its snapshot while entries are decoded.
func (r *Room) scan(ctx context.Context, c tenantdb.Caller, q Query) (Page, error) {
	lo, hi, err := r.bounds(ctx, c, q)
	if err != nil {
		return Page{}, err
	}
	page := Page{Entries: []Entry{}}
	for scanned := 0; lo < hi && len(page.Entries) < q.Limit; {
		if scanned >= maxScanned {
			page.More = true
			return page, nil
		}
		rows, err := r.step(ctx, c, q, lo, hi)
		if err != nil {
			return Page{}, err
		}
		if len(rows) == 0 {
			return page, nil
		}
		scanned += len(rows)
		for _, v := range rows {
			page.Last = v.seq
			if view, e := decode(v); q.matches(&view) {
				if err := r.reveal(ctx, c.Tenant(), &view, &e, v.sealed); err != nil {
					return Page{}, err
				}
				page.Entries = append(page.Entries, view)
			}
			if len(page.Entries) == q.Limit {
				break
			}
		}
		if q.Oldest {
			lo = page.Last + 1
		} else {
			hi = page.Last
		}
	}
	page.More = lo < hi
	return page, nil
}

func (r *Room) step(ctx context.Context, c tenantdb.Caller, q Query, lo, hi int64) (rows []row, err error) {
	most := chunk
	if !q.filters() {
		most = q.Limit
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		if !q.Request.IsZero() {
			rows, err = readRequest(ctx, tx, c.Tenant(), q.Request, lo, hi, !q.Oldest, most)
		} else {
			rows, err = readSpan(ctx, tx, c.Tenant(), lo, hi, !q.Oldest, most)
		}
		return err
	})
	return rows, err
}

// filters reports whether rows have to be decoded to know whether they are wanted.
func (q *Query) filters() bool {
	return q.Type != "" || q.Decision != "" || q.Actor != "" || q.Target != "" || !q.Request.IsZero() || !q.Since.IsZero() || !q.Until.IsZero()
}

// bounds narrows the numbers to be looked at: [lo, hi).
func (r *Room) bounds(ctx context.Context, c tenantdb.Caller, q Query) (lo, hi int64, err error) {
	lo = max(q.From, 0)
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		h, found, err := readHead(ctx, tx, c.Tenant())
		if err != nil {
			return err
		}
		if !found {
			return problem.New(problem.Missing, "There is no such organisation.")
		}
		hi = h.size
		if !q.Since.IsZero() {
			at, err := firstSince(ctx, tx, c.Tenant(), h.size, q.Since.Add(-drift))
			if err != nil {
				return err
			}
			lo = max(lo, at)
		}
		if !q.Until.IsZero() {
			if hi, err = firstSince(ctx, tx, c.Tenant(), h.size, q.Until.Add(drift)); err != nil {
				return err
			}
		}
		return nil
	})
	if q.After != nil && q.Oldest {
		lo = max(lo, *q.After+1)
	} else if q.After != nil {
		hi = min(hi, *q.After)
	}
	return lo, hi, err
}

// drift is how far the time in an entry and the time of its row may be apart, and rows out of the order of their times:
// the clocks of servers and of the database differ, and a row's time is that of its transaction's beginning.
const drift = 2 * time.Minute

// firstSince searches for the first entry of a time, in as many probes as the size has bits. The exact time is compared
// afterwards with the one inside the entry.
func firstSince(ctx context.Context, q querier, t tenantdb.TenantID, size int64, since time.Time) (int64, error) {
	var failed error
	n := sort.Search(int(size), func(i int) bool {
		if failed != nil {
			return true
		}
		at, err := writtenAt(ctx, q, t, int64(i))
		failed = err
		return at.IsZero() || !at.Before(since)
	})
	return int64(n), failed
}

// matches reports whether an entry is wanted. One that cannot be decoded is shown to whoever asks for everything.
func (q *Query) matches(e *Entry) bool {
	if prefix, ok := strings.CutSuffix(q.Type, "*"); ok {
		if !strings.HasPrefix(e.Type, prefix) {
			return false
		}
	} else if q.Type != "" && q.Type != e.Type {
		return false
	}
	switch {
	case q.Decision != "" && q.Decision != e.Decision,
		q.Actor != "" && (e.Actor == nil || e.Actor.ID != q.Actor),
		q.Target != "" && (e.Target == nil || e.Target.ID != q.Target),
		!q.Request.IsZero() && e.Request != q.Request.String(),
		!q.Since.IsZero() && e.at.Before(q.Since),
		!q.Until.IsZero() && !e.at.Before(q.Until):
		return false
	}
	return true
}

// String is the query as it is recorded.
func (q Query) String() string {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("type", q.Type)
	set("decision", q.Decision)
	set("actor", q.Actor)
	set("target", q.Target)
	if !q.Request.IsZero() {
		set("request_id", q.Request.String())
	}
	if !q.Since.IsZero() {
		set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		set("until", q.Until.UTC().Format(time.RFC3339Nano))
	}
	if q.From > 0 {
		set("from", number(q.From))
	}
	return v.Encode()
}

// maxRequest bounds what is shown of one request.
const maxRequest = 1000

// Request is what is known of one request.
type Request struct {
	Entries []Entry // in the caller's log, in order
	Spans   []Span  // remembered of one that the caller's organisation sent
}

// Request is everything that one request did in the caller's log, in order, and what is remembered of the work on it. The
// read is recorded before it returns.
func (r *Room) Request(ctx context.Context, c tenantdb.Caller, id audit.RequestID) (Request, error) {
	if err := allowRead(c); err != nil {
		return Request{}, err
	}
	var rows []row
	err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		rows, err = readRequest(ctx, tx, c.Tenant(), id, 0, audit.MaxSize, false, maxRequest)
		return err
	})
	if err != nil {
		return Request{}, fmt.Errorf("trail.Request: %w", err)
	}
	entries, err := r.show(ctx, c.Tenant(), rows)
	if err != nil {
		return Request{}, fmt.Errorf("trail.Request: %w", err)
	}
	found := Request{entries, r.spans(c, id, entries)}
	if len(found.Entries)+len(found.Spans) == 0 {
		return Request{}, problem.New(problem.Missing, unknownRequest)
	}
	public := []audit.Field{{Name: "request", Value: id.String()}, {Name: "count", Value: strconv.Itoa(len(entries))}}
	if _, err := r.record(ctx, c, sawRequest, public, ""); err != nil {
		return Request{}, err
	}
	return found, nil
}

// unknownRequest is said of an id that never was, of another's request, and of one that left no entry and is forgotten.
const unknownRequest = "The log of this organisation has no entry of such a request, and this server remembers none without entries that the organisation sent: " +
	"those are kept only lately, by the server that answered, and only if they were traced. A collector has all traces."
