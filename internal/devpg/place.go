package devpg

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrInUse says that another process runs the cluster of this directory. The error is an *InUseError, which names it.
var ErrInUse = errors.New("in use")

// InUseError is the ErrInUse of one directory.
type InUseError struct {
	Dir string
	PID int // 0 if it is not known
}

// Error names the directory and the process that has it.
func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("directory %s is in use by process %d: stop that one, or choose another directory", e.Dir, e.PID)
}

// Is reports that an InUseError is an ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// place is the directory of a cluster.
type place struct{ dir string }

func (p place) file(name string) string { return filepath.Join(p.dir, name) }
func (p place) data() string            { return p.file("data") }
func (p place) log() string             { return p.file("postgres.log") }

// lock takes the directory for this process, until the file is closed or the process ends.
func (p place) lock() (*os.File, error) {
	f, err := os.OpenFile(p.file("lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("devpg.lock: %w", err)
	}
	// A lock that was just given up stays for the moment that a child of its holder is between fork and exec.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for tries := 0; errors.Is(err, syscall.EWOULDBLOCK) && tries < 25; tries++ {
		time.Sleep(20 * time.Millisecond)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &InUseError{Dir: p.dir, PID: p.holder()}
		}
		return nil, fmt.Errorf("devpg.lock: %s: %w", p.dir, err)
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		f.Close()
		return nil, fmt.Errorf("devpg.lock: %w", err)
	}
	return f, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// holder reads who has the lock; whoever has just taken it may not have written its number yet.
func (p place) holder() int {
	for range 10 {
		b, _ := os.ReadFile(p.file("lock")) // an unreadable one is an unknown holder
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return pid
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0
}

// longestSocketDir leaves room for "/.s.PGSQL.5432" in the 107 bytes of a unix address.
const longestSocketDir = 107 - len("/.s.PGSQL.5432")

// canHoldSocket reports whether a path can be a socket's directory and stand in a URL and in a shell as it is: libpq and
// PostgreSQL split such paths at commas, and quote each in their own way.
func canHoldSocket(path string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r)
	}
	return len(path) <= longestSocketDir && strings.TrimFunc(path, plain) == "" && strings.HasPrefix(path, "/")
}

// socketDir says where the socket is, or will be if it has to be elsewhere and has been before.
func (p place) socketDir() string {
	if run := p.file("run"); canHoldSocket(run) {
		return run
	}
	b, _ := os.ReadFile(p.file("socket")) // none yet is none
	return strings.TrimSpace(string(b))
}

// makeSocketDir makes the directory of the socket, empty, for the server's user alone. Of the paths under TMPDIR the last
// one is taken again, so that URLs stay the same, but only if nobody else has put something there meanwhile.
func (p place) makeSocketDir(acc account) (string, error) {
	dir := p.socketDir()
	if dir == p.file("run") {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			return "", fmt.Errorf("devpg.makeSocketDir: %w", err)
		}
	} else if !canHoldSocket(dir) || !takeDir(dir, acc) {
		base := os.TempDir()
		if !canHoldSocket(filepath.Join(base, "avouch-0123456789")) {
			base = "/tmp"
		}
		var err error
		if dir, err = os.MkdirTemp(base, "avouch-"); err != nil {
			return "", fmt.Errorf("devpg.makeSocketDir: %w", err)
		}
		if err := os.WriteFile(p.file("socket"), []byte(dir+"\n"), 0o600); err != nil {
			return "", fmt.Errorf("devpg.makeSocketDir: %w", err)
		}
	}
	if err := acc.own(dir); err != nil {
		return "", fmt.Errorf("devpg.makeSocketDir: %w", err)
	}
	if err := removeSocket(dir); err != nil {
		return "", fmt.Errorf("devpg.makeSocketDir: %w", err)
	}
	return dir, nil
}

// removeSocket removes what a server that was killed leaves. The socket's lock file names a process number that another
// process may have by now, and PostgreSQL would believe it; we know better, for the directory's lock is ours.
func removeSocket(dir string) error {
	for _, name := range []string{socketName, socketName + ".lock"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// takeDir makes dir, or takes one that is there if it is a closed directory of the server's user or our own.
func takeDir(dir string, acc account) bool {
	if os.Mkdir(dir, 0o700) == nil {
		return true
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return false
	}
	return st.Mode&0o077 == 0 && (st.Uid == acc.uid || int(st.Uid) == os.Geteuid())
}

// removeStraySocketDir takes away what a stopped cluster left outside its directory.
func (p place) removeStraySocketDir() {
	if dir := p.socketDir(); dir != "" && dir != p.file("run") {
		_ = removeSocket(dir) // what stays is closed to others, and not worth failing a stop
		_ = os.Remove(dir)    // the same
	}
}

const socketName = ".s.PGSQL.5432"

// Address is where a running cluster is reached.
type Address struct{ socketDir string }

// URL returns a connection string that psql, psycopg and pgx accept. It holds no password: there is none. The port is
// said because PGPORT in the environment would change it.
func (a Address) URL(role, database string) string {
	return "postgres://" + url.PathEscape(role) + "@/" + url.PathEscape(database) + "?host=" + a.socketDir + "&port=5432"
}
