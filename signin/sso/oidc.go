package sso

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// proof is what a provider says of a person, verified: the same of both kinds.
type proof struct {
	subject   string // the provider's name for the person, with the provider's own name
	address   string // of e-mail, as it was written; empty if the provider says none
	vouched   bool   // the provider says that the address is the person's
	believed  bool   // addresses of proved domains are believed without that
	name      string
	groups    []string
	at, until time.Time
	strong    bool
}

const skew = time.Minute

func (r *Room) oauth(n Connection, f *provider) *oauth2.Config {
	o := n.Settings.OIDC
	return &oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: f.endpoint, RedirectURL: r.callbackAddress(n.ID), Scopes: o.Scopes}
}

// callbackAddress is another for each connection. A provider that pretends to be another one of ours (mix-up) would have the
// person sent back to an address that its own sign-in does not know.
func (r *Room) callbackAddress(connection ID) string {
	return r.address("/api/v1/sso/" + connection.String() + "/callback")
}

// authorization is where the browser goes.
func (r *Room) authorization(n Connection, f *provider, state string, fl flow) string {
	opts := []oauth2.AuthCodeOption{oidc.Nonce(fl.Nonce), oauth2.S256ChallengeOption(fl.Verifier)}
	if n.Settings.OIDC.ResponseMode != "query" {
		opts = append(opts, oauth2.SetAuthURLParam("response_mode", n.Settings.OIDC.ResponseMode))
	}
	if fl.Anew {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	if fl.Hint != "" {
		opts = append(opts, oauth2.SetAuthURLParam("login_hint", fl.Hint))
	}
	return r.oauth(n, f).AuthCodeURL(state, opts...)
}

// claims is what is read of an id token beside what go-oidc does.
type claims struct {
	AZP       string       `json:"azp"`
	NotBefore float64      `json:"nbf"`
	AuthTime  float64      `json:"auth_time"`
	AMR       oneOrMore    `json:"amr"`
	ACR       string       `json:"acr"`
	Email     string       `json:"email"`
	Verified  boolOrString `json:"email_verified"`
}

// oneOrMore is a list of strings, or the one string that some providers write instead.
type oneOrMore []string

// UnmarshalJSON reads either; what is neither is nothing.
func (l *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = []string{one}
		return nil
	}
	var more []any
	if json.Unmarshal(b, &more) != nil {
		return nil
	}
	for _, v := range more {
		if s, ok := v.(string); ok {
			*l = append(*l, s)
		}
	}
	return nil
}

// boolOrString is a boolean, which some providers write as a string.
type boolOrString bool

// UnmarshalJSON reads either; what is neither is false.
func (v *boolOrString) UnmarshalJSON(b []byte) error {
	*v = string(b) == "true" || string(b) == `"true"`
	return nil
}

// redeem exchanges the code and verifies what comes for it.
func (r *Room) redeem(ctx context.Context, n Connection, fl flow, back url.Values) (proof, error) {
	f, err := r.discover(ctx, n)
	if err != nil {
		return proof{}, refuseBecause(ReasonProvider, err)
	}
	// RFC 9207, against mix-up: the answer says whose it is, if the provider said that it would.
	if iss := back.Get("iss"); iss != "" && iss != n.Settings.OIDC.Issuer || iss == "" && f.extra.Issuers {
		return proof{}, refuse(ReasonIssuer)
	}
	if back.Get("error") != "" {
		return proof{}, refuse(ReasonDeclined)
	}
	ctx = oidc.ClientContext(ctx, r.cfg.Client)
	token, err := r.oauth(n, f).Exchange(ctx, back.Get("code"), oauth2.VerifierOption(fl.Verifier))
	if err != nil {
		return proof{}, refuseBecause(ReasonCode, clean(err))
	}
	raw, _ := token.Extra("id_token").(string)
	cfg := &oidc.Config{ClientID: n.Settings.OIDC.ClientID, SupportedSigningAlgs: f.algs, Now: func() time.Time { return r.cfg.Now().Add(-skew) }}
	id, err := oidc.NewVerifier(n.Settings.OIDC.Issuer, f.keys, cfg).Verify(ctx, raw)
	if err != nil {
		return proof{}, refuseBecause(ReasonToken, err)
	}
	if id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken) != nil {
		return proof{}, refuse(ReasonToken)
	}
	p, err := r.judge(n, fl, id)
	if err != nil || !n.Settings.OIDC.Userinfo {
		return p, err
	}
	return p, r.addUserinfo(ctx, n, f, token, &p)
}

// clean is an error without what the provider answered: that may quote the code.
func clean(err error) error {
	if re, ok := err.(*oauth2.RetrieveError); ok {
		return fmt.Errorf("the token endpoint answered %d", re.Response.StatusCode)
	}
	return err
}

