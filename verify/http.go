package verify

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

type (
	verifyInput struct {
		Body Request
	}
	verifyOutput struct {
		Body Answer
	}
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	web.HandleRaw[verifyInput, verifyOutput](api, web.Op{
		ID: "verify", Method: http.MethodPost, Path: "/api/v1/verify", Tags: []string{"Verification"}, Access: web.Own, MaxBody: 2 << 20,
		Summary: "Decide whether to let an agent in",
		Description: "One call: is the token ours, is the agent in good standing, may it do what it asks for here. " +
			"The decision is in your audit log, and in the agent owner's, before you have the answer. " +
			"A token that is forged or malformed is a `DENIED` decision, not an error.",
	}, func(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		return r.serve(api, w, req, meta)
	})
	r.pages(api)
}

func (r *Room) serve(api *web.API[tenantdb.Caller], w http.ResponseWriter, req *http.Request, meta web.RequestMeta) error {
	raw := apikey.FromHeader(req.Header)
	who, err := r.cfg.Keys.Identify(req.Context(), raw)
	if err != nil {
		return err
	}
	answer, err := r.answer(api, w, req, Asker{Identity: who, Request: audit.RequestID(meta.ID), CallerRequest: meta.CallerRequestID})
	if err != nil {
		return r.refuse(api, req, raw, who, meta, err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(answer.append(make([]byte, 0, 1<<10)), '\n'))
	return err
}

func (r *Room) answer(api *web.API[tenantdb.Caller], w http.ResponseWriter, req *http.Request, who Asker) (*Answer, error) {
	var body Request
	if err := api.Decode(w, req, &body); err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	return r.Verify(req.Context(), who, body)
}

// refuse has a refusal recorded where those of every other operation are, in the log of the organisation that asked. Whether
// the key is in force has not been asked yet if the request was malformed: what is refused pays for that here, and what is
// answered does not.
func (r *Room) refuse(api *web.API[tenantdb.Caller], req *http.Request, raw string, who apikey.Identity, meta web.RequestMeta, err error) error {
	if k := problem.Of(err).Kind; k != problem.Unavailable && k != problem.Internal { // those may come of what would be asked
		// It is asked also of who sent half a request and hung up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), 5*time.Second)
		defer cancel()
		if _, refused := r.cfg.Keys.Authenticate(ctx, raw, meta); refused != nil {
			return refused // it is real and does not work: the organisation's log says so
		}
	}
	api.Asks(req.Context(), tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: who.Tenant, Actor: audit.Actor{Kind: audit.ActorKey, ID: who.KeyID}, How: "api-key",
		RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address,
	}))
	return err
}
