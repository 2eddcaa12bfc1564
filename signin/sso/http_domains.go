package sso

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (r *Room) domainRoutes(api *web.API[tenantdb.Caller]) {
	op := func(id, method, path, scope, summary, description string) web.Op {
		return web.Op{ID: id, Method: method, Path: "/api/v1/domains" + path, Tags: []string{"Single sign-on"}, Scope: scope, Summary: summary, Description: description}
	}
	create := op("create-domain", http.MethodPost, "", "sso:write", "Say that a domain of e-mail addresses is yours",
		"Put `token` into a TXT record at `record`, then prove it. Leave the record there: it is looked for every week.")
	create.Status = http.StatusCreated
	web.Handle(api, create, r.createDomain)
	web.Handle(api, op("list-domains", http.MethodGet, "", "sso:read", "List your domains", "All of them, at most 100."), r.listedDomains)
	web.Handle(api, op("get-domain", http.MethodGet, "/{domain}", "sso:read", "Get a domain", ""), r.gotDomain)
	web.Handle(api, op("update-domain", http.MethodPatch, "/{domain}", "sso:write", "Say how the people of a domain sign in",
		"By which connection, and whether they must. When they must, their sessions that began otherwise end. Owners may always use their password and second factor, so that somebody can mend a connection that fails."), r.updatedDomain)
	web.Handle(api, op("delete-domain", http.MethodDelete, "/{domain}", "sso:write", "Give a domain up", ""), r.deletedDomain)
	web.Handle(api, op("prove-domain", http.MethodPost, "/{domain}/prove", "sso:write", "Look for the record that proves a domain",
		"Whoever proves it first has it. When its record is gone for two weeks, and DNS says so, the domain counts as proved no more."), r.proved)
}

// DomainView is a domain as its organisation sees it.
type DomainView struct {
	Domain     string     `json:"domain"`
	Record     string     `json:"record" doc:"The name of the TXT record"`
	Token      string     `json:"token" doc:"What the record must say"`
	Connection *ID        `json:"connection_id" nullable:"true"`
	Required   bool       `json:"required" doc:"Whether people of the domain must sign in by the connection"`
	CreatedAt  time.Time  `json:"created_at"`
	ProvedAt   *time.Time `json:"proved_at" nullable:"true"`
	LapsedAt   *time.Time `json:"lapsed_at" nullable:"true" doc:"Since when the record is gone"`
}

type (
	newDomainInput struct {
		Body struct {
			Domain     string `json:"domain" minLength:"3" maxLength:"253"`
			Connection *ID    `json:"connection_id,omitempty"`
		}
	}
	domainInput struct {
		Domain string `path:"domain" maxLength:"253"`
	}
	changeDomainInput struct {
		Domain string `path:"domain" maxLength:"253"`
		Body   struct {
			Connection *ID   `json:"connection_id,omitempty"`
			Required   *bool `json:"required,omitempty"`
		}
	}
	domainOutput struct {
		Body DomainView
	}
	domainsOutput struct {
		Body struct {
			Domains []DomainView `json:"domains"`
		}
	}
)

func domainView(d Domain) DomainView {
	return DomainView{d.Name, d.Record(), d.Token, orNull(d.Connection), d.Required, d.CreatedAt, whenOrNull(d.ProvedAt), whenOrNull(d.LapsedAt)}
}

func domainOut(d Domain, err error) (*domainOutput, error) {
	if err != nil {
		return nil, err
	}
	return &domainOutput{domainView(d)}, nil
}

func (r *Room) createDomain(ctx context.Context, c tenantdb.Caller, in *newDomainInput) (*domainOutput, error) {
	return domainOut(r.AddDomain(ctx, c, in.Body.Domain, orZero(in.Body.Connection)))
}

func (r *Room) listedDomains(ctx context.Context, c tenantdb.Caller, _ *web.None) (*domainsOutput, error) {
	all, err := r.Domains(ctx, c)
	if err != nil {
		return nil, err
	}
	var out domainsOutput
	out.Body.Domains = make([]DomainView, len(all))
	for i, d := range all {
		out.Body.Domains[i] = domainView(d)
	}
	return &out, nil
}

func (r *Room) gotDomain(ctx context.Context, c tenantdb.Caller, in *domainInput) (*domainOutput, error) {
	return domainOut(r.GetDomain(ctx, c, in.Domain))
}

func (r *Room) updatedDomain(ctx context.Context, c tenantdb.Caller, in *changeDomainInput) (*domainOutput, error) {
	return domainOut(r.SetDomain(ctx, c, in.Domain, Redirect{in.Body.Connection, in.Body.Required}))
}

func (r *Room) deletedDomain(ctx context.Context, c tenantdb.Caller, in *domainInput) (*web.None, error) {
	return nil, r.RemoveDomain(ctx, c, in.Domain)
}

func (r *Room) proved(ctx context.Context, c tenantdb.Caller, in *domainInput) (*domainOutput, error) {
	return domainOut(r.Prove(ctx, c, in.Domain))
}
