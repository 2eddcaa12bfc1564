// Package password keeps people's passwords, checks new ones, and bounds what their hashes take of the server.
//
// A hash takes 64 MiB and a fifth of a second on purpose. So there are permits for it: one fewer than processors, with a short queue in
// front. What is kept is a PHC string, sealed for one person of one organisation by the keyring.
//
// What it promises:
//
//  1. New hashes are argon2id with 64 MiB, 3 passes and 1 lane, and in FIPS mode PBKDF2-HMAC-SHA-256 with 600,000 iterations;
//     they are what the reference implementations make: TestSchemes, TestReferenceHashes, TestFIPS. Others that are
//     stored are still right, and are replaced at sign-in; an old password never comes back by that: TestOutdatedHashes,
//     server.TestHashIsMadeAnewAtSignIn.
//  2. A stored hash is read strictly, and cannot ask for more memory or time than a permit stands for: TestStrictPHC, FuzzPHC.
//  3. The last password that was stored is right, however it is typed, and no other: TestPassword. A hash counts for its own person
//     alone, in the database too, and can be read and printed by nobody: TestHashIsOnePersons, TestHashIsSealed,
//     TestOthersSeeNoPassword.
//  4. However many want a hash at once, the process grows by 64 MiB for each permit, 64 more and 32 for everything else:
//     crowd.TestCrowdStaysSmallSoak.
//  5. There are never more hashes than permits: TestPermitsAddUp. Who cannot have one within 1.5 seconds is told to come
//     back, the known device that is next within 3, and of those who could not be served nobody waits: TestWaitIsBounded, TestBusy. Known devices go first:
//     TestKnownDevicesGoFirst. Who goes away leaves the queue: TestWhoGoesLeavesTheQueue.
//  6. To refuse somebody who has no password takes as long as to refuse a wrong one: TestNobodyTakesAsLongSoak.
//  7. A new password has twelve characters, and is not made of what everybody tries or of the person's own name, address or
//     organisation: TestCheck, TestCommonPasswords, TestListedPasswordsAreCommon, TestPersonalPasswords,
//     guessed.TestParts. So it is wherever one is set: server.TestNewPasswordsAreChecked.
//  8. An endpoint of breached passwords is told five digits of a SHA-1 and nothing else, is believed only with a whole answer, and is not
//     waited for long: TestRangeProtocol, TestEndpointIsBounded, TestUnfitLists, FuzzRangeAnswer. If it fails, the
//     file and the built-in list decide and the failure is logged, without the digits, and counted; or, if the
//     operator wants that, nothing is taken: TestEndpointFails.
//  9. The filter file has every password of the download and, but by a chance of one in fifty million, no other, whatever the order
//     of the lines, in bounded memory; it is replaced whole or not at all, and used at once: TestImport, TestImportSizes,
//     TestImportHoldsTheFile, TestBadDownloads, FuzzDownload. Accidental damage is an error and never an answer:
//     TestDamagedFilter, FuzzFilter.
//
// What it does not promise. Go moves and copies memory, and a password is a string: it is not cleared. Who has an outdated hash can
// be told by the time of a sign-in, until the first that succeeds. So can, by a fraction of a millisecond among the
// noise of a hash, whether an organisation's keys were in memory. Known devices may keep strangers waiting for as long as they fill
// all permits. Who can write the filter file decides what is in it.
package password
