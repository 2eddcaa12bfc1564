// Package strangers has the tests of what strangers can do to those who sign in: find out who is there, guess, and crowd. They run
// against whole servers with real hashes, from addresses of their own. They stand apart from package server because they
// measure time and memory, which the race detector would change.
package strangers
