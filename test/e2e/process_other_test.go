//go:build !linux

package e2e

import "syscall"

// orphanDies does nothing where the kernel does not offer it.
func orphanDies(*syscall.SysProcAttr) {}
