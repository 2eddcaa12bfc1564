package sso

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (r *Room) connectionRoutes(api *web.API[tenantdb.Caller]) {
	op := func(id, method, path, scope, summary, description string) web.Op {
		return web.Op{ID: id, Method: method, Path: "/api/v1/connections" + path, Tags: []string{"Single sign-on"}, Scope: scope, Summary: summary, Description: description}
	}
	create := op("create-connection", http.MethodPost, "", "sso:write", "Connect an identity provider",
		"It is switched off at first. You must hold for good whatever it gives to those who come by it, and have proved yourself in the last five minutes. Secrets are never shown again.")
	create.Status, create.Idempotent = http.StatusCreated, true
	web.Handle(api, create, r.createConnection)
	web.Handle(api, op("list-connections", http.MethodGet, "", "sso:read", "List the connections",
		"All of them, at most 50. `configured_by_left` warns of one whose configurer was removed, or may not change connections any more: it works on until somebody changes it."), r.listed)
	web.Handle(api, op("get-connection", http.MethodGet, "/{id}", "sso:read", "Get a connection", ""), r.got)
	web.Handle(api, op("update-connection", http.MethodPatch, "/{id}", "sso:write", "Change a connection",
		"Parts that are absent stay. Whoever changes it is its configurer from then on. With another issuer or client, say the client secret again. `If-Match` is needed."), r.updated)
	web.Handle(api, op("delete-connection", http.MethodDelete, "/{id}", "sso:write", "Remove a connection",
		"With what its provider calls people, and the sessions that began by it."), r.deleted)
	web.Handle(api, op("enable-connection", http.MethodPost, "/{id}/enable", "sso:write", "Switch a connection on", ""), r.switched(true))
	web.Handle(api, op("disable-connection", http.MethodPost, "/{id}/disable", "sso:write", "Switch a connection off",
		"The sessions that began by it end. Domains that require it require nothing while it is off."), r.switched(false))
	web.Handle(api, op("test-connection", http.MethodPost, "/{id}/test", "sso:write", "Ask a connection's provider whether it is there", ""), r.tested)
	web.Handle(api, op("unlink-identity", http.MethodDelete, "/{id}/people/{person}", "sso:write", "Forget what a provider calls a person",
		"After it gave the person's address to somebody else, or calls everybody something new. The person's sessions by the connection end."), r.unlinked)
}

// OIDCView is a provider of OpenID Connect, without its secret.
type OIDCView struct {
	Issuer       string   `json:"issuer" maxLength:"500"`
	ClientID     string   `json:"client_id" maxLength:"500"`
	Scopes       []string `json:"scopes,omitempty" maxItems:"50" doc:"openid, profile and email, unless you say others"`
	ResponseMode string   `json:"response_mode,omitempty" enum:"query,form_post" doc:"query, unless you say the other"`
	NameClaim    string   `json:"name_claim,omitempty" maxLength:"200" doc:"Where the person's name is; name, unless you say another"`
	GroupsClaim  string   `json:"groups_claim,omitempty" maxLength:"200" doc:"Where the person's groups are; groups, unless you say another"`
	Userinfo     bool     `json:"userinfo,omitempty" doc:"Ask the userinfo endpoint for what the token leaves out"`
	TrustEmail   bool     `json:"trust_email,omitempty" doc:"Believe addresses of your proved domains without email_verified, as Microsoft Entra sends them"`
	TrustMFA     []string `json:"trust_mfa,omitempty" maxItems:"50" doc:"Values of amr or acr that count as several factors; none do unless they are listed"`
}

type oidcInput struct {
	OIDCView
	ClientSecret string `json:"client_secret,omitempty" maxLength:"1000" doc:"Never shown again; a client without one is public, and proves itself by PKCE alone"`
}

// SAMLView is a provider of SAML 2.0.
type SAMLView struct {
	EntityID         string   `json:"entity_id,omitempty" maxLength:"1024"`
	SSOURL           string   `json:"sso_url,omitempty" maxLength:"1024" doc:"Where requests go, by the HTTP-Redirect binding"`
	Certificates     []string `json:"certificates,omitempty" maxItems:"8" doc:"PEM or base64; several while the provider changes its key"`
	NameIDFormat     string   `json:"name_id_format,omitempty" maxLength:"1024"`
	StrongContexts   []string `json:"trust_mfa,omitempty" maxItems:"32" doc:"Authentication contexts or methods that count as several factors"`
	AddressAttribute string   `json:"address_attribute,omitempty" maxLength:"500" doc:"Where the e-mail address is; the subject's name, unless you say"`
	NameAttribute    string   `json:"name_attribute,omitempty" maxLength:"500"`
	GroupsAttribute  string   `json:"groups_attribute,omitempty" maxLength:"500"`
}

