package web

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Limits bound what a client may take of the server's time and memory. A zero field is the default.
type Limits struct {
	Header   time.Duration // to send the header: 5 s
	Read     time.Duration // to send the whole request: 30 s
	Write    time.Duration // from the end of the header to the end of the answer: 60 s; more than any operation's limit
	Idle     time.Duration // between requests: 120 s
	MaxBytes int           // of the header: 32 KiB. From 16 KiB on the answer is a problem document, from here on a bare 431
}

// Server makes the server that h runs in. Handshakes take secure, which may be nil: then the listener is plain.
func Server(h http.Handler, log *slog.Logger, secure *tls.Config, l Limits) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: or(l.Header, 5*time.Second),
		ReadTimeout:       or(l.Read, 30*time.Second),
		WriteTimeout:      or(l.Write, 60*time.Second),
		IdleTimeout:       or(l.Idle, 120*time.Second),
		MaxHeaderBytes:    or(l.MaxBytes, 32<<10),
		TLSConfig:         secure,
		// OPTIONS * is answered by the API like everything else, not by net/http.
		DisableGeneralOptionsHandler: true,
		// What net/http has to say is about connections, such as failed handshakes: it never holds a request.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// TLS is the configuration of our listeners: TLS 1.3 with Go's suites, which cannot be chosen, and TLS 1.2 with forward
// secrecy and authenticated encryption only. The certificate is asked for at each handshake, so that a renewed one is
// used without a restart.
func TLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificate,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
}
