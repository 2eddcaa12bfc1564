package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// caller is who asks, in these tests.
type caller struct{ Name string }

type thingKind struct{}

type thing struct {
	ID    id.ID[thingKind] `json:"id" doc:"Names the thing"`
	Name  string           `json:"name" minLength:"1" maxLength:"20" doc:"What people call it"`
	Count int              `json:"count,omitempty" minimum:"0" maximum:"100"`
	Parts []part           `json:"parts,omitempty" maxItems:"3"`
}

type part struct {
	Label string `json:"label" enum:"red,green"`
}

type makeThing struct {
	Body struct {
		Name  string            `json:"name" minLength:"1" maxLength:"20"`
		Count int               `json:"count,omitempty" minimum:"0" maximum:"1000000"`
		Parts []part            `json:"parts,omitempty" maxItems:"3"`
		Notes map[string]string `json:"notes,omitempty"`
		Facts map[string]any    `json:"facts,omitempty" nullable:"true"`
	}
}

type oneThing struct {
	ID id.ID[thingKind] `path:"id"`
	IfMatch
}

type thingOut struct {
	ETag string `header:"ETag"`
	Body thing
}

type thingsIn struct {
	Page
	Color []string `query:"color,explode"`
}

type thingsOut struct {
	Body struct {
		Things []thing `json:"things"`
		Next
	}
}

// bench is one API with everything that it told the outside.
type bench struct {
	*API[caller]
	t       *testing.T
	log     *lockedBuffer
	mu      sync.Mutex
	refused []refusal
	leaks   []string
	store   *memoryStore
	made    int // things made by the operation make-thing
	hold    chan struct{}
}

