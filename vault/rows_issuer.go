package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

const issuersSQL = `SELECT coalesce(a.registered_by, ''), ARRAY (SELECT DISTINCT coalesce(t.issued_by, '') FROM avouch.agent_token t
  WHERE t.tenant_id = a.tenant_id AND t.agent_id = a.agent_id AND t.generation = a.generation AND t.revoked_at IS NULL AND t.expires_at > $3)
FROM avouch.agent a WHERE a.tenant_id = $1 AND a.agent_id = $2::uuid`

// readIssuers are who registered an agent, "" if nobody wrote that down, and who issued its tokens that work; "" among them is of one of which
// nobody wrote it down.
func readIssuers(ctx context.Context, tx *tenantdb.ReadTx, agent string, now time.Time) (registrar string, issuers []string, err error) {
	if err := tx.QueryRow(ctx, issuersSQL, tx.Tenant(), agent, now).Scan(&registrar, &issuers); err != nil {
		return "", nil, fmt.Errorf("vault: issuers: %w", err)
	}
	return registrar, issuers, nil
}

// readIssuer is who issued a token; "" if nobody wrote that down.
func readIssuer(ctx context.Context, tx *tenantdb.ReadTx, token string) (by string, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce((SELECT t.issued_by FROM avouch.agent_token t WHERE t.tenant_id = $1 AND t.jti = $2::uuid), '')`, tx.Tenant(), token).Scan(&by)
	if err != nil {
		return "", fmt.Errorf("vault: issuer: %w", err)
	}
	return by, nil
}
