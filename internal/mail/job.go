package mail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Job asks for a mail to be sent, once the transaction that wants it has committed. It is a plain row that outlives the
// mail: it holds identifiers, never an address or a name.
type Job struct {
	Tenant   string            `json:"tenant"`
	Template Template          `json:"template"`
	IDs      map[string]string `json:"ids"` // what the mail is about, as Resolve understands it: {"incident": "…"}
}

// Kind names the job in the queue.
func (Job) Kind() string { return "mail.send" }

// InsertOpts gives a mail a day and a half of tries.
func (Job) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 15} }

// Enqueuer is an organisation's transaction, which asks for a job as it commits.
type Enqueuer interface {
	Enqueue(ctx context.Context, args river.JobArgs) error
}

// ToEach asks for one mail to each of some people: what it is about, and "person", whom it goes to.
func ToEach[P fmt.Stringer](ctx context.Context, tx Enqueuer, tenant string, people []P, t Template, about map[string]string) error {
	for _, p := range people {
		ids := map[string]string{"person": p.String()}
		maps.Copy(ids, about)
		if err := tx.Enqueue(ctx, Job{Tenant: tenant, Template: t, IDs: ids}); err != nil {
			return err
		}
	}
	return nil
}

// Resolve finds the address and what fills the template when the job runs, so that a mail goes to where its reader is now.
// An empty address means that there is nobody to tell.
type Resolve func(ctx context.Context, j Job) (to string, data any, err error)

// Route finds by whom a job's mail is sent: an organisation's region may have a sender of its own, and then no other will
// do. Its error for an organisation without one is ErrNoSender, with what to do about it and no personal data.
type Route func(ctx context.Context, j Job) (Sender, error)

// ErrNoSender means that nothing is configured that may send a mail. It is tried again, as long as every mail is.
var ErrNoSender = errors.New("no mail server is configured for it")

// Worker sends the mails of jobs.
type Worker struct {
	river.WorkerDefaults[Job]
	Route   Route
	Resolve Resolve
}

// Timeout bounds one try.
func (w *Worker) Timeout(*river.Job[Job]) time.Duration { return 2 * time.Minute }

// whileClosed is after how long a mail of an organisation that is closed by its own key management is looked at again. It is no try.
const whileClosed = 5 * time.Minute

// Work sends one mail. Its errors are kept in the job's row, so they hold no personal data. What cannot succeed is not
// tried again.
func (w *Worker) Work(ctx context.Context, job *river.Job[Job]) error {
	sender, err := w.Route(ctx, job.Args)
	if errors.Is(err, ErrNoSender) {
		return err
	}
	if problem.Is(err, problem.TenantKey) {
		return river.JobSnooze(whileClosed)
	}
	if err != nil {
		return errors.New("mail: the sender could not be found: " + string(problem.Of(err).Kind))
	}
	to, data, err := w.Resolve(ctx, job.Args)
	if problem.Is(err, problem.TenantKey) {
		return river.JobSnooze(whileClosed)
	}
	if err != nil {
		return errors.New("mail: the address and data could not be found: " + string(problem.Of(err).Kind))
	}
	if to == "" {
		return river.JobCancel(errors.New("mail: there is nobody to tell"))
	}
	m, err := Render(job.Args.Template, to, data)
	if err != nil {
		return river.JobCancel(errors.New("mail: the template could not be filled"))
	}
	if err := sender.Send(ctx, m); err != nil {
		var refused *Error
		if !errors.As(err, &refused) {
			return errors.New("mail: it could not be sent")
		}
		if refused.Permanent {
			return river.JobCancel(refused)
		}
		return refused
	}
	return nil
}
