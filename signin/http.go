package signin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/tenantdb"
)

type api = web.API[tenantdb.Caller]

// Routes registers the room's operations. Six of them are open to everybody.
func (r *Room) Routes(a *api) {
	tags := []string{"Sign-in"}
	public(r, a, "sign-in", "/api/v1/sign-in", "Sign in", "With an address and a password, or with `passkey` and nothing else. The answer's `state` says what is wanted next: "+
		"`signed_in` has set a cookie, or holds the tokens of a program; `factor` wants one of `factors`; `enrol` wants a first factor to be set up; both go on at "+
		"`POST /api/v1/sign-in/continue` with the `attempt`. Whether there is an account cannot be told from a refusal, nor from its time.", tags, r.signIn)
	public(r, a, "continue-sign-in", "/api/v1/sign-in/continue", "Go on with a sign-in", "`ask` has a code sent, or gives what a passkey is to sign; `prove` answers; `enrol` and `confirm` set up a first factor. "+
		"An attempt ends after fifteen minutes, and after five wrong answers.", tags, r.goOn)
	public(r, a, "recover", "/api/v1/recovery", "Ask for a new password", "A link is mailed to the address if there is an account. The answer is the same if there is none.", tags, r.recover)
	public(r, a, "finish-recovery", "/api/v1/recovery/finish", "Set a new password", "With a mailed link. It goes on as a sign-in with that password: a factor is asked for all the same, and where there is one, the password is set with its proof. Then all sessions end.", tags, r.renew)
	public(r, a, "join", "/api/v1/join", "Join an organisation", "With the link of an invitation: `look` shows what it is for, `join` makes the account and goes on as a sign-in.", tags, r.join)
	web.HandleRaw[proveInput, stepOutput](a, web.Op{
		ID: "prove-yourself", Method: http.MethodPost, Path: "/api/v1/session/prove", Tags: tags, Summary: "Prove yourself again",
		Description: "What is dangerous wants a proof of the last five minutes. `ask` begins, and `prove` answers; with a factor, or with the password where there is none. A browser gets another cookie.",
	}, func(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, meta web.RequestMeta) error {
		return r.serveProve(a, w, req, c, meta)
	})
	r.accountRoutes(a, tags)
}

// public registers an operation that everybody may ask for, and that may end in a cookie.
func public[In any](r *Room, a *api, id, path, summary, description string, tags []string, fn func(*http.Request, Request, *In) (*Step, error)) {
	op := web.Op{ID: id, Method: http.MethodPost, Path: path, Tags: tags, Access: web.Public, Summary: summary, Description: description, MaxBody: 64 << 10}
	if id == "recover" { // a mail may come of it
		op.Status = http.StatusAccepted
	}
	web.HandleRaw[struct{ Body In }, stepOutput](a, op, func(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		var in In
		if err := a.Decode(w, req, &in); err != nil {
			return err
		}
		step, err := fn(req, r.requestOf(req, meta), &in)
		if err != nil {
			return err
		}
		return step.send(w)
	})
}

// Step is where a sign-in stands, for its client.
type Step struct {
	State      State        `json:"state" enum:"signed_in,factor,enrol,asked,mailed,invited,confirmed"`
	Attempt    string       `json:"attempt,omitempty" doc:"What the next step is asked with. It is a secret."`
	Factors    []FactorView `json:"factors,omitempty" doc:"Which of your factors may be used"`
	Codes      *int         `json:"recovery_codes_left,omitempty"`
	Kinds      []string     `json:"kinds,omitempty" doc:"look: which kinds of factors you may set up; hardware is a passkey that its maker attests"`
	Password   bool         `json:"password,omitempty" doc:"You have no factor: prove yourself by your password"`
	Connection string       `json:"connection_id,omitempty" doc:"The provider that you signed in by, which can prove you again: POST /api/v1/sso/prove"`

	Question  json.RawMessage `json:"question,omitempty" doc:"What a passkey is to sign: options of the Web Authentication API"`
	SentTo    string          `json:"sent_to,omitempty" doc:"Where a code was sent, masked"`
	Enrolment *EnrolmentView  `json:"enrolment,omitempty" doc:"What to set the factor up with"`
	NewCodes  []string        `json:"recovery_codes,omitempty" doc:"Shown this once"`

	TenantID     *tenantdb.TenantID `json:"tenant_id,omitempty"`
	PersonID     *tenantdb.PersonID `json:"person_id,omitempty"`
	SessionID    string             `json:"session_id,omitempty"`
	ExpiresAt    *time.Time         `json:"expires_at,omitempty" doc:"When the session ends at the latest"`
	AccessToken  string             `json:"access_token,omitempty" doc:"Of a program: good for fifteen minutes"`
	RefreshToken string             `json:"refresh_token,omitempty" doc:"Of a program: gets the next access token, once"`

	Organisation string `json:"organisation,omitempty" doc:"That you are invited to"`
	Name         string `json:"name,omitempty"`
	Address      string `json:"address,omitempty"`

	cookies func(http.ResponseWriter)
	status  int
}

type stepOutput struct{ Body Step }

// FactorView is a factor as its person chooses it.
type FactorView struct {
	ID   string `json:"id"`
	Kind string `json:"kind" enum:"totp,email,sms,passkey"`
	Name string `json:"name,omitempty"`
	Hint string `json:"hint,omitempty" doc:"Where codes go, masked"`
}

