package agent

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	web.Handle(api, web.Op{
		ID: "register-agent", Method: http.MethodPost, Path: "/api/v1/agents/register", Tags: []string{"Agents"}, Scope: mayWrite,
		Status: http.StatusCreated, Idempotent: true, Summary: "Register an agent",
		Description: "Makes an agent with its first token, which is bound to no resource and meant for trying. The token is shown this once.",
	}, r.create)
	web.Handle(api, op("list-agents", http.MethodGet, "/api/v1/agents", "List agents", "The newest first."), r.list)
	web.Handle(api, op("get-agent", http.MethodGet, one, "Show an agent", ""), r.get)
	web.Handle(api, op("update-agent", http.MethodPatch, one, "Rename an agent, or say who may verify it", "What is left out stays as it is."), r.update)
	web.Handle(api, op("set-agent-scopes", http.MethodPut, one+"/scopes", "Replace an agent's scopes",
		"Scopes are not in tokens: the change holds for those that exist, from the answer on, on every server."), r.setScopes)
	web.Handle(api, op("suspend-agent", http.MethodPost, one+"/suspend", "Suspend an agent", "Until it is resumed, no verification allows it anything."), r.state(r.Suspend))
	web.Handle(api, op("resume-agent", http.MethodPost, one+"/resume", "Resume an agent", ""), r.state(r.Resume))
	web.Handle(api, op("revoke-agent", http.MethodPost, one+"/revoke", "Revoke an agent", "For good, with all its tokens. From the answer on no server allows it anything."), r.state(r.Revoke))
	r.tokenRoutes(api)
	web.HandleRaw[agentPath, web.None](api, web.Op{
		ID: "agent-did", Method: http.MethodGet, Path: "/agents/{id}/did.json", Tags: []string{"Agents"}, Access: web.Public,
		Produces: didType, Summary: "Show an agent's DID document",
		Description: "The document of `did:web`: the agent's public keys. It holds nothing that the owner wrote.",
	}, r.did)
}

func (r *Room) tokenRoutes(api *web.API[tenantdb.Caller]) {
	issue := op("issue-token", http.MethodPost, one+"/tokens", "Issue a token", "Bind it to the resources that it is for. It is shown this once.")
	issue.Status, issue.Idempotent = http.StatusCreated, true
	web.Handle(api, issue, r.issue)
	web.Handle(api, op("list-tokens", http.MethodGet, one+"/tokens", "List an agent's tokens", "Their records, the newest first: tokens themselves are kept nowhere."), r.listTokens)
	web.Handle(api, op("revoke-token", http.MethodPost, one+"/tokens/{jti}/revoke", "Revoke a token", "From the answer on no server allows it anything."), r.revokeToken)
	web.Handle(api, op("revoke-all-tokens", http.MethodPost, one+"/tokens/revoke-all", "Revoke all tokens of an agent", "Those issued afterwards are good."), r.revokeAll)
}

const (
	one     = "/api/v1/agents/{id}"
	didType = "application/did+ld+json"
)

// op is an operation on agents: reading needs one capability, everything else the other.
func op(id, method, path, summary, description string) web.Op {
	o := web.Op{ID: id, Method: method, Path: path, Tags: []string{"Agents"}, Scope: mayWrite, Summary: summary, Description: description}
	if method == http.MethodGet {
		o.Scope = mayRead
	}
	return o
}

func (r *Room) create(ctx context.Context, c tenantdb.Caller, in *registerInput) (*registerOutput, error) {
	keys, err := in.keys()
	if err != nil {
		return nil, err
	}
	a, token, err := r.Register(ctx, c, Registration{in.Body.Name, in.Body.Description, in.Body.Capabilities, keys})
	if err != nil {
		return nil, err
	}
	v := r.view(a)
	out := &registerOutput{ETag: web.ETag(a.Version)}
	b := &out.Body
	b.DID, b.AgentID, b.Token, b.TokenExpiresAt, b.JTI = v.DID, a.ID, token.Token.Expose(), token.Expires, token.JTI
	b.CreatedAt, b.Scopes, b.Keys, b.Warnings = a.CreatedAt, a.Scopes, v.Keys, token.Warnings
	return out, nil
}

