package scim

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

const findMemberSQL = `SELECT p.person_id, p.managed_by IS NOT DISTINCT FROM $3, p.created_at, p.suspended_at, p.directory_suspended_at, p.version,
  EXISTS (SELECT FROM avouch.password w WHERE w.tenant_id = p.tenant_id AND w.person_id = p.person_id)
  OR EXISTS (SELECT FROM avouch.factor f WHERE f.tenant_id = p.tenant_id AND f.person_id = p.person_id)
FROM avouch.person p WHERE p.tenant_id = $1 AND p.person_id = $2 AND p.removed_at IS NULL`

func findMember(ctx context.Context, tx *tenantdb.ReadTx, id PersonID) (m member, err error) {
	var suspended, paused *time.Time
	err = tx.QueryRow(ctx, findMemberSQL, tx.Tenant(), id, Directory).Scan(&m.id, &m.managed, &m.created, &suspended, &paused, &m.version, &m.owns)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, problem.New(problem.Missing, "There is no such person.")
	}
	if m.created = m.created.UTC(); suspended != nil {
		m.suspended = *suspended
	}
	if paused != nil {
		m.paused = *paused
	}
	return m, err
}

// The mark counts while it is the instant of the suspension that is in force.
func markPaused(ctx context.Context, tx *tenantdb.Tx, id PersonID, at time.Time) error {
	var mark *time.Time
	if !at.IsZero() {
		mark = &at
	}
	_, err := tx.Exec(ctx, `UPDATE avouch.person SET directory_suspended_at = $3 WHERE tenant_id = $1 AND person_id = $2`, tx.Tenant(), id, mark)
	return err
}

const (
	byAddressSQL  = `SELECT person_id FROM avouch.person WHERE tenant_id = $1 AND address = $2 AND removed_at IS NULL`
	byExternalSQL = `SELECT person_id FROM avouch.person WHERE tenant_id = $1 AND external = $2 AND removed_at IS NULL`
)

func byAddress(ctx context.Context, tx *tenantdb.ReadTx, pseudonym string) (PersonID, error) {
	return single(ctx, tx, byAddressSQL, pseudonym)
}

func byExternal(ctx context.Context, tx *tenantdb.ReadTx, pseudonym string) (PersonID, error) {
	return single(ctx, tx, byExternalSQL, pseudonym)
}

// single is who a query finds; zero if nobody.
func single(ctx context.Context, tx *tenantdb.ReadTx, sql, arg string) (p PersonID, err error) {
	err = tx.QueryRow(ctx, sql, tx.Tenant(), arg).Scan(&p)
	if errors.Is(err, pgx.ErrNoRows) {
		return PersonID{}, nil
	}
	return p, err
}

const (
	listMembersSQL  = `SELECT person_id FROM avouch.person WHERE tenant_id = $1 AND removed_at IS NULL AND managed_by = $2 ORDER BY person_id OFFSET $3 LIMIT $4`
	countMembersSQL = `SELECT count(*) FROM avouch.person WHERE tenant_id = $1 AND removed_at IS NULL AND managed_by = $2`
)

func listMembers(ctx context.Context, tx *tenantdb.ReadTx, skip, most int) (ids []PersonID, total int, err error) {
	if err := tx.QueryRow(ctx, countMembersSQL, tx.Tenant(), Directory).Scan(&total); err != nil {
		return nil, 0, err
	}
	ids, err = all[PersonID](ctx, tx, listMembersSQL, tx.Tenant(), Directory, skip, most)
	return ids, total, err
}

func all[T any](ctx context.Context, tx *tenantdb.ReadTx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

const groupsOfSQL = `SELECT g.group_id, g.name FROM avouch.group_member m JOIN avouch.person_group g ON (g.tenant_id, g.group_id) = (m.tenant_id, m.group_id)
WHERE m.tenant_id = $1 AND m.person_id = $2 AND g.managed_by = $3 ORDER BY g.group_id`

// groupsOf is the directory's groups of a person.
func groupsOf(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) ([]ref, error) {
	rows, err := tx.Query(ctx, groupsOfSQL, tx.Tenant(), p, Directory)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (g ref, err error) {
		var which org.GroupID
		err = row.Scan(&which, &g.Display)
		g.Value = which.String()
		return g, err
	})
}

const (
	loadGroupSQL = `SELECT group_id, name, coalesce(external, ''), created_at, version FROM avouch.person_group WHERE tenant_id = $1 AND group_id = $2 AND managed_by = $3`
	membersSQL   = `SELECT person_id FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2 ORDER BY person_id`
)

