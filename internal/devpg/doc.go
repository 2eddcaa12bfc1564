// Package devpg runs a private PostgreSQL cluster in a directory: for `avouch dev`, and for tests.
//
// The cluster is as durable as a production one (fsync, full page writes and synchronous commit are on), and it is
// private: it listens on a unix socket only, in a directory that other users cannot enter, and asks the kernel who is
// calling (`peer`) instead of for a password. It works with PostgreSQL 15 to 18.
//
// What it promises:
//
//  1. One directory has one cluster and one owner at a time; a second Start says who has it: TestSecondStart.
//  2. What was committed is there after a stop, a restart, kill -9 of this process and kill -9 of PostgreSQL, in
//     whatever order: TestRestart, TestKillPostgres, TestKillParent, TestOrphanBackend, TestStalePid.
//  3. PostgreSQL ends when this process ends, however it ends: TestKillParent.
//  4. Only the OS user who runs this process gets in, and only as the roles of the cluster: TestPeer.
//  5. It works as root (the server then runs as another OS user) and as an ordinary user, and in a directory whose path
//     is too long for a socket, or cannot be entered by the server's user: TestOrdinaryUser, TestUnreachableDirectory,
//     TestLongPath.
//  6. When it cannot start, the error says why in PostgreSQL's own words: TestStartError.
//
// What is in the directory:
//
//	lock             held (flock) while a cluster is in use; names the process
//	data/            the cluster; its three configuration files are written anew at each start
//	run/             the socket, unless the path is too long for one
//	socket           then, the path of the directory under TMPDIR that holds it
//	postgres.log     the server's messages since its start; postgres.log.1 those of the start before
//
// There is no spec: nothing here is shared between processes but the lock.
package devpg
