// Package kms opens what wraps an installation's keys, as its settings say: the platform key of the process, or a key in a KMS.
//
// What it promises:
//
//  1. Each kind is opened by settings of its own, and a setting that is missing or belongs to another kind is an error that names its
//     variable: TestSettings, TestForeignSettings. So is the one that says where signing keys are made.
//  2. What the platform key wrapped opens beside a KMS as long as the platform key is given, and the other way about while an
//     installation leaves its KMS: TestMove, TestSigningKeys.
//  3. Those who unwrap the same at the same time ask the KMS once, each has a key of its own, and nobody who hangs up takes it from the
//     others: TestShared, TestContract.
//  4. Secrets come from the environment or from files for their owner alone: TestSecretsFromFiles.
package kms
