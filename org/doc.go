// Package org is the organisations: the tenants that everything else belongs to, and the installation's own.
//
// What it promises:
//
//  1. An organisation comes into being whole or not at all: its keys, its log with the entry of its making, its quota and
//     its first owner key: TestCreate, TestCreateIsWhole.
//  2. Sign-up is closed unless the installation opens it: TestSignUp. Open, it is limited by the address of who asks:
//     TestSignUpIsLimited, pace.TestPace, pace.TestPaceIsBounded.
//  3. Only its own organisation:read and organisation:write see and change an organisation, from the version that they
//     have read; nobody sees another: TestSettings, TestOtherTenant.
//  4. The contact address is sealed in the database and private in the log: TestContactIsSealed.
//  5. Suspending takes effect with its acknowledgement, can be undone, and is the operator's alone: TestSuspend. The
//     installation's own organisation cannot be suspended: TestSuspend.
//  6. The installation's organisation is made once, however many servers start at once: TestEnsurePlatform. On a key store
//     that is not its own a server does not start: TestForeignKeyStore.
//  7. The issuer is fixed by the first start, and another one on the same data is refused: TestFixIssuer.
//  8. Every change is in the log, names only for those who may open private fields: TestEverythingIsRecorded.
//  9. Its quota is the operator's to set, holds on every server as soon as that is acknowledged, and is told with what is
//     used of it: TestQuota, TestUsed, server.TestQuotaOnAnotherServer. The operator sees all organisations: TestEach.
//  10. Whether its verifications are shown in public is its own decision, and no at first: TestSettings,
//     server.TestBadgeIsItsOwnDecision.
package org
