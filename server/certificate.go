package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificate reads its files again when they have changed, so that a renewed one is served without a restart.
type certificate struct {
	certFile, keyFile string
	mu                sync.Mutex
	looked, changed   time.Time
	now               *tls.Certificate
}

func newCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("AVOUCH_TLS_CERT_FILE and AVOUCH_TLS_KEY_FILE: %w", err)
	}
	info, err := os.Stat(c.certFile)
	if err != nil {
		return fmt.Errorf("AVOUCH_TLS_CERT_FILE: %w", err)
	}
	c.now, c.changed, c.looked = &pair, info.ModTime(), time.Now()
	return nil
}

// get is the present certificate. A pair that does not fit, as halfway through a renewal, leaves the old one.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) > 10*time.Second {
		c.looked = time.Now()
		if info, err := os.Stat(c.certFile); err == nil && !info.ModTime().Equal(c.changed) {
			now, changed := c.now, c.changed
			if c.load() != nil {
				c.now, c.changed = now, changed
			}
		}
	}
	return c.now, nil
}
