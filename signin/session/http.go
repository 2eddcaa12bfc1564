package session

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	tags := []string{"Sessions"}
	web.Handle(api, web.Op{
		ID: "get-session", Method: http.MethodGet, Path: "/api/v1/session", Tags: tags, Summary: "Get your session",
		Description: "Who you are here, what you may do, and until when. `lent` is what break-glass lends you for a while.",
	}, r.get)
	web.Handle(api, web.Op{
		ID: "list-sessions", Method: http.MethodGet, Path: "/api/v1/sessions", Tags: tags, Summary: "List your sessions",
		Description: "All that are in force, the one that was seen last first.",
	}, r.mine)
	web.Handle(api, web.Op{
		ID: "end-session", Method: http.MethodPost, Path: "/api/v1/sessions/{session_id}/end", Tags: tags, Summary: "End one of your sessions",
		Description: "It counts no more, on every server, when this is answered. One that has ended already stays so.",
	}, r.endOne)
	web.Handle(api, web.Op{
		ID: "end-other-sessions", Method: http.MethodPost, Path: "/api/v1/sessions/end-others", Tags: tags, Summary: "End all your sessions but this one",
	}, r.endOthers)
	web.Handle(api, web.Op{
		ID: "sign-out", Method: http.MethodPost, Path: "/api/v1/sign-out", Tags: tags, Summary: "Sign out", Description: "Ends this session, and takes the cookie back.",
	}, r.signOut)
	web.Handle(api, web.Op{
		ID: "refresh-session", Method: http.MethodPost, Path: "/api/v1/session/refresh", Tags: tags, Access: web.Public, Summary: "Get new tokens for a refresh token",
		Description: "The refresh token counts no more: keep the new one. If the answer is lost, send the same request again within 10 seconds, from the same program: " +
			"it gets the same refresh token, as long as nobody used that. A refresh token that is used otherwise after it was replaced has been stolen, " +
			"or its successor has: the whole session ends, and its person is told by mail.\n\nAn access token lasts 15 minutes.",
	}, r.refresh)
	web.Handle(api, web.Op{
		ID: "list-member-sessions", Method: http.MethodGet, Path: "/api/v1/members/{person_id}/sessions", Tags: tags, Scope: "members:read", Summary: "List a member's sessions",
		Description: "Devices, programs and addresses are there only for who has the capability `members:write` too.",
	}, r.ofMember)
	web.Handle(api, web.Op{
		ID: "end-member-sessions", Method: http.MethodPost, Path: "/api/v1/members/{person_id}/sessions/end", Tags: tags, Scope: "members:write", Summary: "End all sessions of a member",
		Description: "For who may do all that the member may.",
	}, r.endOfMember)
}

type view struct {
	ID        ID        `json:"session_id" format:"uuid"`
	Kind      Kind      `json:"kind" enum:"browser,program"`
	Device    string    `json:"device,omitempty" doc:"The name that the client gave"`
	Program   string    `json:"program,omitempty" doc:"What the client says that it is"`
	Address   string    `json:"address,omitempty" doc:"Where the sign-in came from"`
	Methods   []string  `json:"methods" nullable:"false" doc:"How the person was proved"`
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at" doc:"To the minute"`
	ProvedAt  time.Time `json:"proved_at" doc:"When a factor was proved last"`
	ExpiresAt time.Time `json:"expires_at" doc:"Whatever is done with it; without use it ends earlier"`
	Current   bool      `json:"current" doc:"Whether it is the one that asks"`
}

type listOutput struct {
	Body struct {
		Sessions []view `json:"sessions" nullable:"false"`
	}
}

func listed(all []Session, current ID) *listOutput {
	var out listOutput
	out.Body.Sessions = make([]view, len(all))
	for i, s := range all {
		v := view{s.ID, s.Kind, s.Device, s.Program, "", s.Methods, s.CreatedAt.UTC(), s.SeenAt.UTC(), s.ProvedAt.UTC(), s.ExpiresAt.UTC(), s.ID == current}
		if s.Address.IsValid() {
			v.Address = s.Address.String()
		}
		out.Body.Sessions[i] = v
	}
	return &out
}

func (r *Room) mine(ctx context.Context, c tenantdb.Caller, _ *web.None) (*listOutput, error) {
	all, current, err := r.Mine(ctx, c)
	if err != nil {
		return nil, err
	}
	return listed(all, current), nil
}

type getOutput struct {
	Body struct {
		Tenant       tenantdb.TenantID `json:"tenant_id" format:"uuid"`
		Person       tenantdb.PersonID `json:"person_id" format:"uuid"`
		Session      ID                `json:"session_id" format:"uuid"`
		Kind         Kind              `json:"kind" enum:"browser,program"`
		Roles        []string          `json:"roles" nullable:"false"`
		Capabilities []string          `json:"capabilities" nullable:"false" doc:"What this credential may do; * is everything"`
		Unproved     []string          `json:"unproved" nullable:"false" doc:"What you were given since you proved yourself last: it counts after the next proof"`
		Lent         []string          `json:"lent" nullable:"false"`
		Methods      []string          `json:"methods" nullable:"false"`
		ProvedAt     time.Time         `json:"proved_at" doc:"Dangerous acts want this to be within five minutes"`
		ExpiresAt    time.Time         `json:"expires_at"`
		IdleEnd      time.Time         `json:"idle_ends_at" doc:"When it ends if nothing is done; to the minute"`
	}
}

