// Package postgres is API keys inside somebody's own PostgreSQL, 15 or newer: three files of SQL, and what installs, checks
// and removes them. docs/postgres.md is for those who use it, docs/moving-from-keyhippo.md for those who come from KeyHippo.
//
// avouch.sql makes the schema avouch_keys, keyhippo.sql KeyHippo 1.2's names on it, uninstall.sql takes both away. The files
// are whole in themselves: this package adds that `avouch pg` runs them, and that the log is checked outside the database, by
// code that whoever owns the database cannot change.
//
// What it promises, on PostgreSQL 15 and 18:
//
//  1. A request with a key runs under the same, unchanged policies as its owner's session, in PostgREST's own sequence of
//     statements, GET in a read-only transaction: TestSamePolicies, TestReadOnly. A key that is wrong in any character, unknown,
//     expired or revoked is refused as 401 and never goes on as anon or as the session beside it: TestBadKeys; a key and another
//     user's session are refused too: TestKeyBesideSession.
//  2. What is said of a key (current_api_key, permissions) takes its secret, in this transaction: a public id or a forged
//     setting is not enough, nothing is left for the next transaction, and of a key that has ended since nothing is said:
//     TestForgery, TestLeftProof, TestEndedInTransaction. No plan that a caller has printed shows a pepper:
//     TestPlansHideThePepper. An administrator is who calls as one, whoever's session it is: TestWhoAdministers.
//  3. A key makes none that may do more or live longer, rewrites no claims, ends and rotates no other key: TestNarrowKeys. Its
//     owner's session can do all that with it: TestOwner. Revoking a key ends those that it made: TestDescendants.
//  4. Users and visitors read no table, call no function that is not for them, and none is open to PUBLIC: TestRights,
//     TestCatalogue. What a restore, a grant on everything or default privileges have opened, the file closes again: TestOpened,
//     TestDefaultPrivileges. Who runs it runs no code of others and adopts nothing of theirs: TestPlanted, TestAdopted,
//     TestForeignUsers. A superuser who checks or uninstalls runs nothing of what a member of the
//     owner has left, and he upgrades only where there is no such member: TestLeftForSuperuser.
//  5. Revocation is instant, also while the key is used, and waits for no request: TestRevokeWhileVerifying,
//     TestRevokeWaitsForNobody. More keys than allowed are never active, however many are made at once: TestMostKeys. Nobody who
//     signs up waits for it: TestSignUpsWaitForNobody.
//  6. An owner of the database who changes the log is found: by check_log, by Check, and with an earlier size and hash also if he
//     wrote the chain anew: TestTampering.
//  7. Keys behave as a model of them does under any order of create, use, revoke, rotate, expire and tick: TestModelSoak. Notices
//     of expiry are given once each: TestExpiryNotices. What a key may is told as it is at the time: TestModelChanges. It is good in
//     transactions of every kind, and in parallel plans: TestRepeatableRead, TestParallelPlans.
//  8. Keys, checksums and digests are computed as the server does, whatever a caller has set: TestVectors, TestDigest,
//     TestCallersSettings. A mistyped key costs no look-up:
//     TestMistyped.
//  9. Peppers rotate while keys are in use, and can lie elsewhere: TestPepperRotation, TestPepperElsewhere.
//  10. Running avouch.sql again changes nothing that it finds; an older file refuses: TestInstallAgain. It takes no superuser:
//     TestInstallWithoutSuperuser. Requests without a key go on as before: TestOtherRoles. It mends what a restore lacks:
//     TestRestored. Nothing is left of it when it is uninstalled, and not by accident: TestUninstall,
//     TestUninstallTakesTheHook. A user who is deleted or banned has no key that works: TestSupabaseUsers.
//  11. What KeyHippo's own tests ask of KeyHippo holds of keyhippo.sql, and its holes are closed: TestKeyHippo,
//     TestKeyHippoHoles, TestImpersonation.
//  12. What the two pages tell to run, runs: TestDocuments.
package postgres
