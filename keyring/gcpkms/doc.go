// Package gcpkms wraps keys with a symmetric key of Google Cloud KMS: the key that wraps never leaves it.
//
// What it promises:
//
//  1. What is wrapped opens for the same organisation and item alone: the binding is the additional authenticated data: TestBinding,
//     TestContract.
//  2. The primary version wraps, and those before it open: TestRotation.
//  3. What was altered on the way to or from the service is noticed by its checksums, and is an error: TestChecksums.
//  4. What the service refuses is told from what it cannot answer now: TestRefusals, TestContract, TestGone. A server of tokens
//     that hangs holds nobody for longer than the call may take: TestTokenHangs.
//  5. No credential and no key is in an address or an error, and none goes in clear to another machine: TestSecretsAreNowhereElse,
//     TestNothingInClear.
//  6. Credentials that an organisation gives are a service account's, and go by the client that is given with them: TestServiceAccount.
//  7. It holds signing keys, protected as the key that wraps is, and takes nothing that was altered for a signature or a key: TestSigner,
//     TestSigningChecksums.
//
// It speaks the service's documented REST API, version 1, since the client library would bring gRPC and ten megabytes of program along.
// Its tests run against that contract on a server of their own; docs/keyring.md says what it was run against.
package gcpkms
