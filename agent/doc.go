// Package agent is the agents of organisations: who they are, what they may do, and the tokens that they show.
//
// An agent is a row of its owner's. Its DID (did:web) and its tokens name this installation's issuer, which never changes.
// A token says who its bearer is and for which resources; what the bearer may do is the agent's row, so that a change of
// scopes needs no new token. The registry keeps records of tokens and never a token. Token issue and everything else that
// changes an agent go through the lock of the owner's log head, with an entry in the same commit.
//
// What it promises:
//
//  1. A token is taken apart strictly or not at all, whatever the bytes: TestMalformed, FuzzParse; what we write, we read:
//     TestGoldenTokens.
//  2. Nothing but our own signature, by a key that is in force, makes a token's claims: TestForgery, TestRevokedKeyAtOnce,
//     TestCheckerIsNotFooledByMemory.
//  3. A token's time is judged by the caller's clock, each time: TestValidAt.
//  4. An agent never has more live tokens than its organisation lets it have, on any number of servers: TestCapOnTwoServers.
//  5. An agent goes from active to suspended and back, and to revoked once and for good; no order of operations leads
//     elsewhere: TestStates, TestStateMachine.
//  6. Every operation asks for its capability, and another organisation's agent is missing: TestCapabilities,
//     TestOtherTenant.
//  7. Every change has its entry, and no entry holds a word that an owner wrote in the open: TestEntries.
//  8. A token proves its agent to Avouch itself only if nothing has taken the trust away, and is not bound elsewhere:
//     TestAuthenticate.
//  9. A DID document holds keys and ids and nothing else, and none of a revoked agent's keys: TestDocument.
//  10. Private keys, weak keys and certificates are refused, and nothing of them is repeated: TestBadKeys, FuzzKeys.
//  11. Records of tokens go when the tokens have long expired, and not before: TestPurge.
package agent
