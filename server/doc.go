// Package server puts the rooms together: configuration, routes, background work, start and stop. Rooms of one floor do
// not know each other; what one needs of another is passed in here.
//
// What it promises:
//
//  1. It starts only on a database and with keys that hold what the rooms promise: TestRefusesToStart.
//  2. A refused request of a known caller is in its organisation's log, one of nobody is counted in the platform's:
//     TestRefusalsAreRecorded.
//  3. Another organisation's key gets nothing on any route: TestOtherTenantGetsNothing walks all of them.
//  4. A create that is repeated with its Idempotency-Key happens once: TestIdempotencyKey.
//  5. It says that it is ready only while it can answer: TestReadiness.
package server
