package vault

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (r *Room) grantRoutes(api *web.API[tenantdb.Caller]) {
	grant := op("grant-vault-item", http.MethodPost, itemPath+"/grants", "vault:read", "Let somebody use an item",
		"A person, a group, an agent or a key: one of person_id, group_id, agent_id and key_id. In place of what was granted to the same one before. Nobody grants to themselves. The level seed is granted by a person with a proof of the last five minutes.")
	grant.Status, grant.Idempotent = http.StatusCreated, true
	web.Handle(api, grant, r.grantItem)
	web.Handle(api, op("list-vault-grants", http.MethodGet, itemPath+"/grants", "vault:read", "List to whom an item was granted", "For who decides about it. A grant whose holder is gone stays until it is ended, and gives nothing: `state` says so."), r.listGrants)
	web.Handle(api, op("revoke-vault-grant", http.MethodPost, itemPath+"/grants/{grant}/revoke", "vault:read", "End a grant",
		"No fetch that is sent after the answer gets anything by it, on any server. What approved requests lend to the same one ends with it."), r.revokeGrant)
	ask := op("request-vault-item", http.MethodPost, itemPath+"/requests", "", "Ask to use an item for a while",
		"Because it is not granted to you, or because its policy wants a second person. Somebody who decides about the item approves; never you. Every owner is told. 20 a day.")
	ask.Status, ask.Idempotent = http.StatusCreated, true
	web.Handle(api, ask, r.askItem)
	web.Handle(api, op("list-vault-requests", http.MethodGet, requestsPath, "", "List requests", "Your own, and those for items that you decide about; the newest first."), r.listRequests)
	web.Handle(api, op("get-vault-request", http.MethodGet, requestsPath+"/{id}", "", "Get a request", ""), r.getRequest)
	web.Handle(api, op("approve-vault-request", http.MethodPost, requestsPath+"/{id}/approve", "vault:read", "Approve a request", "Not your own, nor that of an agent that you registered or issued a working token of. A person proves themselves again. A key decides about codes alone, and none that belongs to nobody."), r.decided(true))
	web.Handle(api, op("refuse-vault-request", http.MethodPost, requestsPath+"/{id}/refuse", "vault:read", "Refuse a request", "A person proves themselves again."), r.decided(false))
	web.Handle(api, op("withdraw-vault-request", http.MethodPost, requestsPath+"/{id}/withdraw", "", "Take a request back", "Your own, or one for an item that you decide about; what it lends ends."), r.withdrawn)
}

type grantInput struct {
	ID   ID `path:"id" doc:"The item_id"`
	Body struct {
		Person    string     `json:"person_id,omitempty" maxLength:"64"`
		Group     string     `json:"group_id,omitempty" maxLength:"64"`
		Agent     string     `json:"agent_id,omitempty" maxLength:"64" doc:"Needs the scope read:codes for codes, use:secrets for fetches"`
		Key       string     `json:"key_id,omitempty" maxLength:"64"`
		Level     Level      `json:"level,omitempty" enum:"code,seed" doc:"code by default. seed lets people export it"`
		ExpiresAt *time.Time `json:"expires_at,omitempty"`
	}
}

// to is the one to whom it is granted.
func (in *grantInput) to() (Actor, error) {
	var all []Actor
	b := &in.Body
	for _, a := range []Actor{{APerson, b.Person}, {AGroup, b.Group}, {AnAgent, b.Agent}, {AKey, b.Key}} {
		if a.ID != "" {
			all = append(all, a)
		}
	}
	if len(all) != 1 {
		return Actor{}, flawed("This cannot be granted.", "person_id", "one of person_id, group_id, agent_id and key_id must be there, and no other")
	}
	return all[0], nil
}

type grantView struct {
	ID        GrantID    `json:"grant_id" format:"uuid"`
	Item      ID         `json:"item_id" format:"uuid"`
	ItemName  string     `json:"item_name" doc:"Empty where you may not know it"`
	State     string     `json:"state" enum:"active,suspended,gone,expired,ended" doc:"suspended: whom it was granted to is, or a key is disabled. gone: whom it was granted to was removed, revoked or deleted, or a key has expired. By neither is anything got"`
	Kind      string     `json:"kind" enum:"person,group,agent,key"`
	To        string     `json:"to" doc:"The id of who may use it"`
	ToName    string     `json:"to_name" doc:"Of a person with the address; empty where you may not know it"`
	Level     Level      `json:"level" enum:"code,seed"`
	GrantedBy string     `json:"granted_by"`
	ByName    string     `json:"granted_by_name"`
	GrantedAt time.Time  `json:"granted_at"`
	ExpiresAt *time.Time `json:"expires_at" nullable:"true"`
	EndedAt   *time.Time `json:"ended_at" nullable:"true"`
}

