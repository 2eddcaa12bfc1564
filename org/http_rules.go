package org

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

const theRules = "/api/v1/organisation/rules"

func (r *Room) rulesRoutes(api *web.API[tenantdb.Caller]) {
	governs := func(id, method, path, summary, description string) web.Op {
		o := op(id, method, path, summary, description)
		o.Tags, o.Scope = []string{"Organisation"}, "organisation:write"
		if method == http.MethodGet {
			o.Scope = "organisation:read"
		}
		return o
	}
	web.Handle(api, governs("get-rules", http.MethodGet, theRules, "Get the rules for your people", "With the changes that wait."), r.getRules)
	web.Handle(api, governs("update-rules", http.MethodPatch, theRules, "Change the rules for your people",
		"Fields that are absent or null stay. `If-Match` is needed. What asks more of people holds at once. What asks less of a second factor takes an owner who has signed in and "+
			"proved themselves a moment ago; every owner is told, and it holds a day later unless one of them cancels it: until then it is in `pending`."), r.updateRules)
	web.Handle(api, governs("cancel-rules-change", http.MethodDelete, theRules+"/pending/{id}", "Cancel a change of the rules that waits", "Every owner can."), r.cancelChange)
	web.Handle(api, governs("transfer-organisation", http.MethodPost, "/api/v1/organisation/transfer", "Make another member the owner in your place",
		"You are an admin then. It takes a fresh proof, and every owner is told."), r.transfer)
	r.deletionRoutes(api, governs)
}

type rulesView struct {
	MFA             string              `json:"mfa" enum:"roles,required" doc:"required: everybody needs a second factor. roles: owners, whoever can change members, settings or connections, and mfa_roles"`
	MFARoles        []string            `json:"mfa_roles" nullable:"false"`
	Factors         map[string][]string `json:"factors" nullable:"false" doc:"The kinds that count, by role; * is everybody. A role that is not there has no limit. hardware: passkeys that a device holds and no account copies"`
	IdleTimeout     int                 `json:"idle_timeout_seconds"`
	SessionLifetime int                 `json:"session_lifetime_seconds"`
	ProgramLifetime int                 `json:"program_lifetime_seconds" doc:"Of refresh tokens"`
	Addresses       []netip.Prefix      `json:"addresses" nullable:"false" doc:"From where people may come, and keys that they made, but for data keys; empty is from anywhere"`
	AccessAlgorithm string              `json:"access_algorithm" enum:"ES256,RS256"`
	RetentionDays   int                 `json:"retention_days" doc:"0 is for ever"`
	BreakGlass      glassView           `json:"break_glass"`
	Pending         []pendingView       `json:"pending" nullable:"false" doc:"Changes that wait"`
	Version         int64               `json:"version" doc:"The organisation's; the ETag"`
}

type glassView struct {
	Approval     string   `json:"approval" enum:"person,delay,external"`
	Delay        int      `json:"delay_seconds"`
	MaxLife      int      `json:"max_life_seconds"`
	Capabilities []string `json:"capabilities" nullable:"false" doc:"What can be lent; empty is nothing"`
	HookURL      string   `json:"hook_url"`
}

type pendingView struct {
	ID       ChangeID            `json:"change_id" format:"uuid"`
	AskedBy  string              `json:"asked_by"`
	AskedAt  time.Time           `json:"asked_at"`
	DueAt    time.Time           `json:"due_at"`
	MFA      string              `json:"mfa" enum:"roles,required"`
	MFARoles []string            `json:"mfa_roles" nullable:"false"`
	Factors  map[string][]string `json:"factors" nullable:"false"`
}

// mfaRoles is the word of the wire for rules that ask some for a second factor.
const mfaRoles = "roles"

func mfaWord(mfa string) string {
	if mfa == "" {
		return mfaRoles
	}
	return mfa
}

func seconds(d time.Duration) int { return int(d.Seconds()) }

func viewRules(s SetRules) rulesView {
	g := s.BreakGlass
	v := rulesView{
		MFA: mfaWord(s.MFA), MFARoles: orEmpty(s.MFARoles), Factors: orEmptyMap(s.Factors), IdleTimeout: seconds(s.IdleTimeout), SessionLifetime: seconds(s.SessionLifetime),
		ProgramLifetime: seconds(s.ProgramLifetime), Addresses: orEmpty(s.Addresses), AccessAlgorithm: s.AccessAlgorithm, RetentionDays: s.RetentionDays,
		BreakGlass: glassView{g.Approval, seconds(g.Delay), seconds(g.MaxLife), orEmpty(g.Capabilities), g.HookURL}, Pending: []pendingView{}, Version: s.Version,
	}
	for _, p := range s.Pending {
		v.Pending = append(v.Pending, viewPending(p))
	}
	return v
}

