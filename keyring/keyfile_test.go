package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
)

// TestAddPlatformKey: each new version stands beside those before, whoever makes one at the same time, and the file stays its owner's.
func TestAddPlatformKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "platform.key")
	if _, err := AddPlatformKey(t.Context(), file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(file, []byte(firstPlatformKey), 0o600); err != nil { // without a version, and without an end of its line
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := AddPlatformKey(t.Context(), file); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text, err := secret.ReadFile(file, maxPlatformText)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePlatform(text)
	if err != nil || p.newest != 9 || len(p.versions) != 9 || !bytes.HasPrefix(text, []byte(firstPlatformKey)) {
		t.Fatalf("%d versions, the newest %d: %v", len(p.versions), p.newest, err)
	}
	seen := map[string]bool{}
	for _, key := range p.versions {
		seen[string(key.Expose())] = true
	}
	if len(seen) != 9 {
		t.Errorf("%d keys differ", len(seen))
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if uid := ownerOf(info); os.Getuid() == 0 && uid != 65534 {
		t.Errorf("it belongs to %d now", uid)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := os.WriteFile(file, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := AddPlatformKey(t.Context(), file); err == nil {
		t.Error("what is no platform key was added to")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "none" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestPepperFile: a pepper lies in its file as it is or wrapped, takes new versions, and is wrapped anew.
func TestPepperFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	before, both := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore), mustWrapper(t, mustPlatform(t, bothPlatformKeys), ForKeyStore)
	file := filepath.Join(t.TempDir(), "pepper")
	versions := func(w KeyWrapper) int {
		t.Helper()
		text, err := LoadPepper(ctx, w, secret.String{}, file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePlatform([]byte(text.Expose()))
		if err != nil {
			t.Fatal(err)
		}
		return len(p.versions)
	}
	if v, err := AddPepper(ctx, nil, false, file); err != nil || v != 1 || versions(nil) != 1 {
		t.Errorf("%d, %v", v, err)
	}
	if _, wrapped, err := PepperWrapping(file); err != nil || wrapped {
		t.Errorf("it is wrapped: %v", err)
	}
	if v, err := AddPepper(ctx, before, true, file); err != nil || v != 2 || versions(before) != 2 {
		t.Errorf("%d, %v", v, err)
	}
	if v, err := AddPepper(ctx, before, false, file); err != nil || v != 3 || versions(before) != 3 {
		t.Errorf("%d, %v", v, err)
	}
	if w, wrapped, err := PepperWrapping(file); err != nil || !wrapped || w != (Wrapping{"platform/" + ForKeyStore, 1}) {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := LoadPepper(ctx, nil, secret.String{}, file); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), file) {
		t.Errorf("with nothing that opens it: %v", err)
	}
	if again, err := RewrapPepper(ctx, both, file); err != nil || !again || versions(both) != 3 {
		t.Errorf("%v, %v", again, err)
	}
	if again, err := RewrapPepper(ctx, both, file); err != nil || again {
		t.Errorf("once more: %v, %v", again, err)
	}
	if _, err := LoadPepper(ctx, before, secret.String{}, file); !errors.Is(err, ErrSealed) {
		t.Errorf("with the key before: %v", err)
	}
	if again, err := RewrapPepper(ctx, forgetful{both}, file); err != nil || again {
		t.Errorf("%v, %v", again, err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddPepper(ctx, forgetful{both}, true, file); !errors.Is(err, ErrSealed) {
		t.Errorf("a wrapper that wraps what it cannot open: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, good) {
		t.Error("the only good copy was replaced")
	}
	good[len(good)/2] ^= 1
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPepper(ctx, both, secret.String{}, file); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}

// TestWithoutPlatformKey: a ring needs none where something else wraps and there is a pepper.
func TestWithoutPlatformKey(t *testing.T) {
	t.Parallel()
	w := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore)
	dir := newStoreDir(t)
	if _, err := New(t.Context(), Config{Dir: dir, Wrapper: w}); err == nil || !strings.Contains(err.Error(), "AVOUCH_API_KEY_PEPPER_FILE") {
		t.Errorf("without a pepper: %v", err)
	}
	if _, err := New(t.Context(), Config{Dir: dir, Pepper: secret.Text(secondPlatformKey)}); err == nil {
		t.Error("with nothing that wraps")
	}
	r, err := New(t.Context(), Config{Dir: dir, Wrapper: w, Pepper: secret.Text(secondPlatformKey)})
	if err != nil {
		t.Fatal(err)
	}
	if !r.HasPepper(ownPepper+2) || r.HasPepper(1) || PepperName(ownPepper+2) != (Wrapping{"pepper", 2}) || PepperName(1) != (Wrapping{"platform/pepper", 1}) {
		t.Error("its peppers are others")
	}
}
