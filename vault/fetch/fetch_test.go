package fetch

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/secret"
)

func own(s string) secret.Bytes { return secret.Own([]byte(s)) }

func loopback() outbound.Config {
	return outbound.Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
}

func fetcher(t *testing.T, c outbound.Config) *Fetcher {
	t.Helper()
	f, err := New(Config{Outbound: c})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// at is a policy for a server of a test.
func at(url string) Policy {
	return Policy{Hosts: []string{url}, Methods: []string{"GET", "HEAD", "POST", "PUT"}, Header: "Authorization", Value: "Bearer {secret}"}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// raw is a server that writes what it likes.
func raw(t *testing.T, answer func(io.Writer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				answer(conn)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestSecretIsSent(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) { secretIsSent(t, version) })
	}
}

func secretIsSent(t *testing.T, version int) {
	t.Parallel()
	var got *http.Request
	var body []byte
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body)
		_, _ = w.Write([]byte(r.Header.Get("Authorization")))
	}))
	s.EnableHTTP2 = version == 2
	s.StartTLS()
	defer s.Close()
	c := loopback()
	c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	port := s.Listener.Addr().(*net.TCPAddr).Port
	c.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	f := fetcher(t, c)
	host := fmt.Sprintf("example.com:%d", port)
	for value, want := range map[string]string{"Bearer {secret}": "Bearer " + token, "Basic base64(user:{secret})": "Basic " + b64("user:"+token), "Basic base64({secret}:)": "Basic " + b64(token+":"), "x={secret};": "x=" + token + ";"} {
		p := at(host)
		p.Value = value
		r := Request{Method: "POST", URL: "https://Example.COM.:" + fmt.Sprint(port) + "/a%2Fb?c=d", Header: map[string]string{"content-type": "text/x", "X-Note": "n"}, Body: []byte("hello")}
		out, err := f.Do(t.Context(), p, own(token), r)
		if err != nil || out.Status != http.StatusOK || out.Masked != 1 || got.ProtoMajor != version {
			t.Fatal(out, err, Reason(err), got.Proto)
		}
		if got.Header.Get("Authorization") != want || got.Host != host || got.RequestURI != "/a%2Fb?c=d" || string(body) != "hello" {
			t.Errorf("%s: %q to %s%s with %q", value, got.Header.Get("Authorization"), got.Host, got.RequestURI, body)
		}
		if got.Header.Get("Accept-Encoding") != "identity" || got.Header.Get("Content-Type") != "text/x" || got.Header.Get("X-Note") != "n" || got.Header.Get("User-Agent") != "Avouch" {
			t.Errorf("%v", got.Header)
		}
	}
}

// recorder opens no socket: it writes down what would have been dialled, and may answer from memory.
type recorder struct {
	mu      sync.Mutex
	looked  int
	dialled []string
	answers []string // the addresses of each look-up in turn; the last again and again
	serve   http.Handler
}

var errRecorded = &net.OpError{Op: "dial", Err: errors.New("recorded, not dialled")}

func (r *recorder) config(networks ...string) outbound.Config {
	c := outbound.Config{Timeout: 5 * time.Second, Lookup: r.lookup, Dial: r.dial}
	for _, n := range networks {
		c.Networks = append(c.Networks, netip.MustParsePrefix(n))
	}
	return c
}

func (r *recorder) lookup(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked++
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return []netip.Addr{netip.MustParseAddr(r.answers[min(r.looked, len(r.answers))-1])}, nil
}

func (r *recorder) dial(_ context.Context, _, address string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialled = append(r.dialled, address)
	if r.serve == nil {
		return nil, errRecorded
	}
	ours, theirs := net.Pipe()
	once := make(chan net.Conn, 1)
	once <- theirs
	server := &http.Server{Handler: r.serve, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(&one{once, theirs.LocalAddr()}) }()
	return ours, nil
}

// one is a listener for one connection in memory.
type one struct {
	conns chan net.Conn
	addr  net.Addr
}

func (o *one) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	default:
		return nil, net.ErrClosed
	}
}
func (o *one) Close() error   { return nil }
func (o *one) Addr() net.Addr { return o.addr }

