package secret

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	for _, err := range []error{os.WriteFile(file, []byte(plain), 0o600), os.Symlink(file, link), syscall.Mkfifo(pipe, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string, most int64) error {
		b, err := ReadFile(path, most)
		if (string(b) == plain) != (err == nil) || err != nil && (leaks(err.Error()) || len(b) > 0) {
			t.Errorf("%s: %q, %v", path, b, err)
		}
		return err
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o700} {
		if err := os.Chmod(file, mode); err != nil || read(file, 100) != nil || read(link, int64(len(plain))) != nil {
			t.Errorf("mode %04o is refused", mode)
		}
	}
	if err := read(file, int64(len(plain)-1)); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("too long: %v", err)
	}
	for _, path := range []string{pipe, dir, filepath.Join(dir, "nowhere")} {
		if read(path, 100) == nil {
			t.Errorf("%s was read", path)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666} {
		if err := os.Chmod(file, mode); err != nil || read(file, 100) == nil || read(link, 100) == nil {
			t.Errorf("mode %04o is taken", mode)
		}
	}
}
