package sso

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

const connectionColumns = `connection_id, kind, name, config, enabled, configured_by, created_at, version`

func scanConnection(row pgx.CollectableRow) (n Connection, err error) {
	err = row.Scan(&n.ID, &n.Kind, &n.Name, &n.sealed, &n.Enabled, &n.ConfiguredBy, &n.CreatedAt, &n.Version)
	n.CreatedAt = n.CreatedAt.UTC()
	return n, err
}

const (
	findConnectionSQL  = `SELECT ` + connectionColumns + ` FROM avouch.connection WHERE tenant_id = $1 AND connection_id = $2`
	listConnectionsSQL = `SELECT ` + connectionColumns + ` FROM avouch.connection WHERE tenant_id = $1 ORDER BY connection_id`
)

// findConnection is a connection with its settings sealed.
func findConnection(ctx context.Context, tx *tenantdb.ReadTx, connection ID) (Connection, error) {
	n, err := one(ctx, tx, scanConnection, findConnectionSQL, tx.Tenant(), connection)
	if errors.Is(err, pgx.ErrNoRows) {
		return n, noConnection()
	}
	return n, err
}

func listConnections(ctx context.Context, tx *tenantdb.ReadTx) ([]Connection, error) {
	return all(ctx, tx, scanConnection, listConnectionsSQL, tx.Tenant())
}

func countConnections(ctx context.Context, tx *tenantdb.ReadTx) (n int, err error) {
	return n, tx.QueryRow(ctx, `SELECT count(*) FROM avouch.connection WHERE tenant_id = $1`, tx.Tenant()).Scan(&n)
}

