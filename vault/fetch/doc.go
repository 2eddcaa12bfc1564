// Package fetch makes HTTP requests for agents with a secret in a header that the server puts there, so that the agent uses a credential
// that it never holds. It knows nothing of items, grants and the log: whoever calls it has decided that the agent may use the secret, and
// has recorded it.
//
// What it promises:
//
//  1. A request goes to the hosts of the item's policy and nowhere else, whichever way it is written: TestHosts, TestHostTraps,
//     TestPolicies, TestPaths, FuzzURL. What is not allowed is said before anything is sent: TestNothingIsSent. What no policy allows is told
//     from what this one does not: TestWhoseFault.
//  2. The agent sets neither the header that the secret is in nor one that would alter what is asked, of whom, or how it is
//     answered: TestHeaders, TestRequests. What was judged is what is sent: TestSecretIsSent, FuzzURL.
//  3. A host of a policy is reached at an address of the public internet or of a network that the operator names, by http only
//     in the latter; each connection looks it up anew and dials what was judged: TestAddresses, TestRebinding.
//  4. A redirect is followed within the same scheme, host and port, three times at most, as if the agent had asked for it; any other
//     is given as it is: TestRedirects, TestRedirectsEnd, TestRedirectElsewhere.
//  5. The secret is in no answer, in body or header: as it is, in base64 (both alphabets, at each alignment, so also within
//     user:secret), base32 and hexadecimal, each also with percent-encoding, the escapes of JSON, of HTML or of quoted-printable, divided
//     into lines, and wherever the answer was divided on its way: TestForms, TestMasking, TestLines, FuzzMask, TestAnswers. Base32 and
//     hexadecimal are found in any case, and so is a secret that is itself in one of them, a UUID, or without letters of both cases:
//     TestCases. Nor is it in what pointers find: TestPointersOfRFC6901, TestPointersMask, FuzzPointer. Nor is its beginning where an
//     answer is cut off: TestCutOff. What is compressed and does not say so is not given: TestCompressed.
//  6. A text without it is unchanged, also where it holds a part of it, and is cut off there: TestMasking, FuzzMask, TestCutOffTellsNothing.
//     So an agent whose own text comes back learns of each guess whether it is the whole secret, but for four bits at each end in base64
//     and base32, and nothing of a part: TestOneGuess. Secrets with less to guess than that takes two years for are refused, by an
//     estimate: what many choose, words, years and repetitions count little: TestUsable.
//  7. Whatever a host sends, it ends, in time and in memory: TestLongAnswers, TestSlowAnswers, TestBombs, TestLinear. Pointers are followed in
//     as many answers at once as there are processors, each in a few times the answer's size: TestReducedInTurn, TestPointersAreBounded.
//  8. Of an answer, no more is given than the policy leaves, its status or what certain pointers find; who asks for more, or leaves it
//     open, gets nothing, and nothing is sent: TestReductions, TestNothingIsSent.
//  9. An agent is not told why a host did not answer: TestFailuresAreAlike. No error holds the secret: TestErrorsHoldNoSecret.
//
// The limit of it: the hosts of a policy are trusted with the secret. They have it; one that is asked to can give it back in a form
// that is not listed (reversed, encrypted, a part of it, in UTF-16, encoded twice, in hexadecimal with blanks or colons, with entities of HTML
// that lack their semicolon, with blanks or more than two ends of lines between its letters, compressed by brotli without a word, or within a
// picture or a document), and no search finds that. So a policy names hosts that do not
// echo what they are sent, and where they might, it reduces the answers. Copies of the secret that
// net/http makes cannot be cleared.
package fetch
