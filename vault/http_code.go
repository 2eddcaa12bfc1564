package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// Agents proves agents by their tokens, from memory (package verify): with the head that it was read at, and what the token's uses
// cost. again says that what was decided by the last answer lost to a change.
type Agents func(ctx context.Context, token string, meta web.RequestMeta, again bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error)

// Authenticate proves everybody else who calls an operation.
type Authenticate func(r *http.Request, meta web.RequestMeta, operation string) (tenantdb.Caller, error)

func (r *Room) codeRoutes(api *web.API[tenantdb.Caller]) {
	const what = "The code that the item has now, with how long it is good; of `hotp` the next one, of `codes` one that nobody has taken. " +
		"It is in the log before you have it. Send an `Idempotency-Key` where a fetch moves the item: with the same one you get the same code again."
	get := op("get-vault-code", http.MethodGet, itemPath+"/code", "vault:code", "Get a code", what)
	get.Fails = fails()
	web.Handle(api, get, r.getCode)
	post := op("fetch-vault-code", http.MethodPost, itemPath+"/code", "", "Get a code, as an agent",
		what+" With an agent's token, which needs the scope `read:codes`, or any other credential with `vault:code`.")
	post.Access, post.MaxBody, post.Fails = web.Own, 1<<10, fails()
	web.HandleRaw[fetchInput, codeOutput](api, post, func(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		return r.served(api, w, req, meta, post.ID, func(ctx context.Context, t tenantdb.TenantID, who Asker, id ID) (any, error) {
			c, err := r.code(ctx, t, who, id, req.Header.Get("Idempotency-Key"))
			return viewCode(c), err
		})
	})
	use := op("use-vault-secret", http.MethodPost, itemPath+"/fetch", "", "Make a request with a secret that you do not see",
		"The server puts the item's secret into the header that its policy names, sends your request to a host that it allows, and gives you the answer without the secret. "+
			"With an agent's token, which needs the scope `use:secrets`, or any other credential with `vault:use`. The hosts of the policy are trusted with the secret.\n\n"+
			"A host that does not answer, or not as it can be read, is a 502.")
	use.Access, use.MaxBody, use.Timeout, use.Fails = web.Own, 2<<20, time.Minute, fails()
	web.HandleRaw[useInput, useOutput](api, use, func(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		return r.served(api, w, req, meta, use.ID, func(ctx context.Context, t tenantdb.TenantID, who Asker, id ID) (any, error) {
			var body useBody
			if err := api.Decode(w, req, &body); err != nil {
				return nil, err
			}
			return r.use(ctx, t, who, id, fetch.Request(body))
		})
	})
}

func fails() map[int]string {
	return map[int]string{
		http.StatusForbidden:       "It is not granted to you, not approved, not the time or the place, or the code of this window was given out already: the detail says which",
		http.StatusTooManyRequests: "You fetched 60 in a minute",
	}
}

type fetchInput struct {
	ID   ID     `path:"id" doc:"The item_id"`
	Once string `header:"Idempotency-Key" maxLength:"255" doc:"The same code again, where a fetch moves the item"`
}

type codeInput struct {
	fetchInput
	Site string `header:"Sec-Fetch-Site" maxLength:"32" doc:"Browsers say it: by a link from another site nothing is fetched"`
	// Cookies are a browser's, and what it signs in with also when it follows a link.
	Cookies string `header:"Cookie" hidden:"true"`
}

type codeView struct {
	Kind      Kind       `json:"type" enum:"totp,hotp,steam,codes"`
	Code      string     `json:"code"`
	ExpiresIn *int64     `json:"expires_in" nullable:"true" doc:"Seconds; null if it does not change by time"`
	Period    *int64     `json:"period" nullable:"true" doc:"Seconds"`
	NextAt    *time.Time `json:"next_at" nullable:"true" doc:"When the next one begins"`
	Counter   *int64     `json:"counter" nullable:"true" doc:"Of the code, for hotp"`
	Left      *int       `json:"left" nullable:"true" doc:"Recovery codes that nobody has taken"`
}

