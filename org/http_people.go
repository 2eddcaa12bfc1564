package org

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// People of an organisation, over HTTP.

func op(id, method, path, summary, description string) web.Op {
	o := web.Op{ID: id, Method: method, Path: path, Tags: []string{"People"}, Scope: "members:write", Summary: summary, Description: description}
	if method == http.MethodGet {
		o.Scope = "members:read"
	}
	return o
}

const oneMember = "/api/v1/members/{id}"

func (r *Room) peopleRoutes(api *web.API[tenantdb.Caller]) {
	web.Handle(api, op("list-members", http.MethodGet, "/api/v1/members", "List members", "In the order in which they joined."), r.listMembers)
	web.Handle(api, op("get-member", http.MethodGet, oneMember, "Show a member", "Also one who was removed: the log is read with their name."), r.getMember)
	web.Handle(api, op("update-member", http.MethodPatch, oneMember, "Change a member's name or roles",
		"Fields that are absent or null stay. You give no role that can do more than you, and decide about nobody who can. Owners are made and unmade by owners, "+
			"who have proved themselves a moment ago; the last one stays, and all owners are told of one less.\n\nKeys that the member made keep what they have: `keys_kept` counts them."), r.updateMember)
	web.Handle(api, op("suspend-member", http.MethodPost, oneMember+"/suspend", "Suspend a member", "Until they are resumed they are refused. Their sessions end. Suspending an owner takes a proof of a moment ago, and all owners are told."), r.memberState(r.SuspendPerson))
	web.Handle(api, op("resume-member", http.MethodPost, oneMember+"/resume", "Resume a member", ""), r.memberState(r.ResumePerson))
	web.Handle(api, op("remove-member", http.MethodPost, oneMember+"/remove", "Remove a member",
		"For good, in one transaction: sessions, keys that they made, groups, password, factors, invitations. The answer says how much of each ended. "+
			"Removing an owner takes a proof of a moment ago, and all owners are told."), r.removeMember)
	web.Handle(api, op("get-offboarding", http.MethodGet, oneMember+"/offboarding", "Show what ended when a member was removed", ""), r.getOffboarding)
	me := op("get-me", http.MethodGet, "/api/v1/me", "Show yourself", "Whoever has signed in, and what they may do.")
	me.Scope = ""
	web.Handle(api, me, r.getMe)
	me.ID, me.Method, me.Summary, me.Description = "update-me", http.MethodPatch, "Change your name", ""
	web.Handle(api, me, r.updateMe)
}

// MemberView is a person as clients see them.
type MemberView struct {
	ID          PersonID   `json:"member_id" format:"uuid"`
	Name        string     `json:"name"`
	Address     string     `json:"address" doc:"Of e-mail"`
	Roles       []string   `json:"roles" nullable:"false" doc:"Their own; those of their groups come to these"`
	Groups      []GroupID  `json:"groups" nullable:"false"`
	Managed     bool       `json:"managed" doc:"Whether a directory decides about them"`
	State       string     `json:"state" enum:"active,suspended,removed"`
	CreatedAt   time.Time  `json:"created_at"`
	SuspendedAt *time.Time `json:"suspended_at,omitempty"`
	RemovedAt   *time.Time `json:"removed_at,omitempty"`
	Version     int64      `json:"version" doc:"Counts the changes; the ETag"`
}

