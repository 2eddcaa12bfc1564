package org

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const oneInvitation = "/api/v1/invitations/{id}"

func (r *Room) invitationRoutes(api *web.API[tenantdb.Caller]) {
	invite := op("create-invitation", http.MethodPost, "/api/v1/invitations", "Invite somebody",
		"A link is mailed by which they join, within seven days. They get what you hold, now and when they join. The answer is the same whether another organisation knows the address.")
	invite.Status, invite.Idempotent = http.StatusCreated, true
	web.Handle(api, invite, r.invite)
	web.Handle(api, op("list-invitations", http.MethodGet, "/api/v1/invitations", "List invitations", "The newest first."), r.listInvitations)
	web.Handle(api, op("revoke-invitation", http.MethodPost, oneInvitation+"/revoke", "Revoke an invitation", ""), r.revokeInvitation)
	web.Handle(api, op("resend-invitation", http.MethodPost, oneInvitation+"/resend", "Send an invitation again", "With a new link, and seven more days. The earlier link ends."), r.resendInvitation)
}

type invitationView struct {
	ID        InvitationID `json:"invitation_id" format:"uuid"`
	Name      string       `json:"name"`
	Address   string       `json:"address"`
	Roles     []string     `json:"roles" nullable:"false"`
	Groups    []GroupID    `json:"groups" nullable:"false"`
	InvitedBy string       `json:"invited_by" doc:"Kind and id of who did"`
	State     string       `json:"state" enum:"open,accepted,revoked,expired"`
	CreatedAt time.Time    `json:"created_at"`
	SentAt    time.Time    `json:"sent_at"`
	ExpiresAt time.Time    `json:"expires_at"`
}

func (r *Room) viewInvitation(i Invitation) invitationView {
	return invitationView{
		i.ID, i.Name, i.Address, orEmpty(i.Roles), orEmpty(i.Groups), i.InvitedBy, i.State(r.cfg.Now()), i.CreatedAt.UTC(), i.SentAt.UTC(), i.ExpiresAt.UTC(),
	}
}

type invitationOutput struct{ Body invitationView }

func (r *Room) outputInvitation(i Invitation, err error) (*invitationOutput, error) {
	if err != nil {
		return nil, err
	}
	return &invitationOutput{r.viewInvitation(i)}, nil
}

type inviteInput struct {
	Body struct {
		Address string    `json:"address" minLength:"3" maxLength:"254"`
		Name    string    `json:"name,omitempty" maxLength:"200"`
		Roles   []string  `json:"roles" nullable:"false" maxItems:"50" doc:"Which they have when they join"`
		Groups  []GroupID `json:"groups,omitempty" maxItems:"50" doc:"In which they are when they join"`
	}
}

func (r *Room) invite(ctx context.Context, c tenantdb.Caller, in *inviteInput) (*invitationOutput, error) {
	return r.outputInvitation(r.Invite(ctx, c, NewInvitation{in.Body.Address, in.Body.Name, in.Body.Roles, in.Body.Groups}))
}

type listInvitationsInput struct {
	web.Page
	State string `query:"state" enum:"open,all" default:"open" doc:"Only open invitations, or all"`
}

type listInvitationsOutput struct {
	Body struct {
		Invitations []invitationView `json:"invitations"`
		web.Next
	}
}

func (r *Room) listInvitations(ctx context.Context, c tenantdb.Caller, in *listInvitationsInput) (*listInvitationsOutput, error) {
	after, _, err := web.After[InvitationID](in.Page)
	if err != nil {
		return nil, err
	}
	all, err := r.Invitations(ctx, c, in.State == "open", after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listInvitationsOutput{}
	all, out.Body.Next = web.Cut(all, in.Limit, func(i Invitation) InvitationID { return i.ID })
	out.Body.Invitations = make([]invitationView, len(all))
	for i, one := range all {
		out.Body.Invitations[i] = r.viewInvitation(one)
	}
	return out, nil
}

type invitationPath struct {
	ID InvitationID `path:"id" doc:"The invitation_id"`
}

func (r *Room) revokeInvitation(ctx context.Context, c tenantdb.Caller, in *invitationPath) (*invitationOutput, error) {
	return r.outputInvitation(r.Revoke(ctx, c, in.ID))
}

func (r *Room) resendInvitation(ctx context.Context, c tenantdb.Caller, in *invitationPath) (*invitationOutput, error) {
	return r.outputInvitation(r.Resend(ctx, c, in.ID))
}
