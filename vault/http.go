package vault

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	itemsPath    = "/api/v1/vault/items"
	itemPath     = itemsPath + "/{id}"
	requestsPath = "/api/v1/vault/requests"
)

// onlyWay is what documentation says of keepsWayIn.
const onlyWay = "It is the seed by which alone the organisation's only owner signs in here, who could not get at its code then: another factor comes first, such as a passkey"

func op(id, method, path, scope, summary, description string) web.Op {
	return web.Op{ID: id, Method: method, Path: path, Scope: scope, Summary: summary, Description: description, Tags: []string{"Vault"}}
}

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	add := op("add-vault-item", http.MethodPost, itemsPath, "vault:write", "Put something into the vault",
		"A seed of one-time codes, as an `otpauth://` address (`uri`) or by its parts; recovery codes; or a secret that is used and not seen. You may have its codes then, and decide about it.")
	add.Status, add.Idempotent, add.Fails = http.StatusCreated, true, map[int]string{http.StatusConflict: onlyWay}
	web.Handle(api, add, r.addItem)
	web.Handle(api, op("list-vault-items", http.MethodGet, itemsPath, "vault:read", "List the items that you may know of", "By name. What was granted to you, what is listed for everybody, and what you decide about."), r.listItems)
	web.Handle(api, op("get-vault-item", http.MethodGet, itemPath, "vault:read", "Get an item", "Without what it keeps secret, which no operation shows but the export."), r.getItem)
	web.Handle(api, op("update-vault-item", http.MethodPatch, itemPath, "vault:read", "Change an item", "What it is known by, and its policy. Fields that are absent or null stay. For who decides about it. Who may use it does not loosen its policy; and where its secret is sent (`policy.fetch`) changes who put that in, or may export it now, with a proof of the last five minutes: every owner is told."), r.updateItem)
	replace := op("replace-vault-secret", http.MethodPut, itemPath+"/secret", "vault:read", "Put another secret in the place of an item's", "As when somebody left who had seen it. For who decides about it. Where the secret is sent (`policy.fetch`) is dropped from the policy, unless who puts this one in had said that.")
	replace.Fails = map[int]string{http.StatusConflict: "It changed meanwhile. Or: " + onlyWay}
	web.Handle(api, replace, r.replaceSecret)
	web.Handle(api, op("delete-vault-item", http.MethodDelete, itemPath, "vault:read", "Delete an item", "With its secret and its grants. The log keeps who used it."), r.deleteItem)
	resync := op("resync-vault-item", http.MethodPost, itemPath+"/resync", "vault:read", "Put a counter where its device's is", "By two codes that the device showed one after the other, or by the counter of the next code. For `hotp`.")
	web.Handle(api, resync, r.resyncItem)
	web.Handle(api, op("list-vault-uses", http.MethodGet, itemPath+"/uses", "", "Who used an item", "The newest first, from the log. For who decides about the item, and with `audit:read`. The read is recorded in the log."), r.listUses)
	web.Handle(api, op("get-vault-report", http.MethodGet, "/api/v1/vault/people/{person}/report", "vault:manage", "What a person knows of the vault",
		"Before or after they leave: the secrets that they could see, which are to be replaced, and the codes that they fetched."), r.getReport)
	r.grantRoutes(api)
	r.portRoutes(api)
	r.codeRoutes(api)
}

type itemInput struct {
	ID ID `path:"id" doc:"The item_id"`
}