const insertConnectionSQL = `INSERT INTO avouch.connection (tenant_id, connection_id, kind, name, config, enabled, configured_by, created_at, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

func insertConnection(ctx context.Context, tx *tenantdb.Tx, n Connection) error {
	return exactly(1)(tx.Exec(ctx, insertConnectionSQL, tx.Tenant(), n.ID, n.Kind, n.Name, n.sealed, n.Enabled, n.ConfiguredBy, n.CreatedAt, n.Version))
}

const updateConnectionSQL = `UPDATE avouch.connection SET name = $3, config = $4, configured_by = $5, version = $6 WHERE tenant_id = $1 AND connection_id = $2 AND version = $6 - 1`

func updateConnection(ctx context.Context, tx *tenantdb.Tx, n Connection) error {
	return exactly(1)(tx.Exec(ctx, updateConnectionSQL, tx.Tenant(), n.ID, n.Name, n.sealed, n.ConfiguredBy, n.Version))
}

// The version stays: what is sealed is bound to it.
const switchConnectionSQL = `UPDATE avouch.connection SET enabled = $3 WHERE tenant_id = $1 AND connection_id = $2`

func switchConnection(ctx context.Context, tx *tenantdb.Tx, n Connection) error {
	return exactly(1)(tx.Exec(ctx, switchConnectionSQL, tx.Tenant(), n.ID, n.Enabled))
}

// deleteConnection says how many identities went with it. Whom, and which groups, it decided about are the organisation's own again.
func deleteConnection(ctx context.Context, tx *tenantdb.Tx, connection ID) (int64, error) {
	gone, err := tx.Exec(ctx, `DELETE FROM avouch.identity WHERE tenant_id = $1 AND connection_id = $2`, tx.Tenant(), connection)
	if err != nil {
		return 0, err
	}
	for _, table := range []string{"person_group", "person"} {
		free := `UPDATE avouch.` + table + ` SET managed_by = NULL, version = version + 1 WHERE tenant_id = $1 AND managed_by = $2`
		if _, err := tx.Exec(ctx, free, tx.Tenant(), connection); err != nil {
			return 0, err
		}
	}
	return gone, exactly(1)(tx.Exec(ctx, `DELETE FROM avouch.connection WHERE tenant_id = $1 AND connection_id = $2`, tx.Tenant(), connection))
}

const groupRolesSQL = `SELECT coalesce(array_agg(DISTINCT r.role) FILTER (WHERE r.role IS NOT NULL), '{}'), count(DISTINCT g.group_id)
FROM avouch.person_group g LEFT JOIN LATERAL unnest(g.roles) r(role) ON true WHERE g.tenant_id = $1 AND g.group_id = ANY ($2)`

// groupRoles is all that members of groups are, and how many of the groups there are.
func groupRoles(ctx context.Context, tx *tenantdb.ReadTx, groups []org.GroupID) (roles []string, found int, err error) {
	return roles, found, tx.QueryRow(ctx, groupRolesSQL, tx.Tenant(), groups).Scan(&roles, &found)
}

// The groups that a connection fills are its own from then on, and those that it filled before are not.
const (
	leaveGroupsSQL = `UPDATE avouch.person_group SET managed_by = NULL WHERE tenant_id = $1 AND managed_by = $2 AND NOT group_id = ANY ($3)`
	takeGroupsSQL  = `UPDATE avouch.person_group SET managed_by = $2 WHERE tenant_id = $1 AND group_id = ANY ($3) AND (managed_by IS NULL OR managed_by = $2)`
)

func takeGroups(ctx context.Context, tx *tenantdb.Tx, connection ID, groups []org.GroupID) error {
	if _, err := tx.Exec(ctx, leaveGroupsSQL, tx.Tenant(), connection, groups); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, takeGroupsSQL, tx.Tenant(), connection, groups)
	if err == nil && int(n) != countDistinct(groups) {
		return groupTaken()
	}
	return err
}

// groupsOfOthers are those of some groups about which a connection does not decide.
func groupsOfOthers(ctx context.Context, tx *tenantdb.ReadTx, connection ID, groups []org.GroupID) ([]org.GroupID, error) {
	return all(ctx, tx, pgx.RowTo[org.GroupID], `SELECT group_id FROM avouch.person_group WHERE tenant_id = $1 AND group_id = ANY ($3) AND managed_by IS DISTINCT FROM $2 ORDER BY group_id`, tx.Tenant(), connection, groups)
}

// groupsOf are the groups in which a person is.
func groupsOf(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) ([]org.GroupID, error) {
	return all(ctx, tx, pgx.RowTo[org.GroupID], `SELECT group_id FROM avouch.group_member WHERE tenant_id = $1 AND person_id = $2`, tx.Tenant(), p)
}

const domainColumns = `domain, token, connection_id, required, created_at, proved_at, lapsed_at`

func scanDomain(row pgx.CollectableRow) (d Domain, err error) {
	var connection *ID
	var proved, lapsed *time.Time
	err = row.Scan(&d.Name, &d.Token, &connection, &d.Required, &d.CreatedAt, &proved, &lapsed)
	d.CreatedAt, d.ProvedAt, d.LapsedAt = d.CreatedAt.UTC(), orZero(proved).UTC(), orZero(lapsed).UTC()
	d.Connection = orZero(connection)
	return d, err
}

func findDomain(ctx context.Context, tx *tenantdb.ReadTx, name string) (Domain, error) {
	d, err := one(ctx, tx, scanDomain, `SELECT `+domainColumns+` FROM avouch.domain WHERE tenant_id = $1 AND domain = $2`, tx.Tenant(), name)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, noDomain()
	}
	return d, err
}

func listDomains(ctx context.Context, tx *tenantdb.ReadTx) ([]Domain, error) {
	return all(ctx, tx, scanDomain, `SELECT `+domainColumns+` FROM avouch.domain WHERE tenant_id = $1 ORDER BY domain`, tx.Tenant())
}

func domainsOf(ctx context.Context, tx *tenantdb.ReadTx, connection ID) ([]Domain, error) {
	return all(ctx, tx, scanDomain, `SELECT `+domainColumns+` FROM avouch.domain WHERE tenant_id = $1 AND connection_id = $2 ORDER BY domain`, tx.Tenant(), connection)
}

const dueDomainsSQL = `SELECT ` + domainColumns + ` FROM avouch.domain WHERE tenant_id = $1 AND proved_at IS NOT NULL AND coalesce(checked_at, proved_at) <= $2 ORDER BY domain`

func dueDomains(ctx context.Context, tx *tenantdb.ReadTx, before time.Time) ([]Domain, error) {
	return all(ctx, tx, scanDomain, dueDomainsSQL, tx.Tenant(), before)
}

func insertDomain(ctx context.Context, tx *tenantdb.Tx, d Domain) error {
	const sql = `INSERT INTO avouch.domain (tenant_id, domain, token, connection_id, created_at) VALUES ($1, $2, $3, $4, $5)`
	return exactly(1)(tx.Exec(ctx, sql, tx.Tenant(), d.Name, d.Token, orNull(d.Connection), d.CreatedAt))
}

const updateDomainSQL = `UPDATE avouch.domain SET connection_id = $3, required = $4, proved_at = $5, lapsed_at = $6, checked_at = coalesce($7, checked_at) WHERE tenant_id = $1 AND domain = $2`

// updateDomain also says when DNS was asked; the zero time that it was not.
func updateDomain(ctx context.Context, tx *tenantdb.Tx, d Domain, checked time.Time) error {
	return exactly(1)(tx.Exec(ctx, updateDomainSQL, tx.Tenant(), d.Name, orNull(d.Connection), d.Required, whenOrNull(d.ProvedAt), whenOrNull(d.LapsedAt), whenOrNull(checked)))
}

func deleteDomain(ctx context.Context, tx *tenantdb.Tx, name string) error {
	return exactly(1)(tx.Exec(ctx, `DELETE FROM avouch.domain WHERE tenant_id = $1 AND domain = $2`, tx.Tenant(), name))
}

const lookupDomainSQL = `SELECT coalesce(d.tenant_id, '00000000-0000-0000-0000-000000000000'), coalesce(d.connection_id, '00000000-0000-0000-0000-000000000000')
FROM (SELECT) one LEFT JOIN avouch.lookup_domain($1) d ON true`

// lookupDomain is who has a domain, and where its people sign in.
func lookupDomain(ctx context.Context, db *tenantdb.DB, name string) (t tenantdb.TenantID, connection ID, err error) {
	return t, connection, db.Lookup(ctx, lookupDomainSQL, []any{name}, &t, &connection)
}

const letGoSQL = `UPDATE avouch.domain d SET proved_at = NULL, lapsed_at = NULL WHERE d.tenant_id = $1 AND d.proved_at IS NOT NULL
  AND EXISTS (SELECT FROM avouch.lookup_domain(d.domain) h WHERE h.tenant_id <> $1)
