package scim

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	type (
		named struct {
			ID string `path:"id"`
		}
		query struct {
			Filter  string `query:"filter" doc:"Comparisons by eq, joined by and"`
			Start   string `query:"startIndex" doc:"From 1"`
			Count   string `query:"count" doc:"At most 200"`
			Without string `query:"excludedAttributes" doc:"members leaves them out"`
		}
	)
	op := func(id, method, path, summary string) web.Op {
		o := web.Op{
			ID: "scim-" + id, Method: method, Path: "/scim/v2" + path, Summary: summary, Tags: []string{"SCIM"}, Scope: "scim:write", Produces: media, Refusal: refusal,
			Description: "SCIM 2.0 (RFC 7643, RFC 7644), for directories.", MaxBody: 4 << 20,
		}
		switch method {
		case http.MethodPost:
			o.Status = http.StatusCreated
		case http.MethodDelete:
			o.Status, o.Produces = http.StatusNoContent, ""
		}
		return o
	}
	web.HandleRaw[query, web.None](api, op("list-users", http.MethodGet, "/Users", "Find users"), r.handle(r.listUsers))
	web.HandleRaw[web.None, web.None](api, op("create-user", http.MethodPost, "/Users", "Make a user"), r.handle(r.createUser))
	web.HandleRaw[named, web.None](api, op("get-user", http.MethodGet, "/Users/{id}", "Get a user"), r.handle(r.getUser))
	web.HandleRaw[named, web.None](api, op("replace-user", http.MethodPut, "/Users/{id}", "Replace a user"), r.handle(r.putUser))
	web.HandleRaw[named, web.None](api, op("change-user", http.MethodPatch, "/Users/{id}", "Change a user"), r.handle(r.patchUser))
	web.HandleRaw[named, web.None](api, op("delete-user", http.MethodDelete, "/Users/{id}", "End a user's membership"), r.handle(r.deleteUser))
	web.HandleRaw[query, web.None](api, op("list-groups", http.MethodGet, "/Groups", "Find groups"), r.handle(r.listAllGroups))
	web.HandleRaw[web.None, web.None](api, op("create-group", http.MethodPost, "/Groups", "Make a group"), r.handle(r.createGroup))
	web.HandleRaw[named, web.None](api, op("get-group", http.MethodGet, "/Groups/{id}", "Get a group"), r.handle(r.getGroup))
	web.HandleRaw[named, web.None](api, op("replace-group", http.MethodPut, "/Groups/{id}", "Replace a group"), r.handle(r.putGroup))
	web.HandleRaw[named, web.None](api, op("change-group", http.MethodPatch, "/Groups/{id}", "Change a group"), r.handle(r.patchGroup))
	web.HandleRaw[named, web.None](api, op("delete-group", http.MethodDelete, "/Groups/{id}", "End a group"), r.handle(r.deleteGroup))
	web.HandleRaw[web.None, web.None](api, op("provider", http.MethodGet, "/ServiceProviderConfig", "What of SCIM is spoken here"), r.handle(r.provider))
	for _, kind := range []struct{ id, path, summary string }{{"types", "/ResourceTypes", "Types of resources"}, {"schemas", "/Schemas", "Schemas of resources"}} {
		web.HandleRaw[web.None, web.None](api, op("list-"+kind.id, http.MethodGet, kind.path, kind.summary), r.handle(r.described(kind.path[1:])))
		web.HandleRaw[named, web.None](api, op("get-"+kind.id, http.MethodGet, kind.path+"/{id}", kind.summary), r.handle(r.described(kind.path[1:])))
	}
	web.Handle(api, web.Op{
		ID: "adopt-person", Method: http.MethodPut, Path: "/api/v1/people/{person}/directory", Tags: []string{"SCIM"}, Scope: "members:write",
		Summary: "Let the directory decide about a person, or no more", Description: "A directory decides about those whom it made. About somebody who was a member before it does once you let it: SCIM may then rename, suspend and remove them.",
	}, r.adopt)
}

