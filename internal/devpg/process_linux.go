package devpg

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel stop the child when this process ends, even by kill -9.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// processesIn lists the processes that work in a directory, as each process of a cluster does in its data directory. A
// number in a file would not do: it may be another process's by now.
func processesIn(dir string) []int {
	want, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // what could be read is what there is
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if cwd, err := os.Stat("/proc/" + name + "/cwd"); err == nil && os.SameFile(cwd, want) {
			pids = append(pids, pid)
		}
	}
	return pids
}

var sharedMemory = regexp.MustCompile(`/dev/shm/PostgreSQL\.\d+`)

// sharedMemoryOf lists the files of shared memory that processes have open. A server that is killed leaves them behind;
// the next one in its directory removes them, but there may be no next one.
func sharedMemoryOf(pids []int) (paths []string) {
	for _, pid := range pids {
		maps, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps") // one that has ended has none
		paths = append(paths, sharedMemory.FindAllString(string(maps), -1)...)
	}
	return paths
}

// removeSharedMemory removes what is left of a server that did not stop cleanly: the given files, and the segment by which
// PostgreSQL knows its own orphans, if nobody is attached to it.
func (p place) removeSharedMemory(files []string) {
	for _, file := range files {
		_ = os.Remove(file) // most are gone: a clean stop, or a restart, removes them
	}
	b, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return // a clean stop
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return
	}
	fields := strings.Fields(lines[6]) // key and number
	if len(fields) != 2 {
		return
	}
	id, err := strconv.Atoi(fields[1])
	if err != nil {
		return
	}
	var st unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &st); err == nil && st.Nattch == 0 {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // 56 bytes: not worth failing a stop
	}
}
