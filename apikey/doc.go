// Package apikey is the keys of owners and services: their format, their making, their ends, and who a key stands for.
//
// A key is shown once, when it is made. What is stored is a digest that takes two secrets to compute, neither of which is
// in the database (package keyring), in a table that the server's role writes and cannot read. An owner key is the
// organisation itself, a service key one of its services; a data key is somebody to whom the organisation gave it, for an API
// of its own, and is verified by the verify room.
//
// What it promises:
//
//  1. The format is frozen, and a key that was mistyped anywhere is refused without a hash or a query: TestVectors,
//     TestMistypedKeys, FuzzParse. The rules for secret scanners in scanning/ find every key: TestScanners.
//  2. A key is shown once; it is in no list, log, error or print-out, and nothing of it is in the database but the digest
//     and the hint: TestShownOnce. Whoever has the database alone cannot test whether a text is a key, made here or imported:
//     verify.TestDumpTestsNoGuess.
//  3. The server's role cannot read the digests, only ask for the one of an id: TestVerifiersAreUnreadable.
//  4. Unknown ids, wrong secrets, other organisations' keys and those whose secret or pepper is gone meet the same work, whether or
//     not an organisation's secret is in memory, and get the same answer: TestUnknownKeyTakesAsLong, TestAllRefusalsLookAlike,
//     TestRetiredPepper. An address that sends unknown keys without end has no more of them looked up, and what is known goes on
//     working from there: TestUnknownKeysOfOneAddress, TestKnownKeyFromAFloodedAddress, server.TestLeakedNonsenseIsCounted.
//  5. A key that is revoked, disabled or expired, or whose organisation is suspended, authenticates nobody from the moment
//     that was acknowledged, on every server, whatever is in memory or is being read for others: TestRefusedStates,
//     TestNoSharedReadIsTooOld. Its use is recorded in its organisation's log, with the reason: TestRefusedStates; where it
//     floods, with a count: TestRefusedIsToldOnce, server.TestFloodWithARevokedKey.
//  6. A key gives away nothing that it lacks: no capability, resource, owner, quota or lifetime: TestNoEscalation, nor by
//     taking over another: TestNoQuotaByRotation; it lifts no limit that it has itself: TestLimitsAreLifted; it does
//     not change itself, and ends no key that may do more than itself, but what it made: TestKeysAndThemselves,
//     TestKeysEndWhatTheyMade; a second owner key may end the first: TestSecondOwnerKeyTakesTheFirstOnesPlace. Where a new key
//     lasts less long than it would without its maker, that is told: TestExpiryCutIsTold.
//  7. Another organisation's key is missing: TestOtherTenant.
//  8. Making, changing and ending a key are in the log, names and metadata only for those who may open private fields:
//     TestEverythingIsRecorded; what can alter a decision moves the epoch and what cannot does not: TestEpoch.
//     What is stored comes back as it was sent, scopes as the sorted set that they are, or is refused with the place of the fault; names hide nothing, and an
//     owner's is written in one way: TestInvalidKeys, TestMetadataComesBackAsSent, TestFaultsHaveTheirPlace. All of it has room
//     in the entries about the key, which nothing therefore keeps from its end: TestTextsAreBounded,
//     TestNothingKeepsAKeyFromItsEnd.
//  9. issued_at_ns grows strictly within an organisation, whatever clocks do: TestIssuedAtGrows.
//  10. Only the operator gives a service key a quota above the installation's default: TestNoEscalation, TestSetQuota.
//  11. Children and their children reach no further than the key that makes them, and spend its meters beside their own: any
//     number of them, with all generations, has exactly its uses, also those that it is given after it made them:
//     TestChildrenAreNarrower, TestChildrenSpendTheirParents, TestLimitsGivenLater, TestFamilySpendsExactly; and its monthly quota: verify.TestChildrenShareTheirMakersQuota, verify.TestQuotaGivenLater. No
//     key loosens itself, through its generations, its maker, a key that nobody counts, or what its owner's keys share, and none
//     decides about one that it came from: TestNoKeyLoosensItself, TestNoKeyDecidesAboutItsMaker, TestNarrowKeysAndOthers,
//     TestGivenKeysStayWithTheirOwner. Every operation needs its capability at that moment: TestEveryCapability,
//     TestRoutesNeedCapabilities.
//  12. Rotation carries everything over and its meters go on; two generations live at most, the old one ends exactly when the
//     overlap does, and nothing lives longer by it, nor what comes after it
//     less long: TestRotationCarriesOver, TestRotationGoesOnCounting, TestTwoGenerations,
//     TestOverlap, TestRotationDoesNotProlong, TestKeyStateMachineSoak. The newest one's limits hold for both:
//     TestGenerationsHaveTheNewestLimits.
//  13. A metered key has exactly its uses, on any number of servers; what is denied for want of a capability spends nothing; a
//     spent key can still revoke itself: TestUsesAreExact, TestRatesAreAllOrNone, TestAdmitReadsAgain, TestSpentKeyRevokesItself.
//     How many uses are left is told without the key: TestRemaining. Keys that nothing limits in their line are counted nowhere:
//     TestLimitsGivenLater.
//  14. Addresses are judged alike however they are written, and an unknown one is in no list: TestAddressAllowed, TestParseCIDRs,
//     TestCIDRsWithin, TestCIDRProperties, FuzzCIDR; a key from elsewhere is refused like any other: TestAddresses.
//  15. Permission queries hold only if what was granted covers all that they ask for, and more granted never turns a yes into a
//     no: TestQueries, TestQueryProperties, TestUnfitQueries, TestGrantedScopes, FuzzQuery.
//  16. Data keys are nobody here: TestDataKeysAreNobody, server.TestDataKeysOpenNothing. Of imported ones neither key nor hash
//     is stored; all of an import or none: TestImport, TestImportAllOrNone, TestImportedKeysAuthenticateNobody, FuzzHash.
//     A mistyped one costs no query: TestMistypedKeysCostNoQuery. They are looked for under those secrets alone that keys still
//     need: TestImportedKeysAreSoughtUnderFewSecrets, and where one of those is not known here, nothing is said and nothing imported:
//     TestImportedKeysAndALackingPepper. An import holds its organisation up for as few statements as one key would:
//     TestImportsTakeFewStatements, TestLargestImport.
//  17. An owner has no more keys in force than it may, and its keys share their limits, in a crowd on several servers too:
//     TestOwnerCap, TestOwnerCapSoak, TestKeyStateMachineSoak, TestSharedLimits. Whoever a key is given to can be given limits:
//     TestOwnersAreNamedInAddresses, TestPagesOfLongOwners, TestOwnerThatIsNotThere.
//  18. A key that was seen where none may be is marked, its organisation is told, once a day, and one that is public ends; only
//     what GitHub signed is taken for its word, one alert costs no other, and none is said to be heeded that was not: TestLeaked,
//     TestLeakIsToldOnceADay, TestGitHubAlert, TestForgedAlert, TestOneAlertCostsNoOther, TestAlertsThatNobodyLookedAt,
//     TestAlertAfterALeakInARequest, TestLeakedKeyStaysLeaked, TestGitHubSignature, TestGitHubKeyList, TestAlerts, TestFeedback, FuzzGitHub,
//     server.TestKeyMails. Every key in any bytes is found, and not told: TestScan, TestScanAcrossBuffers,
//     TestScanProperties, TestScanTellsNoSecret, FuzzScan.
//  19. Of a key that ends, notices go out once each, 30, 7 and 1 days before, by the hour, all of an hour in one mail: TestNotice,
//     TestNotices, TestNoticeIsOneCommit, TestManyNoticesAreOneMail, server.TestExpiryNoticesComeBySchedule. One organisation's
//     fault costs no other its notices: server.TestOneOrganisationsFaultIsNoOthers. Each risk has its border: TestKeyRisks,
//     TestRiskReport, TestRiskRoute, verify.TestTriedKeysAreAtRisk.
//  20. When, from where and with what a key was used last is written off the request's path, sealed, and survives failures:
//     TestLastUse, TestFlushSurvivesFailure, TestUsesOfTwoServers, server.TestUsesSurviveAStop. Uses that have no entry of their
//     own are counted in one.
//  21. Both secrets behind the digests are replaced while keys are used; idle keys are listed; shredding ends all keys, in
//     restored dumps too: TestPepperRotation, TestSecretRotation, TestRenewedElsewhere, TestRenewalThatFails,
//     TestWrongSecretIsNotRenewed, TestShred, TestOnlyTheOperator. No key is digested, now or anew, with a secret that was replaced
//     or destroyed elsewhere a moment ago: TestRenewalIsNotUndone, TestRecoveredKeyLives, TestKeyIsMadeWithTheSecretOfItsCommit,
//     TestKeysMadeDuringAShredding.
//  22. A key that is revoked, or public, ends alone: a revocation cannot be undone, and from an organisation's first key may come
//     all its customers' keys. It is told how many that are in force came from it, which are the keys that it and its earlier
//     generations made, what those made, and their successors; at most 1,000 are counted: TestRevocationOfOneKey,
//     TestRevocationTellsWhatIsLeft, TestLeakTellsOfTheLine. If that is asked for they end with it, at most 10,000 in the
//     transaction that ends the key itself, those first that could make more, and all before the answer; the entry names them:
//     TestRevocationWithChildren, TestManyChildrenEndTogether, TestMoreChildrenThanEndAtOnce, TestLineageRoutes,
//     TestKeyStateMachineSoak. To rotate, disable or outlive a key ends nothing that it made: TestRevocationOfOneKey. The API's
//     own description says so: TestDescriptions.
//  23. A key knows the person who made it, or the key that it came from, or rotated it, and ends when that person leaves, with all
//     that came from it: TestKeysEndWithTheirPerson, org.TestOffboarding. A person gives a key nothing that they do not hold at
//     that moment, and what break-glass lends never: TestPersonsKeysReachNoFurther, org.TestMeanwhile, org.TestLentIsNotHandedOn.
//     What they lose later their keys keep, and are counted: org.TestRolesTakeEffectAtOnce. Such a key works from where the
//     organisation lets people come, unless it is a customer's: TestPersonsKeysComeFromWhereTheyMay,
//     server.TestAllowListBindsKeysOfPeople.
package apikey