// call is a request of a directory.
type call struct {
	*http.Request
	w      http.ResponseWriter
	caller tenantdb.Caller
}

// handle is an operation of SCIM: for keys alone, since a directory has no fingers.
func (r *Room) handle(fn func(call) error) web.RawFunc[tenantdb.Caller] {
	return func(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, _ web.RequestMeta) error {
		w.Header().Set("Cache-Control", "no-store")
		if c.Actor().Kind != audit.ActorKey {
			return problem.New(problem.Denied, "SCIM is spoken with an API key that has scim:write.")
		}
		return asProblem(fn(call{req, w, c}))
	}
}

// refusal writes a failure as SCIM has it.
func refusal(p *problem.Error) (string, []byte) {
	out := map[string]any{"schemas": []string{schemaError}, "status": strconv.Itoa(p.HTTPStatus()), "detail": p.Detail}
	var e *Error
	if errors.As(p, &e) && e.Type != "" {
		out["scimType"] = e.Type
	}
	b, err := json.Marshal(out)
	if err != nil {
		return media, nil
	}
	return media, b
}

// body reads a JSON object, with its names in lower case.
func (c call) body() (map[string]any, error) {
	kind, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || kind != media && kind != "application/json" {
		return nil, &Error{http.StatusUnsupportedMediaType, "", "Send " + media + "."}
	}
	b, err := io.ReadAll(c.Body)
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, &Error{http.StatusRequestEntityTooLarge, "", "The body is too large."}
		}
		return nil, err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, &Error{http.StatusBadRequest, "invalidSyntax", "The body is no JSON."}
	}
	m, ok := Lower(v).(map[string]any)
	if !ok {
		return nil, &Error{http.StatusBadRequest, "invalidSyntax", "The body is no JSON object."}
	}
	return m, nil
}

// operations reads a PATCH.
func (c call) operations() ([]Operation, error) {
	m, err := c.body()
	if err != nil {
		return nil, err
	}
	list, _ := m["operations"].([]any)
	ops := make([]Operation, len(list))
	for i, one := range list {
		o, _ := one.(map[string]any)
		ops[i].Op, _ = o["op"].(string)
		ops[i].Path, _ = o["path"].(string)
		ops[i].Value = o["value"]
	}
	return ops, nil
}

func (c call) answer(status int, v any, etag, location string) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", media)
	if etag != "" {
		h.Set("ETag", etag)
	}
	if status == http.StatusCreated {
		h.Set("Location", location)
	}
	c.w.WriteHeader(status)
	_, err = c.w.Write(b)
	return err
}

// page is which results are asked for.
func (c call) page() (f Filter, start, count int, err error) {
	q := c.URL.Query()
	if s := q.Get("filter"); s != "" {
		if f, err = ParseFilter(s); err != nil {
			return nil, 0, 0, err
		}
	}
	number := func(name string, otherwise, least, most int) int {
		n, bad := strconv.Atoi(q.Get(name))
		if q.Get(name) == "" {
			n, bad = otherwise, nil
		}
		if bad != nil {
			err = errValue("%s is a number.", name)
		}
		return max(least, min(n, most))
	}
	return f, number("startIndex", 1, 1, 1<<30), number("count", 100, 0, 200), err
}

// listing is a page of results.
type listing struct {
	Schemas []string `json:"schemas"`
	Total   int      `json:"totalResults"`
	Start   int      `json:"startIndex"`
	Count   int      `json:"itemsPerPage"`
	Found   []any    `json:"Resources"`
}

func list(found []any, total, start int) listing {
	if found == nil {
		found = []any{}
	}
	return listing{[]string{schemaList}, total, start, len(found), found}
}

