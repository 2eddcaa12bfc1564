package apikey

import (
	"context"

	"github.com/avouch-dev/avouch/tenantdb"
)

// NameOf is what a log calls a text that was presented as a key and is none of the organisation's: the same for the same
// text, and no help to whoever has a dump of the database and a guess.
func (r *Room) NameOf(ctx context.Context, t tenantdb.TenantID, raw string) (string, error) {
	return r.cfg.Ring.Pseudonym(ctx, t, "presented key", raw)
}
