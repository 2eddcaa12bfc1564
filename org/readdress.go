package org

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Readdress makes an address a person's that has been proved to be theirs, in a transaction of whoever has proved that. Prepare
// first. Where a directory decides about the person, it decides about the address.
func (r *Room) Readdress(ctx context.Context, tx *tenantdb.Tx, id PersonID, address string) (before string, e audit.Event, err error) {
	p, err := present(ctx, &tx.ReadTx, id)
	if err != nil {
		return "", e, err
	}
	if p.ManagedBy != (ConnectionID{}) {
		return "", e, problem.New(problem.Conflict, "The address comes from the organisation's directory: change it there.")
	}
	normal, pseudonym, err := r.Address(ctx, address)
	if err != nil {
		return "", e, err
	}
	if pseudonym == p.pseudonym {
		return "", e, problem.New(problem.Conflict, "This is your address already.")
	}
	if known, err := addressKnown(ctx, &tx.ReadTx, pseudonym); err != nil {
		return "", e, err
	} else if known {
		return "", e, memberAlready()
	}
	f, err := r.openProfile(ctx, tx.Tenant(), id, p.sealed)
	if err != nil {
		return "", e, err
	}
	before, f.Address = f.Address, normal
	if p.sealed, err = r.sealProfile(ctx, tx.Tenant(), id, f); err != nil {
		return "", e, fmt.Errorf("org.Readdress: %w", err)
	}
	p.pseudonym, p.VerifiedAt = pseudonym, r.instant()
	p.Version++
	e = p.event("person.readdressed")
	e.Private = append(e.Private, field("address", normal), field("before", before))
	if err := updatePerson(ctx, tx, p); err != nil {
		return "", e, err
	}
	return before, e, setAddress(ctx, tx, p)
}

const setAddressSQL = `UPDATE avouch.person SET address = $3, verified_at = $4 WHERE tenant_id = $1 AND person_id = $2`

func setAddress(ctx context.Context, tx *tenantdb.Tx, p Person) error {
	if _, err := tx.Exec(ctx, setAddressSQL, tx.Tenant(), p.ID, p.pseudonym, p.VerifiedAt); err != nil {
		return fmt.Errorf("org: set address: %w", err)
	}
	return nil
}
