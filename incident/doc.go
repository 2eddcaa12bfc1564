// Package incident keeps the record of what is wrong: faults of a tenant's log, of the installation, of a leaked key.
//
// What it promises:
//
//  1. An incident is opened and resolved with an entry in the log of its tenant, or not at all: TestOpenAndResolve.
//  2. What is open already is not opened again, also when several servers see it at once: TestSameIsNotRaisedTwice,
//     TestRaisedAtOnce.
//  3. A tenant sees its own incidents and no others; the platform's are the platform's: TestOthersSeeNothing.
//  4. Reading them over HTTP takes audit:read: TestRoute.
//  5. Whoever must act is told by mail, asked for in the transaction that opens the incident: its organisation, or the
//     operator of the installation; if there is nobody to tell, the server's log says so as an error:
//     server.TestIncidentNotice, server.TestInstallationIncidentNotice.
//
// The words of an incident are Avouch's own. They are rows of a table in plain text, so they hold no personal data and
// nothing that a caller wrote; raise with identifiers only.
package incident
