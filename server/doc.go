// Package server puts the rooms together: configuration, routes, background work, start and stop. Rooms of one floor do
// not know each other; what one needs of another is passed in here.
//
// What it promises:
//
//  1. It starts only on a database and with keys that hold what the rooms promise: TestRefusesToStart.
//  2. A request that an operation refuses to a known caller is in its organisation's log, with its own entry or in a
//     count: TestRefusalsAreRecorded, TestVerifyRefusalsAreRecorded. What is refused before anybody is asked (an unknown
//     path, a wrong method) is counted by address in the platform's log, as are the refusals of nobody:
//     TestRefusalsOfNobodyAreCounted.
//  3. No flood of what is refused is a flood of entries, in whichever log, and each refusal is counted in one:
//     TestFloodOfBadRequests, TestFloodWithARevokedKey, TestFloodOfLeaks, TestRefusalsAreBounded, TestRefusalsEachMinute.
//     What cannot be written is counted until it can be, and at the stop: TestRefusalThatCouldNotBeWritten,
//     TestUnavailableIsCounted, TestRefusalThatIsNoEntry, TestRefusalsOutlastTheDatabase. A server that is killed loses the
//     counts of up to a minute.
//  4. Another organisation's key gets nothing on any route: TestOtherTenantGetsNothing walks all of them.
//  5. A create that is repeated with its Idempotency-Key happens once, also when its first caller has gone or nobody knows
//     what became of it: TestIdempotencyKey, TestIdempotencyAfterClientTimeout, TestIdempotencyLease. What is kept of its request can
//     be guessed by nobody who has the database alone: TestRetriesHoldNoHashOfSecrets.
//  6. It says that it is ready only while it can answer: TestReadiness.
//  7. What the operator's commands change holds on the servers that run: TestQuotaOnAnotherServer.
//  8. Whose a trace is, is remembered beside it and is in no span; nobody else sees it, and an id of another's is as one
//     that never was: TestTraceIsItsSenders, TestTraceWithoutEntries, TestSpans.
//  9. A key in an address or over plain HTTP is told to its owner, and is in nothing that is written: TestLeakedKeyInAnAddress,
//     TestLeakedKeyInAPath, TestLeakedKeyOverPlainHTTP. Who sends two credentials that disagree, or none, is told so:
//     TestCredentialsThatDisagree.
//  10. What is done by the clock for all organisations is done, and one's fault costs no other: TestExpiryNoticesComeBySchedule,
//     TestOneOrganisationsFaultIsNoOthers.
//  11. Every operation is asked by every role, for its own and for another organisation's, without a session, with one that has
//     expired, with one that lacks the second factor, and with a key that may do this and nothing else; each answer is written down, and
//     judged by a table of the roles that is not the rooms': TestMatrix, TestRolesAreAsSaid. What is open to everybody is a list of
//     names: TestOpenToEverybody; what of it counts as a page or a document is only read, and the same for everybody:
//     TestStaticIsTheSameForEverybody.
//  12. What ends a session, a person or an organisation on one server, or takes a capability away, holds on every other with the
//     answer, and what is given waits for a proof: TestEndedOnOneEndedOnBoth, TestGivenByAProof, TestOrganisationEndsOnBoth,
//     TestAllowList, TestSessionsExpire, TestStreamEndsWithItsSession. What the rules say of sessions holds for those that are there:
//     TestRulesReachSessions. Who is removed loses all of it in one entry: TestRemovalIsOneEntry.
//  13. A page of another site changes nothing with somebody's cookie, and begins no sign-in: TestOtherSitesGetNothing,
//     TestOtherSitesSendNothing, TestCookies, TestNoFixation.
//  14. A key that a person made works from where the organisation lets people come: TestAllowListBindsKeysOfPeople.
//  15. An organisation whose own key management takes its key away is closed on every route, whoever asks, with a problem that says so, and
//     opens by itself when it is given back; others notice nothing: TestOwnKMSClosesEverything, TestClosedSignIn, TestOwnKMSGivenBack,
//     TestClosedWithinAMinuteSoak. A server starts without it: TestClosedAtStart.
package server
