// Package pgtest gives each test a PostgreSQL database of its own, in some 30 ms.
//
// A database is a copy of a template that has the migrations applied. All test processes of a user share one cluster
// (`go test ./...` runs several at once); the first of them starts it, and it stops when the last of them ends. Its
// data, some 70 MB, stay in /dev/shm or the user's cache directory (avouch-pgtest-UID-VERSION), so that the next run
// begins at once; removing them between runs does no harm.
//
// What it promises:
//
//  1. No test sees another's data, and nothing of it is left when it ends: TestIsolation, TestCleanup.
//  2. A template is built once for all processes, and anew when its hash changes: TestTemplate, TestProcesses.
//  3. A copy has the template's owner, privileges and settings, which CREATE DATABASE leaves out: TestCopyIsWhole.
//  4. The cluster stops when the last process that uses it ends, however it ends; what a killed run leaves in it is
//     cleaned away by the next: TestProcesses, TestKilled.
//
// The shared cluster does not sync to disk, so it cannot show what a crash of the machine does; Private gives a test a
// durable cluster of its own, to kill and restart.
package pgtest
