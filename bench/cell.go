package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// cell is one thing that is measured at one number of connections.
type cell struct {
	name    string
	conns   int
	servers int                                         // 0 is the baseline, 1 a `serve`, 2 that and the one in `dev`
	fresh   bool                                        // a server that has just started asks nothing of its memory of signatures
	before  func(*scene, context.Context, string) error // what the server at a URL must have seen
	warm    func(*scene) feed                           // nil: as feed
	feed    func(*scene) feed                           // what is measured
	want    int                                         // the status of every answer
	allowed bool                                        // whether every answer allows, else none
	beside  func(*scene) chore                          // what runs at the same time
	slow    bool                                        // so few answers that they are counted for longer
	roomy   bool                                        // takes memory by hashing, for which the server has a bound of its own: another one runs after it
}

// key names a cell among the results.
type key struct {
	name  string
	conns int
}

func (c cell) key() key { return key{c.name, c.conns} }

func (k key) String() string { return fmt.Sprintf("%s c=%d", k.name, k.conns) }

// Names of cells that targets speak of.
const (
	cellHello     = "hello"
	cellSame      = "verify/seen/same-tenant"
	cellDifferent = "verify/seen/two-tenants"
	cellNewSame   = "verify/new/same-tenant"
	cellNew       = "verify/new/two-tenants"
	cellDeny      = "verify/new/denied"
	cellCrowd     = "verify/many-tenants/same-tenant"
	cellCrowdTwo  = "verify/many-tenants/two-tenants"
	cellTwoSame   = "verify/two-servers/same-tenant"
	cellTwo       = "verify/two-servers/two-tenants"
	cellExport    = "verify/beside/export"
	cellEntries   = "verify/beside/entries"
	cellSignIns   = "verify/beside/sign-ins"
	cellSignIn    = "sign-in/password"
	cellIssue     = "issue/one-tenant"
	cellIssueWide = "issue/many-tenants"
	cellKey       = "keys/verify"
	cellKeyMeters = "keys/verify/metered"
	cellCode      = "vault/code"
	cellSQL       = "keys/sql" // has no connections but one, and no server
)

// cells lists what a round measures, in order.
func cells() []cell {
	same := func(s *scene) feed { return s.seen(s.owner) }
	different := func(s *scene) feed { return s.seen(s.service) }
	var all []cell
	add := func(c cell, conns ...int) {
		if c.want == 0 {
			c.want = http.StatusOK
		}
		for _, n := range conns {
			c.conns = n
			all = append(all, c)
		}
	}
	add(cell{name: cellHello, feed: func(s *scene) feed { return always(helloRequest(s.host)) }}, 1, 16, 64, 256, 512)
	add(cell{name: cellDifferent, servers: 1, feed: different, allowed: true}, 1, 16, 64, 256, 512)
	add(cell{name: cellSame, servers: 1, feed: same, allowed: true}, 1, 16, 64, 256, 512)
	add(cell{name: cellNew, servers: 1, fresh: true, warm: different, allowed: true,
		feed: func(s *scene) feed { return s.fresh(s.service, capability) }}, 16, 64, 256)
	add(cell{name: cellDeny, servers: 1, fresh: true, warm: func(s *scene) feed { return always(s.verify(s.service, s.agents[0].Token, withheld)) },
		feed: func(s *scene) feed { return s.fresh(s.service, withheld) }}, 64)
	add(cell{name: cellNewSame, servers: 1, fresh: true, warm: same, allowed: true,
		feed: func(s *scene) feed { return s.fresh(s.owner, capability) }}, 64)
	add(cell{name: cellCrowd, servers: 1, feed: func(s *scene) feed { return s.crowd(0) }, allowed: true}, 64, 512)
	add(cell{name: cellCrowdTwo, servers: 1, feed: func(s *scene) feed { return s.crowd(1) }, allowed: true}, 64, 512)
	add(cell{name: cellTwoSame, servers: 2, feed: same, allowed: true}, 64, 512)
	add(cell{name: cellTwo, servers: 2, feed: different, allowed: true}, 64, 512)
	add(cell{name: cellExport, servers: 1, feed: different, allowed: true, beside: exports}, 64)
	add(cell{name: cellEntries, servers: 1, feed: different, allowed: true, beside: walks}, 64)
	add(cell{name: cellSignIns, servers: 1, feed: different, allowed: true, beside: signIns, roomy: true}, 16)
	add(cell{name: cellSignIn, servers: 1, feed: func(s *scene) feed { return always(s.signIn()) }, slow: true, roomy: true}, 1)
	add(cell{name: cellIssue, servers: 1, feed: (*scene).issueHot, want: http.StatusCreated}, 64)
	add(cell{name: cellIssueWide, servers: 1, feed: (*scene).issueWide, want: http.StatusCreated}, 64)
	add(cell{name: cellKey, servers: 1, feed: func(s *scene) feed { return always(s.verifyKey(s.given)) }, allowed: true}, 1, 16, 64)
	add(cell{name: cellKeyMeters, servers: 1, feed: func(s *scene) feed { return always(s.verifyKey(s.metered)) }, allowed: true}, 64)
	add(cell{name: cellCode, servers: 1, before: (*scene).introduce, feed: (*scene).codes}, 1, 16, 64)
	return all
}

