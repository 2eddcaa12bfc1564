package main

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/secret"
)

type orgsCmd struct {
	Show   orgsShow   `cmd:"" help:"Show the organisation that the key belongs to."`
	Create orgsCreate `cmd:"" help:"Sign up a new organisation, and get its first owner key."`

	Update  orgsUpdate  `cmd:"" help:"Change your organisation's name, address for notices, or whether it is shown in public."`
	List    orgsList    `cmd:"" help:"List all organisations, with their quotas. For the operator."`
	Set     orgsSet     `cmd:"" help:"Set a monthly quota. For the operator."`
	Suspend orgsSuspend `cmd:"" help:"Stop an organisation. For the operator."`
	Resume  orgsResume  `cmd:"" help:"Undo a suspension. For the operator."`
	Restore orgsRestore `cmd:"" help:"Bring back one that was deleted. For the operator."`
	Region  orgsRegion  `cmd:"" help:"Say in which region one is. For the operator."`
	Invite  orgsInvite  `cmd:"" name:"invite-owner" help:"Invite an owner of an organisation that has lost its own. For the operator."`
	KMS     orgsKMS     `cmd:"" name:"kms" help:"The key management that an organisation keeps its keys under."`
	Key     orgsKey     `cmd:"" help:"Make an owner key for an organisation that has lost its own. For the operator."`
}

// orgView is an organisation as the API shows it.
type orgView struct {
	TenantID      string    `json:"tenant_id"`
	Name          string    `json:"name"`
	ContactEmail  string    `json:"contact_email"`
	CreatedAt     time.Time `json:"created_at"`
	TokenLifetime int64     `json:"token_lifetime_seconds"`
	LiveTokens    int64     `json:"live_tokens"`
	MonthlyQuota  *int64    `json:"monthly_quota"`
	Used          *int64    `json:"used_this_month"`
	Badge         bool      `json:"badge"`
	Region        string    `json:"region"`
	OwnerKeyID    string    `json:"owner_key_id"`
}

func (o orgView) details(now time.Time) []detail {
	quota := "unlimited"
	if o.MonthlyQuota != nil {
		quota = grouped(*o.MonthlyQuota) + " a month with owner keys"
	}
	if o.Used != nil {
		quota += ", " + grouped(*o.Used) + " used in this one"
	}
	shown := "no"
	if o.Badge {
		shown = "yes, at /verified?service=" + o.TenantID
	}
	return []detail{
		{"tenant id", cell{o.TenantID, bold}},
		{"name", cell{text: o.Name}},
		{"notices to", cell{text: o.ContactEmail}},
		{"tokens live", cell{text: length(time.Duration(o.TokenLifetime) * time.Second)}},
		{"tokens an agent", cell{text: "at most " + grouped(o.LiveTokens)}},
		{"verifications", cell{text: quota}},
		{"shown in public", cell{text: shown}},
		{"region", cell{text: o.Region}},
		{"created", cell{text: instant(o.CreatedAt, now)}},
	}
}

type orgsShow struct {
	remote `embed:""`
}

// Run shows the caller's organisation.
func (c *orgsShow) Run(ctx context.Context, g *globals) error {
	answer, err := c.do(ctx, g, client.Call{Path: api("organisation")})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, o orgView) error { return writeDetails(p, "", o.details(g.Now())) })
}

type orgsUpdate struct {
	remote `embed:""`
	Name   *string `placeholder:"NAME" help:"Its public name: services see it beside the names of its agents."`
	Email  *string `placeholder:"ADDRESS" help:"Where notices go; empty takes it away."`
	Badge  *bool   `negatable:"" help:"Show in public, at /verified, that it verifies agents, and when it last did."`
}

// Run changes the caller's organisation.
func (c *orgsUpdate) Run(ctx context.Context, g *globals) error {
	body := map[string]any{}
	if c.Name != nil {
		body["name"] = *c.Name
	}
	if c.Email != nil {
		body["contact_email"] = *c.Email
	}
	if c.Badge != nil {
		body["badge"] = *c.Badge
	}
	if len(body) == 0 {
		return misused("there is nothing to change: give --name, --email, --badge or --no-badge")
	}
	answer, err := c.do(ctx, g, client.Call{Path: api("organisation")})
	if err != nil {
		return err
	}
	answer, err = c.do(ctx, g, client.Call{
		Method: http.MethodPatch, Path: api("organisation"), Body: body, Header: http.Header{"If-Match": {answer.Header.Get("ETag")}},
	})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, o orgView) error { return writeDetails(p, "", o.details(g.Now())) })
}

type orgsCreate struct {
	URL        string `name:"url" env:"AVOUCH_URL" placeholder:"URL" help:"The server: https://host, or http://127.0.0.1:port on this machine."`
	disclosure `embed:""`
	Name       string `arg:"" help:"Its public name: services see it beside the names of its agents."`
	Email      string `placeholder:"ADDRESS" help:"Where notices go."`
	Owner      string `placeholder:"ADDRESS" help:"E-mail address of whom to invite as its first owner."`
	OwnerName  string `placeholder:"NAME" help:"What the mail calls them."`
	Region     string `placeholder:"NAME" help:"One of the installation's regions, if it has some."`
}

// Help is shown under the usage.
func (*orgsCreate) Help() string {
	return `It needs no key, where the installation lets strangers sign up. The owner key can do everything, does not expire, and is shown once. Whom --owner names is mailed a link by which they join as an owner, and sign in as a person from then on.

    avouch organisations create "Example Ltd" --owner ada@example.com --email ops@example.com --secret-file owner.key`
}

// Run signs an organisation up.
func (c *orgsCreate) Run(ctx context.Context, g *globals) error {
	body := map[string]any{"name": c.Name}
	for name, value := range map[string]string{"contact_email": c.Email, "owner_address": c.Owner, "owner_name": c.OwnerName, "region": c.Region} {
		if value != "" {
			body[name] = value
		}
	}
	if c.OwnerName != "" && c.Owner == "" {
		return misused("--owner-name is the name of whom --owner invites: give that too")
	}
	nobody, err := (&remote{URL: c.URL}).connect(secret.String{}, "", 0)
	if err != nil {
		return err
	}
	signUp := func() (client.Answer, error) {
		return nobody.Do(ctx, client.Call{Method: http.MethodPost, Path: api("organisations"), Body: body})
	}
	return c.made(g, shownOnce{"owner_key", "owner key", keyUse}, signUp, func(answer client.Answer) ([]detail, error) {
		var o orgView
		if err := answer.Into(&o); err != nil {
			return nil, err
		}
		all := o.details(g.Now())
		if c.Owner != "" {
			all = append(all, detail{"owner invited", cell{text: c.Owner + ", by a link that is good for seven days"}})
		}
		return append(all, detail{"key id", cell{text: o.OwnerKeyID}}), nil
	})
}
