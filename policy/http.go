package policy

import (
	"context"
	"net/http"
	"slices"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	web.Handle(api, web.Op{
		ID: "list-scopes", Method: http.MethodGet, Path: "/api/v1/scopes", Tags: []string{"Scopes"},
		Summary:     "List the scopes",
		Description: "The built-in scopes, and then your organisation's own.",
	}, r.list)
	web.Handle(api, web.Op{
		ID: "add-scope", Method: http.MethodPost, Path: "/api/v1/scopes", Tags: []string{"Scopes"}, Status: http.StatusCreated,
		Summary:     "Add a scope of your own",
		Description: "A scope is there for good: agents may hold it and services may ask for it.",
		Scope:       "scopes:write", Idempotent: true,
	}, r.add)
}

type listInput struct{ web.Page }

type listOutput struct {
	Body struct {
		Scopes        []Scope `json:"scopes"`
		PolicyVersion string  `json:"policy_version" doc:"Names the built-in catalogue and the rules that decide; every decision carries it"`
		web.Next
	}
}

func (r *Room) list(ctx context.Context, c tenantdb.Caller, in *listInput) (*listOutput, error) {
	after, resumed, err := web.After[string](in.Page)
	if err != nil {
		return nil, err
	}
	list, err := r.List(ctx, c)
	if err != nil {
		return nil, err
	}
	scopes := list.All()
	if resumed {
		scopes = scopes[slices.IndexFunc(scopes, func(s Scope) bool { return s.Name == after })+1:]
	}
	out := &listOutput{}
	out.Body.Scopes, out.Body.Next = web.Cut(scopes, in.Limit, func(s Scope) string { return s.Name })
	out.Body.PolicyVersion = Version
	return out, nil
}

type addInput struct {
	Body struct {
		Name        string `json:"name" maxLength:"64" doc:"verb:noun in lower case, such as approve:invoices"`
		Risk        Risk   `json:"risk" enum:"low,medium,high"`
		Description string `json:"description" minLength:"1" maxLength:"500" doc:"What an agent that has it may do, for people"`
	}
}

type addOutput struct{ Body Scope }

func (r *Room) add(ctx context.Context, c tenantdb.Caller, in *addInput) (*addOutput, error) {
	s, err := r.Add(ctx, c, Scope{Name: in.Body.Name, Risk: in.Body.Risk, Description: in.Body.Description})
	if err != nil {
		return nil, err
	}
	return &addOutput{s}, nil
}
