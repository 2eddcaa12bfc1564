package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/tenantdb"
)

func platform(t *testing.T, versions ...byte) *keyring.Platform {
	t.Helper()
	var text []string
	for _, v := range versions {
		key := append(bytes.Repeat([]byte{v}, 31), 0)
		text = append(text, fmt.Sprintf("%d:%s", v, base64.StdEncoding.EncodeToString(key)))
	}
	p, err := keyring.ParsePlatform([]byte(strings.Join(text, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const arn, resource = "arn:aws:kms:eu-central-1:123456789012:key/1", "projects/p-1/locations/europe-west6/keyRings/avouch/cryptoKeys/platform"

func TestSettings(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := secret.Text(transittest.Root)
	for name, c := range map[string]struct {
		cfg      Config
		platform bool
		says     string // "" if it opens
	}{
		"nothing":                    {Config{}, true, ""},
		"local":                      {Config{Kind: "local", SigningKeys: true}, true, ""},
		"local without a key":        {Config{Kind: "local"}, false, "AVOUCH_PLATFORM_KEY_FILE"},
		"unknown":                    {Config{Kind: "vault"}, true, "AVOUCH_KMS"},
		"transit":                    {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root, SigningKeys: true}, false, ""},
		"transit and a key":          {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root}, true, ""},
		"transit, keys here":         {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root}, false, "AVOUCH_KMS_SIGNING_KEYS"},
		"transit, leaving":           {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root, SigningKeys: true, Leaving: true}, false, "AVOUCH_KMS_LEAVING"},
		"transit without a key":      {Config{Kind: "transit", Address: e.URL, Token: root, SigningKeys: true}, false, "AVOUCH_KMS_KEY"},
		"transit without an address": {Config{Kind: "transit", Key: "avouch", Token: root, SigningKeys: true}, false, "AVOUCH_KMS_ADDRESS"},
		"transit without a login":    {Config{Kind: "transit", Address: e.URL, Key: "avouch", SigningKeys: true}, false, "token"},
		"awskms":                     {Config{Kind: "awskms", Key: arn, SigningKeys: true}, false, ""},
		"awskms by an alias":         {Config{Kind: "awskms", Key: "alias/avouch", SigningKeys: true}, false, "ARN"},
		"awskms in clear":            {Config{Kind: "awskms", Key: arn, Address: "http://kms.example", SigningKeys: true}, false, "https"},
		"gcpkms in clear":            {Config{Kind: "gcpkms", Key: resource, Address: "http://kms.example", SigningKeys: true}, false, "https"},
		"gcpkms without a key":       {Config{Kind: "gcpkms", Key: "platform", SigningKeys: true}, false, "projects/"},
		"signing keys in it":         {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root, SigningKeys: true, Sign: "kms"}, false, ""},
		"signing keys here":          {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root, SigningKeys: true, Sign: "local"}, false, ""},
		"signing keys in none":       {Config{Kind: "local", SigningKeys: true, Sign: "kms"}, true, "AVOUCH_KMS"},
		"signing keys somewhere":     {Config{Kind: "awskms", Key: arn, SigningKeys: true, Sign: "transit"}, false, "AVOUCH_SIGNING_KEYS"},
		"signing keys on the way":    {Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: root, SigningKeys: true, Sign: "kms", Leaving: true}, true, "AVOUCH_KMS_LEAVING"},
		"pkcs11 without a module":    {Config{Kind: "pkcs11", Key: "platform", TokenLabel: "t", PINFile: pin, SigningKeys: true}, false, "AVOUCH_KMS_MODULE"},
		"pkcs11 without a token":     {Config{Kind: "pkcs11", Key: "platform", Module: "/nowhere.so", PINFile: pin, SigningKeys: true}, false, "AVOUCH_KMS_TOKEN_LABEL"},
		"pkcs11 without a PIN":       {Config{Kind: "pkcs11", Key: "platform", Module: "/nowhere.so", TokenLabel: "t", SigningKeys: true}, false, "AVOUCH_KMS_PIN_FILE"},
		"pkcs11":                     {Config{Kind: "pkcs11", Key: "platform", Module: "/nowhere.so", TokenLabel: "t", PINFile: pin, SigningKeys: true}, false, "pkcs11"},
	} {
		var p *keyring.Platform
		if c.platform {
			p = platform(t, 1)
		}
		w, err := c.cfg.Open(t.Context(), p)
		if err == nil && (w.Held.Make != (c.cfg.Sign == "kms") || (w.Held.Signer == nil) != c.cfg.Local()) {
			t.Errorf("%s: signing keys in %+v", name, w.Held)
		}
		if c.says == "" && (err != nil || w.Store == nil || w.Signing == nil) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForeignSettings: a setting that says nothing to the kind is told of, whichever it is.
func TestForeignSettings(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[Config]()
	tried := 0
	for i := range fields.NumField() {
		f := fields.Field(i)
		if f.Name == "Kind" || f.Name == "SigningKeys" || f.Name == "Timeout" {
			continue
		}
		var c Config
		switch v := reflect.ValueOf(&c).Elem().Field(i).Addr().Interface().(type) {
		case *string:
			*v = "x"
		case *bool:
			*v = true
		case *secret.String:
			*v = secret.Text("x")
		default:
			t.Fatalf("%s is a %T", f.Name, v)
		}
		variable := f.Tag.Get("env")
		if _, err := c.Open(t.Context(), platform(t, 1)); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s with the platform key: %v", variable, err)
		}
		tried++
	}
	if tried < 15 {
		t.Errorf("%d settings were tried", tried)
	}
	for _, c := range []Config{
		{Kind: "awskms", Key: arn, SigningKeys: true, Mount: "x"}, {Kind: "gcpkms", Key: resource, SigningKeys: true, Token: secret.Text("x")},
		{Kind: "transit", Key: "avouch", Address: "https://bao.example", SigningKeys: true, Token: secret.Text("x"), Module: "x"},
	} {
		if _, err := c.Open(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "says nothing to AVOUCH_KMS="+c.Kind) {
			t.Errorf("%s: %v", c.Kind, err)
		}
	}
}

