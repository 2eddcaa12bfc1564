// Package vault keeps secrets that people and agents use without seeing them: seeds of one-time codes, recovery codes, and
// credentials that the server puts into requests.
//
// An item is granted to people, groups, agents and keys: for its codes, or, rarely, with its seed. Codes are made here. What is
// decided from is remembered at the organisation's epoch, and the append that makes the decision durable compares that, as a
// verification does (package verify). What moves an item (a counter, a recovery code) is decided anew at each fetch.
//
// What it promises:
//
//  1. An item is used by those to whom it was granted or lent, as long as that lasts, at the time and from the place of its policy, and by
//     nobody else; the refusal says which it was, gives nothing, and moves nothing: TestJudge, TestJudgeAgrees, TestModel, TestHours,
//     TestPolicyCheck, TestRefusals, TestAgentsScope.
//  2. What was taken away on one server gives nothing to a fetch that is sent later, on any other; what was given is not withheld:
//     TestEveryChangeOnAnotherServer, TestAgentsScope, TestAgentIsOfTheItemsEpoch, TestLosesToChanges, TestLostSinceTheRequest. Who changes
//     an organisation all the time keeps nobody from a code: TestDecidedInTheEnd.
//  3. Codes are those of RFC 4226 and RFC 6238, in each algorithm and of 6 to 10 digits, and of Steam, and their times are right at the
//     borders: TestTOTPVectors, TestHOTPVectors, TestExpiry.
//  4. A counter's codes are given one after the other, and a recovery code once, on all servers together. A fetch that is tried again with
//     its Idempotency-Key gets the same code and burns nothing, also if the answer to the commit was lost: TestCountersAreConsecutive,
//     TestTriedAgain, TestRecoveryCodes, TestLostAnswers, TestResync. No page of another site and no link gets one:
//     TestNoOtherSiteMovesAnItem, server.TestLinksMoveNothing.
//  5. No code, export or answer of a host leaves before its entry is durable, and no request with a secret in it: TestStalledLogGivesNothing,
//     TestExportIsDurable, TestStalledLogUsesNothing, TestLostAnswers.
//  6. The code of a window is given once, or once to each, where the policy says so; a caller gets 60 codes a minute, of all kinds
//     and with those that are tried again; a token's number of uses holds for all: TestOnce, TestSixtyAMinute, TestTokenUses.
//  7. Nobody approves what they asked for, nor grants themselves anything, by a key of theirs, a key of nobody or a group either, nor takes
//     away what narrows their use; only an organisation's one owner does the latter two, who has sent no other one away
//     within days, and its log says so: TestSentAway, server.TestSeedsAreNotTakenAlone. No provider or directory of their own puts them into a
//     group to which items are granted: TestProvidersPutNobodyIn, server.TestNoItemsByAProvider. Where a secret is sent changes
//     who put it in or could export it, and the next secret is sent there only by who said so. Only people have seeds, and give them, on a
//     fresh proof. What break-glass lends takes away and reads, and gives nothing. Nobody approves for an agent that they registered or issued
//     a token of that works, nor is a loan used by a token of its approver's. What is asked, and mailed, is bounded:
//     TestSelfApproval, TestApproversOfAgents, TestLoansOfOwnTokens, TestNobodyGrantsToThemselves, server.TestNoGroupForThemselves,
//     TestNobodyLoosensForThemselves, TestLooser, TestNobodyRedirects, TestRedirects, TestNextSecretGoesNowhereElse, TestLentIsNotHandedOn,
//     TestRequests, TestRequestsAreBounded, TestGrants, TestRevokeEndsLoans.
//  8. Who lacks a permission gets nothing, of each operation, and learns nothing of a secret by what a change is refused for, or by what an
//     import finds there already: TestWhoMay, TestNothingIsOpenedForOthers, TestKindIsNotTold, TestImportChecks,
//     TestNobodyGuessesByImports, TestList. Names stand beside ids for those alone who may know the item, or read of the person, group, agent
//     or key elsewhere: TestNames.
//  9. An item's row that is another than the last change made it, in any byte, is used for nothing: also an older one that was put back, a
//     deleted one, one moved to another item or organisation, and one whose counter or marks of recovery codes are not where the last code
//     put them. So is an item with a grant, or an approved request, that is another than the last entry about that says. Both the organisation
//     and the operator have an incident, and other items go on. A check of all finds it too: TestFlippedBytes, TestDatabaseAttacks, TestPutBack,
//     TestPlantedGrants, TestOtherTenantsRow, TestRotatedUnderneath. Who alters what entries are looked up by is found by the log's pass:
//     TestAlteredLookUps.
//  10. In the database, in entries and in the server's log, there is neither a secret nor what an item is known by: TestSealedPlainly. No
//     answer but the export's holds a seed, in any form: TestWire.
//  11. Seeds leave by an export alone: to a person who proved themselves within five minutes, with the level seed on each item, and a
//     reason; with an entry for each item and a mail to each owner, and to who was sent away as one within days: TestExport, TestSentAway,
//     TestExportLosesToChanges. They say what was written, no more: TestExportIsWhole.
//  12. An import keeps all or nothing, and each secret once; a dry run keeps nothing and tells all that would be wrong:
//     TestImports, TestImportOfAddressesAndPictures, TestImportOfBatches, TestImportChecks, TestLongImport. Work with passphrases and
//     pictures, which takes up to 256 MiB each, is done one at a time on each server, and no organisation keeps the others out:
//     TestPassphrasesWait, TestOneAtATime, TestOneOrganisationLeavesRoom. It ends soon after who wants it goes away: TestImportsHeed.
//  13. A secret is used at the hosts of its policy and never seen: TestUse. What is not allowed is refused before anything is recorded as
//     used: TestUseRefused; and what is the request's own fault is told as that: TestUnfitUse. Why a host did not answer is in the log, and not told; nor does who hangs up keep the answer out of it: TestUseFails, TestHungUpIsAnswered. The limits are those of package fetch.
//  14. Who used an item since when is one question, with a complete answer: TestWhoSaw. What somebody who leaves could know is one report,
//     the older exports and what is deleted since included, and what they had by groups and keys; nothing is granted to them afterwards: TestReport, TestReportIsComplete,
//     TestEndOfPerson.
//  15. Lists go page by page, complete, and one bad part hides no other: TestList, TestRequestPages, TestReport. What is kept is in its
//     bounds, and a change is one of the version that it names: TestItems, TestRequestStates, FuzzSeed. No secret is replaced by itself:
//     TestReplaceByTheSame.
//  16. The seed by which a person signs in here is kept here too, but not where it would be the only factor of the only owner, who could not
//     get at its code then: not as a new item, in the place of another's, or by an import, whoever puts it in; nor does that owner come to be
//     without another factor, or without another owner, by what comes later, at once or on another server: server.TestOwnSeedInVault,
//     server.TestFactorBesideTheVault, server.TestSeedOfWhatIsEnrolled, server.TestLastOtherOwner, server.TestRulesLeaveAWayIn,
//     server.TestSeedAndFactorAtOnce. Who is not that owner is not told whose seed it is, and the log has it: server.TestOthersBringTheSeed.
//
// The limits of it. Whoever reads the database learns which items have the same seed, or that of whose authenticator app: by names under a
// key that is not there. A superuser of the database who takes its nets away can say who somebody is, since roles, members of groups and
// agents' scopes are rows as others are: what is done by them is in the log, under the name of who did it. An agent belongs to its
// organisation, not to a person: who decides about an item and also issues, or holds, an agent's token can grant to that. What leaves the memory of
// this process through encoding/json and crypto/hmac cannot be cleared.
package vault
