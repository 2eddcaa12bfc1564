// Package saml is a service provider of SAML 2.0, as an organisation's connection uses one: it asks a provider to sign a
// person in (Request), judges the answer (Verify), and reads and writes metadata. It keeps nothing and opens no connection.
//
// What it promises:
//
//  1. Nothing is read but what the connection's provider signed: from the bytes under the signature, read again. Whatever
//     is done to a signed response, it is refused or says what was signed: TestCorpus, TestNoTreeIsForgedSoak, FuzzVerify.
//  2. A response has one form, checked without any key: one Response, one Assertion, signatures only in these two, each over
//     the element that holds it. All published ways of signature wrapping need another form: TestCorpus, TestNets.
//  3. No parser of XML meets a document type, an entity, an instruction, a comment, CDATA, or a name that readers understand
//     differently; and no document of more than 256 KiB: TestCorpus, FuzzDocument.
//  4. The key is one of the connection's, in the time of its certificate; what a response carries is not looked at. SHA-1
//     and shared keys are refused in signature and digest: TestCertificates, TestCorpus.
//  5. An answer counts for this request of this connection, at this address, within its time and a minute: TestOtherConnection,
//     TestClock, TestCorpus. It counts once if the caller spends its ID until Ends: TestReplay.
//  6. Products in wide use are understood, whatever they sign, and people in thousands of groups: TestProducts, TestManyGroups,
//     TestMetadataOfProducts. The signatures of the test are real to another program too: TestJudge.
//  7. A refusal is a word of a closed list; nothing that a sender wrote is repeated: TestCorpus, TestStatus.
//  8. The library that verifies signatures is one that does so correctly: TestLibraries.
//
// What it does with what SAML leaves open:
//
//   - The provider may sign the response, the assertion, or both; every signature that is there must verify.
//   - Encrypted assertions are refused: TLS carries them, their encryption (CBC) has a history of oracles, and a private key
//     here would be one more thing to keep.
//   - A certificate that has ended signs nobody in, although the key is pinned. Provider.CertificatesEnd is for warnings.
//   - Responses that nobody asked for are refused, and so is an answer without AuthnStatement, audience or bearer confirmation.
//   - Comments are refused everywhere in a response, not only where they would do harm.
//   - An assertion is over an hour after it was issued, whatever it says.
//
// Signatures are verified by goxmldsig, requests are written and metadata is read by crewjam/saml. Its own verification is not
// used: it takes the time from a variable of its package, allows three minutes, and TestNets lists what it accepts.
//
// BUG(saml): requests are not signed, and go by the HTTP-Redirect binding only. There is no single logout.
package saml
