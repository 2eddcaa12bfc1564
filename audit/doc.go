// Package audit is the log itself: the bytes of an entry, the chain, the Merkle tree, the checkpoint, the proof, and the
// export that others can check. It is pure: no SQL, no clock, no network; what it knows comes in as bytes.
//
// # How a log is built
//
// An Entry is deterministic CBOR (testdata/entry.cddl). Its leaf is SHA-256(0x00 || entry), and
//
//	link(i) = SHA-256("avouch/link/v1\n" || link(i-1) || leaf(i)),   link(-1) = 32 zero bytes
//
// The database gives each entry its sequence number, and the link before it, when it commits: that is a Record. The leaves
// are also those of a Merkle tree (RFC 9162). So content and order are committed to twice: a run of records verifies by
// the chain alone, and one entry by a proof of the tree. Personal data is in neither: an entry holds Commitments, and what
// they bind lies elsewhere, under a key that can be destroyed without touching the log.
//
// # What protects what
//
// Three layers, each against more than the one before:
//
//	(a) Privileges and triggers of the database (tenantdb, migrations) stop accidents and the application itself. They do
//	    not stop whoever owns the database.
//	(b) The chain and the tree, here, show any edit, loss, insertion or change of order of what was committed to by a link
//	    or root that the reader has. They do not stop whoever makes all of it anew, with new links and roots.
//	(c) Something outside of the database: the log's key, known from elsewhere; a checkpoint, seen before; a signer with a
//	    memory of its own; witnesses and timestamps. They show rewriting and rollback even by the database's owner. This
//	    package does the comparing (Known); the remembering is the signer's, the witnesses' and the reader's.
//
// An export that is checked with nothing known has layer (b) only, and Report.KeyKnown and Report.EarlierHeld say so.
// None of the layers shows that what happened was ever recorded: that is tenantdb's promise.
//
// # Promises
//
//  1. An entry has one encoding, and no other bytes are read: TestEntryRoundTrip, TestDecodeRefuses, TestNoTwoEncodings,
//     FuzzDecodeEntry (RFC 8949, section 4.2.1).
//  2. What breaks a limit is not written: TestEncodeRefuses, TestLongestEntry.
//  3. What was written stays readable: the vectors are frozen, and hold in a program that shares no code with this one:
//     TestVectorsOfEntries, TestVectorsOfLinks, TestVectorsOfCommitments, TestVectorsOfRoots, TestVectorsOfCheckpoint,
//     TestVectorsIndependently.
//  4. A commitment opens to its own fields and no others, and equal fields cannot be told from its sum:
//     TestCommitmentOpens, TestRevealRefuses, TestCommitmentsTellNothing (RFC 2104).
//  5. Roots, tiles and proofs are those of RFC 9162, by four programs: TestTreeAgainstOthers, TestTilesAgainstOthers.
//  6. A pass over records finds the first one that is missing, moved, changed or of another log, and can stop and go on:
//     TestVerifierFindsTampering, TestVerifierResumes, TestVerifierChecksDisclosures, TestTreeResumes.
//  7. A record has one line, and no other is read: TestRecordLine, TestParseRecordRefuses, FuzzRecordLine.
//  8. An export is C2SP's tlog-tiles, tlog-checkpoint and signed-note: others' programs read it: TestExportSizes,
//     TestOthersReadOurTiles, TestIndependentChecker. One that was cut short has no checkpoint: TestExportWithoutSpace.
//  9. Check finds every change of every byte of every file it names, at the first entry where it shows: TestTamperBytes,
//     TestTamperRecords, FuzzBundle, FuzzCheckpoint. Files that are no part of the format are not read.
//  10. Check finds rollback and rewriting by the key's owner if it is given an earlier checkpoint, and another signer if
//     it is given the key: TestLayerC.
//  11. Check and VerifyProof return promptly, with bounded memory, whatever they are given: TestHostileDirectory,
//     TestZipBomb, TestClaimedSizes, TestProofOfAHugeLog, TestMemoryDoesNotGrow.
//  12. A proof (C2SP tlog-proof) proves one entry of one log: TestProve, TestProofTampering,
//     TestProofOfAnotherLogsEntry, FuzzProof.
//  13. Writing an entry costs one allocation or none: TestEncodeAllocatesOnce, BenchmarkEncode.
package audit