func TestNothingIsSent(t *testing.T) {
	t.Parallel()
	r := &recorder{answers: []string{"1.1.1.1"}}
	f := fetcher(t, r.config())
	for _, q := range []Request{
		{URL: "https://evil.example/"}, {URL: "https://api.example.com@evil.example/"}, {Method: "DELETE", URL: "https://api.example.com/"},
		{URL: "https://api.example.com/", Header: map[string]string{"Authorization": "mine"}}, {URL: "https://api.example.com/", Header: map[string]string{"A": "b\r\nC: d"}},
	} {
		if _, err := f.Do(t.Context(), item(), own(token), q); !isDenied(err) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	most := item()
	most.Reduce.Status = true
	for _, more := range []Reduce{{}, {Pointers: []string{"/a"}}} {
		if _, err := f.Do(t.Context(), most, own(token), Request{URL: "https://api.example.com/", Reduce: more}); !isDenied(err) {
			t.Errorf("more of the answer than the policy leaves, %+v: %v", more, err)
		}
	}
	if _, err := f.Do(t.Context(), item(), own("short"), Request{URL: "https://api.example.com/"}); err == nil {
		t.Error("a secret that is too short was used")
	}
	if _, err := f.Do(t.Context(), Policy{}, own(token), Request{URL: "https://api.example.com/"}); err == nil {
		t.Error("a policy that is none was used")
	}
	if r.looked > 0 || len(r.dialled) > 0 {
		t.Errorf("%d look-ups, dialled %v", r.looked, r.dialled)
	}
	if _, err := f.Do(t.Context(), item(), own(token), Request{URL: "https://api.example.com/"}); Reason(err) != "unreachable" || len(r.dialled) != 1 {
		t.Errorf("what is allowed: %v, dialled %v", err, r.dialled)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, a := range []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
		"2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:db8::1",
	} {
		for _, host := range []string{"api.example.com", "*.example.com", net.JoinHostPort(a, "8443")} {
			r := &recorder{answers: []string{a}}
			url := "https://" + strings.Replace(host, "*", "deep.below", 1) + "/"
			if _, err := fetcher(t, r.config()).Do(t.Context(), at(host), own(token), Request{URL: url}); Reason(err) != "refused" || len(r.dialled) > 0 {
				t.Errorf("%s at %s: %v (%s), dialled %v", url, a, err, Reason(err), r.dialled)
			}
		}
	}
	for _, c := range []struct{ host, address, networks, dialled string }{
		{"api.example.com", "1.1.1.1", "", "1.1.1.1:443"}, {"api.example.com:8443", "2606:4700::1111", "", "[2606:4700::1111]:8443"}, {"[64:ff9b::8.8.8.8]", "", "", "[64:ff9b::808:808]:443"},
		{"api.example.com", "10.1.2.3", "10.1.0.0/16", "10.1.2.3:443"}, {"api.example.com", "10.2.2.3", "10.1.0.0/16", ""},
		{"http://api.example.com", "10.1.2.3", "10.1.0.0/16", "10.1.2.3:80"}, {"http://api.example.com", "1.1.1.1", "10.1.0.0/16", ""}, {"http://[::1]:81", "", "10.1.0.0/16", ""},
	} {
		r := &recorder{answers: []string{c.address}}
		networks := strings.Fields(c.networks)
		url := c.host
		if !strings.Contains(url, "://") {
			url = "https://" + url
		}
		_, err := fetcher(t, r.config(networks...)).Do(t.Context(), at(c.host), own(token), Request{URL: url})
		if got := strings.Join(r.dialled, " "); got != c.dialled || (Reason(err) == "refused") != (c.dialled == "") {
			t.Errorf("%s at %s: %v, dialled %q", url, c.address, Reason(err), got)
		}
	}
}

// TestRebinding: a name whose address changes gains nothing, between two requests or in one that is redirected.
func TestRebinding(t *testing.T) {
	t.Parallel()
	hits := 0
	r := &recorder{answers: []string{"10.1.2.3", "10.1.2.3", "127.0.0.1"}, serve: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		hits++
		if q.URL.Path == "/away" {
			http.Redirect(w, q, "/there", http.StatusFound)
		}
	})}
	f := fetcher(t, r.config("10.0.0.0/8"))
	p := at("http://changing.example")
	if out, err := f.Do(t.Context(), p, own(token), Request{URL: "http://changing.example/"}); err != nil || out.Status != http.StatusOK {
		t.Fatal(out, err, Reason(err))
	}
	if _, err := f.Do(t.Context(), p, own(token), Request{URL: "http://changing.example/away"}); Reason(err) != "refused" {
		t.Errorf("the second look-up: %v (%s)", err, Reason(err))
	}
	if hits != 2 || r.looked != 3 || len(r.dialled) != 2 || r.dialled[0] != "10.1.2.3:80" || r.dialled[1] != "10.1.2.3:80" {
		t.Errorf("%d requests, %d look-ups, dialled %v", hits, r.looked, r.dialled)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	type hit struct{ method, path, body, kind, authorization string }
	var hits []hit
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		hits = append(hits, hit{r.Method, r.URL.Path, string(body), r.Header.Get("Content-Type"), r.Header.Get("Authorization")})
		status, to := 0, ""
		if _, err := fmt.Sscanf(r.URL.Path, "/%d/%s", &status, &to); err == nil {
			w.Header().Set("Location", "/"+strings.Replace(to, ",", "/", 1)+"#fragment")
			w.WriteHeader(status)
		}
	})
	f := fetcher(t, loopback())
	const auth = "Bearer " + token
	for _, c := range []struct {
		method, path string
		status       int
		want         []hit
	}{
		{"GET", "/301/x", 200, []hit{{"GET", "/301/x", "", "", auth}, {"GET", "/x", "", "", auth}}},
		{"HEAD", "/302/x", 200, []hit{{"HEAD", "/302/x", "", "", auth}, {"HEAD", "/x", "", "", auth}}},
		{"POST", "/301/x", 301, []hit{{"POST", "/301/x", "b", "text/x", auth}}},
		{"POST", "/302/x", 302, []hit{{"POST", "/302/x", "b", "text/x", auth}}},
		{"POST", "/303/x", 200, []hit{{"POST", "/303/x", "b", "text/x", auth}, {"GET", "/x", "", "", auth}}},
		{"POST", "/307/x", 200, []hit{{"POST", "/307/x", "b", "text/x", auth}, {"POST", "/x", "b", "text/x", auth}}},
		{"PUT", "/308/x", 200, []hit{{"PUT", "/308/x", "b", "text/x", auth}, {"PUT", "/x", "b", "text/x", auth}}},
		{"HEAD", "/303/x", 200, []hit{{"HEAD", "/303/x", "", "", auth}, {"HEAD", "/x", "", "", auth}}},
		{"GET", "/300/x", 300, []hit{{"GET", "/300/x", "", "", auth}}},
		{"GET", "/302/302,302,x", 200, []hit{{"GET", "/302/302,302,x", "", "", auth}, {"GET", "/302/302,x", "", "", auth}, {"GET", "/302/x", "", "", auth}, {"GET", "/x", "", "", auth}}},
	} {
		hits = nil
		r := Request{Method: c.method, URL: url + c.path}
		if c.method == "POST" || c.method == "PUT" {
			r.Body, r.Header = []byte("b"), map[string]string{"Content-Type": "text/x"}
		}
		out, err := f.Do(t.Context(), at(url), own(token), r)
		if err != nil || out.Status != c.status {
			t.Errorf("%s %s: %d, %v", c.method, c.path, out.Status, err)
		}
		if d := cmp.Diff(c.want, hits, cmp.AllowUnexported(hit{})); d != "" {
			t.Errorf("%s %s: %s", c.method, c.path, d)
		}
	}
}

