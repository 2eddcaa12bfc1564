package org

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// mostRoles bounds an organisation's own roles.
const mostRoles = 200

var roleName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

func (n Role) check() error {
	p := problem.New(problem.Invalid, "The role cannot be like that. See `errors`.")
	bad := func(where, format string, args ...any) {
		p.Fields = append(p.Fields, problem.Field{Location: "body." + where, Message: fmt.Sprintf(format, args...)})
	}
	if !roleName.MatchString(n.Name) {
		bad("name", "has 1 to 64 of a-z, 0-9, _ and -, the first a letter")
	}
	if len([]rune(n.Description)) > 500 || strings.ContainsFunc(n.Description, unshown) {
		bad("description", "has at most 500 characters, and none that nobody sees or that moves others")
	}
	if len(n.Capabilities) == 0 {
		bad("capabilities", "is empty")
	}
	for _, c := range n.Capabilities {
		if !slices.Contains(tenantdb.Capabilities(), c) {
			bad("capabilities", "%q is no capability; there are %s", c, strings.Join(tenantdb.Capabilities(), ", "))
		}
	}
	if len(p.Fields) == 0 {
		return nil
	}
	return p
}

// Roles are the built-in ones and the organisation's own.
func (r *Room) Roles(ctx context.Context, c tenantdb.Caller) (roles []Role, err error) {
	if err := need(c, "members:read"); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		roles, err = allRoles(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("org.Roles: %w", err)
	}
	return roles, nil
}

func allRoles(ctx context.Context, tx *tenantdb.ReadTx) ([]Role, error) {
	own, err := listRoles(ctx, tx)
	var out []Role
	for _, name := range builtInRoles() {
		capabilities, _ := builtIn(name)
		out = append(out, Role{Name: name, Capabilities: capabilities, BuiltIn: true})
	}
	return append(out, own...), err
}

func nameOf(r Role) string { return r.Name }

func names[T any](all []T, name func(T) string) []string {
	out := make([]string, len(all))
	for i, one := range all {
		out[i] = name(one)
	}
	return out
}

// CreateRole makes a role of what its maker holds.
func (r *Room) CreateRole(ctx context.Context, c tenantdb.Caller, n Role) (Role, error) {
	if err := n.check(); err != nil {
		return Role{}, err
	}
	role := Role{Name: n.Name, Description: n.Description, Capabilities: sorted(n.Capabilities), CreatedAt: r.instant(), Version: 1}
	err := r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		there, err := allRoles(ctx, &tx.ReadTx)
		switch {
		case err != nil:
			return audit.Event{}, err
		case slices.Contains(names(there, nameOf), role.Name):
			return audit.Event{}, problem.New(problem.Conflict, "There is a role of this name.")
		case len(there) >= mostRoles:
			return audit.Event{}, problem.New(problem.Conflict, "There are %d roles, and more would help nobody: delete one first.", len(there))
		}
		if err := a.gives(role.Capabilities); err != nil {
			return audit.Event{}, err
		}
		return role.event("role.created"), saveRole(ctx, tx, role)
	})
	if err != nil {
		return Role{}, fmt.Errorf("org.CreateRole: %w", err)
	}
	return role, nil
}

// RoleChange is what is changed of a role; nil fields stay. Its name is what rules and people know it by, and stays.
type RoleChange struct {
	Description  *string
	Capabilities *[]string
}

// UpdateRole changes one of the organisation's own roles, for all who have it from the moment that this returns. The caller must
// hold what it allowed and what it will allow.
func (r *Room) UpdateRole(ctx context.Context, c tenantdb.Caller, name, ifMatch string, ch RoleChange) (role Role, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if role, err = ownRole(ctx, tx, a, name, ifMatch); err != nil {
			return audit.Event{}, err
		}
		before := role
		if ch.Description != nil {
			role.Description = *ch.Description
		}
		if ch.Capabilities != nil {
			role.Capabilities = sorted(*ch.Capabilities)
		}
		if err := role.check(); err != nil {
			return audit.Event{}, err
		}
		if err := a.gives(role.Capabilities); err != nil {
			return audit.Event{}, err
		}
		if role.Description == before.Description && slices.Equal(role.Capabilities, before.Capabilities) {
			return audit.Event{}, nil
		}
		role.Version++
		e := role.event("role.changed")
		e.Public = append(e.Public, field("before", strings.Join(before.Capabilities, " ")))
		return e, saveRole(ctx, tx, role)
	})
	if err != nil {
		return Role{}, fmt.Errorf("org.UpdateRole: %w", err)
	}
	return role, nil
}

// ownRole is a role that the caller may change.
func ownRole(ctx context.Context, tx *tenantdb.Tx, a authority, name, ifMatch string) (Role, error) {
	if _, ok := builtIn(name); ok {
		return Role{}, problem.New(problem.Conflict, "The role %s is built in, and the same in every organisation: make one of your own.", name)
	}
	role, err := loadRole(ctx, &tx.ReadTx, name)
	if err != nil {
		return role, err
	}
	if err := web.CheckMatch(ifMatch, role.Version); err != nil {
		return role, err
	}
	return role, a.covers(role.Capabilities)
}

// DeleteRole ends one of the organisation's own roles, if nothing uses it, and returns it.
func (r *Room) DeleteRole(ctx context.Context, c tenantdb.Caller, name, ifMatch string) (role Role, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if role, err = ownRole(ctx, tx, a, name, ifMatch); err != nil {
			return audit.Event{}, err
		}
		people, groups, invitations, err := roleUsed(ctx, &tx.ReadTx, name, r.cfg.Now())
		if err != nil {
			return audit.Event{}, err
		}
		if people+groups+invitations > 0 {
			return audit.Event{}, problem.New(problem.Conflict, "The role is in use, by %d people, %d groups and %d open invitations: take it from them first.", people, groups, invitations)
		}
		if r.cfg.RoleUsed != nil {
			if n, err := r.cfg.RoleUsed(ctx, &tx.ReadTx, name); err != nil {
				return audit.Event{}, err
			} else if n > 0 {
				return audit.Event{}, problem.New(problem.Conflict, "The role is in use: %d connections give it. Take it from them first.", n)
			}
		}
		rules, _, err := loadRules(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if _, named := rules.Factors[name]; named || slices.Contains(rules.MFARoles, name) {
			return audit.Event{}, problem.New(problem.Conflict, "The organisation's rules name the role: take it out of them first.")
		}
		return role.event("role.deleted"), deleteRole(ctx, tx, name)
	})
	if err != nil {
		return Role{}, fmt.Errorf("org.DeleteRole: %w", err)
	}
	return role, nil
}

func (n Role) event(typ string) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "role", ID: n.Name},
		Public:  []audit.Field{field("capabilities", strings.Join(n.Capabilities, " "))},
		Private: []audit.Field{field("description", n.Description)},
	}
}
