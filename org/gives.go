package org

import (
	"context"

	"github.com/avouch-dev/avouch/tenantdb"
)

// CapabilitiesOf is what roles may do together, for rooms that give roles. A name that is no role is refused.
func (r *Room) CapabilitiesOf(ctx context.Context, tx *tenantdb.ReadTx, roles []string) ([]string, error) {
	return capabilitiesOf(ctx, tx, roles)
}
