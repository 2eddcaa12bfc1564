package apikey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Foreign is a key that was made elsewhere, of which only the SHA-256 is known.
type Foreign struct {
	NewKey
	Hash [32]byte
}

// Imported is what became of one of them.
type Imported struct {
	KeyID     string
	There     bool      // it had been imported before, and was left as it is
	ExpiresAt time.Time // zero is never
	ExpiryCut bool      // it would last longer, but for the key that imported it
}

// MostImported is how many keys one import may hold.
const MostImported = 500

// finderID stands where a key's id does in the digest that an imported key is found by. No key has it: an id has 11 digits.
const finderID = "finder"

// Import takes over keys whose SHA-256 is known, all or none, each with an entry of its own. What is stored is the digest
// that every key has: neither the key nor its SHA-256. They are data keys: they do nothing in Avouch. While an import is under
// way nothing else happens in its organisation, so what is read and written is so for all of its keys together.
func (r *Room) Import(ctx context.Context, c tenantdb.Caller, keys []Foreign) (out []Imported, err error) {
	if err := need(c, "keys:write"); err != nil {
		return nil, err
	}
	if err := r.checkImport(keys); err != nil {
		return nil, err
	}
	if err := r.warm(ctx, c.Tenant()); err != nil {
		return nil, fmt.Errorf("apikey.Import: %w", err)
	}
	err = r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) (events []audit.Event, err error) {
		out, events, err = r.takeOver(ctx, tx, keys)
		return events, err
	})
	if errors.Is(err, keyring.ErrNoPepper) {
		return nil, unavailable(err)
	}
	if err != nil {
		return nil, fmt.Errorf("apikey.Import: %w", err)
	}
	return out, nil
}

func (r *Room) checkImport(keys []Foreign) error {
	if len(keys) == 0 || len(keys) > MostImported {
		return problem.New(problem.Invalid, "An import has 1 to %d keys, and this one %d.", MostImported, len(keys))
	}
	seen := map[[32]byte]bool{}
	for i := range keys {
		keys[i].Kind = Data
		if err := keys[i].check(r.cfg.Now()); err != nil {
			return at(i, err)
		}
		if seen[keys[i].Hash] {
			return problem.New(problem.Invalid, "keys[%d] has a hash that one before it has.", i)
		}
		seen[keys[i].Hash] = true
	}
	return nil
}

// at says which of several keys a problem is with.
func at(i int, err error) error {
	var p *problem.Error
	if !errors.As(err, &p) {
		return err
	}
	q := *p
	q.Fields = slices.Clone(p.Fields)
	for j := range q.Fields {
		q.Fields[j].Location = fmt.Sprintf("body.keys[%d].%s", i, q.Fields[j].Location[len("body."):])
	}
	return &q
}

// takeOver imports those keys that are not there.
func (r *Room) takeOver(ctx context.Context, tx *tenantdb.Tx, keys []Foreign) (out []Imported, events []audit.Event, err error) {
	hashes := make([][32]byte, len(keys))
	for i := range keys {
		hashes[i] = keys[i].Hash
	}
	there, err := r.foundAs(ctx, &tx.ReadTx, hashes...)
	if err != nil {
		return nil, nil, err
	}
	a, at, err := r.maker(ctx, &tx.ReadTx)
	if err != nil {
		return nil, nil, err
	}
	var v keyVersions
	if v.tenant, v.platform, err = r.cfg.Ring.CurrentKeyVersions(ctx, tx.Tenant()); err != nil {
		return nil, nil, err
	}
	var made []minted
	more := map[string]int{}
	for _, f := range keys {
		if one, ok := there[f.Hash]; ok {
			out = append(out, one)
			continue
		}
		k, cut, err := r.permitted(a, f.NewKey, at)
		if err != nil {
			return nil, nil, err
		}
		k.ID = newID()
		k.Hint = importedHint + k.ID
		one, err := r.digested(ctx, tx, k, f.Hash, v)
		if err != nil {
			return nil, nil, err
		}
		made, events = append(made, one), append(events, k.event("key.imported", false))
		out = append(out, Imported{KeyID: k.ID, ExpiresAt: k.ExpiresAt, ExpiryCut: cut})
		more[k.GivenTo]++
		at = at.Add(time.Microsecond)
	}
	if len(made) == 0 {
		return out, nil, nil
	}
	if err := r.hasRoom(ctx, &tx.ReadTx, more); err != nil {
		return nil, nil, err
	}
	return out, events, insert(ctx, tx, v, made...)
}

// digested is a key of which only the SHA-256 is known, with what is kept of that.
func (r *Room) digested(ctx context.Context, tx *tenantdb.Tx, k Key, h0 [32]byte, v keyVersions) (m minted, err error) {
	m.Key = k
	if m.digest, err = r.cfg.Ring.KeyDigest(ctx, tx.Tenant(), k.ID, k.issuedAtNS(), h0, v.tenant, v.platform); err != nil {
		return minted{}, err
	}
	m.finder, err = r.cfg.Ring.KeyDigest(ctx, tx.Tenant(), finderID, 0, h0, v.tenant, v.platform)
	return m, err
}

// imported looks up a key that was made elsewhere.
func (r *Room) imported(ctx context.Context, t tenantdb.TenantID, h0 [32]byte) (id string, found bool, err error) {
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "keys"), func(tx *tenantdb.ReadTx) error {
		there, err := r.foundAs(ctx, tx, h0)
		id = there[h0].KeyID
		return err
	})
	if err != nil || id == "" {
		return "", false, err
	}
	v, err := r.lookup(ctx, id)
	if err != nil || v == nil || v.tenant != t {
		return "", false, err
	}
	ok, err := r.matches(ctx, id, h0, v)
	if ok {
		r.renew(ctx, id, h0, v, true)
	}
	return id, ok, err
}

// foundAs are the keys with some hashes, those that there are. They are looked for under every pair of secrets that an imported
// key of the organisation was last digested with, and no other. tx sees one state of the database, or holds the head: a key that
// is digested anew meanwhile is seen under the pair that it has. What was digested with a pepper that only newer servers have
// cannot be found here, so nothing is said then: a key that was revoked would seem to be none, and be imported once more.
func (r *Room) foundAs(ctx context.Context, tx *tenantdb.ReadTx, hashes ...[32]byte) (map[[32]byte]Imported, error) {
	pairs, err := findPairs(ctx, tx)
	if err != nil {
		return nil, err
	}
	finders, hashOf := [][]byte{}, map[[32]byte][32]byte{}
	for _, v := range pairs {
		if r.cfg.Ring.Retired(v.platform) {
			continue
		}
		for _, h0 := range hashes {
			d, err := r.cfg.Ring.KeyDigest(ctx, tx.Tenant(), finderID, 0, h0, v.tenant, v.platform)
			if errors.Is(err, keyring.ErrDestroyed) {
				break
			}
			if err != nil {
				return nil, err
			}
			finders, hashOf[d] = append(finders, d[:]), h0
		}
	}
	found := map[[32]byte]Imported{}
	err = findFinders(ctx, tx, finders, func(finder []byte, there Imported) { found[hashOf[[32]byte(finder)]] = there })
	return found, err
}

// ParseHash reads a SHA-256 in hex.
func ParseHash(s string) (h [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return h, errors.New("is not the SHA-256 of a key: 64 hexadecimal digits")
	}
	copy(h[:], b)
	return h, nil
}
