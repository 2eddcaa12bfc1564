package apikey

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
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
	create.Fails = fails(map[int]string{
		http.StatusForbidden: "Your key lacks `keys:write`, or the new key could do more than yours", http.StatusConflict: fullOwner,
	})
	web.Handle(api, create, r.create)
	web.Handle(api, op("list-keys", http.MethodGet, "", "keys:read", "List the keys", "Newest first."), r.listed)
	web.Handle(api, op("get-key", http.MethodGet, "/{id}", "keys:read", "Get a key", "What is known of it; the key itself is not."), r.get)
	update := op("update-key", http.MethodPatch, "/{id}", "keys:write", "Change a key",
		"Its name, its metadata, and what narrows it. What it may do, and when it expires, never changes. Fields that are absent stay, and so do those that are null, but `max_uses` and `monthly_quota`: of these null takes the limit away.")
	update.Fails = fails(map[int]string{http.StatusPreconditionFailed: changedSince})
	web.Handle(api, update, r.update)
	// Without a scope: a key may revoke itself, whatever it may do.
	web.Handle(api, op(revokeOperation, http.MethodPost, "/{id}/revoke", "", "Revoke a key for good",
		"It ends alone: `children_left` says how many keys that came from it, which whoever stole it may have made, are still in force, and `{\"children\": true}` ends those too. "+
			"No request that is sent after the answer is accepted with what has ended, on any server. Needs `keys:write`, but for an owner or service key that revokes itself; a data key proves nothing here, so whoever finds one tells you."), r.revoke)
	web.Handle(api, op("disable-key", http.MethodPost, "/{id}/disable", "keys:write", "Stop a key for now", ""), r.changed(r.Disable))
	web.Handle(api, op("enable-key", http.MethodPost, "/{id}/enable", "keys:write", "Let a stopped key work again", ""), r.changed(r.Enable))
	r.moreRoutes(api)
}

// When operations fail, where a client should know.
const (
	fullOwner    = "The owner has as many keys in force as it may: revoke one first"
	changedSince = "It is not the version any more that If-Match names: read it again"
)

// maxImportBody has room for the most keys, each with as much as its entry in the log takes, and the names of fields.
const maxImportBody = MostImported * (audit.MaxPrivate + 4<<10)

// fails is when an operation about keys fails: in its own ways, and in one that all have.
func fails(own map[int]string) map[int]string {
	own[http.StatusTooManyRequests] = "A rate limit of your own key is reached, and Retry-After says until when; without that, its uses are spent"
	return own
}

// moreRoutes registers what is done with keys beyond their making and ending.
func (r *Room) moreRoutes(api *web.API[tenantdb.Caller]) {
	rotate := web.Op{
		ID: "rotate-key", Method: http.MethodPost, Path: "/api/v1/keys/{id}/rotate", Scope: "keys:write", Summary: "Replace a key by a new one", Tags: []string{"Keys"},
		Description: "The new one can do what the old one can, and is counted with it. It is in the answer, and nowhere else. The old one goes on working for the overlap, if there is one.",
		Status:      http.StatusCreated, Idempotent: true,
		Fails: fails(map[int]string{http.StatusConflict: "The key was rotated before, or has ended"}),
	}
	web.Handle(api, rotate, r.rotate)
	web.Handle(api, web.Op{
		ID: "import-keys", Method: http.MethodPost, Path: "/api/v1/keys/import", Scope: "keys:write", Summary: "Take over keys that were made elsewhere", Tags: []string{"Keys"},
		Description: "By the SHA-256 of each: nobody needs to see them. They become data keys, for `POST /api/v1/keys/verify`. All or none; one that was imported before stays as it is.",
		Status:      http.StatusCreated, Fails: fails(map[int]string{http.StatusConflict: fullOwner}), MaxBody: maxImportBody,
	}, r.importKeys)
	web.Handle(api, web.Op{
		ID: "list-key-risks", Method: http.MethodGet, Path: "/api/v1/keys/risks", Scope: "keys:read", Summary: "List keys that need looking after", Tags: []string{"Keys"},
		Description: "Newest first, each with what is risky about it, the worst of it first. A page looks at `limit` keys and leaves out those without such a risk, so it may hold few, or none, and still not be the last.",
	}, r.listRisks)
	r.ownerRoutes(api)
	r.alertRoutes(api)
}

