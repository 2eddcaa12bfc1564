package org

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

type groupKind struct{}

// GroupID names a group.
type GroupID = id.ID[groupKind]

// ParseGroupID reads the canonical form.
func ParseGroupID(s string) (GroupID, error) { return id.Parse[groupKind](s) }

// Group is people with roles in common.
type Group struct {
	ID        GroupID
	Name      string
	Roles     []string // which its members have, sorted
	Members   int
	ManagedBy ConnectionID // the connection whose directory decides who is in it
	CreatedAt time.Time
	Version   int64
}

func noGroup() error { return problem.New(problem.Missing, "There is no such group.") }

func groupNames(groups []GroupID) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.String()
	}
	return strings.Join(names, " ")
}

func sortedGroups(groups []GroupID) []GroupID {
	out := slices.Clone(groups)
	slices.SortFunc(out, func(a, b GroupID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out)
}

// NewGroup is a group to be made.
type NewGroup struct {
	Name  string
	Roles []string // never RoleOwner
}

// GroupChange is what is changed of a group; nil fields stay.
type GroupChange struct {
	Name  *string
	Roles *[]string
}

const maxGroupName = 200

func checkGroup(name *string, roles *[]string) error {
	if name != nil {
		if n := len([]rune(*name)); n == 0 || n > maxGroupName || strings.TrimSpace(*name) != *name || strings.ContainsFunc(*name, unshown) {
			return problem.New(problem.Invalid, "A group's name has 1 to %d characters, no space at its ends, and none that nobody sees or that moves others.", maxGroupName)
		}
	}
	if roles != nil && slices.Contains(*roles, RoleOwner) {
		return problem.New(problem.Invalid, "A group makes no owners: give people the role owner themselves.")
	}
	return nil
}

// Groups are the groups of the caller's organisation, from behind after.
func (r *Room) Groups(ctx context.Context, c tenantdb.Caller, after GroupID, limit int) (groups []Group, err error) {
	if err := need(c, "members:read"); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		groups, err = listGroups(ctx, tx, after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("org.Groups: %w", err)
	}
	return groups, nil
}

// Group is one group.
func (r *Room) Group(ctx context.Context, c tenantdb.Caller, id GroupID) (g Group, err error) {
	if err := need(c, "members:read"); err != nil {
		return Group{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		g, err = loadGroup(ctx, tx, id)
		return err
	})
	if err != nil {
		return Group{}, fmt.Errorf("org.Group: %w", err)
	}
	return g, nil
}

// CreateGroup makes a group. Its members have its roles, so whoever makes it must hold what they can do.
func (r *Room) CreateGroup(ctx context.Context, c tenantdb.Caller, n NewGroup) (g Group, err error) {
	if err := checkGroup(&n.Name, &n.Roles); err != nil {
		return Group{}, err
	}
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		g = Group{ID: id.At[groupKind](r.cfg.Now()), Name: n.Name, Roles: sorted(n.Roles), CreatedAt: r.instant(), Version: 1}
		if err := givesRoles(ctx, tx, a, g.Roles); err != nil {
			return audit.Event{}, err
		}
		return g.event("group.created"), insertGroup(ctx, tx, g)
	})
	if err != nil {
		return Group{}, fmt.Errorf("org.CreateGroup: %w", err)
	}
	return g, nil
}

func givesRoles(ctx context.Context, tx *tenantdb.Tx, a authority, roles []string) error {
	gives, err := capabilitiesOf(ctx, &tx.ReadTx, roles)
	if err != nil {
		return err
	}
	return a.gives(gives)
}

// UpdateGroup changes a group, from a version if ifMatch names one: by somebody who holds what its members have by it, before
// and after.
func (r *Room) UpdateGroup(ctx context.Context, c tenantdb.Caller, id GroupID, ifMatch string, ch GroupChange) (g Group, err error) {
	if err := checkGroup(ch.Name, ch.Roles); err != nil {
		return Group{}, err
	}
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if g, err = mayChange(ctx, tx, a, id); err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, g.Version); err != nil {
			return audit.Event{}, err
		}
		before := g
		if ch.Name != nil {
			if g.Name = *ch.Name; g.Name != before.Name && g.ManagedBy != (ConnectionID{}) {
				return audit.Event{}, managed()
			}
		}
		if ch.Roles != nil {
			g.Roles = sorted(*ch.Roles)
		}
		if g.Name == before.Name && slices.Equal(g.Roles, before.Roles) {
			return audit.Event{}, nil
		}
		if err := givesRoles(ctx, tx, a, g.Roles); err != nil {
			return audit.Event{}, err
		}
		g.Version++
		e := g.event("group.changed")
		e.Public = append(e.Public, field("before", strings.Join(before.Roles, " ")))
		if err := updateGroup(ctx, tx, g); err != nil {
			return audit.Event{}, err
		}
		return e, r.KeepsWayIn(ctx, &tx.ReadTx)
	})
	if err != nil {
		return Group{}, fmt.Errorf("org.UpdateGroup: %w", err)
	}
	return g, nil
}

