package sso

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// caller is whoever comes back from a provider: nobody yet, in the organisation of the flow.
func (fl flow) caller(method string, meta web.RequestMeta) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: fl.Tenant, Actor: audit.Actor{Kind: audit.ActorNobody}, How: method, RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address,
	})
}

// back answers whoever comes back with what a provider said: each step trusts what the one before has proved, and nothing else.
func (r *Room) back(w http.ResponseWriter, req *http.Request, meta web.RequestMeta, connection ID, kind string, said url.Values) error {
	ctx := req.Context()
	state := said.Get(map[string]string{KindOIDC: "state", KindSAML: "RelayState"}[kind])
	fl, err := r.resume(req, state)
	if err != nil {
		return err
	}
	c := fl.caller(kind, meta)
	next, err := r.arrive(w, req, c, meta, connection, kind, fl, state, said)
	if err != nil {
		return r.refused(ctx, c, fl, err)
	}
	w.Header().Set("Location", next)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (r *Room) arrive(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, meta web.RequestMeta, connection ID, kind string, fl flow, state string, said url.Values) (string, error) {
	ctx := req.Context()
	if connection != fl.Connection {
		return "", refuse(ReasonIssuer) // sent back to another provider's address: mix-up
	}
	if err := r.once(ctx, c, fl, state); err != nil {
		return "", err
	}
	n, err := r.connection(ctx, fl.Tenant, fl.Connection)
	if err != nil {
		return "", err
	}
	gone := r.bareCookie(state, n.posts())
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	if !n.Enabled || n.Kind != kind {
		return "", refuse(ReasonOff)
	}
	var p proof
	if kind == KindSAML {
		p, err = r.verifyResponse(ctx, c, n, fl, said)
	} else {
		p, err = r.redeem(ctx, n, fl, said)
	}
	if err != nil {
		return "", err
	}
	person, err := r.resolve(ctx, c, n, fl, p)
	if err != nil {
		return "", err
	}
	a := Arrival{
		Tenant: fl.Tenant, Person: person, Method: kind, Connection: n.ID, ProvedAt: p.at, Until: p.until, Strong: p.strong, Device: fl.Device, Known: fl.Known, Return: fl.Return,
	}
	if fl.Purpose == toProve {
		a.Session = fl.Session
	}
	if fl.Purpose != toLink {
		next, err := r.cfg.Arrive(w, req, meta, a)
		if err != nil || next != "" {
			return next, err
		}
	}
	if fl.Return == "" {
		return "/", nil
	}
	return fl.Return, nil
}

// refused records that somebody who had begun here was refused, and why. If that cannot be recorded, the answer is that.
func (r *Room) refused(ctx context.Context, c tenantdb.Caller, fl flow, err error) error {
	var why *Refusal
	if !errors.As(err, &why) {
		return err
	}
	e := event("sso.refused", fl.Connection, field("reason", string(why.Reason)), field("purpose", fl.Purpose))
	e.Outcome = audit.Denied
	if !fl.Person.IsZero() {
		e.Public = append(e.Public, field("person", fl.Person.String()))
	}
	if lost := r.cfg.Refused(ctx, c, e); lost != nil {
		return lost
	}
	return err
}
