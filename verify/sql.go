package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The epoch and the rules are read in one statement, so at one instant: rules read before an epoch could be older than
// it, and would be taken for its own.
const tenantStateSQL = `
SELECT h.log_id, h.epoch, o.name, o.suspended_at IS NOT NULL, o.monthly_quota,
  ARRAY(SELECT s.name FROM avouch.scope s WHERE s.tenant_id = o.tenant_id ORDER BY s.name)
FROM avouch.organisation o JOIN avouch.audit_head h USING (tenant_id) WHERE o.tenant_id = $1`

const agentStateSQL = `
SELECT a.name, a.scopes, a.visibility, a.visible_to, a.suspended_at IS NOT NULL, a.revoked_at IS NOT NULL, a.generation,
  ARRAY(SELECT t.jti FROM avouch.agent_token t WHERE t.tenant_id = a.tenant_id AND t.agent_id = a.agent_id
    AND t.revoked_at IS NOT NULL AND t.generation = a.generation AND t.expires_at > now() - interval '1 minute')
FROM avouch.agent a WHERE a.tenant_id = $1 AND a.agent_id = $2`

func loadTenant(ctx context.Context, tx *tenantdb.ReadTx, t tenantdb.TenantID) (*tenantState, error) {
	s := &tenantState{head: tenantdb.Head{Tenant: t}}
	err := tx.QueryRow(ctx, tenantStateSQL, t).Scan(&s.head.Log, &s.head.Epoch, &s.name, &s.suspended, &s.monthlyQuota, &s.scopes)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify: load tenant: %w", err)
	}
	return s, nil
}

func loadAgent(ctx context.Context, tx *tenantdb.ReadTx, t tenantdb.TenantID, a agent.ID) (*agentState, error) {
	s := &agentState{}
	err := tx.QueryRow(ctx, agentStateSQL, t, a).Scan(&s.name, &s.scopes, &s.visibility, &s.visibleTo, &s.suspended, &s.revoked, &s.generation, &s.revokedTokens)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify: load agent: %w", err)
	}
	return s, nil
}

// badge is what a service shows at once: its public name, and the log that the rest stands in.
type badge struct {
	name string
	log  audit.LogID
}

// recency is when a service last verified an agent, and where that stands in its log.
type recency struct {
	at   time.Time
	seq  int64
	leaf string
}

const badgeSQL = `
SELECT o.name, h.log_id FROM avouch.organisation o JOIN avouch.audit_head h USING (tenant_id)
WHERE o.tenant_id = $1 AND o.badge AND o.suspended_at IS NULL`

// The type of an entry is inside its bytes, so the newest are looked through: a service that verifies has one there.
const newestSQL = `SELECT seq, encode(leaf, 'hex'), body FROM avouch.audit_entry WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 200`

// readBadge finds nothing, without an error, if there is no such service or it does not show its verifications.
func readBadge(ctx context.Context, db *tenantdb.DB, t tenantdb.TenantID) (b badge, shows bool, err error) {
	err = db.ReadRow(ctx, tenantdb.System(t, "verified"), badgeSQL, []any{t}, func(r pgx.Row) error { return r.Scan(&b.name, &b.log) })
	if errors.Is(err, pgx.ErrNoRows) {
		return badge{}, false, nil
	}
	if err != nil {
		return badge{}, false, fmt.Errorf("verify: badge: %w", err)
	}
	return b, true, nil
}

// lastVerification is zero, without an error, if there was none lately.
func lastVerification(ctx context.Context, tx *tenantdb.ReadTx) (recency, error) {
	rows, err := tx.Query(ctx, newestSQL, tx.Tenant())
	if err != nil {
		return recency{}, fmt.Errorf("verify: newest entries: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var leaf string
		var body []byte
		if err := rows.Scan(&seq, &leaf, &body); err != nil {
			return recency{}, fmt.Errorf("verify: newest entries: %w", err)
		}
		// The owner of an agent has entries of this type too: those whose actor is another's service.
		if e, err := audit.Decode(body); err == nil && e.Type == "agent.verified" && e.Actor.Kind == audit.ActorKey {
			return recency{e.Time, seq, leaf}, nil
		}
	}
	if err := rows.Err(); err != nil {
		return recency{}, fmt.Errorf("verify: newest entries: %w", err)
	}
	return recency{}, nil
}