func viewPending(p PendingChange) pendingView {
	mfa, roles, factors := p.After()
	return pendingView{p.ID, p.AskedBy, p.AskedAt.UTC(), p.DueAt.UTC(), mfaWord(mfa), orEmpty(roles), orEmptyMap(factors)}
}

type pendingOutput struct{ Body pendingView }

func orEmptyMap(m map[string][]string) map[string][]string {
	if m == nil {
		return map[string][]string{}
	}
	return m
}

type rulesOutput struct {
	ETag string `header:"ETag"`
	Body rulesView
}

func (r *Room) getRules(ctx context.Context, c tenantdb.Caller, _ *web.None) (*rulesOutput, error) {
	s, err := r.GetRules(ctx, c)
	if err != nil {
		return nil, err
	}
	return &rulesOutput{web.ETag(s.Version), viewRules(s)}, nil
}

type updateRulesInput struct {
	web.IfMatch
	Body struct {
		MFA             *string              `json:"mfa,omitempty" enum:"roles,required"`
		MFARoles        *[]string            `json:"mfa_roles,omitempty" maxItems:"200"`
		Factors         *map[string][]string `json:"factors,omitempty"`
		IdleTimeout     *int                 `json:"idle_timeout_seconds,omitempty" minimum:"3600" maximum:"43200"`
		SessionLifetime *int                 `json:"session_lifetime_seconds,omitempty" minimum:"3600" maximum:"604800"`
		ProgramLifetime *int                 `json:"program_lifetime_seconds,omitempty" minimum:"3600" maximum:"31536000"`
		Addresses       *[]netip.Prefix      `json:"addresses,omitempty" maxItems:"200"`
		AccessAlgorithm *string              `json:"access_algorithm,omitempty" enum:"ES256,RS256"`
		RetentionDays   *int                 `json:"retention_days,omitempty" minimum:"0" maximum:"36500"`
		BreakGlass      *glassInput          `json:"break_glass,omitempty"`
	}
}

type glassInput struct {
	Approval     string   `json:"approval" enum:"person,delay,external"`
	Delay        int      `json:"delay_seconds,omitempty" minimum:"300" maximum:"604800" doc:"An hour if left out"`
	MaxLife      int      `json:"max_life_seconds,omitempty" minimum:"60" maximum:"86400" doc:"An hour if left out"`
	Capabilities []string `json:"capabilities,omitempty" maxItems:"100"`
	HookURL      string   `json:"hook_url,omitempty" maxLength:"500"`
}

func duration(s *int) *time.Duration {
	if s == nil {
		return nil
	}
	return new(time.Duration(*s) * time.Second)
}

func (in *updateRulesInput) change() RulesChange {
	b := in.Body
	ch := RulesChange{
		MFA: b.MFA, MFARoles: b.MFARoles, Factors: b.Factors, IdleTimeout: duration(b.IdleTimeout), SessionLifetime: duration(b.SessionLifetime),
		ProgramLifetime: duration(b.ProgramLifetime), Addresses: b.Addresses, AccessAlgorithm: b.AccessAlgorithm, RetentionDays: b.RetentionDays,
	}
	if b.MFA != nil && *b.MFA == mfaRoles {
		ch.MFA = new(string)
	}
	if g := b.BreakGlass; g != nil {
		ch.BreakGlass = &GlassRules{g.Approval, time.Duration(g.Delay) * time.Second, time.Duration(g.MaxLife) * time.Second, g.Capabilities, g.HookURL}
		orDefault(&ch.BreakGlass.Delay, DefaultRules().BreakGlass.Delay)
		orDefault(&ch.BreakGlass.MaxLife, DefaultRules().BreakGlass.MaxLife)
	}
	return ch
}

func (r *Room) updateRules(ctx context.Context, c tenantdb.Caller, in *updateRulesInput) (*rulesOutput, error) {
	s, err := r.UpdateRules(ctx, c, in.IfMatch.IfMatch, in.change())
	if err != nil {
		return nil, err
	}
	return &rulesOutput{web.ETag(s.Version), viewRules(s)}, nil
}

type changePath struct {
	ID ChangeID `path:"id" doc:"The change_id"`
}

func (r *Room) cancelChange(ctx context.Context, c tenantdb.Caller, in *changePath) (*pendingOutput, error) {
	p, err := r.CancelChange(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return &pendingOutput{viewPending(p)}, nil
}

type transferInput struct {
	Body struct {
		To PersonID `json:"to" format:"uuid" doc:"The member_id of the next owner"`
	}
}

type transferOutput struct {
	Body struct {
		Owner PersonID `json:"owner" format:"uuid" doc:"Who is an owner now, in your place"`
	}
}

func (r *Room) transfer(ctx context.Context, c tenantdb.Caller, in *transferInput) (*transferOutput, error) {
	if err := r.Transfer(ctx, c, in.Body.To); err != nil {
		return nil, err
	}
	out := &transferOutput{}
	out.Body.Owner = in.Body.To
	return out, nil
}