RETURNING d.domain`

// letGo ends the proofs of domains that another organisation has, and says of which.
func letGo(ctx context.Context, tx *tenantdb.Tx) ([]string, error) {
	return all(ctx, &tx.ReadTx, pgx.RowTo[string], letGoSQL, tx.Tenant())
}

const lookupConnectionSQL = `SELECT coalesce(avouch.lookup_connection($1), '00000000-0000-0000-0000-000000000000')`

func lookupConnection(ctx context.Context, db *tenantdb.DB, connection ID) (t tenantdb.TenantID, err error) {
	return t, db.Lookup(ctx, lookupConnectionSQL, []any{connection}, &t)
}

// inForce reports whether the organisation is neither suspended nor deleted, which suspends it.
func inForce(ctx context.Context, tx *tenantdb.ReadTx) (there bool, err error) {
	return there, tx.QueryRow(ctx, `SELECT suspended_at IS NULL FROM avouch.organisation WHERE tenant_id = $1`, tx.Tenant()).Scan(&there)
}

const spendSQL = `INSERT INTO avouch.spent (tenant_id, kind, value, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

// spend reports whether the value was not spent before, on any server.
func spend(ctx context.Context, tx *tenantdb.Tx, kind string, value []byte, until time.Time) (bool, error) {
	n, err := tx.Exec(ctx, spendSQL, tx.Tenant(), kind, value, until)
	return n == 1, err
}

const peopleWithSessionsSQL = `SELECT DISTINCT person_id FROM avouch.session WHERE tenant_id = $1 AND ended_at IS NULL AND person_id > $2 ORDER BY person_id LIMIT $3`

func peopleWithSessions(ctx context.Context, tx *tenantdb.ReadTx, after PersonID, most int) ([]PersonID, error) {
	return all(ctx, tx, pgx.RowTo[PersonID], peopleWithSessionsSQL, tx.Tenant(), after, most)
}

// one reads the one row of a query; pgx.ErrNoRows if there is none.
func one[T any](ctx context.Context, tx *tenantdb.ReadTx, scan pgx.RowToFunc[T], sql string, args ...any) (v T, err error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return v, err
	}
	return pgx.CollectExactlyOneRow(rows, scan)
}

