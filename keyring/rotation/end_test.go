package rotation

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
)

// TestOlderKeyStoreIsBack: where the key store is one of before the rotation, the versions that it has are the only ones. They are not
// destroyed; when the right key store is back, the rotation ends.
func TestOlderKeyStoreIsBack(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 5)
	_, store, _ := s.Places()
	older, newer := t.TempDir()+"/older", t.TempDir()+"/newer"
	must(t, os.CopyFS(older, os.DirFS(store)))
	must(t, filepath.WalkDir(older, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
	n := s.begin(t)
	for n.State() != "kept" {
		n = s.work(t)
		s.clock.advance(settling)
	}
	s.clock.advance(s.room.KeptUntil(n).Sub(s.clock.now()) + time.Hour)
	for i, when := range []string{"subjects", "ending"} { // all has been looked at; and the log says that they are destroyed
		if i > 0 { // the right one is back meanwhile
			must(t, os.Rename(store, older))
			must(t, os.Rename(newer, store))
			s.clock.advance(2 * again)
			time.Sleep(3 * time.Millisecond) // the lease
		}
		_, _, err := s.another(t, func(c *Config) {
			c.at = func(point string) {
				if point == when {
					must(t, os.Rename(store, newer))
					must(t, os.Rename(older, store))
				}
			}
		}).Work(t.Context(), s.by, nil)
		if !errors.Is(err, keyring.ErrLost) {
			t.Errorf("when the key store of before is back: %v", err)
		}
		if n := len(s.OfType(t, s.tenant, "key_rotation.destroyed")); n != i {
			t.Errorf("%s: %d entries say that it is destroyed", when, n)
		}
	}
	for range 2 { // it is begun to be destroyed, and nothing is looked at any more
		s.clock.advance(2 * again)
		time.Sleep(3 * time.Millisecond) // the lease
		if _, _, err := s.another(t).Work(t.Context(), s.by, nil); !errors.Is(err, keyring.ErrLost) {
			t.Errorf("with the key store of before: %v", err)
		}
	}
	for _, use := range []keyring.Use{keyring.UseWrap, keyring.UseSubjects} {
		live, last, err := s.RingAt(t, s.clock.now).Versions(s.tenant, use)
		if live != 1 || last != 1 || err != nil {
			t.Errorf("%s: %d, %d, %v", use, live, last, err)
		}
	}
	must(t, os.Rename(store, older))
	must(t, os.Rename(newer, store))
	s.room = s.another(t)
	s.finish(t)
	s.openAll(t, 5)
	if n := len(s.OfType(t, s.tenant, "key_rotation.destroyed")); n != 1 {
		t.Errorf("%d entries say that it is destroyed", n)
	}
}
