package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanSender sends spans to where a collector takes them: OTLP over HTTP, in protobuf. The SDK's own client for that brings gRPC along,
// which is a twentieth of the program and of no use here (docs/decisions/0026).
type spanSender struct {
	url    string
	client *http.Client
}

func newCollector(url string, c *tls.Config) *spanSender {
	return &spanSender{url, &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Start is for otlptrace.Client.
func (c *spanSender) Start(context.Context) error { return nil }

// Stop is for otlptrace.Client.
func (c *spanSender) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// The collector is asked again when it says that it cannot now, as the protocol has it (OTLP 1.5, "OTLP/HTTP Throttling").
const (
	collectorTries = 4
	longestPause   = 30 * time.Second
)

// UploadTraces is for otlptrace.Client. TracesData is on the wire what ExportTraceServiceRequest is: one field of the same number and
// type.
func (c *spanSender) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	pause := time.Second
	for try := 1; ; try++ {
		again, err := c.send(ctx, body)
		if err == nil || again < 0 || try == collectorTries {
			return err
		}
		select {
		case <-time.After(min(max(pause, again), longestPause)):
			pause *= 2
		case <-ctx.Done():
			return err
		}
	}
}

// send posts once. After an error that may pass, again is how long the collector wants to be left alone; below zero it will not pass.
func (c *spanSender) send(ctx context.Context, body []byte) (again time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return -1, fmt.Errorf("traces: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	a, err := c.client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("traces: %w", err)
	}
	defer a.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(a.Body, 64<<10)) // so that the connection can be used again
	switch a.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(a.Header.Get("Retry-After")) // none is 0
		return time.Duration(max(seconds, 0)) * time.Second, fmt.Errorf("traces: the collector answered with status %d", a.StatusCode)
	}
	if a.StatusCode/100 != 2 {
		return -1, fmt.Errorf("traces: the collector answered with status %d", a.StatusCode)
	}
	return 0, nil
}
