// Package doortest gives a room's test what a room stands on, all of it real: a database of its own with the present
// schema, the door to it as the server's role, a key ring over a key store, organisations, callers, and eyes for what was
// written to the log.
//
// What it promises:
//
//  1. Two doors share nothing; two servers of one door (Door.Another) share the database and the key store: TestDoors.
//  2. Entries shows every entry of a log with its private fields opened, and fails if a commitment does not hold: TestEntries.
//  3. Call speaks to a room's routes as a client would, with the rules of internal/web around them: TestCall.
//
// It is test support: nothing that ships imports it.
package doortest
