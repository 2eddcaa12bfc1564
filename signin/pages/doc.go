// Package pages is what people see when they sign in, join, recover and look after their account: /sign-in, /join,
// /recover and /account.
//
// The pages are files that are the same for everybody. Their scripts ask the API of packages signin, mfa and session, as any
// other client may; nothing can be done here that cannot be done there.
//
// What it promises:
//
//  1. Nothing runs, loads or is framed but what is served here: no inline script or style, no other host, no markup made of
//     text: TestPolicy, TestNothingInline, TestTextStaysText.
//  2. A password is never in an address, also if the scripts do not run: TestNothingInline. The secret of a mailed link stands
//     behind the #, is in no request, and is out of the address bar before anything is asked: TestLinkLeavesTheAddress.
//  3. After signing in one gets to a page of this installation, whoever made the link to here: TestNext.
//  4. The key of an authenticator app is drawn as a QR code here and sent nowhere; other programs read it: e2e.TestQRCode.
//  5. Each field has a label, each step a heading that gets the focus, and what goes wrong is announced: TestLabels,
//     TestSteps.
//  6. What wants a fresh proof asks for it and goes on; so does a sign-in that a provider began: TestProof, TestComingBack.
//  7. It works in light and dark, and on a telephone: TestFits. Nothing can be pressed before the scripts run that heed it:
//     TestNothingToPressBeforeItWorks.
package pages
