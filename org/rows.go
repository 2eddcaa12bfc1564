package org

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// standingSQL is a person, the roles of their own and of their groups, what the organisation's own roles among these may do, and
// the rules, in one round trip.
const standingSQL = `
SELECT p.roles, p.suspended_at IS NOT NULL, p.removed_at IS NOT NULL, coalesce(p.managed_by::text, ''), o.rules, o.suspended_at IS NOT NULL, r.names, c.names
FROM avouch.person p JOIN avouch.organisation o ON o.tenant_id = p.tenant_id
CROSS JOIN LATERAL (SELECT coalesce(array_agg(DISTINCT x.role ORDER BY x.role), '{}') AS names FROM (
  SELECT unnest(p.roles) UNION ALL SELECT unnest(g.roles) FROM avouch.group_member m JOIN avouch.person_group g ON (g.tenant_id, g.group_id) = (m.tenant_id, m.group_id)
    WHERE m.tenant_id = p.tenant_id AND m.person_id = p.person_id) x(role)) r
CROSS JOIN LATERAL (SELECT coalesce(array_agg(DISTINCT u.capability), '{}') AS names FROM avouch.role own CROSS JOIN unnest(own.capabilities) u(capability)
  WHERE own.tenant_id = p.tenant_id AND own.name = ANY (r.names)) c
WHERE p.tenant_id = $1 AND p.person_id = $2`

