package doortest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Authenticate says who sends a request.
type Authenticate = func(*http.Request, web.RequestMeta) (tenantdb.Caller, error)

// As authenticates every request as the same caller.
func As(c tenantdb.Caller) Authenticate {
	return func(*http.Request, web.RequestMeta) (tenantdb.Caller, error) { return c, nil }
}

// API is a server without a network; register a room's Routes with it. What is changed of its configuration is the test's.
func (d *Door) API(authenticate Authenticate, changes ...func(*web.Config[tenantdb.Caller])) *web.API[tenantdb.Caller] {
	cfg := web.Config[tenantdb.Caller]{
		Title: "Avouch", Version: "test", PublicURL: &url.URL{Scheme: "http", Host: "avouch.test"},
		Logger: d.Log, Authenticate: authenticate, Idempotency: &answers{},
		Anonymous: func(m web.RequestMeta) tenantdb.Caller {
			return tenantdb.NewCaller(tenantdb.CallerSpec{
				Tenant: tenantdb.Platform, Actor: audit.Actor{Kind: audit.ActorNobody}, How: "none", RequestID: audit.RequestID(m.ID), Address: m.Address,
			})
		},
		Allow: func(_ context.Context, c tenantdb.Caller, capability string) error {
			if c.May(capability) {
				return nil
			}
			return problem.New(problem.Denied, "This needs the capability %s.", capability)
		},
	}
	for _, change := range changes {
		change(&cfg)
	}
	return web.New(cfg)
}

// Answer is what a route answered.
type Answer struct {
	Status int
	Header http.Header
	Body   map[string]any // of JSON; nil if there is none
	Raw    string
}

// Request is a request to a route.
type Request struct {
	Method, Path string
	Key          string // goes into Authorization
	Header       map[string]string
	Body         any // a string is sent as it is, anything else as JSON, nil not at all
}

// Call sends a request to an API and reads the answer.
func Call(t testing.TB, api http.Handler, q Request) Answer {
	t.Helper()
	var body bytes.Buffer
	switch b := q.Body.(type) {
	case nil:
	case string:
		body.WriteString(b)
	default:
		must(t, json.NewEncoder(&body).Encode(b))
	}
	r := httptest.NewRequestWithContext(t.Context(), q.Method, q.Path, &body)
	if q.Body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.Key != "" {
		r.Header.Set("Authorization", "Bearer "+q.Key)
	}
	for name, value := range q.Header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	a := Answer{Status: w.Code, Header: w.Header(), Raw: w.Body.String()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &a.Body); err != nil {
			t.Fatalf("%s %s answered what is no JSON object: %v", q.Method, q.Path, err)
		}
	}
	return a
}

// answers remembers answers to creates, in memory.
type answers struct {
	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	digest   [32]byte
	response []byte
}

func name(c tenantdb.Caller, at web.Attempt) string {
	return fmt.Sprint(c.Tenant(), c.Actor(), at.Key)
}

// Begin claims a key.
func (s *answers) Begin(_ context.Context, c tenantdb.Caller, at web.Attempt) (web.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]kept{}
	}
	k, there := s.kept[name(c, at)]
	switch {
	case !there:
		s.kept[name(c, at)] = kept{digest: at.Digest}
		return web.Claim{State: web.Claimed}, nil
	case k.digest != at.Digest:
		return web.Claim{State: web.Other}, nil
	case k.response == nil:
		return web.Claim{State: web.Running}, nil
	}
	return web.Claim{State: web.Answered, Response: k.response}, nil
}

// Finish keeps an answer.
func (s *answers) Finish(_ context.Context, c tenantdb.Caller, at web.Attempt, response []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[name(c, at)] = kept{at.Digest, response}
	return nil
}

// Release gives a key back.
func (s *answers) Release(_ context.Context, c tenantdb.Caller, at web.Attempt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, name(c, at))
	return nil
}
