package apikey

import (
	"context"
	"crypto/sha256"
	"strings"

	"github.com/avouch-dev/avouch/tenantdb"
)

// The lengths of texts that may be keys that were made elsewhere.
const (
	leastForeign = 16
	mostForeign  = 512
)

// Find says which key of an organisation a text is; it may be one that was made elsewhere and imported. A text that is no
// key of this organisation is found as nothing, without a hash or a query if it is one of ours that was mistyped, and else
// with the same work: nobody learns from the answer, or from how long it takes, whether it is another organisation's key,
// the wrong secret of a key there is, or no key at all. Whether the key works is not said here.
func (r *Room) Find(ctx context.Context, t tenantdb.TenantID, raw string) (id string, found bool, err error) {
	p, malformed := Parse(raw)
	if malformed != nil && (ours(raw) || len(raw) < leastForeign || len(raw) > mostForeign) {
		return "", false, nil
	}
	h0, now := sha256.Sum256([]byte(raw)), r.cfg.Now()
	if who, ok := r.known.get(h0, now); ok && who.Tenant == t {
		return who.KeyID, true, nil
	}
	if malformed == nil {
		id, found, err = r.own(ctx, t, p.ID, h0)
	} else {
		id, found, err = r.imported(ctx, t, h0)
	}
	if err != nil {
		return "", false, unavailable(err)
	}
	if found {
		r.known.put(h0, Identity{t, id}, now)
	}
	return id, found, nil
}

// ours reports whether a text begins as a key of ours does.
func ours(raw string) bool {
	for _, k := range []Kind{Owner, Service, Data} {
		if strings.HasPrefix(raw, tag(k, true)) || strings.HasPrefix(raw, tag(k, false)) {
			return true
		}
	}
	return false
}

// own looks a key of our form up. Another organisation's is digested like one that there is not: with a secret that nobody
// has, whether or not that organisation's is in memory.
func (r *Room) own(ctx context.Context, t tenantdb.TenantID, id string, h0 [32]byte) (string, bool, error) {
	v, err := r.lookup(ctx, id)
	if err != nil {
		return "", false, err
	}
	if v != nil && v.tenant != t {
		v = nil
	}
	ok, err := r.matches(ctx, id, h0, v)
	if ok {
		r.renew(ctx, id, h0, v, false)
	}
	return id, ok, err
}