type (
	rotateInput struct {
		ID   string `path:"id" minLength:"1" maxLength:"64" doc:"The key_id"`
		Body *struct {
			Overlap int64 `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"How long the old key goes on working: 0, at once, to 30 days"`
		} `required:"false"`
	}
	rotateOutput struct {
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     struct {
			MadeView
			OldWorksUntil time.Time `json:"old_works_until" doc:"Until when the key that was rotated works: past if there is no overlap"`
			Ended         *string   `json:"ended" nullable:"true" doc:"The generation before, which was revoked just now: two live at most. Null if none was left"`
		}
	}
	importInput struct {
		Body struct {
			Keys []ForeignKey `json:"keys" minItems:"1" maxItems:"500"`
		}
	}
	importOutput struct {
		Body struct {
			Keys []ImportedView `json:"keys" doc:"In the order of the request"`
		}
	}
	risksInput struct {
		web.Page
		Severity Severity `query:"severity" enum:"low,medium,high,critical" doc:"Only keys with a risk that matters at least so much"`
	}
	risksOutput struct {
		Body struct {
			Keys []RiskView `json:"keys"`
			web.Next
		}
	}
)

// ImportedView is what became of one key.
type ImportedView struct {
	KeyID     string     `json:"key_id"`
	Status    string     `json:"status" enum:"imported,there" doc:"there: it had been imported before"`
	ExpiresAt *time.Time `json:"expires_at" nullable:"true" doc:"Null is never"`
	ExpiryCut bool       `json:"expiry_cut" doc:"It would expire later, but for your own key: no key makes one that outlasts it"`
}

// RiskView is a key with its risks.
type RiskView struct {
	SeenView
	Risks []Risk `json:"risks" doc:"The worst first"`
}

func (r *Room) rotate(ctx context.Context, c tenantdb.Caller, in *rotateInput) (*rotateOutput, error) {
	overlap := time.Duration(0)
	if in.Body != nil {
		overlap = time.Duration(in.Body.Overlap) * time.Second
	}
	made, err := r.Rotate(ctx, c, in.ID, overlap)
	if err != nil {
		return nil, err
	}
	shown := r.shown(made)
	out := &rotateOutput{Location: shown.Location, ETag: shown.ETag}
	out.Body.MadeView, out.Body.OldWorksUntil, out.Body.Ended = shown.Body, made.OldEnds.UTC(), named(made.Ended)
	return out, nil
}

func (r *Room) importKeys(ctx context.Context, c tenantdb.Caller, in *importInput) (*importOutput, error) {
	keys := make([]Foreign, len(in.Body.Keys))
	for i := range in.Body.Keys {
		var err error
		if keys[i], err = in.Body.Keys[i].foreign(); err != nil {
			return nil, at(i, err)
		}
	}
	done, err := r.Import(ctx, c, keys)
	if err != nil {
		return nil, err
	}
	out := &importOutput{}
	for _, d := range done {
		v := ImportedView{d.KeyID, "imported", orNull(d.ExpiresAt.UTC()), d.ExpiryCut}
		if d.There {
			v.Status = "there"
		}
		out.Body.Keys = append(out.Body.Keys, v)
	}
	return out, nil
}