// loadGroup is a group of the directory's, with its members if they are wanted.
func loadGroup(ctx context.Context, tx *tenantdb.ReadTx, which org.GroupID, members bool) (g group, err error) {
	err = tx.QueryRow(ctx, loadGroupSQL, tx.Tenant(), which, Directory).Scan(&g.id, &g.name, &g.ext, &g.created, &g.version)
	if errors.Is(err, pgx.ErrNoRows) {
		return g, notFound("Group", which.String())
	}
	if g.created = g.created.UTC(); err == nil && members {
		g.members, err = all[PersonID](ctx, tx, membersSQL, tx.Tenant(), which)
	}
	return g, err
}

// groupQuery is what a group must be; nil is anything.
type groupQuery struct{ name, ext, id, member *string }

const groupsWhere = ` FROM avouch.person_group g WHERE tenant_id = $1 AND managed_by = $2 AND ($3::text IS NULL OR lower(name) = lower($3)) AND ($4::text IS NULL OR external = $4)
  AND ($5::text IS NULL OR group_id::text = $5)
  AND ($6::text IS NULL OR EXISTS (SELECT FROM avouch.group_member m WHERE (m.tenant_id, m.group_id) = (g.tenant_id, g.group_id) AND m.person_id::text = $6))`

func listGroups(ctx context.Context, tx *tenantdb.ReadTx, q groupQuery, skip, most int) (ids []org.GroupID, total int, err error) {
	args := []any{tx.Tenant(), Directory, q.name, q.ext, q.id, q.member}
	if err := tx.QueryRow(ctx, `SELECT count(*)`+groupsWhere, args...).Scan(&total); err != nil {
		return nil, 0, err
	}
	ids, err = all[org.GroupID](ctx, tx, `SELECT group_id`+groupsWhere+` ORDER BY group_id OFFSET $7 LIMIT $8`, append(args, skip, most)...)
	return ids, total, err
}

func countGroups(ctx context.Context, tx *tenantdb.ReadTx) (n int, err error) {
	return n, tx.QueryRow(ctx, `SELECT count(*) FROM avouch.person_group WHERE tenant_id = $1 AND managed_by = $2`, tx.Tenant(), Directory).Scan(&n)
}

const nameKnownSQL = `SELECT EXISTS (SELECT FROM avouch.person_group WHERE tenant_id = $1 AND group_id <> $3 AND (name = $2 OR managed_by = $4 AND external = $5))`

// nameKnown reports whether another group has the name, or the external id.
func nameKnown(ctx context.Context, tx *tenantdb.ReadTx, g group) (known bool, err error) {
	return known, tx.QueryRow(ctx, nameKnownSQL, tx.Tenant(), g.name, g.id, Directory, orNull(g.ext)).Scan(&known)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func insertGroup(ctx context.Context, tx *tenantdb.Tx, g group) error {
	const sql = `INSERT INTO avouch.person_group (tenant_id, group_id, name, external, managed_by, created_at) VALUES ($1, $2, $3, $4, $5, $6)`
	_, err := tx.Exec(ctx, sql, tx.Tenant(), g.id, g.name, orNull(g.ext), Directory, g.created)
	return err
}

func updateGroup(ctx context.Context, tx *tenantdb.Tx, g group) error {
	const sql = `UPDATE avouch.person_group SET name = $3, external = $4, version = $5 WHERE tenant_id = $1 AND group_id = $2`
	_, err := tx.Exec(ctx, sql, tx.Tenant(), g.id, g.name, orNull(g.ext), g.version)
	return err
}

func deleteGroup(ctx context.Context, tx *tenantdb.Tx, which org.GroupID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2`, tx.Tenant(), which); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM avouch.person_group WHERE tenant_id = $1 AND group_id = $2`, tx.Tenant(), which)
	return err
}

func countManaged(ctx context.Context, tx *tenantdb.ReadTx, people []PersonID) (n int, err error) {
	const sql = `SELECT count(*) FROM avouch.person WHERE tenant_id = $1 AND person_id = ANY ($2) AND removed_at IS NULL AND managed_by = $3`
	return n, tx.QueryRow(ctx, sql, tx.Tenant(), people, Directory).Scan(&n)
}

func insertMembers(ctx context.Context, tx *tenantdb.Tx, which org.GroupID, people []PersonID) (int64, error) {
	const sql = `INSERT INTO avouch.group_member (tenant_id, group_id, person_id) SELECT $1, $2, unnest($3::uuid[]) ON CONFLICT DO NOTHING`
	return tx.Exec(ctx, sql, tx.Tenant(), which, people)
}

func deleteMembers(ctx context.Context, tx *tenantdb.Tx, which org.GroupID, people []PersonID) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND group_id = $2 AND person_id = ANY ($3)`, tx.Tenant(), which, people)
}
