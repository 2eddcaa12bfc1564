package verify

import (
	"encoding/json"
	"net/http"

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
	var body Request
	if err := api.Decode(w, req, &body); err != nil {
		return err
	}
	if err := body.check(); err != nil {
		return err
	}
	answer, err := r.Verify(req.Context(), Asker{Identity: who, Request: audit.RequestID(meta.ID), CallerRequest: meta.CallerRequestID}, body)
	if problem.Is(err, problem.Unauthenticated) {
		// The key is real and does not work: its organisation's log says so.
		if _, recorded := r.cfg.Keys.Authenticate(req.Context(), raw, meta); recorded != nil {
			err = recorded
		}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}
