package keyring

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// tree is every file and directory of a key store, with content.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "dir"
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// everyRead asks for each kind of key of a tenant, and returns the errors by what asked.
func everyRead(r *Ring, tenant tenantdb.TenantID) map[string]error {
	ctx, errs := context.Background(), map[string]error{}
	_, errs["Seal"] = r.Seal(ctx, tenant, "i", "f", 1, nil)
	_, _, errs["CurrentKeyVersions"] = r.CurrentKeyVersions(ctx, tenant)
	_, errs["KeyDigest"] = r.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1)
	_, errs["Pseudonym"] = r.Pseudonym(ctx, tenant, "k", "i")
	_, errs["SealFields"] = r.SealFields(ctx, tenant, audit.SubjectID{1}, nil, nil)
	errs["Prepare"] = r.Prepare(ctx, tenant, audit.SubjectID{2})
	return errs
}

func TestReadsNeverCreateATenant(t *testing.T) {
	t.Parallel()
	r, _ := newRing(t)
	before := tree(t, r.store.dir)
	for what, err := range everyRead(r, tenantdb.NewTenantID()) {
		if !errors.Is(err, ErrUnknownTenant) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := tree(t, r.store.dir); len(after) != len(before) {
		t.Errorf("%d files and directories, before %d", len(after), len(before))
	}
}

func TestLostKeysAreNotReplaced(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"wrap/1", "apikey", "subjects/1", "pseudonym/1", "subject", "pii/1"} {
		r, tenant := newRing(t)
		if err := os.RemoveAll(filepath.Join(r.store.tenantDir(tenant), lost)); err != nil {
			t.Fatal(err)
		}
		before, failed := tree(t, r.store.dir), 0
		for what, err := range everyRead(r, tenant) {
			if err != nil {
				failed++
			}
			if err != nil && !errors.Is(err, ErrLost) {
				t.Errorf("without %s, %s: %v", lost, what, err)
			}
		}
		if failed == 0 && lost != "pii/1" {
			t.Errorf("without %s all works", lost)
		}
		if err := r.CreateTenant(context.Background(), tenant); lost != "subject" && !errors.Is(err, ErrLost) {
			t.Errorf("without %s, CreateTenant: %v", lost, err)
		}
		for name := range tree(t, r.store.dir) {
			if _, there := before[name]; !there && strings.Contains(name, lost) {
				t.Errorf("%s appeared", name)
			}
		}
	}
}

func TestLostSubjectKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	subject := newSubject(t)
	if err := r.Prepare(ctx, tenant, subject); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.store.file(keyName{tenant, usePerson, subject}, 1)); err != nil {
		t.Fatal(err)
	}
	fresh := ringOn(t, r.store.dir, nil)
	if _, err := fresh.SealFields(ctx, tenant, subject, nil, nil); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

