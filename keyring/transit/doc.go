// Package transit wraps keys with the transit engine of OpenBao or Vault: the key that wraps never leaves it.
//
// What it promises:
//
//  1. What is wrapped opens for the same organisation and item alone, whatever else has the engine's key: the binding is the associated
//     data of an AEAD key: TestBinding, TestContract.
//  2. A newer version of the engine's key wraps, and the older ones open, until the engine says otherwise: TestRotation.
//  3. What the engine refuses is told from what it cannot answer now, and no key is ever made in place of one that does not open:
//     TestRefusals, TestContract, TestGone.
//  4. The token is in a header and nowhere else, is renewed before it ends, and is fetched anew where it was revoked: TestTokens,
//     TestTokenIsNowhereElse. A login that hangs holds nobody for longer than the call may take: TestLoginHangs.
//  5. It holds signing keys that are never exported: what signs is what was made, and what was not made as it should be is ended:
//     TestSigner, TestMakeLeavesNothing, TestRotatedThere.
//
// Its tests run against the documented HTTP contract, on a server of their own; docs/keyring.md says what it was run against.
package transit