func standing(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (s Standing, err error) {
	var suspended, removed, stopped bool
	var rules []byte
	var capabilities []string
	err = tx.QueryRow(ctx, standingSQL, tx.Tenant(), p).Scan(&s.own, &suspended, &removed, &s.ManagedBy, &rules, &stopped, &s.Roles, &capabilities)
	if none(err) {
		return Standing{}, noPerson()
	}
	if err != nil {
		return Standing{}, fmt.Errorf("org: standing: %w", err)
	}
	if s.Rules, err = parseRules(rules); err != nil {
		return Standing{}, err
	}
	s.Person, s.Capabilities = p, union(s.Roles, capabilities)
	switch {
	case removed:
		s.Why = "removed"
	case stopped:
		s.Why = "organisation_suspended"
	case suspended:
		s.Why = "suspended"
	default:
		s.Active = true
	}
	return s, nil
}

func noPerson() error { return problem.New(problem.Missing, "There is no such person.") }

const personColumns = `p.person_id, p.profile, p.address, coalesce(p.external, ''), p.managed_by, p.roles, p.created_at, p.verified_at, p.suspended_at, p.removed_at, p.version,
  (SELECT coalesce(array_agg(m.group_id ORDER BY m.group_id), '{}') FROM avouch.group_member m WHERE m.tenant_id = p.tenant_id AND m.person_id = p.person_id)`

func scanPerson(scan func(...any) error) (p Person, err error) {
	var managed *ConnectionID
	var verified, suspended, removed *time.Time
	err = scan(&p.ID, &p.sealed, &p.pseudonym, &p.external, &managed, &p.Roles, &p.CreatedAt, &verified, &suspended, &removed, &p.Version, &p.Groups)
	if none(err) {
		return p, noPerson()
	}
	if managed != nil {
		p.ManagedBy = *managed
	}
	p.VerifiedAt, p.SuspendedAt, p.RemovedAt = orZero(verified), orZero(suspended), orZero(removed)
	return p, err
}

// loadPerson is a person, also one who was removed: the log is read with their name.
func loadPerson(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (Person, error) {
	return scanPerson(tx.QueryRow(ctx, `SELECT `+personColumns+` FROM avouch.person p WHERE p.tenant_id = $1 AND p.person_id = $2`, tx.Tenant(), p).Scan)
}

// loadPeople are those of some people who are there, also those who were removed.
func loadPeople(ctx context.Context, tx *tenantdb.ReadTx, people []PersonID) ([]Person, error) {
	return all(ctx, tx, scanPerson, `SELECT `+personColumns+` FROM avouch.person p WHERE p.tenant_id = $1 AND p.person_id = ANY ($2)`, tx.Tenant(), people)
}

// present is a person who was not removed.
func present(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (Person, error) {
	one, err := loadPerson(ctx, tx, p)
	if err == nil && !one.RemovedAt.IsZero() {
		err = noPerson()
	}
	return one, err
}

const listPeopleSQL = `SELECT ` + personColumns + ` FROM avouch.person p WHERE p.tenant_id = $1 AND p.removed_at IS NULL AND p.person_id > $2
  AND ($3 = '' OR $3 = ANY (p.roles)) AND ($4::uuid IS NULL OR EXISTS (SELECT FROM avouch.group_member m WHERE (m.tenant_id, m.person_id, m.group_id) = (p.tenant_id, p.person_id, $4)))
ORDER BY p.person_id LIMIT $5`

func listPeople(ctx context.Context, tx *tenantdb.ReadTx, f Filter, after PersonID, limit int) ([]Person, error) {
	var group *GroupID
	if !f.Group.IsZero() {
		group = &f.Group
	}
	return all(ctx, tx, scanPerson, listPeopleSQL, tx.Tenant(), after, f.Role, group, limit)
}

const addressKnownSQL = `SELECT EXISTS (SELECT FROM avouch.person WHERE tenant_id = $1 AND address = $2 AND removed_at IS NULL)`

func addressKnown(ctx context.Context, tx *tenantdb.ReadTx, pseudonym string) (known bool, err error) {
	if err := tx.QueryRow(ctx, addressKnownSQL, tx.Tenant(), pseudonym).Scan(&known); err != nil {
		return false, fmt.Errorf("org: address: %w", err)
	}
	return known, nil
}

const insertPersonSQL = `INSERT INTO avouch.person (tenant_id, person_id, profile, address, external, managed_by, roles, created_at, verified_at, owner_since)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN 'owner' = ANY ($7) THEN $8::timestamptz END)`

func insertPerson(ctx context.Context, tx *tenantdb.Tx, p Person) error {
	_, err := tx.Exec(ctx, insertPersonSQL, tx.Tenant(), p.ID, p.sealed, p.pseudonym, orNone(p.external), orNone(p.ManagedBy), p.Roles, p.CreatedAt, orNull(p.VerifiedAt))
	if err != nil {
		return fmt.Errorf("org: insert person: %w", err)
	}
	return nil
}

// updatePersonSQL also keeps since when somebody is an owner, and until when they were one who can act. Who is made one again soon after is
// one since before: else whoever demotes another owner, and undoes it, would be the longest one.
const updatePersonSQL = `UPDATE avouch.person SET profile = $3, roles = $4, suspended_at = $5, removed_at = $6, version = $7,
  owner_since = CASE WHEN 'owner' <> ALL ($4) OR 'owner' = ANY (roles) OR owner_until > now() - $8::interval THEN owner_since ELSE now() END,
  owner_until = CASE WHEN 'owner' = ANY (roles) AND suspended_at IS NULL AND removed_at IS NULL AND ('owner' <> ALL ($4) OR $5::timestamptz IS NOT NULL OR $6::timestamptz IS NOT NULL)
    THEN now() ELSE owner_until END
WHERE tenant_id = $1 AND person_id = $2`

func updatePerson(ctx context.Context, tx *tenantdb.Tx, p Person) error {
	n, err := tx.Exec(ctx, updatePersonSQL, tx.Tenant(), p.ID, p.sealed, p.Roles, orNull(p.SuspendedAt), orNull(p.RemovedAt), p.Version, ownersCount)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows", n)
	}
	if err != nil {
		return fmt.Errorf("org: update person: %w", err)
	}
	return nil
}

const ownersSQL = `SELECT person_id FROM avouch.person WHERE tenant_id = $1 AND 'owner' = ANY (roles) AND suspended_at IS NULL AND removed_at IS NULL ORDER BY person_id`

// owners are those who are owners and can act. Under the head's lock nobody else makes or unmakes one.
func owners(ctx context.Context, tx *tenantdb.ReadTx) ([]PersonID, error) {
	return all(ctx, tx, func(scan func(...any) error) (p PersonID, err error) { return p, scan(&p) }, ownersSQL, tx.Tenant())
}

const insertMemberSQL = `INSERT INTO avouch.group_member (tenant_id, group_id, person_id) SELECT $1, group_id, $3 FROM avouch.person_group WHERE tenant_id = $1 AND group_id = $2
ON CONFLICT DO NOTHING`

func insertMember(ctx context.Context, tx *tenantdb.Tx, g GroupID, p PersonID) error {
	n, err := tx.Exec(ctx, insertMemberSQL, tx.Tenant(), g, p)
	if err != nil {
		return fmt.Errorf("org: insert member: %w", err)
	}
	if n == 0 {
		return noGroup()
	}
	return nil
}

// all reads every row of a query.
func all[T any](ctx context.Context, tx *tenantdb.ReadTx, scan func(func(...any) error) (T, error), sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("org: query: %w", err)
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("org: scan: %w", err)
		}
		out = append(out, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("org: rows: %w", err)
	}
	return out, nil
}

func orNone[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
