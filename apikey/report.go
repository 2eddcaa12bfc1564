package apikey

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/tenantdb"
)

// AtRisk is a key with what its owner should look at, the worst first; there is one at least.
type AtRisk struct {
	Seen
	Risks []Risk
}

// Risks are keys and their risks, newest first, from behind after if that is not nil; keys without any are left out. more
// says whether there are keys that were not looked at, and where that ended.
func (r *Room) Risks(ctx context.Context, c tenantdb.Caller, after *Position, limit int) (found []AtRisk, more *Position, err error) {
	keys, err := r.list(ctx, c, Filter{}, after, limit+1)
	if err != nil {
		return nil, nil, fmt.Errorf("apikey.Risks: %w", err)
	}
	tenant, platform, err := r.cfg.Ring.CurrentKeyVersions(ctx, c.Tenant())
	if err != nil {
		return nil, nil, fmt.Errorf("apikey.Risks: %w", err)
	}
	if len(keys) > limit {
		keys = keys[:limit]
		last := keys[limit-1]
		more = &Position{last.CreatedAt.UTC(), last.ID}
	}
	for _, k := range keys {
		if all := risks(k.facts(keyVersions{tenant, platform}), r.cfg.Now()); len(all) > 0 {
			found = append(found, AtRisk{Seen{k.Key, LastUse{At: k.usedAt}, k.left}, all})
		}
	}
	return found, more, nil
}

func (k known) facts(now keyVersions) riskFacts {
	return riskFacts{
		kind: k.Kind, scopes: k.Scopes, created: k.CreatedAt, lastUsed: k.usedAt, expires: k.ExpiresAt, replaced: k.ReplacedBy != "", disabled: !k.DisabledAt.IsZero(), revoked: !k.RevokedAt.IsZero(),
		networks: len(k.AllowedCIDRs), described: k.GivenTo != "" || len(k.Metadata) > 0, digestOutdated: k.versions != now, leaked: k.LeakedAt, refusedSinceRevoked: k.refused,
	}
}