type refusal struct {
	operation string
	kind      problem.Kind
	caller    string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const goodKey = "avk_live_0123456789A_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0"

const mailed = "avl_abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"

const goodJWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0xyz.c2lnbmF0dXJlc2ln"

func newBench(t *testing.T, change ...func(*Config[caller])) *bench {
	t.Helper()
	b := &bench{t: t, log: &lockedBuffer{}, store: &memoryStore{kept: map[string]memory{}}, hold: make(chan struct{})}
	cfg := Config[caller]{
		Title: "Avouch", Version: "1.2.3", Description: "Proof of who an agent is.",
		Tags:      []Tag{{"Things", "What there is."}},
		PublicURL: &url.URL{Scheme: "http", Host: "127.0.0.1:8080"},
		Logger:    slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Authenticate: func(r *http.Request, meta RequestMeta) (caller, error) {
			if r.Header.Get("Authorization") != "Bearer "+goodKey || meta.ID.IsZero() {
				return caller{}, problem.New(problem.Unauthenticated, "Send a live key.")
			}
			return caller{"alice"}, nil
		},
		Anonymous: func(RequestMeta) caller { return caller{"nobody"} },
		Allow: func(_ context.Context, c caller, scope string) error {
			if scope != "things:write" {
				return problem.New(problem.Denied, "The key lacks the scope %s.", scope)
			}
			return nil
		},
		Refused: func(ctx context.Context, meta RequestMeta, c *caller, operation string, p *problem.Error) {
			r := refusal{operation: operation, kind: p.Kind}
			if c != nil {
				r.caller = c.Name
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused = append(b.refused, r)
		},
		Leaked: func(_ context.Context, credential string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.leaks = append(b.leaks, credential)
		},
		Idempotency: b.store,
		Timeout:     20 * time.Second,
	}
	for _, f := range change {
		f(&cfg)
	}
	b.API = New(cfg)
	b.registerThings()
	return b
}

func (b *bench) registerThings() {
	Handle(b.API, Op{ID: "make-thing", Method: "POST", Path: "/api/v1/things", Summary: "Make a thing", Description: "Makes `one` thing.\n\nAt once.", Tags: []string{"Things"}, Scope: "things:write", Status: 201, Idempotent: true},
		func(ctx context.Context, c caller, in *makeThing) (*thingOut, error) {
			b.mu.Lock()
			b.made++
			b.mu.Unlock()
			if in.Body.Name == "taken" {
				return nil, problem.New(problem.Conflict, "There is a thing of that name.")
			}
			return &thingOut{ETag: ETag(1), Body: thing{ID: id.New[thingKind](), Name: c.Name + "'s " + in.Body.Name, Count: in.Body.Count, Parts: in.Body.Parts}}, nil
		})
	Handle(b.API, Op{ID: "get-thing", Method: "GET", Path: "/api/v1/things/{id}", Summary: "Show a thing", Tags: []string{"Things"}},
		func(_ context.Context, _ caller, in *oneThing) (*thingOut, error) {
			return &thingOut{ETag: ETag(7), Body: thing{ID: in.ID, Name: "x"}}, nil
		})
	Handle(b.API, Op{ID: "update-thing", Method: "PATCH", Path: "/api/v1/things/{id}", Summary: "Change a thing", Tags: []string{"Things"}},
		func(_ context.Context, _ caller, in *oneThing) (*None, error) {
			return nil, CheckMatch(in.IfMatch.IfMatch, 7)
		})
	Handle(b.API, Op{ID: "list-things", Method: "GET", Path: "/api/v1/things", Summary: "List things", Tags: []string{"Things"}, Access: Public}, b.listThings)
	Handle(b.API, Op{ID: "secret-thing", Method: "GET", Path: "/api/v1/secret", Summary: "See a secret", Scope: "secrets:read"},
		func(context.Context, caller, *None) (*None, error) { return nil, nil })
	for id, f := range map[string]func(context.Context) error{
		"boom":     func(context.Context) error { panic("the key is " + goodKey) },
		"nilmap":   func(context.Context) error { var m *caller; _ = *m; return nil },
		"broken":   func(context.Context) error { return errors.New("dial tcp: password=hunter2 " + goodKey) },
		"later":    func(context.Context) error { return problem.New(problem.Unavailable, "Not now.") },
		"obedient": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"stubborn": func(context.Context) error { <-b.hold; return nil },
	} {
		Handle(b.API, Op{ID: id, Method: "POST", Path: "/api/v1/" + id, Summary: "Fail in one way", Access: Public, Timeout: 300 * time.Millisecond},
			func(ctx context.Context, _ caller, _ *None) (*None, error) { return nil, f(ctx) })
	}
}

func (b *bench) listThings(_ context.Context, c caller, in *thingsIn) (*thingsOut, error) {
	after, _, err := After[int](in.Page)
	if err != nil {
		return nil, err
	}
	var rows []thing
	for i := after + 1; i <= 120 && len(rows) <= in.Limit; i++ {
		rows = append(rows, thing{Name: c.Name, Count: i})
	}
	out := &thingsOut{}
	out.Body.Things, out.Body.Next = Cut(rows, in.Limit, func(t thing) int { return t.Count })
	return out, nil
}

// ask sends one request straight into the API. header is "Name: value" lines.
func (b *bench) ask(method, target, body string, header ...string) *http.Response {
	b.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:1234"
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w.Result()
}

const (
	asAlice = "Authorization: Bearer " + goodKey
	asJSON  = "Content-Type: application/json"
)

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// problemIn checks that a response is a whole problem document and gives it back.
func problemIn(t *testing.T, r *http.Response, status int) Problem {
	t.Helper()
	text := bodyOf(t, r)
	var p Problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("status %d: no problem document: %v: %s", r.StatusCode, err, text)
	}
	rid := r.Header.Get("X-Request-Id")
	if r.StatusCode != status || p.Status != status {
		t.Errorf("status %d, in the document %d, want %d: %s", r.StatusCode, p.Status, status, text)
	}
	if ct := r.Header.Get("Content-Type"); ct != problemType {
		t.Errorf("Content-Type %q", ct)
	}
	if rid == "" || p.RequestID != rid || p.Instance != "urn:uuid:"+rid {
		t.Errorf("request id %q, document %q and %q", rid, p.RequestID, p.Instance)
	}
	if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", r.Header)
	}
	if p.Title == "" || p.Detail == "" || !strings.Contains(p.Type, "/problems/") {
		t.Errorf("incomplete: %s", text)
	}
	return p
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func (b *bench) rawMake(w http.ResponseWriter, r *http.Request, c caller, _ RequestMeta) error {
	var in makeThing
	if err := b.Decode(w, r, &in.Body); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(thing{Name: c.Name + in.Body.Name})
}
