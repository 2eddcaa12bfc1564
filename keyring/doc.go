// Package keyring holds all keys. It is the only package that keeps their bytes; the drivers beneath it hand them to a KMS.
//
// Three layers: the platform key (environment or file), or a key in a KMS (KeyWrapper), never in the database, wraps each tenant's keys, which lie in
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
//	                     ├─ signing ─── wraps ── token signing keys, in the database (Signing), or the names of those that a KMS holds
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
//     is, and never that it is lost: TestNothingSeemsLostOnTheWay. A lock that another process does not let go of is waited for
//     for half a minute at most, and no longer than the caller wants: TestHeldLocksAreNotWaitedFor.
//  5. A destroyed key is overwritten and gone, at once here and within 30 seconds on other servers; what it sealed never
//     opens again, and everything else does: TestDestroy, TestDestroyMarksFirst, TestInterruptedDestroy, TestErasure, TestNoKeyStaysThatWasReadBeforeItsDestruction.
//     What a process that was killed had written of it goes with it, and is overwritten within two hours otherwise while SweepStore is
//     called every hour: TestNoCopyOutlivesItsKey, TestLeftoversAreSwept, TestSweptIsNotDestroyed.
//  6. Key files are for their owner only, and the key store stays its owner's, whoever works in it: TestPlatformKeyFile, TestStorePermissions,
//     TestStoreStaysItsOwners, TestNobodyElseWrites.
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
//  14. An organisation's key is renewed to a version that is said, once (RenewTo), and what is under older ones is wrapped under it without being
//     opened or moved: TestRenewTo, TestRewrapSealed, TestRewrapSubjects. What does not open stays as it is, and who is erased meanwhile stays
//     erased: TestRewrapSubjectsLeavesDamage, TestErasedStaysErasedWhileRewrapped.
//  15. An organisation may keep its keys under a key management of its own, and close them there: within 30 seconds of its last yes nothing
//     of the organisation opens, seals or is in memory here, and others go on: TestOwnKMSRevoked, TestServerThatKnewNothingOfIt, TestOwnKMSModel,
//     TestSlowAnswersCount. It is asked at a bounded rate and by no
//     request: TestOwnKMSIsAskedAtABoundedRate, TestOwnKMSHangs; what it gives is proved: TestOwnKeyIsProved, TestKMSMustBind. Neither it nor
//     the platform key opens anything alone: TestNeitherOpensAlone; nor does it with a copy of before of what lies here:
//     TestCopiesOpenNothingLater. Keys move there and back with nobody noticing, whatever fails or is killed on the way:
//     TestReadersWhileKeysMove, TestReaderInBetween, TestMovesFailAnywhere, TestHandOverKilled, TestTakenBack; none is left behind that is
//     made or rewrapped meanwhile: TestNoKeyIsLeftOutside; rotation and destruction do without it: TestOwnKeyThroughRotations,
//     TestShreddedWithoutItsKMS. Where the settings are missing here it is not blamed: TestSettingsAreMissing.
//  16. Keys are wrapped anew while they are in use, by a process that may be killed at any point: nothing is unreadable in between, what
//     the new wrapper cannot open replaces nothing, what was destroyed stays so, and no older wrapper is needed afterwards: TestRewrap,
//     TestRewrapKilled, TestRewrapReplacesNothingUnread, TestRewrapBringsNothingBack, TestRewrapFinishesOff, TestRewrapSealed,
//     TestRewrapSigning, TestRewrapSigningLeavesWhatItCannotOpen. What does not open stops nothing else, and is named: TestRewrapGoesOn;
//     where nobody answers it stops: TestRewrapStopsWhereNobodyAnswers. No bytes of what was replaced stay: TestOverwritten.
//  17. Of several wrappers the first wraps, and what any has wrapped opens with that one alone: TestSeveral, TestLocalContract. A KMS that
//     does not answer, or refuses, is told from a key that does not open: server.TestKMSAlone.
//  18. A new version of a platform key or a pepper takes none away, and stays its owner's: TestAddPlatformKey, TestPepperFile. It wraps and
//     digests nothing before a rewrapping: TestNewVersionsWait, TestNewPeppersWait, server.TestPepperWaitsForRewrap. With a KMS
//     no platform key is needed, but a pepper is: TestWithoutPlatformKey.
//  19. That an organisation was deleted is said beside its keys, and by nobody who has the database alone; who deletes, restores or shreds
//     does so alone, on all servers: TestDeletion, TestDeletionIsRewrapped, TestDeletionIsHeldByOne, TestDeletionFormat, FuzzParseDeletion. Since when nothing needs
//     older versions is said in the same way, of as many rotations as a KMS wraps, and none of them keeps another from its end: TestUnneeded,
//     TestUnneededTogether, TestUnneededIsRewrapped, TestUnneededIsBounded, TestUnneededFormat, FuzzParseUnneeded.
//  20. A process that was not given what wraps the keys now knows it: it is not ready, makes no key, and calls nothing altered:
//     TestForgottenProcess, TestNotForgotten, TestReady. No key, and no note of the key store, counts before what was wrapped has opened: TestNewKeysAreProved. What a
//     suspended machine had left of a key, or of an organisation's lease, is over when it wakes: TestSuspended.
//  21. Where a KMS holds the signing keys (Hold), no private part of a new one was ever here, and others verify what it signs:
//     TestOthersVerifyHeldKeysTokens. A record says which of the KMS's keys a kid is, for the use, and only who has the platform key writes
//     that: TestHeldRecordsAreProved. A signature that does not verify by the record is no token, whatever happened there:
//     TestWrongSignatureIsNoToken. A KMS that hangs or refuses stops signing, in bounded time and with bounded calls, and no check of a
//     token: TestSilentKMS, server.TestSigningKeysInTheKMS; nor an emergency for which there is a standby: TestRevokedWithoutTheKMS.
//     The KMS holds the keys that records name, and what was made in vain is ended there, but for what a killed process made a moment
//     before: TestHeldKeysRotateTogether, TestKeysOfUnknownOutcome, TestHeldKeysEnd, TestOneThatIsKept, TestHeldModel, server.TestEndlessEnd. The setting is
//     for new keys, both ways: TestSettingIsForNewKeys; names are wrapped anew as keys are: TestHeldRewrap.
//  22. What is revoked signs nothing from when Revoke returns, on any server, and its successor signs: TestRevokedKeySignsNothing.
//
// What it does not promise. Go moves and copies memory: key buffers are cleared where this package owns them, but not a
// cipher's expanded key, a signing key in use (where no KMS holds it), a string that an environment variable came in, or what a cache dropped
// while someone else was using it. An environment variable stays in /proc/<pid>/environ, which DenyDump closes to other
// processes of the same user; a file or a KMS is better. Overwriting a file does not reach older copies on flash,
// copy-on-write file systems, snapshots or backups of the key store: keep its history to hours. A subject whose whole
// directory is lost, not just its key, looks like one that never had a key. The times in a signing key's record, when it
// signs, retires and was revoked, are the database's word: a process that starts after an old row was put back believes it,
// as long as the private part in it opens. Whoever has both the platform key and the key
// store has everything.
package keyring
