package oidcprovider

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

const redirect = "http://127.0.0.1:9/callback"

func client() Client { return Client{"avouch", "client secret %+", []string{redirect}} }

func ada() User {
	return User{Subject: "ada-1", Claims: map[string]any{"email": "ada@example.com", "email_verified": true, "name": "Ada"}}
}

// signIn is what a careful client does with go-oidc.
func signIn(ctx context.Context, t *testing.T, p *Provider, mangle func(code string, opts []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption)) (*oidc.IDToken, error) {
	t.Helper()
	found, err := oidc.NewProvider(ctx, p.URL)
	if err != nil {
		return nil, err
	}
	c := client()
	cfg := oauth2.Config{ClientID: c.ID, ClientSecret: c.Secret, Endpoint: found.Endpoint(), RedirectURL: redirect, Scopes: []string{"openid", "email"}}
	verifier := oauth2.GenerateVerifier()
	back, _ := Visit(t, cfg.AuthCodeURL("state-1", oidc.Nonce("nonce-1"), oauth2.S256ChallengeOption(verifier)))
	u, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	if u.Query().Get("state") != "state-1" || u.Query().Get("error") != "" {
		return nil, errors.New(u.RawQuery)
	}
	code, opts := u.Query().Get("code"), []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}
	if mangle != nil {
		code, opts = mangle(code, opts)
	}
	token, err := cfg.Exchange(ctx, code, opts...)
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := found.Verifier(&oidc.Config{ClientID: c.ID}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if id.Nonce != "nonce-1" {
		return nil, errors.New("nonce")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, err
		}
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil || info.Subject != id.Subject {
		return nil, errors.Join(errors.New("userinfo"), err)
	}
	return id, nil
}

func TestGoOIDC(t *testing.T) {
	t.Parallel()
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA} {
		p := New(t, alg, client())
		p.SignIn(ada())
		id, err := signIn(t.Context(), t, p, nil)
		if err != nil || id.Subject != "ada-1" {
			t.Errorf("%s: %v", alg, err)
		}
		p.Rotate()
		if _, err := signIn(t.Context(), t, p, nil); err != nil {
			t.Errorf("%s, after a rotation: %v", alg, err)
		}
	}
	for name, f := range map[string]Faults{
		"alg none": {Alg: "none"}, "HS256 with the public key": {Alg: "HS256"}, "another key": {Alg: "stranger"}, "another audience": {Claims: map[string]any{"aud": "other"}},
		"another issuer": {Claims: map[string]any{"iss": "https://evil.example"}}, "expired": {Claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}},
		"another nonce": {Claims: map[string]any{"nonce": "other"}}, "another issuer announced": {Announce: "https://evil.example"}, "down": {TokenStatus: 500},
	} {
		p := New(t, jose.RS256, client())
		p.SignIn(ada())
		p.Fail(f)
		if _, err := signIn(t.Context(), t, p, nil); err == nil {
			t.Errorf("%s: go-oidc sees nothing wrong, so the fault is none", name)
		}
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	p := New(t, jose.ES256, client(), Client{"other", "s", []string{redirect}})
	p.SignIn(ada())
	var spent string
	if _, err := signIn(t.Context(), t, p, func(c string, o []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption) { spent = c; return c, o }); err != nil {
		t.Fatal(err)
	}
	for name, mangle := range map[string]func(string, []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption){
		"used before":  func(_ string, o []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption) { return spent, o },
		"another code": func(_ string, o []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption) { return "x", o },
		"no verifier":  func(c string, _ []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption) { return c, nil },
		"wrong verifier": func(c string, _ []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption) {
			return c, []oauth2.AuthCodeOption{oauth2.VerifierOption(oauth2.GenerateVerifier())}
		},
		"another address": func(c string, o []oauth2.AuthCodeOption) (string, []oauth2.AuthCodeOption) {
			return c, append(o, oauth2.SetAuthURLParam("redirect_uri", "http://127.0.0.1:9/x"))
		},
	} {
		if _, err := signIn(t.Context(), t, p, mangle); err == nil {
			t.Errorf("%s: tokens were given", name)
		}
	}
	p.SignIn(User{})
	if _, err := signIn(t.Context(), t, p, nil); err == nil || !strings.Contains(err.Error(), "login_required") {
		t.Errorf("nobody is signed in: %v", err)
	}
}

// TestOpenIDClient lets the certified client of npm judge.
func TestOpenIDClient(t *testing.T) {
	t.Parallel()
	p := New(t, jose.ES256, client())
	p.SignIn(ada())
	type result struct {
		Subject, Email, Error string
	}
	try := func(f Faults) (r result) {
		p.Fail(f)
		in, err := json.Marshal(map[string]any{"issuer": p.URL, "client_id": client().ID, "client_secret": client().Secret, "redirect_uri": redirect})
		if err != nil {
			t.Fatal(err)
		}
		if err := runNode(t, "openid.mjs", string(in), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := try(Faults{}); r.Subject != "ada-1" || r.Email != "ada@example.com" || r.Error != "" {
		t.Fatalf("openid-client says %+v", r)
	}
	for name, f := range map[string]Faults{
		"another key": {Alg: "stranger"}, "another audience": {Claims: map[string]any{"aud": "other"}}, "another nonce": {Claims: map[string]any{"nonce": "other"}},
		"another issuer in the answer": {ClaimIssuer: "https://evil.example"}, "no issuer in the answer": {OmitIssuer: true}, "alg none": {Alg: "none"},
		"expired": {Claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}},
	} {
		if r := try(f); r.Error == "" {
			t.Errorf("%s: openid-client sees nothing wrong", name)
		}
	}
}

func runNode(t *testing.T, name, stdin string, into any) error {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "../../scripts/setup-node.sh").Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 {
			t.Skip("skipped: Node cannot be had here: scripts/setup-node.sh")
		}
		return err
	}
	cmd := exec.CommandContext(t.Context(), "node", name)
	cmd.Dir, cmd.Stdin, cmd.Stderr = "../js", strings.NewReader(stdin), t.Output()
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}
