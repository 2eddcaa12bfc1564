package keyring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// server is the user that servers run as in these tests, which an operator is not.
const server = 65534

// given is a key store of that user, with two organisations.
func given(t *testing.T) (r *Ring, one, own tenantdb.TenantID) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root leaves files to another user")
	}
	r, one = newRing(t)
	own = newTenant(t, r)
	if err := r.Prepare(t.Context(), one, audit.SubjectID{1}); err != nil {
		t.Fatal(err)
	}
	for name := range tree(t, r.store.dir) {
		if err := os.Lchown(name, server, server); err != nil {
			t.Fatal(err)
		}
	}
	return r, one, own
}

// TestStoreStaysItsOwners: whatever an operator's command does in the key store as root, all of it still belongs to the user that the key
// store belongs to, as whom the servers run.
func TestStoreStaysItsOwners(t *testing.T) {
	t.Parallel()
	r, one, own := given(t)
	ctx, kms := t.Context(), newCustomer(t)
	r.own = func(context.Context, tenantdb.TenantID, SettingID) (KeyWrapper, error) { return kms, nil }
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for name := range tree(t, r.store.dir) {
			if info, err := os.Lstat(name); err != nil || ownerOf(info) != server || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("after %s, %s belongs to %d, %v, %v", what, name, ownerOf(info), info.Mode(), err)
			}
		}
	}
	third := tenantdb.NewTenantID()
	must("CreateTenant", r.CreateTenant(ctx, third))
	must("Prepare", r.Prepare(ctx, third, audit.SubjectID{2}))
	must("RenewTo", errors.Join(r.RenewTo(ctx, one, UseWrap, 2), r.RenewTo(ctx, one, UseSubjects, 2)))
	step, err := r.RewrapSubjects(ctx, one, "", 10)
	must("RewrapSubjects", err)
	if step.Wrapped != 1 {
		t.Errorf("%+v", step)
	}
	must("NoteUnneeded", r.NoteUnneeded(ctx, one, Unneeded{2, 2, time.Now()}))
	release, err := r.HoldDeletion(ctx, one)
	must("HoldDeletion", err)
	release()
	must("NoteDeletion", r.NoteDeletion(ctx, one, Deletion{At: time.Now(), Since: time.Now()}))
	_, err = r.HandOver(ctx, own, testSetting, kms)
	must("HandOver", err)
	must("Destroy", r.Destroy(ctx, one, UseWrap, 1))
	must("DestroySubject", r.DestroySubject(ctx, one, audit.SubjectID{1}))
	must("a new decoy", os.RemoveAll(r.store.keyDir(keyName{tenant: decoy.tenant, use: decoy.use})))
	must("a new decoy", r.ensureDecoy(ctx))
	both, err := New(ctx, Config{Dir: r.store.dir, Platform: mustPlatform(t, bothPlatformKeys), Pepper: secret.Text(secondPlatformKey)})
	must("New", err)
	_, err = both.Rewrap(ctx, nil)
	must("Rewrap", err)
	must("LeadPepper", both.LeadPepper())
	must("BeginPepper", errors.Join(os.Remove(filepath.Join(r.store.dir, pepperFile)), both.BeginPepper()))

	must("a key store that is empty", os.RemoveAll(filepath.Join(r.store.dir, "tenants")))
	must("a key store that is empty", errors.Join(os.Remove(filepath.Join(r.store.dir, markerFile)), os.RemoveAll(r.store.tmp())))
	must("CreateStore", CreateStore(ctx, r.store.dir, r.wrapper))
}

