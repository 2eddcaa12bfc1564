package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// orgsInvite is `avouch organisations invite-owner`.
type orgsInvite struct {
	operatorName `embed:""`
	Organisation string `required:"" placeholder:"TENANT-ID" help:"Whose."`
	Address      string `required:"" placeholder:"ADDRESS" help:"The e-mail address to which the link goes."`
	Name         string `placeholder:"NAME" help:"What the mail calls them; whoever joins chooses their own."`
}

// Help is the long text.
func (*orgsInvite) Help() string {
	return operatorOnly + ` For an organisation that has no owner among its people, or none who can sign in. The link is mailed by the servers, is good for seven days, and is shown nowhere else. An owner opens all that the organisation has, so the glass must be broken first: avouch break-glass open.

    avouch organisations invite-owner --organisation ID --address ada@example.com --name "Ada Lovelace"`
}

// Run invites an owner.
func (c *orgsInvite) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Organisation)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := mayOpen(ctx, s, by); err != nil {
			return err
		}
		o, err := s.Org.Get(ctx, by)
		if err == nil && !o.SuspendedAt.IsZero() { // as one that is deleted is, too
			err = problem.New(problem.Conflict, "The organisation is %s: nobody can join it.", asListed(o).Status)
		}
		if err != nil {
			return refusal(err)
		}
		in, again, err := inviteOwner(ctx, s, by, c.Address, c.Name)
		if err != nil {
			return refusal(err)
		}
		words := "%s is invited to be an owner. The servers mail the link, which is good until %s."
		if again {
			words = "%s was invited before, and is again: the servers mail another link, which is good until %s. The one before works no longer."
		}
		said := map[string]any{"tenant_id": c.Organisation, "invitation_id": in.ID, "address": in.Address, "roles": in.Roles, "expires_at": in.ExpiresAt.UTC()}
		return g.done(said, fmt.Sprintf(words, in.Address, instant(in.ExpiresAt, g.Now())))
	})
}

// inviteOwner mails an invitation to be an owner, or another link of the one that is open.
func inviteOwner(ctx context.Context, s *server.Server, by tenantdb.Caller, address, name string) (in org.Invitation, again bool, err error) {
	normal, err := org.Normal(address)
	if err != nil {
		return in, false, err
	}
	open, err := s.Org.Invitations(ctx, by, true, org.InvitationID{}, 1000)
	if err != nil {
		return in, false, err
	}
	i := slices.IndexFunc(open, func(in org.Invitation) bool { return in.Address == normal && slices.Contains(in.Roles, org.RoleOwner) })
	if i < 0 {
		in, err = s.Org.InviteOwner(ctx, by, address, name)
		return in, false, err
	}
	in, err = s.Org.Resend(ctx, by, open[i].ID)
	return in, true, err
}

// orgsRegion is `avouch organisations region`.
type orgsRegion struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whose."`
	Region       string `arg:"" help:"One of AVOUCH_REGIONS_FILE, or none."`
}

// Help is the long text.
func (*orgsRegion) Help() string {
	return operatorOnly + " Says where an organisation's data may be sent: its mail and text messages leave by that region's senders alone, from the next one on. AVOUCH_REGIONS_FILE must be the servers'."
}

// Run sets the region.
func (c *orgsRegion) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	region, words := c.Region, "The organisation is in the region "+c.Region+"."
	if region == "none" {
		region, words = "", "The organisation is in no region."
	}
	return operate(ctx, g, func(s *server.Server) error {
		err := s.Org.SetRegion(ctx, by, region)
		if problem.Is(err, problem.Invalid) {
			return misused("%s AVOUCH_REGIONS_FILE %s", problem.Of(err).Detail, c.known(s))
		}
		if err != nil {
			return refusal(err)
		}
		if !s.Mails(region) {
			words += " It has no mail server: nobody of the organisation can be invited, recover an account or be sent a code by mail."
		}
		return g.done(map[string]any{"tenant_id": c.Tenant, "region": region}, words)
	})
}

func (c *orgsRegion) known(s *server.Server) string {
	if all := s.Regions(); len(all) > 0 {
		return "has " + strings.Join(all, ", ")
	}
	return "is not set, or names none"
}

// orgsRestore is `avouch organisations restore`.
type orgsRestore struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whom."`
	Reason       string `required:"" help:"Why: the organisation reads it in its log."`
}

// Help is the long text.
func (*orgsRestore) Help() string {
	return operatorOnly + fmt.Sprintf(" Brings an organisation back that its owner has deleted, with its people, keys and agents: for %d days, then its keys are destroyed, and nothing does.", org.Grace/day)
}

// Run restores an organisation.
func (c *orgsRestore) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		o, err := s.Org.Get(ctx, by)
		if err == nil && o.DeletedAt.IsZero() {
			err = problem.New(problem.Conflict, "The organisation is not deleted.")
		}
		if err == nil {
			err = s.Org.Restore(ctx, by, c.Reason)
		}
		if err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"tenant_id": c.Tenant, "status": "active"}, "The organisation is back: its people can sign in, and its keys and agents work again.")
	})
}
