package sso

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// What a flow is for.
const (
	toSignIn = "sign-in"
	toProve  = "prove" // whoever has a session proves to be still there
	toLink   = "link"  // and gives the provider's name for them to their account
)

// flow is a visit to a provider, under way. It is sealed in a cookie of its own, so that a stranger who begins a thousand writes
// nothing into the database; what is written is that one was brought back, once.
type flow struct {
	Tenant     tenantdb.TenantID `json:"tenant"`
	Connection ID                `json:"connection"`
	Purpose    string            `json:"purpose"`
	Nonce      string            `json:"nonce"`
	Verifier   string            `json:"verifier"` // of PKCE
	Request    string            `json:"request,omitempty"`
	Person     PersonID          `json:"person,omitzero"` // who must come back, unless it is to sign in
	Session    string            `json:"session,omitempty"`
	Anew       bool              `json:"anew,omitempty"`
	Hint       string            `json:"hint,omitempty"`
	Return     string            `json:"return,omitempty"`
	Device     string            `json:"device,omitempty"`
	Known      string            `json:"known,omitempty"` // what the device keeps
	At         time.Time         `json:"at"`
}

const flowLife = 10 * time.Minute

// Start is a wish to sign in.
type Start struct {
	Address    string // of e-mail: its domain says by which connection
	Connection ID     // instead
	Anew       bool   // ask the person anew, whatever session the provider has
	Return     string // the local path to go to afterwards
	Device     string
	Known      string // what the device keeps
}

// Started is where the browser goes. Without a connection there is none: the person signs in with a password.
type Started struct {
	Kind     string // "password", "oidc", "saml"
	Redirect string
	Cookie   *http.Cookie
}

// Begin begins to sign in. The answer depends on the domain of the address alone, which is public knowledge, and never on who is a
// member.
func (r *Room) Begin(ctx context.Context, s Start) (Started, error) {
	t, connection, err := r.leads(ctx, s)
	if err != nil {
		return Started{}, fmt.Errorf("sso.Begin: %w", err)
	}
	if connection.IsZero() {
		return Started{Kind: "password"}, nil
	}
	fl := flow{Tenant: t, Connection: connection, Purpose: toSignIn, Anew: s.Anew, Hint: strings.TrimSpace(s.Address), Return: s.Return, Device: s.Device, Known: s.Known}
	return r.begin(ctx, fl)
}

// leads is the connection that a wish leads to; zero if there is none, it is switched off, or nobody of its organisation may come in.
func (r *Room) leads(ctx context.Context, s Start) (t tenantdb.TenantID, connection ID, err error) {
	if connection = s.Connection; connection.IsZero() {
		name, bad := NormalDomain(DomainOf(s.Address))
		if bad != nil || !strings.Contains(s.Address, "@") {
			return t, ID{}, nil
		}
		t, connection, err = lookupDomain(ctx, r.cfg.DB, name)
	} else {
		t, err = lookupConnection(ctx, r.cfg.DB, connection)
	}
	if err != nil || t.IsZero() || connection.IsZero() {
		return t, ID{}, err
	}
	var n Connection
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "sso"), func(tx *tenantdb.ReadTx) error {
		there, err := inForce(ctx, tx)
		if err != nil || !there { // its keys may be gone: nothing of it is opened
			return err
		}
		n, err = r.load(ctx, tx, connection)
		return err
	})
	if problem.Is(err, problem.Missing) || err == nil && !n.Enabled {
		return t, ID{}, nil
	}
	return t, connection, err
}

// connection reads a connection as Avouch itself.
func (r *Room) connection(ctx context.Context, t tenantdb.TenantID, connection ID) (n Connection, err error) {
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "sso"), func(tx *tenantdb.ReadTx) error {
		n, err = r.load(ctx, tx, connection)
		return err
	})
	return n, err
}

// Prove sends a person who has a session to the provider once more: to be asked anew, or to link the account to what the provider
// calls them.
func (r *Room) BeginProof(ctx context.Context, c tenantdb.Caller, connection ID, link bool, back string) (Started, error) {
	p, ok := c.Person()
	if !ok {
		return Started{}, problem.New(problem.Denied, "Only a person who has signed in can do this.")
	}
	fl := flow{Tenant: c.Tenant(), Connection: connection, Purpose: toProve, Person: p.ID, Session: p.Session, Anew: true, Return: back}
	if link {
		if err := r.fresh(c); err != nil {
			return Started{}, err
		}
		fl.Purpose, fl.Anew = toLink, false
	}
	out, err := r.begin(ctx, fl)
	if why := (*Refusal)(nil); errors.As(err, &why) && why.Reason == ReasonOff { // the session counts on, and a 401 would say that it does not
		return Started{}, problem.New(problem.Conflict, "The connection to your organisation's identity provider is switched off.")
	}
	return out, err
}

