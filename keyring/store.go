package keyring

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Use is what a tenant's key is for. Each use has random keys and versions of its own: rotating or destroying one ends
// no other.
type Use string

// The uses of a tenant's keys.
const (
	UseWrap      Use = "wrap"      // wraps the data keys of Seal
	UseAPIKey    Use = "apikey"    // the tenant's stage of the API key digest
	UsePseudonym Use = "pseudonym" // Pseudonym
	UseSubjects  Use = "subjects"  // wraps the keys of data subjects
	UsePII       Use = "pii"       // reserved for the pii room

	usePerson Use = "subject" // the key of one data subject; a tenant has any number
)

var tenantUses = []Use{UseWrap, UseAPIKey, UsePseudonym, UseSubjects, UsePII}

// keyName names the versions of one key: of a tenant's use, or of one data subject.
type keyName struct {
	tenant  tenantdb.TenantID
	use     Use
	subject audit.SubjectID // for usePerson only
}

// item is what the wrap of a version is bound to.
func (n keyName) item(version uint32) string {
	if n.use == usePerson {
		return fmt.Sprintf("subject/%s/%d", n.subject, version)
	}
	return fmt.Sprintf("key/%s/%d", n.use, version)
}

// store is the key store's directory. It holds wrapped keys only, and knows nothing of what wraps them:
//
//	store                                  marks a key store, and proves that the platform key belongs to it
//	tenants/<tenant>/<use>/<version>       a wrapped key
//	tenants/<tenant>/subject/<subject>/<version>
//	tenants/00000000-.../apikey/1          a key that nothing is made with (PretendRead)
//	tenants/<tenant>/own                   its own key, under a key management of its own (own.go)
//	tenants/<tenant>/deletion              that it was deleted, or that this was taken back (deletion.go)
//	tenants/<tenant>/unneeded              since when nothing needs older keys (unneeded.go)
//	.../<version>.destroyed                says that the version was destroyed on purpose
//	pepper                                 which version of the pepper digests (BeginPepper)
//	tmp/                                   what is being written (temp.go)
//
// Every name appears whole and durable or not at all: a file is written in tmp/ and linked, a directory is filled in
// tmp/ and renamed, and neither ever replaces what is there. So any number of processes may share the directory: of two
// that create the same key, one wins and the other reads the winner's. All of it belongs to whom the directory belongs to,
// also what an operator's command leaves that runs as root: servers, which run as another user, must read and replace it.
type store struct{ dir string }

const (
	markerFile   = "store"
	tombstone    = ".destroyed"
	keyFileMagic = "avouch-key-1\n"
	maxKeyFile   = 128 << 10
)

// newStore opens a directory that makeStore made.
func newStore(dir string) (*store, Wrapped, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, Wrapped{}, fmt.Errorf("the key store %s is not there (is it mounted?): %w", dir, err)
	}
	if mode := info.Mode().Perm(); !info.IsDir() || mode&0o077 != 0 {
		return nil, Wrapped{}, fmt.Errorf("the key store %s must be a directory of mode 0700, not %04o", dir, mode)
	}
	s := &store{dir}
	marker, err := s.readFile(filepath.Join(dir, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Wrapped{}, fmt.Errorf("%s is not a key store: it has no file %q (is it mounted?)", dir, markerFile)
	}
	if err != nil {
		return nil, Wrapped{}, err
	}
	return s, marker, s.sweep()
}

// makeStore makes an empty key store; one that exists is left as it is.
func makeStore(dir string, marker Wrapped) error {
	s := &store{dir}
	tenants, tmp := filepath.Join(dir, "tenants"), filepath.Join(dir, "tmp")
	if err := errors.Join(os.MkdirAll(tenants, 0o700), os.MkdirAll(tmp, 0o700)); err != nil {
		return err
	}
	if err := errors.Join(s.giveDir(tenants), s.giveDir(tmp)); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, markerFile)); err == nil {
		return nil
	}
	if there, err := os.ReadDir(tenants); err != nil || len(there) > 0 {
		return errors.Join(err, fmt.Errorf("%s holds tenants' keys but no file %q: it is damaged, and is left as it is", dir, markerFile))
	}
	if _, err := s.link(filepath.Join(dir, markerFile), marker); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func (s *store) tenantDir(t tenantdb.TenantID) string {
	return filepath.Join(s.dir, "tenants", t.String())
}
func (s *store) file(n keyName, v uint32) string { return filepath.Join(s.keyDir(n), fileName(v)) }
func fileName(version uint32) string             { return strconv.FormatUint(uint64(version), 10) }

