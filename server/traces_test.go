package server

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// receiver is an OTLP collector on loopback.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	raw   strings.Builder
	spans []*spans.Span
	err   error
}

func newReceiver(t testing.TB, clients *authority, certFile, keyFile string) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(r)
	if clients != nil {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		must(t, err)
		r.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.pool}
		r.StartTLS()
	} else {
		r.Start()
	}
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP takes a batch of spans.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	b, err := io.ReadAll(q.Body)
	var batch collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &batch)
	}
	if err == nil && q.URL.Path != "/v1/traces" {
		err = errors.New("spans came to " + q.URL.Path)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = err
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.raw.Write(b)
	for _, resource := range batch.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (r *receiver) all(t testing.TB) ([]*spans.Span, string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	must(t, r.err)
	return r.spans, r.raw.String()
}

func textOf(s *spans.Span, name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// parents are the names of the spans over one, up to the first.
func parents(all []*spans.Span, s *spans.Span) (names []string) {
	for len(s.ParentSpanId) > 0 {
		i := slices.IndexFunc(all, func(p *spans.Span) bool {
			return bytes.Equal(p.SpanId, s.ParentSpanId) && bytes.Equal(p.TraceId, s.TraceId)
		})
		if i < 0 {
			return append(names, "nobody")
		}
		s = all[i]
		names = append(names, s.Name)
	}
	return names
}

// One id leads from the answer to the gateway's span, and from there to every statement; and spans hold no word of a request.
func TestSpans(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.issue(t, 1, cert, key)
	r := newReceiver(t, ca, cert, key)
	n := s.start(t, func(c *Config) {
		c.OTLPEndpoint, c.OTLPCAFile, c.OTLPCertFile, c.OTLPKeyFile = r.URL, ca.file, cert, key
	})
	acme := n.organisation(t, "Acme")
	a := n.call(t, create(acme, "a private name", "idempotency-key-1")).want(t, http.StatusCreated)
	n.get(t, "/api/v1/audit/entries?actor=a-private-actor", acme.key).want(t, http.StatusOK)
	n.get(t, "/api/v1/keys/nobodyskey0", acme.key).want(t, http.StatusNotFound)
	n.get(t, "/api/v1/keys?k="+acme.key, "").want(t, http.StatusBadRequest)
	shown := n.get(t, "/api/v1/requests/"+a.Header.Get("X-Request-Id"), acme.key).want(t, http.StatusOK)
	n.stop()
	all, raw := r.all(t)
	statements := map[string]bool{}
	root := slices.IndexFunc(all, func(p *spans.Span) bool { return textOf(p, requestKey) == a.Header.Get("X-Request-Id") })
	if root < 0 || all[root].Name != "create-key" || len(all[root].ParentSpanId) > 0 || all[root].Kind != spans.Span_SPAN_KIND_SERVER {
		t.Fatalf("no span of the request among %d", len(all))
	}
	for _, p := range all {
		up := parents(all, p)
		if !bytes.Equal(p.TraceId, all[root].TraceId) || p == all[root] {
			continue
		}
		if len(up) == 0 || up[len(up)-1] != "create-key" {
			t.Errorf("%s stands under %v", p.Name, up)
		}
		statements[textOf(p, "db.query.text")] = true
	}
	for _, want := range []string{"INSERT INTO avouch.api_key\n", "avouch.lookup_key($1)", "INSERT INTO avouch.idempotency", "COMMIT"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(statements)), func(q string) bool { return strings.Contains(q, want) }) {
			t.Errorf("no span of %s", want)
		}
	}
	for what, secret := range map[string]string{
		"key": acme.key, "new key": a.text("key"), "part of the key": acme.key[len(acme.key)-20:], "name": "a private name", "query": "a-private-actor", "path": "nobodyskey0",
		"idempotency key": "idempotency-key-1", "tenant": acme.id.String(), "organisation": "Acme", "contact": "owner@acme", "address": "127.0.0.1",
	} {
		if strings.Contains(raw, secret) {
			t.Errorf("the spans hold the %s", what)
		}
	}
	if found := shown.Body["spans"].([]any); len(found) < 10 || !strings.Contains(shown.Raw, `"create-key"`) {
		t.Errorf("the server remembers %d spans of the request", len(found))
	}
}