// AboutFields are what a request says of how people know an item.
type AboutFields struct {
	Name    *string   `json:"name,omitempty" minLength:"1" maxLength:"200" doc:"What people know it by" example:"AWS root"`
	Issuer  *string   `json:"issuer,omitempty" maxLength:"200" doc:"Whose account it is"`
	Account *string   `json:"account,omitempty" maxLength:"200" doc:"Which one"`
	Folder  *string   `json:"folder,omitempty" maxLength:"200" doc:"By parts, such as cloud/aws"`
	Tags    *[]string `json:"tags,omitempty" maxItems:"20"`
	Notes   *string   `json:"notes,omitempty" maxLength:"10000"`
	Icon    *string   `json:"icon,omitempty" maxLength:"64" doc:"A name by which a client knows a picture"`
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (b *AboutFields) apply(a *About) {
	set(&a.Name, b.Name)
	set(&a.Issuer, b.Issuer)
	set(&a.Account, b.Account)
	set(&a.Folder, b.Folder)
	set(&a.Tags, b.Tags)
	set(&a.Notes, b.Notes)
	set(&a.Icon, b.Icon)
}

type view struct {
	ID        ID        `json:"item_id" format:"uuid"`
	Name      string    `json:"name"`
	Kind      Kind      `json:"type" enum:"totp,hotp,steam,codes,secret"`
	Issuer    string    `json:"issuer"`
	Account   string    `json:"account"`
	Folder    string    `json:"folder"`
	Tags      []string  `json:"tags" nullable:"false"`
	Notes     string    `json:"notes"`
	Icon      string    `json:"icon"`
	Policy    Policy    `json:"policy" doc:"What narrows its use"`
	Listed    bool      `json:"listed" doc:"Whether every member may know that it is there, and ask for it"`
	Level     Level     `json:"granted" enum:",code,seed" doc:"What was granted to you; empty is nothing"`
	Manages   bool      `json:"manages" doc:"Whether you decide about it"`
	Creator   string    `json:"created_by" doc:"Kind and id of who put it in"`
	ByName    string    `json:"created_by_name" doc:"Of a person with the address; empty where you may not know it"`
	CreatedAt time.Time `json:"created_at"`
	Version   int64     `json:"version" doc:"Counts the changes; the ETag"`
}

func viewItem(s Seen, k *called) view {
	a := s.About
	if a.Tags == nil {
		a.Tags = []string{}
	}
	return view{s.ID, a.Name, s.Kind, a.Issuer, a.Account, a.Folder, a.Tags, a.Notes, a.Icon, s.Policy, s.Listed, s.Level, s.Manages, s.Creator.String(), k.of(s.Creator), s.CreatedAt.UTC(), s.Version}
}

type itemOutput struct {
	Location string `header:"Location"`
	ETag     string `header:"ETag"`
	Body     view
}

// outputItem answers to a change, and to who looks at one item.
func (r *Room) outputItem(ctx context.Context, c tenantdb.Caller, s Seen, err error) (*itemOutput, error) {
	if err != nil {
		return nil, err
	}
	return &itemOutput{ETag: web.ETag(s.Version), Body: viewItem(s, r.shown(ctx, c, nil, []Actor{s.Creator}))}, nil
}

type addInput struct {
	Body struct {
		AboutFields
		SecretFields
		Kind   Kind    `json:"type,omitempty" enum:"totp,hotp,steam,codes,secret" doc:"Absent with uri, which says it"`
		Policy *Policy `json:"policy,omitempty"`
		Listed bool    `json:"listed,omitempty" doc:"Every member may know that it is there, and ask for it"`
	}
}

func (r *Room) addItem(ctx context.Context, c tenantdb.Caller, in *addInput) (*itemOutput, error) {
	n := Wanted{Kind: in.Body.Kind, Listed: in.Body.Listed}
	if err := in.Body.SecretFields.read(&n); err != nil {
		return nil, err
	}
	defer n.content.clear()
	in.Body.AboutFields.apply(&n.About)
	if in.Body.Policy != nil {
		n.Policy = *in.Body.Policy
	}
	i, err := r.Add(ctx, c, n)
	if err != nil {
		return nil, err
	}
	out, err := r.outputItem(ctx, c, Seen{i, ForCode, true}, nil)
	out.Location = itemsPath + "/" + i.ID.String()
	return out, err
}

type listInput struct {
	web.Page
	Folder string `query:"folder" maxLength:"200" doc:"This one and those within"`
	Tag    string `query:"tag" maxLength:"64"`
	Kind   Kind   `query:"type" enum:"totp,hotp,steam,codes,secret"`
	Text   string `query:"q" maxLength:"200" doc:"A part of name, issuer or account"`
}

type listOutput struct {
	Body struct {
		Items []view `json:"items"`
		web.Next
	}
}

func (r *Room) listItems(ctx context.Context, c tenantdb.Caller, in *listInput) (*listOutput, error) {
	after, _, err := web.After[ID](in.Page)
	if err != nil {
		return nil, err
	}
	found, err := r.List(ctx, c, Filter{in.Folder, in.Tag, in.Kind, in.Text}, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	found, out.Body.Next = web.Cut(found, in.Limit, func(s Seen) ID { return s.ID })
	var makers []Actor
	for k := range found {
		makers = append(makers, found[k].Creator)
	}
	names, err := r.called(ctx, c, nil, makers)
	if err != nil {
		return nil, err
	}
	out.Body.Items = make([]view, len(found))
	for k, s := range found {
		out.Body.Items[k] = viewItem(s, &names)
	}
	return out, nil
}

func (r *Room) getItem(ctx context.Context, c tenantdb.Caller, in *itemInput) (*itemOutput, error) {
	s, err := r.Get(ctx, c, in.ID)
	return r.outputItem(ctx, c, s, err)
}

type updateInput struct {
	ID ID `path:"id" doc:"The item_id"`
	web.IfMatch
	Body struct {
		AboutFields
		Policy *Policy `json:"policy,omitempty" doc:"In place of the one that is there"`
		Listed *bool   `json:"listed,omitempty"`
	}
}

func (r *Room) updateItem(ctx context.Context, c tenantdb.Caller, in *updateInput) (*itemOutput, error) {
	i, err := r.Update(ctx, c, in.ID, in.IfMatch.IfMatch, Change{in.Body.AboutFields.apply, in.Body.Policy, in.Body.Listed})
	if err != nil {
		return nil, err
	}
	s, err := r.reread(ctx, c, i)
	return r.outputItem(ctx, c, s, err)
}

// reread is an item that the caller has changed, as they see it.
func (r *Room) reread(ctx context.Context, c tenantdb.Caller, i Item) (Seen, error) {
	s, err := r.sight(ctx, c)
	if err != nil {
		return Seen{}, err
	}
	return s.seen(&i), nil
}

type replaceInput struct {
	ID ID `path:"id" doc:"The item_id"`
	web.IfMatch
	Body struct{ SecretFields }
}

func (r *Room) replaceSecret(ctx context.Context, c tenantdb.Caller, in *replaceInput) (*itemOutput, error) {
	s, err := r.Get(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	n := Wanted{Kind: s.Kind}
	if err := in.Body.SecretFields.read(&n); err != nil {
		return nil, err
	}
	defer n.content.clear()
	i, err := r.Replace(ctx, c, in.ID, in.IfMatch.IfMatch, n.content, n.Counter)
	if err != nil {
		return nil, err
	}
	s, err = r.reread(ctx, c, i)
	return r.outputItem(ctx, c, s, err)
}

type deleteInput struct {
	ID ID `path:"id" doc:"The item_id"`
	web.IfMatch
}

func (r *Room) deleteItem(ctx context.Context, c tenantdb.Caller, in *deleteInput) (*web.None, error) {
	return nil, r.Delete(ctx, c, in.ID, in.IfMatch.IfMatch)
}

type resyncInput struct {
	ID   ID `path:"id" doc:"The item_id"`
	Body struct {
		Codes   []string `json:"codes,omitempty" nullable:"true" minItems:"2" maxItems:"2"`
		Counter *int64   `json:"counter,omitempty" minimum:"0"`
	}
}

type resyncOutput struct {
	Body struct {
		Counter int64 `json:"counter" doc:"Of the next code"`
	}
}

func (r *Room) resyncItem(ctx context.Context, c tenantdb.Caller, in *resyncInput) (*resyncOutput, error) {
	at, err := r.Resync(ctx, c, in.ID, in.Body.Codes, in.Body.Counter)
	out := &resyncOutput{}
	out.Body.Counter = at
	return out, err
}