func managed() error {
	return problem.New(problem.Conflict, "The organisation's directory decides about this group: change it there.")
}

// mayChange is a group that the caller may change: who has less than its members have by it may not.
func mayChange(ctx context.Context, tx *tenantdb.Tx, a authority, id GroupID) (Group, error) {
	g, err := loadGroup(ctx, &tx.ReadTx, id)
	if err != nil {
		return g, err
	}
	has, err := capabilitiesOf(ctx, &tx.ReadTx, g.Roles)
	if err != nil {
		return g, err
	}
	return g, a.covers(has)
}

// DeleteGroup ends a group, and returns it; its members stay, without its roles.
func (r *Room) DeleteGroup(ctx context.Context, c tenantdb.Caller, id GroupID, ifMatch string) (g Group, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if g, err = mayChange(ctx, tx, a, id); err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, g.Version); err != nil {
			return audit.Event{}, err
		}
		e := g.event("group.deleted")
		e.Public = append(e.Public, field("members", fmt.Sprint(g.Members)))
		members, err := deleteGroup(ctx, tx, id)
		if err == nil {
			err = r.Leave(ctx, tx, id, members)
		}
		if err != nil {
			return audit.Event{}, err
		}
		return e, r.KeepsWayIn(ctx, &tx.ReadTx)
	})
	if err != nil {
		return Group{}, fmt.Errorf("org.DeleteGroup: %w", err)
	}
	return g, nil
}

// AddMember puts a person into a group: somebody about whom the caller may decide, into a group whose capabilities the caller
// holds. Nobody gives themselves what other rooms gave the group.
func (r *Room) AddMember(ctx context.Context, c tenantdb.Caller, g GroupID, p PersonID) (Group, error) {
	return r.membership(ctx, c, g, p, "group.member_added", func(ctx context.Context, tx *tenantdb.Tx) (alone bool, err error) {
		if r.cfg.Joins != nil {
			alone, err = r.cfg.Joins(ctx, &tx.ReadTx, g, p)
		}
		if err == nil {
			err = insertMember(ctx, tx, g, p)
		}
		return alone, err
	}, true)
}

// RemoveMember takes a person out of a group.
func (r *Room) RemoveMember(ctx context.Context, c tenantdb.Caller, g GroupID, p PersonID) (Group, error) {
	return r.membership(ctx, c, g, p, "group.member_removed", func(ctx context.Context, tx *tenantdb.Tx) (bool, error) {
		if err := deleteMember(ctx, tx, g, p); err != nil {
			return false, err
		}
		return false, r.Leave(ctx, tx, g, []PersonID{p})
	}, false)
}

// Leave tells other rooms who leaves a group, in the transaction in which they do.
func (r *Room) Leave(ctx context.Context, tx *tenantdb.Tx, g GroupID, people []PersonID) error {
	if r.cfg.Leaves == nil || len(people) == 0 {
		return nil
	}
	return r.cfg.Leaves(ctx, tx, g, people)
}

func (r *Room) membership(ctx context.Context, c tenantdb.Caller, id GroupID, p PersonID, typ string, do func(context.Context, *tenantdb.Tx) (alone bool, err error), in bool) (g Group, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if g, err = mayChange(ctx, tx, a, id); err != nil {
			return audit.Event{}, err
		}
		if g.ManagedBy != (ConnectionID{}) {
			return audit.Event{}, managed()
		}
		one, _, err := r.decidable(ctx, tx, a, p)
		if err != nil || slices.Contains(one.Groups, id) == in {
			return audit.Event{}, err
		}
		g.Members += map[bool]int{true: 1, false: -1}[in]
		e := g.event(typ)
		e.Public = append(e.Public, field("person", p.String()))
		alone, err := do(ctx, tx)
		if err != nil {
			return audit.Event{}, err
		}
		if alone {
			e.Public = append(e.Public, field("alone", "true"))
		}
		return e, r.KeepsWayIn(ctx, &tx.ReadTx)
	})
	if err != nil {
		return Group{}, fmt.Errorf("org.membership: %w", err)
	}
	return g, nil
}

func (g Group) event(typ string) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "group", ID: g.ID.String()},
		Public:  []audit.Field{field("roles", strings.Join(g.Roles, " "))},
		Private: []audit.Field{field("name", g.Name)},
	}
}
