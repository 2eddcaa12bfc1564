package devpg

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// account is the OS user as whom the server runs. PostgreSQL refuses to run as root, so root's clusters run as another.
type account struct {
	uid, gid uint32
	switched bool // not our own
}

// accountFor decides who runs the cluster in data. One that exists stays with its owner: another user could not read it.
func accountFor(data, wanted string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	var st syscall.Stat_t
	if err := syscall.Stat(data, &st); err == nil && st.Uid != 0 {
		return account{uid: st.Uid, gid: st.Gid, switched: true}, nil
	}
	names := []string{"postgres", "nobody"}
	if wanted != "" {
		names = []string{wanted}
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return account{uid: uint32(uid), gid: uint32(gid), switched: true}, nil
		}
	}
	return account{}, fmt.Errorf("devpg.accountFor: PostgreSQL does not run as root, and there is no OS user %s to run it as", strings.Join(names, " or "))
}

// own gives a file or directory of ours to the server's user.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// canRun finds out whether the server's user can reach the binaries: the parents of a private copy may be closed to it.
func (a account) canRun(b Binaries) error {
	if !a.switched {
		return nil
	}
	cmd := exec.Command(b.path("postgres"), "--version")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("devpg: OS user %d, as whom root runs PostgreSQL, cannot run %s (put it where every user can read it): %w %s",
			a.uid, b.path("postgres"), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// callerName is the name by which `peer` will know this process. The account may come from a directory service that only
// the C library asks, and so may be known to `id` alone.
func callerName() (string, error) {
	uid := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(uid); err == nil {
		return u.Username, nil
	}
	out, err := exec.Command("id", "-un", uid).Output()
	if err != nil {
		return "", fmt.Errorf("devpg: OS user %s has no name, and PostgreSQL needs one to know it by: add it to /etc/passwd: %w", uid, err)
	}
	return strings.TrimSpace(string(out)), nil
}