func (r *Room) viewGrant(g Grant, k *called) grantView {
	return grantView{
		g.ID, g.Item, k.items[g.Item], k.state(&g, r.now()), g.To.Kind, g.To.ID, k.of(g.To), g.Level, g.GrantedBy, k.by(g.GrantedBy), g.GrantedAt.UTC(), utc(g.ExpiresAt), utc(g.EndedAt),
	}
}

// namedBy is who is named by grants.
func namedBy(all ...Grant) (who []Actor) {
	for _, g := range all {
		who = append(who, g.To, actorIn(g.GrantedBy))
	}
	return who
}

// outputGrant answers to a change.
func (r *Room) outputGrant(ctx context.Context, c tenantdb.Caller, g Grant, err error) (*grantOutput, error) {
	if err != nil {
		return nil, err
	}
	return &grantOutput{r.viewGrant(g, r.shown(ctx, c, []ID{g.Item}, namedBy(g)))}, nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

type grantOutput struct {
	Body grantView
}

func (r *Room) grantItem(ctx context.Context, c tenantdb.Caller, in *grantInput) (*grantOutput, error) {
	to, err := in.to()
	if err != nil {
		return nil, err
	}
	level := in.Body.Level
	if level == "" {
		level = ForCode
	}
	g, err := r.Grant(ctx, c, in.ID, to, level, in.Body.ExpiresAt)
	return r.outputGrant(ctx, c, g, err)
}

type grantsOutput struct {
	Body struct {
		Grants []grantView `json:"grants"`
	}
}

func (r *Room) listGrants(ctx context.Context, c tenantdb.Caller, in *itemInput) (*grantsOutput, error) {
	all, err := r.Grants(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	names, err := r.called(ctx, c, []ID{in.ID}, namedBy(all...))
	if err != nil {
		return nil, err
	}
	out := &grantsOutput{}
	out.Body.Grants = make([]grantView, len(all))
	for k, g := range all {
		out.Body.Grants[k] = r.viewGrant(g, &names)
	}
	return out, nil
}

type revokeInput struct {
	ID    ID      `path:"id" doc:"The item_id"`
	Grant GrantID `path:"grant" doc:"The grant_id"`
}

func (r *Room) revokeGrant(ctx context.Context, c tenantdb.Caller, in *revokeInput) (*grantOutput, error) {
	g, err := r.Revoke(ctx, c, in.ID, in.Grant)
	return r.outputGrant(ctx, c, g, err)
}

type askInput struct {
	ID   ID `path:"id" doc:"The item_id"`
	Body struct {
		Reason  string `json:"reason" minLength:"1" maxLength:"1000"`
		Level   Level  `json:"level,omitempty" enum:"code,seed" doc:"code by default"`
		Minutes int    `json:"minutes,omitempty" minimum:"1" maximum:"10080" doc:"For how long, from the approval on; 15 by default"`
	}
}

type requestView struct {
	ID        RequestID  `json:"request_id" format:"uuid"`
	Item      ID         `json:"item_id" format:"uuid"`
	ItemName  string     `json:"item_name" doc:"Empty where you may not know it"`
	State     string     `json:"state" enum:"waiting,approved,refused,withdrawn,lapsed,expired,ended"`
	Kind      string     `json:"kind" enum:"person,agent,key" doc:"What asks"`
	By        string     `json:"by" doc:"The id of who asks"`
	ByName    string     `json:"by_name" doc:"Of a person with the address; empty where you may not know it"`
	Level     Level      `json:"level" enum:"code,seed"`
	Reason    string     `json:"reason"`
	Minutes   int        `json:"minutes"`
	AskedAt   time.Time  `json:"asked_at"`
	DueAt     time.Time  `json:"due_at" doc:"Nobody decides after that"`
	DecidedBy *string    `json:"decided_by" nullable:"true"`
	Decider   string     `json:"decided_by_name"`
	DecidedAt *time.Time `json:"decided_at" nullable:"true"`
	Until     *time.Time `json:"until" nullable:"true" doc:"Until when it lets its asker use the item, or did"`
	EndedAt   *time.Time `json:"ended_at" nullable:"true" doc:"When it was ended before its time"`
}

type requestOutput struct {
	Body requestView
}

func (r *Room) viewRequest(q Request, k *called) requestView {
	v := requestView{
		ID: q.ID, Item: q.Item, ItemName: k.items[q.Item], State: q.State(r.now()), Kind: q.By.Kind, By: q.By.ID, ByName: k.of(q.By), Level: q.Level, Reason: q.Reason,
		Minutes: int(q.For / time.Minute), AskedAt: q.AskedAt.UTC(), DueAt: q.DueAt.UTC(), DecidedBy: q.DecidedBy, DecidedAt: utc(q.DecidedAt), Until: utc(q.lentUntil()), EndedAt: utc(q.EndedAt),
	}
	if q.DecidedBy != nil {
		v.Decider = k.by(*q.DecidedBy)
	}
	return v
}

// namedIn are the items and those who are named by requests.
func namedIn(all ...Request) (items []ID, who []Actor) {
	for _, q := range all {
		items, who = append(items, q.Item), append(who, q.By)
		if q.DecidedBy != nil {
			who = append(who, actorIn(*q.DecidedBy))
		}
	}
	return items, who
}

// outputRequest answers to a change.
func (r *Room) outputRequest(ctx context.Context, c tenantdb.Caller, q Request, err error) (*requestOutput, error) {
	if err != nil {
		return nil, err
	}
	items, who := namedIn(q)
	return &requestOutput{r.viewRequest(q, r.shown(ctx, c, items, who))}, nil
}

const usualMinutes = 15

func (r *Room) askItem(ctx context.Context, c tenantdb.Caller, in *askInput) (*requestOutput, error) {
	if c.Actor().Kind == audit.ActorAgent && !c.May("vault:code") && !c.May("vault:use") {
		return nil, allowed(c, "vault:code")
	}
	level, minutes := in.Body.Level, in.Body.Minutes
	if level == "" {
		level = ForCode
	}
	if minutes == 0 {
		minutes = usualMinutes
	}
	q, err := r.Ask(ctx, c, in.ID, level, in.Body.Reason, time.Duration(minutes)*time.Minute)
	return r.outputRequest(ctx, c, q, err)
}

type requestsInput struct {
	web.Page
	State string `query:"state" enum:"waiting,approved,refused,withdrawn,lapsed,expired,ended"`
}

type requestsOutput struct {
	Body struct {
		Requests []requestView `json:"requests"`
		web.Next
	}
}

func (r *Room) listRequests(ctx context.Context, c tenantdb.Caller, in *requestsInput) (*requestsOutput, error) {
	after, _, err := web.After[RequestID](in.Page)
	if err != nil {
		return nil, err
	}
	all, next, err := r.Requests(ctx, c, in.State, after, in.Limit)
	if err != nil {
		return nil, err
	}
	items, who := namedIn(all...)
	names, err := r.called(ctx, c, items, who)
	if err != nil {
		return nil, err
	}
	out := &requestsOutput{}
	out.Body.Requests = make([]requestView, len(all))
	for k, q := range all {
		out.Body.Requests[k] = r.viewRequest(q, &names)
	}
	if next != (RequestID{}) {
		out.Body.Next = web.From(next)
	}
	return out, nil
}

type requestInput struct {
	ID RequestID `path:"id" doc:"The request_id"`
}

func (r *Room) getRequest(ctx context.Context, c tenantdb.Caller, in *requestInput) (*requestOutput, error) {
	q, err := r.Request(ctx, c, in.ID)
	return r.outputRequest(ctx, c, q, err)
}

func (r *Room) decided(approve bool) web.Func[tenantdb.Caller, requestInput, requestOutput] {
	return func(ctx context.Context, c tenantdb.Caller, in *requestInput) (*requestOutput, error) {
		q, err := r.Decide(ctx, c, in.ID, approve)
		return r.outputRequest(ctx, c, q, err)
	}
}

func (r *Room) withdrawn(ctx context.Context, c tenantdb.Caller, in *requestInput) (*requestOutput, error) {
	q, err := r.Withdraw(ctx, c, in.ID)
	return r.outputRequest(ctx, c, q, err)
}
