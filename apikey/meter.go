package apikey

import (
	"context"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// revokeOperation is the id of the operation that revokes a key.
const revokeOperation = "revoke-key"

// Admit counts a request of a metered key, once it is known what is asked for and that the key may: what is denied spends
// nothing. The count and its entry are one commit. Of keys that nothing meters it does nothing: what they do is counted in
// Used. The verify room counts what it is asked for itself.
func (r *Room) Admit(ctx context.Context, c tenantdb.Caller, operation string) error {
	if c.Actor().Kind != audit.ActorKey {
		return nil
	}
	if !c.Metered() || operation == revokeOperation { // which Revoke counts, but for a key that revokes itself
		return nil
	}
	var u *Use
	_, err := r.cfg.DB.Decide(ctx, []tenantdb.TenantID{c.Tenant()}, func() (_ []tenantdb.Draft, _ []tenantdb.Spend, err error) {
		var head tenantdb.Head
		if head, u, err = r.useNow(ctx, c); err != nil {
			return nil, nil, unavailable(err)
		}
		if u == nil || u.Status(r.cfg.Now()) != Active {
			return nil, nil, Refused()
		}
		d, err := r.cfg.DB.Draft(ctx, c, head, audit.Event{
			Type: "key.used", Target: audit.Target{Kind: "key", ID: u.ID}, Public: []audit.Field{{Name: "operation", Value: operation}},
		})
		if err != nil {
			return nil, nil, unavailable(err)
		}
		return []tenantdb.Draft{d}, u.Spends(c.Tenant(), 1), nil
	})
	var spent *tenantdb.SpentError
	if errors.As(err, &spent) {
		m, _ := u.Meter(spent.Subject)
		return Spent(m, spent.Anew, r.cfg.Now())
	}
	if err != nil {
		return fmt.Errorf("apikey.Admit: %w", err)
	}
	return nil
}

// useNow is a key with the head of its organisation's log, both as they are at one instant.
func (r *Room) useNow(ctx context.Context, c tenantdb.Caller) (head tenantdb.Head, u *Use, err error) {
	err = r.cfg.DB.ReadFresh(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if head, err = readHead(ctx, tx); err != nil {
			return err
		}
		u, err = LoadUse(ctx, tx, c.Actor().ID)
		return err
	})
	return head, u, err
}
