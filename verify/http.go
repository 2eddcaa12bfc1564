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
	verifyKeyInput struct {
		Body KeyRequest
	}
	verifyKeyOutput struct {
		Body KeyAnswer
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
	web.HandleRaw[verifyKeyInput, verifyKeyOutput](api, web.Op{
		ID: "verify-key", Method: http.MethodPost, Path: "/api/v1/keys/verify", Tags: []string{"Keys"}, Access: web.Own, MaxBody: 64 << 10,
		Summary: "Decide whether to let somebody in whom you gave a key",
		Description: "One call: is the key one of yours, in force, allowed from there and for that, within its limits. The use is counted and in " +
			"your audit log before you have the answer. A key that is not good is an answer with its `code`, not an error. Needs `verify`.",
		Fails: map[int]string{
			http.StatusForbidden:       "Your own key lacks the capability `verify`",
			http.StatusTooManyRequests: "Your own key's uses, rates or quota are spent; those of the key that you ask about are in the answer",
		},
	}, func(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		return r.serveKey(api, w, req, meta)
	})
	r.pages(api)
}

func (r *Room) serve(api *web.API[tenantdb.Caller], w http.ResponseWriter, req *http.Request, meta web.RequestMeta) error {
	var body Request
	return r.asked(api, w, req, meta, &body, func(who Asker) ([]byte, error) {
		if err := body.check(); err != nil {
			return nil, err
		}
		a, err := r.Verify(req.Context(), who, body)
		if err != nil {
			return nil, err
		}
		return a.append(make([]byte, 0, 1<<10)), nil
	})
}

func (r *Room) serveKey(api *web.API[tenantdb.Caller], w http.ResponseWriter, req *http.Request, meta web.RequestMeta) error {
	var body KeyRequest
	return r.asked(api, w, req, meta, &body, func(who Asker) ([]byte, error) {
		a, err := r.VerifyKey(req.Context(), who, body)
		if err != nil {
			return nil, err
		}
		return a.append(make([]byte, 0, 1<<10))
	})
}

// asked answers an operation that proves for itself who asks: with the key's identity alone. Whether the key is in force is
// read with everything else that is decided from.
func (r *Room) asked(api *web.API[tenantdb.Caller], w http.ResponseWriter, req *http.Request, meta web.RequestMeta, body any, answer func(Asker) ([]byte, error)) error {
	raw := apikey.FromHeader(req.Header)
	if raw == "" {
		return apikey.Unsent(req.Header)
	}
	who, err := r.cfg.Keys.IdentifyFrom(req.Context(), raw, meta.Address)
	if err != nil {
		return err
	}
	var b []byte
	if err = api.Decode(w, req, body); err == nil {
		b, err = answer(Asker{Identity: who, Request: audit.RequestID(meta.ID), CallerRequest: meta.CallerRequestID, Address: meta.Address})
	}
	if err != nil {
		return r.refuse(api, req, raw, who, meta, err)
	}
	r.cfg.Keys.Used(who, apikey.LastUse{At: meta.Start, Address: meta.Address, Agent: req.UserAgent()}, true)
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(b, '\n'))
	return err
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
