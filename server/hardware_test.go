package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestHardwareKeys: makers and models that cannot be read keep a server from starting, rather than counting less than was meant.
func TestHardwareKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, b, 0o600))
		return file
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	maker := write("maker.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	const model = "2fc0579f-8113-47ea-b116-bb5a8db9202a"
	for what, c := range map[string]struct {
		file   string
		models []string
		ok     bool
	}{
		"nothing": {"", nil, true}, "a maker": {maker, nil, true}, "a maker's model": {maker, []string{model}, true},
		"a model of no maker": {"", []string{model}, false}, "no file": {filepath.Join(dir, "none"), nil, false},
		"no certificate": {write("empty.pem", []byte("nothing")), nil, false}, "no model": {maker, []string{"YubiKey"}, false},
	} {
		s := &Server{cfg: Config{HardwareRootsFile: c.file, HardwareModels: c.models}}
		roots, models, err := s.hardware()
		if (err == nil) != c.ok || err == nil && ((roots != nil) != (c.file != "") || len(models) != len(c.models)) {
			t.Errorf("%s: %v, %d models, %v", what, roots != nil, len(models), err)
		}
	}
	if _, _, err := (&Server{cfg: Config{HardwareRootsFile: filepath.Join(dir, "none")}}).hardware(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