func (r *Room) get(ctx context.Context, c tenantdb.Caller, _ *web.None) (*getOutput, error) {
	who, current, err := person(c)
	if err != nil {
		return nil, err
	}
	p, err := r.look(ctx, presented{tenant: c.Tenant(), id: current})
	if err != nil {
		return nil, err
	}
	var out getOutput
	b := &out.Body
	b.Tenant, b.Person, b.Session, b.Kind = c.Tenant(), who.ID, current, p.Kind
	b.Roles, b.Capabilities, b.Lent, b.Methods = orEmpty(who.Roles), orEmpty(c.Scopes()), orEmpty(who.Lent), orEmpty(who.Methods)
	b.Unproved = orEmpty(who.Unproved)
	absolute, idle := p.ends(p.st)
	b.ProvedAt, b.ExpiresAt, b.IdleEnd = who.ProvedAt.UTC(), absolute.UTC(), idle.UTC()
	if absolute.Before(idle) {
		b.IdleEnd = b.ExpiresAt
	}
	return &out, nil
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

type sessionInput struct {
	ID string `path:"session_id" format:"uuid"`
}

func (r *Room) endOne(ctx context.Context, c tenantdb.Caller, in *sessionInput) (*web.None, error) {
	of, err := ParseID(in.ID)
	if err != nil {
		return nil, problem.New(problem.Missing, "There is no such session.")
	}
	return nil, r.EndOne(ctx, c, of, "ended")
}

type countOutput struct {
	Body struct {
		Ended int `json:"ended" doc:"How many sessions were in force"`
	}
}

func counted(n int, err error) (*countOutput, error) {
	var out countOutput
	out.Body.Ended = n
	return &out, err
}

func (r *Room) endOthers(ctx context.Context, c tenantdb.Caller, _ *web.None) (*countOutput, error) {
	return counted(r.EndMyOthers(ctx, c))
}

type signOutOutput struct {
	SetCookie string `header:"Set-Cookie"`
}

func (r *Room) signOut(ctx context.Context, c tenantdb.Caller, _ *web.None) (*signOutOutput, error) {
	_, current, err := person(c)
	if err != nil {
		return nil, err
	}
	return &signOutOutput{r.cookie(cookieName, "", 0).String()}, r.EndOne(ctx, c, current, "sign_out")
}

type refreshInput struct {
	UserAgent string `header:"User-Agent" doc:"The same as before, for a request that is sent again"`
	Body      struct {
		Token    string `json:"refresh_token" maxLength:"200"`
		ClientID string `json:"client_id,omitempty" maxLength:"200" doc:"What was given at the sign-in, if anything"`
	}
}

type refreshOutput struct {
	Body TokenView
}

// TokenView is tokens on the wire.
type TokenView struct {
	Access         string    `json:"access_token"`
	Type           string    `json:"token_type" enum:"Bearer"`
	ExpiresIn      int64     `json:"expires_in" doc:"Seconds"`
	Refresh        string    `json:"refresh_token"`
	RefreshExpires time.Time `json:"refresh_expires_at" doc:"If it is not used until then"`
	Session        ID        `json:"session_id" format:"uuid"`
}

// View is the tokens as they are sent to their client: their only sight.
func (r *Room) View(t Tokens) TokenView {
	return TokenView{
		Access: t.Access.Expose(), Type: "Bearer", ExpiresIn: int64(t.AccessExpires.Sub(r.cfg.Now()) / time.Second), Refresh: t.Refresh.Expose(),
		RefreshExpires: t.RefreshExpires.UTC(), Session: t.Session,
	}
}

func (r *Room) refresh(ctx context.Context, _ tenantdb.Caller, in *refreshInput) (*refreshOutput, error) {
	t, err := r.Refresh(ctx, web.MetaOf(ctx), Renewal{Token: secret.Text(in.Body.Token), ClientID: in.Body.ClientID, UserAgent: in.UserAgent})
	if err != nil {
		return nil, err
	}
	return &refreshOutput{r.View(t)}, nil
}

type memberInput struct {
	ID string `path:"person_id" format:"uuid"`
}

func (in *memberInput) person() (tenantdb.PersonID, error) {
	var p tenantdb.PersonID
	if err := p.UnmarshalText([]byte(in.ID)); err != nil {
		return p, problem.New(problem.Missing, "There is no such member.")
	}
	return p, nil
}

func (r *Room) ofMember(ctx context.Context, c tenantdb.Caller, in *memberInput) (*listOutput, error) {
	p, err := in.person()
	if err != nil {
		return nil, err
	}
	all, err := r.Of(ctx, c, p)
	if err != nil {
		return nil, err
	}
	current := ID{}
	if c.Actor().Kind == audit.ActorPerson {
		_, current, _ = person(c) // of a person without a session, none is the present one
	}
	return listed(all, current), nil
}

func (r *Room) endOfMember(ctx context.Context, c tenantdb.Caller, in *memberInput) (*countOutput, error) {
	p, err := in.person()
	if err != nil {
		return nil, err
	}
	return counted(r.EndOf(ctx, c, p))
}
