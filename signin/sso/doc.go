// Package sso lets people sign in by their organisation's identity provider, over OpenID Connect or SAML 2.0, and says which
// domains of e-mail an organisation has proved to be its own.
//
// What it promises:
//
//  1. Only what the connection's provider signed, for us, for this sign-in, and of late, proves anybody; signatures without a key of
//     the provider's alone (none, HMAC) are none: TestForgedTokens, TestAlgorithms, TestSignIn. Of SAML responses, signin/saml
//     promises it; here its corpus is tried at the door: TestSAML, TestSAMLCorpus.
//  2. What a provider says is taken in the browser that asked, once on all servers, within ten minutes: TestBroughtBackOnce,
//     TestRequestToProvider. A stolen code, or one that was made for somebody else, is worth nothing: TestInjectedCode. Providers
//     cannot be taken for each other: each has an address of its own to come back to, and RFC 9207 is held: TestMixUp,
//     TestForgedTokens.
//  3. A provider is believed about addresses of domains that the organisation has proved and given to its connection, if it vouches
//     for them or is trusted to, and about nobody else's: TestWhoIsAdmitted. After the first time its own name for a person counts,
//     whatever becomes of the address: TestAccountsAreNotTaken. Whoever was invited may come by that: TestInvited.
//  4. No account is taken by an address: not an owner's, not one that may do more than whoever configured the connection, not one
//     that the provider calls something else already. Their people link them, in a session with a fresh proof:
//     TestAccountsAreNotTaken, TestLink.
//     Nor by who changes a connection: its provider is not believed about who may do more, whoever linked it before:
//     TestWhoChangesTheKeysIsNobodyElse.
//  5. A connection gives what whoever configured it held, at most, then and later; never ownership; and what break-glass lends is not
//     held: TestWhoMayConnect, TestGroups, TestInvited. Nor is it believed, at any sign-in and in any session that began by it, about
//     who may do more by then: TestPromotedLater, session.TestConnectionsVouch,
//     server.TestSessionOfWhoWasPromoted. Changing one takes a fresh proof:
//     TestWhoMayConnect.
//  6. Groups that a connection fills hold whom the provider names, from each sign-in on: TestGroups. Nobody has one decide about a group to
//     which items of the vault are granted, and into such a group it puts nobody who configured it: server.TestNoItemsByAProvider.
//  7. A sign-in is as fresh as the provider says; a proof that is wanted anew is one: TestFreshness. Several factors count where the
//     connection trusts the provider's word: TestStrong.
//  8. Secrets are sealed, never shown, and sent to no other provider than they were given for: TestConnections.
//  9. Providers in our own networks are not asked, and what is said does not tell whether one is there:
//     TestProvidersOfOurOwnNetworkAreNotAsked, outbound.TestOnlyPublicAddressesAreDialled.
//  10. A connection that is switched off or removed has no sessions from the acknowledgement on: TestSwitchedOff. Nor does it
//     admit or link who is under way then, and no more does one that was changed: TestChangedMeanwhile. When whoever
//     configured it leaves or loses the right to, it works on, the owners are told, and it is listed with a warning: TestEnd. Whoever
//     was removed here is admitted no more, but by an invitation or a directory: the provider may know nothing of it. TestEnd,
//     e2e.TestProviders
//  11. A domain is proved by a record in DNS, looked for again every week; public suffixes are nobody's: TestDomains,
//     TestNormalDomain, FuzzNormalDomain. Whoever proved it first has it, until the record is gone for two weeks; DNS that does not
//     answer changes nothing: TestFirstProverHasIt, TestRecordComesBack. Who is deleted has none; what others proved meanwhile, a
//     restored organisation does not take back: TestRestoredTakesNothingBack.
//  12. Where a domain requires its connection, other sessions of its people end, and none begin (signin asks Required); owners keep
//     password and second factor, lest a provider that fails shuts everybody out: TestRequired. What began while it was required of
//     nobody, because the connection was off or the domain lost, ends when it is again: TestRequiredAgain. What an owner began ends
//     when they are one no more: TestDemoted.
//  13. Beginning to sign in tells which domains have a connection, which is public knowledge, and nothing about people:
//     TestStartTellsNothing.
//
// What a stranger begins writes nothing: the state lies sealed in a cookie of its own, and only that it was brought back is written
// down. Sign-out at a provider ends no session here, and the other way round; sessions end by themselves (org.Rules), or by
// SCIM. Requests to providers are not signed, nor answers encrypted; PKCE, nonce and TLS stand in for that.
//
// BUG(sso): a key that a provider takes back counts for up to an hour on a server that remembers it.
// BUG(sso): the guard of addresses refuses a code that has the form of a JWT. Use the response mode form_post with a provider
// that makes such.
package sso
