package apikey

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	op := func(id, method, path, scope, summary, description string) web.Op {
		return web.Op{
			ID: id, Method: method, Path: "/api/v1/keys" + path, Scope: scope, Summary: summary, Description: description, Tags: []string{"Keys"},
		}
	}
	create := op("create-key", http.MethodPost, "", "keys:write", "Make a key",
		"The key is in the answer, and nowhere else: it is shown once. It can do at most what yours can.")
	create.Status, create.Idempotent = http.StatusCreated, true
	web.Handle(api, create, r.create)
	web.Handle(api, op("list-keys", http.MethodGet, "", "keys:read", "List the keys", "Newest first."), r.list)
	web.Handle(api, op("get-key", http.MethodGet, "/{id}", "keys:read", "Get a key", "What is known of it; the key itself is not."), r.get)
	web.Handle(api, op("update-key", http.MethodPatch, "/{id}", "keys:write", "Change a key",
		"Its name, its metadata, and what narrows it. What it may do, and when it expires, never changes. Fields that are absent or null stay."), r.update)
	// Without a scope: a key may revoke itself, whatever it may do.
	web.Handle(api, op("revoke-key", http.MethodPost, "/{id}/revoke", "", "Revoke a key for good",
		"No request that is sent after the answer is accepted with it, on any server. Needs `keys:write`, but for the key itself."), r.end(r.Revoke))
	web.Handle(api, op("disable-key", http.MethodPost, "/{id}/disable", "keys:write", "Stop a key for now", ""), r.end(r.Disable))
	web.Handle(api, op("enable-key", http.MethodPost, "/{id}/enable", "keys:write", "Let a stopped key work again", ""), r.end(r.Enable))
}

// View is a key as clients see it.
type View struct {
	KeyID        string              `json:"key_id" doc:"Public: it names the key and authenticates nobody"`
	Prefix       string              `json:"prefix" doc:"The first eight characters, for display"`
	Hint         string              `json:"hint" doc:"The key without its secret, to tell keys apart"`
	Name         string              `json:"name"`
	Kind         Kind                `json:"kind" enum:"owner,service"`
	Live         bool                `json:"live" doc:"False for a key that is for trying; only its prefix differs"`
	Status       Status              `json:"status" enum:"active,disabled,expired,revoked"`
	Scopes       []string            `json:"scopes" doc:"Capabilities: what the key may do; * is everything"`
	Resources    []string            `json:"resources" doc:"What it may ask about; empty is anything"`
	Owners       []tenantdb.TenantID `json:"owners" doc:"Whose agents it may verify, by organisation; empty is anybody's"`
	Metadata     map[string]any      `json:"metadata"`
	MonthlyQuota *int64              `json:"monthly_quota" nullable:"true" doc:"A service key's verifications a month; null is unlimited, and for owner keys, which spend the organisation's"`
	CreatedAt    time.Time           `json:"created_at"`
	ExpiresAt    *time.Time          `json:"expires_at" nullable:"true" doc:"Null is never"`
	DisabledAt   *time.Time          `json:"disabled_at" nullable:"true"`
	RevokedAt    *time.Time          `json:"revoked_at" nullable:"true"`
	Version      int64               `json:"version" doc:"Counts the changes; the ETag"`
}

func (r *Room) view(k Key) View {
	return View{
		KeyID: k.ID, Prefix: k.Prefix(), Hint: k.Hint, Name: k.Name, Kind: k.Kind, Live: k.Live, Status: k.Status(r.cfg.Now()),
		Scopes: orEmpty(k.Scopes), Resources: orEmpty(k.Resources), Owners: orEmpty(k.Owners), Metadata: metadata(k), MonthlyQuota: k.MonthlyQuota,
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: orNull(k.ExpiresAt.UTC()), DisabledAt: orNull(k.DisabledAt.UTC()), RevokedAt: orNull(k.RevokedAt.UTC()),
		Version: k.Version,
	}
}

type keyOutput struct {
	ETag string `header:"ETag"`
	Body View
}

func (r *Room) output(k Key) *keyOutput { return &keyOutput{web.ETag(k.Version), r.view(k)} }

type createInput struct{ Body Wanted }

type createOutput struct {
	Location string `header:"Location"`
	ETag     string `header:"ETag"`
	Body     struct {
		Key string `json:"key" doc:"The key itself. It is shown here and never again."`
		View
	}
}

func (r *Room) create(ctx context.Context, c tenantdb.Caller, in *createInput) (*createOutput, error) {
	n, err := in.Body.key()
	if err != nil {
		return nil, err
	}
	made, err := r.Create(ctx, c, n)
	if err != nil {
		return nil, err
	}
	out := &createOutput{Location: "/api/v1/keys/" + made.ID, ETag: web.ETag(made.Version)}
	out.Body.Key, out.Body.View = made.Secret.Expose(), r.view(made.Key)
	return out, nil
}

type listInput struct {
	web.Page
	Kind   Kind   `query:"kind" enum:"owner,service" doc:"Only keys of this kind"`
	Status Status `query:"status" enum:"active,disabled,expired,revoked" doc:"Only keys in this state"`
}

type listOutput struct {
	Body struct {
		Keys []View `json:"keys"`
		web.Next
	}
}

func (r *Room) list(ctx context.Context, c tenantdb.Caller, in *listInput) (*listOutput, error) {
	after, resumed, err := web.After[Position](in.Page)
	if err != nil {
		return nil, err
	}
	from := &after
	if !resumed {
		from = nil
	}
	keys, err := r.List(ctx, c, Filter{in.Kind, in.Status}, from, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	keys, out.Body.Next = web.Cut(keys, in.Limit, func(k Key) Position { return Position{k.CreatedAt.UTC(), k.ID} })
	out.Body.Keys = make([]View, len(keys))
	for i, k := range keys {
		out.Body.Keys[i] = r.view(k)
	}
	return out, nil
}

type oneInput struct {
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"The key_id"`
}

func (r *Room) get(ctx context.Context, c tenantdb.Caller, in *oneInput) (*keyOutput, error) {
	k, err := r.Get(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return r.output(k), nil
}

type updateInput struct {
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"The key_id"`
	web.IfMatch
	Body Wish
}

func (r *Room) update(ctx context.Context, c tenantdb.Caller, in *updateInput) (*keyOutput, error) {
	ch, err := in.Body.change()
	if err != nil {
		return nil, err
	}
	k, err := r.Update(ctx, c, in.ID, in.IfMatch.IfMatch, ch)
	if err != nil {
		return nil, err
	}
	return r.output(k), nil
}

// end is the handler of an operation that takes a key and nothing else.
func (r *Room) end(fn func(context.Context, tenantdb.Caller, string) (Key, error)) web.Func[tenantdb.Caller, oneInput, keyOutput] {
	return func(ctx context.Context, c tenantdb.Caller, in *oneInput) (*keyOutput, error) {
		k, err := fn(ctx, c, in.ID)
		if err != nil {
			return nil, err
		}
		return r.output(k), nil
	}
}