type samlInput struct {
	SAMLView
	Metadata string `json:"metadata,omitempty" maxLength:"524288" doc:"The provider's metadata, instead of entity_id, sso_url and certificates; with entity_id if it describes several"`
}

// AdmissionView says who becomes a member, and of what.
type AdmissionView struct {
	JIT    bool                   `json:"jit,omitempty" doc:"Whoever of a proved domain arrives first becomes a member"`
	Roles  []string               `json:"roles,omitempty" maxItems:"50" doc:"Which they get: member, unless you say others; never owner"`
	Groups map[string]org.GroupID `json:"groups,omitempty" doc:"The provider's names of groups, and the group_id here. The connection decides from then on who is in these groups, at each sign-in. None to which items of the vault are granted, and whoever configures it comes into none of these by it; but for an only owner."`
}

// ConnectionView is a connection as its organisation sees it.
type ConnectionView struct {
	ID           ID            `json:"connection_id"`
	Kind         string        `json:"kind" enum:"oidc,saml"`
	Name         string        `json:"name"`
	Enabled      bool          `json:"enabled"`
	OIDC         *OIDCView     `json:"oidc,omitempty"`
	HasSecret    bool          `json:"client_secret_set"`
	SAML         *SAMLView     `json:"saml,omitempty"`
	Admission    AdmissionView `json:"admission"`
	RedirectURI  string        `json:"redirect_uri,omitempty" doc:"To register at an OpenID Connect provider"`
	EntityID     string        `json:"service_provider_entity_id,omitempty" doc:"What a SAML provider calls us; our metadata is there"`
	ACS          string        `json:"acs_url,omitempty" doc:"Where a SAML provider posts to"`
	ConfiguredBy string        `json:"configured_by" doc:"Kind and id of who made it what it is"`
	CreatedAt    time.Time     `json:"created_at"`
	Version      int64         `json:"version" doc:"Counts the changes; the ETag"`
	Warnings     []string      `json:"warnings,omitempty" doc:"configured_by_left"`
}

func (r *Room) view(n Connection) ConnectionView {
	a := n.Settings.Admission
	v := ConnectionView{
		ID: n.ID, Kind: n.Kind, Name: n.Name, Enabled: n.Enabled, Admission: AdmissionView(a), ConfiguredBy: n.ConfiguredBy, CreatedAt: n.CreatedAt, Version: n.Version, Warnings: n.Warnings,
	}
	if o := n.Settings.OIDC; o != nil {
		v.OIDC = &OIDCView{o.Issuer, o.ClientID, o.Scopes, o.ResponseMode, o.NameClaim, o.GroupsClaim, o.Userinfo, o.TrustEmail, o.TrustMFA}
		v.HasSecret, v.RedirectURI = o.ClientSecret != "", r.callbackAddress(n.ID)
	}
	if s := n.Settings.SAML; s != nil {
		v.SAML = &SAMLView{s.EntityID, s.SSOURL, s.Certificates, s.NameIDFormat, s.StrongContexts, s.AddressAttribute, s.NameAttribute, s.GroupsAttribute}
		self := r.self(n.ID)
		v.EntityID, v.ACS = self.EntityID, self.ACS
	}
	return v
}

func (in *oidcInput) settings() *OIDC {
	if in == nil {
		return nil
	}
	v := in.OIDCView
	return &OIDC{v.Issuer, v.ClientID, in.ClientSecret, v.Scopes, v.ResponseMode, v.NameClaim, v.GroupsClaim, v.Userinfo, v.TrustEmail, v.TrustMFA}
}

func (r *Room) samlSettings(in *samlInput) (*SAML, error) {
	if in == nil {
		return nil, nil
	}
	v := in.SAMLView
	s := &SAML{saml.Settings{EntityID: v.EntityID, SSOURL: v.SSOURL, Certificates: v.Certificates, NameIDFormat: v.NameIDFormat, StrongContexts: v.StrongContexts},
		v.AddressAttribute, v.NameAttribute, v.GroupsAttribute}
	if in.Metadata == "" {
		return s, nil
	}
	found, err := saml.ParseMetadata([]byte(in.Metadata), v.EntityID, r.cfg.Now())
	if err != nil {
		return nil, err
	}
	if found.WantsSigned {
		return nil, problem.New(problem.Invalid, "The provider wants signed requests, and ours are not signed: switch that off there (WantAuthnRequestsSigned).")
	}
	s.EntityID, s.SSOURL, s.Certificates = found.Settings.EntityID, found.Settings.SSOURL, found.Settings.Certificates
	return s, nil
}

