package trail

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestOthersSeeNothing walks every route that reads with callers who may not, or whose log is another.
func TestOthersSeeNothing(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 20)
	victim := s.Entries(t, s.acme)[7]
	reads := []string{"/api/v1/audit/entries", "/api/v1/audit/stream", "/api/v1/audit/proofs/7", "/api/v1/audit/export", "/api/v1/requests/" + victim.Request.String()}
	for _, path := range reads {
		if a := s.get(t, s.Caller(s.acme, "verify", "audit:write", "agents:read"), path); a.Status != http.StatusForbidden {
			t.Errorf("%s without audit:read: %d", path, a.Status)
		}
	}
	reader := s.Caller(s.other, "*")
	if a := s.get(t, reader, "/api/v1/requests/"+victim.Request.String()); a.Status != http.StatusNotFound {
		t.Errorf("another organisation's request: %d %s", a.Status, a.Raw)
	}
	if a := s.get(t, reader, "/api/v1/audit/proofs/7"); a.Status != http.StatusNotFound {
		t.Errorf("another organisation's entry: %d %s", a.Status, a.Raw)
	}
	for _, query := range []string{"", "?request_id=" + victim.Request.String(), "?order=oldest&from=3", "?actor=tester&type=test.happened"} {
		for _, e := range entriesOf(t, s.get(t, reader, "/api/v1/audit/entries"+query)) {
			if e["log_id"] == victim.Log.String() || e["target"] != nil && e["target"].(map[string]any)["id"] == "7" {
				t.Errorf("%s shows another organisation's entry: %v", query, e)
			}
		}
	}
	// The room holds the rule too, for callers that do not come through routes.
	weak := s.Caller(s.acme, "verify")
	_, err1 := s.room.Entries(t.Context(), weak, Query{})
	_, err2 := s.room.Prove(t.Context(), weak, 0)
	_, err3 := s.room.Request(t.Context(), weak, victim.Request)
	_, err4 := s.room.Export(t.Context(), weak, nil, ExportOptions{})
	for i, err := range []error{err1, err2, err3, err4} {
		if err == nil || !strings.Contains(err.Error(), "audit:read") {
			t.Errorf("read %d without audit:read: %v", i, err)
		}
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 30)
	reader := s.Caller(s.acme, "audit:read")
	got := entriesOf(t, s.get(t, reader, "/api/v1/audit/entries?limit=5"))
	stored := s.Entries(t, s.acme)
	if len(got) != 5 || got[0]["seq"] != 30.0 {
		t.Fatalf("the newest five: %v", got)
	}
	for i, e := range got {
		want := stored[30-i]
		leaf := audit.Leaf(want.Body)
		if e["leaf"] != fmt.Sprintf("%x", leaf) || e["entry_id"] != want.ID.String() || e["type"] != want.Type || e["request_id"] != want.Request.String() ||
			e["actor"].(map[string]any)["id"] != "tester" || e["outcome"] != "done" {
			t.Errorf("entry %d: %v", want.Seq, e)
		}
		switch {
		case len(want.Private) == 0 && (e["private"] != nil || e["private_state"] != nil):
			t.Errorf("entry %d has private fields: %v", want.Seq, e)
		case len(want.Private) > 0 && (e["private_state"] != "open" || e["private"].(map[string]any)["who"] != want.Private["who"]):
			t.Errorf("entry %d: %v", want.Seq, e)
		}
	}
	link := audit.Genesis
	for i, e := range entriesOf(t, s.get(t, reader, "/api/v1/audit/entries?order=oldest&limit=200")) {
		if e["prev"] != fmt.Sprintf("%x", link) {
			t.Errorf("entry %d: prev is %v", i, e["prev"])
		}
		if i < len(stored) {
			link = audit.Link(link, audit.Leaf(stored[i].Body))
		} else {
			break
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 40)
	reader := s.Caller(s.acme, "audit:read")
	own, err := s.DB.Record(t.Context(), s.Caller(s.acme), audit.Event{Type: "token.issued", Target: audit.Target{Kind: "agent", ID: "the agent"}})
	must(t, err)
	request := s.Last(t, s.acme).Request.String()
	s.Admin(t, "ALTER TABLE avouch.audit_entry DISABLE TRIGGER insert_only")
	for query, want := range map[string]int{
		"type=agent.verified":                8,
		"type=agent.*":                       8,
		"type=test.happened":                 32,
		"type=token.*":                       1,
		"type=nothing":                       0,
		"decision=ALLOWED":                   8,
		"decision=DENIED":                    0,
		"target=the+agent":                   1,
		"request_id=" + request:              1,
		"request_id=" + request + "&from=3":  1,
		"order=oldest&request_id=" + request: 1,
		"actor=nobody":                       0,
		"from=38&type=*":                     4,
		"since=" + url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339)):                     0,
		"until=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339)):                    0,
		"type=test.happened&since=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339)): 32,
	} {
		a := s.get(t, reader, "/api/v1/audit/entries?limit=100&"+query)
		got := slices.DeleteFunc(entriesOf(t, a), func(e map[string]any) bool { return e["type"] == "log.read" })
		if len(got) != want || a.Body["next_cursor"] != nil {
			t.Errorf("%s: %d entries, want %d; next %v", query, len(got), want, a.Body["next_cursor"])
		}
	}
	if own.Seq != 41 {
		t.Errorf("the entry's number is %d", own.Seq)
	}
	for _, bad := range []string{"request_id=x", "order=sideways", "since=yesterday", "from=-1", "cursor=AAAA", "limit=1000", "nonsense=1"} {
		if a := s.get(t, reader, "/api/v1/audit/entries?"+bad); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, a.Status)
		}
	}
}

