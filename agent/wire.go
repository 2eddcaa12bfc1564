package agent

import (
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// view is an agent on the wire.
type view struct {
	AgentID     ID                  `json:"agent_id"`
	DID         string              `json:"did" doc:"The agent's name for the world (did:web)"`
	Name        string              `json:"name"`
	Description string              `json:"description"`
	Status      Status              `json:"status" enum:"active,suspended,revoked"`
	Scopes      []string            `json:"scopes" doc:"What the agent may do, whatever token it shows"`
	Visibility  Visibility          `json:"visibility" enum:"all,listed,none" doc:"Which organisations may verify the agent, beside your own"`
	VisibleTo   []tenantdb.TenantID `json:"visible_to" doc:"The organisations, where visibility is listed"`
	CreatedAt   time.Time           `json:"created_at"`
	SuspendedAt *time.Time          `json:"suspended_at,omitempty"`
	RevokedAt   *time.Time          `json:"revoked_at,omitempty"`
	Version     int64               `json:"version" doc:"Also the ETag, for If-Match"`
	Keys        []keyView           `json:"keys,omitempty" doc:"Shown with one agent, not in lists"`
}

type keyView struct {
	KID       string    `json:"kid" doc:"RFC 7638 thumbprint"`
	Use       string    `json:"use"`
	Algorithm string    `json:"algorithm"`
	CreatedAt time.Time `json:"created_at"`
}

func (r *Room) view(a Agent) view {
	v := view{
		AgentID: a.ID, DID: r.issuer.DID(a.ID), Name: a.Name, Description: a.Description, Status: a.Status(), Scopes: a.Scopes,
		Visibility: a.Visibility, VisibleTo: a.VisibleTo, CreatedAt: a.CreatedAt, SuspendedAt: a.SuspendedAt, RevokedAt: a.RevokedAt, Version: a.Version,
	}
	for _, k := range a.Keys {
		v.Keys = append(v.Keys, keyView{k.KID, k.Use, k.Algorithm, k.CreatedAt})
	}
	return v
}

// tokenView is the record of a token on the wire.
type tokenView struct {
	JTI       TokenID     `json:"jti"`
	Status    TokenStatus `json:"status" enum:"live,revoked,expired"`
	IssuedAt  time.Time   `json:"issued_at"`
	ExpiresAt time.Time   `json:"expires_at"`
	Resources []string    `json:"resources" doc:"What the token is bound to; empty is nothing"`
	MaxUses   int64       `json:"max_uses,omitempty"`
	Used      *int64      `json:"used,omitempty" doc:"Allowed verifications so far, where max_uses limits them"`
	RevokedAt *time.Time  `json:"revoked_at,omitempty"`
}

func viewToken(t Record, now time.Time) tokenView {
	v := tokenView{
		JTI: t.JTI, Status: t.Status(now), IssuedAt: t.IssuedAt, ExpiresAt: t.Expires, Resources: t.Resources, MaxUses: t.MaxUses, RevokedAt: t.RevokedAt,
	}
	if t.MaxUses > 0 {
		v.Used = &t.Used
	}
	return v
}

type agentOutput struct {
	ETag string `header:"ETag"`
	Body view
}

func (r *Room) output(a Agent, err error) (*agentOutput, error) {
	if err != nil {
		return nil, err
	}
	return &agentOutput{ETag: web.ETag(a.Version), Body: r.view(a)}, nil
}

// keyInput is one of the keys of a registration.
type keyInput struct {
	Use       string         `json:"use,omitempty" enum:"signing,authentication,web-bot-auth" default:"signing" doc:"What the key is for; each is listed in the DID document"`
	PEM       string         `json:"pem,omitempty" maxLength:"8192" doc:"The public key in PEM (BEGIN PUBLIC KEY), or"`
	JWK       map[string]any `json:"jwk,omitempty" doc:"the public key as a JWK"`
	Algorithm string         `json:"algorithm,omitempty" maxLength:"16" doc:"Refused if the key has another"`
}

func (k *keyInput) key() (PublicKey, error) {
	var public PublicKey
	var err error
	switch {
	case (k.PEM == "") == (len(k.JWK) == 0):
		return PublicKey{}, badKey("Send either pem or jwk.")
	case k.PEM != "":
		public, err = ParsePEM(k.PEM)
	default:
		public, err = ParseJWK(k.JWK)
	}
	if err == nil && k.Algorithm != "" {
		public, err = public.as(k.Algorithm)
	}
	if public.Use = k.Use; public.Use == "" {
		public.Use = UseSigning
	}
	return public, err
}

type registerInput struct {
	Body struct {
		Name          string     `json:"name" doc:"What people call the agent; services that verify it see it"`
		Description   string     `json:"description,omitempty" doc:"For you"`
		Capabilities  []string   `json:"capabilities,omitempty" doc:"The scopes that the agent is granted, of your catalogue"`
		SigningKeyPub string     `json:"signing_key_pub,omitempty" maxLength:"8192" doc:"The agent's public key in PEM. Its private half stays with the agent"`
		KeyAlgorithm  string     `json:"key_algorithm,omitempty" maxLength:"16" doc:"Of signing_key_pub: ES256, ES384, EdDSA, RS256 or PS256"`
		Keys          []keyInput `json:"keys,omitempty" maxItems:"10" doc:"More keys, or all of them: P-256, P-384, Ed25519 or RSA from 2,048 bits"`
	}
}

// keys reads all keys of a registration, and says of each bad one where it was.
func (in *registerInput) keys() ([]PublicKey, error) {
	all := []PublicKey{}
	bad := problem.New(problem.Invalid, "A key cannot be taken. See `errors`.")
	add := func(k keyInput, where string) error {
		public, err := k.key()
		if err == nil {
			all = append(all, public)
			return nil
		}
		p := problem.Of(err)
		if p.Kind != problem.Invalid {
			return err
		}
		bad.Fields = append(bad.Fields, problem.Field{Location: where, Message: p.Detail})
		return nil
	}
	if b := &in.Body; b.SigningKeyPub != "" {
		if err := add(keyInput{Use: UseSigning, PEM: b.SigningKeyPub, Algorithm: b.KeyAlgorithm}, "body.signing_key_pub"); err != nil {
			return nil, err
		}
	} else if b.KeyAlgorithm != "" {
		bad.Fields = append(bad.Fields, problem.Field{Location: "body.key_algorithm", Message: "There is no signing_key_pub that it could be of."})
	}
	for i, k := range in.Body.Keys {
		if err := add(k, fmt.Sprintf("body.keys[%d]", i)); err != nil {
			return nil, err
		}
	}
	if len(bad.Fields) > 0 {
		return nil, bad
	}
	return all, nil
}

type registerOutput struct {
	ETag string `header:"ETag"`
	Body struct {
		DID            string    `json:"did" doc:"The agent's name for the world (did:web)"`
		AgentID        ID        `json:"agent_id"`
		Token          string    `json:"token" doc:"The agent's first token: give it to the agent as AGENT_TOKEN. It is not shown again"`
		TokenExpiresAt time.Time `json:"token_expires_at"`
		JTI            TokenID   `json:"jti" doc:"Names the token, for its revocation"`
		CreatedAt      time.Time `json:"created_at"`
		Scopes         []string  `json:"scopes"`
		Keys           []keyView `json:"keys,omitempty"`
		Warnings       []string  `json:"warnings" doc:"What you may not have meant"`
	}
}

type issueInput struct {
	ID   ID `path:"id" doc:"The agent's id"`
	Body struct {
		Resources []string `json:"resources,omitempty" maxItems:"16" doc:"The services that the token is for, by the names that they give as target_resource. It is denied everywhere else"`
		Lifetime  int64    `json:"lifetime_seconds,omitempty" minimum:"300" maximum:"86400" doc:"As long as the organisation allows if left out"`
		MaxUses   int64    `json:"max_uses,omitempty" minimum:"1" maximum:"1000000000" doc:"How many verifications may allow it"`
	}
}

type issueOutput struct {
	Body struct {
		Token     string    `json:"token" doc:"Not shown again"`
		JTI       TokenID   `json:"jti"`
		ExpiresAt time.Time `json:"expires_at"`
		Warnings  []string  `json:"warnings" doc:"What you may not have meant"`
	}
}

type agentPath struct {
	ID ID `path:"id" doc:"The agent's id"`
}

type tokenPath struct {
	ID  ID      `path:"id" doc:"The agent's id"`
	JTI TokenID `path:"jti" doc:"The token's id"`
}

type listInput struct {
	web.Page
	Status Status `query:"status" enum:"active,suspended,revoked" doc:"Only agents in this state"`
}

type listOutput struct {
	Body struct {
		Agents []view `json:"agents"`
		web.Next
	}
}

type updateInput struct {
	ID ID `path:"id" doc:"The agent's id"`
	web.IfMatch
	Body struct {
		Name        *string              `json:"name,omitempty"`
		Description *string              `json:"description,omitempty"`
		Visibility  *Visibility          `json:"visibility,omitempty" enum:"all,listed,none"`
		VisibleTo   *[]tenantdb.TenantID `json:"visible_to,omitempty" doc:"Organisations, with visibility listed"`
	}
}

type scopesInput struct {
	ID ID `path:"id" doc:"The agent's id"`
	web.IfMatch
	Body struct {
		Scopes []string `json:"scopes" nullable:"false" doc:"All scopes that the agent has from now on"`
	}
}

type tokensInput struct {
	ID ID `path:"id" doc:"The agent's id"`
	web.Page
	Status TokenStatus `query:"status" enum:"live,revoked,expired" doc:"Only tokens in this state"`
}

type tokensOutput struct {
	Body struct {
		Tokens []tokenView `json:"tokens"`
		web.Next
	}
}

type tokenOutput struct{ Body tokenView }

type revokeAllOutput struct {
	ETag string `header:"ETag"`
	Body struct {
		AgentID ID    `json:"agent_id"`
		Revoked int64 `json:"revoked" doc:"How many tokens were live"`
		Version int64 `json:"version"`
	}
}
