package scim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// group is a group of the directory's. What its members may do is for people here to say (org.UpdateGroup): a directory gives no
// roles.
type group struct {
	id      org.GroupID
	name    string
	ext     string
	created time.Time
	version int64
	members []PersonID
}

const (
	maxMembers = 20_000
	maxGroups  = 5_000
)

func (g group) attributes() map[string]any {
	a := map[string]any{"displayname": g.name}
	if g.ext != "" {
		a["externalid"] = g.ext
	}
	members := make([]any, len(g.members))
	for i, p := range g.members {
		members[i] = map[string]any{"value": p.String()}
	}
	a["members"] = members
	return a
}

// wantGroup reads what a directory wants a group to be.
func wantGroup(a map[string]any) (g group, err error) {
	if g.name, err = text(a, "displayname"); err != nil {
		return g, err
	}
	if n := len([]rune(g.name)); n == 0 || n > 200 || strings.ContainsFunc(g.name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return g, errValue("displayName has 1 to 200 characters.")
	}
	if g.ext, err = text(a, "externalid"); err != nil {
		return g, err
	}
	if len(g.ext) > 200 {
		return g, errValue("externalId has at most 200 bytes.")
	}
	list, ok := a["members"].([]any)
	if !ok && a["members"] != nil {
		list = []any{a["members"]} // one, without a list
	}
	if len(list) > maxMembers {
		return g, errValue("A group has at most %d members.", maxMembers)
	}
	for _, one := range list {
		m, _ := one.(map[string]any)
		value, _ := m["value"].(string)
		if kind, _ := m["type"].(string); kind != "" && !strings.EqualFold(kind, "User") {
			return g, errValue("The members of a group are users.")
		}
		var p PersonID
		if p.UnmarshalText([]byte(value)) != nil {
			return g, errValue("A member is named by the id of a user.")
		}
		g.members = append(g.members, p)
	}
	slices.SortFunc(g.members, func(a, b PersonID) int { return slices.Compare(a[:], b[:]) })
	g.members = slices.Compact(g.members)
	return g, nil
}

func (g group) event(typ string, public ...audit.Field) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "group", ID: g.id.String()}, Public: append(public, field("by", "directory")), Private: []audit.Field{field("name", g.name)},
	}
}

func (r *Room) makeGroup(ctx context.Context, c tenantdb.Caller, g group) (group, error) {
	g.id, g.created, g.version = org.GroupID(id.At[struct{}](r.cfg.Now())), r.instant(), 1
	err := r.change(ctx, c, "makeGroup", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if n, err := countGroups(ctx, &tx.ReadTx); err != nil || n >= maxGroups {
			return nil, orConflict(err, "An organisation has at most %d groups of its directory.", maxGroups)
		}
		if err := r.nameFree(ctx, tx, g); err != nil {
			return nil, err
		}
		if err := insertGroup(ctx, tx, g); err != nil {
			return nil, err
		}
		added, err := r.enter(ctx, tx, g.id, g.members)
		return []audit.Event{g.event("group.created", added...)}, err
	})
	return g, err
}

func orConflict(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return &Error{409, "", fmt.Sprintf(format, args...)}
}

func (r *Room) nameFree(ctx context.Context, tx *tenantdb.Tx, g group) error {
	known, err := nameKnown(ctx, &tx.ReadTx, g)
	if err == nil && known {
		err = taken("displayName")
	}
	return err
}

// enter puts people into a group, and says so in public: only those about whom the directory decides, or it would give an account of its
// own more than it has; and nobody who made the directory's key, if the group has what they would give themselves.
func (r *Room) enter(ctx context.Context, tx *tenantdb.Tx, g org.GroupID, people []PersonID) (public []audit.Field, err error) {
	if len(people) == 0 {
		return []audit.Field{field("added", "0")}, nil
	}
	if n, err := countManaged(ctx, &tx.ReadTx, people); err != nil {
		return nil, err
	} else if n != len(people) {
		return nil, errValue("A member is no user about whom the directory decides.")
	}
	if r.cfg.Gain != nil {
		by := tx.Caller().Actor()
		gain, alone, err := r.cfg.Gain(ctx, &tx.ReadTx, string(by.Kind)+":"+by.ID, g, people)
		switch {
		case err != nil:
			return nil, err
		case len(gain) > 0:
			return nil, forbidden("Items of the vault are granted to this group, and nobody grants to themselves: %s may be who made this key. Put them in by a key of somebody else's.", gain[0])
		case alone:
			public = append(public, field("alone", "true"))
		}
	}
	n, err := insertMembers(ctx, tx, g, people)
	return append(public, field("added", fmt.Sprint(n))), err
}

