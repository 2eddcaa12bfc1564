package incident

import (
	"context"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Routes registers the room's operations.
func (r *Room) Routes(api *web.API[tenantdb.Caller]) {
	web.Handle(api, web.Op{
		ID: "list-incidents", Method: http.MethodGet, Path: "/api/v1/incidents", Tags: []string{"Audit"}, Scope: "audit:read",
		Summary:     "List incidents",
		Description: "What is or was wrong in the caller's organisation, such as a log that does not verify; the oldest first.",
	}, r.listOverHTTP)
}

type listInput struct {
	web.Page
	State string `query:"state" enum:"open,all" default:"open" doc:"Only open incidents, or all"`
}

type listOutput struct {
	Body struct {
		Incidents []view `json:"incidents"`
		web.Next
	}
}

type view struct {
	ID       ID         `json:"incident_id" format:"uuid"`
	Kind     string     `json:"kind" doc:"What sort of thing is wrong"`
	Subject  string     `json:"subject,omitempty" doc:"What it is about; absent if it is the organisation itself"`
	Detail   string     `json:"detail"`
	Opened   time.Time  `json:"opened_at"`
	Resolved *time.Time `json:"resolved_at,omitempty" doc:"Absent while the incident is open"`
}

func (r *Room) listOverHTTP(ctx context.Context, c tenantdb.Caller, in *listInput) (*listOutput, error) {
	if !c.May("audit:read") {
		return nil, problem.New(problem.Denied, "Reading incidents takes the capability audit:read.")
	}
	after, _, err := web.After[ID](in.Page)
	if err != nil {
		return nil, err
	}
	all, err := r.list(ctx, c, in.State == "open", after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	var out listOutput
	all, out.Body.Next = web.Cut(all, in.Limit, func(i Incident) ID { return i.ID })
	out.Body.Incidents = make([]view, len(all))
	for i, in := range all {
		out.Body.Incidents[i] = view{ID: in.ID, Kind: in.Kind, Subject: in.Subject, Detail: in.Detail, Opened: in.Opened}
		if !in.Resolved.IsZero() {
			out.Body.Incidents[i].Resolved = &all[i].Resolved
		}
	}
	return &out, nil
}
