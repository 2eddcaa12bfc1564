package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

// A person may keep here the seed by which they sign in here, unless nobody could get at its codes any more who needs one to get in: it
// must not be the only factor of the only owner. Who puts the seed in makes no difference.

// mark names the seed of a content; nil if it has none.
func (r *Room) mark(ctx context.Context, t tenantdb.TenantID, c *content) ([]byte, error) {
	if len(c.Key) == 0 {
		return nil, nil
	}
	m, err := r.cfg.Ring.SeedMark(ctx, t, c.Key)
	if err != nil {
		return nil, r.unopened(err)
	}
	return m, nil
}

// Keeps reports whether the vault of the transaction's organisation has an item for each of some marks.
func (r *Room) Keeps(ctx context.Context, tx *tenantdb.ReadTx, marks [][]byte) (bool, error) {
	there, err := readMarks(ctx, tx, marks, []ID{})
	return err == nil && covers(there, marks), err
}

func covers(there, marks [][]byte) bool {
	return !slices.ContainsFunc(marks, func(m []byte) bool { return !has(there, m) })
}

func has(marks [][]byte, m []byte) bool {
	return slices.ContainsFunc(marks, func(o []byte) bool { return bytes.Equal(o, m) })
}

// shut are those of items, by their places, that must not be kept: with them the vault would have all that the only owner signs in with.
func (r *Room) shut(ctx context.Context, tx *tenantdb.ReadTx, items []Item) (bad []int, owner tenantdb.PersonID, err error) {
	if r.cfg.OnlyWay == nil || !slices.ContainsFunc(items, func(i Item) bool { return i.mark != nil }) {
		return nil, owner, nil
	}
	owner, way, err := r.cfg.OnlyWay(ctx, tx)
	if err != nil || len(way) == 0 {
		return nil, owner, err
	}
	var there [][]byte
	for k, i := range items {
		if i.mark != nil && has(way, i.mark) {
			bad, there = append(bad, k), append(there, i.mark)
		}
	}
	if len(bad) == 0 {
		return nil, owner, nil
	}
	ids := make([]ID, len(items))
	for k := range items {
		ids[k] = items[k].ID
	}
	others, err := readMarks(ctx, tx, way, ids)
	if err != nil || !covers(append(there, others...), way) {
		return nil, owner, err
	}
	return bad, owner, nil
}

// keepsWayIn refuses items that must not be kept, in the transaction that would keep them.
func (r *Room) keepsWayIn(ctx context.Context, tx *tenantdb.ReadTx, items []Item) error {
	bad, owner, err := r.shut(ctx, tx, items)
	if err == nil && len(bad) > 0 {
		err = shutOut(tx.Caller(), owner)
	}
	return err
}

// errOthersSeed is of a seed that is another's than whom puts it in.
var errOthersSeed = errors.New("the seed is that of the only owner's sign-in")

// shutOut is what is wrong with such a seed. Others than the owner are not told whose it is.
func shutOut(c tenantdb.Caller, owner tenantdb.PersonID) *problem.Error {
	if p, is := c.Person(); is && p.ID == owner {
		return problem.New(problem.Conflict, "By this seed alone you, the only owner, sign in here: who needs its code to get in would have to be in already. "+
			"Add another factor first, such as a passkey, or have a second owner.")
	}
	return problem.New(problem.Conflict, "This seed cannot be kept as things are. Ask your organisation's owner.").Because(errOthersSeed)
}

// seedFaults says which of what an import brings must not be kept, in the words of a dry run and as a refusal. at is where each is among
// the entries.
func (r *Room) seedFaults(ctx context.Context, c tenantdb.Caller, all []Wanted, at []int) (faults []portable.Fault, refusal error, err error) {
	items := make([]Item, len(all))
	for k := range all {
		if items[k].mark, err = r.mark(ctx, c.Tenant(), &all[k].content); err != nil {
			return nil, nil, err
		}
	}
	var bad []int
	var owner tenantdb.PersonID
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		bad, owner, err = r.shut(ctx, tx, items)
		return err
	})
	if err != nil || len(bad) == 0 {
		return nil, nil, err
	}
	p := shutOut(c, owner)
	for _, k := range bad {
		faults = append(faults, portable.Fault{Place: fmt.Sprintf("entry %d", at[k]+1), Why: p.Detail})
		p.Fields = append(p.Fields, problem.Field{Location: fmt.Sprintf("entry %d", at[k]+1), Message: "must not be kept"})
	}
	return faults, p, nil
}

// tellOfSeed has the log say that somebody brought the seed by which another signs in: they have it, or try whose it is.
func (r *Room) tellOfSeed(ctx context.Context, c tenantdb.Caller, err error) error {
	if told := r.noteSeed(ctx, c, err); told != nil {
		return errors.Join(err, told)
	}
	return err
}

// noteSeed is tellOfSeed where it is not refused, but only told of: its error is the log's alone.
func (r *Room) noteSeed(ctx context.Context, c tenantdb.Caller, err error) error {
	if !errors.Is(err, errOthersSeed) {
		return nil
	}
	_, err = r.cfg.DB.Record(ctx, c, audit.Event{Type: "vault.seed_refused", Target: audit.Target{Kind: "vault", ID: c.Tenant().String()}, Outcome: audit.Denied})
	return err
}