// meta is what every resource says of itself.
type meta struct {
	Type     string     `json:"resourceType"`
	Created  *time.Time `json:"created,omitempty"`
	Location string     `json:"location"`
	Version  string     `json:"version,omitempty"`
}

// userView is a user on the wire.
type userView struct {
	Schemas  []string          `json:"schemas"`
	ID       string            `json:"id"`
	External string            `json:"externalId,omitempty"`
	UserName string            `json:"userName"`
	Name     map[string]string `json:"name"`
	Display  string            `json:"displayName"`
	Active   bool              `json:"active"`
	Emails   []mailView        `json:"emails"`
	Groups   []ref             `json:"groups,omitempty"`
	Meta     meta              `json:"meta"`
}

type mailView struct {
	Value   string `json:"value"`
	Type    string `json:"type"`
	Primary bool   `json:"primary"`
}

func (r *Room) userView(m member) userView {
	v := userView{
		Schemas: []string{schemaUser}, ID: m.id.String(), External: m.ext, UserName: m.address, Name: map[string]string{"formatted": m.name}, Display: m.name, Active: m.active(),
		Emails: []mailView{{m.address, "work", true}}, Meta: meta{"User", &m.created, r.location("Users", m.id.String()), tag(m.version)},
	}
	for _, g := range m.groups {
		g.Ref, g.Type = r.location("Groups", g.Value), "direct"
		v.Groups = append(v.Groups, g)
	}
	return v
}

func (r *Room) giveUser(c call, status int, m member, err error) error {
	if err != nil {
		return err
	}
	return c.answer(status, r.userView(m), tag(m.version), r.location("Users", m.id.String()))
}

func (r *Room) listUsers(c call) error {
	f, start, count, err := c.page()
	if err != nil {
		return err
	}
	found, total, err := r.findUsers(c.Context(), c.caller, f, start, count)
	if err != nil {
		return err
	}
	var all []any
	for _, m := range found {
		all = append(all, r.userView(m))
	}
	return c.answer(http.StatusOK, list(all, total, start), "", "")
}

func (r *Room) createUser(c call) error {
	a, err := c.body()
	if err != nil {
		return err
	}
	w, err := want(a, member{})
	if err != nil {
		return err
	}
	m, err := r.provision(c.Context(), c.caller, w)
	return r.giveUser(c, http.StatusCreated, m, err)
}

// person reads the id of a user in the path.
func (c call) person() (p PersonID, err error) {
	if p.UnmarshalText([]byte(c.PathValue("id"))) != nil {
		return p, &Error{http.StatusNotFound, "", "There is no such user."}
	}
	return p, nil
}

func (r *Room) getUser(c call) error {
	p, err := c.person()
	if err != nil {
		return err
	}
	var m member
	err = r.read(c.Context(), c.caller, "getUser", func(tx *tenantdb.ReadTx) error {
		m, err = r.visible(c.Context(), tx, p)
		return err
	})
	return r.giveUser(c, http.StatusOK, m, err)
}

func (r *Room) putUser(c call) error {
	a, err := c.body()
	if err != nil {
		return err
	}
	return r.reviseUser(c, func(before member) (wanted, error) {
		if before.ext != "" && a["externalid"] == nil {
			a["externalid"] = before.ext // what is not said stays: directories leave out what they do not care for
		}
		return want(a, before)
	})
}

func (r *Room) patchUser(c call) error {
	ops, err := c.operations()
	if err != nil {
		return err
	}
	return r.reviseUser(c, func(before member) (wanted, error) {
		a := before.attributes()
		if err := Apply(a, ops); err != nil {
			return wanted{}, err
		}
		return want(a, before)
	})
}

func (r *Room) reviseUser(c call, says func(member) (wanted, error)) error {
	p, err := c.person()
	if err != nil {
		return err
	}
	m, err := r.revise(c.Context(), c.caller, p, c.Header.Get("If-Match"), says)
	return r.giveUser(c, http.StatusOK, m, err)
}