func TestRedirectsEnd(t *testing.T) {
	t.Parallel()
	hits := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, fmt.Sprintf("/%d?k=%s", hits, "tok-7qx2mv9rlc4w"), http.StatusFound)
	})
	out, err := fetcher(t, loopback()).Do(t.Context(), at(url), own("tok-7qx2mv9rlc4w"), Request{URL: url})
	if err != nil || hits != 4 || out.Redirects != 3 || out.Status != http.StatusFound || out.Header["Location"][0] != "/4?k=[secret]" {
		t.Errorf("%+v after %d requests, %v", out, hits, err)
	}
}

// TestRedirectElsewhere: nothing is sent to another host, and the agent sees where it would have gone, without the secret.
func TestRedirectElsewhere(t *testing.T) {
	t.Parallel()
	others := 0
	other := serve(t, func(http.ResponseWriter, *http.Request) { others++ })
	hits := 0
	var to string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hits++
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	f := fetcher(t, loopback())
	two := raw(t, func(w io.Writer) {
		hits++
		_, _ = io.WriteString(w, "HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\nLocation: /a\r\nLocation: /b\r\n\r\n")
	})
	if out, err := f.Do(t.Context(), at(two), own(token), Request{URL: two}); err != nil || hits != 1 || out.Redirects != 0 || len(out.Header["Location"]) != 2 {
		t.Errorf("two places at once: %+v, %v, %d requests", out, err, hits)
	}
	p := at(url)
	p.Hosts = append(p.Hosts, other, strings.Replace(url, "http:", "https:", 1)) // which are allowed, but not as redirects
	p.Paths = []string{"/a"}
	_, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	for _, to = range []string{
		other + "/a?k=tok-7qx2mv9rlc4w", strings.Replace(url, "http:", "https:", 1) + "/a", "http://localhost:" + port + "/a", "http://[::1]:" + port + "/a", "//evil.example/a", "https://169.254.169.254/a", "file:///a",
		"gopher://127.0.0.1:" + port + "/a", "http://user@127.0.0.1:" + port + "/a", "/b", "/a/../b", "/a/%2e%2e/b", "http://127.0.0.1:" + port + `\@evil.example/a`, "",
	} {
		hits = 0
		out, err := f.Do(t.Context(), p, own("tok-7qx2mv9rlc4w"), Request{URL: url + "/a"})
		if err != nil || hits != 1 || others != 0 || out.Status != http.StatusTemporaryRedirect || out.Redirects != 0 {
			t.Errorf("%q: %+v, %v, %d requests, %d elsewhere", to, out, err, hits, others)
		}
		if strings.HasPrefix(to, other) && out.Header["Location"][0] != other+"/a?k=[secret]" {
			t.Errorf("%v", out.Header)
		}
	}
}
