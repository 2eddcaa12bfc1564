// Package client asks an Avouch server over HTTP: generic JSON, problem documents as errors, server-sent events. It knows
// nothing of the product's objects, so that a server may be newer than its client.
//
// What it promises:
//
//  1. A credential goes to the server that was named, in a header, and nowhere else: redirects are not followed, and a
//     host that is not this machine is spoken to by https only. TestNoRedirect, TestAddresses
//  2. No error holds the credential or an address's query. TestErrorsTellNoSecret
//  3. Every failure is a *Problem (the server's own document, or what stands for one that was not), an *Unreachable or a
//     *Setting, and each says what to do. TestProblems, TestUnreachable
//  4. Waiting ends: an answer has a time limit and a largest size, a stream has a longest silence. TestSlowServer,
//     TestEndlessAnswer, TestSilentStream
//  5. A stream that breaks goes on where it broke; one that is refused ends. TestFollowResumes, TestFollowEnds. Events are
//     read as the HTML standard says, section 9.2.6. TestEvents, FuzzEvents
package client
