package trail

import (
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
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

// spans are those of a request that the caller's organisation sent, if they are still remembered. The owner of an agent that
// another's service asked about has an entry of that request, and no business with how it was worked on. Of a request that
// nobody has been seen to send, the entries say who did, or nobody does.
func (r *Room) spans(c tenantdb.Caller, request audit.RequestID, entries []Entry) []Span {
	if r.cfg.Spans == nil {
		return []Span{}
	}
	spans, sender := r.cfg.Spans(request)
	if sender.IsZero() && slices.ContainsFunc(entries, sent) {
		sender = c.Tenant()
	}
	if sender != c.Tenant() || len(spans) == 0 {
		return []Span{}
	}
	return spans
}

// sent reports whether an entry is of a request by the log's own organisation.
func sent(e Entry) bool {
	return e.Actor != nil && e.Actor.Kind != string(audit.ActorService) && e.Actor.Kind != string(audit.ActorNobody)
}
