package trail

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Statement is what an agent or a service says that it did. Avouch did not see it: the entry's outcome is `stated`, and
// its actor is whoever says so.
type Statement struct {
	Action  string          // what was done: "mail.sent"
	Object  string          // what it was done to
	Outcome string          // how it ended, in the caller's words
	Output  [32]byte        // SHA-256 of what came out; zero if not said
	Parent  audit.RequestID // the request that it belongs to, such as the verification before it; zero if not said
	Detail  json.RawMessage // a JSON object; nil if there is none
}

// The limits of a statement. All but the hash and the request is what a caller wrote, so all of it is private.
const (
	maxStatements = 100
	maxAction     = 200
	maxObject     = 2000
	maxOutcome    = 64
	maxDetail     = 8 << 10
)

func (s *Statement) check() error {
	for _, f := range []struct {
		name, value string
		least, most int
	}{{"action", s.Action, 1, maxAction}, {"object", s.Object, 0, maxObject}, {"outcome", s.Outcome, 0, maxOutcome}, {"detail", string(s.Detail), 0, maxDetail}} {
		if len(f.value) < f.least || len(f.value) > f.most {
			return problem.New(problem.Invalid, "%s is %d bytes long; it may have %d to %d.", f.name, len(f.value), f.least, f.most)
		}
		if !utf8.ValidString(f.value) {
			return problem.New(problem.Invalid, "%s is not UTF-8 text.", f.name)
		}
	}
	return nil
}

func (s *Statement) event() audit.Event {
	ev := audit.Event{Type: "statement", Outcome: audit.Stated}
	say := func(to *[]audit.Field, name, value string) {
		if value != "" {
			*to = append(*to, audit.Field{Name: name, Value: value})
		}
	}
	say(&ev.Private, "action", s.Action)
	say(&ev.Private, "object", s.Object)
	say(&ev.Private, "outcome", s.Outcome)
	say(&ev.Private, "detail", string(s.Detail))
	if s.Output != ([32]byte{}) {
		say(&ev.Public, "output_sha256", hex.EncodeToString(s.Output[:]))
	}
	if !s.Parent.IsZero() {
		say(&ev.Public, "parent_request_id", s.Parent.String())
	}
	return ev
}

// State appends statements to the caller's log, all or none and side by side in their order. An agent may always say
// what it did; a key needs audit:write. Nothing that the caller chose tells duplicates: said twice, it is there twice.
func (r *Room) State(ctx context.Context, c tenantdb.Caller, all []Statement) ([]tenantdb.Position, error) {
	if c.Actor().Kind != audit.ActorAgent && !c.May(mayWrite) {
		return nil, problem.New(problem.Denied, "Writing to the log takes an agent's token, or a key with the capability %s.", mayWrite)
	}
	if len(all) == 0 || len(all) > maxStatements {
		return nil, problem.New(problem.Invalid, "There are %d events; one call takes 1 to %d.", len(all), maxStatements)
	}
	for i := range all {
		if err := all[i].check(); err != nil {
			return nil, err
		}
	}
	events := make([]audit.Event, len(all))
	for i := range all {
		events[i] = all[i].event()
	}
	pos, err := r.cfg.DB.RecordAll(ctx, c, events)
	if err != nil {
		return nil, fmt.Errorf("trail.State: %w", err)
	}
	return pos, nil
}
