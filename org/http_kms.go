package org

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const theKMS = "/api/v1/organisation/kms"

func (r *Room) kmsRoutes(api *web.API[tenantdb.Caller]) {
	governs := func(id, method, path, summary, description string) web.Op {
		o := op(id, method, path, summary, description)
		o.Tags, o.Scope = []string{"Organisation"}, "organisation:write"
		if method == http.MethodGet {
			o.Scope = "organisation:read"
		}
		return o
	}
	web.Handle(api, governs("get-kms", http.MethodGet, theKMS, "See under which key management your keys are", "While it does not open them, every operation of your organisation answers with the problem `tenant-key-unavailable`, this one too: its `detail` says why."), r.getKMS)
	web.Handle(api, governs("set-kms", http.MethodPut, theKMS, "Put your keys under your own key management",
		"It is tried first, with a key that is nobody's. Then your keys are wrapped under a key that your key management wraps, and nothing of your organisation opens without it: within a minute of its refusing, everything of your organisation is closed. "+
			"The same request with another credential replaces the credential, and with another key moves to that. It takes an owner who has signed in and proved themselves a moment ago, and every owner is told."), r.setKMS)
	web.Handle(api, governs("remove-kms", http.MethodDelete, theKMS, "Give your keys back to the platform", "While your key management lets it. It takes an owner who has signed in and proved themselves a moment ago, and every owner is told."), r.removeKMS)
	web.Handle(api, governs("check-kms", http.MethodPost, theKMS+"/check", "Try your own key management", "With a key that is nobody's. `why` says what is wrong."), r.checkKMS)
}

type transitKMSBody struct {
	Address    string `json:"address" minLength:"1" maxLength:"500" doc:"https://bao.example.com:8200"`
	Mount      string `json:"mount,omitempty" maxLength:"200" doc:"Of the engine; transit, if it is absent"`
	Key        string `json:"key" minLength:"1" maxLength:"100" doc:"Of type aes256-gcm96 or chacha20-poly1305"`
	Namespace  string `json:"namespace,omitempty" maxLength:"200"`
	Token      string `json:"token,omitempty" maxLength:"4096" doc:"Or an AppRole: role_id and secret_id"`
	RoleID     string `json:"role_id,omitempty" maxLength:"200"`
	SecretID   string `json:"secret_id,omitempty" maxLength:"4096"`
	LoginMount string `json:"login_mount,omitempty" maxLength:"200" doc:"Of the AppRole method; approle, if it is absent"`
}

type googleKMSBody struct {
	Key         string `json:"key" minLength:"1" maxLength:"500" doc:"projects/P/locations/L/keyRings/R/cryptoKeys/K"`
	Credentials string `json:"credentials" minLength:"1" maxLength:"8192" doc:"The JSON of a key of a service account, as a text"`
}

// KMSBody is how a key management is reached, as requests say it. Its credentials are never shown again.
type KMSBody struct {
	Kind    string          `json:"kind" enum:"transit,gcpkms"`
	Transit *transitKMSBody `json:"transit,omitempty" doc:"For the kind transit: OpenBao or Vault"`
	Google  *googleKMSBody  `json:"gcpkms,omitempty" doc:"For the kind gcpkms: Google Cloud KMS"`
}

// Settings are what the body says.
func (b *KMSBody) Settings() (KMS, error) {
	k := KMS{Kind: b.Kind}
	switch {
	case b.Kind == KMSTransit && b.Transit != nil && b.Google == nil:
		t := b.Transit
		k.Transit = TransitKMS{t.Address, t.Mount, t.Key, t.Namespace, t.RoleID, t.LoginMount, textOr(t.Token), textOr(t.SecretID)}
	case b.Kind == KMSGoogle && b.Google != nil && b.Transit == nil:
		k.Google = GoogleKMS{b.Google.Key, secret.Text(b.Google.Credentials)}
	default:
		return KMS{}, problem.New(problem.Invalid, "Give the settings of the kind %s, and no other's.", b.Kind)
	}
	return k, nil
}

// KMSView is how it stands with an organisation's own key management.
type KMSView struct {
	Kind      string     `json:"kind" doc:"platform, if you have none of your own; lost, if its settings are missing here and the operator must take them again"`
	KeyID     string     `json:"key_id,omitempty" doc:"Names the key there"`
	SetBy     string     `json:"set_by,omitempty" doc:"Kind and id of who set it"`
	SetAt     *time.Time `json:"set_at,omitempty"`
	Open      bool       `json:"open" doc:"It lets your keys be used"`
	OpenUntil *time.Time `json:"open_until,omitempty" doc:"Until then without asking it again"`
	Why       string     `json:"why,omitempty" enum:"refused,unreachable,wrong,settings" doc:"Why it was of no use when it was asked last"`
	Since     *time.Time `json:"since,omitempty" doc:"It has been of no use since"`
	Moving    bool       `json:"moving" doc:"Your keys are on their way there, or back"`
}

// View is the state as its readers see it.
func (s KMSState) View() KMSView {
	v := KMSView{Kind: s.Kind, KeyID: s.KeyID, SetBy: s.SetBy, Open: s.Open, Why: string(s.Why), Moving: s.Moving}
	if v.Kind == "" {
		v.Kind = "platform"
	}
	for to, at := range map[**time.Time]time.Time{&v.SetAt: s.SetAt, &v.OpenUntil: s.Until, &v.Since: s.Since} {
		if !at.IsZero() {
			*to = new(at.UTC())
		}
	}
	return v
}

type kmsOutput struct{ Body KMSView }

func kmsAnswer(s KMSState, err error) (*kmsOutput, error) {
	if err != nil {
		return nil, err
	}
	return &kmsOutput{s.View()}, nil
}

func (r *Room) getKMS(ctx context.Context, c tenantdb.Caller, _ *web.None) (*kmsOutput, error) {
	return kmsAnswer(r.GetKMS(ctx, c))
}

func (r *Room) setKMS(ctx context.Context, c tenantdb.Caller, in *struct{ Body KMSBody }) (*kmsOutput, error) {
	settings, err := in.Body.Settings()
	if err != nil {
		return nil, err
	}
	return kmsAnswer(r.SetKMS(ctx, c, settings))
}

func (r *Room) removeKMS(ctx context.Context, c tenantdb.Caller, _ *web.None) (*kmsOutput, error) {
	return kmsAnswer(r.RemoveKMS(ctx, c))
}

func (r *Room) checkKMS(ctx context.Context, c tenantdb.Caller, _ *web.None) (*kmsOutput, error) {
	return kmsAnswer(r.CheckKMS(ctx, c))
}
