//go:build unix && !linux

package devpg

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing here: only Linux can tie a child to its parent. The next Start ends one that was left.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// processesIn lists the postmaster of a data directory, if it runs. Its orphans cannot be found here.
func processesIn(dir string) []int {
	pid, _ := place{dir: strings.TrimSuffix(dir, "/data")}.postmaster()
	if pid <= 0 {
		return nil
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil || !strings.Contains(string(out), "postgres") {
		return nil
	}
	return []int{pid}
}

// sharedMemoryOf finds nothing here: shared memory has no files.
func sharedMemoryOf([]int) []string { return nil }

// removeSharedMemory leaves to the next start in the directory what a killed server left.
func (p place) removeSharedMemory([]string) {}
