package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	for text, newest := range map[string]uint32{
		firstPlatformKey:                              1,
		"1:" + firstPlatformKey + "\n":                1,
		firstPlatformKey + "," + secondPlatformKey:    2,
		secondPlatformKey + "\r\n" + firstPlatformKey: 2,
		" 7:" + firstPlatformKey + " \n\n":            7,
	} {
		if p, err := ParsePlatform([]byte(text)); err != nil || p.newest != newest {
			t.Errorf("%q: %v", text, err)
		}
	}
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	for _, text := range []string{
		"", "\n", "x", short, firstPlatformKey[:43], firstPlatformKey + "=", "0:" + firstPlatformKey, "01:" + firstPlatformKey,
		"65536:" + firstPlatformKey, "-1:" + firstPlatformKey, ":" + firstPlatformKey, firstPlatformKey + "," + firstPlatformKey,
		base64.StdEncoding.EncodeToString(make([]byte, 32)), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", strings.Repeat("x", 1<<17),
	} {
		p, err := ParsePlatform([]byte(text))
		if err == nil {
			t.Errorf("%.60q is accepted: %d", text, p.newest)
			continue
		}
		holdsNoKey(t, "an error", err.Error())
	}
}

func FuzzParsePlatform(f *testing.F) {
	for _, s := range []string{firstPlatformKey, secondPlatformKey, firstPlatformKey + "," + secondPlatformKey, "1:\n", "9:AA=="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePlatform(text)
		if err != nil {
			return
		}
		if len(p.versions[p.newest].Expose()) != keySize {
			t.Errorf("the newest version of %q has no key", text)
		}
		for v, key := range p.versions {
			if !bytes.Contains(text, base64.StdEncoding.AppendEncode(nil, key.Expose())) || v > p.newest {
				t.Errorf("version %d is not in %q", v, text)
			}
		}
	})
}

func TestPlatformKeyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys", "platform.key")
	if made, err := CreatePlatformKeyFile(file); err != nil || !made {
		t.Fatalf("made %v: %v", made, err)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := CreatePlatformKeyFile(file); err != nil || made {
		t.Errorf("a second call made %v: %v", made, err)
	}
	if again, _ := os.ReadFile(file); !bytes.Equal(first, again) {
		t.Error("a second call changed the file")
	}
	if names, _ := os.ReadDir(filepath.Dir(file)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	if _, err := LoadPlatform(secret.String{}, file); err != nil {
		t.Error(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o610, 0o602} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPlatform(secret.String{}, file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := LoadPlatform(ownSecret(firstPlatformKey), "/nonexistent"); err != nil {
		t.Errorf("the environment is not enough: %v", err)
	}
	for _, bad := range []string{filepath.Dir(file), file + "x"} {
		if _, err := LoadPlatform(secret.String{}, bad); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func platformChild(file string) int {
	if _, err := CreatePlatformKeyFile(file); err != nil {
		return 1
	}
	return 0
}

func TestPlatformKeyFileByManyProcesses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "platform.key")
	var running []*exec.Cmd
	for range 6 {
		c := exec.Command(os.Args[0], file)
		c.Env = append(os.Environ(), child+"=platform")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, c)
	}
	for _, c := range running {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	if _, err := LoadPlatform(secret.String{}, file); err != nil {
		t.Error(err)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	ctx, w := context.Background(), mustWrapper(t, mustPlatform(t, firstPlatformKey), "test")
	key, b := newKey(), Binding{tenantdb.NewTenantID(), "key/wrap/1"}
	wrapped, err := w.Wrap(ctx, key, b)
	if err != nil {
		t.Fatal(err)
	}
	eachByteMatters(t, wrapped.append(nil), func(bytes []byte) error {
		x, rest, err := readWrapped(bytes)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return ErrFormat
		}
		opened, err := w.Unwrap(ctx, x, b)
		if err == nil && !opened.Equal(key) {
			t.Error("unwraps to another key")
		}
		return err
	})
	other := wrapped
	other.KeyVersion = 2
	elsewhere := map[string]error{}
	_, elsewhere["another item"] = w.Unwrap(ctx, wrapped, Binding{b.Tenant, "key/wrap/2"})
	_, elsewhere["another tenant"] = w.Unwrap(ctx, wrapped, Binding{tenantdb.NewTenantID(), b.Item})
	_, elsewhere["another key version"] = w.Unwrap(ctx, other, b)
	_, elsewhere["another use"] = mustWrapper(t, mustPlatform(t, firstPlatformKey), "test2").Unwrap(ctx, wrapped, b)
	_, elsewhere["another platform key"] = mustWrapper(t, mustPlatform(t, "1:"+secondPlatformKey[2:]), "test").Unwrap(ctx, wrapped, b)
	for what, err := range elsewhere {
		if !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPlatformVersions(t *testing.T) {
	t.Parallel()
	ctx, b, key := context.Background(), Binding{tenantdb.NewTenantID(), "x"}, newKey()
	one := mustWrapper(t, mustPlatform(t, firstPlatformKey), "test")
	both := mustWrapper(t, mustPlatform(t, firstPlatformKey+","+secondPlatformKey), "test")
	old, _ := one.Wrap(ctx, key, b)
	if got, err := both.Unwrap(ctx, old, b); err != nil || !got.Equal(key) {
		t.Errorf("the older version does not unwrap: %v", err)
	}
	fresh, _ := both.Wrap(ctx, key, b)
	if fresh.KeyVersion != 2 || old.KeyVersion != 1 {
		t.Errorf("wrapped under %d, before under %d", fresh.KeyVersion, old.KeyVersion)
	}
	if _, err := one.Unwrap(ctx, fresh, b); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a version that is not there: %v", err)
	}
	d, err := both.Describe(ctx)
	if want := (Description{Kind: "local", KeyID: "platform/test", Version: 2, Versions: []uint32{1, 2}}); err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("Describe = %+v, %v", d, err)
	}
}

func FuzzReadWrapped(f *testing.F) {
	f.Add(Wrapped{"wrap", 1, []byte("blob")}.append(nil))
	f.Add([]byte(wrappedMagic))
	f.Add([]byte("W\x01\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, rest, err := readWrapped(b)
		if err == nil && !bytes.Equal(append(w.append(nil), rest...), b) {
			t.Errorf("%x reads as %+v and %x", b, w, rest)
		}
	})
}
