package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (s *Server) now() time.Time { return s.cfg.clock.now() }

// clock is where the time comes from for what is done by the clock; the zero clock is the real one.
type clock struct {
	at   func() time.Time
	tick func(time.Duration) (ticks <-chan time.Time, stop func())
}

func (c clock) now() time.Time {
	if c.at == nil {
		return time.Now()
	}
	return c.at()
}

func (c clock) ticks(interval time.Duration) (ticks <-chan time.Time, stop func()) {
	if c.tick == nil {
		t := time.NewTicker(interval)
		return t.C, t.Stop
	}
	return c.tick(interval)
}

// background starts what runs beside the requests. Each part is safe to run on every server of an installation.
func (s *Server) background() {
	ctx, stop := context.WithCancel(context.Background())
	s.stopped = stop
	s.every(ctx, "signing keys", 30*time.Second, s.watchKeys())
	s.every(ctx, "signing key rotation", 10*time.Minute, s.rotateKeys)
	s.every(ctx, "refusals", time.Minute, func(ctx context.Context) error { s.denials.flush(ctx); return nil })
	s.every(ctx, "uses of keys", time.Minute, s.Keys.Flush)
	s.every(ctx, "digests of keys", 5*time.Second, s.Keys.Renew)
	s.every(ctx, "keys that expire", time.Hour, s.notifyOfKeys)
	s.every(ctx, "break-glass", time.Minute, s.settleGlass)
	s.every(ctx, "reviews of break-glass", time.Hour, s.remindOfGlass)
	s.every(ctx, "changes that waited", time.Minute, s.applyDue)
	s.every(ctx, "deleted organisations", time.Hour, s.shred)
	s.every(ctx, "rotation of organisations' keys", time.Minute, s.Rotation.Tick)
	s.every(ctx, "proofs of domains", 24*time.Hour, s.recheckDomains)
	s.every(ctx, "keys that nobody used lately", 30*time.Second, func(context.Context) error { s.Ring.Sweep(); return nil })
	s.every(ctx, "what was left in the key store", time.Hour, func(context.Context) error { return s.Ring.SweepStore() })
	s.every(ctx, "vaults", 10*time.Minute, s.checkVaults)
	s.every(ctx, "organisations' own key managements", s.tendEvery(), s.tendOwn)
	s.every(ctx, "keys on their way", 10*time.Minute, s.settleKMS)
	s.every(ctx, "health", time.Minute, s.watchHealth)
	s.every(ctx, "partitions", 6*time.Hour, s.DB.EnsurePartitions)
	s.every(ctx, "expired tokens and answers", 6*time.Hour, s.purge)
	s.work.Go(func() { s.Trail.Watch(ctx) })
	s.startJobs(ctx)
}

// every runs fn at once in the background and then at the interval. A failure is logged and tried again at the next.
func (s *Server) every(ctx context.Context, what string, interval time.Duration, fn func(context.Context) error) {
	s.first.Add(1)
	s.work.Go(func() {
		ticks, stop := s.cfg.clock.ticks(interval)
		defer stop()
		for first := true; ; first = false {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "background work failed", "what", what, "error", err)
			}
			if first {
				s.first.Done()
			}
			select {
			case <-ticks:
			case <-ctx.Done():
				return
			}
		}
	})
}

// Settled waits until all that runs beside the requests has run once.
func (s *Server) Settled() { s.first.Wait() }

// purge forgets what no organisation needs any more.
func (s *Server) purge(ctx context.Context) error {
	return s.forEach(ctx, "purge", func(c tenantdb.Caller) error {
		_, err := s.Agents.Purge(ctx, c)
		return errors.Join(err, forgetAnswers(ctx, s.DB, c), s.SignIn.Purge(ctx, c), forgetSpent(ctx, s.DB, c))
	})
}

// applyDue makes the changes of rules that waited for their time, and lapses what nobody has confirmed.
func (s *Server) applyDue(ctx context.Context) error {
	return s.forEach(ctx, "rules", func(c tenantdb.Caller) error {
		_, err := s.Org.ApplyDue(ctx, c)
		_, lapse := s.Org.LapseDeletion(ctx, c)
		return errors.Join(err, lapse)
	})
}

// shredding needs no key, so it is done for organisations that are closed by their own key management too.
const shredding = "deletion"

// shred destroys the keys of organisations that were deleted long enough ago.
func (s *Server) shred(ctx context.Context) error {
	return s.forEach(ctx, shredding, func(c tenantdb.Caller) error {
		_, err := s.Org.Shred(ctx, c.Keyless())
		return err
	})
}

// recheckDomains looks whether domains are still proved.
func (s *Server) recheckDomains(ctx context.Context) error {
	return s.forEach(ctx, "domains", func(c tenantdb.Caller) error { return s.SSO.Recheck(ctx, c) })
}

// notifyOfKeys tells each organisation of keys that expire soon.
func (s *Server) notifyOfKeys(ctx context.Context) error {
	return s.forEach(ctx, "keys", func(c tenantdb.Caller) error {
		_, err := s.Keys.Notify(ctx, c)
		return err
	})
}

// forEach does something for every organisation. What fails for one is said, and costs no other.
func (s *Server) forEach(ctx context.Context, part string, fn func(tenantdb.Caller) error) error {
	err := s.DB.Each(ctx, part, func(c tenantdb.Caller) error {
		if part != shredding && problem.Is(s.Ring.Usable(ctx, c.Tenant()), problem.TenantKey) {
			return ctx.Err() // closed by itself; that has been said, and it is done when it is open again
		}
		if err := fn(c); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "background work failed for one organisation", "what", part, "tenant", c.Tenant(), "error", err)
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("server.forEach: %w", err)
	}
	return nil
}

func (s *Server) startJobs(ctx context.Context) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &mail.Worker{Route: s.route, Resolve: s.resolve})
	river.AddWorker(workers, &sms.Worker{Route: s.routeText, Resolve: s.Factors.Text})
	river.AddWorker(workers, &policy.HookWorker{Glass: s.Glass})
	stop, err := s.DB.StartJobs(ctx, s.log, workers, nil)
	if err != nil {
		s.log.ErrorContext(ctx, "jobs are not worked on", "error", err)
		return
	}
	s.stopJobs = stop
}

// openBeside takes the addresses of the listeners beside the main one, so that a server that cannot have them does not start.
func (s *Server) openBeside(ctx context.Context) error {
	profiler := http.NewServeMux()
	profiler.HandleFunc("/debug/pprof/", pprof.Index)
	profiler.HandleFunc("/debug/pprof/profile", pprof.Profile)
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	for _, b := range []struct {
		variable, address string
		handler           http.Handler
	}{{"AVOUCH_PPROF_LISTEN", s.cfg.PprofListen, profiler}, {"AVOUCH_METRICS_LISTEN", s.cfg.MetricsListen, metrics}} {
		if b.address == "" {
			continue
		}
		l, err := net.Listen("tcp", b.address)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, b.variable, err)
		}
		srv := &http.Server{Addr: l.Addr().String(), Handler: b.handler, ReadHeaderTimeout: 5 * time.Second}
		s.beside = append(s.beside, srv)
		s.work.Go(func() {
			if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.log.ErrorContext(ctx, "listener failed", "what", b.variable, "error", err)
			}
		})
	}
	return nil
}