// TestTimeWindow gives the rows times of their own and lets the search find the window among them.
func TestTimeWindow(t *testing.T) {
	t.Parallel()
	s := enter(t)
	// Times in entries are the server's, so a server with another clock writes the past.
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	c := s.Caller(s.acme, "audit:read")
	s.fill(t, s.acme, 999)
	s.Admin(t, "ALTER TABLE avouch.audit_entry DISABLE TRIGGER USER")
	s.Admin(t, "UPDATE avouch.audit_entry SET written_at = $2::timestamptz + seq * interval '1 minute' WHERE tenant_id = $1", s.acme, start)
	tx := func(fn func(querier) error) {
		must(t, s.DB.Read(t.Context(), c, func(tx *tenantdb.ReadTx) error { return fn(tx) }))
	}
	for _, minute := range []int{-10, 0, 1, 500, 999, 1000, 5000} {
		tx(func(q querier) error {
			got, err := firstSince(t.Context(), q, s.acme, 1000, start.Add(time.Duration(minute)*time.Minute))
			if want := int64(min(max(minute, 0), 1000)); got != want {
				t.Errorf("minute %d: entry %d, want %d", minute, got, want)
			}
			return err
		})
	}
}

// TestPagesAreStable reads page by page, both ways, while others append.
func TestPagesAreStable(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 100)
	reader := s.Caller(s.acme, "audit:read")
	for _, order := range []string{"newest", "oldest"} {
		size := s.size(t, s.acme)
		var seen []int64
		for cursor := ""; ; {
			a := s.get(t, reader, "/api/v1/audit/entries?limit=7&order="+order+"&cursor="+cursor)
			for _, e := range entriesOf(t, a) {
				seen = append(seen, int64(e["seq"].(float64)))
			}
			s.fill(t, s.acme, 2)
			next, more := a.Body["next_cursor"].(string)
			if !more || order == "oldest" && seen[len(seen)-1] >= size {
				break
			}
			cursor = next
		}
		if order == "newest" {
			slices.Reverse(seen)
		}
		for i := range size {
			if seen[i] != i {
				t.Fatalf("%s: place %d has entry %d", order, i, seen[i])
			}
		}
	}
}

// TestBoundedScan asks for what is rare in a long log: no page looks at more rows than it may, and all pages find it.
func TestBoundedScan(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := s.Caller(s.acme, "audit:read")
	s.fill(t, s.acme, maxScanned+1200)
	q := Query{Type: "organisation.created"}
	page, err := s.room.Entries(t.Context(), c, q)
	must(t, err)
	if len(page.Entries) != 0 || !page.More {
		t.Fatalf("first page: %d entries, more is %v", len(page.Entries), page.More)
	}
	q.After = &page.Last
	page, err = s.room.Entries(t.Context(), c, q)
	must(t, err)
	if len(page.Entries) != 1 || page.Entries[0].Seq != 0 || page.More {
		t.Errorf("second page: %+v", page)
	}
}

func TestReadsAreRecorded(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 5)
	reader := s.Caller(s.acme, "audit:read")
	request := s.Last(t, s.acme).Request.String()
	for path, want := range map[string]map[string]string{
		"/api/v1/audit/entries?limit=2&actor=somebody+private": {"what": sawEntries, "count": "0"},
		"/api/v1/audit/entries?limit=2&order=oldest":           {"what": sawEntries, "count": "2", "from": "0", "to": "1"},
		"/api/v1/requests/" + request:                          {"what": sawRequest, "request": request},
		"/api/v1/audit/proofs/3":                               {"what": sawProof, "from": "3", "to": "3"},
	} {
		if a := s.get(t, reader, path); a.Status != 200 {
			t.Errorf("%s: %d %s", path, a.Status, a.Raw)
		}
		e := s.Last(t, s.acme)
		if e.Type != "log.read" || e.Actor.ID != "tester" || e.Target.Kind != "log" || e.Target.ID != e.Log.String() {
			t.Errorf("%s: the log ends with %+v", path, e)
		}
		for name, value := range want {
			if e.Field(name) != value {
				t.Errorf("%s: %s is %q, want %q", path, name, e.Field(name), value)
			}
		}
		if strings.Contains(string(e.Body), "somebody") {
			t.Errorf("%s: what the reader wrote is in the entry", path)
		}
		if strings.Contains(path, "somebody") && e.Private["query"] != "actor=somebody+private" {
			t.Errorf("the query is kept as %v", e.Private)
		}
	}
}