// TestNobodyElseWrites: a process that can write into a key store of another user and cannot leave its files to that one makes none.
func TestNobodyElseWrites(t *testing.T) {
	t.Parallel()
	r, one, _ := given(t)
	before := tree(t, r.store.dir)
	for name, content := range before { // as in a store that was opened to all: others may write
		if content == "dir" {
			if err := os.Chmod(name, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	for dir := r.store.dir; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("/proc/self/exe", r.store.dir, one.String()) // whatever directory it is built in
	c.Env, c.Dir = append(os.Environ(), child+"=stranger"), "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: server - 1, Gid: server - 1}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	} else if n := strings.Count(string(out), "belongs to the user 65534, and this process runs as 65533"); n != 3 {
		t.Errorf("%d of 3 are refused so: %s", n, out)
	}
	for name, content := range tree(t, r.store.dir) {
		if was, there := before[name]; there && was != content || !there && !strings.HasSuffix(name, ".lock") {
			t.Errorf("%s is new, or another", name)
		}
	}
}

func strangerChild(dir, tenant string) int {
	t, err := tenantdb.ParseTenantID(tenant)
	if err != nil {
		return 3
	}
	s := &store{dir}
	_, link := s.link(s.file(keyName{tenant: t, use: UseWrap}, 2), Wrapped{"k", 1, []byte("x")})
	_, lock := s.lock(context.Background(), t, ownLock)
	_, create := s.createTenant(tenantdb.NewTenantID(), map[Use]Wrapped{UseWrap: {"k", 1, []byte("x")}})
	for _, err := range []error{link, lock, create} {
		if err == nil {
			return 4
		}
		_, _ = io.WriteString(os.Stdout, err.Error()+"\n")
	}
	return 0
}

// leftover is what a process that was killed while it wrote a file has left of it.
func leftover(t *testing.T, s *store, file string) (name string, open *os.File) {
	t.Helper()
	name, err := s.temp(file, bytes.Repeat([]byte("k"), 100))
	if err != nil {
		t.Fatal(err)
	}
	open, err = os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { open.Close() })
	return name, open
}

// erased reports whether a name is gone and its bytes with it; it fails where only one of them is.
func erased(t *testing.T, name string, open *os.File) bool {
	t.Helper()
	b := make([]byte, 100)
	if _, err := open.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	_, err := os.Lstat(name)
	gone, zeros := errors.Is(err, fs.ErrNotExist), len(bytes.Trim(b, "\x00")) == 0
	if gone != zeros {
		t.Errorf("%s: its name is gone %t, its bytes %t", name, gone, zeros)
	}
	return gone && zeros
}

// TestNoCopyOutlivesItsKey: what a process that was killed has left in tmp/ of a key goes when the key is destroyed, also where that is lost
// otherwise; and nothing of another.
func TestNoCopyOutlivesItsKey(t *testing.T) {
	t.Parallel()
	r, one := newRing(t)
	two, ctx := newTenant(t, r), t.Context()
	for v := uint32(2); v <= 11; v++ {
		if err := r.RenewTo(ctx, one, UseWrap, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Prepare(ctx, one, audit.SubjectID{1}); err != nil {
		t.Fatal(err)
	}
	wrap := func(t tenantdb.TenantID, v uint32) string { return r.store.file(keyName{tenant: t, use: UseWrap}, v) }
	type left struct {
		name string
		open *os.File
	}
	all := map[string]left{}
	for what, file := range map[string]string{
		"1": wrap(one, 1), "2": wrap(one, 2), "11": wrap(one, 11), "subject": r.store.file(keyName{one, usePerson, audit.SubjectID{1}}, 1),
		"own": r.store.ownPath(one), "another use": r.store.file(keyName{tenant: one, use: UsePII}, 1), "another's": wrap(two, 1),
	} {
		name, open := leftover(t, r.store, file)
		all[what] = left{name, open}
	}
	are := func(when string, gone ...string) {
		t.Helper()
		for what, l := range all {
			want := false
			for _, g := range gone {
				want = want || g == what
			}
			if erased(t, l.name, l.open) != want {
				t.Errorf("%s: %s is gone: %t", when, what, !want)
			}
		}
	}
	are("before")
	if err := r.Destroy(ctx, one, UseWrap, 1); err != nil {
		t.Fatal(err)
	}
	are("one destroyed", "1")
	if err := os.Remove(wrap(one, 2)); err != nil {
		t.Fatal(err)
	}
	if err := r.Destroy(ctx, one, UseWrap, 2); !errors.Is(err, ErrLost) {
		t.Errorf("a lost one: %v", err)
	}
	are("a lost one destroyed", "1", "2")
	if err := r.DestroySubject(ctx, one, audit.SubjectID{1}); err != nil {
		t.Fatal(err)
	}
	are("a subject erased", "1", "2", "subject")
	if err := r.DestroyOwn(ctx, one); err != nil {
		t.Fatal(err)
	}
	are("the organisation destroyed", "1", "2", "subject", "11", "own", "another use")
}

// TestLeftoversAreSwept: while a server runs, what processes that were killed have left is overwritten and removed when it is old; a key
// that such a file became is not, and one who wakes up late puts nothing of it in place.
func TestLeftoversAreSwept(t *testing.T) {
	t.Parallel()
	r, one := newRing(t)
	file := r.store.file(keyName{tenant: one, use: UseWrap}, 1)
	age := func(name string) {
		t.Helper()
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-2*staleTemp)); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func() {
		t.Helper()
		if err := r.SweepStore(); err != nil {
			t.Fatal(err)
		}
	}
	name, open := leftover(t, r.store, file)
	inside := filepath.Join(r.store.tmp(), "dir-1", "wrap")
	if err := os.MkdirAll(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(inside, "1")
	if err := os.Rename(name, whole); err != nil {
		t.Fatal(err)
	}
	young, youngOpen := leftover(t, r.store, file)
	linked := filepath.Join(r.store.tmp(), "key-linked")
	if err := os.Link(file, linked); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sweep()
	if erased(t, whole, open) || erased(t, young, youngOpen) {
		t.Error("what somebody may still write is gone")
	}
	age(filepath.Join(r.store.tmp(), "dir-1"))
	age(linked)
	sweep()
	if !erased(t, whole, open) || erased(t, young, youngOpen) {
		t.Error("what is old is there, or what is young is gone")
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the key that was linked is not what it was: %v", err)
	}
	age(young)
	sweep()
	if !erased(t, young, youngOpen) {
		t.Error("what is old is there")
	}
	if err := errors.Join(os.Rename(young, file), os.Rename(filepath.Dir(inside), file+".x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("who wakes up puts it in place: %v", err)
	}
	if left, err := os.ReadDir(r.store.tmp()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestSweptIsNotDestroyed: of a file that is replaced, and whose new content is taken away by another server that takes it for left over, it
// is not said that its key is gone, with which a rewrapping is content. The key stays.
func TestSweptIsNotDestroyed(t *testing.T) {
	t.Parallel()
	r, one := newRing(t)
	n := keyName{tenant: one, use: UseWrap}
	w, err := r.store.read(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	file, stop, swept := r.store.file(n, 1), make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				close(swept)
				return
			default:
				_ = r.store.eraseTemps(file)
			}
		}
	}()
	for began := time.Now(); err == nil && time.Since(began) < 20*time.Second; {
		err = r.store.replace(t.Context(), file, w)
	}
	close(stop)
	<-swept
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := r.store.read(n, 1); err != nil {
		t.Errorf("the key: %v", err)
	}
}

// TestHeldLocksAreNotWaitedFor: a lock of the key store, or of the platform key's file, that another process does not let go of is waited
// for no longer than the caller wants, and half a minute at most. The error names it, and is one that a caller may read.
func TestHeldLocksAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	r, one := newRing(t)
	keys := filepath.Join(t.TempDir(), "platform.key")
	if err := os.WriteFile(keys, []byte(firstPlatformKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.NoteDeletion(t.Context(), one, Deletion{At: time.Now(), Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	wrap := r.store.file(keyName{tenant: one, use: UseWrap}, 1)
	for name, c := range map[string]struct {
		file string
		call func(context.Context) error
	}{
		"Renew":          {r.store.notePath(one, ownLock), func(ctx context.Context) error { _, err := r.Renew(ctx, one, UsePII); return err }},
		"HandOver":       {r.store.notePath(one, ownLock), func(ctx context.Context) error { _, err := r.HandOver(ctx, one, testSetting, nil); return err }},
		"Gather":         {r.store.notePath(one, ownLock), func(ctx context.Context) error { return r.Gather(ctx, one, testSetting) }},
		"TakeBack":       {r.store.notePath(one, ownLock), func(ctx context.Context) error { return r.TakeBack(ctx, one) }},
		"HoldDeletion":   {r.store.notePath(one, lockOf(deletionFile)), func(ctx context.Context) error { _, err := r.HoldDeletion(ctx, one); return err }},
		"NoteUnneeded":   {r.store.notePath(one, lockOf(unneededFile)), func(ctx context.Context) error { return r.NoteUnneeded(ctx, one, Unneeded{2, 2, time.Now()}) }},
		"Destroy":        {wrap, func(ctx context.Context) error { return r.Destroy(ctx, one, UseWrap, 1) }},
		"AddPlatformKey": {filepath.Dir(keys), func(ctx context.Context) error { _, err := AddPlatformKey(ctx, keys); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			is, err := os.OpenFile(c.file, os.O_RDONLY|os.O_CREATE, 0o600)
			if errors.Is(err, syscall.EISDIR) {
				is, err = os.Open(c.file)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer is.Close()
			if err := syscall.Flock(int(is.Fd()), syscall.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			refused := func(err, why error) {
				t.Helper()
				if !errors.Is(err, ErrHeld) || !errors.Is(err, why) || !problem.Is(err, problem.Unavailable) || !strings.Contains(err.Error(), c.file) {
					t.Errorf("%v", err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				refused(c.call(context.Background()), context.DeadlineExceeded)
				if took := time.Since(began); took != lockPatience {
					t.Errorf("it was waited for %v", took)
				}
				ctx, stop := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, stop)
				began = time.Now()
				refused(c.call(ctx), context.Canceled)
				if took := time.Since(began); took != time.Second {
					t.Errorf("it was waited for %v, when nobody wanted it", took)
				}
			})
		})
	}
	if again, err := r.HoldDeletion(t.Context(), one); err != nil {
		t.Errorf("let go of: %v", err)
	} else {
		again()
	}
}
