package main

import (
	"net"
	"strings"
	"testing"
)

// hasIPv6 reports whether this machine has ::1.
func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func port(t *testing.T, l net.Listener) string {
	t.Helper()
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDevListensOnBoth: whoever looks localhost up reaches this program, by either address, and never another's.
func TestDevListensOnBoth(t *testing.T) {
	t.Parallel()
	if !hasIPv6() {
		t.Skip("skipped: this machine has no ::1")
	}
	for listen, want := range map[string]int{"localhost:0": 2, "127.0.0.1:0": 2, "[::1]:0": 2, "127.0.0.2:0": 1} {
		all, err := (&devCmd{Listen: listen}).listen(ready{})
		if err != nil {
			t.Errorf("%s: %v", listen, err)
			continue
		}
		defer closeAll(all)
		if len(all) != want || port(t, all[0]) != port(t, all[len(all)-1]) {
			t.Errorf("%s: %d listeners, %v", listen, len(all), all[0].Addr())
		}
		for _, l := range all {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Errorf("%s: %v", listen, err)
				continue
			}
			c.Close()
		}
	}
	secure, err := (&devCmd{Listen: "localhost:0", TLSCert: "cert.pem"}).listen(ready{})
	if err != nil || len(secure) != 1 {
		t.Errorf("with TLS: %d listeners, %v", len(secure), err)
	}
	closeAll(secure)
}

// TestDevSharesNoName: a port that another program has on one address of localhost is not taken on the other.
func TestDevSharesNoName(t *testing.T) {
	t.Parallel()
	if !hasIPv6() {
		t.Skip("skipped: this machine has no ::1")
	}
	other, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := port(t, other)
	for listen, says := range map[string]string{
		"localhost:" + taken: "port " + taken + " of ::1 is taken by another program: choose another with --listen localhost:PORT",
		"127.0.0.1:" + taken: "port " + taken + " of ::1 is taken by another program: choose another with --listen 127.0.0.1:PORT",
		"[::1]:" + taken:     "port " + taken + " of ::1 is taken",
	} {
		all, err := (&devCmd{Listen: listen, Dir: "there"}).listen(ready{})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", listen, err)
		}
		closeAll(all)
	}
	all, err := (&devCmd{Listen: "localhost:0"}).listen(ready{URL: "http://localhost:" + taken})
	if err != nil || port(t, all[0]) == taken {
		t.Errorf("any free port, where the last one is taken: %v", err)
	}
	closeAll(all)
	if l, err := net.Listen("tcp", "127.0.0.1:"+taken); err != nil {
		t.Errorf("the other address was kept: %v", err)
	} else {
		l.Close()
	}
}

// nowhere is a listener that listens nowhere.
type nowhere struct {
	net.Listener
	addr net.TCPAddr
}

func (l nowhere) Addr() net.Addr { return &l.addr }

// TestDevAddress: a new directory goes by localhost, where passkeys work, and an older one by the address that its tokens name.
func TestDevAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ listen, ip, issuer, cert, want string }{
		{"localhost:7070", "127.0.0.1", "", "", "http://localhost:7070"},
		{"127.0.0.1:0", "127.0.0.1", "", "", "http://localhost:7070"},
		{"[::1]:7070", "::1", "", "", "http://localhost:7070"},
		{"localhost:7070", "127.0.0.1", "http://127.0.0.1:7070", "", "http://127.0.0.1:7070"},
		{"localhost:7070", "127.0.0.1", "http://127.0.0.1:1", "", "http://127.0.0.1:7070"},
		{"localhost:7070", "127.0.0.1", "http://[::1]:1", "", "http://[::1]:7070"},
		{"127.0.0.1:7070", "127.0.0.1", "http://localhost:1", "", "http://localhost:7070"},
		{"127.0.0.1:7070", "127.0.0.1", "https://127.0.0.1:1", "", "http://localhost:7070"},
		{"127.0.0.2:7070", "127.0.0.2", "", "", "http://127.0.0.2:7070"},
		{"127.0.0.1:7070", "127.0.0.1", "", "cert.pem", "https://127.0.0.1:7070"},
		{"localhost:7070", "127.0.0.1", "", "cert.pem", "https://localhost:7070"},
		{"0.0.0.0:7070", "0.0.0.0", "", "cert.pem", "https://0.0.0.0:7070"},
	} {
		l := nowhere{addr: net.TCPAddr{IP: net.ParseIP(c.ip), Port: 7070}}
		if got := (&devCmd{Listen: c.listen, TLSCert: c.cert}).address(l, c.issuer); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
