package org

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const theDeletion = "/api/v1/organisation/deletion"

func (r *Room) deletionRoutes(api *web.API[tenantdb.Caller], governs func(id, method, path, summary, description string) web.Op) {
	web.Handle(api, governs("delete-organisation", http.MethodPost, "/api/v1/organisation/delete", "Delete your organisation",
		"It takes an owner who has signed in and proved themselves a moment ago. Where there are other owners, they are asked, and one of them confirms it within seven days: until then `state` is "+
			"`waiting`, and nothing is deleted. A single owner deletes at once, but not within seven days after another one left, was suspended or became something else. Who is an owner for less than seven days counts only "+
			"where no other is it for longer. Once it is deleted, access has ended, of everybody. "+
			"For 30 days the operator can restore the organisation; after that its keys are destroyed, and nobody can. Every owner is told of each step."), r.deleteOrganisation)
	web.Handle(api, governs("get-deletion", http.MethodGet, theDeletion, "Get the deletion that waits for another owner", "404 if none waits."), r.getDeletion)
	web.Handle(api, governs("confirm-deletion", http.MethodPost, theDeletion+"/{id}/confirm", "Confirm that your organisation is deleted",
		"It takes another owner than who asked for it, who was an owner then (for seven days, if there was such a one), has signed in and proved themselves a moment ago. No key can. Access ends at once, of everybody; every owner is told."), r.confirmDeletion)
	web.Handle(api, governs("withdraw-deletion", http.MethodDelete, theDeletion+"/{id}", "Withdraw a deletion that waits", "Every owner can, and every owner is told."), r.withdrawDeletion)
}

type endBody struct {
	Confirm string `json:"confirm" maxLength:"200" doc:"The organisation's name"`
	Reason  string `json:"reason,omitempty" maxLength:"1000"`
}

type deletionView struct {
	State     string      `json:"state" enum:"waiting,deleted"`
	ID        *DeletionID `json:"deletion_id,omitempty" format:"uuid" doc:"Of one that another owner was asked for"`
	AskedBy   *PersonID   `json:"asked_by,omitempty" format:"uuid" doc:"The member_id of the owner who asked"`
	AskedAt   time.Time   `json:"asked_at,omitzero"`
	LapsesAt  time.Time   `json:"lapses_at,omitzero" doc:"Until then another owner can confirm it"`
	DeletedAt time.Time   `json:"deleted_at,omitzero"`
	Until     time.Time   `json:"restorable_until,omitzero" doc:"Until then the operator can restore it"`
}

func viewDeletion(d Deletion) deletionView {
	v := deletionView{State: "waiting"}
	if !d.ID.IsZero() {
		v.ID, v.AskedBy, v.AskedAt, v.LapsesAt = &d.ID, &d.AskedBy, d.AskedAt.UTC(), d.LapsesAt.UTC()
	}
	if !d.DeletedAt.IsZero() {
		v.State, v.DeletedAt, v.Until = "deleted", d.DeletedAt.UTC(), d.DeletedAt.Add(Grace).UTC()
	}
	return v
}

type deletionOutput struct{ Body deletionView }

func answerDeletion(d Deletion, err error) (*deletionOutput, error) {
	if err != nil {
		return nil, err
	}
	return &deletionOutput{viewDeletion(d)}, nil
}

type deletionPath struct {
	ID DeletionID `path:"id" doc:"The deletion_id"`
}

type deleteOrganisationInput struct {
	Body endBody
}

func (r *Room) deleteOrganisation(ctx context.Context, c tenantdb.Caller, in *deleteOrganisationInput) (*deletionOutput, error) {
	return answerDeletion(r.Delete(ctx, c, in.Body.Confirm, in.Body.Reason))
}

func (r *Room) getDeletion(ctx context.Context, c tenantdb.Caller, _ *web.None) (*deletionOutput, error) {
	return answerDeletion(r.GetDeletion(ctx, c))
}

type confirmDeletionInput struct {
	ID   DeletionID `path:"id" doc:"The deletion_id"`
	Body endBody
}

func (r *Room) confirmDeletion(ctx context.Context, c tenantdb.Caller, in *confirmDeletionInput) (*deletionOutput, error) {
	return answerDeletion(r.ConfirmDeletion(ctx, c, in.ID, in.Body.Confirm, in.Body.Reason))
}

func (r *Room) withdrawDeletion(ctx context.Context, c tenantdb.Caller, in *deletionPath) (*deletionOutput, error) {
	return answerDeletion(r.WithdrawDeletion(ctx, c, in.ID))
}