// What a request spent its time on is its sender's to see, though it left no entry; another's key is told what it is told of
// an id that never was. The trace of who was not let in is the platform's.
func TestTraceIsItsSenders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme, thief := n.organisation(t, "Acme"), n.organisation(t, "Thief")
	service, _ := n.newKey(t, acme, nil)
	void, voidID := n.newKey(t, acme, nil)
	n.call(t, ask{Method: "POST", Path: "/api/v1/keys/" + voidID + "/revoke", Key: acme.key}).want(t, http.StatusOK)
	never := n.get(t, "/api/v1/requests/"+audit.NewRequestID().String(), thief.key).want(t, http.StatusNotFound)
	for what, words := range map[string]string{"the memory": "lately", "which server": "the server that answered", "what is traced": "traced", "the collector": "collector"} {
		if !strings.Contains(never.text("detail"), words) {
			t.Errorf("what is missing does not speak of %s: %s", what, never.text("detail"))
		}
	}
	malformed := ask{Method: "POST", Path: "/api/v1/verify", Key: service, Body: "{"}
	for range singleRequests {
		n.call(t, malformed).want(t, http.StatusBadRequest)
	}
	agent := n.call(t, ask{Method: "POST", Path: "/api/v1/agents/register", Key: acme.key, Body: map[string]any{"name": "an agent"}}).want(t, http.StatusCreated)
	for name, c := range map[string]struct {
		ask
		mine   int    // the status for the organisation
		span   string // the operation's, if it is shown
		nobody bool
	}{
		"a read":                 {ask{Method: "GET", Path: "/api/v1/agents", Key: acme.key}, 200, "list-agents", false},
		"an agent's own":         {ask{Method: "GET", Path: "/api/v1/agents/" + agent.text("agent_id"), Header: map[string]string{"X-Agent-Token": agent.text("token")}}, 200, "get-agent", false},
		"refused, and counted":   {malformed, 200, "verify", false},
		"answered, by verify":    {ask{Method: "POST", Path: "/api/v1/verify", Key: service, Body: map[string]any{"token": "x.y.z", "target_resource": "here"}}, 200, "verify", false},
		"without a key":          {ask{Method: "GET", Path: "/api/v1/agents"}, 404, "", true},
		"with nonsense":          {ask{Method: "GET", Path: "/api/v1/agents", Key: "avk_live_nonsense"}, 404, "", true},
		"with a revoked key":     {ask{Method: "GET", Path: "/api/v1/agents", Key: void}, 200, "", true}, // the log has its refusal
		"for everybody, refused": {ask{Method: "POST", Path: "/api/v1/organisations", Body: "{"}, 404, "", true},
		"for everybody":          {ask{Method: "GET", Path: "/.well-known/avouch.json", Key: acme.key}, 404, "", false}, // nobody was asked who it is
	} {
		of := "/api/v1/requests/" + n.call(t, c.ask).Header.Get("X-Request-Id")
		a := n.get(t, of, acme.key)
		if shown := a.Status == 200 && strings.Contains(a.Raw, `"name":"`+cmp.Or(c.span, "no such")+`"`); a.Status != c.mine || shown != (c.span != "") || c.span == "" && len(spansOf(a)) > 0 {
			t.Errorf("%s: its own organisation is answered %d: %s", name, a.Status, a.Raw)
		}
		if a := n.get(t, of, thief.key); a.Status != 404 || a.text("detail") != never.text("detail") || a.text("title") != never.text("title") {
			t.Errorf("%s: another organisation is answered %d: %s", name, a.Status, a.Raw)
		}
		request, err := n.Trail.Request(t.Context(), tenantdb.System(tenantdb.Platform, "test"), requestOf(t, of))
		if problem.Is(err, problem.Missing) == c.nobody || c.nobody && len(request.Spans) == 0 {
			t.Errorf("%s: the platform is shown %+v %v", name, request, err)
		}
	}
}

func spansOf(a answer) []any {
	found, _ := a.Body["spans"].([]any)
	return found
}

func requestOf(t testing.TB, path string) (id audit.RequestID) {
	t.Helper()
	must(t, id.UnmarshalText([]byte(path[strings.LastIndex(path, "/")+1:])))
	return id
}

// A trace is seen on the server that made it, if it made one, and the look is in the log.
func TestTraceWithoutEntries(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	other := s.start(t, func(c *Config) { c.TraceSeconds = 0 })
	acme := n.organisation(t, "Acme")
	trace := func(on *live, a answer) answer {
		return on.get(t, "/api/v1/requests/"+a.Header.Get("X-Request-Id"), acme.key)
	}
	asked := n.get(t, "/api/v1/agents", acme.key).want(t, http.StatusOK)
	trace(other, asked).want(t, http.StatusNotFound)
	a := trace(n, asked).want(t, http.StatusOK)
	if len(spansOf(a)) < 2 || !strings.Contains(a.Raw, `"entries":[]`) {
		t.Errorf("%s", a.Raw)
	}
	looks := n.entries(t, acme.id, "log.read")
	if len(looks) != 1 || looks[0].field("request") != asked.Header.Get("X-Request-Id") || looks[0].field("count") != "0" || looks[0].Request.String() != a.Header.Get("X-Request-Id") {
		t.Errorf("of the look the log has %+v", looks)
	}
	for range 2 { // even such a sampler takes the first
		asked = other.get(t, "/api/v1/agents", acme.key).want(t, http.StatusOK)
	}
	trace(other, asked).want(t, http.StatusNotFound)
}

