package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/jackc/pgx/v5/pgxpool"
)

// strategy is how PostgreSQL copies a template. The other one, WAL_LOG, took about 1.4 times as long here.
const strategy = "FILE_COPY"

// watch is the shell program that stops the cluster. flock runs it once it has the file for itself, which is when the
// last process that shared it has ended; and holds it meanwhile, so that a newcomer waits and then starts the cluster
// anew. The postmaster is known by its working directory: a number alone may be another process's by then.
const watch = `
read -r pid < "$1/postmaster.pid" || exit 0
tries=0
while [ "/proc/$pid/cwd" -ef "$1" ]; do
	case $tries in
	0) kill -INT "$pid" ;;
	200) kill -QUIT "$pid" ;;
	400) kill -KILL "$pid" ;;
	600) exit 1 ;;
	esac
	tries=$((tries + 1))
	sleep 0.05
done`

// membership is one process's share of the cluster that all test processes of a user have in common.
type membership struct {
	mu      sync.Mutex
	dir     string   // of the cluster and the locks; "" until the first test, but in the tests of this package
	users   *os.File // held, shared, as long as this process lives: the cluster runs while anybody holds it
	address devpg.Address
	pool    *pgxpool.Pool
	ready   map[string]bool // templates known to exist, by database
	err     error           // why there is no cluster: all later tests have the same reason
}

func (m *membership) cluster() string { return filepath.Join(m.dir, "cluster") }

// join makes this process a user of the cluster, and starts the cluster if no other has.
func (m *membership) join(ctx context.Context, template Template) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pool == nil && m.err == nil {
		m.err = m.open(ctx, template)
	}
	return m.err
}

func (m *membership) open(ctx context.Context, template Template) error {
	bin, err := devpg.Find()
	if err != nil {
		return err
	}
	if m.dir == "" {
		if m.dir, err = clusterDir(fmt.Sprintf("avouch-pgtest-%d-%d", os.Geteuid(), bin.Major)); err != nil {
			return err
		}
	}
	starting, err := lock(m.dir, "starting")
	if err != nil {
		return err
	}
	defer starting.Close()
	alone, err := m.enter()
	if err != nil {
		return err
	}
	var stopped error
	m.address, stopped = devpg.Running(m.cluster())
	if alone || stopped != nil {
		if err := m.watch(); err != nil {
			return err
		}
	}
	if stopped != nil {
		if err := m.start(ctx, bin, template); err != nil {
			return err
		}
	}
	cfg, err := pgxpool.ParseConfig(m.address.URL(devpg.Superuser, "postgres"))
	if err != nil {
		return err
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	m.pool, m.ready = pool, map[string]bool{}
	if alone || stopped != nil {
		return m.dropTests(ctx)
	}
	return nil
}

// enter makes this process a user of the cluster, and reports whether it is alone: whether neither another user nor a
// watcher at work had the file. It waits for that watcher, who leaves a stopped cluster.
func (m *membership) enter() (alone bool, err error) {
	if m.users, err = os.OpenFile(filepath.Join(m.dir, "users"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return false, err
	}
	alone = syscall.Flock(int(m.users.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	return alone, flock(m.users, syscall.LOCK_SH)
}

// watch starts a watcher: before the cluster, which at no moment runs unwatched, and also when this process is alone with
// one that runs, whose watcher may have been killed. One too many does no harm.
func (m *membership) watch() error {
	users, data := filepath.Join(m.dir, "users"), filepath.Join(m.cluster(), "data")
	watcher := exec.Command("flock", "-x", users, "sh", "-c", watch, "pgtest-watch", data)
	watcher.Dir = "/"
	watcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is for the tests
	if err := watcher.Start(); err != nil {
		return fmt.Errorf("the program that stops PostgreSQL after the tests: %w", err)
	}
	return watcher.Process.Release()
}

// clusterDir is where the cluster of that name is: in memory if there is plenty, which is three times as fast on a machine
// whose disk is busy with other tests; else in the user's cache.
func clusterDir(name string) (string, error) {
	var bases []string
	const plenty = 2 << 30
	var st syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &st); err == nil && uint64(st.Bsize)*st.Blocks >= plenty {
		bases = append(bases, "/dev/shm")
	}
	if cache, err := os.UserCacheDir(); err == nil && os.MkdirAll(cache, 0o700) == nil {
		bases = append(bases, cache)
	}
	var why []error
	for _, base := range append(bases, os.TempDir()) {
		dir := filepath.Join(base, name)
		err := ourDir(dir)
		if err == nil {
			return dir, nil
		}
		why = append(why, err)
	}
	return "", errors.Join(why...)
}

// ourDir makes a directory or takes one that is there, if nobody else can have put anything in it.
func ourDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil || !errors.Is(err, os.ErrExist) {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of ours alone: remove it", dir)
	}
	return nil
}

// lock takes a lock file of the cluster's, waiting for it. The kernel gives it back when the process ends.
func lock(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("locking %s: %w", f.Name(), err)
		}
	}
}

// start starts the cluster, throwing away data of no use.
func (m *membership) start(ctx context.Context, bin devpg.Binaries, template Template) error {
	if m.outdated(template) {
		if err := devpg.Remove(ctx, m.cluster()); err != nil {
			return err
		}
	}
	cfg := devpg.Config{
		Dir: m.cluster(), Binaries: bin, NoFSync: true,
		Roles:    []string{TestRole, "avouch_log", "avouch_lookup"},
		Settings: map[string]string{"max_connections": "400", "cluster_name": "avouch pgtest", "max_wal_size": "256MB", "min_wal_size": "32MB"},
	}
	var err error
	if m.address, err = devpg.StartDetached(ctx, cfg); err != nil {
		// What cannot be started is not worth keeping: it is a cache.
		if removeErr := devpg.Remove(ctx, m.cluster()); removeErr != nil {
			return errors.Join(err, removeErr)
		}
		m.address, err = devpg.StartDetached(ctx, cfg)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.cluster(), "boot"), []byte(bootID()), 0o600)
}

// outdated reports that the data should be thrown away. After a reboot, because they were never synced. And when the
// template is not among them: roles belong to the cluster, and those of older migrations would hide what new ones forget.
func (m *membership) outdated(template Template) bool {
	boot, err := os.ReadFile(filepath.Join(m.cluster(), "boot"))
	if err != nil || string(boot) != bootID() {
		return true
	}
	_, err = os.Stat(m.marker(template))
	return err != nil
}

func (m *membership) marker(template Template) string {
	return filepath.Join(m.cluster(), "has-"+template.database())
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// ensure sees to it that the template exists; of several processes that find it missing, one builds it.
func (m *membership) ensure(ctx context.Context, template Template) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := template.database()
	if m.ready[name] {
		return nil
	}
	building, err := lock(m.dir, "building")
	if err != nil {
		return err
	}
	defer building.Close()
	found, err := m.exists(ctx, name)
	if err != nil {
		return err
	}
	if !found {
		if err := m.build(ctx, template); err != nil {
			return err
		}
	}
	if err := os.WriteFile(m.marker(template), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	m.ready[name] = true
	return nil
}

func (m *membership) forget(template Template) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ready, template.database())
}