// reviseGroup makes a group what the directory wants, which it says of the group as it was.
func (r *Room) reviseGroup(ctx context.Context, c tenantdb.Caller, which org.GroupID, ifMatch string, says func(before group) (group, error)) (g group, err error) {
	err = r.change(ctx, c, "reviseGroup", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		before, err := loadGroup(ctx, &tx.ReadTx, which, true)
		if err != nil {
			return nil, err
		}
		if err := match(ifMatch, before.version); err != nil {
			return nil, err
		}
		if g, err = says(before); err != nil {
			return nil, err
		}
		g.id, g.created, g.version = before.id, before.created, before.version
		come, gone := difference(g.members, before.members), difference(before.members, g.members)
		if g.name == before.name && g.ext == before.ext && len(come)+len(gone) == 0 {
			return nil, nil
		}
		if err := r.nameFree(ctx, tx, g); err != nil {
			return nil, err
		}
		g.version++
		if err := updateGroup(ctx, tx, g); err != nil {
			return nil, err
		}
		added, err := r.enter(ctx, tx, g.id, come)
		if err != nil {
			return nil, err
		}
		removed, err := deleteMembers(ctx, tx, g.id, gone)
		if err == nil {
			err = r.cfg.People.Leave(ctx, tx, g.id, gone)
		}
		if err == nil {
			err = r.cfg.People.KeepsWayIn(ctx, &tx.ReadTx)
		}
		return []audit.Event{g.event("group.changed", append(added, field("removed", fmt.Sprint(removed)))...)}, err
	})
	return g, err
}

// difference is what is in a and not in b.
func difference(a, b []PersonID) []PersonID {
	there := make(map[PersonID]bool, len(b))
	for _, p := range b {
		there[p] = true
	}
	out := []PersonID{}
	for _, p := range a {
		if !there[p] {
			out = append(out, p)
		}
	}
	return out
}

func (r *Room) endGroup(ctx context.Context, c tenantdb.Caller, which org.GroupID, ifMatch string) error {
	return r.change(ctx, c, "endGroup", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		g, err := loadGroup(ctx, &tx.ReadTx, which, true)
		if err != nil {
			return nil, err
		}
		if err := match(ifMatch, g.version); err != nil {
			return nil, err
		}
		if err := deleteGroup(ctx, tx, which); err != nil {
			return nil, err
		}
		if err := r.cfg.People.Leave(ctx, tx, which, g.members); err != nil {
			return nil, err
		}
		return []audit.Event{g.event("group.deleted", field("members", fmt.Sprint(len(g.members))))}, r.cfg.People.KeepsWayIn(ctx, &tx.ReadTx)
	})
}

// findGroups is the page of those that a filter finds, and how many it finds.
func (r *Room) findGroups(ctx context.Context, c tenantdb.Caller, f Filter, start, count int, members bool) (found []group, total int, err error) {
	var q groupQuery
	for _, one := range f {
		value, isText := one.Value.(string)
		if !isText {
			value = ""
		}
		switch one.Attribute {
		case "displayname":
			q.name = &value
		case "externalid":
			q.ext = &value
		case "id":
			q.id = &value
		case "members.value", "members":
			q.member = &value
		default:
			return nil, 0, errFilter("is by " + one.Attribute + ": groups are found by displayName, externalId, id and members.value")
		}
	}
	err = r.read(ctx, c, "findGroups", func(tx *tenantdb.ReadTx) error {
		ids, n, err := listGroups(ctx, tx, q, start-1, count)
		if err != nil {
			return err
		}
		total = n
		for _, which := range ids {
			g, err := loadGroup(ctx, tx, which, members)
			if err != nil {
				return err
			}
			found = append(found, g)
		}
		return nil
	})
	return found, total, err
}
