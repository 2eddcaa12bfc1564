// Package pace lets each network address do something so often in a length of time, and no more.
package pace

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// mostAddresses bounds the addresses that are told apart.
const mostAddresses = 10_000

// Pace lets each address do something so many times at once, and no more often in the long run than so many times in each
// length of time. An IPv6 network of 64 bits counts as one address.
type Pace struct {
	times  int // unlimited if negative
	in     time.Duration
	mu     sync.Mutex
	by     map[netip.Prefix]*rate.Limiter
	others *rate.Limiter // for those that are not told apart
	swept  time.Time
}

// New makes a pace of so many times in a length of time; a negative number is unlimited.
func New(times int, in time.Duration) *Pace {
	p := &Pace{times: times, in: in, by: map[netip.Prefix]*rate.Limiter{}}
	p.others = p.limiter()
	return p
}

func (p *Pace) limiter() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(p.times)/p.in.Seconds()), p.times)
}

// Take takes one of the address's times, or says in how long there is one again.
func (p *Pace) Take(a netip.Addr, now time.Time) (wait time.Duration) {
	if p.times < 0 {
		return 0
	}
	r := p.of(network(a), now).ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// Left reports whether the address has one of its times, and takes none.
func (p *Pace) Left(a netip.Addr, now time.Time) bool {
	return p.times < 0 || p.of(network(a), now).TokensAt(now) >= 1
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

func (p *Pace) of(n netip.Prefix, now time.Time) *rate.Limiter {
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
func (p *Pace) sweep(now time.Time) {
	for n, l := range p.by {
		if l.TokensAt(now) >= float64(p.times) {
			delete(p.by, n)
		}
	}
}
