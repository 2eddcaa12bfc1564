package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// traces makes spans, sends them to a collector if there is one, and keeps the last ones for `avouch trace`.
type traces struct {
	provider *sdktrace.TracerProvider
	recent   *recentSpans
}

func newTraces(ctx context.Context, cfg *Config) (*traces, error) {
	t := &traces{recent: &recentSpans{}}
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "avouch"), attribute.String("service.version", cfg.Version))),
		sdktrace.WithSampler(sdktrace.ParentBased(&steadySampler{rate.NewLimiter(rate.Limit(cfg.TraceSeconds), max(1, int(cfg.TraceSeconds)))})),
		sdktrace.WithSpanProcessor(t.recent),
	}
	if cfg.OTLPEndpoint != "" {
		exporter, err := newExporter(ctx, cfg)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	t.provider = sdktrace.NewTracerProvider(options...)
	return t, nil
}

func newExporter(ctx context.Context, cfg *Config) (*otlptrace.Exporter, error) {
	u, err := url.Parse(cfg.OTLPEndpoint)
	if err == nil && !strings.HasSuffix(u.Path, "/v1/traces") { // the collector's usual path
		u = u.JoinPath("v1/traces")
	}
	var secure *tls.Config
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("AVOUCH_OTLP_ENDPOINT is not an http or https address")
	case u.Scheme == "https":
		if secure, err = collectorTLS(cfg); err != nil {
			return nil, err
		}
	case cfg.OTLPCAFile+cfg.OTLPCertFile+cfg.OTLPKeyFile != "":
		return nil, errors.New("AVOUCH_OTLP_ENDPOINT is plain http, for which AVOUCH_OTLP_CA_FILE, AVOUCH_OTLP_CERT_FILE and AVOUCH_OTLP_KEY_FILE mean nothing: name an https address")
	}
	exporter, err := otlptrace.New(ctx, newCollector(u.String(), secure))
	if err != nil {
		return nil, fmt.Errorf("AVOUCH_OTLP_ENDPOINT: %w", err)
	}
	return exporter, nil
}

func collectorTLS(cfg *Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.OTLPCAFile != "" {
		pem, err := os.ReadFile(cfg.OTLPCAFile)
		if err != nil {
			return nil, fmt.Errorf("AVOUCH_OTLP_CA_FILE: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("AVOUCH_OTLP_CA_FILE holds no certificate")
		}
	}
	if cfg.OTLPCertFile != "" || cfg.OTLPKeyFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.OTLPCertFile, cfg.OTLPKeyFile)
		if err != nil {
			return nil, fmt.Errorf("AVOUCH_OTLP_CERT_FILE and AVOUCH_OTLP_KEY_FILE: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

func (t *traces) close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	t.provider.Shutdown(ctx) // what the collector did not take is lost: traces are no evidence
}

// steadySampler takes so many traces a second: all of them at rest, and few enough under load.
type steadySampler struct{ limit *rate.Limiter }

// ShouldSample implements the SDK's interface.
func (s *steadySampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	decision := sdktrace.Drop
	if s.limit.Allow() {
		decision = sdktrace.RecordAndSample
	}
	return sdktrace.SamplingResult{Decision: decision, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
}

// Description implements the SDK's interface.
func (s *steadySampler) Description() string { return "steady" }

const (
	keptTraces = 2048
	mostSpans  = 64 // of one trace
	requestKey = "avouch.request_id"
)

// recentSpans keeps the spans of the last traces, by the request id on their first span. Who sent a request is kept beside
// them and is in no span: a collector learns of no tenant.
type recentSpans struct {
	mu      sync.Mutex
	order   []trace.TraceID
	traces  map[trace.TraceID]*remembered
	byID    map[string]trace.TraceID
	senders map[trace.TraceID]tenantdb.TenantID // of requests that are under way
}

// remembered is one trace.
type remembered struct {
	request string // its id; empty until it has ended
	sender  tenantdb.TenantID
	spans   []trail.Span
}

// sent says whose the request is that ctx belongs to: the platform's if nobody was let in.
func (r *recentSpans) sent(ctx context.Context, sender tenantdb.TenantID) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() { // nothing is kept of it, or it has ended
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.senders == nil {
		r.senders = map[trace.TraceID]tenantdb.TenantID{}
	}
	r.senders[span.SpanContext().TraceID()] = sender
}

// OnStart implements the SDK's interface.
func (r *recentSpans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd keeps a span that was sampled.
func (r *recentSpans) OnEnd(s sdktrace.ReadOnlySpan) {
	id := s.SpanContext().TraceID()
	span := trail.Span{
		Name: s.Name(), ID: s.SpanContext().SpanID().String(), Start: s.StartTime().UTC(), Duration: s.EndTime().Sub(s.StartTime()).Microseconds(),
		Failed: s.Status().Code != 0,
	}
	if s.Parent().IsValid() {
		span.Parent = s.Parent().SpanID().String()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.trace(id)
	if len(t.spans) < mostSpans || !s.Parent().IsValid() { // the first span ends last, and the rest are nothing without it
		t.spans = append(t.spans, span)
	}
	if s.Parent().IsValid() {
		return
	}
	t.sender = r.senders[id]
	delete(r.senders, id)
	for _, a := range s.Attributes() {
		if a.Key == requestKey {
			t.request = a.Value.AsString()
			r.byID[t.request] = id
		}
	}
}

// trace is what is remembered of one, in the place of the oldest if it is new and there are enough.
func (r *recentSpans) trace(id trace.TraceID) *remembered {
	if r.traces == nil {
		r.traces, r.byID = map[trace.TraceID]*remembered{}, map[string]trace.TraceID{}
	}
	if t := r.traces[id]; t != nil {
		return t
	}
	if len(r.order) == keptTraces {
		old := r.order[0]
		r.order = r.order[1:]
		delete(r.byID, r.traces[old].request)
		delete(r.traces, old)
	}
	r.order, r.traces[id] = append(r.order, id), &remembered{}
	return r.traces[id]
}

// Shutdown implements the SDK's interface.
func (r *recentSpans) Shutdown(context.Context) error { return nil }

// ForceFlush implements the SDK's interface.
func (r *recentSpans) ForceFlush(context.Context) error { return nil }

// of is the spans of a request, if this server answered it and traced it, and not long ago, and whose it was; zero if nobody
// was asked who it is, or the operation asked for itself and let the sender in: then it has left an entry.
func (r *recentSpans) of(request audit.RequestID) ([]trail.Span, tenantdb.TenantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.traces[r.byID[request.String()]]
	if t == nil {
		return nil, tenantdb.TenantID{}
	}
	return slices.Clone(t.spans), t.sender
}
