package trail

import (
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
)

// Span is a part of the work on a request, as it was traced.
type Span struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Parent   string    `json:"parent,omitempty"`
	Start    time.Time `json:"start"`
	Duration int64     `json:"duration_us"`
	Failed   bool      `json:"failed,omitempty"`
}

// spans are those of a request that the log's own organisation sent. The owner of an agent that another's service asked
// about has an entry of that request, and no business with how it was worked on.
func (r *Room) spans(request audit.RequestID, entries []Entry) []Span {
	own := slices.ContainsFunc(entries, func(e Entry) bool { return e.Actor != nil && e.Actor.Kind != string(audit.ActorService) })
	if r.cfg.Spans == nil || !own {
		return []Span{}
	}
	return r.cfg.Spans(request)
}
