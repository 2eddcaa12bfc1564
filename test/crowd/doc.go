// Package crowd has the test of what many hashes of passwords at once take of a process's memory. It stands apart from package password
// because the race detector, with which that one is tested, takes several times as much for itself.
package crowd
