// Package mfa is second factors: authenticator apps, codes by e-mail and SMS, passkeys, and the recovery codes that stand in
// for them. It asks people for one, judges the answer, and lets them add and remove their own.
//
// What it promises:
//
//  1. An answer counts once, on all servers, however many try at the same time: codes of apps, codes that were sent, challenges
//     of passkeys, recovery codes: TestAnswersCountOnce, TestPasswordless, TestCodesAgainstAModelSoak.
//  2. A code of an app counts in its step and one beside, and only after the last that counted: TestTOTP, otp.TestSkew. A code
//     that was sent counts for its attempt while it is the last and ten minutes old at most: TestSentCodes.
//  3. Guesses run out: five in an attempt or an enrolment (MaxTries), and MostGuesses of one person in a day on all servers,
//     of which the person is told; passkeys and recovery codes still count then: TestGuessesRunOut, TestEnrolmentsEnd. Sign-ins that
//     wait are no enrolments: TestSignInsAreNoEnrolments. So do codes to be sent: TestSendingsRunOut, TestSentCodes; and text messages of
//     one organisation in a day: TestTextsOfTheDay.
//  4. Codes that are sent are in no row, log or job; seeds, numbers and names are sealed under the person's own key, in their
//     place, and end with it: TestNothingIsInTheClear, TestErasure. None is sent late: TestLateCodesAreNotSent.
//     Where none can be sent, that is said at once: TestWhatIsNotSent.
//  5. An assertion counts for this host, this origin, this challenge, this person's credential and no other: TestPasskey,
//     TestForgedAssertions, TestForgedRegistrations. Without a name, the authenticator must verify who holds it, and the handle
//     must be the person's: TestPasswordless, TestRegisteredTwice. What browsers never send is refused: FuzzAnswers.
//  6. A passkey whose count goes back is refused, in the log, and the person is told: TestClonedPasskey.
//  7. A passkey is hardware only if a maker that the installation trusts attests it: TestHardware. Where the public URL names an
//     IP address there are no passkeys, and it is said why: TestNoPasskeysOnAddresses.
//  8. Factors change by a proof of the last five minutes that is as strong as the strongest factor; nobody enrols beside a
//     factor with less: TestStrengthOfProofs, TestProofsGrowOld, TestFirstEnrolment, TestConfirmedAtOnce. Each change is in
//     the log, and mailed to the person: TestFirstEnrolment, TestRename, TestLastFactor. Recovery codes are shown once, and new
//     ones end the old: TestRecoveryCodes.
//  9. The rules of the organisation say which kinds count. What they allow no longer is good for enrolling only, and the last
//     factor that they want stays: TestRulesSayWhichKinds, TestLastFactor.
//  10. A reset by an administrator is no way around factors: it takes more power than the member's, tells the member and all
//     owners, and leaves a code to the member's own address that is good for enrolling only: TestReset. Who comes
//     by a provider whose word counts proves it in the session: server.TestResetOfWhoComesByAProvider. Who leaves takes all
//     along: TestEnd.
//     The only owner of an organisation is not left with codes of its own vault alone, which they would have to be signed in to get:
//     TestMarks, server.TestFactorBesideTheVault, server.TestSeedOfWhatIsEnrolled.
//  11. Only people have factors, over HTTP too: TestRoutes, TestWhatIsNoFactor. Codes that people type back are read as they
//     mean them: FuzzRecoveryCode.
//
// Limits. Codes by e-mail and SMS are as safe as the mailbox and the telephone network; they rank below everything else, with
// recovery codes. Whoever knows somebody's password can use up that person's guesses for the day.
package mfa
