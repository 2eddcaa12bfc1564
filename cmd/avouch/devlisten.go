package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"
	"syscall"

	"github.com/avouch-dev/avouch/server"
)

// On this machine and without TLS, `avouch dev` goes by the name localhost: a passkey is bound to a name, and an IP address is
// none. That name is looked up as 127.0.0.1 by some programs and as ::1 by others, so it listens on both, or another program
// could answer some of them in its place.

// twin is the other address of localhost; empty if the address is not one of localhost's.
func twin(at net.Addr) string {
	tcp, ok := at.(*net.TCPAddr)
	switch {
	case ok && tcp.IP.Equal(net.IPv4(127, 0, 0, 1)):
		return net.JoinHostPort("::1", strconv.Itoa(tcp.Port))
	case ok && tcp.IP.Equal(net.IPv6loopback):
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return ""
}

// listen takes the address that was asked for, first, and its twin. Asked for any free port, it takes the one of the last start
// if it can: the issuer of every token that exists names it.
func (c *devCmd) listen(before ready) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil && port == "0" && before.URL != "" {
		if u, err := url.Parse(before.URL); err == nil {
			if all, err := c.bind(net.JoinHostPort(host, cmp.Or(u.Port(), "0"))); err == nil {
				return all, nil
			}
		}
	}
	for tries := 1; ; tries++ {
		all, err := c.bind(c.Listen)
		switch {
		case err == nil:
			return all, nil
		case port == "0" && tries < 20 && errors.Is(err, syscall.EADDRINUSE): // that port of the twin's
		default:
			return nil, c.notListening(before, err)
		}
	}
}

func (c *devCmd) bind(at string) ([]net.Listener, error) {
	asked, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	other := twin(asked.Addr())
	if other == "" || c.TLSCert != "" {
		return []net.Listener{asked}, nil
	}
	second, err := net.Listen("tcp", other)
	switch {
	case err == nil:
		return []net.Listener{asked, second}, nil
	case errors.Is(err, syscall.EADDRINUSE):
		asked.Close()
		return nil, err
	}
	return []net.Listener{asked}, nil // a machine that has one of the two only
}

func (c *devCmd) notListening(before ready, err error) error {
	host, port, splitErr := net.SplitHostPort(c.Listen)
	switch {
	case splitErr != nil:
		return misused("--listen (AVOUCH_LISTEN) is host:port, such as localhost:7070, and not %q", c.Listen)
	case !errors.Is(err, syscall.EADDRINUSE):
		return lacks("cannot listen on %s: %w; choose another address with --listen (AVOUCH_LISTEN)", c.Listen, err)
	}
	at := host
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if tcp, ok := op.Addr.(*net.TCPAddr); ok {
			at = tcp.IP.String()
		}
	}
	who := " by another program"
	if u, err := url.Parse(before.URL); err == nil && u.Port() == port {
		who = ", perhaps by an avouch dev that runs in " + c.Dir + " already"
	}
	return lacks("port %s of %s is taken%s: choose another with --listen %s, or any free one with --listen %s (or AVOUCH_LISTEN)",
		port, at, who, net.JoinHostPort(host, "PORT"), net.JoinHostPort(host, "0"))
}

// address is where it is reached: under the host that the issuer names, if that is this machine's, since what people keep for it
// is bound to that.
func (c *devCmd) address(l net.Listener, issuer string) string {
	host, _, err := net.SplitHostPort(c.Listen)
	if err == nil && host == "localhost" || c.TLSCert == "" && twin(l.Addr()) != "" {
		name := "localhost"
		if u, err := url.Parse(issuer); err == nil && u.Scheme == "http" && c.TLSCert == "" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1") {
			name = u.Hostname()
		}
		at := url.URL{Scheme: "http", Host: net.JoinHostPort(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))}
		if c.TLSCert != "" {
			at.Scheme = "https"
		}
		return at.String()
	}
	return address(l, c.TLSCert != "")
}

func onLoopback(l net.Listener) bool {
	at, ok := l.Addr().(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// answer serves on all listeners until ctx ends, or until one cannot go on.
func answer(ctx context.Context, s *server.Server, all []net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, len(all))
	for _, l := range all {
		go func() { ended <- s.Serve(ctx, l) }()
	}
	var failed error
	for range all {
		failed = errors.Join(failed, <-ended)
		stop()
	}
	return failed
}

func closeAll(all []net.Listener) {
	for _, l := range all {
		_ = l.Close() // a server that has ended has closed it
	}
}
