// Package apikey is the keys of owners and services: their format, their making, their ends, and who a key stands for.
//
// A key is shown once, when it is made. What is stored is a digest that takes two secrets to compute, neither of which is
// in the database (package keyring), in a table that the server's role writes and cannot read. A service key is an
// organisation's service; an owner key is the organisation itself.
//
// What it promises:
//
//  1. The format is frozen, and a key that was mistyped anywhere is refused without a hash or a query: TestVectors,
//     TestMistypedKeys, FuzzParse. The rules for secret scanners in scanning/ find every key: TestScanners.
//  2. A key is shown once; it is in no list, log, error or print-out, and nothing of it is in the database but the digest
//     and the hint: TestShownOnce.
//  3. The server's role cannot read the digests, only ask for the one of an id: TestVerifiersAreUnreadable.
//  4. Unknown ids, wrong secrets and other organisations' keys meet the same work and get the same answer:
//     TestUnknownKeyTakesAsLong, TestAllRefusalsLookAlike.
//  5. A key that is revoked, disabled or expired, or whose organisation is suspended, authenticates nobody from the moment
//     that was acknowledged, on every server, whatever is in memory or is being read for others: TestRefusedStates,
//     TestNoSharedReadIsTooOld. Its use is recorded in its organisation's log, with the reason: TestRefusedStates; where it
//     floods, with a count: TestRefusedIsToldOnce, server.TestFloodWithARevokedKey.
//  6. A key gives away nothing that it lacks: no capability, resource, owner, quota or lifetime: TestNoEscalation; it does
//     not change itself, and ends no key that may do more than itself: TestKeysAndThemselves.
//  7. Another organisation's key is missing: TestOtherTenant.
//  8. Making, changing and ending a key are in the log, names and metadata only for those who may open private fields:
//     TestEverythingIsRecorded; what can alter a decision moves the epoch and what cannot does not: TestEpoch.
//  9. issued_at_ns grows strictly within an organisation, whatever clocks do: TestIssuedAtGrows.
//  10. Only the operator gives a service key a quota above the installation's default: TestNoEscalation, TestSetQuota.
//  11. What is not there yet (max_uses, allowed_cidrs, rate_limits) is refused and never ignored: TestUnsupported.
package apikey
