// Package server puts the rooms together: configuration, routes, background work, start and stop. Rooms of one floor do
// not know each other; what one needs of another is passed in here.
//
// What it promises:
//
//  1. It starts only on a database and with keys that hold what the rooms promise: TestRefusesToStart.
//  2. A request that an operation refuses to a known caller is in its organisation's log: TestRefusalsAreRecorded. What is
//     refused before anybody is asked (an unknown path, a wrong method), or by /verify without a decision, is counted by
//     address in the platform's log, as are the refusals of nobody.
//  3. Another organisation's key gets nothing on any route: TestOtherTenantGetsNothing walks all of them.
//  4. A create that is repeated with its Idempotency-Key happens once: TestIdempotencyKey.
//  5. It says that it is ready only while it can answer: TestReadiness.
package server