func (r *Room) deleteUser(c call) error {
	p, err := c.person()
	if err != nil {
		return err
	}
	if err := r.depart(c.Context(), c.caller, p, c.Header.Get("If-Match")); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// groupView is a group on the wire.
type groupView struct {
	Schemas  []string `json:"schemas"`
	ID       string   `json:"id"`
	External string   `json:"externalId,omitempty"`
	Display  string   `json:"displayName"`
	Members  []ref    `json:"members,omitempty"`
	Meta     meta     `json:"meta"`
}

func (r *Room) groupView(g group) groupView {
	v := groupView{
		Schemas: []string{schemaGroup}, ID: g.id.String(), External: g.ext, Display: g.name, Meta: meta{"Group", &g.created, r.location("Groups", g.id.String()), tag(g.version)},
	}
	for _, p := range g.members {
		v.Members = append(v.Members, ref{Value: p.String(), Ref: r.location("Users", p.String()), Type: "User"})
	}
	return v
}

func (r *Room) giveGroup(c call, status int, g group, err error) error {
	if err != nil {
		return err
	}
	if c.withoutMembers() {
		g.members = nil
	}
	return c.answer(status, r.groupView(g), tag(g.version), r.location("Groups", g.id.String()))
}

func (c call) withoutMembers() bool {
	return strings.Contains(strings.ToLower(c.URL.Query().Get("excludedAttributes")), "members")
}

func (r *Room) listAllGroups(c call) error {
	f, start, count, err := c.page()
	if err != nil {
		return err
	}
	found, total, err := r.findGroups(c.Context(), c.caller, f, start, count, !c.withoutMembers())
	if err != nil {
		return err
	}
	var all []any
	for _, g := range found {
		all = append(all, r.groupView(g))
	}
	return c.answer(http.StatusOK, list(all, total, start), "", "")
}

func (r *Room) createGroup(c call) error {
	a, err := c.body()
	if err != nil {
		return err
	}
	g, err := wantGroup(a)
	if err != nil {
		return err
	}
	g, err = r.makeGroup(c.Context(), c.caller, g)
	return r.giveGroup(c, http.StatusCreated, g, err)
}

// group reads the id of a group in the path.
func (c call) group() (org.GroupID, error) {
	g, err := org.ParseGroupID(c.PathValue("id"))
	if err != nil {
		return g, &Error{http.StatusNotFound, "", "There is no such group."}
	}
	return g, nil
}

func (r *Room) getGroup(c call) error {
	which, err := c.group()
	if err != nil {
		return err
	}
	var g group
	err = r.read(c.Context(), c.caller, "getGroup", func(tx *tenantdb.ReadTx) error {
		g, err = loadGroup(c.Context(), tx, which, !c.withoutMembers())
		return err
	})
	return r.giveGroup(c, http.StatusOK, g, err)
}

func (r *Room) putGroup(c call) error {
	a, err := c.body()
	if err != nil {
		return err
	}
	return r.reviseOneGroup(c, func(group) (group, error) { return wantGroup(a) })
}

func (r *Room) patchGroup(c call) error {
	ops, err := c.operations()
	if err != nil {
		return err
	}
	return r.reviseOneGroup(c, func(before group) (group, error) {
		a := before.attributes()
		if err := Apply(a, ops); err != nil {
			return group{}, err
		}
		return wantGroup(a)
	})
}

func (r *Room) reviseOneGroup(c call, says func(group) (group, error)) error {
	which, err := c.group()
	if err != nil {
		return err
	}
	g, err := r.reviseGroup(c.Context(), c.caller, which, c.Header.Get("If-Match"), says)
	return r.giveGroup(c, http.StatusOK, g, err)
}

func (r *Room) deleteGroup(c call) error {
	which, err := c.group()
	if err != nil {
		return err
	}
	if err := r.endGroup(c.Context(), c.caller, which, c.Header.Get("If-Match")); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
