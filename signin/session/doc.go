// Package session is the sessions of people: cookies of browsers, and access and refresh tokens of programs.
//
// A browser has 256 random bits in a cookie, of which the database has the SHA-256. A program has an access token, a JWT of 15
// minutes, and a refresh token, which is replaced at each use. Whatever the credential, each request reads the session and its
// person's standing anew: nothing about either is remembered from one request to the next.
//
// What it promises:
//
//  1. The cookie is HttpOnly, SameSite=Lax, and on https Secure and __Host-; neither it nor a refresh token is in the database, nor
//     is where and with what somebody signed in readable there: TestCookie, TestNothingOfTheCredentialIsStored.
//  2. What was ended, rotated, suspended, or is older or idler than the rules say at this moment counts no more, on every server,
//     from the moment that this was acknowledged: TestSessionsThatDoNotCount, TestSuspendedOrganisation, TestRevocationIsAtOnce, TestBounds. That holds for what
//     lasts as well, such as a stream, which keeps no session alive: TestAgain. Use is noted once a minute: TestSeenOnceAMinute.
//  3. What a session may do is what its person may do now, and could when proved last, from where the organisation lets them in: what is
//     given, or lent by break-glass, counts after a proof, which replaces the cookie. What is lent is not held:
//     TestCallerOfASession, TestSessionsThatDoNotCount, server.TestGivenByAProof.
//  4. Where a second factor is wanted, no session begins or goes on without: TestSecondFactor, TestStartRefuses. So there is no token of
//     somebody who has proved less.
//  5. Nothing that a browser brings to a sign-in becomes its session or its known device: TestNothingPlantedBecomesASession,
//     TestKnownDevices. A fresh proof replaces the cookie: TestProvedRotatesTheCookie.
//  6. A request with two credentials is refused: TestTwoCredentials. One that a page of another site sent changes nothing:
//     TestCrossSiteRequests, server.TestOtherSitesSendNothing. A database that is away signs nobody out: TestDatabaseDownIsNotSignedOut.
//  7. A person has at most 100 sessions, sees and ends their own, and nobody else's: TestMostSessions, TestOwnSessions, TestWhoAmI. Whoever
//     may see members' sees where from only if they may end them, which takes all that the member may do: TestMembersSessions. Whoever is removed
//     keeps none: TestEndEverythingOfAPerson, TestConnectionsEnd.
//  8. A refresh token works once. While its answer may be lost it gives the same successor, to the same program, for ten seconds;
//     used otherwise after it was succeeded it has been stolen, and the family ends within the request, is in the log and in a mail:
//     TestRefreshRotates, TestLostAnswer, TestTokensAreTheirClients, TestStolenToken, TestHundredRefreshesGetOneSuccessor, TestRefreshFamiliesSoak. Who makes tokens up harms nobody:
//     TestMadeUpTokens, FuzzParseRefresh. The form is frozen: TestParseRefresh. Families end with the person's standing, and in time: TestProgramsEnd.
//  9. An access token is for people alone, and no token of an agent passes for one nor the other way, whatever its header says: TestForeignTokens, TestRS256,
//     keyring.TestUsesAreKeptApart, agent.TestPeoplesTokensAreNoAgents. It never does more than it was given, nor than its person may do now: TestTokensNarrow, TestNarrowed. What is
//     in it is frozen: TestAccessTokenOnTheWire.
//  10. A row that was only written into the database is no session, makes no session another's, and proves nobody anew:
//     TestRowsAreNoSessions. What a connection began counts while it is believed about the person: TestConnectionsVouch.
//  11. A program is called by a few harmless words: TestProgramNames, FuzzProgramName.
//
// What a refresh token is bound to. A client may choose an id at its sign-in; without it the family's tokens are worth nothing,
// and one that comes without it, or with another, ends the family. A token that is sent again must come from the same program,
// by its User-Agent, as the request whose answer was lost. Neither is the network address, which changes under an honest
// client's feet. Nothing of this proves who the client is: a thief who has seen the requests repeats it all. What does not fail is that of two
// who go on with one family, one is too late.
//
// What it does not promise. Someone who copies a cookie has the session, until it ends: it is bound to the browser by nothing but the
// browser's care. Idle time counts requests, not people: a page that asks by itself keeps its session. Times are those of the servers' clocks.
package session