func (s *Step) send(w http.ResponseWriter) error {
	if s.cookies != nil {
		s.cookies(w)
	}
	w.Header().Set("Content-Type", "application/json")
	if s.status != 0 {
		w.WriteHeader(s.status)
	}
	return json.NewEncoder(w).Encode(s)
}

func (r *Room) requestOf(req *http.Request, meta web.RequestMeta) Request {
	return Request{Meta: meta, Program: req.UserAgent(), Device: r.cfg.Sessions.DeviceOf(req)}
}

func factors(all []mfa.Factor) []FactorView {
	out := make([]FactorView, len(all))
	for i, f := range all {
		out[i] = FactorView{f.ID.String(), f.Kind, f.Name, f.Hint}
	}
	return out
}

// step shows an outcome.
func (r *Room) step(o Outcome, err error) (*Step, error) {
	if err != nil {
		return nil, err
	}
	s := &Step{State: o.State, Attempt: o.Attempt.Expose(), Factors: factors(o.Factors)}
	if o.State == Factor {
		s.Codes = &o.Codes
	}
	if o.Started == nil {
		return s, nil
	}
	started := o.Started
	s.TenantID, s.PersonID, s.SessionID, s.ExpiresAt = &o.Tenant, &o.Person, started.Session.ID.String(), &started.Session.ExpiresAt
	for _, c := range o.NewCodes {
		s.NewCodes = append(s.NewCodes, c.Expose())
	}
	if !started.Access.IsZero() {
		s.AccessToken, s.RefreshToken = started.Access.Expose(), started.Value.Expose()
		return s, nil
	}
	s.cookies = func(w http.ResponseWriter) {
		r.cfg.Sessions.Cookie(w, started.Session, started.Value)
		if !started.Device.IsZero() {
			r.cfg.Sessions.Device(w, started.Device)
		}
	}
	return s, nil
}

// Wish is the session that a client wants.
type Wish struct {
	Kind     string `json:"kind,omitempty" enum:"browser,program" doc:"browser, unless you say otherwise: a cookie. A program gets tokens."`
	Device   string `json:"device,omitempty" maxLength:"100" doc:"What you call this device, for your list of sessions"`
	ClientID string `json:"client_id,omitempty" maxLength:"200" doc:"What a program calls itself: its refresh tokens are worth nothing without it"`
}

func (in Wish) wanted() Wanted { return Wanted{in.Kind == "program", in.ClientID, in.Device} }

type signInInput struct {
	Address      string             `json:"address,omitempty" maxLength:"254"`
	Password     string             `json:"password,omitempty" maxLength:"1024"`
	Organisation *tenantdb.TenantID `json:"organisation,omitempty" doc:"Which, if you are in several; else it is the one that you signed in to last"`
	Passkey      bool               `json:"passkey,omitempty" doc:"Sign in by a passkey alone: address and password stay away"`
	Wish
}

func (r *Room) signIn(req *http.Request, who Request, in *signInInput) (*Step, error) {
	if in.Passkey {
		return r.beginPasskey(req.Context(), who, in.wanted())
	}
	if in.Address == "" || in.Password == "" {
		return nil, problem.New(problem.Invalid, "Send an address and a password, or passkey.")
	}
	asked := Asked{Address: in.Address, Password: secret.Text(in.Password), Session: in.wanted()}
	if in.Organisation != nil {
		asked.Organisation = *in.Organisation
	}
	return r.step(r.SignIn(req.Context(), who, asked))
}

type recoverInput struct {
	Address string `json:"address" maxLength:"254"`
}

func (r *Room) recover(req *http.Request, who Request, in *recoverInput) (*Step, error) {
	if err := r.Recover(req.Context(), who, in.Address); err != nil {
		return nil, err
	}
	return &Step{State: "mailed", status: http.StatusAccepted}, nil
}

type renewInput struct {
	Link     string `json:"link" maxLength:"128"`
	Password string `json:"password" maxLength:"1024"`
	Wish
}

func (r *Room) renew(req *http.Request, who Request, in *renewInput) (*Step, error) {
	return r.step(r.Renew(req.Context(), who, Renewed{secret.Text(in.Link), secret.Text(in.Password), in.wanted()}))
}

type joinInput struct {
	Do       string `json:"do" enum:"look,join"`
	Link     string `json:"link" maxLength:"128"`
	Name     string `json:"name,omitempty" maxLength:"200"`
	Password string `json:"password,omitempty" maxLength:"1024"`
	Wish
}

func (r *Room) join(req *http.Request, who Request, in *joinInput) (*Step, error) {
	if in.Do == "look" {
		shown, err := r.Look(req.Context(), secret.Text(in.Link))
		if err != nil {
			return nil, err
		}
		return &Step{State: "invited", Organisation: shown.Organisation, Name: shown.Name, Address: shown.Address}, nil
	}
	if in.Name == "" || in.Password == "" {
		return nil, problem.New(problem.Invalid, "Send a name and a password.")
	}
	return r.step(r.Join(req.Context(), who, Joined{secret.Text(in.Link), in.Name, secret.Text(in.Password), in.wanted()}))
}
