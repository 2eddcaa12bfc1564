package mail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail/mailtest"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// jobs runs River with the worker, on a real database.
func jobs(t *testing.T, w *Worker) (*doortest.Door, tenantdb.TenantID) {
	t.Helper()
	d := doortest.Open(t)
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	stop, err := d.DB.StartJobs(t.Context(), d.Log, workers, nil)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d, d.Tenant(t, "Acme")
}

// by sends every job's mail by one sender.
func by(s Sender) Route {
	return func(context.Context, Job) (Sender, error) { return s, nil }
}

// ask enqueues a job in a change, and waits until it has the state.
func ask(t *testing.T, d *doortest.Door, tenant tenantdb.TenantID, j Job, state rivertype.JobState) {
	t.Helper()
	j.Tenant = tenant.String()
	must(t, d.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "mail.wanted"}, tx.Enqueue(t.Context(), j)
	}))
	var got string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		got = d.Text(t, "SELECT coalesce((SELECT state::text FROM avouch_jobs.river_job ORDER BY id DESC LIMIT 1), '')")
		if got == string(state) {
			return
		}
	}
	t.Fatalf("the job is %s, want %s", got, state)
}

// TestJob changes the address after the job was asked for: the mail goes to the new one, and the row holds neither.
func TestJob(t *testing.T) {
	t.Parallel()
	s := (&mailtest.Server{StartTLS: true}).Start(t)
	sender, err := NewSMTP(config(s))
	must(t, err)
	d, tenant := jobs(t, &Worker{Route: by(sender), Resolve: func(_ context.Context, j Job) (string, any, error) {
		if j.IDs["incident"] != "7" || j.Tenant == "" {
			return "", nil, fmt.Errorf("asked for %+v", j)
		}
		return "Ada <ada@example.com>", IncidentData{Organisation: "Acme", Kind: "log.broken", ID: j.IDs["incident"]}, nil
	}})
	ask(t, d, tenant, Job{Template: Incident, IDs: map[string]string{"incident": "7"}}, rivertype.JobStateCompleted)
	all := s.Received()
	if len(all) != 1 || !strings.Contains(all[0].To, "ada@example.com") || !strings.Contains(all[0].Data, "log.broken") {
		t.Errorf("received %+v", all)
	}
	if row := d.Text(t, "SELECT row_to_json(j)::text FROM avouch_jobs.river_job j"); strings.Contains(row, "ada@") || strings.Contains(row, "Acme") || !strings.Contains(row, `"kind":"mail.send"`) {
		t.Errorf("the job's row is %s", row)
	}
}

// TestJobErrorsHoldNoAddress lets mails fail in every way, and reads the rows and the log.
func TestJobErrorsHoldNoAddress(t *testing.T) {
	t.Parallel()
	s := (&mailtest.Server{StartTLS: true, Refuse: "550 ada@example.com is unknown"}).Start(t)
	sender, err := NewSMTP(config(s))
	must(t, err)
	route := func(_ context.Context, j Job) (Sender, error) {
		switch j.IDs["case"] {
		case "unroutable":
			return nil, errors.New("no region of ada@example.com")
		case "elsewhere":
			return nil, fmt.Errorf("region eu: %w", ErrNoSender)
		}
		return sender, nil
	}
	d, tenant := jobs(t, &Worker{Route: route, Resolve: func(_ context.Context, j Job) (string, any, error) {
		switch j.IDs["case"] {
		case "unroutable", "elsewhere":
			t.Error("the address was asked for before it was clear that there is a sender")
		case "nobody":
			return "", nil, nil
		case "lost":
			return "", nil, errors.New("no address for ada@example.com")
		case "unfilled":
			return "ada@example.com", struct{ Name string }{"ada@example.com"}, nil
		}
		return "ada@example.com", IncidentData{Organisation: "Acme"}, nil
	}})
	for name, state := range map[string]rivertype.JobState{
		"refused": rivertype.JobStateCancelled, "nobody": rivertype.JobStateCancelled, "unfilled": rivertype.JobStateCancelled, "lost": rivertype.JobStateRetryable,
		"unroutable": rivertype.JobStateRetryable, "elsewhere": rivertype.JobStateRetryable,
	} {
		ask(t, d, tenant, Job{Template: Incident, IDs: map[string]string{"case": name}}, state)
	}
	if rows := d.Text(t, "SELECT json_agg(j)::text FROM avouch_jobs.river_job j"); strings.Contains(rows, "ada@") || !strings.Contains(rows, "(550)") || !strings.Contains(rows, "region eu: no mail server is configured for it") {
		t.Errorf("the rows are %s", rows)
	}
	if log := d.Logged(); strings.Contains(log, "ada@") {
		t.Errorf("the log is %s", log)
	}
}
