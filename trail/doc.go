// Package trail is the log in use: reading it, following it, proving an entry, exporting it, checking it without end, and
// what agents and services say they did. What an entry is and how it is hashed is package audit's; that it gets into the
// log is tenantdb's.
//
// What it promises:
//
//  1. A log is shown to callers of its own organisation with audit:read, and to nobody else: TestOthersSeeNothing.
//  2. Every read of the log is an entry in it before the answer goes out; a read that cannot be recorded shows nothing:
//     TestReadsAreRecorded, TestUnrecordedReadShowsNothing.
//  3. Pages neither skip nor repeat entries while others append, and none looks at more than a bounded number of rows:
//     TestPagesAreStable, TestBoundedScan, TestTimeWindow.
//  4. A stream gives every entry once, in order, over any number of reconnections; a reader that stands still, or whose
//     credential no longer counts, is cut off: TestStreamFollows, TestSlowReaderIsCutOff, TestStreamEndsWithItsRight. What
//     is appended after a revocation is acknowledged is not shown on a stream of the key that was revoked:
//     TestStreamShowsNothingAfterItsRight, server.TestStreamOfARevokedKey.
//  5. A proof holds by others' code, for any entry of a log of any size, and what was tampered with is not proved:
//     TestProofs, TestLargeTree, TestNoProofOfTampered. It does not read the log again: TestProofReadsLittle.
//  6. What an agent or a service states is marked as stated by it, is there as often as it was said, and none of its words
//     are in the entry: TestStatement, TestReusedRequestIDSuppressesNothing, TestStatementsTogether.
//  7. An export made beside appends verifies, by audit.Check and by a checker that shares no code with it, and a log that
//     does not verify is not exported: TestExportVerifies, TestExportBesideAppends, TestTamperedLogIsNotExported.
//  8. Altering any byte of body, leaf, prev, sealed or an identifier, deleting, adding, swapping, moving, truncating: the
//     pass and the check of a database name the first bad entry: TestTamperingIsFound, TestMovedEntryIsFoundElsewhere.
//     The pass also finds what is altered after it has passed, and a log that was taken back: TestPassFindsTampering,
//     TestPassSeesRollback.
//  9. Neither raises a false alarm beside appends, an erasure, or a key store that is away: TestPassBesideAppends,
//     TestErasedIsNotTampered, TestKeyStoreAwayIsNotTampering.
//  10. Nothing here holds a snapshot for long, since that bloats the row every append goes through:
//     TestPassHoldsNoSnapshot, TestStreamHoldsNoTransaction, TestPassIsThrottled.
//  11. What a request spent its time on, where it is remembered, is shown to the organisation that sent it, whether it left
//     entries or not, and to no other: TestSpans, server.TestTraceIsItsSenders.
//
// What it does not promise. A superuser who rewrites a log from some entry on, with its head, leaves one that agrees with
// itself: only somebody who holds an earlier export, leaf or answer sees it, and a pass that has read it since the server
// started. The heads of proofs are not signed, and exports are signed by a key that Config.Sign gives, or by one made for each: signing with a
// memory, and witnesses, come with checkpoints. The column written_at says where a row lies and is evidence of nothing:
// the time of an entry is inside it. Where a body and its leaf were altered together, the first bad entry is the one
// after, whose prev no longer fits.
package trail