func (s *store) keyDir(n keyName) string {
	if n.use == usePerson {
		return filepath.Join(s.tenantDir(n.tenant), string(usePerson), n.subject.String())
	}
	return filepath.Join(s.tenantDir(n.tenant), string(n.use))
}

// encodeKeyFile is the content of a key's file. The checksum tells a damaged file from the wrong platform key.
func encodeKeyFile(w Wrapped) []byte {
	b := w.append([]byte(keyFileMagic))
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeKeyFile(b []byte) (Wrapped, error) {
	if len(b) < len(keyFileMagic)+sha256.Size || string(b[:len(keyFileMagic)]) != keyFileMagic {
		return Wrapped{}, ErrDamaged
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(body); subtle.ConstantTimeCompare(want[:], sum) != 1 {
		return Wrapped{}, ErrDamaged
	}
	w, rest, err := readWrapped(body[len(keyFileMagic):])
	if err != nil || len(rest) != 0 {
		return Wrapped{}, ErrDamaged
	}
	return w, nil
}

func (s *store) readFile(file string) (Wrapped, error) {
	b, err := secret.ReadFile(file, maxKeyFile)
	if err != nil {
		return Wrapped{}, err
	}
	w, err := decodeKeyFile(b)
	if err != nil {
		return Wrapped{}, fmt.Errorf("%s: %w", file, err)
	}
	return w, nil
}

// link gives content its final name, which must be free; won is false where another process was first.
func (s *store) link(file string, w Wrapped) (won bool, err error) {
	temp, err := s.temp(file, encodeKeyFile(w))
	if err != nil {
		return false, err
	}
	defer os.Remove(temp)
	err = os.Link(temp, file)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	// The loser syncs too: the winner's name may not be on disk yet, and the loser is about to use its key.
	return err == nil, syncDir(filepath.Dir(file))
}

// publish gives a directory of first versions its final name, which must be free.
func (s *store) publish(final string, keys map[string]Wrapped, empty ...string) (won bool, err error) {
	if _, err := os.Lstat(final); err == nil {
		return false, syncDir(filepath.Dir(final))
	}
	temp, err := os.MkdirTemp(s.tmp(), "dir-*") // mode 0700
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	if err := s.fill(temp, keys, empty); err != nil {
		return false, err
	}
	err = os.Rename(temp, final)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return false, err
	}
	return err == nil, syncDir(filepath.Dir(final))
}

// fill makes what is in a directory of first versions that has no name yet.
func (s *store) fill(dir string, keys map[string]Wrapped, empty []string) error {
	for _, name := range empty {
		if err := s.makeDir(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for name, w := range keys {
		file := filepath.Join(dir, name)
		if home := filepath.Dir(file); home != dir {
			if err := s.makeDir(home); err != nil {
				return err
			}
		}
		if _, err := s.link(file, w); err != nil {
			return err
		}
	}
	return errors.Join(s.giveDir(dir), syncDir(dir))
}

// createTenant makes the first version of each of a tenant's keys, all or none.
func (s *store) createTenant(t tenantdb.TenantID, keys map[Use]Wrapped) (won bool, err error) {
	files := map[string]Wrapped{}
	for use, w := range keys {
		files[filepath.Join(string(use), fileName(1))] = w
	}
	return s.publish(s.tenantDir(t), files, string(usePerson))
}

// createDecoy makes the key of no tenant, also where its directory is there without it: unlike all others it may be replaced when
// it is lost, as nothing was made with it.
func (s *store) createDecoy(w Wrapped) error {
	n := keyName{tenant: decoy.tenant, use: decoy.use}
	home, file := s.tenantDir(n.tenant), s.file(n, decoy.version)
	if won, err := s.publish(home, map[string]Wrapped{filepath.Join(string(n.use), fileName(decoy.version)): w}); won || err != nil {
		return err
	}
	if err := s.makeDir(s.keyDir(n)); err != nil {
		return err
	}
	if err := syncDir(home); err != nil {
		return err
	}
	_, err := s.link(file, w)
	return err
}

// create makes a version. The first version of a subject's key comes with its directory, so that a directory without
// keys is a loss and not a beginning; the first version of a tenant's keys comes from createTenant only.
func (s *store) create(n keyName, version uint32, w Wrapped) (won bool, err error) {
	if n.use == usePerson && version == 1 {
		return s.publish(s.keyDir(n), map[string]Wrapped{fileName(1): w})
	}
	return s.link(s.file(n, version), w)
}

// twice looks again where one look found a loss or damage. What others do between the steps of a look can seem to be one: a
// tenant's directory that comes after its key was looked for, a tombstone and a file whose bytes go. They come in an order in
// which a second look sees what it is; what is lost stays lost.
func twice(look func() error) error {
	err := look()
	if errors.Is(err, ErrLost) || errors.Is(err, ErrDamaged) {
		err = look()
	}
	return err
}

// versions says which is the newest version that can be used (0 if none) and which is the newest that ever was
// (0 if there never was one, with the error nil: only for a subject of a tenant that has keys).
func (s *store) versions(n keyName) (live, last uint32, err error) {
	err = twice(func() (err error) { live, last, err = s.list(n); return err })
	return live, last, err
}

func (s *store) list(n keyName) (live, last uint32, err error) {
	entries, err := os.ReadDir(s.keyDir(n))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, s.absent(n)
	}
	if err != nil {
		return 0, 0, err
	}
	dead := map[uint32]bool{}
	var all []uint32
	for _, e := range entries {
		number, destroyed := strings.CutSuffix(e.Name(), tombstone)
		v, err := strconv.ParseUint(number, 10, 32)
		if err != nil || fileName(uint32(v)) != number || v == 0 {
			continue
		}
		all = append(all, uint32(v))
		if destroyed {
			dead[uint32(v)] = true
		}
	}
	for _, v := range all {
		last = max(last, v)
		if !dead[v] {
			live = max(live, v)
		}
	}
	if last == 0 {
		return 0, 0, fmt.Errorf("%s is empty: %w", s.keyDir(n), ErrLost)
	}
	// What is about to be used must be on disk, and another process may have linked it a moment ago.
	return live, last, syncDir(s.keyDir(n))
}

// absent says what it means that a key's directory is not there.
func (s *store) absent(n keyName) error {
	if _, err := os.Stat(s.tenantDir(n.tenant)); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(s.dir, markerFile)); err != nil {
			return fmt.Errorf("the key store %s is not there: %w", s.dir, err)
		}
		return fmt.Errorf("%s: %w", n.tenant, ErrUnknownTenant)
	} else if err != nil {
		return err
	}
	if n.use != usePerson {
		return fmt.Errorf("%s: %w", s.keyDir(n), ErrLost)
	}
	if _, err := os.Stat(filepath.Dir(s.keyDir(n))); err != nil {
		return fmt.Errorf("%s: %w", filepath.Dir(s.keyDir(n)), ErrLost)
	}
	return nil
}

