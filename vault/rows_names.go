package vault

import (
	"context"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// readSome are those of some items that are there.
func readSome(ctx context.Context, tx *tenantdb.ReadTx, ids []ID) ([]Item, error) {
	return collect(ctx, tx, scanItem, `SELECT `+itemColumns+` FROM avouch.vault_item i WHERE i.tenant_id = $1 AND i.item_id = ANY ($2)`, tx.Tenant(), ids)
}

// holdersSQL has no names of people: those are sealed, and for the room of people to open.
const holdersSQL = `
SELECT 'person', p.person_id::text, '', CASE WHEN p.removed_at IS NOT NULL THEN 'gone' WHEN p.suspended_at IS NOT NULL THEN 'suspended' ELSE 'active' END
FROM avouch.person p WHERE p.tenant_id = $1 AND p.person_id = ANY ($2::uuid[])
UNION ALL SELECT 'group', g.group_id::text, g.name, 'active' FROM avouch.person_group g WHERE g.tenant_id = $1 AND g.group_id = ANY ($3::uuid[])
UNION ALL SELECT 'agent', a.agent_id::text, a.name, CASE WHEN a.revoked_at IS NOT NULL THEN 'gone' WHEN a.suspended_at IS NOT NULL THEN 'suspended' ELSE 'active' END
FROM avouch.agent a WHERE a.tenant_id = $1 AND a.agent_id = ANY ($4::uuid[])
UNION ALL SELECT 'key', k.key_id, k.name, CASE WHEN k.revoked_at IS NOT NULL OR k.expires_at <= $6 THEN 'gone' WHEN k.disabled_at IS NOT NULL THEN 'suspended' ELSE 'active' END
FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = ANY ($5)`

// readHolders are those of some actors who are there, or were, in one query.
func readHolders(ctx context.Context, tx *tenantdb.ReadTx, people, groups, agents []tenantdb.PersonID, keys []string, now time.Time) (map[Actor]holder, error) {
	found := map[Actor]holder{}
	_, err := collect(ctx, tx, scanHolder(found), holdersSQL, tx.Tenant(), people, groups, agents, keys, now)
	return found, err
}
