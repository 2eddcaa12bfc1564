package apikey

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// SetQuota sets how many verifications a month a service key has; nil is unlimited. It holds for every verification that is
// sent after it returns, on every server. by is the operator, a system caller of the key's organisation: others change
// a quota with Update, within the installation's default.
func (r *Room) SetQuota(ctx context.Context, by tenantdb.Caller, id string, monthly *int64) (Key, error) {
	if monthly != nil && *monthly < 0 {
		return Key{}, problem.New(problem.Invalid, "The quota is below zero.")
	}
	return r.change(ctx, by, id, "", "key.changed", func(a authority, k *Key) (alters bool, err error) {
		switch {
		case !a.system():
			return false, problem.New(problem.Denied, "Only the operator gives keys a quota of any size.")
		case k.Kind != Service:
			return false, problem.New(problem.Invalid, "An owner key spends its organisation's quota, and has none of its own.")
		}
		k.MonthlyQuota = monthly
		return true, live(*k)
	})
}

func quota(n *int64) string {
	if n == nil {
		return "unlimited"
	}
	return fmt.Sprint(*n)
}
