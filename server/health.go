package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keysPatience is how long whoever asks waits for what wraps the keys.
const keysPatience = 3 * time.Second

// health is what was found at the last examination.
type health struct {
	stopping atomic.Bool
	mu       sync.Mutex
	found    tenantdb.Health
	err      error
}

func (s *Server) examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := s.DB.Examine(ctx)
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	s.health.found, s.health.err = found, err
	return err
}

// watchHealth says in the log what whoever asks is told too.
func (s *Server) watchHealth(ctx context.Context) error {
	return errors.Join(s.examine(ctx), s.opensKeys(ctx))
}

// opensKeys says whether this server opens the key store now. One that was forgotten at a rotation of the platform key does not, nor does
// any while the KMS is away.
func (s *Server) opensKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	return s.Ring.Ready(ctx)
}

// ready says why the server cannot answer now, or nil.
func (s *Server) ready(ctx context.Context) error {
	if s.health.stopping.Load() {
		return problem.New(problem.Unavailable, "The server is stopping.")
	}
	if err := s.examine(ctx); err != nil {
		return problem.New(problem.Unavailable, "The database does not answer.").Because(err)
	}
	if err := s.opensKeys(ctx); errors.Is(err, keyring.ErrNotGiven) {
		return problem.New(problem.Unavailable, "This server was not given what wraps the keys now. Start it again with it.").Because(err)
	} else if err != nil {
		return problem.New(problem.Unavailable, "The keys cannot be opened now.").Because(err)
	}
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	switch skew := s.health.found.Skew.Abs(); {
	case skew > tenantdb.MostSkew:
		return problem.New(problem.Unavailable, "This server's clock and the database's are %s apart.", skew.Round(time.Millisecond))
	case s.health.found.MonthsAhead < 1:
		return problem.New(problem.Unavailable, "The log has no partition for next month.")
	}
	return nil
}

func (s *Server) probes() {
	s.api.Mount(web.Op{ID: "healthz", Method: http.MethodGet, Path: "/healthz", PlainHTTP: true}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	}))
	web.HandleRaw[web.None, web.None](s.api, web.Op{
		ID: "readyz", Method: http.MethodGet, Path: "/readyz", Access: web.Public, PlainHTTP: true, Hidden: true,
	}, func(w http.ResponseWriter, r *http.Request, _ tenantdb.Caller, _ web.RequestMeta) error {
		if err := s.ready(r.Context()); err != nil {
			return err
		}
		fmt.Fprintln(w, "ready")
		return nil
	})
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})
	web.HandleRaw[web.None, web.None](s.api, web.Op{
		ID: "metrics", Method: http.MethodGet, Path: "/metrics", Access: web.Public, PlainHTTP: true, Hidden: true,
	}, func(w http.ResponseWriter, r *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		if !isLoopback(meta.Address) || s.cfg.MetricsListen != "" {
			return problem.New(problem.Missing, "There is nothing here.")
		}
		metrics.ServeHTTP(w, r)
		return nil
	})
}

// batchMetrics shows how the log's lane does.
type batchMetrics struct {
	entries prometheus.Counter
	commits prometheus.Histogram
}

func newBatchMetrics(r prometheus.Registerer) *batchMetrics {
	m := &batchMetrics{
		entries: prometheus.NewCounter(prometheus.CounterOpts{Name: "avouch_log_entries_total", Help: "Entries appended by the batch."}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "avouch_log_commit_seconds", Help: "Time of one batch's commit.", Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14),
		}),
	}
	r.MustRegister(m.entries, m.commits)
	return m
}

func (m *batchMetrics) observe(entries int, took time.Duration) {
	m.entries.Add(float64(entries))
	m.commits.Observe(took.Seconds())
}

func writeJSON(w http.ResponseWriter, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return // the client has gone
	}
}
