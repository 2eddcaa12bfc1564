package web

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// serve runs the API behind a real listener.
func (b *bench) serve(secure *tls.Config, l Limits) string {
	b.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	srv := Server(b.API, b.cfg.Logger, secure, l)
	done := make(chan error, 1)
	go func() {
		if secure != nil {
			done <- srv.ServeTLS(ln, "", "")
			return
		}
		done <- srv.Serve(ln)
	}()
	b.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return ln.Addr().String()
}

// raw writes bytes to the server and reads everything until it hangs up or the time is over.
func raw(t *testing.T, addr, request string, wait time.Duration) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, request)
	answer, _ := io.ReadAll(c) // a deadline is an end too
	return string(answer)
}

// TestMalformedRequests: none of what no proper client sends is answered with success, and the server lives on.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	addr := b.serve(nil, Limits{})
	post := "POST /api/v1/things HTTP/1.1\r\nHost: x\r\n" + asAlice + "\r\n" + asJSON + "\r\nConnection: close\r\n"
	good := `{"name":"x"}`
	for name, c := range map[string]struct {
		request, status string
		document        bool
	}{
		"good":                    {post + "Content-Length: 12\r\n\r\n" + good, "201", false},
		"good, chunked":           {post + "Transfer-Encoding: chunked\r\n\r\nc\r\n" + good + "\r\n0\r\n\r\n", "201", false},
		"no request line":         {"\r\n\r\n\r\n", "400", false},
		"garbage":                 {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400", false},
		"version 3":               {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "505", false},
		"no host":                 {"GET /api/v1/things HTTP/1.1\r\n\r\n", "400", false},
		"two hosts":               {"GET /api/v1/things HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", false},
		"bad host":                {"GET /api/v1/things HTTP/1.1\r\nHost: a b\r\n\r\n", "400", false},
		"space in header name":    {"GET /api/v1/things HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", "400", false},
		"NUL in header":           {"GET /api/v1/things HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", "400", false},
		"folded header":           {post + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 12\r\n\r\n" + good + "\r\n", "400", true},
		"two lengths":             {post + "Content-Length: 12\r\nContent-Length: 13\r\n\r\n" + good, "400", false},
		"negative length":         {post + "Content-Length: -1\r\n\r\n" + good, "400", false},
		"signed length":           {post + "Content-Length: +12\r\n\r\n" + good, "400", false},
		"unknown coding":          {post + "Transfer-Encoding: gzip\r\n\r\n" + good, "501", false},
		"coding chunked, twice":   {post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501", false},
		"bad chunk size":          {post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + good + "\r\n0\r\n\r\n", "400", true},
		"chunk cut off":           {post + "Transfer-Encoding: chunked\r\n\r\nc\r\n" + good + "xx\r\n0\r\n\r\n", "400", true},
		"OPTIONS *":               {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400", true},
		"GET *":                   {"GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400", true},
		"CONNECT":                 {"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "400", true},
		"absolute form":           {"GET http://evil.example/api/v1/secret HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "401", true},
		"no path":                 {"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n", "400", false},
		"header of 20 KiB":        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", "431", true},
		"header of 64 KiB":        {"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431", false},
		"length and chunks":       {post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n" + good + "\r\n0\r\n\r\n", "201", false},
		"larger than the limit":   {post + "Content-Length: 99999999\r\n\r\n", "413", true},
		"unknown media type":      {strings.Replace(post, asJSON, "Content-Type: text/plain", 1) + "Content-Length: 12\r\n\r\n" + good, "415", true},
		"invented method":         {"BREW /api/v1/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405", true},
		"pipelined after refusal": {"BREW /x HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := raw(t, addr, c.request, 5*time.Second)
			if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) {
				t.Fatalf("%.80q, want %s", got, c.status)
			}
			if c.document != strings.Contains(got, "Content-Type: "+problemType) || c.document != strings.Contains(got, "X-Request-Id: ") && c.status != "201" {
				t.Errorf("document %v, got %.600s", c.document, got)
			}
		})
	}
}

// TestLengthAndChunksHangsUp: a request that two readers could cut differently is the connection's last.
func TestLengthAndChunksHangsUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	addr := b.serve(nil, Limits{})
	smuggled := "GET /api/v1/secret HTTP/1.1\r\nHost: x\r\n\r\n"
	got := raw(t, addr, "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+smuggled, 3*time.Second)
	if n := strings.Count(got, "HTTP/1.1 "); n != 1 {
		t.Errorf("%d answers: %s", n, got)
	}
}

// TestSlowClients: one that sends slowly is cut off, by a document where it got as far as the body.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	addr := b.serve(nil, Limits{Header: 200 * time.Millisecond, Read: 400 * time.Millisecond})
	start := time.Now()
	if got := raw(t, addr, "GET / HTTP/1.1\r\nHost: x\r\nA", 20*time.Second); got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
		t.Errorf("slow header: %.80q", got)
	}
	got := raw(t, addr, "POST /api/v1/things HTTP/1.1\r\nHost: x\r\n"+asAlice+"\r\n"+asJSON+"\r\nContent-Length: 12\r\n\r\n{", 20*time.Second)
	if !strings.HasPrefix(got, "HTTP/1.1 408") || !strings.Contains(got, problemType) {
		t.Errorf("slow body: %.200q", got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestStream: a stream outlives the time limits of everything else, and reaches the client piece by piece.
func TestStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	more := make(chan struct{})
	HandleRaw[None, None](b.API, Op{ID: "stream", Method: "GET", Path: "/api/v1/stream", Summary: "Follow", Access: Public, Stream: true, Produces: "text/event-stream", Timeout: time.Millisecond},
		func(w http.ResponseWriter, r *http.Request, _ caller, _ RequestMeta) error {
			for i := range 3 {
				select {
				case <-more:
				case <-r.Context().Done():
					return r.Context().Err()
				}
				fmt.Fprintf(w, "data: %d\n\n", i)
				if err := http.NewResponseController(w).Flush(); err != nil {
					return err
				}
			}
			return nil
		})
	addr := b.serve(nil, Limits{Header: 100 * time.Millisecond, Read: 100 * time.Millisecond, Write: 100 * time.Millisecond})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/api/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { more <- struct{}{} }()
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewReader(r.Body)
	for i := range 3 {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			time.Sleep(150 * time.Millisecond) // longer than every limit
			more <- struct{}{}
		}
	}
}

func certificate(t *testing.T, key any, public any) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLSByHandshake: real handshakes with each version and each suite that a client could bring.
func TestTLSByHandshake(t *testing.T) {
	t.Parallel()
	ek, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for kind, cert := range map[string]tls.Certificate{"ECDSA": certificate(t, ek, &ek.PublicKey), "RSA": certificate(t, rk, &rk.PublicKey)} {
		b := newBench(t, func(c *Config[caller]) { c.PublicURL = &url.URL{Scheme: "https", Host: "localhost"} })
		addr := b.serve(TLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }), Limits{})
		shake := func(version uint16, suites ...uint16) (tls.ConnectionState, error) {
			c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version, CipherSuites: suites})
			if err != nil {
				return tls.ConnectionState{}, err
			}
			defer c.Close()
			return c.ConnectionState(), nil
		}
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
			if _, err := shake(version); err == nil {
				t.Errorf("%s: %s is accepted", kind, tls.VersionName(version))
			}
		}
		if s, err := shake(tls.VersionTLS13); err != nil || s.Version != tls.VersionTLS13 {
			t.Errorf("%s: TLS 1.3: %v", kind, err)
		}
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if suite.SupportedVersions[0] == tls.VersionTLS13 {
				continue
			}
			strong := strings.HasPrefix(suite.Name, "TLS_ECDHE_"+kind) && (strings.Contains(suite.Name, "GCM") || strings.Contains(suite.Name, "POLY1305"))
			if s, err := shake(tls.VersionTLS12, suite.ID); (err == nil) != strong || strong && s.CipherSuite != suite.ID {
				t.Errorf("%s: %s: accepted %v, want %v", kind, suite.Name, err == nil, strong)
			}
		}
		b.overTLS(addr)
	}
}

// overTLS checks what is answered over TLS, by HTTP/1.1 and by HTTP/2.
func (b *bench) overTLS(addr string) {
	b.t.Helper()
	for _, two := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: two}
		r, err := (&http.Client{Transport: tr}).Get("https://" + addr + "/api/v1/things?limit=1")
		if err != nil {
			b.t.Fatal(err)
		}
		r.Body.Close()
		tr.CloseIdleConnections()
		if r.StatusCode != 200 || r.ProtoMajor == 2 != two || r.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
			b.t.Errorf("%d %s HSTS %q", r.StatusCode, r.Proto, r.Header.Get("Strict-Transport-Security"))
		}
	}
}