func TestLostStoreIsNotReplaced(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	r := ringOn(t, dir, nil)
	tenant := newTenant(t, r)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for what, err := range everyRead(r, tenant) {
		if err == nil || errors.Is(err, ErrUnknownTenant) {
			t.Errorf("%s with the store unmounted: %v", what, err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := New(context.Background(), Config{Dir: dir, Platform: mustPlatform(t, firstPlatformKey)}); err == nil {
		t.Error("an empty directory is accepted as key store")
	}
	if err := os.Remove(filepath.Join(dir+".away", markerFile)); err != nil {
		t.Fatal(err)
	}
	w := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore)
	if err := CreateStore(context.Background(), dir+".away", w); err == nil {
		t.Error("a store without its marker but with tenants is begun anew")
	}
}

func TestDamagedFilesDeny(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	subject := audit.SubjectID{1}
	if err := r.Prepare(ctx, tenant, subject); err != nil {
		t.Fatal(err)
	}
	for _, n := range []keyName{{tenant: tenant, use: UsePseudonym}, {tenant, usePerson, subject}} {
		file := r.store.file(n, 1)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		eachByteMatters(t, good, func(b []byte) error {
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r.ForgetTenant(tenant)
			errs := everyRead(r, tenant)
			err := errors.Join(errs["Pseudonym"], errs["SealFields"])
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
			if now, _ := os.ReadFile(file); !bytes.Equal(now, b) {
				t.Fatal("reading a damaged file changed it")
			}
			return err
		})
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeyFileIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	other := newTenant(t, r)
	ctx := context.Background()
	if err := errors.Join(r.Prepare(ctx, tenant, audit.SubjectID{1}), r.Prepare(ctx, tenant, audit.SubjectID{2})); err != nil {
		t.Fatal(err)
	}
	move := func(from, to keyName) {
		t.Helper()
		b, err := os.ReadFile(r.store.file(from, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.store.file(to, 1), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	move(keyName{tenant: other, use: UseAPIKey}, keyName{tenant: tenant, use: UseAPIKey})
	move(keyName{tenant: tenant, use: UsePII}, keyName{tenant: tenant, use: UsePseudonym})
	move(keyName{tenant, usePerson, audit.SubjectID{2}}, keyName{tenant, usePerson, audit.SubjectID{1}})
	errs := everyRead(ringOn(t, r.store.dir, nil), tenant)
	for _, what := range []string{"KeyDigest", "Pseudonym", "SealFields"} {
		if !errors.Is(errs[what], ErrSealed) {
			t.Errorf("%s with another's file: %v", what, errs[what])
		}
	}
}

func TestWrongPlatformKeyIsToldAtStart(t *testing.T) {
	t.Parallel()
	dir := newStoreDir(t)
	_, err := New(context.Background(), Config{Dir: dir, Platform: mustPlatform(t, "1:"+secondPlatformKey[2:])})
	if !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "not the one of the key store") {
		t.Error(err)
	}
}

func TestStorePermissions(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	if err := r.Prepare(context.Background(), tenant, audit.SubjectID{}); err != nil {
		t.Fatal(err)
	}
	for name := range tree(t, r.store.dir) {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(r.store.file(keyName{tenant: tenant, use: UsePseudonym}, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := everyRead(ringOn(t, r.store.dir, nil), tenant)["Pseudonym"]; err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.Chmod(r.store.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(context.Background(), Config{Dir: r.store.dir, Platform: mustPlatform(t, firstPlatformKey)}); err == nil {
		t.Error("a store that others can list is accepted")
	}
}

// A crash can leave in tmp/: a file half written, one complete and not linked, one linked, a directory half filled.
func TestCrashesLeaveNothingThatCounts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	tmp, old := r.store.tmp(), time.Now().Add(-2*staleTemp)
	linked := filepath.Join(tmp, "key-linked")
	if err := os.Link(r.store.file(keyName{tenant: tenant, use: UsePII}, 1), linked); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"key-half": "avouch-k", "key-young": "x", "dir-1/wrap/1": "y"} {
		file := filepath.Join(tmp, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"key-half", "dir-1"} {
		if err := os.Chtimes(filepath.Join(tmp, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(linked, old, old); err != nil {
		t.Fatal(err)
	}
	again := ringOn(t, r.store.dir, nil)
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 || left[0].Name() != "key-young" {
		t.Errorf("after a start: %v, %v", left, err)
	}
	if err := again.CreateTenant(ctx, tenant); err != nil {
		t.Errorf("the tenant's keys: %v", err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 1 {
		t.Errorf("a call that finds all keys leaves %v", left)
	}
}

func TestDestroy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	other := newTenant(t, r)
	sealed, err := r.Seal(ctx, tenant, "i", "f", 1, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	file := r.store.file(keyName{tenant: tenant, use: UseWrap}, 1)
	backup := filepath.Join(t.TempDir(), "link")
	if err := os.Link(file, backup); err != nil {
		t.Fatal(err)
	}
	if err := r.Destroy(ctx, tenant, UseWrap, 1); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(backup); len(b) == 0 || len(bytes.Trim(b, "\x00")) != 0 {
		t.Error("the file's bytes were not overwritten")
	}
	for _, ring := range []*Ring{r, ringOn(t, r.store.dir, nil)} {
		if _, err := ring.Open(ctx, tenant, "i", "f", 1, sealed); !errors.Is(err, ErrDestroyed) {
			t.Errorf("Open: %v", err)
		}
		if _, err := ring.Seal(ctx, tenant, "i", "f", 1, nil); !errors.Is(err, ErrDestroyed) {
			t.Errorf("Seal: %v", err)
		}
		if _, err := ring.Pseudonym(ctx, tenant, "k", "i"); err != nil {
			t.Errorf("another use: %v", err)
		}
		if _, err := ring.Seal(ctx, other, "i", "f", 1, nil); err != nil {
			t.Errorf("another tenant: %v", err)
		}
	}
	if err := r.Destroy(ctx, tenant, UseWrap, 1); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := r.Destroy(ctx, tenant, UseWrap, 2); !errors.Is(err, ErrLost) {
		t.Errorf("a version that never was: %v", err)
	}
	if err := r.CreateTenant(ctx, tenant); !errors.Is(err, ErrDestroyed) {
		t.Errorf("CreateTenant: %v", err)
	}
}

// A crash in the middle of a destruction leaves the tombstone, and maybe the bytes.
func TestInterruptedDestroy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	file := r.store.file(keyName{tenant: tenant, use: UseAPIKey}, 1)
	if err := os.WriteFile(file+tombstone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1); !errors.Is(err, ErrDestroyed) {
		t.Errorf("with the tombstone there: %v", err)
	}
	if err := overwrite(file); err != nil {
		t.Fatal(err)
	}
	if _, err := r.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1); !errors.Is(err, ErrDestroyed) {
		t.Errorf("with the bytes gone: %v", err)
	}
	if err := r.Destroy(ctx, tenant, UseAPIKey, 1); err != nil {
		t.Errorf("the second try: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestDestroyMarksFirst: the mark is there before a byte of the key is changed, and from then on nobody uses it.
func TestDestroyMarksFirst(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	file := r.store.file(keyName{tenant: tenant, use: UseAPIKey}, 1)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := hold(ctx, file) // so that its bytes stay as they are for now
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Destroy(ctx, tenant, UseAPIKey, 1) }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(file + tombstone); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there is no mark, and the key is waited for")
		}
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("its bytes are gone already: %v", err)
	}
	r.ForgetTenant(tenant)
	if _, err := r.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1); !errors.Is(err, ErrDestroyed) {
		t.Errorf("with the mark, and all its bytes: %v", err)
	}
	if err := errors.Join(f.Close(), <-ended); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestNothingSeemsLostOnTheWay: whoever looks for a key while another makes or destroys it is told that it was not made yet, or
// that it was destroyed, and never that it is lost or damaged.
func TestNothingSeemsLostOnTheWay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, _ := newRing(t)
	for range 10 {
		tenant := tenantdb.NewTenantID()
		name := heldName{tenant, UseAPIKey, 1}
		var looking sync.WaitGroup
		for range 2 {
			looking.Go(func() {
				for begun := false; ; {
					_, err := r.load(ctx, name)
					_, _, other := r.store.versions(keyName{tenant: tenant, use: UsePII})
					switch {
					case errors.Is(err, ErrDestroyed) && other == nil:
						return
					case begun && (err != nil && !errors.Is(err, ErrDestroyed) || other != nil),
						!begun && (err != nil && !errors.Is(err, ErrUnknownTenant) || other != nil && !errors.Is(other, ErrUnknownTenant)):
						t.Errorf("begun %t: %v; another: %v", begun, err, other)
						return
					}
					begun = begun || err == nil
				}
			})
		}
		if err := errors.Join(r.CreateTenant(ctx, tenant), r.Destroy(ctx, tenant, UseAPIKey, 1)); err != nil {
			t.Fatal(err)
		}
		looking.Wait()
	}
}

func TestVersionsAreReadInNumericOrder(t *testing.T) {
	t.Parallel()
	r, tenant := newRing(t)
	n := keyName{tenant: tenant, use: UseWrap}
	for v := uint32(2); v <= 11; v++ {
		w, err := r.wrapper.Wrap(context.Background(), newKey(), Binding{tenant, n.item(v)})
		if err != nil {
			t.Fatal(err)
		}
		if won, err := r.store.create(n, v, w); err != nil || !won {
			t.Fatal(won, err)
		}
		if won, err := r.store.create(n, v, w); err != nil || won {
			t.Fatal("a version was made twice", err)
		}
	}
	sealed, err := r.Seal(context.Background(), tenant, "i", "f", 1, []byte("x"))
	if v, _ := SealedUnder(sealed); err != nil || v != 11 {
		t.Errorf("sealed under %d: %v", v, err)
	}
	if _, err := r.Open(context.Background(), tenant, "i", "f", 1, sealed); err != nil {
		t.Error(err)
	}
	uses := slices.Clone(tenantUses)
	slices.Sort(uses)
	if len(slices.Compact(uses)) != 5 {
		t.Errorf("uses: %v", tenantUses)
	}
}
