package incident

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

type scene struct {
	*doortest.Door
	room   *Room
	acme   tenantdb.TenantID
	system tenantdb.Caller
}

func open(t *testing.T) *scene {
	t.Helper()
	d := doortest.Open(t)
	d.Install(t)
	s := &scene{Door: d, room: New(Config{DB: d.DB}), acme: d.Tenant(t, "Acme")}
	s.system = tenantdb.System(s.acme, "test")
	return s
}

func (s *scene) raise(t *testing.T, c tenantdb.Caller, kind, subject, detail string) bool {
	t.Helper()
	opened, err := s.room.Raise(t.Context(), c, kind, subject, detail)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func (s *scene) open(t *testing.T, c tenantdb.Caller) []Incident {
	t.Helper()
	all, err := s.room.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOpenAndResolve(t *testing.T) {
	t.Parallel()
	s := open(t)
	if !s.raise(t, s.system, "log.broken", "", "Entry 3 does not verify.") {
		t.Fatal("a first incident was not opened")
	}
	all := s.open(t, s.system)
	if len(all) != 1 || all[0].Kind != "log.broken" || all[0].Subject != "" || all[0].Detail != "Entry 3 does not verify." {
		t.Fatalf("open: %+v", all)
	}
	e := s.Last(t, s.acme)
	if e.Type != "incident.opened" || e.Target.ID != all[0].ID.String() || e.Field("kind") != "log.broken" || e.Private["detail"] == "" {
		t.Errorf("the log ends with %+v", e)
	}
	if err := s.room.Resolve(t.Context(), s.system, all[0].ID); err != nil {
		t.Fatal(err)
	}
	if left := s.open(t, s.system); len(left) != 0 {
		t.Errorf("still open: %+v", left)
	}
	if e := s.Last(t, s.acme); e.Type != "incident.resolved" || e.Target.ID != all[0].ID.String() {
		t.Errorf("the log ends with %+v", e)
	}
	before := len(s.Entries(t, s.acme))
	if err := s.room.Resolve(t.Context(), s.system, all[0].ID); err != nil || len(s.Entries(t, s.acme)) != before {
		t.Errorf("resolving twice: %v, %d entries more", err, len(s.Entries(t, s.acme))-before)
	}
	if err := s.room.Resolve(t.Context(), s.system, ID{1}); !problem.Is(err, problem.Missing) {
		t.Errorf("resolving what is not there: %v", err)
	}
}

func TestSameIsNotRaisedTwice(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.raise(t, s.system, "log.broken", "a", "first")
	before := len(s.Entries(t, s.acme))
	for _, again := range []struct {
		kind, subject string
		opened        bool
	}{{"log.broken", "a", false}, {"log.broken", "b", true}, {"log.broken", "", true}, {"key.leaked", "a", true}, {"log.broken", "a", false}} {
		if got := s.raise(t, s.system, again.kind, again.subject, "again"); got != again.opened {
			t.Errorf("%s of %q: opened is %v", again.kind, again.subject, got)
		}
	}
	if got := len(s.Entries(t, s.acme)) - before; got != 3 {
		t.Errorf("%d entries for three incidents", got)
	}
	for _, in := range s.open(t, s.system) {
		if in.Subject == "a" && in.Kind == "log.broken" {
			if err := s.room.Resolve(t.Context(), s.system, in.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !s.raise(t, s.system, "log.broken", "a", "it is back") {
		t.Error("what was resolved and is wrong again was not opened")
	}
}

func TestRaisedAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	rooms := []*Room{s.room, New(Config{DB: s.Another(t).DB})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	opened := 0
	for i := range 16 {
		wg.Go(func() {
			ok, err := rooms[i%2].Raise(t.Context(), s.system, "log.broken", "x", fmt.Sprint(i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if ok {
				opened++
			}
		})
	}
	wg.Wait()
	if n := len(s.open(t, s.system)); opened != 1 || n != 1 {
		t.Errorf("%d said that they opened it, %d are open", opened, n)
	}
}

func TestOthersSeeNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	other := tenantdb.System(s.Tenant(t, "Other"), "test")
	platform := tenantdb.System(tenantdb.Platform, "test")
	s.raise(t, s.system, "log.broken", "", "of Acme")
	s.raise(t, platform, "log.broken", s.acme.String(), "of the platform")
	if n := len(s.open(t, other)); n != 0 {
		t.Errorf("another tenant sees %d", n)
	}
	if all := s.open(t, platform); len(all) != 1 || all[0].Subject != s.acme.String() {
		t.Errorf("the platform sees %+v", all)
	}
	if err := s.room.Resolve(t.Context(), other, s.open(t, s.system)[0].ID); !problem.Is(err, problem.Missing) {
		t.Errorf("another tenant's incident: %v", err)
	}
	if len(s.open(t, s.system)) != 1 {
		t.Error("another tenant resolved it")
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, bad := range [][2]string{{"", ""}, {"log broken", ""}, {"a/b", ""}, {"log.broken", "x/y"}, {"log.broken", "a\nb"}, {strings.Repeat("a", 65), ""}, {"log.broken", strings.Repeat("a", 129)}} {
		if _, err := s.room.Raise(t.Context(), s.system, bad[0], bad[1], "x"); err == nil {
			t.Errorf("kind %q, subject %q was taken", bad[0], bad[1])
		}
	}
	s.raise(t, s.system, "long", "", strings.Repeat("ü", 2000))
	if got := s.open(t, s.system)[0].Detail; len(got) > maxDetail || strings.Contains(got, "\ufffd") {
		t.Errorf("the detail is %d bytes long", len(got))
	}
}

func TestRoute(t *testing.T) {
	t.Parallel()
	s := open(t)
	at := time.Now()
	for i := range 3 {
		s.raise(t, s.system, "kind", fmt.Sprint(i), "x")
	}
	if err := s.room.Resolve(t.Context(), s.system, s.open(t, s.system)[0].ID); err != nil {
		t.Fatal(err)
	}
	get := func(path string, capabilities ...string) doortest.Answer {
		api := s.API(doortest.As(s.Caller(s.acme, capabilities...)))
		s.room.Routes(api)
		return doortest.Call(t, api, doortest.Request{Method: http.MethodGet, Path: path})
	}
	if a := get("/api/v1/incidents", "verify", "audit:write"); a.Status != http.StatusForbidden {
		t.Errorf("without audit:read: %d", a.Status)
	}
	a := get("/api/v1/incidents?limit=1", "audit:read")
	first := a.Body["incidents"].([]any)
	if a.Status != 200 || len(first) != 1 || first[0].(map[string]any)["subject"] != "1" {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	if opened, err := time.Parse(time.RFC3339Nano, first[0].(map[string]any)["opened_at"].(string)); err != nil || opened.Before(at.Add(-time.Second)) {
		t.Errorf("opened_at: %v, %v", opened, err)
	}
	a = get("/api/v1/incidents?limit=1&cursor="+a.Body["next_cursor"].(string), "*")
	if a.Status != 200 || a.Body["incidents"].([]any)[0].(map[string]any)["subject"] != "2" || a.Body["next_cursor"] != nil {
		t.Errorf("second page: %d %s", a.Status, a.Raw)
	}
	if a := get("/api/v1/incidents?state=all", "audit:read"); len(a.Body["incidents"].([]any)) != 3 || !strings.Contains(a.Raw, "resolved_at") {
		t.Errorf("all: %s", a.Raw)
	}
}

// TestOpenedIsToldInTheSameTransaction lets the hook fail, and then not: what it does and the incident are there together.
func TestOpenedIsToldInTheSameTransaction(t *testing.T) {
	t.Parallel()
	s := open(t)
	var told []Incident
	fail := errors.New("no")
	room := New(Config{DB: s.DB, Opened: func(_ context.Context, tx *tenantdb.Tx, in Incident) error {
		if tx.Tenant() != s.acme {
			t.Errorf("told of %s's", tx.Tenant())
		}
		told = append(told, in)
		return fail
	}})
	before := len(s.Entries(t, s.acme))
	if opened, err := room.Raise(t.Context(), s.system, "log.broken", "", "x"); !errors.Is(err, fail) || opened {
		t.Errorf("opened %v: %v", opened, err)
	}
	if n, entries := len(s.open(t, s.system)), len(s.Entries(t, s.acme)); n != 0 || entries != before {
		t.Errorf("%d are open, %d entries more", n, entries-before)
	}
	fail = nil
	for range 2 {
		if _, err := room.Raise(t.Context(), s.system, "log.broken", "", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if all := s.open(t, s.system); len(all) != 1 || len(told) != 2 || told[1].ID != all[0].ID {
		t.Errorf("open %+v, told of %+v", all, told)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.raise(t, s.system, "log.broken", "a", "x")
	want := s.open(t, s.system)[0]
	in, err := ParseID(want.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.room.Get(t.Context(), s.system, in); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.room.Get(t.Context(), tenantdb.System(tenantdb.Platform, "test"), in); !problem.Is(err, problem.Missing) {
		t.Errorf("as another tenant: %v", err)
	}
}
