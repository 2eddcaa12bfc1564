package e2e

import "syscall"

// orphanDies has the kernel end a program if the tests are killed.
func orphanDies(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
