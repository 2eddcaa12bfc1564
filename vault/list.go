package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Seen is an item as its reader sees it.
type Seen struct {
	Item
	Level   Level // what was granted to the reader; "" is nothing
	Manages bool  // whether the reader decides about it
}

// Filter says which items are wanted; empty fields are any.
type Filter struct {
	Folder string // this one and those within
	Tag    string
	Kind   Kind
	Text   string // in name, issuer or account, in either case
}

func (f *Filter) matches(i *Item) bool {
	a := &i.About
	switch {
	case f.Kind != "" && i.Kind != f.Kind,
		f.Folder != "" && a.Folder != f.Folder && !strings.HasPrefix(a.Folder, f.Folder+"/"),
		f.Tag != "" && !slices.Contains(a.Tags, f.Tag):
		return false
	}
	text := strings.ToLower(f.Text)
	return text == "" || strings.Contains(strings.ToLower(a.Name+"\n"+a.Issuer+"\n"+a.Account), text)
}

// compare sorts as people read: by name, without case.
func (s *Seen) compare(t *Seen) int {
	return cmp.Or(cmp.Compare(strings.ToLower(s.About.Name), strings.ToLower(t.About.Name)), slices.Compare(s.ID[:], t.ID[:]))
}

// readChunk is how many items are read at once: names are sealed, so what a list leaves out is known only once it is opened.
const readChunk = 1000

// List is the items that the caller may know of, by name, from behind after unless that is zero.
func (r *Room) List(ctx context.Context, c tenantdb.Caller, f Filter, after ID, most int) (found []Seen, err error) {
	if err := need(c, "vault:read"); err != nil {
		return nil, err
	}
	v, err := r.sight(ctx, c)
	if err != nil {
		return nil, wrapped("List", err)
	}
	for from := (ID{}); ; {
		var items []Item
		var bad map[ID]error
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			if items, err = readItems(ctx, tx, from, readChunk); err != nil {
				return err
			}
			bad, err = unvouched(ctx, tx, items)
			return err
		})
		if err != nil {
			return nil, wrapped("List", err)
		}
		for k := range items {
			i := &items[k]
			if !v.sees(i) {
				continue
			}
			err := bad[i.ID]
			if err == nil {
				err = r.open(ctx, c.Tenant(), i, i.Version)
			}
			if err != nil {
				if err = r.told(ctx, c.Tenant(), i.ID, err); errors.Is(err, errAltered) {
					continue // it must not hide the others
				}
				return nil, wrapped("List", err)
			}
			if f.matches(i) || i.ID == after {
				found = append(found, v.seen(i))
			}
		}
		if len(items) < readChunk {
			break
		}
		from = items[len(items)-1].ID
	}
	slices.SortFunc(found, func(a, b Seen) int { return a.compare(&b) })
	if after != (ID{}) { // a cursor holds no name, which addresses would spread
		at := slices.IndexFunc(found, func(s Seen) bool { return s.ID == after })
		if at < 0 {
			return nil, problem.New(problem.Conflict, "The item where the list was to go on is gone. Begin anew.")
		}
		found = found[at+1:]
	}
	return found[:min(len(found), most)], nil
}

// Get is one item that the caller may know of.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller, id ID) (s Seen, err error) {
	if err := need(c, "vault:read"); err != nil {
		return s, err
	}
	v, err := r.sight(ctx, c)
	if err != nil {
		return s, wrapped("Get", err)
	}
	var i *Item
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if i, err = readItem(ctx, tx, id); err == nil && i != nil {
			err = vouched(ctx, tx, i)
		}
		return err
	})
	if err == nil && (i == nil || !v.sees(i)) {
		return s, noItem()
	}
	if err == nil {
		err = r.open(ctx, c.Tenant(), i, i.Version)
	}
	if err != nil {
		return s, wrapped("Get", r.told(ctx, c.Tenant(), id, err))
	}
	return v.seen(i), nil
}

// sight is what a caller may know of: read once for a list.
type sight struct {
	c       tenantdb.Caller
	granted map[ID]Level
	lent    map[ID]bool
}

func (r *Room) sight(ctx context.Context, c tenantdb.Caller) (*sight, error) {
	v := &sight{c, map[ID]Level{}, map[ID]bool{}}
	now, who := r.now(), actorOf(c.Actor())
	err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		var groups []string
		var err error
		if who.Kind == APerson {
			if groups, err = readGroups(ctx, tx, who.ID); err != nil {
				return err
			}
		}
		grants, err := readGrantsTo(ctx, tx, who, groups)
		if err != nil {
			return err
		}
		for _, g := range grants {
			if g.live(now) && !v.granted[g.Item].covers(g.Level) {
				v.granted[g.Item] = g.Level
			}
		}
		lent, err := readLentTo(ctx, tx, who, now)
		for _, q := range lent {
			v.lent[q.Item] = true
		}
		return err
	})
	return v, err
}

func (v *sight) sees(i *Item) bool { return i.Listed || v.uses(i) }

// uses reports whether the caller has something to do with an item beyond knowing of it.
func (v *sight) uses(i *Item) bool {
	return v.granted[i.ID] != "" || v.lent[i.ID] || manages(v.c, i)
}

// orNotManaged is what somebody learns who does not decide about an item, which may be nil: whoever may know of it is told who does, and to
// others there is none.
func (r *Room) orNotManaged(ctx context.Context, c tenantdb.Caller, i *Item, err error) error {
	if i == nil || !problem.Is(err, problem.Missing) || !c.May("vault:read") {
		return err
	}
	v, bad := r.sight(ctx, c)
	if bad != nil {
		return bad
	}
	if v.sees(i) {
		return notManaged()
	}
	return err
}

func (v *sight) seen(i *Item) Seen { return Seen{*i, v.granted[i.ID], manages(v.c, i)} }
