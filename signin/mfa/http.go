package mfa

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations. None but the reset names a scope: whatever people may do, their factors are theirs.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	op := func(id, method, path, summary, description string) web.Op {
		return web.Op{ID: id, Method: method, Path: "/api/v1" + path, Summary: summary, Description: description, Tags: []string{"Sign-in"}}
	}
	const again = "A proof of the last five minutes is wanted, by something as strong as your strongest factor; or the rules of your organisation do not allow it"
	web.Handle(api, op("list-factors", http.MethodGet, "/factors", "List your factors", "Your second factors, the oldest first, and how many recovery codes are unused."), r.listOverHTTP)
	begin := op("begin-factor", http.MethodPost, "/factors", "Begin to add a factor",
		"What to show or to do is in the answer: the secret of an authenticator app, the options for a passkey, or where a code was sent. It is shown once. Nothing counts before the factor is confirmed, within ten minutes.\n\n"+
			"Whoever has no factor yet and is made to enrol one may do this while signing in.")
	begin.Status, begin.Fails = http.StatusCreated, map[int]string{http.StatusForbidden: again, http.StatusTooManyRequests: "Too many codes were sent"}
	web.Handle(api, begin, r.beginOverHTTP)
	resend := op("resend-factor-code", http.MethodPost, "/factors/{id}/send", "Send another code to confirm a factor", "Once a minute, three times in all. Only the last code counts.")
	resend.Fails = map[int]string{http.StatusTooManyRequests: "A code was sent less than a minute ago, or too many were"}
	web.Handle(api, resend, r.resendOverHTTP)
	confirm := op("confirm-factor", http.MethodPost, "/factors/{id}/confirm", "Confirm a factor", "With a code of it, or with what the authenticator answered. From then on it is asked for at sign-in. Five wrong answers end the enrolment.")
	const alone = "the only owner would be left with codes of the organisation's own vault, who must be signed in to get one"
	confirm.Fails = map[int]string{http.StatusForbidden: again, http.StatusConflict: "You have as many factors as there can be; or " + alone, http.StatusNotFound: "It was confirmed before, has expired, or too many answers were wrong"}
	web.Handle(api, confirm, r.confirmOverHTTP)
	update := op("rename-factor", http.MethodPatch, "/factors/{id}", "Give a factor another name", "`If-Match` is needed.")
	update.Fails = map[int]string{http.StatusPreconditionFailed: "It is not the version any more that If-Match names: read it again"}
	web.Handle(api, update, r.renameOverHTTP)
	remove := op("remove-factor", http.MethodDelete, "/factors/{id}", "Remove a factor", "With the last one go the recovery codes.")
	remove.Fails = map[int]string{http.StatusForbidden: again, http.StatusConflict: "The rules want a factor, and it is the last that they allow; or " + alone}
	web.Handle(api, remove, r.removeOverHTTP)
	codes := op("make-recovery-codes", http.MethodPost, "/recovery-codes", "Make recovery codes", "Ten, each for one sign-in without a factor. They are in the answer, and nowhere else: they are shown once. The ones before work no longer.")
	codes.Status, codes.Fails = http.StatusCreated, map[int]string{http.StatusForbidden: again, http.StatusConflict: "You have no factor that they could stand in for"}
	web.Handle(api, codes, r.codesOverHTTP)
	reset := op("reset-member-factors", http.MethodPost, "/members/{id}/factors/reset", "Take a member's factors away",
		"For a member who lost them. The member signs in by password and a code sent by e-mail once more, to enrol anew before anything else. The member and all owners are told. Takes more power than the member has, and a proof of the last five minutes.")
	reset.Scope, reset.Fails = "members:write", map[int]string{http.StatusForbidden: "The member has as much power as you, or a proof of the last five minutes is wanted"}
	web.Handle(api, reset, r.resetOverHTTP)
}

// View is a factor as its person sees it.
type View struct {
	FactorID  ID         `json:"factor_id" format:"uuid"`
	Kind      string     `json:"kind" enum:"totp,email,sms,passkey"`
	Name      string     `json:"name"`
	Hint      *string    `json:"hint" nullable:"true" doc:"Where codes go, masked; null for other kinds, and for the address of your profile"`
	Hardware  bool       `json:"hardware" doc:"A passkey of which its maker attests that it cannot leave its device"`
	CreatedAt time.Time  `json:"created_at"`
	UsedAt    *time.Time `json:"used_at" nullable:"true" doc:"Null if it was never used"`
	Temporary bool       `json:"temporary" doc:"Left by a reset: good for adding a factor only"`
	Version   int64      `json:"version" doc:"Counts the changes; the ETag"`
}

func view(f Factor) View {
	v := View{FactorID: f.ID, Kind: f.Kind, Name: f.Name, Hardware: f.Hardware, CreatedAt: f.CreatedAt.UTC(), Temporary: f.Reset, Version: f.Version}
	if f.Hint != "" {
		v.Hint = &f.Hint
	}
	if !f.UsedAt.IsZero() {
		at := f.UsedAt.UTC()
		v.UsedAt = &at
	}
	return v
}