// A collector is reached by its address alone, and one that is away costs requests nothing.
func TestCollectorAddress(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "/", "/v1/traces"} {
		r := newReceiver(t, nil, "", "")
		n := newSite(t).start(t, func(c *Config) { c.OTLPEndpoint = r.URL + path })
		n.get(t, "/.well-known/avouch.json", "").want(t, http.StatusOK)
		n.stop()
		if all, _ := r.all(t); !slices.ContainsFunc(all, func(p *spans.Span) bool { return p.Name == "avouch-json" }) {
			t.Errorf("with %q: no span of the request among %d", path, len(all))
		}
	}
	n := newSite(t).start(t, func(c *Config) { c.OTLPEndpoint = "http://127.0.0.1:1" })
	n.get(t, "/.well-known/avouch.json", "").want(t, http.StatusOK)
}

// A collector that asks for a certificate is not reached without one.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.issue(t, 1, cert, key)
	for name, c := range map[string]struct {
		change func(*Config)
		ok     bool
	}{
		"with it":           {func(c *Config) { c.OTLPCAFile, c.OTLPCertFile, c.OTLPKeyFile = ca.file, cert, key }, true},
		"without":           {func(c *Config) { c.OTLPCAFile = ca.file }, false},
		"another authority": {func(c *Config) { c.OTLPCertFile, c.OTLPKeyFile = cert, key }, false},
	} {
		r := newReceiver(t, ca, cert, key)
		n := newSite(t).start(t, func(cfg *Config) { cfg.OTLPEndpoint = r.URL; c.change(cfg) })
		n.get(t, "/.well-known/avouch.json", "").want(t, http.StatusOK)
		n.stop()
		if all, _ := r.all(t); (len(all) > 0) != c.ok {
			t.Errorf("%s: %d spans came", name, len(all))
		}
	}
}

// The memory of spans is bounded, in traces and in spans of one, and never loses a trace's first span.
func TestRecentSpansAreBounded(t *testing.T) {
	t.Parallel()
	recent, sender := &recentSpans{}, tenantdb.NewTenantID()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recent)).Tracer("test")
	trace := func(children int) audit.RequestID {
		id := audit.NewRequestID()
		ctx, root := tracer.Start(t.Context(), "root", oteltrace.WithAttributes(attribute.String(requestKey, id.String())))
		recent.sent(ctx, sender)
		for range children {
			_, child := tracer.Start(ctx, "child")
			child.End()
		}
		root.End()
		return id
	}
	first := trace(1)
	if got, by := recent.of(first); len(got) != 2 || got[1].Name != "root" || got[0].Parent != got[1].ID || by != sender {
		t.Errorf("remembered are %+v of %s", got, by)
	}
	if got, _ := recent.of(trace(5 * mostSpans)); len(got) != mostSpans+1 || got[mostSpans].Name != "root" {
		t.Errorf("%d spans are remembered", len(got))
	}
	for range keptTraces {
		trace(0)
	}
	recent.sent(t.Context(), sender) // as of a request that is not traced
	if len(recent.traces) > keptTraces || len(recent.order) > keptTraces || len(recent.byID) > keptTraces || len(recent.senders) > 0 {
		t.Errorf("%d traces, %d in order, %d ids, %d senders", len(recent.traces), len(recent.order), len(recent.byID), len(recent.senders))
	}
	if got, by := recent.of(first); len(got) != 0 || !by.IsZero() {
		t.Errorf("the oldest is still there: %+v of %s", got, by)
	}
	ctx, long := tracer.Start(t.Context(), "long")
	recent.sent(ctx, sender)
	_, child := tracer.Start(ctx, "child")
	child.End()
	for range keptTraces {
		trace(0)
	}
	id := audit.NewRequestID()
	long.SetAttributes(attribute.String(requestKey, id.String()))
	long.End()
	if got, by := recent.of(id); len(got) != 1 || by != sender {
		t.Errorf("of what ended after many others began: %+v of %s", got, by)
	}
}
