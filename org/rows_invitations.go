package org

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

const invitationColumns = `invitation_id, profile, address, roles, groups, invited_by, created_at, sent_at, expires_at, accepted_at, revoked_at`

func scanInvitation(scan func(...any) error) (i Invitation, err error) {
	var accepted, revoked *time.Time
	err = scan(&i.ID, &i.sealed, &i.pseudonym, &i.Roles, &i.Groups, &i.InvitedBy, &i.CreatedAt, &i.SentAt, &i.ExpiresAt, &accepted, &revoked)
	if none(err) {
		return i, problem.New(problem.Missing, "There is no such invitation.")
	}
	i.AcceptedAt, i.RevokedAt = orZero(accepted), orZero(revoked)
	return i, err
}

func loadInvitation(ctx context.Context, tx *tenantdb.ReadTx, id InvitationID) (Invitation, error) {
	return scanInvitation(tx.QueryRow(ctx, `SELECT `+invitationColumns+` FROM avouch.invitation WHERE tenant_id = $1 AND invitation_id = $2`, tx.Tenant(), id).Scan)
}

const listInvitationsSQL = `SELECT ` + invitationColumns + ` FROM avouch.invitation WHERE tenant_id = $1
  AND (NOT $2 OR accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3) AND ($4::uuid IS NULL OR invitation_id < $4) ORDER BY invitation_id DESC LIMIT $5`

func listInvitations(ctx context.Context, tx *tenantdb.ReadTx, open bool, now time.Time, after InvitationID, limit int) ([]Invitation, error) {
	return all(ctx, tx, scanInvitation, listInvitationsSQL, tx.Tenant(), open, now, orNone(after), limit)
}

// Those that expired make room for another one to the same address.
const (
	endExpiredSQL = `UPDATE avouch.invitation SET revoked_at = expires_at WHERE tenant_id = $1 AND address = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at <= $3`

	openInvitationsSQL = `SELECT count(*), coalesce(bool_or(address = $2), false) FROM avouch.invitation
WHERE tenant_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3`
)

// openInvitations counts those that are open, and says whether one of them is to an address.
func openInvitations(ctx context.Context, tx *tenantdb.Tx, pseudonym string, now time.Time) (open int, invited bool, err error) {
	if _, err = tx.Exec(ctx, endExpiredSQL, tx.Tenant(), pseudonym, now); err == nil {
		err = tx.QueryRow(ctx, openInvitationsSQL, tx.Tenant(), pseudonym, now).Scan(&open, &invited)
	}
	if err != nil {
		return 0, false, fmt.Errorf("org: open invitations: %w", err)
	}
	return open, invited, nil
}

const insertInvitationSQL = `INSERT INTO avouch.invitation (tenant_id, invitation_id, profile, address, roles, groups, invited_by, created_at, sent_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

func insertInvitation(ctx context.Context, tx *tenantdb.Tx, i Invitation) error {
	groups := append([]GroupID{}, i.Groups...)
	_, err := tx.Exec(ctx, insertInvitationSQL, tx.Tenant(), i.ID, i.sealed, i.pseudonym, i.Roles, groups, i.InvitedBy, i.CreatedAt, i.SentAt, i.ExpiresAt)
	if err != nil {
		return fmt.Errorf("org: insert invitation: %w", err)
	}
	return nil
}

const updateInvitationSQL = `UPDATE avouch.invitation SET sent_at = $3, expires_at = $4, accepted_at = $5, revoked_at = $6
WHERE tenant_id = $1 AND invitation_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL`

// updateInvitation changes an invitation that nobody accepted or revoked before. Its links end with it.
func updateInvitation(ctx context.Context, tx *tenantdb.Tx, i Invitation) error {
	n, err := tx.Exec(ctx, updateInvitationSQL, tx.Tenant(), i.ID, i.SentAt, i.ExpiresAt, orNull(i.AcceptedAt), orNull(i.RevokedAt))
	if err == nil && n != 1 {
		return problem.New(problem.Conflict, "The invitation is not open any more.")
	}
	if err == nil {
		_, err = tx.Exec(ctx, endLinksSQL, tx.Tenant(), i.ID, i.SentAt)
	}
	if err != nil {
		return fmt.Errorf("org: update invitation: %w", err)
	}
	return nil
}
