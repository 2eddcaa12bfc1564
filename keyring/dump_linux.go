package keyring

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DenyDump keeps this process's memory from core dumps, and from ptrace and /proc/<pid>/mem of processes of the same
// user (PR_SET_DUMPABLE). Call it at start, before a key is read. Root can still read it, and so can a hypervisor.
func DenyDump() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keyring.DenyDump: %w", err)
	}
	return nil
}