// read reads one version.
func (s *store) read(n keyName, version uint32) (w Wrapped, err error) {
	err = twice(func() (err error) { w, err = s.look(n, version); return err })
	return w, err
}

func (s *store) look(n keyName, version uint32) (Wrapped, error) {
	file := s.file(n, version)
	if _, err := os.Lstat(file + tombstone); err == nil {
		return Wrapped{}, fmt.Errorf("%s: %w", file, ErrDestroyed)
	}
	w, err := s.readFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return w, err
	}
	if err := s.absent(n); err != nil {
		return Wrapped{}, err
	}
	return Wrapped{}, fmt.Errorf("%s: %w", file, ErrLost)
}

// destroy ends a version for good: the tombstone first, so that a crash on the way leaves a key that nobody uses and
// that the next call finishes off; then its bytes, then its name; and what a process that was killed left of it in tmp/. One that is lost
// may be there still.
func (s *store) destroy(ctx context.Context, n keyName, version uint32) error {
	file := s.file(n, version)
	err := s.end(ctx, n, file)
	if err == nil || errors.Is(err, ErrLost) {
		err = errors.Join(err, s.eraseTemps(file))
	}
	return err
}

func (s *store) end(ctx context.Context, n keyName, file string) error {
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(file + tombstone); err == nil {
			return syncDir(s.keyDir(n))
		}
		if err := s.absent(n); err != nil { // which may be that no key store is there
			return err
		}
		return fmt.Errorf("%s: %w", file, ErrLost)
	} else if err != nil {
		return err
	}
	t, err := s.open(file+tombstone, os.O_WRONLY)
	if err != nil {
		return err
	}
	if err := errors.Join(t.Sync(), t.Close(), syncDir(s.keyDir(n))); err != nil {
		return err
	}
	f, err := hold(ctx, file)
	if errors.Is(err, fs.ErrNotExist) { // another process has done the same
		return syncDir(s.keyDir(n))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(zero(f), remove(file), syncDir(s.keyDir(n)))
}