func (r *Room) listRisks(ctx context.Context, c tenantdb.Caller, in *risksInput) (*risksOutput, error) {
	after, resumed, err := web.After[Position](in.Page)
	if err != nil {
		return nil, err
	}
	from := &after
	if !resumed {
		from = nil
	}
	found, more, err := r.Risks(ctx, c, from, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &risksOutput{}
	out.Body.Keys = []RiskView{}
	for _, k := range found {
		if k.Risks[0].Severity.rank() >= in.Severity.rank() {
			out.Body.Keys = append(out.Body.Keys, RiskView{r.seen(k.Seen), k.Risks})
		}
	}
	if more != nil {
		out.Body.Next = web.From(*more)
	}
	return out, nil
}

// View is a key as clients see it.
type View struct {
	KeyID        string              `json:"key_id" doc:"Public: it names the key and authenticates nobody"`
	Prefix       string              `json:"prefix" doc:"The first eight characters, for display; empty for a key that was imported, of which they are not known"`
	Hint         string              `json:"hint" doc:"The key without its secret, to tell keys apart"`
	Name         string              `json:"name"`
	Kind         Kind                `json:"kind" enum:"owner,service,data"`
	Live         bool                `json:"live" doc:"False for a key that is for trying; only its prefix differs"`
	Status       Status              `json:"status" enum:"active,pending,disabled,expired,revoked"`
	Scopes       []string            `json:"scopes" doc:"Capabilities: what the key may do; * is everything. A set, sorted."`
	Resources    []string            `json:"resources" doc:"What it may ask about; empty is anything"`
	Owners       []tenantdb.TenantID `json:"owners" doc:"Whose agents it may verify, by organisation; empty is anybody's"`
	Metadata     map[string]any      `json:"metadata"`
	MonthlyQuota *int64              `json:"monthly_quota" nullable:"true" doc:"A service key's verifications a month; null is unlimited, and for owner keys, which spend the organisation's"`
	Owner        *string             `json:"owner" nullable:"true" doc:"To whom you gave it"`
	MaxUses      *int64              `json:"max_uses" nullable:"true" doc:"How often it can be used at all; null is unlimited"`
	RateLimits   []RateLimit         `json:"rate_limits"`
	AllowedCIDRs []string            `json:"allowed_cidrs" doc:"From where it can be used; empty is from anywhere"`
	Replaces     *string             `json:"replaces" nullable:"true" doc:"The key that it was rotated from"`
	ReplacedBy   *string             `json:"replaced_by" nullable:"true" doc:"The key that it was rotated to"`
	Person       *tenantdb.PersonID  `json:"person" nullable:"true" doc:"The member who made it, or the key that it came from, or rotated it: it ends when they leave, and works only from where the organisation's rules let people come, but for a data key. Null if no member did"`
	MadeBy       *string             `json:"made_by" nullable:"true" doc:"The key that asked for it. To revoke that ends this one only with children. Null if it was no key. A successor keeps its predecessor's."`
	CreatedAt    time.Time           `json:"created_at"`
	NotBefore    *time.Time          `json:"not_before" nullable:"true"`
	ExpiresAt    *time.Time          `json:"expires_at" nullable:"true" doc:"Null is never"`
	DisabledAt   *time.Time          `json:"disabled_at" nullable:"true"`
	RevokedAt    *time.Time          `json:"revoked_at" nullable:"true"`
	LeakedAt     *time.Time          `json:"leaked_at" nullable:"true" doc:"When it was last seen where no key may be, and its organisation told; what was seen in the day after is in the log alone"`
	LastUsedAt   *time.Time          `json:"last_used_at" nullable:"true" doc:"Up to a minute late; null if it was never used. Not with a change."`
	LastUsedFrom *string             `json:"last_used_from" nullable:"true" doc:"The address, where one key is asked for"`
	LastUsedWith *string             `json:"last_used_with" nullable:"true" doc:"What the client calls itself, where one key is asked for"`
	Version      int64               `json:"version" doc:"Counts the changes; the ETag"`
}

func (r *Room) view(k Key) View {
	return View{
		KeyID: k.ID, Prefix: k.Prefix(), Hint: k.Hint, Name: k.Name, Kind: k.Kind, Live: k.Live, Status: k.Status(r.cfg.Now()),
		Scopes: orEmpty(k.Scopes), Resources: orEmpty(k.Resources), Owners: orEmpty(k.Owners), Metadata: metadata(k), MonthlyQuota: k.MonthlyQuota,
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: orNull(k.ExpiresAt.UTC()), DisabledAt: orNull(k.DisabledAt.UTC()), RevokedAt: orNull(k.RevokedAt.UTC()),
		Version: k.Version, Owner: named(k.GivenTo), MaxUses: k.MaxUses, RateLimits: orEmpty(k.RateLimits), AllowedCIDRs: texts(k.AllowedCIDRs),
		Replaces: named(k.Replaces), ReplacedBy: named(k.ReplacedBy), NotBefore: orNull(k.NotBefore.UTC()), LeakedAt: orNull(k.LeakedAt.UTC()),
		MadeBy: named(k.MadeBy), Person: person(k.Person),
	}
}

// named is nil for what has no name.
func named(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func texts(prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.String()
	}
	return out
}

// SeenView is a key as it is read, with what of it moves without a change.
type SeenView struct {
	View
	Remaining *int64 `json:"remaining" nullable:"true" doc:"How many uses are left, of max_uses and of those of the keys that made it; null is unlimited"`
}

func (r *Room) seen(k Seen) SeenView {
	v := SeenView{r.view(k.Key), k.Left}
	v.LastUsedAt, v.LastUsedWith = orNull(k.At.UTC()), named(k.Agent)
	if k.Address.IsValid() {
		v.LastUsedFrom = named(k.Address.String())
	}
	return v
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
	Body     MadeView
}

// MadeView is a new key as its maker sees it, this once.
type MadeView struct {
	Key       string `json:"key" doc:"The key itself. It is shown here and never again."`
	ExpiryCut bool   `json:"expiry_cut" doc:"It would expire later, but for yours: no key makes one that outlasts it. Use one that lasts longer if that is too soon."`
	View
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
	return r.shown(made), nil
}

func (r *Room) shown(made Created) *createOutput {
	out := &createOutput{Location: "/api/v1/keys/" + made.ID, ETag: web.ETag(made.Version)}
	out.Body.Key, out.Body.ExpiryCut, out.Body.View = made.Secret.Expose(), made.ExpiryCut, r.view(made.Key)
	return out
}

type listInput struct {
	web.Page
	Kind   Kind   `query:"kind" enum:"owner,service,data" doc:"Only keys of this kind"`
	Status Status `query:"status" enum:"active,pending,disabled,expired,revoked" doc:"Only keys in this state"`
	Owner  string `query:"owner" maxLength:"200" doc:"Only keys that were given to this one"`
	MadeBy string `query:"made_by" maxLength:"64" doc:"Only keys that the key of this key_id made"`
	Person string `query:"person" maxLength:"36" doc:"Only keys of this member"`
}

type listOutput struct {
	Body struct {
		Keys []SeenView `json:"keys"`
		web.Next
	}
}

func (r *Room) listed(ctx context.Context, c tenantdb.Caller, in *listInput) (*listOutput, error) {
	after, resumed, err := web.After[Position](in.Page)
	if err != nil {
		return nil, err
	}
	from := &after
	if !resumed {
		from = nil
	}
	f := Filter{Kind: in.Kind, Status: in.Status, Owner: in.Owner, MadeBy: in.MadeBy}
	if in.Person != "" && f.Person.UnmarshalText([]byte(in.Person)) != nil {
		return nil, problem.New(problem.Invalid, "`person` is not the id of a member.")
	}
	keys, err := r.List(ctx, c, f, from, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	keys, out.Body.Next = web.Cut(keys, in.Limit, func(k Seen) Position { return Position{k.CreatedAt.UTC(), k.ID} })
	out.Body.Keys = make([]SeenView, len(keys))
	for i, k := range keys {
		out.Body.Keys[i] = r.seen(k)
	}
	return out, nil
}

type oneInput struct {
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"The key_id"`
}

type seenOutput struct {
	ETag string `header:"ETag"`
	Body SeenView
}

func (r *Room) get(ctx context.Context, c tenantdb.Caller, in *oneInput) (*seenOutput, error) {
	k, err := r.Get(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return &seenOutput{web.ETag(k.Version), r.seen(k)}, nil
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

type (
	revokeInput struct {
		ID   string `path:"id" minLength:"1" maxLength:"64" doc:"The key_id"`
		Body *struct {
			Children bool `json:"children,omitempty" doc:"End the keys that came from it too: those that it made, and those that these made. That cannot be undone."`
		} `required:"false"`
	}
	revokeOutput struct {
		ETag string `header:"ETag"`
		Body struct {
			View
			Children int `json:"children_revoked" doc:"How many keys that came from it ended with it"`
			Left     int `json:"children_left" doc:"How many keys that came from it are still in force, neither revoked nor expired; at most 1,000 are counted. GET /api/v1/keys?made_by= lists those that it made, and children ends them all."`
		}
	}
)

func (r *Room) revoke(ctx context.Context, c tenantdb.Caller, in *revokeInput) (*revokeOutput, error) {
	ended, err := r.End(ctx, c, in.ID, in.Body != nil && in.Body.Children)
	if err != nil {
		return nil, err
	}
	out := &revokeOutput{ETag: web.ETag(ended.Version)}
	out.Body.View, out.Body.Children, out.Body.Left = r.view(ended.Key), ended.Children, ended.Left
	return out, nil
}

// changed is the handler of an operation that takes a key and nothing else.
func (r *Room) changed(fn func(context.Context, tenantdb.Caller, string) (Key, error)) web.Func[tenantdb.Caller, oneInput, keyOutput] {
	return func(ctx context.Context, c tenantdb.Caller, in *oneInput) (*keyOutput, error) {
		k, err := fn(ctx, c, in.ID)
		if err != nil {
			return nil, err
		}
		return r.output(k), nil
	}
}