// TestUnrecordedReadShowsNothing makes the log refuse entries: then it refuses to be read.
func TestUnrecordedReadShowsNothing(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 5)
	s.Admin(t, "REVOKE INSERT ON avouch.audit_entry FROM avouch_log, avouch_server")
	for _, path := range []string{"/api/v1/audit/entries", "/api/v1/audit/proofs/3", "/api/v1/requests/" + s.Last(t, s.acme).Request.String()} {
		a := s.get(t, s.Caller(s.acme, "audit:read"), path)
		if a.Status < 500 || strings.Contains(a.Raw, "Ada") {
			t.Errorf("%s: %d %s", path, a.Status, a.Raw)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := s.Caller(s.acme, "audit:read")
	for i := range 3 {
		s.fill(t, s.acme, 2)
		_, err := s.DB.Record(t.Context(), c, audit.Event{Type: "step.done", Public: []audit.Field{{Name: "i", Value: fmt.Sprint(i)}}})
		must(t, err)
	}
	a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/requests/"+c.RequestID().String())
	got := entriesOf(t, a)
	if len(got) != 3 || a.Body["request_id"] != c.RequestID().String() {
		t.Fatalf("%s", a.Raw)
	}
	for i, e := range got {
		if e["type"] != "step.done" || e["public"].(map[string]any)["i"] != fmt.Sprint(i) {
			t.Errorf("step %d: %v", i, e)
		}
	}
	if _, ok := a.Body["spans"].([]any); !ok {
		t.Errorf("no place for spans: %v", slices.Sorted(maps.Keys(a.Body)))
	}
	if a := s.get(t, c, "/api/v1/requests/nonsense"); a.Status != http.StatusBadRequest {
		t.Errorf("nonsense: %d", a.Status)
	}
	if a := s.get(t, c, "/api/v1/requests/"+audit.NewRequestID().String()); a.Status != http.StatusNotFound {
		t.Errorf("unknown: %d", a.Status)
	}
}

// TestErasedFieldsStayClosed erases a subject: its fields are gone, the entry and its proof are not.
func TestErasedFieldsStayClosed(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := s.Caller(s.acme, "audit:read")
	person := audit.NewSubjectID()
	pos, err := s.DB.Record(t.Context(), c, audit.Event{Type: "person.joined", Subject: person, Private: []audit.Field{{Name: "name", Value: "Ada"}, {Name: "name", Value: "Lovelace"}}})
	must(t, err)
	at := fmt.Sprintf("/api/v1/audit/entries?limit=1&order=oldest&from=%d", pos.Seq)
	if p := entriesOf(t, s.get(t, c, at))[0]["private"].(map[string]any); p["name"] != "Ada" || p["name_2"] != "Lovelace" {
		t.Fatalf("private fields: %v", p)
	}
	must(t, s.Ring.DestroySubject(t.Context(), s.acme, person))
	e := entriesOf(t, s.get(t, c, at))[0]
	if e["private"] != nil || e["private_state"] != "erased" || e["fault"] != nil {
		t.Errorf("after erasure: %v", e)
	}
	if a := s.get(t, c, fmt.Sprintf("/api/v1/audit/proofs/%d", pos.Seq)); a.Status != 200 {
		t.Errorf("the proof after erasure: %d %s", a.Status, a.Raw)
	}
}

// TestFaultyEntriesAreShown alters stored entries: a reader sees that they are altered, and the others.
func TestFaultyEntriesAreShown(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 10)
	s.Admin(t, "ALTER TABLE avouch.audit_entry DISABLE TRIGGER USER")
	alter := func(seq int, set string) {
		s.Admin(t, "UPDATE avouch.audit_entry SET "+set+" WHERE tenant_id = $1 AND seq = $2", s.acme, seq)
	}
	alter(2, `body = '\x00'`)
	alter(3, `body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1)`)
	alter(4, `sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)`)
	got := entriesOf(t, s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/audit/entries?order=oldest"))
	if len(got) != 11 || got[2]["fault"] == nil || got[3]["fault"] == nil || got[4]["private_state"] != "unreadable" || got[5]["fault"] != nil {
		t.Errorf("%v\n%v\n%v", got[2], got[3], got[4])
	}
}

// TestRoutesAreDescribed holds the addresses that outsiders build on.
func TestRoutesAreDescribed(t *testing.T) {
	t.Parallel()
	s := enter(t)
	a := doortest.Call(t, s.api(s.Caller(s.acme)), doortest.Request{Method: http.MethodGet, Path: "/openapi.json"})
	paths := a.Body["paths"].(map[string]any)
	for _, want := range []string{"/api/v1/audit/entries", "/api/v1/audit/stream", "/api/v1/audit/proofs/{seq}", "/api/v1/audit/events", "/api/v1/audit/export", "/api/v1/requests/{id}"} {
		if paths[want] == nil {
			t.Errorf("%s is not in OpenAPI", want)
		}
	}
}
