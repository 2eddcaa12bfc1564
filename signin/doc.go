// Package signin is how people arrive: by a password, a passkey, a mailed link or an organisation's provider, then by a second
// factor, and from there into a session. It puts together what passwords, factors, sessions, links and organisations know.
//
// A sign-in is an attempt: a row that says what was proved so far, found by a secret that only its client has. Each step is a
// transaction of its own that locks the row, so a step counts once on all servers. Nothing that was not proved in it is in the
// session that it ends in.
//
// What it promises:
//
//  1. Whether there is an account, a password, or a right to come in cannot be told from an answer or its time: sign-in, recovery
//     and invitations answer alike: server.TestStrangersLearnNothing, strangers.TestAccountsTakeAsLongSoak,
//     strangers.TestRestTakesAsLongSoak.
//  2. Strangers may guess so often and no more, however many addresses they have; nobody who is known is kept out by that:
//     TestGuessesRunOut, TestManyAtOnceAreNoWayAround, TestKnownDevicesGoOn, TestGuessModel, TestFullMemoryIsNoWayAround, strangers.TestGuessesSoak,
//     strangers.TestKnownDeviceInAFloodSoak. Nor is who has a passkey or a mailed link: server.TestFloodKeepsNobodyOut.
//  3. Where a second factor is wanted there is no way around it: by recovery, by an invitation, by a provider that says nothing of
//     one, by an attempt of somebody else: server.TestNoWayAroundTheFactor. Who comes by a mailed link cannot prove the same mailbox
//     again, also not with the password that they set: server.TestMailboxCountsOnce, server.TestMailboxIsNoTwoFactors. Where a passkey
//     alone signs in, nothing else does: server.TestRecoveryCodeIsNoPasskey.
//  4. An attempt ends after MaxTries, after a quarter of an hour, and with its success; it counts once on all servers:
//     server.TestAttemptEnds, server.TestAttemptCountsOnce.
//  5. A new password ends all sessions that it did not come from, all attempts and the known devices: server.TestPasswordEndsSessions.
//     A sign-in with the old one that is under way at that moment begins nothing: server.TestOldPasswordIsTooLate,
//     server.TestNewPasswordWaitsForAnswers.
//  6. Who does what is dangerous has proved a factor within five minutes, or the password where there is no factor:
//     server.TestFreshProof. The proof is of the session's own person: server.TestProofOfAnother.
//  7. Who belongs to an organisation that signs in by a provider comes by it, but for its owners: server.TestProvidedComeByTheProvider,
//     server.TestRequiredIsOneConnection.
//  8. A session begins with a credential that nobody had before: server.TestNoFixation.
//  9. Each sign-in and each refusal is in a log: the organisation's, or the installation's where there is none:
//     server.TestSignInIsRecorded.
package signin
