package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const glassPath = "/api/v1/break-glass"

// Routes registers break-glass.
func (g *Glass) Routes(api *web.API[tenantdb.Caller]) {
	op := func(id, method, path, scope, summary, description string) web.Op {
		return web.Op{ID: id, Method: method, Path: glassPath + path, Scope: scope, Summary: summary, Description: description, Tags: []string{"Break-glass"}}
	}
	ask := op("ask-break-glass", http.MethodPost, "", "breakglass:write", "Ask for capabilities for a while",
		"Somebody else approves, or a delay passes, or your organisation's own system says yes: as its rules have it. What is lent counts in sessions that were proved after it opened. Needs a fresh proof.")
	ask.Status, ask.Idempotent = http.StatusCreated, true
	web.Handle(api, ask, g.askOverHTTP)
	web.Handle(api, op("list-break-glass", http.MethodGet, "", "", "List uses of break-glass", "The newest first: with `breakglass:read` all of the organisation's, else your own."), g.list)
	web.Handle(api, op("get-break-glass", http.MethodGet, "/{id}", "", "Get a use of break-glass", "With `breakglass:read` any of the organisation's, else your own."), g.get)
	web.Handle(api, op("approve-break-glass", http.MethodPost, "/{id}/approve", "breakglass:approve", "Let a use open",
		"Not what you asked for yourself. Needs a fresh proof."), g.one(g.Approve))
	web.Handle(api, op("refuse-break-glass", http.MethodPost, "/{id}/refuse", "breakglass:approve", "Refuse a use that waits", "Needs a fresh proof."), g.one(g.Refuse))
	web.Handle(api, op("end-break-glass", http.MethodPost, "/{id}/end", "", "End a use before its time", "Your own, or with `breakglass:approve` any."), g.one(g.Finish))
	web.Handle(api, op("list-break-glass-entries", http.MethodGet, "/{id}/entries", "breakglass:read", "Read what was done with a use",
		"Its own slice of the log, the oldest first. Needs `audit:read` too; the read is recorded in the log. A page can hold fewer than `limit`, or none, and still have a `next_cursor`."), g.entries)
	web.Handle(api, op("review-break-glass", http.MethodPost, "/{id}/review", "breakglass:approve", "Sign off a use that is over", "Not your own."), g.review)
	web.Handle(api, op("list-break-glass-weeks", http.MethodGet, "/weeks", "breakglass:read", "List the weeks in which something was opened", "The newest first."), g.weeks)
	web.Handle(api, op("sign-break-glass-week", http.MethodPost, "/weeks/{monday}/sign", "breakglass:approve", "Sign off a week's list",
		"When it has ended and each use of it is reviewed; not if you alone opened anything in it."), g.sign)
	web.Handle(api, op("set-break-glass-hook", http.MethodPut, "/hook", "organisation:write", "Make a secret for your approval system",
		"It is shown once, and replaces the one before: questions and answers are signed with it, as Standard Webhooks has it. For owners. Needs a fresh proof."), g.setHook)
	g.answerRoute(api)
}

func (g *Glass) answerRoute(api *web.API[tenantdb.Caller]) {
	op := web.Op{
		ID: "answer-break-glass", Method: http.MethodPost, Path: glassPath + "/{id}/answer", Access: web.Public, MaxBody: 8 << 10, Tags: []string{"Break-glass"},
		Summary: "Answer as an external approval system", Description: "Signed as Standard Webhooks has it, within five minutes; each `webhook-id` counts once.",
	}
	web.HandleRaw[answerInput, answerOutput](api, op, func(w http.ResponseWriter, r *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		body, err := api.Read(w, r)
		if err != nil {
			return err
		}
		use, err := ParseUseID(r.PathValue("id"))
		if err != nil {
			return unsigned()
		}
		t, err := g.hookOf(r.Context(), use, r.Header, body)
		if err != nil {
			return err
		}
		var a answered
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err := api.Decode(w, r, &a); err != nil {
			return err
		}
		if n := len(a.By); n < 1 || n > 200 {
			return field("by", "must have 1 to 200 bytes")
		}
		by := tenantdb.NewCaller(tenantdb.CallerSpec{
			Tenant: t, Actor: audit.Actor{Kind: audit.ActorSystem, ID: "break-glass-hook"}, How: "webhook-signature", RequestID: audit.RequestID(meta.ID), Address: meta.Address,
		})
		u, err := g.answer(r.Context(), by, use, r.Header.Get(hookIDHeader), a)
		if err != nil {
			return err
		}
		var out answerOutput
		out.Body.State = u.State(g.now())
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(out.Body)
	})
}