// site is a key store with what wraps it.
type site struct {
	t      *testing.T
	dir    string
	pepper secret.String
	tenant tenantdb.TenantID
	sealed []byte
}

func (s *site) ring(c Config, p *keyring.Platform) (*keyring.Ring, error) {
	w, err := c.Open(s.t.Context(), p)
	if err != nil {
		s.t.Fatal(err)
	}
	return keyring.New(s.t.Context(), keyring.Config{Dir: s.dir, Platform: p, Wrapper: w.Store, Pepper: s.pepper})
}

// opens holds that all that was sealed opens, after a rewrapping too if rewrap says so, and what is needed then.
func (s *site) opens(what string, c Config, p *keyring.Platform, rewrap bool, needs string) {
	s.t.Helper()
	r, err := s.ring(c, p)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	if rewrap {
		if _, err := r.Rewrap(s.t.Context(), nil); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
	r.ForgetTenant(s.tenant)
	if b, err := r.Open(s.t.Context(), s.tenant, "item", "f", 1, s.sealed); err != nil || string(b) != "sealed" {
		s.t.Errorf("%s: %v", what, err)
	}
	needed, err := r.Needed(s.t.Context())
	if err != nil || len(needed) != 1 {
		s.t.Errorf("%s: %v, %v", what, needed, err)
	}
	for w := range needed {
		if got := fmt.Sprintf("%s %d", w.KeyID, w.Version); got != needs {
			s.t.Errorf("%s: needs %s, not %s", what, got, needs)
		}
	}
}

// TestMove: from the platform key to a KMS, a rotation there, and back, with everything readable at each step.
func TestMove(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	one := platform(t, 1)
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "keystore"), pepper: secret.Text(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))), tenant: tenantdb.NewTenantID()}
	local := Config{}
	far := Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true}
	leaving := far
	leaving.Leaving = true
	w, err := local.Open(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.CreateStore(t.Context(), s.dir, w.Store); err != nil {
		t.Fatal(err)
	}
	r, err := s.ring(local, one)
	if err == nil {
		err = r.CreateTenant(context.Background(), s.tenant)
	}
	if err == nil {
		s.sealed, err = r.Seal(t.Context(), s.tenant, "item", "f", 1, []byte("sealed"))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.opens("with the platform key", local, one, false, "platform/keystore 1")
	s.opens("with the KMS beside it", far, one, false, "platform/keystore 1")
	if _, err := s.ring(far, nil); !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("with the KMS alone, too early: %v", err)
	}
	s.opens("moved to the KMS", far, one, true, "transit/transit/avouch 1")
	s.opens("with the KMS alone", far, nil, false, "transit/transit/avouch 1")
	if _, err := s.ring(local, one); !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("with the platform key alone: %v", err)
	}
	e.Rotate()
	s.opens("rotated there", far, nil, false, "transit/transit/avouch 1")
	s.opens("and wrapped anew", far, nil, true, "transit/transit/avouch 2")
	two := platform(t, 2)
	s.opens("leaving", leaving, two, false, "transit/transit/avouch 2")
	s.opens("left", leaving, two, true, "platform/keystore 2")
	e.Close()
	s.opens("without the KMS", local, two, false, "platform/keystore 2")
}

// TestSigningKeys: they are wrapped by the KMS or not, as is said, and open either way.
func TestSigningKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg            Config
		store, signing string
	}{
		{Config{}, "platform/keystore", "platform/signing"},
		{Config{Kind: "awskms", Key: arn, SigningKeys: true}, "awskms/" + arn + " platform/keystore", "awskms/" + arn + " platform/signing"},
		{Config{Kind: "awskms", Key: arn}, "awskms/" + arn + " platform/keystore", "platform/signing awskms/" + arn},
		{Config{Kind: "awskms", Key: arn, SigningKeys: true, Leaving: true}, "platform/keystore awskms/" + arn, "platform/signing awskms/" + arn},
	} {
		w, err := c.cfg.Open(t.Context(), platform(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		if store, signing := strings.Join(w.Store.KeyIDs(), " "), strings.Join(w.Signing.KeyIDs(), " "); store != c.store || signing != c.signing {
			t.Errorf("%+v: %s; %s", c.cfg, store, signing)
		}
	}
}

// TestSecretsFromFiles: a PIN's file is for its owner alone, and a printed configuration shows none of its secrets.
func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pin, err := (&Config{PINFile: file}).pin(); err != nil || pin.Expose() != "4711" {
		t.Errorf("%q, %v", pin.Expose(), err)
	}
	if _, err := (&Config{PINFile: file, PIN: secret.Text("x")}).pin(); err == nil {
		t.Error("two PINs")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Config{PINFile: file}).pin(); err == nil {
		t.Error("a PIN that others can read")
	}
	c := Config{Token: secret.Text("s.hunter2"), SecretID: secret.Text("s.hunter2"), PIN: secret.Text("s.hunter2")}
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, "hunter2") {
		t.Error(s)
	}
}
