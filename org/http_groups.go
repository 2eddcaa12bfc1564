package org

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	oneGroup  = "/api/v1/groups/{id}"
	oneOfRole = "/api/v1/roles/{name}"
)

func (r *Room) groupRoutes(api *web.API[tenantdb.Caller]) {
	create := op("create-group", http.MethodPost, "/api/v1/groups", "Make a group", "Its members have its roles: you give none that can do more than you.")
	create.Status, create.Idempotent = http.StatusCreated, true
	web.Handle(api, create, r.createGroup)
	web.Handle(api, op("list-groups", http.MethodGet, "/api/v1/groups", "List groups", ""), r.listGroups)
	web.Handle(api, op("get-group", http.MethodGet, oneGroup, "Show a group", "`GET /api/v1/members?group=` lists its members."), r.getGroup)
	web.Handle(api, op("update-group", http.MethodPatch, oneGroup, "Change a group's name or roles", "Fields that are absent or null stay. It holds for all members at once."), r.updateGroup)
	web.Handle(api, op("delete-group", http.MethodDelete, oneGroup, "Delete a group", "Its members stay, without its roles."), r.deleteGroup)
	web.Handle(api, op("add-group-member", http.MethodPut, oneGroup+"/members/{member}", "Put a member into a group", "Nobody puts themselves into a group to which items of the vault are granted; but for the only owner."), r.addMember)
	web.Handle(api, op("remove-group-member", http.MethodDelete, oneGroup+"/members/{member}", "Take a member out of a group", ""), r.removeGroupMember)
	role := op("create-role", http.MethodPost, "/api/v1/roles", "Make a role", "A set of capabilities, all of which you have yourself.")
	role.Status, role.Idempotent = http.StatusCreated, true
	web.Handle(api, role, r.createRole)
	web.Handle(api, op("list-roles", http.MethodGet, "/api/v1/roles", "List roles", "The built-in ones with what they can do, then your own."), r.listRoles)
	web.Handle(api, op("update-role", http.MethodPatch, oneOfRole, "Change a role", "Fields that are absent or null stay. It holds at once for all who have the role."), r.updateRole)
	web.Handle(api, op("delete-role", http.MethodDelete, oneOfRole, "Delete a role", "One that nobody has, no group gives and no invitation offers."), r.deleteRole)
}

type groupView struct {
	ID        GroupID   `json:"group_id" format:"uuid"`
	Name      string    `json:"name"`
	Roles     []string  `json:"roles" nullable:"false" doc:"Which its members have"`
	Members   int       `json:"members" doc:"How many"`
	Managed   bool      `json:"managed" doc:"Whether a directory decides who is in it"`
	CreatedAt time.Time `json:"created_at"`
	Version   int64     `json:"version" doc:"Counts the changes; the ETag"`
}

type groupOutput struct {
	ETag string `header:"ETag"`
	Body groupView
}

func viewGroup(g Group) groupView {
	return groupView{g.ID, g.Name, orEmpty(g.Roles), g.Members, g.ManagedBy != ConnectionID{}, g.CreatedAt.UTC(), g.Version}
}

func outputGroup(g Group, err error) (*groupOutput, error) {
	if err != nil {
		return nil, err
	}
	return &groupOutput{web.ETag(g.Version), viewGroup(g)}, nil
}

type groupPath struct {
	ID GroupID `path:"id" doc:"The group_id"`
}

type createGroupInput struct {
	Body struct {
		Name  string   `json:"name" minLength:"1" maxLength:"200"`
		Roles []string `json:"roles,omitempty" maxItems:"50"`
	}
}

func (r *Room) createGroup(ctx context.Context, c tenantdb.Caller, in *createGroupInput) (*groupOutput, error) {
	return outputGroup(r.CreateGroup(ctx, c, NewGroup{in.Body.Name, in.Body.Roles}))
}

type listGroupsOutput struct {
	Body struct {
		Groups []groupView `json:"groups"`
		web.Next
	}
}

