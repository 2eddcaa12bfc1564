package org

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	tags := []string{"Organisation"}
	web.Handle(api, web.Op{
		ID: "get-organisation", Method: http.MethodGet, Path: "/api/v1/organisation", Tags: tags, Scope: "organisation:read",
		Summary: "Get your organisation",
	}, r.get)
	web.Handle(api, web.Op{
		ID: "update-organisation", Method: http.MethodPatch, Path: "/api/v1/organisation", Tags: tags, Scope: "organisation:write",
		Summary: "Change your organisation", Description: "Fields that are absent or null stay. `If-Match` is needed.",
	}, r.update)
	web.Handle(api, web.Op{
		ID: "sign-up", Method: http.MethodPost, Path: "/api/v1/organisations", Tags: tags, Status: http.StatusCreated, Access: web.Public,
		Summary: "Make an organisation", Description: "Its first owner key is in the answer, and nowhere else: it is shown once. Not every installation lets strangers do this, and none as often as they like.\n\n" +
			"It takes no `Idempotency-Key`: kept answers belong to a caller, and here is none yet. If the answer is lost, sign up again: " +
			"the first organisation stays empty, and nobody has its key.",
	}, r.signUp)
	r.rulesRoutes(api)
	r.kmsRoutes(api)
	r.peopleRoutes(api)
	r.groupRoutes(api)
	r.invitationRoutes(api)
}

// View is an organisation as its own clients see it.
type View struct {
	TenantID      tenantdb.TenantID `json:"tenant_id"`
	Name          string            `json:"name" doc:"Services see it beside your agents' names"`
	ContactEmail  string            `json:"contact_email" doc:"Where notices go; empty if you gave none"`
	CreatedAt     time.Time         `json:"created_at"`
	TokenLifetime int               `json:"token_lifetime_seconds" doc:"How long a new token of an agent lives unless less is asked for"`
	LiveTokens    int               `json:"live_tokens" doc:"How many unexpired, unrevoked tokens an agent may have"`
	MonthlyQuota  *int64            `json:"monthly_quota" nullable:"true" doc:"Verifications a month with owner keys, which the operator sets; null is unlimited"`
	Used          *int64            `json:"used_this_month" nullable:"true" doc:"How many of them are used, in the month of UTC; null where they are unlimited, and not counted"`
	Badge         bool              `json:"badge" doc:"Whether the public page /verified?service=<tenant_id> shows your name, and when you last verified an agent"`
	Region        string            `json:"region" doc:"Where your data may be sent; empty is anywhere. The operator sets it"`
	Version       int64             `json:"version" doc:"Counts the changes; the ETag"`
}

func view(o Organisation) View {
	return View{
		o.ID, o.Name, o.ContactEmail, o.CreatedAt.UTC(), int(o.TokenLifetime.Seconds()), o.LiveTokens, o.MonthlyQuota, o.Used, o.Badge, o.Region, o.Version,
	}
}

type output struct {
	ETag string `header:"ETag"`
	Body View
}

func (r *Room) get(ctx context.Context, c tenantdb.Caller, _ *web.None) (*output, error) {
	o, err := r.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return &output{web.ETag(o.Version), view(o)}, nil
}

type updateInput struct {
	web.IfMatch
	Body struct {
		Name          *string `json:"name,omitempty" minLength:"1" maxLength:"200"`
		ContactEmail  *string `json:"contact_email,omitempty" maxLength:"254" doc:"Empty takes it away"`
		TokenLifetime *int    `json:"token_lifetime_seconds,omitempty" minimum:"300" maximum:"86400"`
		LiveTokens    *int    `json:"live_tokens,omitempty" minimum:"1" maximum:"100000"`
		Badge         *bool   `json:"badge,omitempty" doc:"Whether to show in public, at /verified, that you verify agents, and when you last did"`
	}
}

func (r *Room) update(ctx context.Context, c tenantdb.Caller, in *updateInput) (*output, error) {
	ch := Change{Name: in.Body.Name, ContactEmail: in.Body.ContactEmail, LiveTokens: in.Body.LiveTokens, Badge: in.Body.Badge}
	if s := in.Body.TokenLifetime; s != nil {
		ch.TokenLifetime = new(time.Duration(*s) * time.Second)
	}
	o, err := r.Update(ctx, c, in.IfMatch.IfMatch, ch)
	if err != nil {
		return nil, err
	}
	return &output{web.ETag(o.Version), view(o)}, nil
}

type signUpInput struct {
	Body struct {
		Name         string `json:"name" minLength:"1" maxLength:"200"`
		ContactEmail string `json:"contact_email,omitempty" maxLength:"254" doc:"Where notices go"`
		OwnerAddress string `json:"owner_address,omitempty" maxLength:"254" doc:"Who is to be the first owner: a link to join is mailed there, a few times an hour at most. The answer is the same in any case"`
		OwnerName    string `json:"owner_name,omitempty" maxLength:"200"`
		Region       string `json:"region,omitempty" maxLength:"32" doc:"One of the installation's regions, if it has some"`
	}
}

type signUpOutput struct {
	ETag string `header:"ETag"`
	Body struct {
		View
		OwnerKey   string `json:"owner_key" doc:"The first owner key. It is shown here and never again, and it does not expire."`
		OwnerKeyID string `json:"owner_key_id"`
	}
}

func (r *Room) signUp(ctx context.Context, _ tenantdb.Caller, in *signUpInput) (*signUpOutput, error) {
	if !r.cfg.SignUp {
		return nil, problem.New(problem.Denied, "Sign-up is closed here: ask the operator for an organisation.")
	}
	meta := web.MetaOf(ctx)
	if wait := r.signUps.Take(meta.Address, r.cfg.Now()); wait > 0 {
		err := problem.New(problem.TooMany, "Too many organisations were made from your address. Try again later, or ask the operator.")
		err.RetryAfter = wait
		return nil, err
	}
	made, err := r.Create(ctx, NewOrganisation{
		Name: in.Body.Name, ContactEmail: in.Body.ContactEmail, OwnerAddress: in.Body.OwnerAddress, OwnerName: in.Body.OwnerName, Region: in.Body.Region, Request: meta,
	})
	if err != nil {
		return nil, err
	}
	out := &signUpOutput{ETag: web.ETag(made.Version)}
	out.Body.View, out.Body.OwnerKey, out.Body.OwnerKeyID = view(made.Organisation), made.OwnerKey.Expose(), made.OwnerKeyID
	return out, nil
}