type (
	useInput struct {
		ID string `path:"id" minLength:"36" maxLength:"36" doc:"The use_id"`
	}
	useOutput struct{ Body UseView }
	askInput  struct {
		Body struct {
			Reason       string   `json:"reason" minLength:"10" maxLength:"1000" doc:"Why: whoever approves and reviews it reads this"`
			Capabilities []string `json:"capabilities" minItems:"1" maxItems:"64" doc:"What to lend you, of what your organisation's rules allow"`
			Minutes      int      `json:"minutes,omitempty" minimum:"1" maximum:"1440" default:"60" doc:"For how long, from when it opens"`
		}
	}
	listUsesInput struct {
		web.Page
		Show string `query:"show" enum:"all,unreviewed" default:"all" doc:"All, or only what was opened and is not reviewed"`
	}
	listUsesOutput struct {
		Body struct {
			Uses []UseView `json:"uses"`
			web.Next
		}
	}
	remarkInput struct {
		ID   string `path:"id" minLength:"36" maxLength:"36" doc:"The use_id"`
		Body struct {
			Remark string `json:"remark" minLength:"10" maxLength:"1000" doc:"What you found"`
		}
	}
	sliceInput struct {
		ID string `path:"id" minLength:"36" maxLength:"36" doc:"The use_id"`
		web.Page
	}
	sliceOutput struct {
		Body struct {
			Entries []SliceEntry `json:"entries"`
			web.Next
		}
	}
	weeksOutput struct {
		Body struct {
			Weeks []WeekView `json:"weeks"`
			web.Next
		}
	}
	signInput struct {
		Monday string `path:"monday" minLength:"10" maxLength:"10" doc:"The week's Monday, in UTC: 2026-11-23"`
		Body   struct {
			Remark string `json:"remark" minLength:"10" maxLength:"1000" doc:"What you found"`
		}
	}
	weekOutput struct{ Body WeekView }
	hookOutput struct {
		Body struct {
			Secret string `json:"secret" doc:"whsec_ and base64. It is shown here and never again."`
		}
	}
	answerOutput struct {
		Body struct {
			State string `json:"state" enum:"open,refused" doc:"What became of the use"`
		}
	}
	answerInput struct {
		ID        string `path:"id" minLength:"36" maxLength:"36" doc:"The use_id"`
		MessageID string `header:"webhook-id" doc:"Counts once"`
		Timestamp string `header:"webhook-timestamp" doc:"Seconds since 1970"`
		Signature string `header:"webhook-signature" doc:"v1, and HMAC-SHA-256 over id, timestamp and body, base64"`
		Body      answered
	}
)

// UseView is a use as clients see it.
type UseView struct {
	ID           UseID      `json:"use_id" format:"uuid"`
	Person       string     `json:"person_id,omitempty" doc:"Who asked; absent if an operator of the installation opened it"`
	Operator     string     `json:"operator,omitempty" doc:"Which operator of the installation opened it, to see what is your organisation's"`
	Capabilities []string   `json:"capabilities" doc:"What is lent; nothing to an operator, who is let see what you keep"`
	Reason       string     `json:"reason" doc:"Empty if the person was erased"`
	Minutes      int        `json:"minutes"`
	Approval     string     `json:"approval" enum:"person,delay,external,operator" doc:"Who lets it, by the rules at the asking"`
	State        string     `json:"state" enum:"waiting,open,refused,lapsed,ended,expired"`
	AskedAt      time.Time  `json:"asked_at"`
	DueAt        time.Time  `json:"due_at" doc:"When what waits opens by itself, if that is its approval, or lapses"`
	DecidedBy    string     `json:"decided_by,omitempty" doc:"A person's id, or external"`
	DecidedAt    *time.Time `json:"decided_at,omitempty"`
	OpenedAt     *time.Time `json:"opened_at,omitempty" doc:"Sessions that were proved since have what is lent"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"`
	ClosedAt     *time.Time `json:"closed_at,omitempty"`
	ReviewedBy   string     `json:"reviewed_by,omitempty"`
	ReviewedAt   *time.Time `json:"reviewed_at,omitempty"`
	Remark       string     `json:"remark,omitempty" doc:"What the review says"`
	Overdue      bool       `json:"overdue" doc:"Whether it was opened more than seven days ago and is not reviewed"`
}

func (g *Glass) view(u *Use) UseView {
	now := g.now()
	v := UseView{
		ID: u.ID, Operator: u.Operator, Capabilities: u.Capabilities, Reason: u.Reason, Minutes: int(u.Life / time.Minute), Approval: u.Approval, State: u.State(now),
		AskedAt: u.AskedAt, DueAt: u.DueAt, DecidedBy: u.DecidedBy, DecidedAt: null(u.DecidedAt), OpenedAt: null(u.OpenedAt), ExpiresAt: null(u.ExpiresAt), ClosedAt: null(u.ClosedAt),
		ReviewedBy: u.ReviewedBy, ReviewedAt: null(u.ReviewedAt), Remark: u.Remark, Overdue: u.Overdue(now),
	}
	if !u.Person.IsZero() {
		v.Person = u.Person.String()
	}
	return v
}

// WeekView is a week's list as clients see it.
type WeekView struct {
	Monday     string     `json:"monday" format:"date"`
	Uses       int        `json:"uses" doc:"How many were opened in it"`
	Unreviewed int        `json:"unreviewed" doc:"How many of them are not reviewed"`
	SignedBy   string     `json:"signed_by,omitempty"`
	SignedAt   *time.Time `json:"signed_at,omitempty"`
	Overdue    bool       `json:"overdue" doc:"Whether it ended more than seven days ago and is not signed off"`
}