type (
	listOutput struct {
		Body struct {
			Factors       []View   `json:"factors"`
			RecoveryCodes int      `json:"recovery_codes" doc:"How many are unused"`
			Required      bool     `json:"required" doc:"The rules of your organisation want a factor of you"`
			Allowed       []string `json:"allowed" doc:"The kinds that they allow you; hardware is a passkey that its maker attests"`
			Passkeys      bool     `json:"passkeys" doc:"Whether this installation can have passkeys at all"`
			Texts         bool     `json:"texts" doc:"Whether text messages can be sent to you"`
		}
	}
	beginInput struct {
		Body struct {
			Kind string `json:"kind" enum:"totp,email,sms,passkey"`
			Name string `json:"name,omitempty" maxLength:"64" doc:"To tell your factors apart"`
			To   string `json:"to,omitempty" maxLength:"254" doc:"The telephone number with its country's code; or an e-mail address, if it is not that of your profile"`
		}
	}
	beginOutput struct {
		Body struct {
			FactorID  ID              `json:"factor_id" format:"uuid"`
			Kind      string          `json:"kind"`
			ExpiresAt time.Time       `json:"expires_at" doc:"Until then it can be confirmed"`
			Secret    string          `json:"secret,omitempty" doc:"Of an authenticator app, to be typed in"`
			URI       string          `json:"uri,omitempty" doc:"The same, to be shown as a QR code"`
			Options   json.RawMessage `json:"options,omitempty" doc:"For navigator.credentials.create"`
			SentTo    string          `json:"sent_to,omitempty" doc:"Where a code went, masked"`
		}
	}
	factorInput struct {
		ID ID `path:"id" format:"uuid" doc:"The factor_id"`
	}
	confirmInput struct {
		ID   ID `path:"id" format:"uuid" doc:"The factor_id"`
		Body struct {
			Code       string          `json:"code,omitempty" maxLength:"32" doc:"A code of the factor"`
			Credential json.RawMessage `json:"credential,omitempty" doc:"What navigator.credentials.create answered, as its toJSON writes it"`
		}
	}
	renameInput struct {
		ID ID `path:"id" format:"uuid" doc:"The factor_id"`
		web.IfMatch
		Body struct {
			Name string `json:"name" maxLength:"64"`
		}
	}
	factorOutput struct {
		ETag string `header:"ETag"`
		Body View
	}
	codesOutput struct {
		Body struct {
			Codes []string `json:"recovery_codes" doc:"Each counts once. They are shown here and never again."`
		}
	}
	resetInput struct {
		ID tenantdb.PersonID `path:"id" format:"uuid" doc:"The member's person_id"`
	}
	resetOutput struct {
		Body struct {
			Removed int `json:"factors_removed"`
		}
	}
)

func (r *Room) listOverHTTP(ctx context.Context, c tenantdb.Caller, _ *web.None) (*listOutput, error) {
	p, err := person(c)
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	out.Body.Factors, out.Body.Allowed = []View{}, []string{TOTP, Email, SMS, Passkey}
	out.Body.Passkeys = r.web != nil
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		all, left, err := r.List(ctx, tx, p.ID)
		if err != nil {
			return err
		}
		for _, f := range all {
			out.Body.Factors = append(out.Body.Factors, view(f))
		}
		out.Body.RecoveryCodes = left
		if out.Body.Texts, err = r.Sends(ctx, tx, SMS); err != nil {
			return err
		}
		kinds, required, err := r.cfg.People.Allowed(ctx, tx, p.ID)
		if kinds != nil {
			out.Body.Allowed = kinds
		}
		out.Body.Required = required
		return err
	})
	return out, err
}

func (r *Room) beginOverHTTP(ctx context.Context, c tenantdb.Caller, in *beginInput) (*beginOutput, error) {
	b, err := r.Begin(ctx, c, Wanted{in.Body.Kind, in.Body.Name, in.Body.To})
	if err != nil {
		return nil, err
	}
	out := &beginOutput{}
	out.Body.FactorID, out.Body.Kind, out.Body.ExpiresAt, out.Body.SentTo = b.ID, b.Kind, b.ExpiresAt, b.SentTo
	out.Body.Secret, out.Body.URI, out.Body.Options = b.Secret.Expose(), b.URI.Expose(), b.Options
	return out, nil
}

func (r *Room) resendOverHTTP(ctx context.Context, c tenantdb.Caller, in *factorInput) (*web.None, error) {
	return &web.None{}, r.Resend(ctx, c, in.ID)
}

func (r *Room) confirmOverHTTP(ctx context.Context, c tenantdb.Caller, in *confirmInput) (*factorOutput, error) {
	if (in.Body.Code == "") == (len(in.Body.Credential) == 0) {
		return nil, problem.New(problem.Invalid, "Send either code or credential.")
	}
	f, err := r.Confirm(ctx, c, in.ID, Confirmation{secret.Text(in.Body.Code), in.Body.Credential})
	if err != nil {
		return nil, err
	}
	return &factorOutput{web.ETag(f.Version), view(f)}, nil
}

func (r *Room) renameOverHTTP(ctx context.Context, c tenantdb.Caller, in *renameInput) (*factorOutput, error) {
	f, err := r.Rename(ctx, c, in.ID, in.IfMatch.IfMatch, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &factorOutput{web.ETag(f.Version), view(f)}, nil
}

func (r *Room) removeOverHTTP(ctx context.Context, c tenantdb.Caller, in *factorInput) (*web.None, error) {
	return &web.None{}, r.Remove(ctx, c, in.ID)
}

func (r *Room) codesOverHTTP(ctx context.Context, c tenantdb.Caller, _ *web.None) (*codesOutput, error) {
	codes, err := r.NewRecoveryCodes(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &codesOutput{}
	for _, code := range codes {
		out.Body.Codes = append(out.Body.Codes, code.Expose())
	}
	return out, nil
}

func (r *Room) resetOverHTTP(ctx context.Context, c tenantdb.Caller, in *resetInput) (*resetOutput, error) {
	n, err := r.Reset(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	out := &resetOutput{}
	out.Body.Removed = n
	return out, nil
}
