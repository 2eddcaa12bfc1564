// Package org is the organisations: the tenants that everything else belongs to, and the installation's own; and their people.
//
// What it promises:
//
//  1. An organisation comes into being whole or not at all: its keys, its log with the entry of its making, its quota and
//     its first owner key: TestCreate, TestCreateIsWhole.
//  2. Sign-up is closed unless the installation opens it: TestSignUp. Open, it is limited by the address of who asks:
//     TestSignUpIsLimited, pace.TestPace, pace.TestPaceIsBounded. It may name the first owner, who gets a few mails an hour at
//     most, with the same answer: TestFirstOwnerIsInvited.
//  3. Only its own organisation:read and organisation:write see and change an organisation, from the version that they
//     have read; nobody sees another: TestSettings, TestOtherTenant.
//  4. The contact address is sealed in the database and private in the log: TestContactIsSealed.
//  5. Suspending takes effect with its acknowledgement, can be undone, and is the operator's alone: TestSuspend. The
//     installation's own organisation cannot be suspended: TestSuspend.
//  6. The installation's organisation is made once, however many servers start at once: TestEnsurePlatform. On a key store
//     that is not its own a server does not start: TestForeignKeyStore.
//  7. The issuer is fixed by the first start, and another one on the same data is refused: TestFixIssuer.
//  8. Every change is in the log, names only for those who may open private fields: TestEverythingIsRecorded.
//  9. Its quota is the operator's to set, holds on every server as soon as that is acknowledged, and is told with what is
//     used of it: TestQuota, TestUsed, server.TestQuotaOnAnotherServer. The operator sees all organisations: TestEach.
//  10. Whether its verifications are shown in public is its own decision, and no at first: TestSettings,
//     server.TestBadgeIsItsOwnDecision. Its region is the operator's, of a closed list: TestRegion.
//
// Of people:
//
//  11. What somebody may do is the union of their roles' capabilities and of their groups', read at that instant:
//     TestStanding, TestRolesTakeEffectAtOnce, TestGroups. The table of built-in roles is one function, and docs/people.md says
//     the same: TestRolesAreDocumented.
//  12. Nobody gives what they do not hold, and nobody decides about somebody who may do more: TestWhoDecidesAboutWhom,
//     TestNobodyGivesWhatTheyDoNotHold, TestRolesAreBounded; also not what break-glass lends them: TestLentIsNotHandedOn; by no
//     sequence of operations: TestNoWayToPowerSoak. It counts what they hold under the lock: TestMeanwhile.
//  13. Owners are made, suspended, removed and unmade by owners with a fresh proof: TestOwnersNeedAFreshProof, TestTransfer; never by a
//     directory: TestDirectoriesTouchNoOwners. Of one less every owner is told, and who it is: TestOwnersHearOfOneLess. Who sends the others
//     away is alone some days later, and not before: TestAlone. Once there was an owner who can act, there is one: TestLastOwnerStays,
//     TestLastOwnerStaysWhateverComesAtOnce, TestNoWayToPowerSoak. The one who is left has a way in that is not the organisation's own
//     vault, whichever change of owners, rules, roles or groups it is: server.TestLastOtherOwner, server.TestRulesLeaveAWayIn,
//     server.TestGroupThatIsTheWayIn.
//  14. Names and addresses of people are sealed for them alone, so that erasing a person erases them, and private in the log:
//     TestPersonIsSealed, TestInvite. An address has one form: TestNormal, FuzzNormal. Everybody can change their own name:
//     TestMe.
//  15. Every operation needs its capability, and finds nothing of another organisation: TestEveryPermission,
//     TestOtherTenantsPeople, TestPeopleRoutes.
//  16. An invitation is mailed, lasts seven days, is accepted once, and gives what its inviter holds, when it is made and when it
//     is accepted: TestInvite, TestOneOpenInvitation, TestResend, TestJoinOnce, TestInviterMustStillHoldIt, TestInviteOwner. It
//     says nothing of what others know of the address: TestInvitedElsewhere. Where no mail leaves, that is said, and nothing is
//     made: TestNobodyIsInvitedInVain, TestFirstOwnerIsInvited.
//  17. Whoever is removed has nothing left, in one transaction, or all: TestOffboarding, TestOffboardingIsWhole. Whoever is
//     suspended is refused, and their sessions end: TestSuspendPerson.
//  18. Owners, and whoever governs, need a second factor whatever the rules: TestWhoNeedsMFA, TestAllowedFactors. Rules that ask
//     for more hold at once, and shut nobody out who makes them: TestRules, FuzzParseRules. Those that ask for less of a second
//     factor take an owner in person, of which every owner is told, and a day: TestLoweringWaits, TestLoweringIsCancelled,
//     TestWhatLowersMFA, TestWhatDoesNotLowerIsNoWeaker.
//  19. Where there are two owners, deleting takes both, in person; whoever sends the others away first, or makes one, gains nothing:
//     TestDeletionTakesTwo, TestDeletionEnds, TestOwnersChangeMeanwhile, TestNoOwnerIsMadeToAgree, TestNoOwnerIsMadeNew, TestOnlyOwnerDeletes,
//     server.TestDeletionByTwo. It ends access at once, can be undone by the operator for 30 days, and destroys all of the
//     organisation's keys then; the log verifies as before: TestDelete, TestShred, TestShredOfOwnKey. What is lost keeps nothing else from its end:
//     TestShredPassesOverWhatIsLost. What the database says alone
//     destroys none, whoever wrote it, and whatever was restored; it is an incident: TestShredWantsTheKeyStore, TestJudge,
//     TestDeletionInterrupted, TestUncertainDeletionIsNotTakenBack, TestTwoDeleteAtOnce, server.TestUnprovedDeletionIsTold, e2e.TestDatabaseDestroysNoKeys.
//     Nor does a server whose clock is not the database's: server.TestWrongClockEndsNothing.
//  20. An organisation's keys are put under its own key management, and taken back, by an owner in person; it is tried first, and nobody
//     else makes a server call an address: server.TestWhoSetsAKMS, server.TestKMSThatIsNone, server.TestKMSInsideOurNetwork. What a crash
//     leaves half way is moved on: server.TestMoveIsResumed, server.TestRemovalIsResumed; what failed is not done later:
//     server.TestFailedRemovalChangesNothing; and a row alone does nothing: server.TestRowsAloneMoveNothing. Another credential is taken
//     from the operator while it is closed, if it opens the same key, and the settings where the database has lost them:
//     server.TestCredentialIsReplaced, server.TestRestoredDatabase.
//
// A role that loses a capability takes it from people at once, and not from the keys that they made: a service that runs with one
// would stop without anybody meaning that. Whoever makes the change is told how many there are, and finds them with
// GET /api/v1/keys?person=.
package org
