package server

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Operate opens the rooms without answering requests or working in the background: for an operator's command, which runs
// with the environment of the servers. Close it in the end.
func Operate(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	cfg.MetricsListen, cfg.PprofListen = "", "" // a server on this machine has them
	set, err := cfg.settings(cfg.Listen)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, set: set, log: log, metrics: prometheus.NewRegistry(), operating: true}
	if s.traces, err = newTraces(ctx, &cfg); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
