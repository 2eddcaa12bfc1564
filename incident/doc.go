// Package incident keeps the record of what is wrong: faults of a tenant's log, of the installation, of a leaked key. It
// is the minimum that the verification pass needs; notices and the status page come later.
//
// What it promises:
//
//  1. An incident is opened and resolved with an entry in the log of its tenant, or not at all: TestOpenAndResolve.
//  2. What is open already is not opened again, also when several servers see it at once: TestSameIsNotRaisedTwice,
//     TestRaisedAtOnce.
//  3. A tenant sees its own incidents and no others; the platform's are the platform's: TestOthersSeeNothing.
//  4. Reading them over HTTP takes audit:read: TestRoute.
//
// The words of an incident are Avouch's own. They are rows of a table in plain text, so they hold no personal data and
// nothing that a caller wrote; raise with identifiers only.
package incident