func (g *Glass) viewWeek(w Week) WeekView {
	return WeekView{
		w.Monday.Format(time.DateOnly), w.Uses, w.Unreviewed, w.SignedBy, null(w.SignedAt), w.SignedBy == "" && g.now().Sub(w.Monday) > week+reviewWithin,
	}
}

func (g *Glass) askOverHTTP(ctx context.Context, c tenantdb.Caller, in *askInput) (*useOutput, error) {
	u, err := g.Ask(ctx, c, Asked{in.Body.Reason, in.Body.Capabilities, time.Duration(in.Body.Minutes) * time.Minute})
	if err != nil {
		return nil, err
	}
	return &useOutput{g.view(&u)}, nil
}

// one is an operation on one use, which answers with it.
func (g *Glass) one(do func(context.Context, tenantdb.Caller, UseID) (Use, error)) func(context.Context, tenantdb.Caller, *useInput) (*useOutput, error) {
	return func(ctx context.Context, c tenantdb.Caller, in *useInput) (*useOutput, error) {
		use, err := ParseUseID(in.ID)
		if err != nil {
			return nil, noUse()
		}
		u, err := do(ctx, c, use)
		if err != nil {
			return nil, err
		}
		if err := g.read(ctx, c.Tenant(), &u); err != nil {
			return nil, err
		}
		return &useOutput{g.view(&u)}, nil
	}
}

func (g *Glass) get(ctx context.Context, c tenantdb.Caller, in *useInput) (*useOutput, error) {
	return g.one(g.Get)(ctx, c, in)
}

func (g *Glass) list(ctx context.Context, c tenantdb.Caller, in *listUsesInput) (*listUsesOutput, error) {
	below, _, err := web.After[UseID](in.Page)
	if err != nil {
		return nil, err
	}
	uses, err := g.List(ctx, c, below, in.Show == "unreviewed", in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listUsesOutput{}
	uses, out.Body.Next = web.Cut(uses, in.Limit, func(u Use) UseID { return u.ID })
	out.Body.Uses = make([]UseView, len(uses))
	for i := range uses {
		out.Body.Uses[i] = g.view(&uses[i])
	}
	return out, nil
}

func (g *Glass) entries(ctx context.Context, c tenantdb.Caller, in *sliceInput) (*sliceOutput, error) {
	use, err := ParseUseID(in.ID)
	if err != nil {
		return nil, noUse()
	}
	seq, resumed, err := web.After[int64](in.Page)
	if err != nil {
		return nil, err
	}
	after := &seq
	if !resumed {
		after = nil
	}
	found, next, err := g.Entries(ctx, c, use, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &sliceOutput{}
	if out.Body.Entries = found; found == nil {
		out.Body.Entries = []SliceEntry{}
	}
	if next != nil {
		out.Body.Next = web.From(*next)
	}
	return out, nil
}

func (g *Glass) review(ctx context.Context, c tenantdb.Caller, in *remarkInput) (*useOutput, error) {
	use, err := ParseUseID(in.ID)
	if err != nil {
		return nil, noUse()
	}
	u, err := g.Review(ctx, c, use, in.Body.Remark)
	if err != nil {
		return nil, err
	}
	return &useOutput{g.view(&u)}, nil
}

func (g *Glass) weeks(ctx context.Context, c tenantdb.Caller, in *listInput) (*weeksOutput, error) {
	after, resumed, err := web.After[string](in.Page)
	if err != nil {
		return nil, err
	}
	var below time.Time
	if resumed {
		if below, err = time.Parse(time.DateOnly, after); err != nil {
			return nil, problem.New(problem.Invalid, "The cursor is none of this listing.")
		}
	}
	found, err := g.Weeks(ctx, c, below, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &weeksOutput{}
	found, out.Body.Next = web.Cut(found, in.Limit, func(w Week) string { return w.Monday.Format(time.DateOnly) })
	out.Body.Weeks = make([]WeekView, len(found))
	for i, w := range found {
		out.Body.Weeks[i] = g.viewWeek(w)
	}
	return out, nil
}

func (g *Glass) sign(ctx context.Context, c tenantdb.Caller, in *signInput) (*weekOutput, error) {
	start, err := time.Parse(time.DateOnly, in.Monday)
	if err != nil {
		return nil, problem.New(problem.Invalid, "A week is named by its Monday, in UTC, such as 2026-11-23.")
	}
	w, err := g.Sign(ctx, c, start, in.Body.Remark)
	if err != nil {
		return nil, err
	}
	return &weekOutput{g.viewWeek(w)}, nil
}

func (g *Glass) setHook(ctx context.Context, c tenantdb.Caller, _ *web.None) (*hookOutput, error) {
	s, err := g.SetHook(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &hookOutput{}
	out.Body.Secret = s.Expose()
	return out, nil
}
