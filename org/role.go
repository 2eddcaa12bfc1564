package org

import (
	"slices"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// The roles that every organisation has.
const (
	RoleOwner   = "owner"
	RoleAdmin   = "admin"
	RoleMember  = "member"
	RoleViewer  = "viewer"
	RoleAuditor = "auditor"
)

// builtIn is the one table of what the built-in roles may do; the second result is false for any other role.
func builtIn(role string) (capabilities []string, ok bool) {
	switch role {
	case RoleOwner:
		return []string{tenantdb.Everything}, true
	case RoleAdmin: // whatever has a name, but not to make owners, to lower what protects them, or to end the organisation
		return tenantdb.Capabilities(), true
	case RoleMember:
		return []string{"agents:read", "agents:write", "breakglass:write", "keys:read", "keys:write", "members:read", "organisation:read", "read:identity", "vault:code", "vault:read", "vault:use", "vault:write", "verify"}, true
	case RoleViewer:
		return []string{"agents:read", "keys:read", "members:read", "organisation:read"}, true
	case RoleAuditor:
		return []string{"agents:read", "audit:read", "breakglass:read", "keys:read", "members:read", "organisation:read", "sso:read"}, true
	}
	return nil, false
}

func builtInRoles() []string {
	return []string{RoleOwner, RoleAdmin, RoleMember, RoleViewer, RoleAuditor}
}

// union is all capabilities of the built-in ones among the roles, and others, sorted; Everything stands for all.
func union(roles, others []string) []string {
	all := slices.Clone(others)
	for _, role := range roles {
		c, _ := builtIn(role)
		all = append(all, c...)
	}
	if slices.Contains(all, tenantdb.Everything) {
		return []string{tenantdb.Everything}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Role is a set of capabilities with a name.
type Role struct {
	Name         string
	Description  string
	Capabilities []string // sorted
	BuiltIn      bool
	CreatedAt    time.Time // zero if it is built in
	Version      int64
}
