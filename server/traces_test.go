package server

import (
	"bytes"
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
	recent := &recentSpans{}
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recent)).Tracer("test")
	trace := func(children int) audit.RequestID {
		id := audit.NewRequestID()
		ctx, root := tracer.Start(t.Context(), "root", oteltrace.WithAttributes(attribute.String(requestKey, id.String())))
		for range children {
			_, child := tracer.Start(ctx, "child")
			child.End()
		}
		root.End()
		return id
	}
	first := trace(1)
	if got := recent.of(first); len(got) != 2 || got[1].Name != "root" || got[0].Parent != got[1].ID {
		t.Errorf("remembered are %+v", got)
	}
	if got := recent.of(trace(5 * mostSpans)); len(got) != mostSpans+1 || got[mostSpans].Name != "root" {
		t.Errorf("%d spans are remembered", len(got))
	}
	for range keptTraces {
		trace(0)
	}
	if len(recent.traces) > keptTraces || len(recent.order) > keptTraces || len(recent.byID) > keptTraces {
		t.Errorf("%d traces, %d in order, %d ids", len(recent.traces), len(recent.order), len(recent.byID))
	}
	if got := recent.of(first); len(got) != 0 {
		t.Errorf("the oldest is still there: %+v", got)
	}
}
