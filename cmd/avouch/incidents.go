package main

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// incidentsCmd is `avouch incidents`.
type incidentsCmd struct {
	List    incidentsList    `cmd:"" help:"List what is open, the oldest first."`
	Resolve incidentsResolve `cmd:"" help:"Close an incident that has been dealt with."`
}

// whose is the organisation that an incident belongs to.
type whose struct {
	Tenant string `placeholder:"TENANT-ID" help:"Of this organisation, and not of the installation."`
}

func (w whose) tenant() (tenantdb.TenantID, error) {
	if w.Tenant == "" {
		return tenantdb.Platform, nil
	}
	t, err := tenantdb.ParseTenantID(w.Tenant)
	if err != nil {
		return t, misused("%s is no organisation's id: %w", w.Tenant, err)
	}
	return t, nil
}

type incidentsList struct {
	whose `embed:""`
}

// Help is the long text.
func (*incidentsList) Help() string {
	return operatorOnly + " The installation's incidents include those of every log that does not verify; an organisation sees its own at GET /api/v1/incidents."
}

// Run lists open incidents.
func (c *incidentsList) Run(ctx context.Context, g *globals) error {
	t, err := c.tenant()
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		open, err := s.Incident.Open(ctx, tenantdb.System(t, "operator")) // which writes nothing
		if err != nil {
			return refusal(err)
		}
		if !g.JSON && len(open) == 0 {
			return g.done(nil, "None is open.")
		}
		for i, in := range open {
			if i > 0 && !g.JSON {
				fmt.Fprintln(g.Out)
			}
			if err := showIncident(g, in); err != nil {
				return err
			}
		}
		return nil
	})
}

func showIncident(g *globals, in incident.Incident) error {
	if g.JSON {
		return encode(g.Out, struct {
			ID      incident.ID `json:"incident_id"`
			Kind    string      `json:"kind"`
			Subject string      `json:"subject,omitempty"`
			Detail  string      `json:"detail"`
			Opened  time.Time   `json:"opened_at"`
		}{in.ID, in.Kind, in.Subject, in.Detail, in.Opened.UTC()})
	}
	return writeDetails(g.page(), "", []detail{
		{"incident", cell{in.ID.String(), bold}}, {"kind", cell{in.Kind, bad}}, {"about", cell{text: in.Subject}},
		{"what", cell{text: in.Detail}}, {"since", cell{text: instant(in.Opened, g.Now())}},
	})
}

type incidentsResolve struct {
	operatorName `embed:""`
	whose        `embed:""`
	ID           string `arg:"" name:"incident-id" help:"Which."`
}

// Help is the long text.
func (*incidentsResolve) Help() string {
	return operatorOnly + " What is still wrong is found again, and opens another."
}

// Run closes an incident.
func (c *incidentsResolve) Run(ctx context.Context, g *globals) error {
	id, err := incident.ParseID(c.ID)
	if err != nil {
		return misused("%s is no incident's id: %w", c.ID, err)
	}
	t, err := c.tenant()
	if err != nil {
		return err
	}
	by, err := c.in(g, t)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := s.Incident.Resolve(ctx, by, id); err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"incident_id": c.ID, "status": "resolved"}, "The incident is closed.")
	})
}