// judge holds what go-oidc leaves to its caller.
func (r *Room) judge(n Connection, fl flow, id *oidc.IDToken) (proof, error) {
	var c claims
	var all map[string]json.RawMessage
	if err := id.Claims(&c); err != nil {
		return proof{}, refuseBecause(ReasonToken, err)
	}
	if err := id.Claims(&all); err != nil {
		return proof{}, refuseBecause(ReasonToken, err)
	}
	now, o := r.cfg.Now(), n.Settings.OIDC
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(fl.Nonce)) != 1:
		return proof{}, refuse(ReasonNonce)
	case len(id.Audience) != 1 && c.AZP == "", c.AZP != "" && c.AZP != o.ClientID:
		return proof{}, refuse(ReasonAudience)
	case id.Subject == "" || len(id.Subject) > 255 || !plain(id.Subject):
		return proof{}, refuse(ReasonToken)
	case id.IssuedAt.After(now.Add(skew)), seconds(c.NotBefore).After(now.Add(skew)):
		return proof{}, refuse(ReasonEarly)
	case id.IssuedAt.Before(fl.At.Add(-skew)): // a token of another sign-in; no provider keeps them
		return proof{}, refuse(ReasonToken)
	}
	p := proof{
		subject: o.Issuer + "\x00" + id.Subject, address: c.Email, vouched: bool(c.Verified), believed: o.TrustEmail, at: neverProved,
		name: text(all[o.NameClaim]), groups: list(all[o.GroupsClaim]),
		strong: slices.Contains(o.TrustMFA, c.ACR) && c.ACR != "" || slices.ContainsFunc(c.AMR, func(m string) bool { return slices.Contains(o.TrustMFA, m) }),
	}
	if c.AuthTime > 0 {
		if p.at = seconds(c.AuthTime); p.at.After(now) {
			p.at = now
		}
	}
	// To prove oneself anew is to be asked anew: a provider that kept its own session did not.
	if fl.Anew && p.at.Before(fl.At.Add(-skew)) {
		return proof{}, refuse(ReasonStale)
	}
	return p, nil
}

// neverProved is when somebody was proved of whom the provider does not say when: long ago, so that what is dangerous wants a
// proof that does.
var neverProved = time.Unix(1, 0).UTC()

func seconds(s float64) time.Time {
	if s <= 0 || s > 1e11 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

func list(raw json.RawMessage) []string {
	var l oneOrMore
	if len(raw) > 0 {
		_ = l.UnmarshalJSON(raw)
	}
	if len(l) > 5000 {
		l = l[:5000]
	}
	return l
}

// addUserinfo adds what the id token left out. What that one says stays: it is signed.
func (r *Room) addUserinfo(ctx context.Context, n Connection, f *provider, token *oauth2.Token, p *proof) error {
	info, err := f.oidc.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return refuseBecause(ReasonProvider, err)
	}
	if n.Settings.OIDC.Issuer+"\x00"+info.Subject != p.subject { // OpenID Connect Core, section 5.3.2
		return refuse(ReasonToken)
	}
	var all map[string]json.RawMessage
	if err := info.Claims(&all); err != nil {
		return refuseBecause(ReasonProvider, err)
	}
	if p.address == "" {
		p.address, p.vouched = info.Email, info.EmailVerified
	}
	if p.name == "" {
		p.name = text(all[n.Settings.OIDC.NameClaim])
	}
	if len(p.groups) == 0 {
		p.groups = list(all[n.Settings.OIDC.GroupsClaim])
	}
	return nil
}

// Check asks a connection's provider whether it is there. What it says is words of ours: a customer must not read by it what a
// network of ours answers.
func (r *Room) Check(ctx context.Context, n Connection) []string {
	if n.Kind == KindSAML {
		p, err := n.Settings.SAML.Provider()
		if err != nil {
			return []string{"The settings are not valid."}
		}
		if !p.CertificatesEnd().After(r.cfg.Now()) {
			return []string{"The certificates have ended."}
		}
		return nil
	}
	r.providers.forget(providerName{n.ID, n.Version})
	f, err := r.discover(ctx, n)
	if err != nil {
		return []string{"The provider does not answer at its issuer's address as OpenID Connect Discovery says, or says that it is another one."}
	}
	var wrong []string
	if _, err := f.keys.VerifySignature(oidc.ClientContext(ctx, r.cfg.Client), probe); err != nil && strings.Contains(err.Error(), "fetching keys") {
		wrong = append(wrong, "The provider's keys cannot be read at its jwks_uri.")
	}
	return wrong
}

// probe is a token of nobody's: to check it, the provider's keys are read.
const probe = "eyJhbGciOiJSUzI1NiIsImtpZCI6InByb2JlIn0.e30.AA"
