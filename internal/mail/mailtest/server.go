// Package mailtest is a small real SMTP server on loopback, which keeps what it is given, for tests.
package mailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Received is a message as it came over the wire.
type Received struct {
	From, To  string // as MAIL and RCPT had them
	Data      string
	Encrypted bool
	User      string // as AUTH had it: "PLAIN " and base64
}

// Text is what a message says to somebody who reads it in plain text, and its subject; empty if it is no such message.
func (r Received) Text() (subject, text string) {
	m, err := netmail.ReadMessage(strings.NewReader(r.Data))
	if err != nil {
		return "", ""
	}
	subject, _ = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")) // one that cannot be read is as good as none
	_, params, _ := mime.ParseMediaType(m.Header.Get("Content-Type"))
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := parts.NextPart() // which decodes quoted-printable
		if err != nil {
			return subject, ""
		}
		if strings.HasPrefix(p.Header.Get("Content-Type"), "text/plain") {
			b, _ := io.ReadAll(p)
			return subject, strings.ReplaceAll(string(b), "\r\n", "\n")
		}
	}
}

// Server is a server. What it does is set before Start.
type Server struct {
	StartTLS bool
	Implicit bool // TLS from the first byte
	Auth     bool
	Silent   bool   // it takes connections and says nothing
	Refuse   string // the answer to RCPT, if it is not 250

	Address string // host:port, after Start
	CAFile  string // a file with its certificate, after Start

	tls      *tls.Config
	mu       sync.Mutex
	all      []Received
	commands []string
}

// Start makes it listen, until the test ends.
func (s *Server) Start(t testing.TB) *Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	must(t, err)
	s.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(s.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	s.Address = s.Listen(t, "127.0.0.1:0")
	return s
}

// Listen makes it reachable at one more address, which its certificate may not name, and returns it with its port.
func (s *Server) Listen(t testing.TB, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { s.serve(conn) })
		}
	})
	return l.Addr().String()
}

// Received are the messages so far.
func (s *Server) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Received(nil), s.all...)
}

// Heard is every line of command so far.
func (s *Server) Heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.commands, "\n")
}

// talk is one connection.
type talk struct {
	*Server
	conn net.Conn
	in   *bufio.Reader
	m    Received
}

func (s *Server) serve(conn net.Conn) {
	t := &talk{Server: s, conn: conn}
	defer func() { t.conn.Close() }()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if s.Silent {
		conn.Read(make([]byte, 1)) // until the client gives up
		return
	}
	if s.Implicit {
		t.conn, t.m.Encrypted = tls.Server(conn, s.tls), true
	}
	t.in = bufio.NewReader(t.conn)
	t.say("220 test ESMTP")
	for {
		line, err := t.in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
		verb, rest, _ := strings.Cut(line, " ")
		if !t.obey(strings.ToUpper(verb), rest) {
			return
		}
	}
}

func (t *talk) say(line string) { t.conn.Write([]byte(line + "\r\n")) }

// obey does a command, and reports whether to go on.
func (t *talk) obey(verb, rest string) bool {
	switch verb {
	case "EHLO":
		t.say("250-test")
		if t.StartTLS && !t.m.Encrypted {
			t.say("250-STARTTLS")
		}
		if t.Auth {
			t.say("250-AUTH PLAIN")
		}
		t.say("250 8BITMIME")
	case "STARTTLS":
		t.say("220 go on")
		secure := tls.Server(t.conn, t.tls)
		if secure.Handshake() != nil {
			return false
		}
		t.conn, t.in = secure, bufio.NewReader(secure)
		t.m.Encrypted = true
	case "AUTH":
		t.m.User = rest
		t.say("235 welcome")
	case "MAIL":
		t.m.From = rest
		t.say("250 ok")
	case "RCPT":
		if t.Refuse != "" {
			t.say(t.Refuse)
			return true
		}
		t.m.To = rest
		t.say("250 ok")
	case "DATA":
		return t.data()
	case "QUIT":
		t.say("221 bye")
		return false
	default: // RSET, NOOP
		t.say("250 ok")
	}
	return true
}

func (t *talk) data() bool {
	t.say("354 go on")
	var data strings.Builder
	for {
		line, err := t.in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		data.WriteString(strings.TrimPrefix(line, "."))
	}
	t.m.Data = data.String()
	t.mu.Lock()
	t.all = append(t.all, t.m)
	t.mu.Unlock()
	t.say("250 taken")
	return true
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
