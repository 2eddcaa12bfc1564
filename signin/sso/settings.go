package sso

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/saml"
)

// The kinds of connections.
const (
	KindOIDC = "oidc"
	KindSAML = "saml"
)

// Settings are all that a connection is made of, but its name. They are sealed in the database.
type Settings struct {
	OIDC      *OIDC     `json:"oidc,omitempty"`
	SAML      *SAML     `json:"saml,omitempty"`
	Admission Admission `json:"admission"`
	// Ceiling is what whoever configured the connection held then. A provider is trusted that far: it is not believed that
	// somebody is a person who may do more, nor puts it anybody into a group that may.
	Ceiling []string `json:"ceiling"`
	// Trust is what whoever chose the provider (its addresses, its keys, what is believed of it) held then. At no sign-in is it
	// believed about somebody who may do more.
	Trust []string `json:"trust"`
}

// OIDC is a provider of OpenID Connect, found by discovery.
type OIDC struct {
	Issuer       string   `json:"issuer"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
	ResponseMode string   `json:"response_mode,omitempty"` // "query", or "form_post"
	NameClaim    string   `json:"name_claim,omitempty"`
	GroupsClaim  string   `json:"groups_claim,omitempty"`
	Userinfo     bool     `json:"userinfo,omitempty"`
	TrustEmail   bool     `json:"trust_email,omitempty"` // addresses of proved domains count without email_verified
	TrustMFA     []string `json:"trust_mfa,omitempty"`   // values of amr or acr that mean several factors
}

// SAML is a provider of SAML 2.0.
type SAML struct {
	saml.Settings
	AddressAttribute string `json:"address_attribute,omitempty"` // empty is the name of the subject
	NameAttribute    string `json:"name_attribute,omitempty"`
	GroupsAttribute  string `json:"groups_attribute,omitempty"`
}

// trustsMFA reports whether anything that the provider says counts as several factors.
func (s Settings) trustsMFA() bool {
	return s.OIDC != nil && len(s.OIDC.TrustMFA) > 0 || s.SAML != nil && len(s.SAML.StrongContexts) > 0
}

// Admission says who becomes a member, and of which groups.
type Admission struct {
	JIT    bool                   `json:"jit,omitempty"`   // whoever of a proved domain arrives first becomes a member
	Roles  []string               `json:"roles,omitempty"` // which they get
	Groups map[string]org.GroupID `json:"groups,omitempty"`
}

// faults are what is wrong with settings, by field.
type faults []problem.Field

func (f *faults) add(where, format string, args ...any) {
	*f = append(*f, problem.Field{Location: "body." + where, Message: fmt.Sprintf(format, args...)})
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The connection cannot be like that. See `errors`.")
	p.Fields = f
	return p
}

const (
	maxListed = 50
	maxGroups = 200
	maxText   = 500
)

func (s *Settings) check(kind, name string) error {
	var f faults
	if n := len([]rune(name)); n == 0 || n > 200 || !plain(name) || strings.TrimSpace(name) != name {
		f.add("name", "must have 1 to 200 characters, none of them a control character, and no space at its ends")
	}
	switch {
	case kind == KindOIDC && s.OIDC != nil && s.SAML == nil:
		s.OIDC.check(&f)
	case kind == KindSAML && s.SAML != nil && s.OIDC == nil:
		if _, err := s.SAML.Provider(); err != nil {
			for _, w := range problem.Of(err).Fields {
				f.add("saml."+w.Location, "%s", w.Message)
			}
			if len(f) == 0 {
				return err
			}
		}
	default:
		f.add("kind", "is oidc or saml, and so are its settings")
	}
	s.Admission.check(&f)
	return f.err()
}

func (o *OIDC) check(f *faults) {
	if !isIssuer(o.Issuer) {
		f.add("oidc.issuer", "is an https address without a query, as the provider writes it")
	}
	if o.ClientID == "" || len(o.ClientID) > maxText || !plain(o.ClientID) {
		f.add("oidc.client_id", "has 1 to %d characters", maxText)
	}
	if len(o.ClientSecret) > 2*maxText || !plain(o.ClientSecret) {
		f.add("oidc.client_secret", "has at most %d characters", 2*maxText)
	}
	if len(o.Scopes) == 0 {
		o.Scopes = []string{"openid", "profile", "email"}
	}
	if len(o.Scopes) > maxListed || slices.ContainsFunc(o.Scopes, func(s string) bool {
		return s == "" || len(s) > maxText || strings.ContainsAny(s, " \"\\") || !plain(s)
	}) {
		f.add("oidc.scopes", "are at most %d words", maxListed)
	} else if !slices.Contains(o.Scopes, "openid") {
		o.Scopes = append([]string{"openid"}, o.Scopes...)
	}
	if o.ResponseMode == "" {
		o.ResponseMode = "query"
	}
	if o.ResponseMode != "query" && o.ResponseMode != "form_post" {
		f.add("oidc.response_mode", "is query or form_post")
	}
	if o.NameClaim == "" {
		o.NameClaim = "name"
	}
	if o.GroupsClaim == "" {
		o.GroupsClaim = "groups"
	}
	if len(o.NameClaim)+len(o.GroupsClaim) > maxText {
		f.add("oidc.groups_claim", "is too long")
	}
	if len(o.TrustMFA) > maxListed || slices.ContainsFunc(o.TrustMFA, func(s string) bool { return s == "" || len(s) > maxText }) {
		f.add("oidc.trust_mfa", "are at most %d values", maxListed)
	}
}

func (a *Admission) check(f *faults) {
	if a.JIT && len(a.Roles) == 0 {
		a.Roles = []string{org.RoleMember}
	}
	if len(a.Roles) > maxListed || slices.Contains(a.Roles, org.RoleOwner) {
		f.add("admission.roles", "are at most %d, and owner is none of them: an owner is made by an owner", maxListed)
	}
	if len(a.Groups) > maxGroups {
		f.add("admission.groups", "are at most %d", maxGroups)
	}
	for name := range a.Groups {
		if name == "" || len(name) > maxText {
			f.add("admission.groups", "a name has 1 to %d characters", maxText)
			return
		}
	}
}

// isIssuer takes https, and http of this machine, for development: what may be reached is decided when it is.
func isIssuer(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || len(s) > maxText || !plain(s) || strings.Contains(s, "#") {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && here(u.Hostname())
}

func here(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func plain(s string) bool { return !strings.ContainsFunc(s, unicode.IsControl) }
