package trail

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	tags := []string{"Audit"}
	web.Handle(api, web.Op{
		ID: "list-audit-entries", Method: http.MethodGet, Path: "/api/v1/audit/entries", Tags: tags, Scope: mayRead,
		Summary:     "Read the log",
		Description: "Entries of the organisation's log, private fields opened. Filters look inside entries: a page ends after a number of entries looked at, so it can hold fewer than `limit`, or none, and still have a `next_cursor`. The read is recorded in the log.",
	}, r.entriesOverHTTP)
	web.HandleRaw[streamInput, web.None](api, web.Op{
		ID: "stream-audit-entries", Method: http.MethodGet, Path: "/api/v1/audit/stream", Tags: tags, Scope: mayRead,
		Summary: "Follow the log", Stream: true, Produces: "text/event-stream",
		Description: "Server-sent events: one `entry` event an entry, in order and without gaps, `id` being its number. Reconnect with `Last-Event-ID` and nothing is missed. A reader that falls behind is cut off.",
	}, r.stream)
	web.Handle(api, web.Op{
		ID: "prove-audit-entry", Method: http.MethodGet, Path: "/api/v1/audit/proofs/{seq}", Tags: tags, Scope: mayRead,
		Summary:     "Prove an entry",
		Description: "The inclusion proof (RFC 9162) of one entry in the log as it is now. The head is not signed: compare it with one that you have from elsewhere.",
	}, r.proofOverHTTP)
	web.Handle(api, web.Op{
		ID: "state-audit-events", Method: http.MethodPost, Path: "/api/v1/audit/events", Tags: tags, Idempotent: true, MaxBody: 256 << 10,
		Summary:     "Record what was done",
		Description: "An agent or a service says what it did: one event, or up to 100 as `events`. They are marked as stated by it. All that it wrote is kept private; the hash of its output is not.",
	}, r.stateOverHTTP)
	web.HandleRaw[web.None, web.None](api, web.Op{
		ID: "export-audit-log", Method: http.MethodGet, Path: "/api/v1/audit/export", Tags: tags, Scope: mayRead,
		Summary: "Export the log", Stream: true, Produces: "application/gzip",
		Description: "The whole log as a C2SP tlog-tiles directory in a tar.gz, without private fields. `avouch audit check` verifies it offline.",
	}, r.sendExport)
	web.Handle(api, web.Op{
		ID: "show-request", Method: http.MethodGet, Path: "/api/v1/requests/{id}", Tags: tags, Scope: mayRead,
		Summary:     "Show what one request did",
		Description: "Every entry of the request in the organisation's log, in order, and what the request spent its time on, if your organisation sent it and this server answered it lately and traced it. A request that left no entry is found only by that; else it is missing, as another organisation's is. The read is recorded in the log.",
	}, r.requestOverHTTP)
}

type entriesInput struct {
	web.Page
	Order    string    `query:"order" enum:"newest,oldest" default:"newest" doc:"Which end comes first"`
	Type     string    `query:"type" maxLength:"64" doc:"The type exactly, or all types under a prefix: agent.*"`
	Decision string    `query:"decision" maxLength:"32" doc:"Such as ALLOWED or DENIED"`
	Actor    string    `query:"actor" maxLength:"128" doc:"The id of who acted"`
	Target   string    `query:"target" maxLength:"256" doc:"The id of what was acted upon"`
	Request  string    `query:"request_id" maxLength:"36" doc:"The request that made the entry"`
	Since    time.Time `query:"since" doc:"Not before this time"`
	Until    time.Time `query:"until" doc:"Before this time"`
	From     int64     `query:"from" minimum:"0" doc:"Not below this number"`
}

type entriesOutput struct {
	Body struct {
		Entries []Entry `json:"entries"`
		web.Next
	}
}

type place struct {
	Seq int64 `json:"seq"`
}

func (r *Room) entriesOverHTTP(ctx context.Context, c tenantdb.Caller, in *entriesInput) (*entriesOutput, error) {
	q := Query{Oldest: in.Order == "oldest", Type: in.Type, Decision: in.Decision, Actor: in.Actor, Target: in.Target,
		Since: in.Since, Until: in.Until, From: in.From, Limit: in.Limit}
	after, ok, err := web.After[place](in.Page)
	if err == nil && in.Request != "" {
		q.Request, err = requestID("query.request_id", in.Request)
	}
	if err != nil {
		return nil, err
	}
	if ok {
		q.After = &after.Seq
	}
	page, err := r.Entries(ctx, c, q)
	if err != nil {
		return nil, err
	}
	var out entriesOutput
	out.Body.Entries = page.Entries
	if page.More {
		// Cut drops what is one too many and makes the cursor; here that one is the place to go on from.
		_, out.Body.Next = web.Cut([]place{{page.Last}, {}}, 1, func(p place) place { return p })
	}
	return &out, nil
}

func requestID(where, s string) (audit.RequestID, error) {
	var id audit.RequestID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		p := problem.New(problem.Invalid, "The request does not fit its description. See `errors`.")
		p.Fields = []problem.Field{{Location: where, Message: "is not a request id"}}
		return id, p
	}
	return id, nil
}

type streamInput struct {
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that was seen: the stream goes on after it"`
	From        int64  `query:"from" minimum:"0" doc:"Without Last-Event-ID: the number of the first entry wanted; else whatever comes from now on"`
}

type proofInput struct {
	Seq int64 `path:"seq" minimum:"0" doc:"The entry's number"`
}

type proofHead struct {
	Size int64  `json:"size" doc:"Entries in the log"`
	Root string `json:"root" doc:"The root of the Merkle tree over them, hexadecimal"`
	Link string `json:"link" doc:"The chain after the last of them, hexadecimal"`
}

