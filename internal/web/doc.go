// Package web is the plumbing of HTTP. It knows nothing of the product: who asks is a type parameter, and what is done
// with a denial, a leaked key or a kept answer is told to it by the server.
//
// A room registers an operation and writes what is its own:
//
//	web.Handle(api, web.Op{ID: "get-agent", Method: "GET", Path: "/api/v1/agents/{id}", Summary: "Show an agent", Scope: "agents:read"},
//		func(ctx context.Context, c tenantdb.Caller, in *getInput) (*getOutput, error) { ... })
//
// Decoding, identity, limits, errors, ids, metrics, spans and the description in OpenAPI happen here, in one place.
//
// # What it promises
//
//  1. Every answer has an X-Request-Id made here. The caller's own, if it is well formed, comes back beside it as
//     X-Caller-Request-Id and is used for nothing else. TestRequestIDs
//  2. Every failure is a problem document (RFC 9457) of one of the closed list of kinds: also for 404, 405, 413, 415, 431,
//     panics and time limits. TestProblemDocuments, TestRefusals, TestRefusedBodies, TestMethodNotAllowedSaysWhatIs,
//     TestOurOwnFaults, TestRawFailures. A 405 says what the address takes, and what is beneath it:
//     TestMethodNotAllowedSaysWhatElse. What net/http refuses by itself (no HTTP at all, a header beyond 32 KiB) gets a
//     bare 4xx and the connection is closed. TestMalformedRequests. People at a browser read a page instead, where an operation is
//     for them: TestRefusedPage. Protocols that have a form of their own for refusals get that: TestRefusalInOwnForm
//  3. Nothing of a request is logged or put into a span but its id, operation, method and status: no path, query, header
//     or body. Of a panic the place is kept, not its words. TestNothingOfTheRequestIsLogged, TestOurOwnFaults, TestSpans
//  4. A handler runs only for a caller that was identified and has the scope, before anything of the request was read.
//     The zero Op is closed, and a mistake in registering is a panic at the start. TestIdentityComesFirst,
//     TestRegistrationMistakesPanic, TestTypesThatCannotBeBound. What everybody may ask for is asked for by our own pages and by
//     programs, not by pages of other sites: TestOtherSites
//  5. The server is told of every refusal, with the caller if there is one. TestRefusedHook, TestRawRefusals
//  6. A JSON body means the same to every reader (RFC 7493): UTF-8, no name twice, none unknown, none that differs from a
//     field's only in case, nothing after the end. TestCheckJSON, FuzzCheckJSON, FuzzBody, TestDecode. So does the rest:
//     no parameter twice, none unknown, no path that two readers could take for two operations. TestRefusals. Any name that
//     PathTakes is one segment of a path, slashes and all: TestNamesInPaths. A number of no fixed meaning comes back as it was
//     sent, or is refused: TestFreeNumbers, TestRefusedBodies.
//     A handler gets what huma would give it, or the same is refused: TestBoundAsHumaBinds, FuzzBound.
//  7. A credential in a path, in the query string of the API, or sent in the clear to a service that is known by https, is
//     refused and its owner can be warned. TestCredentialInPath, TestCredentialInQuery, TestCredentialInQueryElsewhere, TestPlainHTTP,
//     TestPlainHTTPForProbes, TestNoRedirectInDevelopment
//  8. The client's address is believed only as far as a trusted proxy vouches for it. TestClientAddress,
//     FuzzForwarded, TestBehindTrustedProxy
//  9. One Idempotency-Key does one thing once; a repetition gets the first answer. TestIdempotencyKey,
//     TestIdempotencyWhileRunning, TestIdempotencyAfterFailure, TestIdempotencyOutcomeUnknown, TestIdempotencyStoreAway
//  10. Pages of a listing hold everything once; a cursor that was not made here is a 400. TestPages, TestCursorRoundTrip,
//     TestCursorRefuses, FuzzCursor. An update made from an old version, or from one that never was, is a 412. TestCheckMatch
//  11. TLS is 1.2 with forward secrecy and authenticated encryption, or 1.3; HSTS over it. TestTLSByHandshake. Slow
//     clients are cut off, streams are not. TestSlowClients, TestStream. A request framed in two ways is the last of its
//     connection (RFC 9112, section 6.1). TestLengthAndChunksHangsUp
//  12. /openapi.json (3.1) describes every operation; /docs and /problems/{kind} show it to people without a script, an
//     inline style or another host. TestOpenAPI, TestDocsShowEveryOperation, TestProblemPages, TestPagesStandAlone,
//     TestOnlyOurPages
//  13. Metrics are by operation, method and class of status; a caller cannot add a series. TestMetrics, TestMetricsOfTheGone
//
// # Limits
//
// A typed operation that does not heed its context is answered for when its time is over, and runs on by itself; a raw
// one holds its connection until Server's limit for writing. What has a time limit above Server's must raise that too.
// After a fault, a panic or the loss of the database nobody knows what was done: the problem says so, and an
// Idempotency-Key stays claimed for as long as answers are kept, so that nothing is done twice. Whoever wants it done
// looks, and uses a new key.
package web
