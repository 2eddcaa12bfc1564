package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates of one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool(), file: filepath.Join(t.TempDir(), "ca.pem")}
	a.pool.AddCert(cert)
	must(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// issue writes a certificate for 127.0.0.1 and its key into two files.
func (a *authority) issue(t testing.TB, serial int64, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.cert, &key.PublicKey, a.key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

func serialOf(t testing.TB, addr string, pool *x509.CertPool, cfg *tls.Config) (int64, uint16, error) {
	t.Helper()
	cfg.RootCAs = pool
	c, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	state := c.ConnectionState()
	return state.PeerCertificates[0].SerialNumber.Int64(), state.Version, nil
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s, ca, dir := newSite(t), newAuthority(t), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.issue(t, 1, cert, key)
	n := s.start(t, func(c *Config) { c.TLSCertFile, c.TLSKeyFile = cert, key })
	n.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: ca.pool}
	n.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	acme := n.organisation(t, "Acme")
	a := n.get(t, "/api/v1/organisation", acme.key).want(t, http.StatusOK)
	if got := a.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("HSTS is %q", got)
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, got, err := serialOf(t, n.addr, ca.pool, &tls.Config{MinVersion: version, MaxVersion: version})
		if (err == nil) != ok || ok && got != version {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	if _, _, err := serialOf(t, n.addr, ca.pool, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}); err == nil {
		t.Error("a suite without forward secrecy or authenticated encryption was taken")
	}
	r, err := http.Get("http://" + n.addr + "/api/v1/organisation")
	if must(t, err); r.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP on the TLS listener is %d", r.StatusCode)
	}
	r.Body.Close()
}

// A renewed certificate is served without a restart, and half a renewal serves the old one.
func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	s, ca, dir := newSite(t), newAuthority(t), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.issue(t, 1, cert, key)
	n := s.start(t, func(c *Config) { c.TLSCertFile, c.TLSKeyFile = cert, key })
	served := func(want int64) {
		t.Helper()
		n.cert.mu.Lock()
		n.cert.looked = time.Now().Add(-time.Minute) // as if the last look were long ago
		n.cert.mu.Unlock()
		if got, _, err := serialOf(t, n.addr, ca.pool, &tls.Config{}); err != nil || got != want {
			t.Errorf("certificate %d is served (%v), want %d", got, err, want)
		}
	}
	later := func(file string, by time.Duration) { must(t, os.Chtimes(file, time.Time{}, time.Now().Add(by))) }
	served(1)
	old, err := os.ReadFile(key)
	must(t, err)
	ca.issue(t, 2, cert, key)
	renewed, err := os.ReadFile(key)
	must(t, err)
	later(cert, time.Second)
	must(t, os.WriteFile(key, old, 0o600))
	served(1) // the new certificate is there, its key is not yet
	must(t, os.WriteFile(key, renewed, 0o600))
	served(2)
	must(t, os.Remove(cert))
	served(2)
	ca.issue(t, 3, cert, key)
	later(cert, 2*time.Second)
	served(3)
	must(t, os.WriteFile(cert, []byte("no certificate"), 0o600))
	later(cert, 3*time.Second)
	served(3)
}

// A server that is known by https and reached in the clear, as behind a proxy that forgot: nothing is served.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.issuer = "https://avouch.example"
	n := s.start(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	for _, path := range []string{"/.well-known/avouch.json", "/docs", "/api/v1/scopes"} {
		a := n.get(t, path, "").want(t, http.StatusPermanentRedirect)
		if got := a.Header.Get("Location"); got != s.issuer+path || a.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s leads to %q: %v", path, got, a.Header)
		}
	}
	n.call(t, ask{Method: "POST", Path: "/api/v1/organisations", Body: map[string]any{"name": "A"}}).want(t, http.StatusBadRequest)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		n.get(t, path, "").want(t, http.StatusOK) // a load balancer and a collector ask in the clear
	}
	secure := map[string]string{"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
	a := n.call(t, ask{Method: "GET", Path: "/.well-known/avouch.json", Header: secure}).want(t, http.StatusOK)
	if !strings.HasPrefix(a.Header.Get("Strict-Transport-Security"), "max-age=") {
		t.Error("no HSTS over a proxy's TLS")
	}
}
