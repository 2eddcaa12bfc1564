package sso

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	tags := []string{"Single sign-on"}
	web.Handle(api, web.Op{
		ID: "start-sso", Method: http.MethodPost, Path: "/api/v1/sso/start", Tags: tags, Access: web.Public, Summary: "Begin to sign in by an identity provider",
		Description: "Say an e-mail address, of which the domain counts, or a connection. `kind` says how to go on: with a password, or at `redirect_url`. " +
			"Which domains have a connection is public knowledge; who is a member is not asked and cannot be seen here.",
	}, r.start)
	web.Handle(api, web.Op{
		ID: "prove-by-sso", Method: http.MethodPost, Path: "/api/v1/sso/prove", Tags: tags, Summary: "Prove yourself again, or link your account, by an identity provider",
		Description: "For a person who has signed in. The provider asks anew who it is; with `link` it is your account's from then on, which takes a fresh proof.",
	}, r.prove)
	back := web.Op{
		ID: "finish-sso", Method: http.MethodGet, Path: "/api/v1/sso/{connection}/callback", Tags: tags, Access: web.Public, Page: true, Hidden: true,
		Summary: "Come back from an OpenID Connect provider", MaxBody: 64 << 10, // browsers are sent here, and nothing else calls it
	}
	web.HandleRaw[callbackInput, web.None](api, back, r.finish(KindOIDC))
	// A provider's page posts to these two: the state of the request is in a cookie of its own, and spent once.
	back.ID, back.Method, back.CrossSite = "finish-sso-form", http.MethodPost, true
	web.HandleRaw[formInput, web.None](api, back, r.finish(KindOIDC))
	back.ID, back.Path, back.Summary, back.MaxBody = "finish-saml", "/api/v1/saml/{connection}/acs", "Come back from a SAML provider", 512<<10
	web.HandleRaw[formInput, web.None](api, back, r.finish(KindSAML))
	web.HandleRaw[formInput, web.None](api, web.Op{
		ID: "saml-metadata", Method: http.MethodGet, Path: "/api/v1/saml/{connection}/metadata", Tags: tags, Access: web.Public,
		Summary: "Metadata for a SAML provider", Produces: "application/samlmetadata+xml",
	}, r.serveMetadata)
	r.connectionRoutes(api)
	r.domainRoutes(api)
}

type (
	startInput struct {
		Cookies string `header:"Cookie" hidden:"true"`
		Body    struct {
			Address    string `json:"address,omitempty" maxLength:"320" doc:"Your e-mail address"`
			Connection string `json:"connection_id,omitempty" maxLength:"64" doc:"Instead of the address"`
			Anew       bool   `json:"anew,omitempty" doc:"Have the provider ask who you are even if it knows"`
			ReturnTo   string `json:"return_to,omitempty" maxLength:"500" doc:"A path of this service to go to afterwards"`
			Device     string `json:"device,omitempty" maxLength:"100" doc:"What you call this device"`
		}
	}
	startOutput struct {
		Cookie string `header:"Set-Cookie" doc:"Holds the sign-in until the browser comes back"`
		Body   struct {
			Kind     string `json:"kind" enum:"password,oidc,saml" doc:"How to go on"`
			Redirect string `json:"redirect_url" doc:"Where to send the browser; empty for a password"`
		}
	}
	proveInput struct {
		Body struct {
			Connection string `json:"connection_id" maxLength:"64"`
			Link       bool   `json:"link,omitempty" doc:"Also give your account to what the provider calls you"`
			ReturnTo   string `json:"return_to,omitempty" maxLength:"500" doc:"A path of this service to go to afterwards"`
		}
	}
	callbackInput struct {
		Connection string `path:"connection"`
		State      string `query:"state"`
		Code       string `query:"code"`
		Error      string `query:"error"`
		Issuer     string `query:"iss"`
	}
	formInput struct {
		Connection string `path:"connection"`
	}
)

func started(s Started, err error) (*startOutput, error) {
	if err != nil {
		return nil, err
	}
	out := &startOutput{}
	out.Body.Kind, out.Body.Redirect = s.Kind, s.Redirect
	if s.Cookie != nil {
		out.Cookie = s.Cookie.String()
	}
	return out, nil
}

// parseID reads an id of a connection; empty is none.
func parseID(s string) (ID, error) {
	if s == "" {
		return ID{}, nil
	}
	n, err := ParseID(s)
	if err != nil {
		return ID{}, noConnection()
	}
	return n, nil
}

func (r *Room) start(ctx context.Context, c tenantdb.Caller, in *startInput) (*startOutput, error) {
	if err := r.pace(c); err != nil {
		return nil, err
	}
	connection, err := parseID(in.Body.Connection)
	if problem.Is(err, problem.Missing) {
		return started(Started{Kind: "password"}, nil) // as one that is switched off
	}
	s := Start{Address: in.Body.Address, Connection: connection, Anew: in.Body.Anew, Return: in.Body.ReturnTo, Device: in.Body.Device}
	if r.cfg.DeviceOf != nil {
		s.Known = r.cfg.DeviceOf(in.Cookies)
	}
	return started(r.Begin(ctx, s))
}

func (r *Room) pace(c tenantdb.Caller) error {
	wait := r.starts.Take(c.Address(), r.cfg.Now())
	if wait == 0 {
		return nil
	}
	p := problem.New(problem.TooMany, "Too many sign-ins begin from your address.")
	p.RetryAfter = wait
	return p
}

func (r *Room) prove(ctx context.Context, c tenantdb.Caller, in *proveInput) (*startOutput, error) {
	if c.Actor().Kind != audit.ActorPerson {
		return nil, problem.New(problem.Denied, "Only a person who has signed in can do this.")
	}
	connection, err := ParseID(in.Body.Connection)
	if err != nil {
		return nil, noConnection()
	}
	return started(r.BeginProof(ctx, c, connection, in.Body.Link, in.Body.ReturnTo))
}

// finish answers browsers that come back. What a provider says arrives in the query or in a form, never in both.
func (r *Room) finish(kind string) web.RawFunc[tenantdb.Caller] {
	return func(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, meta web.RequestMeta) error {
		if err := r.pace(c); err != nil {
			return err
		}
		connection, err := ParseID(req.PathValue("connection"))
		if err != nil {
			return noConnection()
		}
		said := req.URL.Query()
		if req.Method == http.MethodPost {
			if said, err = form(req); err != nil {
				return err
			}
		}
		for _, values := range said {
			if len(values) != 1 {
				return refuse(ReasonState)
			}
		}
		return r.back(w, req, meta, connection, kind, said)
	}
}

func form(req *http.Request) (url.Values, error) {
	media, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(strings.ToLower(media)) != "application/x-www-form-urlencoded" || req.URL.RawQuery != "" {
		return nil, problem.New(problem.Invalid, "A form is expected, and no query.")
	}
	if err := req.ParseForm(); err != nil {
		return nil, problem.New(problem.Invalid, "The form cannot be read.")
	}
	return req.PostForm, nil
}

func (r *Room) serveMetadata(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, _ web.RequestMeta) error {
	connection, err := ParseID(req.PathValue("connection"))
	if err != nil {
		return noConnection()
	}
	text, err := r.metadata(req.Context(), connection)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/samlmetadata+xml")
	_, err = w.Write(text)
	return err
}
