package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answering starts a server and returns its address.
func answering(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func run(t *testing.T, l load) tally {
	t.Helper()
	got, err := drive(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDriveCountsWhatTheServerAnswered(t *testing.T) {
	t.Parallel()
	var served, allowed atomic.Int64
	handle := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		served.Add(1)
		if string(body) == "yes" {
			allowed.Add(1)
			_, _ = io.WriteString(w, `{"allowed":true}`)
			return
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, `{"allowed":false}`)
	}
	one, two := answering(t, handle), answering(t, handle)
	yes, no := request("POST", "h", "/", "k", "yes"), request("POST", "h", "/", "k", "no")
	var all [][]byte
	for range 300 {
		all = append(all, yes, no)
	}
	var began, ended int64
	got := run(t, load{
		targets: []netip.AddrPort{one, two}, conns: 7, warm: always(yes), feed: once(all), warmFor: 20 * time.Millisecond, runFor: time.Minute, want: 200,
		begin: func() { began = served.Load() }, end: func() { ended = served.Load() },
	})
	// All 600 were sent, the last ones are answered after the measurement's end, and those of the warm-up within it.
	if got.requests < 600-7 || got.requests > 600+7 || served.Load() < 600 {
		t.Errorf("%d requests counted, %d served", got.requests, served.Load())
	}
	if began == 0 || ended < began+600-14 {
		t.Errorf("served %d at the beginning, %d at the end", began, ended)
	}
	if got.statuses[200]+got.statuses[418] != got.requests || got.statuses[200] != got.allowed || got.allowed < 290 {
		t.Errorf("statuses %v, allowed %d", got.statuses, got.allowed)
	}
	if got.latency.n > 600 || got.latency.n < 600-7 || got.latency.quantile(0.5) <= 0 || got.elapsed > 30*time.Second {
		t.Errorf("%d latencies, p50 %v, in %v", got.latency.n, got.latency.quantile(0.5), got.elapsed)
	}
	if !strings.HasPrefix(got.odd, "418 ") {
		t.Errorf("the odd answer is %q", got.odd)
	}
}

func TestDriveMeasuresLatency(t *testing.T) {
	t.Parallel()
	slow := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		_, _ = w.Write(make([]byte, 20_000)) // larger than the first buffer, and chunked
	})
	got := run(t, load{targets: []netip.AddrPort{slow}, conns: 4, feed: always(request("GET", "h", "/", "", "")), runFor: 300 * time.Millisecond, want: 200})
	if p := got.latency.quantile(0); p < 20*time.Millisecond {
		t.Errorf("an answer after %v", p)
	}
	if got.bytes != 20_000 || got.requests == 0 || got.requests > 4*15 || got.elapsed < 300*time.Millisecond {
		t.Errorf("%d answers of %d bytes in %v", got.requests, got.bytes, got.elapsed)
	}
}

func TestDriveOpensAgain(t *testing.T) {
	t.Parallel()
	polite := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	get := always(request("GET", "h", "/", "", ""))
	if got := run(t, load{targets: []netip.AddrPort{polite}, conns: 2, feed: get, runFor: 100 * time.Millisecond, want: 200}); got.broken > 0 || got.requests < 3 {
		t.Errorf("%d requests, %d broken connections", got.requests, got.broken)
	}
	var n atomic.Int64
	rude := answering(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1)%10 == 0 && n.Load() < 100 {
			panic(http.ErrAbortHandler)
		}
	})
	if got := run(t, load{targets: []netip.AddrPort{rude}, conns: 2, feed: get, runFor: 200 * time.Millisecond, want: 200}); got.broken == 0 || got.requests < 3 {
		t.Errorf("%d requests, %d broken connections", got.requests, got.broken)
	}
	gone := answering(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := drive(t.Context(), load{targets: []netip.AddrPort{gone}, conns: 2, feed: get, runFor: time.Minute, want: 200}); !errors.Is(err, io.EOF) {
		t.Errorf("a server that answers nothing gives %v", err)
	}
}

func TestDriveStops(t *testing.T) {
	t.Parallel()
	at := answering(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := drive(ctx, load{targets: []netip.AddrPort{at}, conns: 1, feed: always(request("GET", "h", "/", "", "")), runFor: time.Hour})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFdatasync(t *testing.T) {
	t.Parallel()
	h, err := fdatasync(t.TempDir(), 50*time.Millisecond)
	if err != nil || h.n == 0 || h.quantile(0.5) == 0 {
		t.Error(h.n, err)
	}
}

func TestHello(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(helloHandler(123))
	defer s.Close()
	got := run(t, load{targets: []netip.AddrPort{netip.MustParseAddrPort(s.Listener.Addr().String())}, conns: 3, feed: always(helloRequest("h")), runFor: 50 * time.Millisecond, want: 200})
	if got.bytes != 123 || got.requests == 0 || got.broken > 0 || got.odd != "" {
		t.Errorf("%d answers of %d bytes, %d broken, odd %q", got.requests, got.bytes, got.broken, got.odd)
	}
}
