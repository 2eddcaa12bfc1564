package org

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

const roleColumns = `name, description, capabilities, created_at, version`

func scanRole(scan func(...any) error) (r Role, err error) {
	err = scan(&r.Name, &r.Description, &r.Capabilities, &r.CreatedAt, &r.Version)
	if none(err) {
		return r, problem.New(problem.Missing, "There is no such role.")
	}
	return r, err
}

func loadRole(ctx context.Context, tx *tenantdb.ReadTx, name string) (Role, error) {
	return scanRole(tx.QueryRow(ctx, `SELECT `+roleColumns+` FROM avouch.role WHERE tenant_id = $1 AND name = $2`, tx.Tenant(), name).Scan)
}

// listRoles are the organisation's own.
func listRoles(ctx context.Context, tx *tenantdb.ReadTx) ([]Role, error) {
	return all(ctx, tx, scanRole, `SELECT `+roleColumns+` FROM avouch.role WHERE tenant_id = $1 ORDER BY name`, tx.Tenant())
}

// capabilitiesOf is what roles may do together. A name that is no role is refused.
func capabilitiesOf(ctx context.Context, tx *tenantdb.ReadTx, roles []string) ([]string, error) {
	own, err := listRoles(ctx, tx)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, name := range roles {
		if _, ok := builtIn(name); ok {
			continue
		}
		i := slices.IndexFunc(own, func(r Role) bool { return r.Name == name })
		if i < 0 {
			return nil, problem.New(problem.Invalid, "There is no role %q.", name)
		}
		others = append(others, own[i].Capabilities...)
	}
	return union(roles, others), nil
}

func rolesExist(ctx context.Context, tx *tenantdb.ReadTx, roles []string) error {
	_, err := capabilitiesOf(ctx, tx, roles)
	return err
}

const saveRoleSQL = `INSERT INTO avouch.role (tenant_id, name, description, capabilities, created_at, version) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, name) DO UPDATE SET description = excluded.description, capabilities = excluded.capabilities, version = excluded.version`

func saveRole(ctx context.Context, tx *tenantdb.Tx, r Role) error {
	if _, err := tx.Exec(ctx, saveRoleSQL, tx.Tenant(), r.Name, r.Description, r.Capabilities, r.CreatedAt, r.Version); err != nil {
		return fmt.Errorf("org: save role: %w", err)
	}
	return nil
}

func deleteRole(ctx context.Context, tx *tenantdb.Tx, name string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.role WHERE tenant_id = $1 AND name = $2`, tx.Tenant(), name); err != nil {
		return fmt.Errorf("org: delete role: %w", err)
	}
	return nil
}

const roleUsedSQL = `SELECT
  (SELECT count(*) FROM avouch.person WHERE tenant_id = $1 AND removed_at IS NULL AND $2 = ANY (roles)),
  (SELECT count(*) FROM avouch.person_group WHERE tenant_id = $1 AND $2 = ANY (roles)),
  (SELECT count(*) FROM avouch.invitation WHERE tenant_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3 AND $2 = ANY (roles))`

// roleUsed counts what uses a role.
func roleUsed(ctx context.Context, tx *tenantdb.ReadTx, name string, now time.Time) (people, groups, invitations int, err error) {
	if err = tx.QueryRow(ctx, roleUsedSQL, tx.Tenant(), name, now).Scan(&people, &groups, &invitations); err != nil {
		err = fmt.Errorf("org: role used: %w", err)
	}
	return people, groups, invitations, err
}