type proofOutput struct {
	Body struct {
		Log    string    `json:"log_id"`
		Origin string    `json:"origin" doc:"The log's name in checkpoints"`
		Seq    int64     `json:"seq"`
		Entry  []byte    `json:"entry" doc:"The entry's bytes, base64: deterministic CBOR"`
		Leaf   string    `json:"leaf"`
		Hashes []string  `json:"hashes" doc:"The inclusion proof, from the leaf up, hexadecimal"`
		Head   proofHead `json:"head"`
	}
}

func (r *Room) proofOverHTTP(ctx context.Context, c tenantdb.Caller, in *proofInput) (*proofOutput, error) {
	p, err := r.Prove(ctx, c, in.Seq)
	if err != nil {
		return nil, err
	}
	var out proofOutput
	b := &out.Body
	b.Log, b.Origin, b.Seq, b.Entry = p.Log.String(), audit.Origin(r.cfg.Host, p.Log), p.Seq, p.Entry
	b.Leaf = hex.EncodeToString(p.Leaf[:])
	b.Head = proofHead{Size: p.Size, Root: hex.EncodeToString(p.Root[:]), Link: hex.EncodeToString(p.Link[:])}
	b.Hashes = make([]string, len(p.Hashes))
	for i, h := range p.Hashes {
		b.Hashes[i] = hex.EncodeToString(h[:])
	}
	return &out, nil
}

// Event is one statement as it comes in.
type Event struct {
	Action  string          `json:"action,omitempty" maxLength:"200" doc:"What was done, such as mail.sent"`
	Object  string          `json:"object,omitempty" maxLength:"2000" doc:"What it was done to"`
	Outcome string          `json:"outcome,omitempty" maxLength:"64" doc:"How it ended"`
	Output  string          `json:"output_sha256,omitempty" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of what came out, lower-case hexadecimal"`
	Parent  string          `json:"parent_request_id,omitempty" maxLength:"36" doc:"The request that this belongs to, such as the verification that allowed it"`
	Detail  json.RawMessage `json:"detail,omitempty" doc:"An object with anything more, at most 8 KiB"`
}

type stateInput struct {
	Body struct {
		Event
		Events []Event `json:"events,omitempty" maxItems:"100" doc:"Several events; then the other fields are not given"`
	}
}

// logged is where an entry stands.
type logged struct {
	Log  string `json:"log"`
	Seq  int64  `json:"seq"`
	Leaf string `json:"leaf" doc:"The entry's hash, hexadecimal"`
}

type stateOutput struct {
	Body struct {
		Request string   `json:"request_id"`
		Audit   logged   `json:"audit" doc:"Where the entry stands, or the last of several"`
		Entries []logged `json:"entries" doc:"Where each entry stands, in the order of the events"`
	}
}

func (r *Room) stateOverHTTP(ctx context.Context, c tenantdb.Caller, in *stateInput) (*stateOutput, error) {
	events := in.Body.Events
	if one := in.Body.Event; len(events) == 0 {
		events = []Event{one}
	} else if one.Action+one.Object+one.Outcome+one.Output+one.Parent != "" || one.Detail != nil {
		return nil, problem.New(problem.Invalid, "Give one event, or `events`, and not both.")
	}
	all := make([]Statement, len(events))
	for i := range events {
		var err error
		if all[i], err = events[i].statement(); err != nil {
			return nil, err
		}
	}
	pos, err := r.State(ctx, c, all)
	if err != nil {
		return nil, err
	}
	var out stateOutput
	out.Body.Request = c.RequestID().String()
	for _, p := range pos {
		out.Body.Audit = logged{p.Log.String(), int64(p.Seq), hex.EncodeToString(p.Leaf[:])}
		out.Body.Entries = append(out.Body.Entries, out.Body.Audit)
	}
	return &out, nil
}

func (e *Event) statement() (Statement, error) {
	s := Statement{Action: e.Action, Object: e.Object, Outcome: e.Outcome}
	if e.Output != "" {
		if n, err := hex.Decode(s.Output[:], []byte(e.Output)); err != nil || n != len(s.Output) {
			return s, problem.New(problem.Invalid, "output_sha256 is not 64 hexadecimal digits.")
		}
	}
	var err error
	if e.Parent != "" {
		if s.Parent, err = requestID("body.parent_request_id", e.Parent); err != nil {
			return s, err
		}
	}
	if e.Detail != nil {
		var b bytes.Buffer
		if err := json.Compact(&b, e.Detail); err != nil || b.Bytes()[0] != '{' {
			return s, problem.New(problem.Invalid, "detail is not a JSON object.")
		}
		s.Detail = b.Bytes()
	}
	return s, nil
}

type requestInput struct {
	ID string `path:"id" maxLength:"36" doc:"The request's id, from X-Request-Id"`
}

type requestOutput struct {
	Body struct {
		Request string  `json:"request_id"`
		Entries []Entry `json:"entries" doc:"None, if it changed and recorded nothing"`
		Spans   []Span  `json:"spans" doc:"What the request spent its time on, if your organisation sent it and this server answered it lately and traced it. A collector has them all, by the attribute avouch.request_id"`
	}
}

func (r *Room) requestOverHTTP(ctx context.Context, c tenantdb.Caller, in *requestInput) (*requestOutput, error) {
	id, err := requestID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	found, err := r.Request(ctx, c, id)
	if err != nil {
		return nil, err
	}
	var out requestOutput
	out.Body.Request, out.Body.Entries, out.Body.Spans = id.String(), found.Entries, found.Spans
	return &out, nil
}
