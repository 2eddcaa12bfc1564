package tenantdb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	randv2 "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/pgtest"
)

// authority is a CA of the test's own.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
	dir  string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.key, a.cert = certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	a.file = filepath.Join(a.dir, "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func certify(t *testing.T, template *x509.Certificate, by *authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(randv2.Int64())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{key: key, cert: template}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// pair makes a key and a certificate, as files.
func (a *authority) pair(t *testing.T, commonName string, addresses ...net.IP) (certFile, keyFile string) {
	t.Helper()
	key, cert := certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: commonName}, IPAddresses: addresses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(a.dir, fmt.Sprint(cert.SerialNumber))
	writePEM(t, base+".pem", "CERTIFICATE", cert.Raw)
	writePEM(t, base+".key", "PRIVATE KEY", der)
	return base + ".pem", base + ".key"
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secured is a real PostgreSQL that takes avouch_server by certificate alone, over TLS, at an address of its own.
type secured struct {
	ca      *authority
	address net.IP
	data    string
	admin   *pgx.Conn
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	dir := t.TempDir()
	s := &secured{
		ca: newAuthority(t, "ours"), data: filepath.Join(dir, "data"),
		// All of 127/8 is this machine, and the port is always the same.
		address: net.IPv4(127, byte(1+randv2.IntN(250)), byte(randv2.IntN(250)), byte(2+randv2.IntN(250))),
	}
	c := pgtest.Private(t, devpg.Config{
		Dir: dir, Settings: map[string]string{"listen_addresses": s.address.String()},
		HBA: []string{"hostssl all avouch_server 127.0.0.0/8 cert", "hostnossl all all all reject"},
	})
	if err := CreateDatabase(t.Context(), c.URL(devpg.Superuser, "postgres"), "avouch"); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), c.URL(devpg.Superuser, "avouch")); err != nil {
		t.Fatal(err)
	}
	s.admin = connect(t, c.URL(devpg.Superuser, "avouch"))
	install(t, s.data, s.ca, s.address)
	for _, setting := range []string{"ssl_ca_file = 'root.crt'", "ssl = on"} {
		if _, err := s.admin.Exec(t.Context(), "ALTER SYSTEM SET "+setting); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// reload lets the server read its files again, and waits until check says that it has.
func (s *secured) reload(t *testing.T, check func() bool) {
	t.Helper()
	if _, err := s.admin.Exec(t.Context(), `SELECT pg_reload_conf()`); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !check(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server has not taken its new settings")
		}
	}
}

// url is what AVOUCH_DATABASE_URL would be.
func (s *secured) url(mode, rootFile, certFile, keyFile string) string {
	q := url.Values{"connect_timeout": {"5"}, "sslmode": {mode}}
	for name, value := range map[string]string{"sslrootcert": rootFile, "sslcert": certFile, "sslkey": keyFile} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "postgres://avouch_server@" + net.JoinHostPort(s.address.String(), "5432") + "/avouch?" + q.Encode()
}

// attempt is what a server that starts with the URL is told.
func attempt(t *testing.T, url string) error {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: url, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler), Connections: 1})
	if err == nil {
		db.Close()
	}
	return err
}

// refused is what a server that starts with the URL is told in the end. In TLS 1.3 a client that is refused for its
// certificate may write its first message before it reads why, and then finds the connection closed.
func refused(t *testing.T, url string) error {
	t.Helper()
	for range 100 {
		if err := attempt(t, url); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	return errors.New("no reason is given in 100 attempts")
}

// install gives the cluster its certificate. The server may run as another user than the test, who must own its key.
func install(t *testing.T, data string, ca *authority, address net.IP) {
	t.Helper()
	cert, key := ca.pair(t, "postgres", address)
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"server.crt": cert, "server.key": key, "root.crt": ca.file} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(data, name)
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			if err := os.Chown(to, int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Servers reach the database over TLS that names both ends, by what AVOUCH_DATABASE_URL says (docs/operations.md).
func TestMutualTLSToPostgres(t *testing.T) {
	t.Parallel()
	s, theirs := newSecured(t), newAuthority(t, "theirs")
	namesake := newAuthority(t, "ours") // Go offers no certificate of a CA that the server does not name
	cert, key := s.ca.pair(t, "avouch_server")
	good := s.url("verify-full", s.ca.file, cert, key)
	s.reload(t, func() bool { return attempt(t, good) == nil })
	db := open(t, good)
	if _, err := db.Record(t.Context(), newTenant(t, db, "A"), audit.Event{Type: "test.secure"}); err != nil {
		t.Fatal(err)
	}
	var plain, secure int
	if err := s.admin.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE NOT s.ssl), count(*) FILTER (WHERE s.ssl AND s.client_dn = '/CN=avouch_server')
		FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.usename = 'avouch_server'`).Scan(&plain, &secure); err != nil || plain != 0 || secure < 2 {
		t.Errorf("%d connections without TLS, %d with the certificate: %v", plain, secure, err)
	}
	otherCert, otherKey := theirs.pair(t, "avouch_server")
	fakeCert, fakeKey := namesake.pair(t, "avouch_server")
	ownerCert, ownerKey := s.ca.pair(t, "avouch_owner")
	for _, bad := range []struct{ what, url, says string }{
		{"no certificate", s.url("verify-full", s.ca.file, "", ""), "certificate"},
		{"a certificate of another CA", s.url("verify-full", s.ca.file, otherCert, otherKey), "certificate"},
		{"a certificate of a CA that calls itself ours", s.url("verify-full", s.ca.file, fakeCert, fakeKey), "tls: "},
		{"a certificate of another role", s.url("verify-full", s.ca.file, ownerCert, ownerKey), "certificate authentication failed"},
		{"a server of another CA", s.url("verify-full", theirs.file, cert, key), "unknown authority"},
		{"no TLS", s.url("disable", "", "", ""), "no encryption"},
	} {
		if err := refused(t, bad.url); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v, want a refusal that says %q", bad.what, err, bad.says)
		}
	}
	// The server's certificate is of our CA, for another host: only verify-full looks at the name.
	install(t, s.data, s.ca, net.IPv4(127, 0, 0, 1))
	s.reload(t, func() bool {
		err := attempt(t, good)
		return err != nil && strings.Contains(err.Error(), "x509: certificate is valid for 127.0.0.1, not "+s.address.String())
	})
	if err := attempt(t, s.url("verify-ca", s.ca.file, cert, key)); err != nil {
		t.Errorf("verify-ca: %v", err)
	}
}
