// Package pkcs11 wraps keys with an AES key in a hardware security module, by PKCS #11: the key that wraps never leaves the token.
//
// It is in a program that was built with the tag pkcs11 and with cgo (CGO_ENABLED=1 go build -tags pkcs11 ./cmd/avouch); any other says
// so: TestBuiltWithout.
//
// What it promises:
//
//  1. What is wrapped opens for the same organisation and item alone: the binding is the associated data of AES-GCM: TestContract.
//  2. Versions are the keys of one label by their CKA_ID; the highest wraps, and the others open: TestContract.
//  3. A key that could leave the token is not used: TestKeysThatCanLeave.
//  4. What the token refuses is told from what it cannot do now, whatever code its maker has for a tag that does not fit; nobody waits
//     for it for ever: TestContract, TestTokenGone.
//  5. A PIN that is refused is not tried again by this process, so that it locks no token: TestRefusedPIN.
//  6. It holds signing keys that were made on the token and cannot leave it: TestSigner, TestSigningKeysStay.
//
// Its tests use a token of SoftHSM's; docs/keyring.md says what it was run against.
package pkcs11
