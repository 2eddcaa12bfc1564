package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Report is what somebody who has left knew of the vault.
type Report struct {
	// Rotate are items whose secret they could see, or put in: it goes on working for whoever remembers it.
	Rotate []Known
	// Fetched are their uses, and those by keys of theirs, the newest first.
	Fetched []Use
	More    bool // of those
}

// Known is an item, and why somebody may know its secret.
type Known struct {
	Item ID
	Name string // "" if it is gone, or altered
	Why  string // "exported", "made" or "seed": of several the first
	Gone bool   // it was deleted, and what took its secret may still do
}

// Left is the report about a person, who need not have left yet.
func (r *Room) Left(ctx context.Context, c tenantdb.Caller, person tenantdb.PersonID) (out Report, err error) {
	if err := need(c, "vault:manage"); err != nil {
		return out, err
	}
	var rows []row
	items := map[ID]*Item{}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		is, err := isPerson(ctx, tx, person)
		if err == nil && !is {
			err = problem.New(problem.Missing, "There is no such person in your organisation, and never was.")
		}
		if err != nil {
			return err
		}
		keys, err := readKeysOf(ctx, tx, person)
		if err != nil {
			return err
		}
		if rows, err = usesBy(ctx, tx, person, keys); err != nil {
			return err
		}
		if out.Rotate, err = knownTo(ctx, tx, person, keys); err != nil {
			return err
		}
		for _, k := range out.Rotate {
			if items[k.Item], err = readItem(ctx, tx, k.Item); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return out, wrapped("Left", err)
	}
	if out.More = len(rows) > mostUses; out.More {
		rows = rows[:mostUses]
	}
	if out.Fetched, err = r.uses(ctx, c.Tenant(), rows); err != nil {
		return out, wrapped("Left", err)
	}
	for n := range out.Rotate {
		k := &out.Rotate[n]
		i := items[k.Item]
		if k.Gone = i == nil; k.Gone {
			continue
		}
		// One that was altered is reported, without a name that nobody vouches for.
		if err := r.open(ctx, c.Tenant(), i, i.Version); err == nil {
			k.Name = i.About.Name
		} else if err = r.told(ctx, c.Tenant(), i.ID, err); !errors.Is(err, errAltered) {
			return out, wrapped("Left", err)
		}
	}
	_, err = r.cfg.DB.Record(ctx, c, audit.Event{Type: "vault.report_read", Target: audit.Target{Kind: "person", ID: person.String()}})
	return out, wrapped("Left", err)
}

// usesBy are the entries of the uses of a person, and of their keys, the newest first: one more than a report has.
func usesBy(ctx context.Context, tx *tenantdb.ReadTx, person tenantdb.PersonID, keys []string) ([]row, error) {
	rows, err := readUsesBy(ctx, tx, person, 0, mostUses+1)
	if err != nil || len(keys) == 0 {
		return rows, err
	}
	items, err := readItemsOfKeys(ctx, tx, keys)
	if err != nil {
		return nil, err
	}
	about := make([][16]byte, len(items))
	for k := range items {
		about[k] = tenantdb.UsesOf(items[k])
	}
	more, err := readUsesByKeys(ctx, tx, about, keys, mostUses+1)
	if err != nil {
		return nil, err
	}
	rows = append(rows, slices.DeleteFunc(more, func(v row) bool { return !byOneOf(v, keys) })...)
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(b.seq, a.seq) })
	return rows[:min(len(rows), mostUses+1)], nil
}

// byOneOf reports whether a key among some did what an entry says.
func byOneOf(v row, keys []string) bool {
	e, err := audit.Decode(v.body)
	return err == nil && e.Actor.Kind == audit.ActorKey && slices.Contains(keys, e.Actor.ID)
}

// knownTo are the items whose secret a person may know, each once: first what they took out, then what they put in, then what they could
// have taken out.
func knownTo(ctx context.Context, tx *tenantdb.ReadTx, person tenantdb.PersonID, keys []string) ([]Known, error) {
	who := Actor{APerson, person.String()}
	groups, err := readGroups(ctx, tx, who.ID)
	if err != nil {
		return nil, err
	}
	known, err := madeBy(ctx, tx, person, keys)
	if err != nil {
		return nil, err
	}
	grants, err := readGrantsTo(ctx, tx, who, groups)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		if g.Level == ForSeed {
			known = append(known, Known{Item: g.Item, Why: "seed"})
		}
	}
	lent, err := readSeedsLent(ctx, tx, who)
	if err != nil {
		return nil, err
	}
	taken, err := exportedBy(ctx, tx, person)
	if err != nil {
		return nil, err
	}
	seen := map[ID]bool{}
	return slices.DeleteFunc(slices.Concat(taken, known, lent), func(k Known) bool {
		again := seen[k.Item]
		seen[k.Item] = true
		return again
	}), nil
}

