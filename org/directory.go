package org

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Direct makes a person what their directory says, in a transaction of whoever decided that; Prepare first. Whether a directory
// may decide about the person, and whether the address is of a domain that is its own, is for the caller's room to know. An event
// without a type is that nothing changed.
func (r *Room) Direct(ctx context.Context, tx *tenantdb.Tx, id PersonID, managed ConnectionID, said Profile) (e audit.Event, err error) {
	p, err := present(ctx, &tx.ReadTx, id)
	if err != nil {
		return e, err
	}
	before, err := r.openProfile(ctx, tx.Tenant(), id, p.sealed)
	if err != nil {
		return e, err
	}
	pseudonym := ""
	if said.Address, pseudonym, err = r.Address(ctx, said.Address); err != nil {
		return e, err
	}
	if said == before && p.ManagedBy == managed {
		return e, nil
	}
	if err := checkName(said.Name); err != nil {
		return e, err
	}
	if pseudonym != p.pseudonym {
		if known, err := addressKnown(ctx, &tx.ReadTx, pseudonym); err != nil {
			return e, err
		} else if known {
			return e, memberAlready()
		}
		p.pseudonym, p.VerifiedAt = pseudonym, r.instant()
	}
	p.external = ""
	if said.External != "" {
		if p.external, err = r.External(ctx, tx.Tenant(), said.External); err != nil {
			return e, err
		}
		if other, err := externalKnown(ctx, tx, p); err != nil || other {
			return e, orConflict(err)
		}
	}
	if p.sealed, err = r.sealProfile(ctx, tx.Tenant(), id, said); err != nil {
		return e, fmt.Errorf("org.Direct: %w", err)
	}
	e = p.event("person.directed")
	e.Private = append(e.Private, field("name", said.Name), field("address", said.Address))
	if said.Address != before.Address {
		e.Private = append(e.Private, field("before", before.Address))
	}
	p.ManagedBy = managed
	p.Version++
	return e, saveDirected(ctx, tx, p)
}

func orConflict(err error) error {
	if err != nil {
		return err
	}
	return problem.New(problem.Conflict, "The directory calls somebody else so already.")
}

const externalKnownSQL = `SELECT EXISTS (SELECT FROM avouch.person WHERE tenant_id = $1 AND external = $2 AND removed_at IS NULL AND person_id <> $3)`

func externalKnown(ctx context.Context, tx *tenantdb.Tx, p Person) (known bool, err error) {
	return known, tx.QueryRow(ctx, externalKnownSQL, tx.Tenant(), p.external, p.ID).Scan(&known)
}

const saveDirectedSQL = `UPDATE avouch.person SET profile = $3, address = $4, external = $5, managed_by = $6, verified_at = $7, version = $8 WHERE tenant_id = $1 AND person_id = $2`

func saveDirected(ctx context.Context, tx *tenantdb.Tx, p Person) error {
	n, err := tx.Exec(ctx, saveDirectedSQL, tx.Tenant(), p.ID, p.sealed, p.pseudonym, orNone(p.external), orNone(p.ManagedBy), orNull(p.VerifiedAt), p.Version)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows", n)
	}
	if err != nil {
		return fmt.Errorf("org: save directed: %w", err)
	}
	return nil
}

const takeSuspensionSQL = `UPDATE avouch.person SET directory_suspended_at = NULL WHERE tenant_id = $1 AND person_id = $2 AND directory_suspended_at = suspended_at`

// takeSuspension makes a suspension an administrator's that was a directory's, and says whether it was.
func takeSuspension(ctx context.Context, tx *tenantdb.Tx, p PersonID) (bool, error) {
	n, err := tx.Exec(ctx, takeSuspensionSQL, tx.Tenant(), p)
	if err != nil {
		return false, fmt.Errorf("org: take suspension: %w", err)
	}
	return n == 1, nil
}
