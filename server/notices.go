package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Mailer sends one of the templates to an address.
type Mailer interface {
	Send(ctx context.Context, to, template string, data map[string]string) error
}

// noticeWorker sends notices. An organisation that gave no address gets none, and its log says so.
type noticeWorker struct {
	river.WorkerDefaults[notice]
	server *Server
}

var errNoMailer = errors.New("no mail relay is configured: set AVOUCH_SMTP_URL")

// Work sends one notice.
func (w *noticeWorker) Work(ctx context.Context, job *river.Job[notice]) error {
	t, err := tenantdb.ParseTenantID(job.Args.Tenant)
	if err != nil {
		return river.JobCancel(err)
	}
	to, err := w.server.Org.Contact(ctx, t)
	if err != nil {
		return fmt.Errorf("server.notice: %w", err)
	}
	outcome := audit.Done
	switch {
	case to == "":
		outcome = audit.Failed
	case w.server.Mail == nil:
		return errNoMailer // tried again later: River's retries outlast a relay that is set up tomorrow
	default:
		data := map[string]string{"about": job.Args.About, "url": w.server.URL()}
		if err := w.server.Mail.Send(ctx, to, job.Args.Template, data); err != nil {
			return fmt.Errorf("server.notice: %w", err)
		}
	}
	_, err = w.server.DB.Record(ctx, tenantdb.System(t, "notice"), audit.Event{
		Type: "notice.sent", Outcome: outcome, Target: audit.Target{Kind: "notice", ID: job.Args.Template},
		Public: []audit.Field{{Name: "about", Value: job.Args.About}},
	})
	return err
}
