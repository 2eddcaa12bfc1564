package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/tenantdb"
)

const agentColumns = `agent_id, name, description, scopes, visibility, visible_to, created_at, suspended_at, revoked_at, generation, version`

func (a *Agent) scan(row pgx.Row) error {
	return row.Scan(&a.ID, &a.Name, &a.Description, &a.Scopes, &a.Visibility, &a.VisibleTo, &a.CreatedAt, &a.SuspendedAt, &a.RevokedAt, &a.Generation, &a.Version)
}

const loadAgentSQL = `SELECT ` + agentColumns + ` FROM avouch.agent WHERE tenant_id = $1 AND agent_id = $2`

func loadAgent(ctx context.Context, tx *tenantdb.ReadTx, id ID) (Agent, error) {
	var a Agent
	err := a.scan(tx.QueryRow(ctx, loadAgentSQL, tx.Tenant(), id))
	if errors.Is(err, pgx.ErrNoRows) {
		return a, missing()
	}
	if err != nil {
		return a, fmt.Errorf("agent: load: %w", err)
	}
	return a, nil
}

const loadKeysSQL = `SELECT kid, use, algorithm, public_key, created_at FROM avouch.agent_key WHERE tenant_id = $1 AND agent_id = $2 ORDER BY use, kid`

func loadKeys(ctx context.Context, tx *tenantdb.ReadTx, id ID) ([]PublicKey, error) {
	rows, err := tx.Query(ctx, loadKeysSQL, tx.Tenant(), id)
	if err != nil {
		return nil, fmt.Errorf("agent: load keys: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k PublicKey, err error) {
		err = row.Scan(&k.KID, &k.Use, &k.Algorithm, &k.DER, &k.CreatedAt)
		return k, err
	})
}

const listAgentsSQL = `SELECT ` + agentColumns + ` FROM avouch.agent
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR agent_id < $2) AND ($3 = '' OR $3 =
  CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN suspended_at IS NOT NULL THEN 'suspended' ELSE 'active' END)
ORDER BY agent_id DESC LIMIT $4`