func (r *Room) listGroups(ctx context.Context, c tenantdb.Caller, in *web.Page) (*listGroupsOutput, error) {
	after, _, err := web.After[GroupID](*in)
	if err != nil {
		return nil, err
	}
	groups, err := r.Groups(ctx, c, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listGroupsOutput{}
	groups, out.Body.Next = web.Cut(groups, in.Limit, func(g Group) GroupID { return g.ID })
	out.Body.Groups = make([]groupView, len(groups))
	for i, g := range groups {
		out.Body.Groups[i] = viewGroup(g)
	}
	return out, nil
}

func (r *Room) getGroup(ctx context.Context, c tenantdb.Caller, in *groupPath) (*groupOutput, error) {
	return outputGroup(r.Group(ctx, c, in.ID))
}

type updateGroupInput struct {
	ID GroupID `path:"id" doc:"The group_id"`
	web.IfMatch
	Body struct {
		Name  *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
		Roles *[]string `json:"roles,omitempty" maxItems:"50"`
	}
}

func (r *Room) updateGroup(ctx context.Context, c tenantdb.Caller, in *updateGroupInput) (*groupOutput, error) {
	return outputGroup(r.UpdateGroup(ctx, c, in.ID, in.IfMatch.IfMatch, GroupChange{in.Body.Name, in.Body.Roles}))
}

type deleteGroupInput struct {
	ID GroupID `path:"id" doc:"The group_id"`
	web.IfMatch
}

func (r *Room) deleteGroup(ctx context.Context, c tenantdb.Caller, in *deleteGroupInput) (*groupOutput, error) {
	return outputGroup(r.DeleteGroup(ctx, c, in.ID, in.IfMatch.IfMatch))
}

type membershipPath struct {
	ID     GroupID  `path:"id" doc:"The group_id"`
	Member PersonID `path:"member" doc:"The member_id"`
}

func (r *Room) addMember(ctx context.Context, c tenantdb.Caller, in *membershipPath) (*groupOutput, error) {
	return outputGroup(r.AddMember(ctx, c, in.ID, in.Member))
}

func (r *Room) removeGroupMember(ctx context.Context, c tenantdb.Caller, in *membershipPath) (*groupOutput, error) {
	return outputGroup(r.RemoveMember(ctx, c, in.ID, in.Member))
}

type roleView struct {
	Name         string   `json:"name"`
	Description  string   `json:"description"`
	Capabilities []string `json:"capabilities" nullable:"false" doc:"* is everything"`
	BuiltIn      bool     `json:"built_in"`
	Version      int64    `json:"version" doc:"Counts the changes; the ETag. 0 if it is built in"`
}

func viewRole(n Role) roleView {
	return roleView{n.Name, n.Description, orEmpty(n.Capabilities), n.BuiltIn, n.Version}
}

type roleOutput struct {
	ETag string `header:"ETag"`
	Body roleView
}

func outputRole(n Role, err error) (*roleOutput, error) {
	if err != nil {
		return nil, err
	}
	return &roleOutput{web.ETag(n.Version), viewRole(n)}, nil
}

type createRoleInput struct {
	Body struct {
		Name         string   `json:"name" minLength:"1" maxLength:"64" doc:"a-z, 0-9, _ and -, the first a letter"`
		Description  string   `json:"description,omitempty" maxLength:"500"`
		Capabilities []string `json:"capabilities" nullable:"false" minItems:"1" maxItems:"100"`
	}
}

func (r *Room) createRole(ctx context.Context, c tenantdb.Caller, in *createRoleInput) (*roleOutput, error) {
	return outputRole(r.CreateRole(ctx, c, Role{Name: in.Body.Name, Description: in.Body.Description, Capabilities: in.Body.Capabilities}))
}

type listRolesOutput struct {
	Body struct {
		Roles []roleView `json:"roles"`
	}
}

func (r *Room) listRoles(ctx context.Context, c tenantdb.Caller, _ *web.None) (*listRolesOutput, error) {
	roles, err := r.Roles(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &listRolesOutput{}
	for _, n := range roles {
		out.Body.Roles = append(out.Body.Roles, viewRole(n))
	}
	return out, nil
}

type updateRoleInput struct {
	Name string `path:"name" minLength:"1" maxLength:"64"`
	web.IfMatch
	Body struct {
		Description  *string   `json:"description,omitempty" maxLength:"500"`
		Capabilities *[]string `json:"capabilities,omitempty" minItems:"1" maxItems:"100"`
	}
}

func (r *Room) updateRole(ctx context.Context, c tenantdb.Caller, in *updateRoleInput) (*roleOutput, error) {
	return outputRole(r.UpdateRole(ctx, c, in.Name, in.IfMatch.IfMatch, RoleChange{in.Body.Description, in.Body.Capabilities}))
}

type deleteRoleInput struct {
	Name string `path:"name" minLength:"1" maxLength:"64"`
	web.IfMatch
}

func (r *Room) deleteRole(ctx context.Context, c tenantdb.Caller, in *deleteRoleInput) (*roleOutput, error) {
	return outputRole(r.DeleteRole(ctx, c, in.Name, in.IfMatch.IfMatch))
}
