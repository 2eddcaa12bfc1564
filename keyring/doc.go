// Package keyring holds all keys, and is the only package that sees their bytes.
//
// Three layers: the platform key (environment, file or KMS; never in the database) wraps each tenant's keys, which lie in
// the key store; those wrap a data key for each write. The key store is a directory outside the database and its
// backups, because what is destroyed in it must not come back with a restored dump. Everything names the version of the
// key that it needs, so that each layer can be rotated by itself.
//
//	platform key ─ HKDF ─┬─ keystore ── wraps ── tenant keys, by use and version
//	                     │                       ├─ wrap ────── wraps ── a data key for each Seal
//	                     │                       ├─ subjects ── wraps ── a key for each data subject ── SealFields
//	                     │                       ├─ apikey ──── first stage of KeyDigest
//	                     │                       ├─ pseudonym ─ Pseudonym, Derive
//	                     │                       └─ pii
//	                     ├─ signing ─── wraps ── token signing keys, in the database (Signing)
//	                     └─ apikey pepper ────── second stage of KeyDigest
//
// What it promises:
//
//  1. A sealed value opens only where it was sealed (tenant, item, field, version) and only whole: TestSealOpens,
//     TestSealedValueIsBoundToItsPlace, TestFieldsOpen, TestWrap.
//  2. A key never encrypts two messages under one nonce, but with negligible chance: each Seal has a data key of its own,
//     each process seals fields under keys that it derives and replaces: TestEachSealHasItsOwnDataKey, TestSealersChangeTheirKey.
//  3. A key is made only where one begins: a tenant's by CreateTenant, a subject's at its first seal. What is missing,
//     damaged or wrapped under another platform key is an error and stays as it is: TestReadsNeverCreateATenant,
//     TestLostKeysAreNotReplaced, TestLostSubjectKeyIsNotReplaced, TestLostStoreIsNotReplaced, TestDamagedFilesDeny,
//     TestKeyFileIsBoundToItsPlace, TestWrongPlatformKeyIsToldAtStart. Only the decoy of promise 8, with which nothing is
//     made, is made again where it is lost: TestDecoy.
//  4. Any number of processes may share a key store and create at once; a crash leaves a key whole or not there:
//     TestManyProcessesCreateAtOnce, TestCrashesLeaveNothingThatCounts. Whoever looks for a key on the way is told what it
//     is, and never that it is lost: TestNothingSeemsLostOnTheWay.
//  5. A destroyed key is overwritten and gone, at once here and within 30 seconds on other servers; what it sealed never
//     opens again, and everything else does: TestDestroy, TestInterruptedDestroy, TestErasure, TestNoKeyStaysThatWasReadBeforeItsDestruction.
//  6. Key files are for their owner only: TestPlatformKeyFile, TestStorePermissions.
//  7. The formats are frozen: TestVectorsOfPlatformAndStore, TestVectorsOfSealedForms, TestVectorsOfDigestAndNames. What is derived for
//     one tenant and purpose is the same on every server, and nothing to any other: TestDerive.
//  8. An API key's digest depends on every part, and keeps its meaning when keys rotate: TestKeyDigest, TestPepperVersions. A new
//     one is made with no secret that another process has replaced or destroyed: TestCurrentKeyVersions. To refuse a key costs
//     the same whether there is a secret for its id, in memory or not, or none: apikey.TestUnknownKeyTakesAsLong,
//     verify.TestNoKeyTakesAsLongAsAnother, TestPretendedWorkNeedsTheStore, TestDecoy.
//  9. One key of a line (a use and an algorithm) signs at every instant; it was published 24 hours before (except the first, and in an emergency for which
//     no standby is that old); no key is unpublished while a token of it can be alive: TestRotationHoldsAtEveryInstant,
//     TestEmergencySuccessorWasPublished, TestServersRotateTogether. Lines rotate, fail and are revoked apart, and begin only when
//     somebody asks for them: TestLinesRotateApart, TestLinesFailApart, TestRevokedPeoplesKey, TestLinesBeginWhenAskedFor.
//  10. The algorithm comes from the key's record, and a signature of ES256 is 64 bytes that verify: TestForgedSignatures,
//     TestOthersVerifyOurTokens; one of RS256 is as long as the modulus: TestForgedRS256, TestOthersVerifyPeoplesTokens. A revoked key counts nowhere after a Refresh: TestRevokedKey. A record that was written
//     by someone without the platform key is no key: TestRecordsOnlyWrittenIntoTheDatabaseAreNoKeys. Unknown kids cost
//     one read of the records in five seconds: TestUnknownKidRefreshesOnceInAWhile; who sends one and hangs up keeps nobody
//     from learning a new key: TestHangingUpDoesNotHideANewKey; while the records cannot be read, it is not said that a key
//     is unknown: TestUnknownKidWhileTheRecordsCannotBeRead. However many ask for a Refresh, each waits for two reads at
//     most, and no longer than its context: TestRefreshesAreShared, TestWaitersOfARefreshHeedTheirContext. A record that does not open costs the
//     tokens of its own key and nothing else: TestUnusableRecordCostsItsOwnTokensOnly, TestDamagedRows; if it is the key
//     that signs, the standby takes over: TestDamagedSignerIsSucceeded; if none opens, none is made: TestNoKeyOpens. Not
//     being able to look is another thing: TestReadErrorsAreNotDamage. What a process has seen revoked stays so for it,
//     whatever becomes of the record: TestRevokedKeyNeverComesBack.
//  11. Each change of a signing key is in the platform's log: TestSigningTable.
//  12. No type of this package prints a key: TestKeysDoNotPrint. The process's memory cannot be dumped by its own user:
//     TestDenyDump.
//  13. Only a token is signed as a JWT with agents' keys: a check of a JWT that looks at nothing but the signature takes nothing else of ours
//     for one. People's tokens have keys of their own, in a key set of their own; neither signs or checks anything of the other's, also
//     where the database is rewritten: TestKeySetsAreApart, TestUsesAreKeptApart, TestRewrittenUsesAreNoKeys. What the token keys state otherwise is a text of lines, and no token passes for one: TestStatementsAreNoTokens,
//     TestStatementLines.
//
// What it does not promise. Go moves and copies memory: key buffers are cleared where this package owns them, but not a
// cipher's expanded key, a signing key in use, a string that an environment variable came in, or what a cache dropped
// while someone else was using it. An environment variable stays in /proc/<pid>/environ, which DenyDump closes to other
// processes of the same user; a file or a KMS is better. Overwriting a file does not reach older copies on flash,
// copy-on-write file systems, snapshots or backups of the key store: keep its history to hours. A subject whose whole
// directory is lost, not just its key, looks like one that never had a key. The times in a signing key's record, when it
// signs, retires and was revoked, are the database's word: a process that starts after an old row was put back believes it,
// as long as the private part in it opens. Whoever has both the platform key and the key
// store has everything.
package keyring