func (r *Room) begin(ctx context.Context, fl flow) (Started, error) {
	n, err := r.connection(ctx, fl.Tenant, fl.Connection)
	if err != nil {
		return Started{}, fmt.Errorf("sso.begin: %w", err)
	}
	if !n.Enabled {
		return Started{}, refuse(ReasonOff)
	}
	if fl.Return != "" && !local(fl.Return) {
		return Started{}, problem.New(problem.Invalid, "return_to is a path of this service, such as /console.")
	}
	state := token()
	fl.Nonce, fl.Verifier, fl.At = token(), oauth2.GenerateVerifier(), r.instant()
	out := Started{Kind: n.Kind}
	if n.Kind == KindSAML {
		out.Redirect, fl.Request, err = r.samlRequest(n, fl, state)
	} else {
		var f *provider
		if f, err = r.discover(ctx, n); err != nil {
			return Started{}, refuseBecause(ReasonProvider, err)
		}
		out.Redirect = r.authorization(n, f, state, fl)
	}
	if err == nil {
		out.Cookie, err = r.cookie(ctx, n, fl, state)
	}
	return out, err
}

// token is 256 random bits.
func token() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// local takes a path of this service and nothing that a browser reads as another one.
func local(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.ContainsAny(path, "\\") && len(path) <= maxText && plain(path)
}

// cookieName is another for each flow, so that two tabs do not end each other's.
func (r *Room) cookieName(state string) string {
	sum := sha256.Sum256([]byte("avouch/sso/cookie/" + state))
	name := "avouch_sso_" + base64.RawURLEncoding.EncodeToString(sum[:6])
	if r.cfg.Public.Scheme == "https" {
		return "__Host-" + name
	}
	return name
}

// cookie holds the flow, sealed for its state. It is only sent with the way back: by a link that is followed (Lax), or, where the
// provider posts a form, by a page of the provider's (None, which browsers take with Secure alone).
func (r *Room) cookie(ctx context.Context, n Connection, fl flow, state string) (*http.Cookie, error) {
	b, err := json.Marshal(fl)
	if err != nil {
		return nil, err
	}
	sealed, err := r.cfg.Ring.Seal(ctx, fl.Tenant, state, "sso-flow", 0, b)
	if err != nil {
		return nil, fmt.Errorf("sso.cookie: %w", err)
	}
	k := r.bareCookie(state, n.posts())
	k.Value, k.MaxAge = fl.Tenant.String()+"."+base64.RawURLEncoding.EncodeToString(sealed), int(flowLife.Seconds())
	return k, nil
}

func (r *Room) bareCookie(state string, posts bool) *http.Cookie {
	k := &http.Cookie{Name: r.cookieName(state), Path: "/", HttpOnly: true, Secure: r.cfg.Public.Scheme == "https", SameSite: http.SameSiteLaxMode}
	if posts {
		k.SameSite, k.Secure = http.SameSiteNoneMode, true
	}
	return k
}

// posts reports whether the provider answers by a form.
func (n Connection) posts() bool {
	return n.Kind == KindSAML || n.Settings.OIDC.ResponseMode == "form_post"
}

// resume opens the flow of a state from the request's cookie.
func (r *Room) resume(req *http.Request, state string) (flow, error) {
	var fl flow
	if len(state) != 43 {
		return fl, refuse(ReasonState)
	}
	k, err := req.Cookie(r.cookieName(state))
	if err != nil {
		return fl, refuse(ReasonState)
	}
	whose, value, _ := strings.Cut(k.Value, ".")
	t, err := tenantdb.ParseTenantID(whose)
	if err != nil {
		return fl, refuse(ReasonState)
	}
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(sealed) > 4096 {
		return fl, refuse(ReasonState)
	}
	b, err := r.cfg.Ring.Open(req.Context(), t, state, "sso-flow", 0, sealed)
	if err != nil {
		return fl, refuseBecause(ReasonState, err)
	}
	if err := json.Unmarshal(b, &fl); err != nil {
		return fl, refuseBecause(ReasonState, err)
	}
	if now := r.cfg.Now(); fl.Tenant != t || now.After(fl.At.Add(flowLife)) || now.Before(fl.At.Add(-skew)) {
		return flow{}, refuse(ReasonState)
	}
	return fl, nil
}

// once refuses a flow that was brought back before, to whatever server.
func (r *Room) once(ctx context.Context, c tenantdb.Caller, fl flow, state string) error {
	sum := sha256.Sum256([]byte(state))
	first := false
	err := r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) (err error) {
		first, err = spend(ctx, tx, "sso-state", sum[:], fl.At.Add(2*flowLife))
		return err
	})
	if err == nil && !first {
		err = refuse(ReasonReplay)
	}
	return err
}