func all[T any](ctx context.Context, tx *tenantdb.ReadTx, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// exactly refuses a statement that touched another number of rows.
func exactly(want int64) func(int64, error) error {
	return func(n int64, err error) error {
		if err == nil && n != want {
			err = fmt.Errorf("sso: %d rows instead of %d", n, want)
		}
		return err
	}
}

func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func whenOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// personOf reads who configured a connection; false if it was no person.
func personOf(configurer string) (PersonID, bool) {
	kind, name, _ := strings.Cut(configurer, ":")
	if kind != string(audit.ActorPerson) {
		return PersonID{}, false
	}
	var p PersonID
	err := p.UnmarshalText([]byte(name))
	return p, err == nil
}

const findIdentitySQL = `SELECT person_id FROM avouch.identity WHERE tenant_id = $1 AND connection_id = $2 AND subject = $3`

// findIdentity is whose a provider's name is; zero if nobody's.
func findIdentity(ctx context.Context, tx *tenantdb.ReadTx, connection ID, subject string) (PersonID, error) {
	return orNobody(one(ctx, tx, pgx.RowTo[PersonID], findIdentitySQL, tx.Tenant(), connection, subject))
}

func orNobody(p PersonID, err error) (PersonID, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return PersonID{}, nil
	}
	return p, err
}

func hasIdentity(ctx context.Context, tx *tenantdb.ReadTx, connection ID, p PersonID) (has bool, err error) {
	const sql = `SELECT EXISTS (SELECT FROM avouch.identity WHERE tenant_id = $1 AND connection_id = $2 AND person_id = $3)`
	return has, tx.QueryRow(ctx, sql, tx.Tenant(), connection, p).Scan(&has)
}

func insertIdentity(ctx context.Context, tx *tenantdb.Tx, connection ID, subject string, p PersonID, at time.Time) error {
	const sql = `INSERT INTO avouch.identity (tenant_id, connection_id, subject, person_id, created_at) VALUES ($1, $2, $3, $4, $5)`
	return exactly(1)(tx.Exec(ctx, sql, tx.Tenant(), connection, subject, p, at))
}

// deleteIdentities forgets what a connection calls a person, or what all of them do.
func deleteIdentities(ctx context.Context, tx *tenantdb.Tx, connection ID, p PersonID) (int64, error) {
	const sql = `DELETE FROM avouch.identity WHERE tenant_id = $1 AND person_id = $2 AND ($3::uuid IS NULL OR connection_id = $3)`
	return tx.Exec(ctx, sql, tx.Tenant(), p, orNull(connection))
}

func configuredBy(ctx context.Context, tx *tenantdb.ReadTx, who string) ([]ID, error) {
	return all(ctx, tx, pgx.RowTo[ID], `SELECT connection_id FROM avouch.connection WHERE tenant_id = $1 AND configured_by = $2 ORDER BY connection_id`, tx.Tenant(), who)
}