// madeBy are the items for which a person, or a key of theirs, ever put in a secret, the oldest first.
func madeBy(ctx context.Context, tx *tenantdb.ReadTx, person tenantdb.PersonID, keys []string) (known []Known, err error) {
	rows, err := readChangesByKeys(ctx, tx, keys)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(v row) bool { return !byOneOf(v, keys) })
	for before := int64(0); ; {
		page, err := readChangesBy(ctx, tx, person, before, readChunk)
		if err != nil {
			return nil, err
		}
		if rows = append(rows, page...); len(page) < readChunk {
			break
		}
		before = page[len(page)-1].seq
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.seq, b.seq) })
	for _, v := range rows {
		e, err := audit.Decode(v.body)
		if err != nil || e.Type != added && e.Type != replaced {
			continue // what cannot be read is found by the pass
		}
		if item, err := ParseID(e.Target.ID); err == nil {
			known = append(known, Known{Item: item, Why: "made"})
		}
	}
	return known, nil
}

// exportedBy are the items that a person ever took out, however much they used since.
func exportedBy(ctx context.Context, tx *tenantdb.ReadTx, person tenantdb.PersonID) (known []Known, err error) {
	for before := int64(0); ; {
		rows, err := readUsesBy(ctx, tx, person, before, readChunk)
		if err != nil {
			return nil, err
		}
		for _, v := range rows {
			before = v.seq
			e, err := audit.Decode(v.body)
			if err != nil || e.Type != exported {
				continue // what cannot be read is found by the pass
			}
			if item, err := ParseID(e.Target.ID); err == nil {
				known = append(known, Known{Item: item, Why: "exported"})
			}
		}
		if len(rows) < readChunk || before == 0 {
			return known, nil
		}
	}
}

// EndOfPerson ends all that was granted to a person who is removed, in the transaction that removes them. What groups of theirs could
// see of seeds is kept as their own, ended: it is in the report.
func (r *Room) EndOfPerson(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, why string) (int, error) {
	who, by := Actor{APerson, p.String()}, "system:"+why
	groups, err := readGroups(ctx, &tx.ReadTx, who.ID)
	if err != nil {
		return 0, err
	}
	n, err := endGrantsTo(ctx, tx, who, r.now(), by)
	if err != nil {
		return n, err
	}
	return n, r.keepSeeds(ctx, tx, who, groups, by)
}

// Leave keeps what a group could see of seeds as what each of those could who leave it, in the transaction in which they do: it is in
// the reports about them.
func (r *Room) Leave(ctx context.Context, tx *tenantdb.Tx, group string, people []tenantdb.PersonID) error {
	for _, p := range people {
		if err := r.keepSeeds(ctx, tx, Actor{APerson, p.String()}, []string{group}, "system:left the group"); err != nil {
			return wrapped("Leave", err)
		}
	}
	return nil
}

// keepSeeds keeps the seeds that groups could see, those of ended grants too, as grants to somebody that have ended; each once.
func (r *Room) keepSeeds(ctx context.Context, tx *tenantdb.Tx, who Actor, groups []string, by string) error {
	if len(groups) == 0 {
		return nil
	}
	grants, err := readGrantsTo(ctx, &tx.ReadTx, who, groups)
	if err != nil {
		return err
	}
	at, kept, own := r.now(), []Grant{}, map[ID]bool{}
	for _, g := range grants {
		own[g.Item] = own[g.Item] || g.To == who && g.Level == ForSeed
	}
	for _, g := range grants {
		if g.Level != ForSeed || own[g.Item] {
			continue
		}
		own[g.Item] = true
		kept = append(kept, Grant{ID: id.At[grantKind](at), Item: g.Item, To: who, Level: ForSeed, GrantedBy: g.To.String(), GrantedAt: g.GrantedAt, EndedAt: &at, EndedBy: &by})
	}
	if len(kept) == 0 {
		return nil
	}
	return insertGrants(ctx, tx, kept...)
}