func listAgents(ctx context.Context, tx *tenantdb.ReadTx, before *ID, status Status, most int) ([]Agent, error) {
	rows, err := tx.Query(ctx, listAgentsSQL, tx.Tenant(), before, status, most)
	if err != nil {
		return nil, fmt.Errorf("agent: list: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Agent, err error) { return a, a.scan(row) })
}

const insertAgentSQL = `INSERT INTO avouch.agent (tenant_id, agent_id, name, description, scopes, created_at, registered_by) VALUES ($1, $2, $3, $4, $5, $6, $7)`

const insertKeySQL = `INSERT INTO avouch.agent_key (tenant_id, agent_id, kid, use, algorithm, public_key, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`

func insertAgent(ctx context.Context, tx *tenantdb.Tx, a *Agent, by string) error {
	if _, err := tx.Exec(ctx, insertAgentSQL, tx.Tenant(), a.ID, a.Name, a.Description, a.Scopes, a.CreatedAt, by); err != nil {
		return fmt.Errorf("agent: insert: %w", err)
	}
	for _, k := range a.Keys {
		if _, err := tx.Exec(ctx, insertKeySQL, tx.Tenant(), a.ID, k.KID, k.Use, k.Algorithm, k.DER, k.CreatedAt); err != nil {
			return fmt.Errorf("agent: insert key: %w", err)
		}
	}
	return nil
}

const saveAgentSQL = `UPDATE avouch.agent SET name = $3, description = $4, scopes = $5, visibility = $6, visible_to = $7,
suspended_at = $8, revoked_at = $9, generation = $10, version = version + 1 WHERE tenant_id = $1 AND agent_id = $2 RETURNING version`

func saveAgent(ctx context.Context, tx *tenantdb.Tx, a *Agent) error {
	err := tx.QueryRow(ctx, saveAgentSQL, tx.Tenant(), a.ID, a.Name, a.Description, a.Scopes, a.Visibility, a.VisibleTo, a.SuspendedAt, a.RevokedAt, a.Generation).Scan(&a.Version)
	if err != nil {
		return fmt.Errorf("agent: save: %w", err)
	}
	return nil
}

const tokenLifetimeSQL = `SELECT extract(epoch FROM token_lifetime)::int8, suspended_at IS NOT NULL FROM avouch.organisation WHERE tenant_id = $1`

// tokenLifetime is the longest that the tenant lets a token live, in seconds, and whether the tenant is suspended.
func tokenLifetime(ctx context.Context, tx *tenantdb.ReadTx) (seconds int64, suspended bool, err error) {
	if err := tx.QueryRow(ctx, tokenLifetimeSQL, tx.Tenant()).Scan(&seconds, &suspended); err != nil {
		return 0, false, fmt.Errorf("agent: token lifetime: %w", err)
	}
	return seconds, suspended, nil
}

// statesSQL counts in a statement of its own, after the head was locked: in READ COMMITTED it sees every token that was
// committed before, and the lock keeps others away until this one is.
const statesSQL = `
SELECT a.agent_id, a.generation, a.version, a.suspended_at IS NOT NULL, a.revoked_at IS NOT NULL, a.scopes,
  extract(epoch FROM o.token_lifetime)::int8, o.suspended_at IS NOT NULL, o.live_tokens,
  (SELECT count(*) FROM avouch.agent_token t WHERE t.tenant_id = a.tenant_id AND t.agent_id = a.agent_id AND t.revoked_at IS NULL AND t.expires_at > $3)
FROM avouch.agent a JOIN avouch.organisation o USING (tenant_id) WHERE a.tenant_id = $1 AND a.agent_id = ANY($2)`

// state is what decides whether an agent gets a token.
type state struct {
	agent                         ID
	generation, version           int64
	suspended, revoked, ownerGone bool
	scopes                        []string
	lifetime                      int64 // seconds
	most, live                    int64
}

func loadStates(ctx context.Context, tx *tenantdb.ReadTx, agents []ID, now time.Time) (map[ID]*state, error) {
	rows, err := tx.Query(ctx, statesSQL, tx.Tenant(), agents, now)
	if err != nil {
		return nil, fmt.Errorf("agent: states: %w", err)
	}
	found := map[ID]*state{}
	var s state
	into := []any{&s.agent, &s.generation, &s.version, &s.suspended, &s.revoked, &s.scopes, &s.lifetime, &s.ownerGone, &s.most, &s.live}
	_, err = pgx.ForEachRow(rows, into, func() error {
		one := s
		found[s.agent] = &one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("agent: states: %w", err)
	}
	return found, nil
}

// Arrays of different lengths cannot be one array of arrays, so resources go as JSON.
const insertTokensSQL = `
INSERT INTO avouch.agent_token (tenant_id, jti, agent_id, generation, issued_at, expires_at, resources, max_uses, issued_by)
SELECT $1, x.jti, x.agent_id, x.generation, x.issued_at, x.expires_at, ARRAY(SELECT json_array_elements_text(x.resources::json)), nullif(x.max_uses, 0), x.issued_by
FROM unnest($2::uuid[], $3::uuid[], $4::int8[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::int8[], $9::text[])
  AS x(jti, agent_id, generation, issued_at, expires_at, resources, max_uses, issued_by)`

const insertCountersSQL = `INSERT INTO avouch.counter (tenant_id, subject) SELECT $1, '` + usesCounter + `' || jti FROM unnest($2::uuid[]) AS jti`

// usesCounter begins the name of the counter of a token's uses; the jti follows.
const usesCounter = "token:"

// insertTokens inserts tokens, each with who issued it: kind and id, as the log names them.
func insertTokens(ctx context.Context, tx *tenantdb.Tx, tokens []*Claims, by []string) error {
	n := len(tokens)
	jtis, agents, counted := make([]TokenID, n), make([]ID, n), []TokenID(nil)
	generations, uses := make([]int64, n), make([]int64, n)
	issued, expires := make([]time.Time, n), make([]time.Time, n)
	resources := make([]string, n)
	for i, c := range tokens {
		jtis[i], agents[i], generations[i], issued[i], expires[i], uses[i], resources[i] = c.JTI, c.Agent, c.Generation, c.IssuedAt, c.Expires, c.Uses, "[]"
		if c.Bound() {
			b, err := json.Marshal(c.Audience)
			if err != nil {
				return fmt.Errorf("agent: insert tokens: %w", err)
			}
			resources[i] = string(b)
		}
		if c.Uses > 0 {
			counted = append(counted, c.JTI)
		}
	}
	if _, err := tx.Exec(ctx, insertTokensSQL, tx.Tenant(), jtis, agents, generations, issued, expires, resources, uses, by); err != nil {
		return fmt.Errorf("agent: insert tokens: %w", err)
	}
	if len(counted) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, insertCountersSQL, tx.Tenant(), counted); err != nil {
		return fmt.Errorf("agent: insert counters: %w", err)
	}
	return nil
}

const tokenColumns = `t.jti, t.issued_at, t.expires_at, t.resources, t.max_uses,
  (SELECT n.used FROM avouch.counter n WHERE n.tenant_id = t.tenant_id AND n.subject = '` + usesCounter + `' || t.jti), t.revoked_at`

const listTokensSQL = `SELECT ` + tokenColumns + ` FROM avouch.agent_token t
WHERE t.tenant_id = $1 AND t.agent_id = $2 AND ($3::uuid IS NULL OR t.jti < $3) AND ($4 = '' OR $4 =
  CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' WHEN t.expires_at <= $5 THEN 'expired' ELSE 'live' END)
ORDER BY t.jti DESC LIMIT $6`

const loadTokenSQL = `SELECT ` + tokenColumns + ` FROM avouch.agent_token t WHERE t.tenant_id = $1 AND t.agent_id = $2 AND t.jti = $3`

func scanToken(row pgx.Row) (t Record, err error) {
	var most, used *int64
	err = row.Scan(&t.JTI, &t.IssuedAt, &t.Expires, &t.Resources, &most, &used, &t.RevokedAt)
	if most != nil {
		t.MaxUses = *most
	}
	if used != nil {
		t.Used = *used
	}
	return t, err
}

func listTokens(ctx context.Context, tx *tenantdb.ReadTx, agent ID, before *TokenID, status TokenStatus, now time.Time, most int) ([]Record, error) {
	rows, err := tx.Query(ctx, listTokensSQL, tx.Tenant(), agent, before, status, now, most)
	if err != nil {
		return nil, fmt.Errorf("agent: list tokens: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Record, error) { return scanToken(row) })
}

func loadToken(ctx context.Context, tx *tenantdb.ReadTx, agent ID, jti TokenID) (Record, error) {
	t, err := scanToken(tx.QueryRow(ctx, loadTokenSQL, tx.Tenant(), agent, jti))
	if errors.Is(err, pgx.ErrNoRows) {
		return t, missingToken()
	}
	if err != nil {
		return t, fmt.Errorf("agent: load token: %w", err)
	}
	return t, nil
}

const revokeTokenSQL = `UPDATE avouch.agent_token SET revoked_at = $4 WHERE tenant_id = $1 AND agent_id = $2 AND jti = $3`

func revokeToken(ctx context.Context, tx *tenantdb.Tx, agent ID, jti TokenID, now time.Time) error {
	if _, err := tx.Exec(ctx, revokeTokenSQL, tx.Tenant(), agent, jti, now); err != nil {
		return fmt.Errorf("agent: revoke token: %w", err)
	}
	return nil
}

const revokeLiveSQL = `UPDATE avouch.agent_token SET revoked_at = $3 WHERE tenant_id = $1 AND agent_id = $2 AND revoked_at IS NULL AND expires_at > $3`

func revokeLive(ctx context.Context, tx *tenantdb.Tx, agent ID, now time.Time) (int64, error) {
	n, err := tx.Exec(ctx, revokeLiveSQL, tx.Tenant(), agent, now)
	if err != nil {
		return 0, fmt.Errorf("agent: revoke tokens: %w", err)
	}
	return n, nil
}

// A token's id begins with the time it was made, so the primary key finds the old ones.
const purgeTokensSQL = `
WITH gone AS (
  DELETE FROM avouch.agent_token WHERE tenant_id = $1 AND jti IN (
    SELECT jti FROM avouch.agent_token WHERE tenant_id = $1 AND jti < $2 AND expires_at < $3 ORDER BY jti LIMIT $4
  ) RETURNING jti
), counters AS (
  DELETE FROM avouch.counter n USING gone WHERE n.tenant_id = $1 AND n.subject = '` + usesCounter + `' || gone.jti
)
SELECT count(*) FROM gone`

func purgeTokens(ctx context.Context, tx *tenantdb.Tx, madeBefore TokenID, expiredBefore time.Time, most int) (n int64, err error) {
	if err := tx.QueryRow(ctx, purgeTokensSQL, tx.Tenant(), madeBefore, expiredBefore, most).Scan(&n); err != nil {
		return 0, fmt.Errorf("agent: purge: %w", err)
	}
	return n, nil
}

const standingSQL = `
SELECT a.suspended_at IS NOT NULL OR a.revoked_at IS NOT NULL OR o.suspended_at IS NOT NULL, a.generation, a.scopes,
  EXISTS (SELECT FROM avouch.agent_token t WHERE t.tenant_id = a.tenant_id AND t.jti = $3 AND t.revoked_at IS NOT NULL),
  coalesce((SELECT n.used FROM avouch.counter n WHERE n.tenant_id = a.tenant_id AND n.subject = '` + usesCounter + `' || $3::uuid), 0)
FROM avouch.agent a JOIN avouch.organisation o USING (tenant_id) WHERE a.tenant_id = $1 AND a.agent_id = $2`

// stands reports whether a token of good signature is still trusted, and the agent's scopes.
func stands(ctx context.Context, tx *tenantdb.ReadTx, c *Claims) (trusted bool, scopes []string, err error) {
	var stopped, revoked bool
	var generation, used int64
	err = tx.QueryRow(ctx, standingSQL, c.Tenant, c.Agent, c.JTI).Scan(&stopped, &generation, &scopes, &revoked, &used)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, fmt.Errorf("agent: standing: %w", err)
	}
	return !stopped && !revoked && generation == c.Generation && (c.Uses == 0 || used < c.Uses), scopes, nil
}

const ownerSQL = `SELECT avouch.lookup_agent($1)`

// ownerOf finds an agent's tenant; ok is false if nobody has such an agent.
func ownerOf(ctx context.Context, db *tenantdb.DB, id ID) (owner tenantdb.TenantID, ok bool, err error) {
	var found *tenantdb.TenantID
	if err := db.Lookup(ctx, ownerSQL, []any{id}, &found); err != nil {
		return owner, false, fmt.Errorf("agent: owner: %w", err)
	}
	if found == nil {
		return owner, false, nil
	}
	return *found, true, nil
}
