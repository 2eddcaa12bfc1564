//go:build pkcs11

package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
	"github.com/avouch-dev/avouch/tenantdb"
)

const pin = "4711-of-the-user"

var here = keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "key/wrap/1"}

// module is SoftHSM's library.
func module(t testing.TB) string {
	t.Helper()
	for _, file := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so"} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("SoftHSM is not there: scripts/setup-softhsm.sh installs it")
	}
	t.Skip("skipped: SoftHSM is not there: scripts/setup-softhsm.sh installs it")
	return ""
}

// TestMain gives SoftHSM a directory of its own: it reads its configuration once in a process.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "avouch-softhsm-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		conf := filepath.Join(dir, "softhsm2.conf")
		err = errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600),
			os.Setenv("SOFTHSM2_CONF", conf))
		for _, label := range tokens() {
			if out, e := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "0815-of-the-officer").CombinedOutput(); e != nil && !errors.Is(e, exec.ErrNotFound) {
				err = errors.Join(err, fmt.Errorf("%w: %s", e, out))
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// tokens are made before the module is opened: it sees no others.
func tokens() []string { return []string{"contract", "leaving", "locked", "gone", "signing"} }

// opening is held while a module is: the standard lets one thread begin with it at a time, and a program does so once.
var opening sync.Mutex

func opened(c Config) (keyring.Named, error) {
	opening.Lock()
	defer opening.Unlock()
	return New(c)
}

// unique is a label that no run before has used: tokens stay as long as the process.
func unique(label string) string { return label + " " + tenantdb.NewTenantID().String() }

// maker makes and changes keys, as a token's officer does with the tools of its maker.
type maker struct {
	t testing.TB
	s session
}

func newMaker(t testing.TB, label string) *maker {
	t.Helper()
	w, err := opened(Config{Module: module(t), Token: label, Key: "none", PIN: secret.Text(pin)})
	if err != nil {
		t.Fatal(err)
	}
	k := w.(*Wrapper).token
	slot, err := k.slot()
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.ctx.Login(s, pkcs11.CKU_USER, pin); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		t.Fatal(err)
	}
	return &maker{t, session{k.ctx, s}}
}

func (m *maker) make(label string, id []byte, extractable bool) pkcs11.ObjectHandle {
	m.t.Helper()
	h, err := m.s.ctx.GenerateKey(m.s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, extractable),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

func (m *maker) rename(keys []version, label string) {
	m.t.Helper()
	for _, k := range keys {
		if err := m.s.ctx.SetAttributeValue(m.s.handle, k.handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}); err != nil {
			m.t.Fatal(err)
		}
	}
}

func newWrapper(t testing.TB, token, label string) *Wrapper {
	t.Helper()
	w, err := opened(Config{Module: module(t), Token: token, Key: label, PIN: secret.Text(pin), Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return w.(*Wrapper)
}

// TestContract: the wrapper does what every wrapper does.
func TestContract(t *testing.T) {
	t.Parallel()
	m := newMaker(t, "contract")
	platform, second := unique("platform"), unique("other")
	m.make(platform, []byte{1}, false)
	m.make(second, []byte{1}, false)
	w, other := newWrapper(t, "contract", platform), newWrapper(t, "contract", second)
	var away []version
	wrappertest.Run(t, wrappertest.Kind{
		Wrapper: w, Other: other, Name: "pkcs11",
		Rotate: func(t *testing.T) { m.make(platform, []byte{1, 2}, false) },
		Disable: func(t *testing.T) {
			var err error
			if away, err = m.s.keys(platform); err != nil {
				t.Fatal(err)
			}
			m.rename(away, "away")
		},
		Enable: func(*testing.T) { m.rename(away, platform) },
		Hang: func(*testing.T) {
			for range sessions { // all are at work, and come to no end
				<-w.token.free
			}
		},
		Secrets: []string{pin},
	})
	if d, err := other.Describe(t.Context()); err != nil || d.Version != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestKeysThatCanLeave: such a key, and one that has no version, are refused whatever else there is.
func TestKeysThatCanLeave(t *testing.T) {
	t.Parallel()
	m := newMaker(t, "leaving")
	m.make("extractable", []byte{1}, false)
	m.make("extractable", []byte{2}, true)
	m.make("unnumbered", nil, false)
	m.make("zero", []byte{0}, false)
	m.make("long", []byte("20261123"), false)
	m.make("twice", []byte{1}, false)
	m.make("twice", []byte{0, 1}, false)
	for _, label := range []string{"extractable", "unnumbered", "zero", "long", "twice", "nobody's"} {
		w := newWrapper(t, "leaving", label)
		_, err := w.Wrap(t.Context(), secret.Own([]byte("key")), here)
		if _, told := w.Describe(t.Context()); !errors.Is(err, keyring.ErrRefused) || !errors.Is(told, keyring.ErrRefused) {
			t.Errorf("%s: %v, %v", label, err, told)
		}
	}
	for _, c := range []Config{{}, {Module: module(t), Token: "nowhere", Key: "x"}, {Module: "/nowhere.so", Token: "leaving", Key: "x"}} {
		if _, err := opened(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// TestRefusedPIN: a wrong PIN is sent to the token once.
func TestRefusedPIN(t *testing.T) {
	t.Parallel()
	w, err := opened(Config{Module: module(t), Token: "locked", Key: "platform", PIN: secret.Text("guessed")})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // more than any token allows
		_, err = w.Describe(t.Context())
		if !errors.Is(err, keyring.ErrRefused) || bytes.Contains(fmt.Append(nil, err), []byte("guessed")) {
			t.Fatal(err)
		}
	}
	slot, err := w.(*Wrapper).token.slot()
	if err != nil {
		t.Fatal(err)
	}
	info, err := w.(*Wrapper).token.ctx.GetTokenInfo(slot)
	if err != nil || info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0 {
		t.Errorf("the token is locked: %v", err)
	}
	m := newMaker(t, "locked")
	platform := unique("platform")
	m.make(platform, []byte{1}, false)
	if _, err := newWrapper(t, "locked", platform).Describe(t.Context()); err != nil {
		t.Errorf("with the right one: %v", err)
	}
}

// TestTokenGone: sessions that the token has ended are begun anew, and a caller who is gone keeps none.
func TestTokenGone(t *testing.T) {
	t.Parallel()
	m := newMaker(t, "gone")
	platform := unique("platform")
	m.make(platform, []byte{1}, false)
	w := newWrapper(t, "gone", platform)
	k, err := w.Wrap(t.Context(), secret.Own([]byte("key")), here)
	if err != nil {
		t.Fatal(err)
	}
	slot, err := w.token.slot()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.token.ctx.CloseAllSessions(slot); err != nil { // as a token does that is taken out
		t.Fatal(err)
	}
	again := false
	for range sessions + 1 {
		got, err := w.Unwrap(t.Context(), k, here)
		again = again || err == nil && string(got.Expose()) == "key"
		if err != nil && !errors.Is(err, keyring.ErrSilent) {
			t.Errorf("with a session that has ended: %v", err)
		}
	}
	if !again {
		t.Error("no session was begun anew")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 * sessions {
		if _, err := w.Unwrap(over, k, here); !errors.Is(err, context.Canceled) {
			t.Errorf("for a caller who is gone: %v", err)
		}
	}
	if _, err := w.Unwrap(t.Context(), k, here); err != nil {
		t.Error(err)
	}
}
