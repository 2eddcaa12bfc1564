package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (s *Server) now() time.Time { return time.Now() }

// background starts what runs beside the requests. Each part is safe to run on every server of an installation.
func (s *Server) background() {
	ctx, stop := context.WithCancel(context.Background())
	s.stopped = stop
	s.every(ctx, "signing keys", 30*time.Second, s.Signing.Refresh)
	s.every(ctx, "signing key rotation", 10*time.Minute, s.Signing.Rotate)
	s.every(ctx, "refusals", time.Minute, func(ctx context.Context) error { s.denials.flush(ctx); return nil })
	s.every(ctx, "health", time.Minute, s.examine)
	s.every(ctx, "partitions", 6*time.Hour, s.DB.EnsurePartitions)
	s.every(ctx, "expired tokens and answers", 6*time.Hour, s.purge)
	s.work.Go(func() { s.Trail.Watch(ctx) })
	s.startJobs(ctx)
	s.profiler(ctx)
}

// every runs fn at once in the background and then at the interval. A failure is logged and tried again at the next.
func (s *Server) every(ctx context.Context, what string, interval time.Duration, fn func(context.Context) error) {
	s.work.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "background work failed", "what", what, "error", err)
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (s *Server) purge(ctx context.Context) error {
	return s.DB.Each(ctx, "purge", func(c tenantdb.Caller) error {
		if _, err := s.Agents.Purge(ctx, c); err != nil {
			return fmt.Errorf("server.purge: %w", err)
		}
		return forgetAnswers(ctx, s.DB, c)
	})
}

func (s *Server) startJobs(ctx context.Context) {
	workers := river.NewWorkers()
	sender := s.sender
	if sender == nil {
		sender = noSender{}
	}
	river.AddWorker(workers, &mail.Worker{Sender: sender, Resolve: s.resolve})
	stop, err := s.DB.StartJobs(ctx, s.log, workers, nil)
	if err != nil {
		s.log.ErrorContext(ctx, "jobs are not worked on", "error", err)
		return
	}
	s.stopJobs = stop
}

// profiler serves Go's profiler, on loopback, if it was asked for.
func (s *Server) profiler(ctx context.Context) {
	if s.cfg.PprofListen == "" {
		return
	}
	if !s.cfg.loopback(s.cfg.PprofListen) {
		s.log.ErrorContext(ctx, "AVOUCH_PPROF_LISTEN is not a loopback address: no profiler")
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	srv := &http.Server{Addr: s.cfg.PprofListen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s.listenBeside(ctx, "profiler", srv)
}

func (s *Server) listenBeside(ctx context.Context, what string, srv *http.Server) {
	s.work.Go(func() {
		if err := srv.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.ErrorContext(ctx, "listener failed", "what", what, "error", err)
		}
	})
	s.work.Go(func() {
		<-ctx.Done()
		srv.Close()
	})
}