func (r *Room) list(ctx context.Context, c tenantdb.Caller, in *listInput) (*listOutput, error) {
	before, err := position[ID](in.Page)
	if err != nil {
		return nil, err
	}
	agents, err := r.List(ctx, c, before, in.Status, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	agents, out.Body.Next = web.Cut(agents, in.Limit, func(a Agent) ID { return a.ID })
	out.Body.Agents = make([]view, len(agents))
	for i, a := range agents {
		out.Body.Agents[i] = r.view(a)
	}
	return out, nil
}

// position is where a page starts, nil for the first.
func position[P any](p web.Page) (*P, error) {
	at, resumed, err := web.After[P](p)
	if err != nil || !resumed {
		return nil, err
	}
	return &at, nil
}

func (r *Room) get(ctx context.Context, c tenantdb.Caller, in *agentPath) (*agentOutput, error) {
	return r.output(r.Get(ctx, c, in.ID))
}

func (r *Room) update(ctx context.Context, c tenantdb.Caller, in *updateInput) (*agentOutput, error) {
	b := &in.Body
	return r.output(r.Update(ctx, c, in.ID, in.IfMatch.IfMatch, Edit{b.Name, b.Description, b.Visibility, b.VisibleTo}))
}

func (r *Room) setScopes(ctx context.Context, c tenantdb.Caller, in *scopesInput) (*agentOutput, error) {
	return r.output(r.SetScopes(ctx, c, in.ID, in.IfMatch.IfMatch, in.Body.Scopes))
}

func (r *Room) state(change func(context.Context, tenantdb.Caller, ID) (Agent, error)) web.Func[tenantdb.Caller, agentPath, agentOutput] {
	return func(ctx context.Context, c tenantdb.Caller, in *agentPath) (*agentOutput, error) {
		return r.output(change(ctx, c, in.ID))
	}
}

func (r *Room) issue(ctx context.Context, c tenantdb.Caller, in *issueInput) (*issueOutput, error) {
	b := &in.Body
	token, err := r.Issue(ctx, c, in.ID, Wish{b.Resources, time.Duration(b.Lifetime) * time.Second, b.MaxUses})
	if err != nil {
		return nil, err
	}
	out := &issueOutput{}
	out.Body.Token, out.Body.JTI, out.Body.ExpiresAt, out.Body.Warnings = token.Token.Expose(), token.JTI, token.Expires, token.Warnings
	return out, nil
}

func (r *Room) listTokens(ctx context.Context, c tenantdb.Caller, in *tokensInput) (*tokensOutput, error) {
	before, err := position[TokenID](in.Page)
	if err != nil {
		return nil, err
	}
	tokens, err := r.Tokens(ctx, c, in.ID, before, in.Status, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &tokensOutput{}
	tokens, out.Body.Next = web.Cut(tokens, in.Limit, func(t Record) TokenID { return t.JTI })
	out.Body.Tokens = make([]tokenView, len(tokens))
	for i, t := range tokens {
		out.Body.Tokens[i] = viewToken(t, r.now())
	}
	return out, nil
}

func (r *Room) revokeToken(ctx context.Context, c tenantdb.Caller, in *tokenPath) (*tokenOutput, error) {
	t, err := r.RevokeToken(ctx, c, in.ID, in.JTI)
	if err != nil {
		return nil, err
	}
	return &tokenOutput{viewToken(t, r.now())}, nil
}

func (r *Room) revokeAll(ctx context.Context, c tenantdb.Caller, in *agentPath) (*revokeAllOutput, error) {
	a, live, err := r.RevokeTokens(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	out := &revokeAllOutput{ETag: web.ETag(a.Version)}
	out.Body.AgentID, out.Body.Revoked, out.Body.Version = a.ID, live, a.Version
	return out, nil
}

// did answers everyone, so an id that cannot be one is as missing as one that is nobody's.
func (r *Room) did(w http.ResponseWriter, q *http.Request, _ tenantdb.Caller, _ web.RequestMeta) error {
	agent, err := ParseID(q.PathValue("id"))
	if err != nil {
		return missing()
	}
	document, err := r.Document(q.Context(), agent)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(document)
	h := w.Header()
	h.Set("Content-Type", didType)
	h.Set("Cache-Control", "public, max-age=600")
	h.Set("Access-Control-Allow-Origin", "*") // it is public, and resolvers run in browsers
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	if q.Header.Get("If-None-Match") == h.Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	_, err = w.Write(document)
	return err
}