// helloBytes is the size of the body that the baseline is sent, as in the measurements that the targets were set by.
const helloBytes = 430

func helloRequest(host string) []byte {
	return request("POST", host, "/", "", fmt.Sprintf("%0*d", helloBytes, 0))
}

// result is what one cell gave in one round.
type result struct {
	Round       int                `json:"round"`
	Cell        string             `json:"cell"`
	Conns       int                `json:"connections"`
	Seconds     float64            `json:"seconds"`
	Requests    int                `json:"requests"`
	PerSecond   float64            `json:"per_second"`
	P50         float64            `json:"p50_ms"`
	P90         float64            `json:"p90_ms"`
	P99         float64            `json:"p99_ms"`
	P999        float64            `json:"p999_ms"`
	Max         float64            `json:"max_ms"`
	Mean        float64            `json:"mean_ms"`
	Statuses    map[int]int        `json:"statuses"`
	Allowed     int                `json:"allowed"`
	Broken      int                `json:"broken_connections"`
	BodyBytes   int                `json:"body_bytes"`
	ServerCPU   float64            `json:"server_cpu_us"`
	PostgresCPU float64            `json:"postgres_cpu_us"`
	OwnCPU      float64            `json:"generator_cpu_us"`
	Memory      int64              `json:"server_memory_bytes"`
	Beside      map[string]float64 `json:"beside,omitempty"`
	Pace        float64            `json:"pace"`   // of the processors, before or after, as a share of the run's best
	Stolen      float64            `json:"stolen"` // share of the processors' time that the host took meanwhile
	Tries       int                `json:"tries"`
	Wrong       string             `json:"wrong,omitempty"`
}

// cpuTimes are the CPU times of all that takes part, up to now.
type cpuTimes struct{ server, postgres, own time.Duration }

func (r *result) fill(c cell, t *tally, before, after cpuTimes) {
	r.Cell, r.Conns, r.Seconds, r.Requests, r.PerSecond = c.name, c.conns, t.elapsed.Seconds(), t.requests, t.perSecond()
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	r.P50, r.P90, r.P99, r.P999 = ms(t.latency.quantile(0.5)), ms(t.latency.quantile(0.9)), ms(t.latency.quantile(0.99)), ms(t.latency.quantile(0.999))
	r.Max, r.Mean = ms(t.latency.quantile(1)), ms(t.latency.mean())
	r.Statuses, r.Allowed, r.Broken, r.BodyBytes = t.statuses, t.allowed, t.broken, t.bytes
	if t.requests > 0 {
		per := func(a, b time.Duration) float64 { return float64((b - a).Microseconds()) / float64(t.requests) }
		r.ServerCPU, r.PostgresCPU, r.OwnCPU = per(before.server, after.server), per(before.postgres, after.postgres), per(before.own, after.own)
	}
	r.Wrong = c.wrong(t)
}

// wrong says what is not as it must be, empty if all is well: a fast wrong answer is no measurement.
func (c cell) wrong(t *tally) string {
	want := 0
	if c.allowed {
		want = t.requests
	}
	switch {
	case t.odd != "":
		return "unexpected answer: " + t.odd
	case t.broken > 0:
		return fmt.Sprintf("%d connections broke", t.broken)
	case t.requests == 0:
		return "no request was answered"
	case t.allowed != want:
		return fmt.Sprintf("%d of %d answers allow, not %d", t.allowed, t.requests, want)
	}
	return ""
}
