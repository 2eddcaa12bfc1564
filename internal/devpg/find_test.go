package devpg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	needBinaries(t)
	b, err := Find()
	if err != nil || b.Major < OldestMajor {
		t.Fatalf("found %+v (%v)", b, err)
	}
	for _, dir := range []string{b.Dir, filepath.Dir(b.Dir)} {
		t.Setenv(BinEnv, dir)
		if got, err := Find(); err != nil || got != b {
			t.Errorf("with %s: %+v (%v)", dir, got, err)
		}
	}
	if _, err := find(b.Major + 1); !errors.Is(err, ErrNoBinaries) {
		t.Errorf("a version that is not there: %v", err)
	}
	t.Setenv(BinEnv, t.TempDir())
	if _, err := Find(); !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := Start(t.Context(), Config{Dir: t.TempDir()}); !errors.Is(err, ErrNoBinaries) {
		t.Errorf("start without binaries: %v", err)
	}
}

func TestFindBroken(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{"initdb": "", "postgres": "echo 'libicu.so.60: not found' >&2; exit 127"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv(BinEnv, dir)
	if _, err := Find(); !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "libicu.so.60") {
		t.Errorf("binaries that do not run: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "postgres"), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n"), 0o755))
	if _, err := Find(); !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "PostgreSQL 14") {
		t.Errorf("binaries that are too old: %v", err)
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15, "postgres (PostgreSQL) 18.4\n": 18,
		"postgres (PostgreSQL) 19beta1\n": 19, "postgres (PostgreSQL) 17devel": 17, "postgres (EnterpriseDB) 15.1": 0, "": 0,
		"psql (PostgreSQL) 15.1": 0, "postgres (PostgreSQL) 999999999999999999999": 0,
	} {
		if got, err := parseVersion(line); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d (%v)", line, got, err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n")
	f.Add("postgres (PostgreSQL) 19beta1")
	f.Fuzz(func(t *testing.T, line string) {
		if n, err := parseVersion(line); err == nil && (n < 0 || n > 9999 || !strings.HasPrefix(line, "postgres (PostgreSQL) ")) {
			t.Errorf("%q is %d", line, n)
		}
	})
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Settings: map[string]string{"a b": "c"}}, {Settings: map[string]string{"a": "b\nlisten_addresses = '*'"}}} {
		if text, err := c.conf("/s"); err == nil {
			t.Errorf("%v became %s", c.Settings, text)
		}
	}
	for caller, role := range map[string]string{"a\"b": "r", "/.*": "r", "u": "r\" \"s", "v": "/.*"} {
		if text, err := (Config{Roles: []string{role}}).ident(caller); err == nil {
			t.Errorf("%q as %q became %s", caller, role, text)
		}
	}
}
