package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// glassCmd is `avouch break-glass`.
type glassCmd struct {
	Open glassOpen `cmd:"" help:"Break the glass of an organisation, to open what it keeps."`
	List glassList `cmd:"" help:"List what operators opened that is open, or that nobody has reviewed."`
	End  glassEnd  `cmd:"" help:"End a use before its time."`
}

// operatorName is who the operator is.
type operatorName struct {
	Operator string `placeholder:"NAME" help:"Who you are, for the log; if it is not given, who called sudo."`
}

// in is the operator in an organisation.
func (o operatorName) in(g *globals, t tenantdb.TenantID) (tenantdb.Caller, error) {
	name := o.Operator
	for _, variable := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if name == "" {
			name = strings.ToLower(g.Getenv(variable))
		}
	}
	if name == "" {
		return tenantdb.Caller{}, misused("nobody knows who you are: say it with --operator")
	}
	by, err := policy.Operator(t, name)
	if err != nil {
		return by, refusal(err)
	}
	return by, nil
}

// organisation is the operator in an organisation that is named by its id.
func (o operatorName) organisation(g *globals, id string) (tenantdb.Caller, error) {
	t, err := tenantdb.ParseTenantID(id)
	if err != nil {
		return tenantdb.Caller{}, misused("%s is no organisation's id: %w", id, err)
	}
	return o.in(g, t)
}

// mayOpen refuses an operator who has not broken the glass of the organisation.
func mayOpen(ctx context.Context, s *server.Server, by tenantdb.Caller) error {
	err := s.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error { return s.Glass.Require(ctx, tx, by) })
	if err != nil {
		return refusal(err)
	}
	return nil
}

type glassOpen struct {
	operatorName `embed:""`
	Organisation string `required:"" placeholder:"TENANT-ID" help:"Whose."`
	Reason       string `required:"" help:"Why, in 10 to 1000 characters: the organisation reads it."`
	Minutes      int    `default:"60" placeholder:"N" help:"For how long; the organisation's rules say how long at most."`
}

// Help is the long text.
func (*glassOpen) Help() string {
	return operatorOnly + ` It is in the organisation's log and in the installation's, the organisation's owners are told, and one of its people must review it.

    avouch break-glass open --organisation ID --reason "Lost all keys, ticket 4711" --minutes 15`
}

// Run breaks the glass.
func (c *glassOpen) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Organisation)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		u, err := s.Glass.OperatorOpen(ctx, by, c.Reason, time.Duration(c.Minutes)*time.Minute)
		if err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"use_id": u.ID, "tenant_id": c.Organisation, "operator": u.Operator, "expires_at": u.ExpiresAt},
			fmt.Sprintf("The glass is broken until %s, as use %s.", instant(u.ExpiresAt, g.Now()), u.ID))
	})
}

type glassList struct {
	operatorName `embed:""`
	Organisation string `placeholder:"TENANT-ID" help:"Of this organisation, and not of all."`
}

// Help is the long text.
func (*glassList) Help() string { return operatorOnly }

// Run lists uses of operators.
func (c *glassList) Run(ctx context.Context, g *globals) error {
	var only tenantdb.TenantID
	if c.Organisation != "" {
		by, err := c.organisation(g, c.Organisation)
		if err != nil {
			return err
		}
		only = by.Tenant()
	}
	return operate(ctx, g, func(s *server.Server) error {
		shown := 0
		err := s.Org.Each(ctx, func(o org.Organisation) error {
			if !only.IsZero() && o.ID != only {
				return nil
			}
			by, err := c.in(g, o.ID)
			if err != nil {
				return err
			}
			uses, err := s.Glass.OperatorList(ctx, by)
			if err != nil {
				return refusal(err)
			}
			for _, u := range slices.Backward(uses) {
				if err := showUse(g, o.ID, &u, shown > 0); err != nil {
					return err
				}
				shown++
			}
			return nil
		})
		var left *exit
		switch {
		case errors.As(err, &left):
			return left
		case err != nil:
			return refusal(err)
		case shown == 0 && !g.JSON:
			return g.done(nil, "There is none.")
		}
		return nil
	})
}

func showUse(g *globals, of tenantdb.TenantID, u *policy.Use, more bool) error {
	state := u.State(g.Now())
	if g.JSON {
		return encode(g.Out, struct {
			ID       policy.UseID      `json:"use_id"`
			Tenant   tenantdb.TenantID `json:"tenant_id"`
			Operator string            `json:"operator"`
			State    string            `json:"state"`
			Opened   time.Time         `json:"opened_at"`
			Expires  time.Time         `json:"expires_at"`
			Reviewed bool              `json:"reviewed"`
		}{u.ID, of, u.Operator, state, u.OpenedAt, u.ExpiresAt, !u.ReviewedAt.IsZero()})
	}
	if more {
		fmt.Fprintln(g.Out)
	}
	reviewed := "by nobody yet"
	if !u.ReviewedAt.IsZero() {
		reviewed = instant(u.ReviewedAt, g.Now())
	}
	return writeDetails(g.page(), "", []detail{
		{"use", cell{u.ID.String(), bold}}, {"organisation", cell{text: of.String()}}, {"operator", cell{text: u.Operator}}, {"state", cell{text: state}},
		{"opened", cell{text: instant(u.OpenedAt, g.Now())}}, {"until", cell{text: instant(u.ExpiresAt, g.Now())}}, {"reviewed", cell{text: reviewed}},
	})
}

type glassEnd struct {
	operatorName `embed:""`
	Organisation string `required:"" placeholder:"TENANT-ID" help:"Whose."`
	ID           string `arg:"" name:"use-id" help:"Which."`
}

// Help is the long text.
func (*glassEnd) Help() string { return operatorOnly }

// Run ends a use.
func (c *glassEnd) Run(ctx context.Context, g *globals) error {
	use, err := policy.ParseUseID(c.ID)
	if err != nil {
		return misused("%s is no use's id: %w", c.ID, err)
	}
	by, err := c.organisation(g, c.Organisation)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := s.Glass.OperatorEnd(ctx, by, use); err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"use_id": c.ID, "status": "ended"}, "The use is ended.")
	})
}
