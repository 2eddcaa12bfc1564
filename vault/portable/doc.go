// Package portable reads what other authenticator apps give away, and writes what they take: addresses (otpauth://), their pictures,
// and files. It is pure: no storage, no clock.
//
// What it promises:
//
//  1. What an app meant is what is read, in the forms that apps really write: TestURI, TestTraps, TestSteam, TestMigration, TestAegis,
//     TestTwoFAS, TestBitwarden, TestBitwardenSealed, TestBitwardenWithin, TestCSV, TestCSVOfManagers, TestPictures, TestManyCodes, TestLight.
//  2. What cannot be read whole is a fault that names its place and says why, and never a seed that is another: TestFaults,
//     TestMissingBatch, TestBatches. No fault holds a seed: TestFaultsHoldNoSeed.
//  3. What is written is read again as it was, in each format as far as it goes, and by others: TestRoundTrip, TestWritten,
//     TestWrittenForOthers. Of what a format cannot hold nothing is written, and it is said: TestHolds. A name does nothing in a spreadsheet: TestFormulas.
//     JSON of our own holds everything: TestWritten, TestAvouchFaults.
//  4. Whatever is given, it ends, in memory that is bounded by what was given: FuzzURI, FuzzMigration, FuzzAegis, FuzzTwoFAS,
//     FuzzBitwarden, FuzzCSV, FuzzPicture, FuzzAvouch, FuzzAge, TestBombs, TestAegisSlots, TestAgeFaults,
//     TestPicturesEnd, TestPicturesFit, TestPicturesByHeader; and sooner where ctx ends: TestPicturesHeed.
//  5. Nothing is written in clear that was to be encrypted, or of which that was not said: TestProtection. What age encrypts
//     is opened by those who were meant, also without us, and by no others: TestRecipients, TestPassphrase; and altered in any bit,
//     by nobody: TestSealed.
package portable
