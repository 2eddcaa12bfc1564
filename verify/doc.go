// Package verify is the hot path, and what everything else exists for: a service asks whether an agent's token allows
// what the agent wants to do, and gets one answer, which is in the log before the service has it.
//
// The agent usually belongs to another organisation than the service. This is the one operation that spans two tenants:
// one commit writes what was decided to the service's log, and who asked to the owner's.
//
// An organisation asks the same of keys that it gave to its own users: one commit takes the use from the key's meters and
// writes the decision to its log.
//
// What it promises:
//
//  1. An answer is given only after its entries are durable in both logs; if they cannot be written, the answer is a 503
//     problem and never an allow: TestStalledLogDenies, e2e.TestNothingAcknowledgedIsLostSoak. Nobody waits for the registry
//     longer than its request may take: TestStalledReadIsNotWaitedFor.
//  2. A change that was acknowledged is seen by every verification that is sent later, on every server: there is no cache
//     window. What is remembered is only used at the epoch that it was read at, and the append compares epochs:
//     TestEveryChangeOnAnotherServer, TestLosesToChanges, e2e.TestRevocationHasNoWindowSoak; a signing key too:
//     TestRevokedSigningKey, e2e.TestRevokedSigningKeyOnEveryServer; and a key that was enabled: TestNoReadOfBeforeIsJoined.
//  3. The order of reasons is fixed: signature, REVOKED, EXPIRED, DENIED: TestPrecedence.
//  4. A token that is bound to resources is denied everywhere else: TestResourceBound.
//  5. The service learns the agent's name, DID, owner's name and the scopes in question, and only if the owner lets it
//     verify at all; nothing about the owner's log: TestVisibility, TestAnswerTellsNothingOfTheOwnersLog.
//  6. Quotas and limited uses are never exceeded: TestQuota, TestChildrenShareTheirMakersQuota, TestLimitedUses.
//  7. Whatever is presented as a token, the answer is a decision and never a 5xx: TestForgeries, FuzzVerify,
//     e2e.TestForgery. The log names it by what helps nobody to test a guess: TestForgeriesAreNamedByNoHash.
//  8. A key asks no further than it was made for, and one that does not work is refused and recorded: TestNarrowedKeys,
//     TestRefusedKeyIsRecorded. What is refused without a decision is in the log of the organisation that asked:
//     server.TestVerifyRefusalsAreRecorded, server.TestUnavailableIsCounted.
//  9. The page /verified shows a service that wants it, with the log entry of its last verification and a signed statement
//     of that, good for ten minutes; it tells no other from one that does not exist: TestVerifiedPage. What is stated is no
//     token to anybody, and no name states a line of its own: TestStatementIsNoToken, TestStatedInOneLine.
//  10. Strangers who ask for that page cost little: it is made once in 30 seconds for all who ask, two services' at once,
//     in a bounded time, and remembered in a bounded memory. A badge that is switched off is gone at once all the same:
//     TestPageIsRemembered, TestPageIsMadeOnceForAll, TestFewPagesAreMadeAtOnce, TestPageGivesUp, TestFewPagesAreRemembered.
//  11. Requests and answers are read and written by hand, with the results that encoding/json has: FuzzRequest,
//     TestRequestSaysWhatDoesNotFit, TestAnswerIsWrittenAsDescribed; those about keys too: FuzzKeyRequest,
//     TestKeyRequestSaysWhatDoesNotFit, TestKeyAnswerIsWrittenAsDescribed.
//  12. The order of codes about a key is fixed: NOT_FOUND, REVOKED, DISABLED, EXPIRED, not yet, FORBIDDEN_ADDRESS,
//     INSUFFICIENT_SCOPE, then its meters: TestKeyPrecedence, TestDecideKey, TestQueriesAboutKeys. A scope that is empty, as of a
//     setting that was lost, lets nobody in: TestQueriesAboutKeys.
//  13. A key's uses and rates, and those that its owner's keys share, are never exceeded, on any number of servers: taken from
//     all or none, with the exact rest told. What is denied takes nothing: TestKeyUsesExactly, TestKeyRates,
//     TestOwnersShareRates, TestDeniedKeySpendsNothing, TestKeyCosts, TestKeySpends,
//     e2e.TestKeyUsesOnTwoServersSoak, e2e.TestKeyRatesOnTwoServersSoak.
//  14. What is no key of the organisation gets one answer, in one time, whatever it is; the log names it by what helps nobody
//     to find it: TestNoKeyLooksLikeAnother, TestNoKeyTakesAsLongAsAnother, TestNoKeyIsAnsweredAsFastAsAnother.
//  15. No key is VALID that was asked about after its end, or a change that forbids it, was acknowledged, on any server:
//     TestKeyChangesOnAnotherServer, TestNoKeyIsValidAfterItsEnd, TestKeyLosesToChanges, e2e.TestRevocationHasNoWindowSoak. What
//     was given meanwhile is not withheld: TestMoreIsGivenMeanwhile. What cannot be recorded is not answered:
//     TestStalledLogDeniesKeys.
//  16. Only a key in force with the capability verify asks about keys, and pays for each answer from its own meters:
//     TestWhoMayAskAboutKeys, TestKeyAsksAboutItself. Each answer is in the log, free text only for those who may open
//     private fields: TestKeyEntries; what is malformed is said and not repeated: TestKeyRequestLimits.
package verify
