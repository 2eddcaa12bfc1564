package signin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/tenantdb"
)

// EnrolmentView is what a first factor is set up with.
type EnrolmentView struct {
	ID        string          `json:"id" doc:"The factor to confirm"`
	Kind      string          `json:"kind"`
	Secret    string          `json:"secret,omitempty" doc:"Of an authenticator app, as people type it"`
	URI       string          `json:"uri,omitempty" doc:"Of an authenticator app, as apps read it"`
	Options   json.RawMessage `json:"options,omitempty" doc:"Of a passkey, for navigator.credentials.create"`
	SentTo    string          `json:"sent_to,omitempty" doc:"Where a code was sent, masked"`
	ExpiresAt time.Time       `json:"expires_at"`
}

type goOnInput struct {
	Attempt string `json:"attempt" maxLength:"128"`
	Do      string `json:"do" enum:"look,ask,prove,enrol,confirm" doc:"look says what is wanted; ask and prove a factor; or enrol and confirm a first one"`
	AnswerInput
	Kind       string          `json:"kind,omitempty" enum:"totp,email,sms,passkey" doc:"enrol: of the factor to set up"`
	Name       string          `json:"name,omitempty" maxLength:"64" doc:"enrol: what you call it"`
	To         string          `json:"to,omitempty" maxLength:"254" doc:"enrol: the telephone number, or an address"`
	Credential json.RawMessage `json:"credential,omitempty" doc:"confirm: what navigator.credentials.create gave, as JSON"`
}

// AnswerInput is an answer as it is sent.
type AnswerInput struct {
	Factor       string          `json:"factor,omitempty" maxLength:"36" doc:"Of factors"`
	Code         string          `json:"code,omitempty" maxLength:"32"`
	RecoveryCode string          `json:"recovery_code,omitempty" maxLength:"80"`
	Assertion    json.RawMessage `json:"assertion,omitempty" doc:"What navigator.credentials.get gave, as JSON"`
}

func (in AnswerInput) factor() (mfa.ID, error) {
	if in.Factor == "" {
		return mfa.ID{}, nil
	}
	f, err := mfa.ParseID(in.Factor)
	if err != nil {
		return f, problem.New(problem.Invalid, "`factor` is not the id of a factor.")
	}
	return f, nil
}

func (in AnswerInput) proof(attempt string) (Proof, error) {
	f, err := in.factor()
	if err == nil && in.Code == "" && in.RecoveryCode == "" && len(in.Assertion) == 0 {
		err = problem.New(problem.Invalid, "Send one of `code`, `recovery_code` and `assertion`.")
	}
	return Proof{secret.Text(attempt), f, secret.Text(in.Code), secret.Text(in.RecoveryCode), in.Assertion}, err
}

func (r *Room) goOn(req *http.Request, who Request, in *goOnInput) (*Step, error) {
	ctx, attempt := req.Context(), secret.Text(in.Attempt)
	f, err := in.factor()
	if err != nil {
		return nil, err
	}
	switch in.Do {
	case "look":
		o, kinds, err := r.Standing(ctx, who, attempt)
		step, err := r.step(o, err)
		if err == nil {
			step.Kinds = kinds
		}
		return step, err
	case "ask":
		q, err := r.Ask(ctx, attempt, f)
		return asked(q, err)
	case "prove":
		p, err := in.proof(in.Attempt)
		if err != nil {
			return nil, err
		}
		return r.step(r.Continue(ctx, who, p))
	case "enrol":
		b, err := r.Begin(ctx, who, attempt, mfa.Wanted{Kind: in.Kind, Name: in.Name, To: in.To})
		if err != nil {
			return nil, err
		}
		return &Step{State: Enrol, Enrolment: &EnrolmentView{b.ID.String(), b.Kind, b.Secret.Expose(), b.URI.Expose(), b.Options, b.SentTo, b.ExpiresAt}}, nil
	}
	return r.step(r.Confirm(ctx, who, Confirmed{attempt, f, secret.Text(in.Code), in.Credential}))
}

func asked(q mfa.Question, err error) (*Step, error) {
	if err != nil {
		return nil, err
	}
	return &Step{State: "asked", Question: q.Options, SentTo: q.SentTo, ExpiresAt: &q.ExpiresAt}, nil
}

