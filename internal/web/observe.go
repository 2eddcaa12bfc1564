package web

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// metrics counts requests by operation, method and class of status. There is no label of tenant, path or address, so
// the number of series is bounded by the number of operations.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// series are one operation's by class of status, each made when it is first needed and then at hand: a request costs two
// atomic additions. Class 0 stands for a request whose client went away unanswered.
type series struct {
	of      *metrics
	labels  [2]string // operation and method
	classes [6]atomic.Pointer[class]
}

type class struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// unmatched is the operation label of requests that no route took.
const unmatched = "unmatched"

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"operation", "method", "class"}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "avouch_http_requests_total",
			Help: "Requests answered, by operation, method and class of status.",
		}, labels),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "avouch_http_request_duration_seconds",
			Help:    "Time from the first byte read to the last byte written, by operation, method and class of status.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 10, 30},
		}, labels),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds)
	}
	return m
}

func (m *metrics) of(operation, method string) *series {
	return &series{of: m, labels: [2]string{operation, method}}
}

// class makes the same metrics however many ask for them at once.
func (s *series) class(n int) *class {
	if c := s.classes[n].Load(); c != nil {
		return c
	}
	name := "gone"
	if n > 0 {
		name = strconv.Itoa(n) + "xx"
	}
	c := &class{s.of.requests.WithLabelValues(s.labels[0], s.labels[1], name), s.of.seconds.WithLabelValues(s.labels[0], s.labels[1], name)}
	s.classes[n].Store(c)
	return c
}

func (s *series) observe(status int, took time.Duration) {
	n := status / 100
	if n < 0 || n > 5 {
		n = 0
	}
	c := s.class(n)
	c.requests.Inc()
	c.seconds.Observe(took.Seconds())
}

// span runs next inside a span named by the operation. The span holds the request's id and status, and nothing of its
// path, query, headers or body.
func (a *API[C]) span(rt *route, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, span := a.tracer.Start(r.Context(), rt.op.ID, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		if !span.IsRecording() {
			next(w, r.WithContext(ctx))
			return
		}
		span.SetAttributes(attribute.String("avouch.request_id", MetaOf(ctx).ID.String()), attribute.String("http.request.method", rt.op.Method))
		next(w, r.WithContext(ctx))
		if rec, ok := w.(*recorder); ok {
			span.SetAttributes(attribute.Int("http.response.status_code", rec.status))
			if rec.status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}
	}
}

// recorder remembers the status that was sent. Handlers that stream reach the connection through
// http.NewResponseController.
type recorder struct {
	http.ResponseWriter
	status int // 0 until something was sent
}

// Unwrap is for http.ResponseController.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// WriteHeader sends the status, once.
func (rec *recorder) WriteHeader(status int) {
	if rec.status != 0 {
		return
	}
	if status >= 200 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(b)
}