func viewMember(p Person) MemberView {
	v := MemberView{
		ID: p.ID, Name: p.Name, Address: p.Address, Roles: orEmpty(p.Roles), Groups: orEmpty(p.Groups), Managed: p.ManagedBy != ConnectionID{}, State: "active",
		CreatedAt: p.CreatedAt.UTC(), SuspendedAt: orNull(p.SuspendedAt.UTC()), RemovedAt: orNull(p.RemovedAt.UTC()), Version: p.Version,
	}
	switch {
	case v.RemovedAt != nil:
		v.State = "removed"
	case v.SuspendedAt != nil:
		v.State = "suspended"
	}
	return v
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

type memberPath struct {
	ID PersonID `path:"id" doc:"The member_id"`
}

type listMembersInput struct {
	web.Page
	Role  string `query:"role" maxLength:"64" doc:"Only those who have this role of their own"`
	Group string `query:"group" maxLength:"36" doc:"Only those in this group"`
}

type listMembersOutput struct {
	Body struct {
		Members []MemberView `json:"members"`
		web.Next
	}
}

func (r *Room) listMembers(ctx context.Context, c tenantdb.Caller, in *listMembersInput) (*listMembersOutput, error) {
	after, _, err := web.After[PersonID](in.Page)
	if err != nil {
		return nil, err
	}
	f := Filter{Role: in.Role}
	if in.Group != "" {
		if f.Group, err = ParseGroupID(in.Group); err != nil {
			return nil, problem.New(problem.Invalid, "`group` is not the id of a group.")
		}
	}
	people, err := r.People(ctx, c, f, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listMembersOutput{}
	people, out.Body.Next = web.Cut(people, in.Limit, func(p Person) PersonID { return p.ID })
	out.Body.Members = make([]MemberView, len(people))
	for i, p := range people {
		out.Body.Members[i] = viewMember(p)
	}
	return out, nil
}

type memberOutput struct {
	ETag string `header:"ETag"`
	Body MemberView
}

func (r *Room) getMember(ctx context.Context, c tenantdb.Caller, in *memberPath) (*memberOutput, error) {
	p, err := r.Person(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return &memberOutput{web.ETag(p.Version), viewMember(p)}, nil
}

type updateMemberInput struct {
	ID PersonID `path:"id" doc:"The member_id"`
	web.IfMatch
	Body struct {
		Name  *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
		Roles *[]string `json:"roles,omitempty" maxItems:"50" doc:"All roles of their own from now on"`
	}
}

type changedMemberOutput struct {
	ETag string `header:"ETag"`
	Body struct {
		MemberView
		KeysKept int `json:"keys_kept" doc:"How many keys in force the member made, if the change took something from them: keys keep what they have until you revoke them"`
	}
}

func changedMember(p ChangedPerson, err error) (*changedMemberOutput, error) {
	if err != nil {
		return nil, err
	}
	out := &changedMemberOutput{ETag: web.ETag(p.Version)}
	out.Body.MemberView, out.Body.KeysKept = viewMember(p.Person), p.KeysKept
	return out, nil
}

func (r *Room) updateMember(ctx context.Context, c tenantdb.Caller, in *updateMemberInput) (*changedMemberOutput, error) {
	return changedMember(r.UpdatePerson(ctx, c, in.ID, in.IfMatch.IfMatch, PersonChange{in.Body.Name, in.Body.Roles}))
}

func (r *Room) memberState(change func(context.Context, tenantdb.Caller, PersonID) (ChangedPerson, error)) web.Func[tenantdb.Caller, memberPath, changedMemberOutput] {
	return func(ctx context.Context, c tenantdb.Caller, in *memberPath) (*changedMemberOutput, error) {
		return changedMember(change(ctx, c, in.ID))
	}
}

type offboardingOutput struct {
	Body struct {
		ID        PersonID       `json:"member_id" format:"uuid"`
		RemovedBy string         `json:"removed_by" doc:"Kind and id of who did it"`
		RemovedAt time.Time      `json:"removed_at"`
		RequestID string         `json:"request_id" doc:"Of the request that did it: its entry of the log says the same"`
		Ended     map[string]int `json:"ended" doc:"How much ended, by what it was"`
	}
}

func offboarding(o Report, err error) (*offboardingOutput, error) {
	if err != nil {
		return nil, err
	}
	out := &offboardingOutput{}
	b := &out.Body
	b.ID, b.RemovedBy, b.RemovedAt, b.RequestID, b.Ended = o.Person, o.RemovedBy, o.RemovedAt.UTC(), o.Request.String(), o.Ended
	return out, nil
}

func (r *Room) removeMember(ctx context.Context, c tenantdb.Caller, in *memberPath) (*offboardingOutput, error) {
	return offboarding(r.Remove(ctx, c, in.ID))
}

func (r *Room) getOffboarding(ctx context.Context, c tenantdb.Caller, in *memberPath) (*offboardingOutput, error) {
	return offboarding(r.Offboarding(ctx, c, in.ID))
}

type meOutput struct {
	ETag string `header:"ETag"`
	Body struct {
		MemberView
		TenantID     tenantdb.TenantID `json:"tenant_id"`
		AllRoles     []string          `json:"all_roles" nullable:"false" doc:"Their own and those of their groups"`
		Capabilities []string          `json:"capabilities" nullable:"false" doc:"Of all their roles; * is everything. A session may have fewer"`
		NeedsMFA     bool              `json:"needs_mfa"`
	}
}

func (r *Room) getMe(ctx context.Context, c tenantdb.Caller, _ *web.None) (*meOutput, error) {
	p, s, err := r.Me(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &meOutput{ETag: web.ETag(p.Version)}
	b := &out.Body
	b.MemberView, b.TenantID, b.AllRoles, b.Capabilities, b.NeedsMFA = viewMember(p), c.Tenant(), orEmpty(s.Roles), orEmpty(s.Capabilities), s.NeedsMFA
	return out, nil
}

type updateMeInput struct {
	web.IfMatch
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"200"`
	}
}

func (r *Room) updateMe(ctx context.Context, c tenantdb.Caller, in *updateMeInput) (*memberOutput, error) {
	p, err := r.RenameMe(ctx, c, in.IfMatch.IfMatch, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &memberOutput{web.ETag(p.Version), viewMember(p)}, nil
}
