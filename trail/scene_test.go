package trail

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// scene is a room with everything real around it, and two organisations.
type scene struct {
	*doortest.Door
	room      *Room
	incidents *incident.Room
	acme      tenantdb.TenantID
	other     tenantdb.TenantID
}

func enter(t testing.TB, change ...func(*Config)) *scene {
	t.Helper()
	d := doortest.Open(t)
	d.Install(t)
	s := &scene{Door: d, incidents: incident.New(incident.Config{DB: d.DB}), acme: d.Tenant(t, "Acme"), other: d.Tenant(t, "Other")}
	cfg := Config{DB: d.DB, Sealer: d.Ring, Host: "avouch.test", Log: d.Log, Raise: s.incidents.Raise}
	for _, c := range change {
		c(&cfg)
	}
	s.room = New(cfg)
	return s
}

// fill appends n entries to a log, side by side: every third has private fields, every fifth a decision.
func (s *scene) fill(t testing.TB, tenant tenantdb.TenantID, n int) {
	t.Helper()
	c := s.Caller(tenant)
	head, err := s.DB.Head(t.Context(), tenant)
	must(t, err)
	for from := 0; from < n; from += 500 {
		var drafts []tenantdb.Draft
		for i := from; i < min(from+500, n); i++ {
			ev := audit.Event{Type: "test.happened", Target: audit.Target{Kind: "agent", ID: fmt.Sprint(i)}, Public: []audit.Field{{Name: "n", Value: fmt.Sprint(i)}}}
			if i%3 == 0 {
				ev.Private = []audit.Field{{Name: "who", Value: fmt.Sprintf("Ada %d", i)}}
			}
			if i%5 == 0 {
				ev.Type, ev.Decision = "agent.verified", "ALLOWED"
			}
			d, err := s.DB.Draft(t.Context(), c, head, ev)
			must(t, err)
			drafts = append(drafts, d)
		}
		_, err := s.DB.Append(t.Context(), drafts)
		must(t, err)
	}
}

func (s *scene) size(t testing.TB, tenant tenantdb.TenantID) int64 {
	t.Helper()
	h, err := s.room.head(t.Context(), tenantdb.System(tenant, "test"))
	must(t, err)
	return h.size
}

// api is the room's routes as somebody meets them.
func (s *scene) api(c tenantdb.Caller) http.Handler {
	api := s.API(doortest.As(c))
	s.room.Routes(api)
	return api
}

func (s *scene) get(t testing.TB, c tenantdb.Caller, path string) doortest.Answer {
	t.Helper()
	return doortest.Call(t, s.api(c), doortest.Request{Method: http.MethodGet, Path: path})
}

func (s *scene) post(t testing.TB, c tenantdb.Caller, path string, body any) doortest.Answer {
	t.Helper()
	return doortest.Call(t, s.api(c), doortest.Request{Method: http.MethodPost, Path: path, Body: body})
}

// adminURL is where a superuser finds the test's database. The server names the folder of its socket as it sees it.
func (s *scene) adminURL(t testing.TB) string {
	t.Helper()
	dir := strings.Replace(s.Text(t, "SELECT current_setting('unix_socket_directories')"), "/proc/self/",
		"/proc/"+s.Text(t, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)`)+"/", 1)
	return fmt.Sprintf("postgres://%s@/%s?host=%s", s.Text(t, "SELECT current_user::text"), s.Text(t, "SELECT current_database()::text"), url.QueryEscape(dir))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t testing.TB, a doortest.Answer) []map[string]any {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	var all []map[string]any
	for _, e := range a.Body["entries"].([]any) {
		all = append(all, e.(map[string]any))
	}
	return all
}
