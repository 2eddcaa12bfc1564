package org

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// admit makes a person with roles, as Avouch itself.
func (f fixture) admit(t *testing.T, tenant tenantdb.TenantID, name string, roles ...string) PersonID {
	t.Helper()
	n := NewPerson{ID: audit.NewSubjectID(), Name: name, Address: name + "@acme.example", Roles: roles, Verified: true, Via: "test"}
	if err := f.room.Prepare(t.Context(), tenant, n.ID); err != nil {
		t.Fatal(err)
	}
	err := f.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (e audit.Event, err error) {
		_, e, err = f.room.admit(t.Context(), tx, n)
		return e, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n.ID
}

func (f fixture) standing(t *testing.T, tenant tenantdb.TenantID, p PersonID) (s Standing) {
	t.Helper()
	err := f.DB.Read(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.ReadTx) (err error) {
		s, err = f.room.Standing(t.Context(), tx, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStanding(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.Install(t)
	acme, _ := f.create(t, "Acme", "")
	for role, capability := range map[string]string{RoleOwner: "*", RoleAdmin: "members:write", RoleMember: "agents:write", RoleViewer: "agents:read", RoleAuditor: "audit:read"} {
		s := f.standing(t, acme.ID, f.admit(t, acme.ID, role, role))
		if !s.Active || !slices.Equal(s.Roles, []string{role}) || !slices.Contains(s.Capabilities, capability) || s.ManagedBy != "" || s.Factors != nil ||
			s.NeedsMFA != (role == RoleOwner || role == RoleAdmin) || s.Rules.IdleTimeout != maxIdle {
			t.Errorf("a new %s is %+v", role, s)
		}
	}
	other, _ := f.create(t, "Globex", "")
	eve := f.admit(t, acme.ID, "eve", RoleOwner)
	err := f.DB.Read(t.Context(), tenantdb.System(other.ID, "test"), func(tx *tenantdb.ReadTx) error {
		_, err := f.room.Standing(t.Context(), tx, eve)
		return err
	})
	want(t, err, problem.Missing, "a person of another organisation")
}

// TestRolesAreDocumented: the page says what the code does.
func TestRolesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/people.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range builtInRoles() {
		capabilities, _ := builtIn(role)
		if line := "| " + role + " | `" + strings.Join(capabilities, "` `") + "` |\n"; !strings.Contains(string(page), line) {
			t.Errorf("docs/people.md lacks %s", line)
		}
		if !slices.IsSorted(capabilities) {
			t.Errorf("%s: not sorted", role)
		}
	}
	if _, ok := builtIn("root"); ok {
		t.Error("there are other built-in roles")
	}
}
