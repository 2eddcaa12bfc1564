// Package mail sends mail to people: notices from templates, by SMTP, or caught in memory by `avouch dev`.
//
// What it promises:
//
//  1. Nothing travels or authenticates in the clear: TLS is required, unless the server is on loopback: TestTLSIsRequired,
//     TestPlainOnLoopbackOnly.
//  2. What is put into a message becomes text in it, and never a header, a recipient, markup or a command:
//     TestNothingIsInjected, FuzzMessage.
//  3. A message arrives whole, in plain text and HTML, as a real SMTP server receives it: TestSend.
//  4. A server that does not answer costs a bounded time: TestSilentServer.
//  5. A job holds identifiers, and no address or name, also after it failed; the address is asked for when the job runs:
//     TestJob, TestJobErrorsHoldNoAddress.
//  6. What each template says is what somebody read and approved: TestGolden. All templates are listed: TestTemplates.
//  7. An invitation carries no message of whoever made the organisation to people who do not know it: TestInvitationIsNoBillboard.
//     What somebody wrote at length is set apart from what we say: TestReasonIsSetApart.
//  8. A password that others than the file's owner could read is not used: TestAccount.
//  9. The inbox holds a bounded number of messages, and shows them without running anything in them: TestInbox.
//
// Settings, for Config:
//
//	AVOUCH_MAIL_SERVER         host:port of the SMTP server; nothing is sent without it
//	AVOUCH_MAIL_FROM           the sender, such as "Avouch <avouch@example.com>"
//	AVOUCH_MAIL_USER           the account, if the server wants one
//	AVOUCH_MAIL_PASSWORD       its password
//	AVOUCH_MAIL_PASSWORD_FILE  a file with the password, instead, readable by its owner alone
//	AVOUCH_MAIL_TLS            starttls (default), tls (from the first byte), or none (loopback only)
//	AVOUCH_MAIL_CA_FILE        certificates (PEM) to trust beside the system's
package mail
