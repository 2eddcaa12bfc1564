package apikey

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (r *Room) ownerRoutes(api *web.API[tenantdb.Caller]) {
	op := func(id, method, path, scope, summary, description string) web.Op {
		return web.Op{ID: id, Method: method, Path: "/api/v1/key-owners" + path, Scope: scope, Summary: summary, Description: description, Tags: []string{"Keys"}}
	}
	web.Handle(api, op("list-key-owners", http.MethodGet, "", "keys:read", "List those whose keys share limits", "By name."), r.listOwners)
	web.Handle(api, op("get-key-owner", http.MethodGet, "/{owner}", "keys:read", "Get what the keys of one owner share", ""), r.getOwner)
	put := op("put-key-owner", http.MethodPut, "/{owner}", "keys:write", "Say what the keys of one owner share",
		"Their rate limits, counted together with every key's own, and how many keys may be in force. It holds for every use that comes after the answer.")
	put.Fails = fails(map[int]string{http.StatusPreconditionFailed: changedSince})
	web.Handle(api, put, r.putOwner)
	web.Handle(api, op("delete-key-owner", http.MethodDelete, "/{owner}", "keys:write", "Let the keys of one owner share nothing", "The keys stay. The answer is what they shared."), r.deleteOwner)
}

// OwnerView is a KeyOwner as clients see it.
type OwnerView struct {
	Owner      string         `json:"owner"`
	MaxKeys    *int           `json:"max_keys" nullable:"true" doc:"How many keys may be in force; null is the installation's default"`
	RateLimits []RateLimit    `json:"rate_limits"`
	Metadata   map[string]any `json:"metadata"`
	CreatedAt  time.Time      `json:"created_at"`
	Version    int64          `json:"version" doc:"Counts the changes; the ETag"`
}

func viewOwner(o KeyOwner) OwnerView {
	return OwnerView{o.Owner, o.MaxKeys, orEmpty(o.RateLimits), metadata(Key{Metadata: o.Metadata}), o.CreatedAt.UTC(), o.Version}
}

type (
	ownerInput struct {
		Owner string `path:"owner" minLength:"1" maxLength:"200" doc:"In your own words"`
	}
	ownerOutput struct {
		ETag string `header:"ETag"`
		Body OwnerView
	}
	putOwnerInput struct {
		Owner string `path:"owner" minLength:"1" maxLength:"200" doc:"In your own words"`
		web.IfMatch
		Body struct {
			MaxKeys    *int           `json:"max_keys,omitempty" minimum:"1" maximum:"1000000" doc:"How many keys may be in force; the installation's default if left out"`
			RateLimits []RateLimit    `json:"rate_limits,omitempty" nullable:"true" maxItems:"8"`
			Metadata   map[string]any `json:"metadata,omitempty" nullable:"true"`
		}
	}
	listOwnersOutput struct {
		Body struct {
			Owners []OwnerView `json:"owners"`
			web.Next
		}
	}
)

func (r *Room) getOwner(ctx context.Context, c tenantdb.Caller, in *ownerInput) (*ownerOutput, error) {
	o, err := r.GetOwner(ctx, c, in.Owner)
	if err != nil {
		return nil, err
	}
	return &ownerOutput{web.ETag(o.Version), viewOwner(o)}, nil
}

func (r *Room) putOwner(ctx context.Context, c tenantdb.Caller, in *putOwnerInput) (*ownerOutput, error) {
	o, err := r.PutOwner(ctx, c, in.IfMatch.IfMatch, KeyOwner{Owner: in.Owner, MaxKeys: in.Body.MaxKeys, RateLimits: in.Body.RateLimits, Metadata: in.Body.Metadata})
	if err != nil {
		return nil, err
	}
	return &ownerOutput{web.ETag(o.Version), viewOwner(o)}, nil
}

func (r *Room) deleteOwner(ctx context.Context, c tenantdb.Caller, in *ownerInput) (*ownerOutput, error) {
	o, err := r.DeleteOwner(ctx, c, in.Owner)
	if err != nil {
		return nil, err
	}
	return &ownerOutput{web.ETag(o.Version), viewOwner(o)}, nil
}

type ownerPosition struct {
	Owner string `json:"o"`
}

func (r *Room) listOwners(ctx context.Context, c tenantdb.Caller, in *struct{ web.Page }) (*listOwnersOutput, error) {
	after, _, err := web.After[ownerPosition](in.Page)
	if err != nil {
		return nil, err
	}
	owners, err := r.ListOwners(ctx, c, after.Owner, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listOwnersOutput{}
	owners, out.Body.Next = web.Cut(owners, in.Limit, func(o KeyOwner) ownerPosition { return ownerPosition{o.Owner} })
	out.Body.Owners = make([]OwnerView, len(owners))
	for i, o := range owners {
		out.Body.Owners[i] = viewOwner(o)
	}
	return out, nil
}

// isRefused reports whether a credential was refused for itself, and not for what could not be found out.
func isRefused(err error) bool { return problem.Is(err, problem.Unauthenticated) }