func viewCode(c Code) codeView {
	v := codeView{Kind: c.Kind, Code: c.Code, Counter: c.Counter, Left: c.Left}
	if c.Period > 0 {
		v.ExpiresIn, v.Period, v.NextAt = &c.ExpiresIn, &c.Period, &c.NextAt
	}
	return v
}

type codeOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         codeView
}

// led reports whether a link could have led a browser here that somebody else made: on another site's page, or in a mail, for which a
// browser says none, as for what was typed. Those of before 2020, and all over plain HTTP, say nothing: then a cookie is enough.
func (in *codeInput) led(c tenantdb.Caller) bool {
	if _, is := c.Person(); is && in.Cookies != "" {
		return in.Site != "same-origin"
	}
	return in.Site != "" && in.Site != "same-origin" && in.Site != "none"
}

func (r *Room) getCode(ctx context.Context, c tenantdb.Caller, in *codeInput) (*codeOutput, error) {
	if in.led(c) {
		return nil, problem.New(problem.Denied, "A link may have led here from another site, and a code could be spent by that: send a POST, or fetch from a page of ours.")
	}
	code, err := r.Code(ctx, c, in.ID, in.Once)
	if err != nil {
		return nil, err
	}
	return &codeOutput{"no-store", viewCode(code)}, nil
}

type useBody fetch.Request

type useInput struct {
	ID   ID `path:"id" doc:"The item_id"`
	Body useBody
}

type useOutput struct {
	Body fetch.Response
}

// served answers an operation that proves for itself who calls: an agent from memory, so that a code costs one commit and little
// more; everybody else, and an agent that could not be proved so, as every operation does.
func (r *Room) served(api *web.API[tenantdb.Caller], w http.ResponseWriter, req *http.Request, meta web.RequestMeta, operation string,
	do func(context.Context, tenantdb.TenantID, Asker, ID) (any, error)) error {
	who, c, err := r.asker(req, meta, operation)
	if err != nil {
		return err
	}
	api.Asks(req.Context(), c)
	id, err := ParseID(req.PathValue("id"))
	if err != nil {
		return noItem()
	}
	if len(req.Header.Get("Idempotency-Key")) > 255 {
		return problem.New(problem.Invalid, "The Idempotency-Key has over 255 bytes.")
	}
	answer, err := do(req.Context(), c.Tenant(), who, id)
	if err != nil {
		return err
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(append(b, '\n'))
	return err
}

// remembered is an Asker that is proved from memory.
type remembered struct {
	agents Agents
	token  string
	meta   web.RequestMeta
	first  *standing // what the request began with, until it is asked for
}

// standing is an Asker's answer.
type standing struct {
	caller tenantdb.Caller
	head   tenantdb.Head
	spends []tenantdb.Spend
}

// Stand is for Asker. What the request began with serves once: it is of an epoch, as every other answer.
func (a *remembered) Stand(ctx context.Context, again bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error) {
	if s := a.first; s != nil && !again {
		a.first = nil
		return s.caller, s.head, s.spends, nil
	}
	return a.agents(ctx, a.token, a.meta, again)
}

func (r *Room) asker(req *http.Request, meta web.RequestMeta, operation string) (Asker, tenantdb.Caller, error) {
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	if token == "" {
		token = strings.TrimSpace(strings.TrimPrefix(req.Header.Get("X-Agent-Token"), "Bearer "))
	}
	if r.cfg.Agents != nil && strings.HasPrefix(token, "ey") && req.Header.Get("X-Api-Key") == "" && req.Header.Get("Cookie") == "" {
		if c, head, spends, err := r.cfg.Agents(req.Context(), token, meta, false); err == nil {
			return &remembered{r.cfg.Agents, token, meta, &standing{c, head, spends}}, c, nil
		}
	}
	c, err := r.cfg.Authenticate(req, meta, operation)
	return caller{c}, c, err
}
