package org

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

const groupColumns = `g.group_id, g.name, g.roles, g.managed_by, g.created_at, g.version,
  (SELECT count(*) FROM avouch.group_member m WHERE m.tenant_id = g.tenant_id AND m.group_id = g.group_id)`

func scanGroup(scan func(...any) error) (g Group, err error) {
	var managed *ConnectionID
	err = scan(&g.ID, &g.Name, &g.Roles, &managed, &g.CreatedAt, &g.Version, &g.Members)
	if none(err) {
		return g, noGroup()
	}
	if managed != nil {
		g.ManagedBy = *managed
	}
	return g, err
}

func loadGroup(ctx context.Context, tx *tenantdb.ReadTx, id GroupID) (Group, error) {
	return scanGroup(tx.QueryRow(ctx, `SELECT `+groupColumns+` FROM avouch.person_group g WHERE g.tenant_id = $1 AND g.group_id = $2`, tx.Tenant(), id).Scan)
}

func listGroups(ctx context.Context, tx *tenantdb.ReadTx, after GroupID, limit int) ([]Group, error) {
	return all(ctx, tx, scanGroup, `SELECT `+groupColumns+` FROM avouch.person_group g WHERE g.tenant_id = $1 AND g.group_id > $2 ORDER BY g.group_id LIMIT $3`,
		tx.Tenant(), after, limit)
}

const insertGroupSQL = `INSERT INTO avouch.person_group (tenant_id, group_id, name, roles, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`

func insertGroup(ctx context.Context, tx *tenantdb.Tx, g Group) error {
	n, err := tx.Exec(ctx, insertGroupSQL, tx.Tenant(), g.ID, g.Name, g.Roles, g.CreatedAt)
	if err != nil {
		return fmt.Errorf("org: insert group: %w", err)
	}
	if n == 0 {
		return sameName()
	}
	return nil
}

func sameName() error { return problem.New(problem.Conflict, "There is a group of this name.") }

const updateGroupSQL = `UPDATE avouch.person_group g SET name = $3, roles = $4, version = $5 WHERE g.tenant_id = $1 AND g.group_id = $2
  AND NOT EXISTS (SELECT FROM avouch.person_group o WHERE o.tenant_id = $1 AND o.name = $3 AND o.group_id <> $2)`

func updateGroup(ctx context.Context, tx *tenantdb.Tx, g Group) error {
	n, err := tx.Exec(ctx, updateGroupSQL, tx.Tenant(), g.ID, g.Name, g.Roles, g.Version)
	if err != nil {
		return fmt.Errorf("org: update group: %w", err)
	}
	if n == 0 {
		return sameName()
	}
	return nil
}

// deleteGroup ends a group, and returns who was in it.
func deleteGroup(ctx context.Context, tx *tenantdb.Tx, id GroupID) ([]PersonID, error) {
	members, err := all(ctx, &tx.ReadTx, func(scan func(...any) error) (p PersonID, err error) { return p, scan(&p) },
		`SELECT person_id FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2`, tx.Tenant(), id)
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		`DELETE FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2`, `DELETE FROM avouch.person_group WHERE tenant_id = $1 AND group_id = $2`,
	} {
		if _, err := tx.Exec(ctx, sql, tx.Tenant(), id); err != nil {
			return nil, fmt.Errorf("org: delete group: %w", err)
		}
	}
	return members, nil
}

func deleteMember(ctx context.Context, tx *tenantdb.Tx, g GroupID, p PersonID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2 AND person_id = $3`, tx.Tenant(), g, p); err != nil {
		return fmt.Errorf("org: delete member: %w", err)
	}
	return nil
}
