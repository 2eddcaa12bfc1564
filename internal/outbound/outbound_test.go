package outbound

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// recorder opens no socket: it writes down what would have been dialled.
type recorder struct {
	mu      sync.Mutex
	dialled []string
	answers []netip.Addr
	looked  int
}

var errRecorded = errors.New("recorded, not dialled")

func (r *recorder) config(allowed ...string) Config {
	c := Config{
		Lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.looked++
			if a, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{a}, nil
			}
			return r.answers, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.dialled = append(r.dialled, address)
			return nil, errRecorded
		},
	}
	for _, p := range allowed {
		c.Networks = append(c.Networks, netip.MustParsePrefix(p))
	}
	return c
}

func get(t *testing.T, c Config, url string) error {
	t.Helper()
	client, err := Client(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.ReadAll(answer.Body)
	return err
}

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	t.Parallel()
	refused := []string{
		"127.0.0.1", "127.8.9.10", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.169.254",
		"192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:db8::1", "3fff::1", "100::1", "4000::1",
		"168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "161.26.0.7", "166.8.0.1", "166.11.255.255",
	}
	for _, a := range refused {
		r := &recorder{answers: []netip.Addr{netip.MustParseAddr(a)}}
		for _, url := range []string{"https://provider.example/x", "https://" + net.JoinHostPort(a, "8443") + "/x"} {
			if err := get(t, r.config(), url); !errors.Is(err, ErrRefused) || len(r.dialled) > 0 {
				t.Errorf("%s (%s): %v, dialled %v", a, url, err, r.dialled)
			}
		}
	}
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "168.63.129.15", "166.12.0.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"} {
		r := &recorder{answers: []netip.Addr{netip.MustParseAddr(a)}}
		if err := get(t, r.config(), "https://provider.example/"); !errors.Is(err, errRecorded) || len(r.dialled) != 1 {
			t.Errorf("%s: %v, dialled %v", a, err, r.dialled)
		}
	}
	if Public(netip.Addr{}) || Public(netip.MustParseAddr("fe80::1%eth0")) || Public(netip.MustParseAddr("2606:4700::1%eth0")) || Public(netip.MustParseAddr("::ffff:8.8.8.8").WithZone("eth0")) {
		t.Error("an address that is none, or of one link, counts as public")
	}
}

func TestAllowedNetworks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address string
		allowed bool
	}{{"10.1.2.3", true}, {"::ffff:10.1.2.3", true}, {"10.2.2.3", false}, {"fd00::7", true}, {"127.0.0.1", false}} {
		r := &recorder{answers: []netip.Addr{netip.MustParseAddr(tt.address)}}
		err := get(t, r.config("10.1.0.0/16", "fd00::/8"), "https://inside.example/")
		if errors.Is(err, errRecorded) != tt.allowed || errors.Is(err, ErrRefused) == tt.allowed {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}

func TestTheAnswerIsDialled(t *testing.T) {
	t.Parallel()
	r := &recorder{answers: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("10.0.0.1")}}
	if err := get(t, r.config(), "https://rebinding.example:444/"); !errors.Is(err, errRecorded) {
		t.Fatal(err)
	}
	if len(r.dialled) != 1 || r.dialled[0] != "1.1.1.1:444" || r.looked != 1 {
		t.Errorf("dialled %v after %d look-ups: only the public address, by number, once", r.dialled, r.looked)
	}
}

func TestTheSocketIsJudgedAgain(t *testing.T) {
	t.Parallel()
	c := Config{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for address, allowed := range map[string]bool{
		"1.1.1.1:443": true, "10.0.0.1:443": true, "127.0.0.1:443": false, "[::1]:443": false, "[::ffff:127.0.0.1]:443": false, "nonsense": false, "[fe80::1%1]:1": false,
	} {
		if err := c.control("tcp", address, nil); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if conn, err := c.dialer().DialContext(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, ErrRefused) {
		t.Errorf("a socket was connected: %v, %v", conn, err)
	}
	within := loopback()
	conn, err := within.dialer().DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestClearOnlyWithin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url     string
		dialled bool
	}{{"http://10.1.1.1/", true}, {"http://1.1.1.1/", false}, {"https://1.1.1.1/", true}, {"ftp://10.1.1.1/", false}, {"https://user:pass@1.1.1.1/", false}} {
		r := &recorder{}
		err := get(t, r.config("10.0.0.0/8"), tt.url)
		if (len(r.dialled) == 1) != tt.dialled || errors.Is(err, ErrRefused) == tt.dialled {
			t.Errorf("%s: %v, dialled %v", tt.url, err, r.dialled)
		}
	}
}

func loopback() Config {
	return Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
}

func TestNoRedirect(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer s.Close()
	if err := get(t, loopback(), s.URL); err != nil || hits.Load() != 1 {
		t.Errorf("%v after %d requests", err, hits.Load())
	}
}

func TestBodiesEnd(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 1000
		if strings.HasPrefix(r.URL.Path, "/long") {
			n = 1001
		}
		if strings.HasSuffix(r.URL.Path, "chunked") {
			w.(http.Flusher).Flush()
		}
		w.Write(make([]byte, n))
	}))
	defer s.Close()
	c := loopback()
	c.MaxBody = 1000
	for path, want := range map[string]error{"/fits": nil, "/fits-chunked": nil, "/long": ErrTooLong, "/long-chunked": ErrTooLong} {
		if err := get(t, c, s.URL+path); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTimesEnd(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // the header is there, the body never comes
		<-r.Context().Done()
	}))
	defer s.Close()
	c := loopback()
	c.Timeout = 50 * time.Millisecond
	if err := get(t, c, s.URL); err == nil {
		t.Error("an answer without an end was taken")
	}
}

func TestOwnAuthority(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = nil
	c := loopback()
	if err := get(t, c, s.URL); err == nil {
		t.Error("an unknown authority was believed")
	}
	c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if _, err := Client(c); err == nil {
		t.Error("a missing file was taken")
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(c.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(t, c, s.URL); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(c.CAFile, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Client(c); err == nil {
		t.Error("a file without a certificate was taken")
	}
}

// FuzzEmbedded: whatever the address, if the IPv4 address within it is not public, neither is it.
func FuzzEmbedded(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{8, 8, 8, 8})
	f.Add([]byte{169, 254, 169, 254})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 4 {
			return
		}
		v4 := netip.AddrFrom4([4]byte(b[:4]))
		for _, p := range []netip.Addr{netip.MustParseAddr("::ffff:0:0"), netip.MustParseAddr("64:ff9b::"), netip.MustParseAddr("::")} {
			wide := p.As16()
			copy(wide[12:], b[:4])
			if Public(netip.AddrFrom16(wide)) && !Public(v4) {
				t.Errorf("%s is public, and %s is not", netip.AddrFrom16(wide), v4)
			}
		}
		if Public(v4) && (v4.IsPrivate() || v4.IsLoopback() || v4.IsLinkLocalUnicast() || v4.IsMulticast() || v4.IsUnspecified()) {
			t.Errorf("%s is public", v4)
		}
	})
}
