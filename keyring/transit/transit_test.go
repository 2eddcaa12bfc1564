package transit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
	"github.com/avouch-dev/avouch/tenantdb"
)

func newEngine(t *testing.T) *engine {
	e := &engine{transittest.New(), t}
	t.Cleanup(e.Close)
	return e
}

type engine struct {
	*transittest.Engine
	t *testing.T
}

func (e *engine) wrapper(l Login) *Wrapper {
	e.t.Helper()
	w, err := New(Config{Address: e.URL, Key: "avouch", Login: l, Timeout: time.Second})
	if err != nil {
		e.t.Fatal(err)
	}
	return w
}

var (
	root = Login{Token: secret.Text("s.root")}
	here = keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "key/wrap/1"}
	key  = []byte("0123456789abcdef0123456789abcdef")
)

func wrapped(t *testing.T, w *Wrapper) keyring.Wrapped {
	t.Helper()
	k, err := w.Wrap(t.Context(), secret.Own([]byte(string(key))), here)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func opens(t *testing.T, w *Wrapper, k keyring.Wrapped) {
	t.Helper()
	plain, err := w.Unwrap(t.Context(), k, here)
	if err != nil || string(plain.Expose()) != string(key) {
		t.Errorf("%v", err)
	}
}

// TestContract: the wrapper does what every wrapper does.
func TestContract(t *testing.T) {
	t.Parallel()
	e, other := newEngine(t), newEngine(t)
	other.Mount = "other"
	w := e.wrapper(root)
	second, err := New(Config{Address: other.URL, Mount: "other", Key: "avouch", Login: root, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	permit := func(root bool) func(*testing.T) {
		return func(*testing.T) {
			e.Tokens = map[string]bool{"s.root": root}
		}
	}
	wrappertest.Run(t, wrappertest.Kind{
		Wrapper: w, Other: second, Name: "transit", Rotate: func(*testing.T) { e.Rotate() }, Disable: permit(false), Enable: permit(true),
		Answer: func(status int) { e.Status = status },
		Hang: func(t *testing.T) {
			stop := make(chan struct{})
			e.Hang = stop
			t.Cleanup(func() { close(stop) })
		},
		Secrets: []string{"s.root"},
	})
}

func TestBinding(t *testing.T) {
	t.Parallel()
	w := newEngine(t).wrapper(root)
	k := wrapped(t, w)
	opens(t, w, k)
	other := here
	other.Tenant = tenantdb.NewTenantID()
	item := here
	item.Item = "key/wrap/2"
	for _, b := range []keyring.Binding{other, item, {}} {
		if _, err := w.Unwrap(t.Context(), k, b); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("for %v: %v", b, err)
		}
	}
	for name, change := range map[string]func(*keyring.Wrapped){
		"another key id":  func(k *keyring.Wrapped) { k.KeyID = "transit/transit/other" },
		"another version": func(k *keyring.Wrapped) { k.KeyVersion++ },
		"a changed byte": func(k *keyring.Wrapped) {
			k.Blob = []byte(strings.Replace(string(k.Blob), "vault:v1:", "vault:v1:AAAA", 1))
		},
		"no ciphertext": func(k *keyring.Wrapped) { k.Blob = []byte("x") },
	} {
		bad := k
		change(&bad)
		if _, err := w.Unwrap(t.Context(), bad, here); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := e.wrapper(root)
	old := wrapped(t, w)
	e.Rotate()
	anew := wrapped(t, w)
	if old.KeyVersion != 1 || anew.KeyVersion != 2 {
		t.Errorf("versions %d and %d", old.KeyVersion, anew.KeyVersion)
	}
	opens(t, w, old)
	opens(t, w, anew)
	d, err := w.Describe(t.Context())
	if err != nil || d.Kind != "transit" || d.KeyID != "transit/transit/avouch" || d.Version != 2 || fmt.Sprint(d.Versions) != "[1 2]" {
		t.Errorf("%+v, %v", d, err)
	}
	e.Least = 2
	if _, err := w.Unwrap(t.Context(), old, here); !errors.Is(err, keyring.ErrRefused) || errors.Is(err, keyring.ErrSealed) {
		t.Errorf("below the least version: %v", err)
	}
	if d, err := w.Describe(t.Context()); err != nil || fmt.Sprint(d.Versions) != "[2]" {
		t.Errorf("%+v, %v", d, err)
	}
	e.Kind = "rsa-4096"
	if _, err := w.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), "aes256-gcm96") {
		t.Errorf("a key that binds nothing: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := e.wrapper(Login{Token: secret.Text("s.stranger")})
	if _, err := w.Wrap(t.Context(), secret.Own(key), here); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a stranger's token: %v", err)
	}
	if _, err := w.Describe(t.Context()); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a stranger's token: %v", err)
	}
	for name, c := range map[string]Config{
		"in clear to another machine": {Address: "http://bao.example:8200", Key: "avouch", Login: root}, "no address": {Key: "avouch", Login: root},
		"a password in it": {Address: "https://a:b@bao.example", Key: "avouch", Login: root}, "no key": {Address: "https://bao.example", Login: root},
		"a path for a key": {Address: "https://bao.example", Key: "../sys", Login: root}, "no login": {Address: "https://bao.example", Key: "avouch"},
		"two logins":      {Address: "https://bao.example", Key: "avouch", Login: Login{Token: secret.Text("x"), TokenFile: "y"}},
		"half an AppRole": {Address: "https://bao.example", Key: "avouch", Login: Login{RoleID: "x"}},
		"half a role":     {Address: "https://bao.example", Key: "avouch", Login: Login{JWTFile: "x"}},
		"no authority":    {Address: "https://bao.example", Key: "avouch", Login: root, CAFile: os.DevNull},
	} {
		if _, err := New(c); err == nil {
			t.Error(name)
		}
	}
}

// TestGone: a service that is not there any more is silent.
func TestGone(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := e.wrapper(root)
	k := wrapped(t, w)
	e.Close()
	if _, err := w.Unwrap(t.Context(), k, here); !errors.Is(err, keyring.ErrSilent) {
		t.Errorf("gone: %v", err)
	}
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for name, login := range map[string]Login{
		"AppRole":        {RoleID: "avouch", SecretID: secret.Text("right")},
		"AppRole's file": {RoleID: "avouch", SecretIDFile: secretFile(t, "right")},
		"Kubernetes":     {JWTFile: secretFile(t, "right"), Role: "avouch"},
	} {
		e := newEngine(t)
		w := e.wrapper(login)
		now := time.Now()
		w.tokens.now = func() time.Time { return now }
		k := wrapped(t, w)
		opens(t, w, k)
		if e.Logins != 1 {
			t.Errorf("%s: %d logins", name, e.Logins)
		}
		now = now.Add(41 * time.Minute) // of an hour
		opens(t, w, k)
		if e.Logins != 2 {
			t.Errorf("%s: %d logins after two thirds of the token's life", name, e.Logins)
		}
		e.Tokens = map[string]bool{} // revoked
		opens(t, w, k)
		if e.Logins != 3 {
			t.Errorf("%s: %d logins after the revocation", name, e.Logins)
		}
	}
	file := secretFile(t, "s.root")
	e := newEngine(t)
	w := e.wrapper(Login{TokenFile: file})
	k := wrapped(t, w)
	e.Tokens = map[string]bool{"s.next": true}
	if err := os.WriteFile(file, []byte("s.next"), 0o600); err != nil {
		t.Fatal(err)
	}
	opens(t, w, k)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	w.tokens.drop(secret.Text("s.next"))
	if _, err := w.Unwrap(t.Context(), k, here); err == nil {
		t.Error("a token that others can read")
	}
	if _, err := newEngine(t).wrapper(Login{RoleID: "avouch", SecretID: secret.Text("wrong")}).Wrap(t.Context(), secret.Own(key), here); err == nil {
		t.Error("a wrong secret id")
	}
}

// TestTokenIsNowhereElse: no address, no body and no error holds the token.
func TestTokenIsNowhereElse(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := e.wrapper(root)
	k := wrapped(t, w)
	opens(t, w, k)
	e.Status = 500
	_, failed := w.Unwrap(t.Context(), k, here)
	e.Status, e.Tokens = 0, nil
	_, refused := w.Unwrap(t.Context(), k, here)
	e.Close()
	_, gone := w.Unwrap(t.Context(), k, here)
	for _, text := range append(e.Requests, fmt.Sprint(failed, refused, gone), fmt.Sprintf("%+v %#v", w.cfg, w.tokens)) {
		if strings.Contains(text, "s.root") {
			t.Errorf("it is in %.100q", text)
		}
	}
}

// FuzzAnswers: whatever an engine answers, it is read or refused, and no error holds any of it.
func FuzzAnswers(f *testing.F) {
	f.Add(200, `{"data":{"ciphertext":"vault:v3:AAAA"},"auth":null}`)
	f.Add(200, `{"data":null,"auth":{"client_token":"hvs.secret","lease_duration":3600}}`)
	f.Add(400, `{"errors":["invalid ciphertext: no prefix"]}`)
	f.Add(500, `<html>`)
	f.Fuzz(func(t *testing.T, status int, answer string) {
		var out struct {
			Ciphertext string `json:"ciphertext"`
		}
		err := judge(status, []byte(answer))
		if err == nil {
			err = read([]byte(answer), &out)
		}
		if err == nil {
			v, bad := versionOf(out.Ciphertext)
			if (v == 0) != (bad != nil) || bad == nil && !strings.HasPrefix(out.Ciphertext, "vault:v") {
				t.Errorf("%q is of version %d: %v", out.Ciphertext, v, bad)
			}
		}
		if err != nil && strings.Contains(answer, "secret") && strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	})
}
