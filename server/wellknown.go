package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
)

const description = "Avouch is a trust platform for AI agents. An agent gets an identity; every call it makes is checked against what it may do; " +
	"and everything that happened can be proved afterwards.\n\n" +
	"Send your key as `Authorization: Bearer avk_…`. Every answer carries `X-Request-Id`; quote it when you ask about a request, " +
	"and give it to `GET /api/v1/requests/{id}` to see everything that the request did.\n\n" +
	"Errors are problem documents (RFC 9457)."

var tags = []web.Tag{
	{Name: "Verification", Description: "The one call that a service makes when an agent calls it."},
	{Name: "Agents", Description: "Identities of agents: registration, scopes, suspension, revocation."},
	{Name: "Tokens", Description: "What agents show to services."},
	{Name: "Scopes", Description: "What agents may be allowed to do."},
	{Name: "Keys", Description: "The credentials of owners and services."},
	{Name: "Organisation", Description: "The organisation that a key belongs to."},
	{Name: "People", Description: "The members of your organisation, their groups, roles and invitations."},
	{Name: "Sign-in", Description: "How people prove who they are, and what they prove it with."},
	{Name: "Sessions", Description: "What came of a sign-in: in browsers a cookie, in programs tokens."},
	{Name: "Single sign-on", Description: "Identity providers of your organisation, and the domains of its addresses."},
	{Name: "SCIM", Description: "What a directory of your organisation says who is a member."},
	{Name: "Break-glass", Description: "What is lent to a person for a while, with a reason, by somebody else, and looked at afterwards."},
	{Name: "Vault", Description: "Secrets that people and agents use without seeing them: one-time codes, recovery codes, and credentials that the server puts into requests."},
	{Name: "Audit", Description: "The log: everything that happened, in order, tamper-evident."},
}

// wellKnown serves what others look for at fixed places.
func (s *Server) wellKnown() {
	keys := func(id, path string, serve http.HandlerFunc) {
		s.api.Mount(web.Op{ID: id, Method: http.MethodGet, Path: path}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			serve(w, r)
		}))
	}
	keys("jwks", "/.well-known/jwks.json", s.Signing.ServeJWKS)
	keys("jwks-api", "/api/v1/.well-known/jwks.json", s.Signing.ServeJWKS)
	keys("people-jwks", "/.well-known/people-jwks.json", s.Signing.ServePeopleJWKS)
	s.api.Mount(web.Op{ID: "security-txt", Method: http.MethodGet, Path: "/.well-known/security.txt"}, http.HandlerFunc(s.securityTxt))
	s.api.Mount(web.Op{ID: "avouch-json", Method: http.MethodGet, Path: "/.well-known/avouch.json"}, http.HandlerFunc(s.describe))
}

// securityTxt is RFC 9116. Its contact is the operator's own; without one it names where Avouch's makers are told.
func (s *Server) securityTxt(w http.ResponseWriter, _ *http.Request) {
	contact := s.cfg.SecurityEmail
	if contact == "" {
		contact = "https://github.com/avouch-dev/avouch/security/advisories/new"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Contact: %s\nExpires: %s\nPreferred-Languages: en\nPolicy: https://github.com/avouch-dev/avouch/security/policy\n",
		contact, time.Now().UTC().AddDate(0, 6, 0).Truncate(24*time.Hour).Format(time.RFC3339))
	if s.set.public.Scheme == "https" { // a web address in this file must be (section 2.5.2)
		fmt.Fprintf(w, "Canonical: %s/.well-known/security.txt\n", s.URL())
	}
}

// describe says where things are, for SDKs.
func (s *Server) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=600")
	writeJSON(w, "application/json", map[string]any{
		"issuer": s.URL(), "jwks_uri": s.URL() + "/.well-known/jwks.json", "people_jwks_uri": s.URL() + "/.well-known/people-jwks.json", "verify_endpoint": s.URL() + "/api/v1/verify",
		"openapi": s.URL() + "/openapi.json", "version": s.cfg.Version, "token_signing_alg_values_supported": []string{"ES256"},
	})
}
