// Package awskms wraps keys with a symmetric key of AWS KMS: the key that wraps never leaves it.
//
// What it promises:
//
//  1. What is wrapped opens for the same organisation, item and version alone: the binding is the encryption context: TestContract,
//     TestSDKAgrees.
//  2. What is wrapped before a rotation of the key opens after it, and a version is a number of rotations: TestContract, TestRotation.
//  3. What the service refuses is told from what it cannot answer now, for each of its documented errors: TestErrors, TestContract.
//  4. Credentials come from the environment, a web identity, a container or the instance's role, are had anew before they end, and are
//     in no address and no error: TestCredentials, TestCredentialsAreHadAnew, TestContract.
//  5. Requests are signed as the service has it: TestContract runs against a server that checks each signature. An answer that is not of
//     the key which was asked for is not taken: TestAnswersOfAnotherKey.
//  6. It holds signing keys as the SDK's own client sees them, and leaves none that was made in vain: TestSigner, TestSDKAgreesOnSigning,
//     TestMakeLeavesNothing.
//
// It sends the requests that it needs by itself, signed by the SDK's signer (docs/decisions/0022). Its tests run against moto, with
// the SDK's own client as the second opinion, and with what it lacks of signatures added (testdata/server.py); docs/keyring.md says what else was tried.
package awskms
