package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"syscall"
	"time"
)

// generator drives all connections from one thread: beside two cores' worth of servers, a goroutine for each connection
// would be a good part of what is measured. Reads wait for readiness; writes do not, for a request is smaller than a
// socket's buffer and there is one at a time.
type generator struct {
	load
	tally
	epoll int
	conns []*conn
	phase phase
	began time.Time
	until time.Time
	open  int // requests without an answer
}

type conn struct {
	fd     int
	target netip.AddrPort
	buf    []byte
	have   int // bytes of buf that hold something
	sent   time.Time
	busy   bool
}

type phase int

const (
	warming phase = iota
	counting
	draining
)

// What is in the answer of a verification that allows: of an agent, and of a key.
const (
	allowedMark = `"allowed":true`
	validMark   = `"valid":true`
)

// drainFor is how long the generator waits for the last answers, so that it leaves no work behind for the next cell.
const drainFor = 5 * time.Second

// drive runs a load to its end.
func drive(ctx context.Context, l load) (tally, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := &generator{load: l, tally: newTally(), until: time.Now().Add(l.warmFor)}
	if g.warm == nil {
		g.warm = g.feed
	}
	var err error
	if g.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return g.tally, fmt.Errorf("bench.drive: %w", err)
	}
	defer g.close()
	for i := range l.conns {
		c := &conn{target: l.targets[i%len(l.targets)], buf: make([]byte, 8<<10), fd: -1}
		g.conns = append(g.conns, c)
		if err := g.connect(i); err != nil {
			return g.tally, err
		}
	}
	for i := range g.conns {
		if err := g.send(i); err != nil {
			return g.tally, err
		}
	}
	return g.tally, g.run(ctx)
}

func (g *generator) close() {
	for _, c := range g.conns {
		if c.fd >= 0 {
			syscall.Close(c.fd)
		}
	}
	syscall.Close(g.epoll)
}

func (g *generator) run(ctx context.Context) error {
	events := make([]syscall.EpollEvent, 256)
	for {
		now := time.Now()
		if !now.Before(g.until) || g.phase == draining && g.open == 0 {
			if g.phase == draining {
				return nil
			}
			g.advance(now)
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("bench.drive: %w", err)
		}
		wait := min(100, int(g.until.Sub(now).Milliseconds())+1)
		n, err := syscall.EpollWait(g.epoll, events, wait)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("bench.drive: %w", err)
		}
		for _, e := range events[:max(0, n)] {
			if err := g.receive(int(e.Fd)); err != nil {
				return err
			}
		}
	}
}

// advance goes to the next phase. What is read around the measurement must not count as time of a request, so requests
// that were sent before it began are counted when they are answered and their latency is not.
func (g *generator) advance(now time.Time) {
	switch g.phase {
	case warming:
		if g.begin != nil {
			g.begin()
		}
		g.began = time.Now()
		g.phase, g.until = counting, g.began.Add(g.runFor)
	case counting:
		g.elapsed = now.Sub(g.began)
		if g.end != nil {
			g.end()
		}
		g.phase, g.until = draining, time.Now().Add(drainFor)
	}
}

func (g *generator) connect(i int) error {
	c := g.conns[i]
	if c.fd >= 0 {
		syscall.Close(c.fd) // also takes it out of the epoll set
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bench.connect: %w", err)
	}
	c.fd, c.have, c.busy = fd, 0, false
	to := &syscall.SockaddrInet4{Port: int(c.target.Port()), Addr: c.target.Addr().As4()}
	err = errors.Join(
		syscall.Connect(fd, to),
		syscall.SetNonblock(fd, true),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}),
	)
	if err != nil {
		return fmt.Errorf("bench.connect: %s: %w", c.target, err)
	}
	return nil
}

func (g *generator) send(i int) error {
	c := g.conns[i]
	if g.phase == draining {
		return nil
	}
	next := g.feed
	if g.phase == warming {
		next = g.warm
	}
	b := next(i)
	if b == nil {
		g.until = time.Now() // there is nothing left to measure
		return nil
	}
	c.sent = time.Now()
	n, err := syscall.Write(c.fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return g.lost(i, fmt.Errorf("bench.send: %w", err))
	}
	c.busy = true
	g.open++
	return nil
}

func (g *generator) receive(i int) error {
	c := g.conns[i]
	n, err := syscall.Read(c.fd, c.buf[c.have:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return g.lost(i, fmt.Errorf("bench.receive: %w", err))
	case n == 0:
		return g.lost(i, fmt.Errorf("bench.receive: %w after %d bytes of an answer", io.EOF, c.have))
	}
	c.have += n
	r, size, err := readReply(c.buf[:c.have])
	switch {
	case err != nil:
		return fmt.Errorf("bench.receive: %w", err)
	case size == 0:
		if c.have == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		return nil
	case size < c.have || !c.busy:
		return fmt.Errorf("bench.receive: %d bytes that nobody asked for", c.have-size)
	}
	g.count(c, &r)
	c.have, c.busy = 0, false
	g.open--
	if r.closes {
		if err := g.connect(i); err != nil {
			return err
		}
	}
	return g.send(i)
}

func (g *generator) count(c *conn, r *reply) {
	if g.odd == "" && r.status != g.want {
		g.odd = fmt.Sprintf("%d %.300s", r.status, r.body)
	}
	if g.phase != counting {
		return
	}
	g.requests++
	g.statuses[r.status]++
	g.bytes = len(r.body)
	if bytes.Contains(r.body, []byte(allowedMark)) || bytes.HasPrefix(r.body, []byte("{"+validMark)) {
		g.allowed++
	}
	if !c.sent.Before(g.began) {
		g.latency.add(time.Since(c.sent))
	}
}

// lost opens a connection again that ended. A few may; many mean that the server is not there.
func (g *generator) lost(i int, why error) error {
	if g.conns[i].busy {
		g.conns[i].busy = false
		g.open--
	}
	if g.broken++; g.broken > len(g.conns)+50 {
		return fmt.Errorf("too many connections end: %w", why)
	}
	if err := g.connect(i); err != nil {
		return err
	}
	return g.send(i)
}
