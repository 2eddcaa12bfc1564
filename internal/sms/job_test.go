package sms

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestJob lets texts arrive and fail in every way, and reads the rows and the log.
func TestJob(t *testing.T) {
	t.Parallel()
	p := listen(t, false, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("X"), "refuse") {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	good, err := New(Config{Provider: "http", URL: p.URL, Body: formBody})
	must(t, err)
	bad, err := New(Config{Provider: "http", URL: p.URL, Body: formBody, HeadersFile: file(t, "X: refuse")})
	must(t, err)
	d := doortest.Open(t)
	workers := river.NewWorkers()
	river.AddWorker(workers, &Worker{Route: func(context.Context, Job) (Sender, error) { return either{good, bad}, nil }, Resolve: func(_ context.Context, j Job) (Message, error) {
		switch j.IDs["case"] {
		case "nobody":
			return Message{}, nil
		case "lost":
			return Message{}, errors.New("no number " + message.To)
		case "refused":
			return Message{To: message.To, Text: "refuse"}, nil
		case "broken":
			return Message{To: message.To, Text: "panic"}, nil
		}
		return message, nil
	}})
	stop, err := d.DB.StartJobs(t.Context(), d.Log, workers, nil)
	must(t, err)
	t.Cleanup(func() { must(t, stop(context.Background())) })
	tenant := d.Tenant(t, "Acme")
	for name, state := range map[string]rivertype.JobState{
		"sent": rivertype.JobStateCompleted, "refused": rivertype.JobStateCancelled, "nobody": rivertype.JobStateCancelled,
		"lost": rivertype.JobStateRetryable, "broken": rivertype.JobStateRetryable,
	} {
		must(t, d.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
			return audit.Event{Type: "sms.wanted"}, tx.Enqueue(t.Context(), Job{tenant.String(), map[string]string{"case": name}})
		}))
		got := ""
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && got != string(state); time.Sleep(50 * time.Millisecond) {
			got = d.Text(t, "SELECT coalesce((SELECT state::text FROM avouch_jobs.river_job ORDER BY id DESC LIMIT 1), '')")
			if name == "lost" || name == "broken" { // it may be scheduled, or be tried again already
				if strings.Contains(d.Text(t, "SELECT row_to_json(j)::text FROM avouch_jobs.river_job j ORDER BY id DESC LIMIT 1"), "sms:") {
					got = string(state)
				}
			}
		}
		if got != string(state) {
			t.Errorf("%s is %s, want %s", name, got, state)
		}
	}
	rows := d.Text(t, "SELECT json_agg(j)::text FROM avouch_jobs.river_job j")
	if strings.Contains(rows+d.Logged(), message.To[1:]) || strings.Contains(rows, "123456") || !strings.Contains(rows, "(400)") {
		t.Errorf("the rows are %s", rows)
	}
	if n := len(p.all()); n != 2 {
		t.Errorf("%d requests arrived", n)
	}
}

// either sends what is to be refused by the second.
type either struct{ good, bad Sender }

func (e either) Send(ctx context.Context, m Message) error {
	switch m.Text {
	case "refuse":
		return e.bad.Send(ctx, m)
	case "panic":
		return errors.New("some library says " + m.To)
	}
	return e.good.Send(ctx, m)
}
