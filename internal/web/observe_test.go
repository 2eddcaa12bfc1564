package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// counts reads every non-zero series of a registry: "operation method class" -> count, by metric.
func counts(t *testing.T, reg *prometheus.Registry) (requests, durations map[string]float64, series int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	requests, durations = map[string]float64{}, map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			series++
			var labels []string
			for _, name := range []string{"operation", "method", "class"} {
				for _, l := range m.Label {
					if l.GetName() == name {
						labels = append(labels, l.GetValue())
					}
				}
			}
			key := strings.Join(labels, " ")
			if c := m.Counter; c != nil && c.GetValue() > 0 {
				requests[key] = c.GetValue()
			}
			if h := m.Histogram; h != nil && h.GetSampleCount() > 0 {
				durations[key] = float64(h.GetSampleCount())
			}
		}
	}
	return requests, durations, series
}

// TestMetrics: each request is counted once, under its operation, and what a caller invents makes no series.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b := newBench(t, func(c *Config[caller]) { c.Metrics = reg })
	ask := func(method, target string, header ...string) { b.ask(method, target, "", header...) }
	ask("GET", "/api/v1/things")
	ask("GET", "/api/v1/things?limit=3")
	ask("GET", "/api/v1/secret")
	ask("POST", "/api/v1/boom")
	ask("GET", "/nothing/here")
	_, _, before := counts(t, reg)
	for _, path := range []string{"/a", "/b", "/c"} {
		ask("GET", path)
		ask("BREW"+strings.ToUpper(path[1:]), path)
	}
	requests, durations, after := counts(t, reg)
	want := map[string]float64{"list-things GET 2xx": 2, "secret-thing GET 4xx": 1, "boom POST 5xx": 1, "unmatched GET 4xx": 4, "unmatched other 4xx": 3}
	for key, n := range want {
		if requests[key] != n || durations[key] != n {
			t.Errorf("%s: %v requests, %v durations, want %v", key, requests[key], durations[key], n)
		}
	}
	if len(requests) != len(want) || after-before > 12 { // 12: the one method "other", six classes, twice
		t.Errorf("%v; %d series became %d", requests, before, after)
	}
}

// TestMetricsOfTheGone: a client that goes away is neither a success nor our fault.
func TestMetricsOfTheGone(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b := newBench(t, func(c *Config[caller]) { c.Metrics = reg })
	Handle(b.API, Op{ID: "wait", Method: "GET", Path: "/wait", Summary: "Wait", Access: Public},
		func(ctx context.Context, _ caller, _ *None) (*None, error) { <-ctx.Done(); return nil, ctx.Err() })
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("recovered %v, want http.ErrAbortHandler, which makes net/http hang up", v)
			}
		}()
		b.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/wait", nil))
	}()
	if requests, _, _ := counts(t, reg); requests["wait GET gone"] != 1 || len(requests) != 1 {
		t.Errorf("%v", requests)
	}
	if log := b.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}

// TestSpans: a span by operation, with the request's id and status and nothing else of the request; the handler runs
// inside it.
func TestSpans(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	b := newBench(t, func(c *Config[caller]) { c.Tracer = sdk.NewTracerProvider(sdk.WithSyncer(spans)) })
	var inside trace.SpanContext
	Handle(b.API, Op{ID: "look", Method: "GET", Path: "/api/v1/look", Summary: "Look", Access: Public},
		func(ctx context.Context, _ caller, _ *None) (*None, error) {
			inside = trace.SpanContextFromContext(ctx)
			return nil, nil
		})
	r := b.ask("GET", "/api/v1/look", "", "X-Planted: planted")
	b.ask("POST", "/api/v1/boom", "")
	b.ask("GET", "/planted", "")
	got := spans.GetSpans()
	if len(got) != 2 || got[0].Name != "look" || got[1].Name != "boom" {
		t.Fatalf("%d spans: %v", len(got), got)
	}
	attrs := map[string]string{}
	for _, a := range got[0].Attributes {
		attrs[string(a.Key)] = a.Value.String()
	}
	if len(attrs) != 3 || attrs["avouch.request_id"] != r.Header.Get("X-Request-Id") || attrs["http.request.method"] != "GET" || attrs["http.response.status_code"] != "204" {
		t.Errorf("attributes %v", attrs)
	}
	if inside.SpanID() != got[0].SpanContext.SpanID() {
		t.Error("the handler ran outside of the span")
	}
	if got[1].Status.Code != codes.Error || got[1].Status.Description != "" || len(got[1].Events) != 0 {
		t.Errorf("the failed one: %+v %v", got[1].Status, got[1].Events)
	}
}

func BenchmarkRaw(b *testing.B) {
	api := newBench(&testing.T{})
	HandleRaw[None, None](api.API, Op{ID: "raw", Method: "POST", Path: "/api/v1/raw", Summary: "s", Access: Public}, nothing)
	r := httptest.NewRequest("POST", "/api/v1/raw", nil)
	b.ReportAllocs()
	for b.Loop() {
		api.ServeHTTP(httptest.NewRecorder(), r)
	}
}
