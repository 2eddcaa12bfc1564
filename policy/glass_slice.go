package policy

import (
	"context"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// SliceEntry is an entry of the log that was made while the glass was broken.
type SliceEntry struct {
	Seq     int64             `json:"seq" doc:"Its number in the log: it can be proved by it"`
	ID      string            `json:"entry_id"`
	Time    string            `json:"time" format:"date-time"`
	Type    string            `json:"type" doc:"What happened"`
	Request string            `json:"request_id,omitempty"`
	How     string            `json:"how" doc:"How the actor was authenticated; of a person it ends in break-glass"`
	Target  string            `json:"target,omitempty" doc:"What was acted upon: kind and id"`
	Outcome string            `json:"outcome" enum:"done,denied,failed,stated"`
	Public  map[string]string `json:"public,omitempty"`
	Private map[string]string `json:"private,omitempty"`
}

// Slice says which entries of the log are wanted: those of one actor, in a time, the oldest first.
type Slice struct {
	Actor        string
	Since, Until time.Time
	After        *int64 // the number of the entry where the page before ended
	Limit        int
}

// SliceReader reads the log of the caller's organisation for the caller, who must be allowed to, and has the read recorded. next
// is where the following page goes on; nil at the end.
type SliceReader interface {
	Slice(ctx context.Context, c tenantdb.Caller, s Slice) (found []SliceEntry, next *int64, err error)
}

// slowClocks is how much later than by our clock an entry may say that it was made, by that of another server.
const slowClocks = 2 * time.Minute

// Entries is what was done with a use: its own slice of the log.
func (g *Glass) Entries(ctx context.Context, c tenantdb.Caller, use UseID, after *int64, limit int) (found []SliceEntry, next *int64, err error) {
	if !c.May("breakglass:read") {
		return nil, nil, problem.New(problem.Denied, "This needs the capability breakglass:read.")
	}
	u, err := g.find(ctx, c, use)
	if err != nil {
		return nil, nil, err
	}
	if u.OpenedAt.IsZero() {
		return nil, nil, nil
	}
	end := u.ExpiresAt
	if !u.ClosedAt.IsZero() {
		end = u.ClosedAt
	}
	s := Slice{Actor: u.Person.String(), Since: u.OpenedAt.Add(-slowClocks), Until: end.Add(slowClocks), After: after, Limit: limit}
	if u.Operator != "" {
		s.Actor = operatorPrefix + u.Operator
	}
	all, next, err := g.cfg.Log.Slice(ctx, c, s)
	if err != nil {
		return nil, nil, wrapped("Entries", err)
	}
	for _, e := range all {
		// An operator's callers are lent nothing: whatever the operator did meanwhile is of the use.
		if u.Operator != "" || strings.HasSuffix(e.How, " break-glass") {
			found = append(found, e)
		}
	}
	return found, next, nil
}
