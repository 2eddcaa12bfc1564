// Package otp is the one-time passwords of RFC 4226 (by counter) and RFC 6238 (by time), and nothing else: no storage, no clock.
//
// What it promises:
//
//  1. The codes are those of both RFCs, for SHA-1, SHA-256 and SHA-512: TestVectorsOfRFC4226, TestVectorsOfRFC6238; and for
//     any key, time, period and 6 to 10 digits those of another implementation: TestAnotherImplementationAgrees, TestTenDigits.
//  2. Steps are counted in 64 bits: TestStepsFarAway.
//  3. A code counts in its own step and in as many beside as are allowed, and only after the last that was accepted:
//     TestSkew, TestNoStepTwice.
//  4. An address for authenticator apps holds what they need, and a name cannot add to it: TestURI.
package otp
