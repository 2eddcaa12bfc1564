package apikey

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// renewals are the digests of keys that were used since a secret of theirs was replaced: made anew with the new ones while
// the key was there, and stored by Renew. They hold nothing that the database may not.
type renewals struct {
	mu   sync.Mutex
	keys map[Identity]renewal
}

type renewal struct {
	digest   [32]byte
	finder   *[32]byte // of a key that was imported
	versions keyVersions
}

const mostRenewals = 10_000

// renew makes a key's digest anew if it was made with secrets that have been replaced. That must not cost anybody an answer:
// if it cannot be done now, it is at the key's next use.
func (r *Room) renew(ctx context.Context, id string, h0 [32]byte, v *verifier, imported bool) {
	if !r.cfg.Ring.Outdated(ctx, v.tenant, keyring.KeyVersion{Tenant: v.versions.tenant, Platform: v.versions.platform}) {
		return
	}
	tenant, platform, err := r.cfg.Ring.CurrentKeyVersions(ctx, v.tenant)
	now := keyVersions{tenant, platform}
	if err != nil || now == v.versions { // this server is the one that is behind
		return
	}
	n := renewal{versions: now}
	if n.digest, err = r.cfg.Ring.KeyDigest(ctx, v.tenant, id, v.issuedAtNS, h0, tenant, platform); err != nil {
		return
	}
	if imported {
		f, err := r.cfg.Ring.KeyDigest(ctx, v.tenant, finderID, 0, h0, tenant, platform)
		if err != nil {
			return
		}
		n.finder = &f
	}
	r.renewals.mu.Lock()
	defer r.renewals.mu.Unlock()
	if len(r.renewals.keys) < mostRenewals {
		r.renewals.keys[Identity{v.tenant, id}] = n
	}
}

// Renew stores the digests that were made anew, each with an entry. One that could not be stored, or whose secrets are no longer
// the present ones, is made again at the key's next use.
func (r *Room) Renew(ctx context.Context) error {
	r.renewals.mu.Lock()
	taken := r.renewals.keys
	r.renewals.keys = map[Identity]renewal{}
	r.renewals.mu.Unlock()
	var failed error
	for who, n := range taken {
		err := r.cfg.DB.Change(ctx, tenantdb.System(who.Tenant, "keys"), func(tx *tenantdb.Tx) (audit.Event, error) {
			// Secrets are replaced under the head's lock too: what was made before may have been overtaken.
			tenant, platform, err := r.cfg.Ring.CurrentKeyVersions(ctx, tx.Tenant())
			if err != nil || n.versions != (keyVersions{tenant, platform}) {
				return audit.Event{}, err
			}
			return audit.Event{
				Type: "key.redigested", Target: audit.Target{Kind: "key", ID: who.KeyID}, Public: []audit.Field{
					{Name: "tenant_version", Value: fmt.Sprint(n.versions.tenant)}, {Name: "platform_version", Value: fmt.Sprint(n.versions.platform)},
				},
			}, saveRenewal(ctx, tx, who.KeyID, n)
		})
		if err != nil && !problem.Is(err, problem.TenantKey) {
			failed = errors.Join(failed, fmt.Errorf("apikey.Renew: %w", err))
		}
	}
	return failed
}

// Peppers counts an organisation's digests by the version of the pepper that they were made with: what is not in it is not needed here.
func (r *Room) Peppers(ctx context.Context, by tenantdb.Caller) (counts map[uint32]int64, err error) {
	err = r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error {
		counts, err = countPeppers(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("apikey.Peppers: %w", err)
	}
	return counts, nil
}