type proveInput struct {
	Body struct {
		Do      string `json:"do" enum:"begin,ask,prove" doc:"begin names your factors; ask puts the question of one; prove answers"`
		Attempt string `json:"attempt,omitempty" maxLength:"128"`
		AnswerInput
		Password string `json:"password,omitempty" maxLength:"1024" doc:"Of who has no factor"`
	}
}

func (r *Room) serveProve(a *api, w http.ResponseWriter, req *http.Request, c tenantdb.Caller, meta web.RequestMeta) error {
	var in proveInput
	if err := a.Decode(w, req, &in.Body); err != nil {
		return err
	}
	step, err := r.prove(req.Context(), c, r.requestOf(req, meta), &in)
	if err != nil {
		return err
	}
	return step.send(w)
}

func (r *Room) prove(ctx context.Context, c tenantdb.Caller, who Request, in *proveInput) (*Step, error) {
	f, err := in.Body.factor()
	if err != nil {
		return nil, err
	}
	var value secret.String
	switch {
	case in.Body.Do == "begin":
		v, err := r.BeginProof(ctx, c)
		if err != nil {
			return nil, err
		}
		step := &Step{State: Factor, Attempt: v.Attempt.Expose(), Factors: factors(v.Factors), Codes: &v.Codes, Password: v.Password}
		if v.Connection != [16]byte{} {
			step.Connection = tenantdb.TenantID(v.Connection).String()
		}
		return step, nil
	case in.Body.Do == "ask":
		return asked(r.AskProof(ctx, c, secret.Text(in.Body.Attempt), f))
	case in.Body.Password != "":
		value, err = r.ProvePassword(ctx, c, who, secret.Text(in.Body.Attempt), secret.Text(in.Body.Password))
	default:
		var p Proof
		if p, err = in.Body.proof(in.Body.Attempt); err == nil {
			value, err = r.Prove(ctx, c, who, p)
		}
	}
	if err != nil {
		return nil, err
	}
	step := &Step{State: SignedIn}
	if p, _ := c.Person(); !value.IsZero() {
		step.SessionID = p.Session
		step.cookies = func(w http.ResponseWriter) {
			r.cfg.Sessions.Cookie(w, session.Session{ExpiresAt: r.instant().Add(session.DefaultLife)}, value)
		}
	}
	return step, nil
}

func (r *Room) accountRoutes(a *api, tags []string) {
	account := func(id, method, path, summary, description string, status int, fn func(context.Context, tenantdb.Caller, Request, *accountInput) error) {
		web.HandleRaw[accountInput, web.None](a, web.Op{
			ID: id, Method: method, Path: path, Tags: tags, Summary: summary, Description: description, Status: status,
		}, func(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, meta web.RequestMeta) error {
			var in accountInput
			if err := a.Decode(w, req, &in.Body); err != nil {
				return err
			}
			if err := fn(req.Context(), c, r.requestOf(req, meta), &in); err != nil {
				return err
			}
			w.WriteHeader(status)
			return nil
		})
	}
	account("set-password", http.MethodPut, "/api/v1/password", "Set your password", "`old` and `new`. It wants a fresh proof, and ends all your other sessions.", http.StatusNoContent,
		func(ctx context.Context, c tenantdb.Caller, who Request, in *accountInput) error {
			return r.SetPassword(ctx, c, who, secret.Text(in.Body.Old), secret.Text(in.Body.New))
		})
	account("change-address", http.MethodPost, "/api/v1/address", "Change your e-mail address", "A link is mailed to the new `address`; with it, the address becomes yours. It wants a fresh proof.", http.StatusAccepted,
		func(ctx context.Context, c tenantdb.Caller, who Request, in *accountInput) error {
			return r.AskAddress(ctx, c, who, in.Body.Address)
		})
	account("confirm-address", http.MethodPost, "/api/v1/address/confirm", "Confirm your new e-mail address", "With the `link` that was mailed there.", http.StatusNoContent,
		func(ctx context.Context, c tenantdb.Caller, _ Request, in *accountInput) error {
			return r.SetAddress(ctx, c, secret.Text(in.Body.Link))
		})
}

type accountInput struct {
	Body struct {
		Old     string `json:"old,omitempty" maxLength:"1024" doc:"Your present password, if you have one"`
		New     string `json:"new,omitempty" maxLength:"1024"`
		Address string `json:"address,omitempty" maxLength:"254"`
		Link    string `json:"link,omitempty" maxLength:"128"`
	}
}