type (
	createInput struct {
		Body struct {
			Kind      string        `json:"kind" enum:"oidc,saml"`
			Name      string        `json:"name" minLength:"1" maxLength:"200"`
			OIDC      *oidcInput    `json:"oidc,omitempty"`
			SAML      *samlInput    `json:"saml,omitempty"`
			Admission AdmissionView `json:"admission,omitempty"`
		}
	}
	connectionOutput struct {
		ETag string `header:"ETag"`
		Body ConnectionView
	}
	connectionsOutput struct {
		Body struct {
			Connections []ConnectionView `json:"connections"`
		}
	}
	connectionInput struct {
		ID ID `path:"id"`
	}
	updateInput struct {
		ID ID `path:"id"`
		web.IfMatch
		Body struct {
			Name      *string        `json:"name,omitempty" minLength:"1" maxLength:"200"`
			OIDC      *oidcInput     `json:"oidc,omitempty"`
			SAML      *samlInput     `json:"saml,omitempty"`
			Admission *AdmissionView `json:"admission,omitempty"`
		}
	}
	unlinkInput struct {
		ID     ID       `path:"id"`
		Person PersonID `path:"person"`
	}
	testOutput struct {
		Body struct {
			OK       bool     `json:"ok"`
			Problems []string `json:"problems" doc:"What is wrong, in words of ours"`
		}
	}
)

func (r *Room) output(n Connection, err error) (*connectionOutput, error) {
	if err != nil {
		return nil, err
	}
	return &connectionOutput{web.ETag(n.Version), r.view(n)}, nil
}

func (r *Room) createConnection(ctx context.Context, c tenantdb.Caller, in *createInput) (*connectionOutput, error) {
	s, err := r.samlSettings(in.Body.SAML)
	if err != nil {
		return nil, err
	}
	return r.output(r.Connect(ctx, c, in.Body.Kind, in.Body.Name, Settings{OIDC: in.Body.OIDC.settings(), SAML: s, Admission: Admission(in.Body.Admission)}))
}

func (r *Room) listed(ctx context.Context, c tenantdb.Caller, _ *web.None) (*connectionsOutput, error) {
	all, err := r.List(ctx, c)
	if err != nil {
		return nil, err
	}
	var out connectionsOutput
	out.Body.Connections = make([]ConnectionView, len(all))
	for i, n := range all {
		out.Body.Connections[i] = r.view(n)
	}
	return &out, nil
}

func (r *Room) got(ctx context.Context, c tenantdb.Caller, in *connectionInput) (*connectionOutput, error) {
	return r.output(r.Get(ctx, c, in.ID))
}

func (r *Room) updated(ctx context.Context, c tenantdb.Caller, in *updateInput) (*connectionOutput, error) {
	s, err := r.samlSettings(in.Body.SAML)
	if err != nil {
		return nil, err
	}
	return r.output(r.Update(ctx, c, in.ID, in.IfMatch.IfMatch, Reconfigure{in.Body.Name, in.Body.OIDC.settings(), s, (*Admission)(in.Body.Admission)}))
}

func (r *Room) deleted(ctx context.Context, c tenantdb.Caller, in *connectionInput) (*web.None, error) {
	return nil, r.Disconnect(ctx, c, in.ID)
}

func (r *Room) switched(on bool) web.Func[tenantdb.Caller, connectionInput, connectionOutput] {
	return func(ctx context.Context, c tenantdb.Caller, in *connectionInput) (*connectionOutput, error) {
		return r.output(r.Switch(ctx, c, in.ID, on))
	}
}

func (r *Room) tested(ctx context.Context, c tenantdb.Caller, in *connectionInput) (*testOutput, error) {
	if err := need(c, "sso:write"); err != nil {
		return nil, err
	}
	n, err := r.Get(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	var out testOutput
	out.Body.Problems = append([]string{}, r.Check(ctx, n)...)
	out.Body.OK = len(out.Body.Problems) == 0
	return &out, nil
}

func (r *Room) unlinked(ctx context.Context, c tenantdb.Caller, in *unlinkInput) (*web.None, error) {
	return nil, r.Unlink(ctx, c, in.ID, in.Person)
}
