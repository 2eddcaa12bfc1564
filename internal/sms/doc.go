// Package sms sends text messages to people: codes. By a provider's HTTP interface of any form, by Twilio, or caught in the
// mail inbox of `avouch dev`.
//
// What it promises:
//
//  1. Nothing travels in the clear: the provider is reached over TLS, unless it is on loopback; its certificate counts, and no
//     redirect is followed, which would take the credentials elsewhere: TestTLSIsRequired, TestCertificatesCount, TestRedirectsAreNotFollowed.
//  2. What is put into a request becomes text in it, and never another field: TestNothingIsInjected, FuzzFill.
//  3. What the provider is told is what its interface wants: TestHTTP, TestTwilio.
//  4. Errors, logs and the rows of jobs hold no number, no text and no credential: TestErrorsHoldNothing, TestJob.
//  5. A provider that does not answer, or answers without end, costs a bounded time and memory: TestSilentProvider, TestEndlessAnswer.
//  6. What cannot succeed is not tried again: TestErrorsHoldNothing, TestJob.
//  7. A telephone number is one of E.164: TestNumber, FuzzNumber.
//
// Settings, for Config:
//
//	AVOUCH_SMS_PROVIDER      http or twilio; no text messages are sent without it
//	AVOUCH_SMS_URL           http: where to; twilio: instead of its own address
//	AVOUCH_SMS_METHOD        http: POST (default), PUT or GET
//	AVOUCH_SMS_HEADERS_FILE  http: a file with a header on each line, such as Authorization: Bearer ...
//	AVOUCH_SMS_BODY          http: a JSON object or a form (a=b&c=d) in which {to} and {text} are filled in; of GET, the query
//	AVOUCH_SMS_STATUSES      http: statuses that mean taken, such as 200,202 (default: 200 to 299)
//	AVOUCH_SMS_ACCOUNT       twilio: the account SID, or that of an API key as SID/KEY
//	AVOUCH_SMS_TOKEN_FILE    twilio: a file with the auth token, or the API key's secret
//	AVOUCH_SMS_FROM          twilio: the number or sender id to send from, or the SID of a messaging service
//	AVOUCH_SMS_CA_FILE       certificates (PEM) to trust beside the system's
package sms
