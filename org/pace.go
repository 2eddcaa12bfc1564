package org

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/avouch-dev/avouch/internal/problem"
)

// DefaultSignUps is how many organisations strangers of one address may make in an hour, unless the installation says
// otherwise.
const DefaultSignUps = 10

// mostAddresses bounds the addresses that are told apart.
const mostAddresses = 10_000

// pace lets each address sign up so many times at once, and no more often in the long run than so many times an hour.
type pace struct {
	hourly int // unlimited if negative
	mu     sync.Mutex
	by     map[netip.Prefix]*rate.Limiter
	others *rate.Limiter // for those that are not told apart
	swept  time.Time
}

func newPace(hourly int) *pace {
	p := &pace{hourly: hourly, by: map[netip.Prefix]*rate.Limiter{}}
	p.others = p.limiter()
	return p
}

func (p *pace) limiter() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(p.hourly)/time.Hour.Seconds()), p.hourly)
}

// admit takes one of the address's times, or says when there is one again.
func (p *pace) admit(a netip.Addr, now time.Time) error {
	if p.hourly < 0 {
		return nil
	}
	r := p.of(network(a), now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	busy := problem.New(problem.TooMany, "Too many organisations were made from your address. Try again later, or ask the operator.")
	busy.RetryAfter = wait
	return busy
}

// network is what counts as one address. Of IPv6 anybody has 2^64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	n, _ := a.Prefix(bits) // fails only for no address at all, as on a Unix socket: those count as one
	return n
}

func (p *pace) of(n netip.Prefix, now time.Time) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.by[n]
	if l == nil && len(p.by) >= mostAddresses && now.Sub(p.swept) >= time.Minute {
		p.swept = now
		p.sweep(now)
	}
	if l == nil && len(p.by) >= mostAddresses {
		return p.others
	}
	if l == nil {
		l = p.limiter()
		p.by[n] = l
	}
	return l
}

// sweep forgets addresses that have all their times again.
func (p *pace) sweep(now time.Time) {
	for n, l := range p.by {
		if l.TokensAt(now) >= float64(p.hourly) {
			delete(p.by, n)
		}
	}
}