const wasRemovedSQL = `SELECT EXISTS (SELECT FROM avouch.person WHERE tenant_id = $1 AND address = $2 AND removed_at IS NOT NULL)`

// wasRemoved reports whether somebody of an address was a member and was removed.
func wasRemoved(ctx context.Context, tx *tenantdb.ReadTx, pseudonym string) (removed bool, err error) {
	if err := tx.QueryRow(ctx, wasRemovedSQL, tx.Tenant(), pseudonym).Scan(&removed); err != nil {
		return false, fmt.Errorf("sso: removed: %w", err)
	}
	return removed, nil
}

const findPersonSQL = `SELECT person_id FROM avouch.person WHERE tenant_id = $1 AND address = $2 AND removed_at IS NULL`

// findPerson is who has an address; zero if nobody.
func findPerson(ctx context.Context, tx *tenantdb.ReadTx, pseudonym string) (PersonID, error) {
	return orNobody(one(ctx, tx, pgx.RowTo[PersonID], findPersonSQL, tx.Tenant(), pseudonym))
}

// Only groups that are still the connection's own: somebody may have taken one over.
const (
	goneSQL = `SELECT m.group_id FROM avouch.group_member m JOIN avouch.person_group g ON (g.tenant_id, g.group_id) = (m.tenant_id, m.group_id)
  WHERE m.tenant_id = $1 AND m.person_id = $2 AND m.group_id = ANY ($3) AND NOT m.group_id = ANY ($4) AND g.managed_by = $5`
	leaveSQL = `DELETE FROM avouch.group_member WHERE tenant_id = $1 AND person_id = $2 AND group_id = ANY ($3)`
	enterSQL = `INSERT INTO avouch.group_member (tenant_id, group_id, person_id) SELECT $1, group_id, $2 FROM avouch.person_group
  WHERE tenant_id = $1 AND group_id = ANY ($3) AND managed_by = $4 ON CONFLICT DO NOTHING`
)

// moveMember makes a person a member of the wanted ones of groups, and returns those that they leave.
func moveMember(ctx context.Context, tx *tenantdb.Tx, connection ID, p PersonID, every, wanted []org.GroupID) (added int64, left []org.GroupID, err error) {
	if wanted == nil {
		wanted = []org.GroupID{}
	}
	rows, err := tx.Query(ctx, goneSQL, tx.Tenant(), p, every, wanted, connection)
	if err == nil {
		left, err = pgx.CollectRows(rows, pgx.RowTo[org.GroupID])
	}
	if err == nil {
		_, err = tx.Exec(ctx, leaveSQL, tx.Tenant(), p, left)
	}
	if err != nil {
		return 0, nil, err
	}
	added, err = tx.Exec(ctx, enterSQL, tx.Tenant(), p, wanted, connection)
	return added, left, err
}

const findInvitationSQL = `SELECT invitation_id FROM avouch.invitation
WHERE tenant_id = $1 AND address = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3`

// findInvitation is what is open for an address; zero if nothing is.
func findInvitation(ctx context.Context, tx *tenantdb.ReadTx, pseudonym string, now time.Time) (org.InvitationID, error) {
	found, err := one(ctx, tx, pgx.RowTo[org.InvitationID], findInvitationSQL, tx.Tenant(), pseudonym, now)
	if errors.Is(err, pgx.ErrNoRows) {
		return org.InvitationID{}, nil
	}
	return found, err
}

// Sealed are the columns that the rotation of keys wraps anew.
func Sealed() []keyring.SealedColumn {
	return []keyring.SealedColumn{{
		Table: "connection", Column: "config", Key: []keyring.KeyPart{{Column: "connection_id", Type: "uuid"}}, Item: func(key []string) string { return key[0] },
	}}
}
